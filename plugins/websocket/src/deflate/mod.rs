//! permessage-deflate (RFC 7692), client and server, beneath tungstenite, which knows no extensions.
//!
//! The decision was to leave tungstenite's protocol machine as it is: a stream adapter between it and the socket turns the
//! peer's compressed messages into plain frames and tungstenite's frames into compressed ones. What the peer does wrong in
//! its framing is handed on as it came, so that tungstenite finds it and says so in the same words as without compression;
//! only wrong deflate data is an error of this module's own ([`DeflateError`]).
//!
//! A connection goes through three steps: the handshake's header ([`Options`]), what was agreed on ([`Params`]), and the
//! stream for what follows ([`open`]). Without an agreement the stream is the socket itself.

mod codec;
mod header;
mod incoming;
mod negotiate;
mod outgoing;
mod sizes;
mod stream;
mod transport;

pub use self::codec::DeflateError;
pub use self::header::EXTENSIONS;
pub use self::incoming::Incoming;
pub use self::negotiate::{NegotiationError, Options, Params};
pub use self::outgoing::Outgoing;
pub use self::sizes::{MessageSize, Sizes};
pub use self::stream::Stream;
pub use self::transport::{Transport, open};
