//! DTLS 1.2 (RFC 6347) for coaps:// (RFC 7252 section 9), by OpenSSL: with a pre-shared key or with certificates.
//!
//! Without I/O, like the message layer that lies above it: datagrams go in and come out. [`Client`] is one association,
//! [`Server`] all those of a socket. OpenSSL and not rustls, because rustls has neither DTLS nor the cipher suites that
//! CoAP's devices have; and not one of the DTLS crates, because this is the only candidate that keeps nothing of a client
//! before it has brought its cookie back. Certificates are judged by the code that judges those of TLS elsewhere in the
//! product, so that the same ones pass and errors read the same; OpenSSL's own trust store stays empty.
//!
//! `over_tcp` is TLS with pre-shared keys (coaps+tcp://, RFC 8323), for the same reason, with the same settings.
//!
//! Left out: raw public keys, connection ids and DTLS 1.3, none of which OpenSSL 3.0 has.

mod association;
mod client;
mod failure;
mod ffi;
mod judge;
mod options;
mod over_tcp;
mod server;
mod settings;
#[cfg(test)]
mod tests;

pub use client::{Client, ClientEvent};
pub use options::{PskOptions, ServePskOptions};
pub use over_tcp::{Acceptor, Connector};
pub use server::{Server, ServerEvent};
pub use settings::{ClientSettings, Over, ServerSettings};
