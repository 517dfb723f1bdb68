//! The client protocol of NATS: text lines and counted payloads, no I/O.
//!
//! What the peer sends is read in place: an operation is a list of positions in the buffer it was found in. Everything here
//! is hostile input for somebody, and is fuzzed.

mod client;
mod headers;
mod info;
mod server;
pub mod subject;

pub use client::{Connect, Encoder};
pub use headers::{
    Block, HeaderError, Line, check_name, check_value, encode as encode_headers, size as size_of_headers,
};
pub use info::ServerInfo;
pub use server::{Limits, MessageAt, Op, Scan, scan};

use std::fmt;

/// What the protocol has no place for. Its text holds nothing that came from the peer unescaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError(String);

impl WireError {
    pub fn new(text: impl Into<String>) -> WireError {
        WireError(text.into())
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WireError {}

/// Text of the peer's, made fit to stand in an error: one line, escaped, and short.
pub fn quote(bytes: &[u8]) -> String {
    const LONGEST: usize = 120;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]);
    let dots = if bytes.len() > LONGEST { "…" } else { "" };
    format!("\"{}{dots}\"", text.escape_debug())
}
