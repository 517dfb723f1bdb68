//! Azure Event Hubs over AMQP 1.0 for TraceMQ: client and local server.

pub mod address;
mod client;
mod config;
mod connect;
pub mod connection_string;
mod endpoint;
mod error;
mod message;
mod nesting;
mod position;
mod publish;
pub mod sas;
#[cfg(feature = "serve")]
mod serve;
mod subscribe;
mod value;
pub mod wire;

pub use connect::EventHubs;

/// Peers that send anything, for what is fuzzed.
#[doc(hidden)]
pub mod hostile {
    pub use crate::client::hostile as server;
    #[cfg(feature = "serve")]
    pub use crate::serve::hostile as client;
}
