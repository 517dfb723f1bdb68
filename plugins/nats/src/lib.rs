//! NATS for TraceMQ: core client, JetStream through async-nats, and a core server.

#[cfg(feature = "serve")]
pub mod serve;
pub mod wire;
