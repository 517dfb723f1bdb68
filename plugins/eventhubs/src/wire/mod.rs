//! The bytes of AMQP 1.0 as the server reads and writes them, and as the client reads messages.
//!
//! For the server not fe2o3-amqp's acceptor, on which the client's library would have us serve: its session keeps without bound what a peer
//! with credit, but without a window, does not take; a disposition over all delivery numbers occupies it for minutes; and it
//! can neither take nor send a message as the bytes that it is, so that each event would be decoded and encoded again for each
//! reader. What a server needs of AMQP is small: values are read where they stand, without a copy or an allocation, and
//! performatives are written with all of their fields, because Microsoft's Python library looks for them by number and knows
//! no defaults.

mod encode;
mod frame;
mod message;
mod performative;
mod value;

pub use encode::{Body, Outbox, Writer};
pub use frame::{Frame, Header, MIN_FRAME};
pub use message::{BATCH_FORMAT, Kind, Message, Properties, batch};
pub use performative::{Attach, Begin, Detach, Disposition, Flow, Open, Performative, Transfer, code};
pub use value::{Elements, Items, Malformed, Reader, Value};
