//! CoAP for TraceMQ: client and server for constrained devices (RFC 7252, 7641, 7959, 8323, 8613).
//!
//! From the network up: [`endpoint`] is the message layer of datagrams, without I/O and shared by client and server; over
//! TCP there is none. [`blockwise`] puts bodies together that do not fit into a message. Both work on [`message`].

pub mod blockwise;
mod client;
mod config;
mod connect;
#[cfg(feature = "dtls")]
mod dtls;
pub mod endpoint;
mod interfaces;
pub mod links;
mod list;
pub mod message;
pub mod oscore;
mod publish;
mod request;
#[cfg(feature = "serve")]
mod serve;
mod show;
mod subscribe;
mod target;
pub mod tcp;

pub use connect::Coap;
