//! The server: it shows what clients send, and echoes, passes on or answers it.
//!
//! `server` is what the host sees and takes clients in, `handshake` decides who may come, `session` is the life of one
//! client, `clients` knows who is there and keeps what waits for each of them bounded, `shown` gathers what the
//! host is to see, `reply` makes answers.

mod clients;
mod config;
mod handshake;
mod reply;
mod server;
mod session;
mod shown;

pub use config::ServeOptions;
pub use server::SocketServer;
