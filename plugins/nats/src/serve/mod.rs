//! The embedded server: core NATS, without a library, since none for Rust is kept.
//!
//! `server` is what the host sees. Of our own server, `core` starts and stops it, `connection` reads and writes, `parse` reads
//! operations in place, `session` does what they ask for, `routes` knows who gets what, `router` hands it over, and `outbox`
//! keeps what waits for a client bounded. `feed` shows the messages to the host. `jetstream` is the other server: a
//! nats-server from PATH.

mod client;
mod connection;
mod core;
mod feed;
mod jetstream;
mod options;
mod outbox;
pub mod parse;
mod router;
mod routes;
mod server;
mod session;
mod shared;

pub use options::ServeOptions;
pub use server::{NatsServer, OutgoingOptions};
