//! permessage-deflate by its public functions: what is agreed on, and that what is sent arrives, however it is cut up.

mod frames;
mod handshake;
mod hostile;
mod negotiation;
mod round_trip;
