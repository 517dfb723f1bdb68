//! MQTT 3.1, 3.1.1 and 5.0 for TraceMQ: client and embedded broker.
//!
//! rumqttc's codecs, with a session and an event loop of our own: what is in flight outlives connections and, for
//! persistent sessions, the process; messages reach the host as slices of the read buffer; acknowledgements go out when the
//! host has dealt with the messages. The broker is rmqtt, behind the feature `serve`.

mod auth;
mod client;
mod config;
mod connect;
mod endpoint;
mod error;
#[cfg(feature = "import")]
mod import;
mod message;
mod publish;
mod request;
#[cfg(feature = "serve")]
pub mod serve;
pub mod session;
mod subscribe;
pub mod wire;

pub use connect::Mqtt;
