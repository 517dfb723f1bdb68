//! WebSocket and raw sockets for TraceMQ: client and server.
//!
//! tungstenite reads and writes the frames; compression lies beneath it ([`deflate`]); raw sockets are cut into messages by
//! [`framing`]. Both kinds of connection are a `link`, which client and server share.

mod client;
mod config;
mod connect;
pub mod deflate;
mod endpoint;
pub mod framing;
mod link;
mod publish;
mod serve;
mod subscribe;

pub use connect::WebSocket;
