//! A local Event Hubs: Microsoft's own SDKs take it for theirs.
//!
//! [`front`] takes in clients (TLS, AMQP or WebSocket on one port), [`handshake`] lets them in, [`connection`] moves the bytes of
//! one, and [`engine`] is what AMQP makes of them, without I/O: `links` attaches, `incoming` keeps events, `outgoing` gives them to
//! readers, `nodes` answers requests. A [`hub`] has [`partition`]s, and each of these a [`log`].

mod access;
mod connection;
mod engine;
mod feed;
mod front;
mod handshake;
pub mod hostile;
mod hub;
mod incoming;
mod key_hash;
mod links;
mod log;
mod mailbox;
mod nodes;
mod options;
mod outgoing;
mod partition;
mod peeked;
mod position;
mod retention;
mod server;
mod service;
mod session;
mod show;
mod websocket;

pub use options::ServeOptions;
pub use server::HubServer;
