//! NATS for TraceMQ: core client, JetStream through async-nats, and a core server.

pub mod wire;
