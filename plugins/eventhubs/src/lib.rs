//! Azure Event Hubs over AMQP 1.0 for TraceMQ: client and local server.

pub mod address;
mod connect;
pub mod connection_string;
pub mod sas;

pub use connect::EventHubs;
