//! The message layer, with a simulated clock and network.

mod client;
mod network;
mod server;
mod simulation;
