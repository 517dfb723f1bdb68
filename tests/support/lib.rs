//! What every test needs: the installation, peers on free ports, processes with time-outs.
