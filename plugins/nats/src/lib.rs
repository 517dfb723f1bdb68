//! NATS for TraceMQ: core client, JetStream through async-nats, and a core server.

mod auth;
mod client;
mod config;
mod connect;
mod endpoint;
#[cfg(feature = "import")]
mod import;
mod jetstream;
mod message;
mod publish;
mod request;
#[cfg(feature = "serve")]
pub mod serve;
pub mod session;
mod subscribe;
pub mod wire;

pub use connect::Nats;
