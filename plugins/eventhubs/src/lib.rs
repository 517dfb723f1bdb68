//! Azure Event Hubs over AMQP 1.0 for TraceMQ: client and local server.

mod connect;

pub use connect::EventHubs;
