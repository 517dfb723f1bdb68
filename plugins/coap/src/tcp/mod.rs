//! CoAP over TCP and TLS (RFC 8323): messages in a stream, without types and message ids, since nothing is lost or doubled.
//!
//! Without I/O: [`Stream`] takes bytes and gives events, takes messages and gives bytes. It does what both ends do: it frames,
//! tells its limits first and learns the other's, and answers pings.
//!
//! Blocks of any size (BERT, section 6) are not offered: the limit that is told lets whole bodies pass in one message, which
//! is what BERT is for. That is why the Block-Wise-Transfer option is not told, though ordinary blocks are understood.

mod client;
mod frame;
mod signal;
mod stream;

pub use client::Client;
pub use frame::{Deframer, FrameError, write_frame};
pub use signal::Signal;
pub use stream::{Stream, StreamEvent, TooLarge};

/// Application protocol of TLS (RFC 8323 section 8.2).
pub const ALPN: &[u8] = b"coap";
