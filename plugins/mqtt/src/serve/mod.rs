//! The embedded MQTT broker: `rmqtt` as a library, on a runtime of its own.
//!
//! A broker is started and stopped as often as one likes, several side by side, and leaves nothing behind:
//! it lives on its own threads, and stopping it means ending them. The library's own start function is not
//! used, since it ends the whole process on a failure, nor is a shared runtime, on which its connections
//! would live on.
//!
//! `server` is what the host sees. `front` takes in clients (TLS, WebSocket, limits), `links` says who is who, `hooks` decides and reports,
//! `stores` keeps what is retained, the sdk's `Feed` and `budget` keep all of it bounded.

mod broker;
mod budget;
mod config;
mod connect;
mod error;
mod event;
mod filter;
mod front;
mod hooks;
mod links;
mod options;
mod reasons;
mod server;
mod stores;
mod websocket;
mod wills;

pub use broker::Broker;
pub use config::ServeOptions;
pub use error::BrokerError;
pub use event::{BrokerEvent, BrokerMessage, OutgoingMessage, Properties, Text};
pub use links::Transport;
pub use options::{BrokerOptions, DenyRule, Limits};
pub use server::MqttServer;
pub use tracemq_plugin_api::sdk::Feed;
