//! CoAP for TraceMQ: client and server for constrained devices (RFC 7252, 7641, 7959, 8323, 8613).

mod connect;

pub use connect::Coap;
