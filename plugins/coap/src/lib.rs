//! CoAP for TraceMQ: client and server for constrained devices (RFC 7252, 7641, 7959, 8323, 8613).
//!
//! From the network up: [`endpoint`] is the message layer of datagrams, without I/O and shared by client and server; over
//! TCP there is none. [`blockwise`] puts bodies together that do not fit into a message. Both work on [`message`].

pub mod blockwise;
mod client;
mod config;
mod connect;
pub mod endpoint;
pub mod links;
mod list;
pub mod message;
mod publish;
mod request;
#[cfg(feature = "serve")]
mod serve;
mod show;
mod subscribe;
mod target;

pub use connect::Coap;
