//! CoAP over TCP and TLS (RFC 8323): messages in a stream, without types and message ids, since nothing is lost or doubled.
//!
//! Without I/O: [`Stream`] takes bytes and gives events, takes messages and gives bytes. It does what both ends do: it frames,
//! tells its limits first and learns the other's, and answers pings.
//!
//! Bodies pass whole where they fit into what the other end takes, else in large messages of many blocks (BERT, section 6)
//! where it knows them, else in ordinary blocks.

mod client;
mod frame;
mod signal;
mod stream;

use tokio::io::{AsyncRead, AsyncWrite};

pub use client::Client;
pub use frame::{Deframer, FrameError, write_frame};
pub use signal::Signal;
pub use stream::{Stream, StreamEvent, TooLarge};

/// A connection, in the clear or by TLS of either kind.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Application protocol of TLS (RFC 8323 section 8.2).
pub const ALPN: &[u8] = b"coap";
