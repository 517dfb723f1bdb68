//! Bodies in blocks, both ways and on both sides (RFC 7959), above whatever carries messages.
//!
//! A client's [`Transfer`] is one request and its response, however many messages they take; a server's [`Bodies`] puts
//! requests together and [`slice()`] takes responses apart. Both are bounded. Over a stream, where a message may be of any size,
//! a [`Room`] lets bodies pass whole, or in BERT's large messages of many blocks.

mod bodies;
mod room;
mod transfer;

pub use bodies::{Assembled, Bodies, BodyLimits, slice};
pub use room::Room;
pub use transfer::{Answer, Preferences, Problem, Step, Transfer};
