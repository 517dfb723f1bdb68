//! OSCORE (RFC 8613): the message protected end to end, whatever carries it.
//!
//! Nothing here knows a socket or a clock. [`Context`] turns a CoAP message into a protected one and back; what ties a
//! response to its request is an [`Exchange`], which the caller keeps for as long as answers may come. [`Sequence`] hands out
//! sender sequence numbers and sees to it that none comes twice, whatever happens to the process; [`Seen`] does the same for
//! those of the other side.
//!
//! Own code on RustCrypto, because the one crate there is limits a payload to 128 bytes. One algorithm, the one that every
//! implementation must have: AES-CCM-16-64-128 with HKDF-SHA-256. Left out: appendix B.2 (a context derived anew after
//! each start), groups, and key agreement (EDHOC).

mod cbor;
mod client;
mod context;
mod echo;
mod error;
mod kept;
mod options;
mod parts;
mod protect;
mod replay;
mod sequence;
mod server;
mod value;

pub use client::{Carrier, Client};
pub use context::{Context, Parameters};
pub use error::{OscoreError, Refusal};
pub use options::OscoreOptions;
pub use protect::{Exchange, Received, refuse};
pub use replay::{Noted, Replay, ReplayWindow, Seen};
pub use sequence::{Counting, Sequence};
pub use server::{Opened, Server};
pub use value::OscoreValue;
