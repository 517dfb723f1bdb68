//! The message layer, with a simulated clock and network.

mod client;
mod hostile;
mod network;
mod server;
mod simulation;
