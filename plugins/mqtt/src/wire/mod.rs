//! MQTT 3.1, 3.1.1 and 5.0 packets, without I/O.
//!
//! Framing, PUBLISH, the four acks and everything else on the hot path are read and written here by hand, so
//! that topic and payload stay slices of the read buffer. The property lists of the control packets and the
//! SUBSCRIBE, UNSUBSCRIBE and DISCONNECT encoders come from rumqttc's codecs. Reason codes are plain bytes: one
//! that a future server invents is shown, not refused. What rumqttc's codecs cannot read (AUTH, a DISCONNECT
//! without a body, MQTT 3.1) is done here too.

pub mod connect;
pub mod control;
pub mod frame;
pub mod property;
pub mod publish;
pub mod reason;
pub mod request;
pub mod topic;

use std::borrow::Cow;
use std::fmt;

pub use connect::{Connect, Will};
pub use frame::{Frame, Frames};
pub use property::{Properties, Property};
pub use publish::{Publish, PublishView};
pub use reason::Reason;

/// The largest remaining length that four bytes can hold (5.0, section 1.5.5).
pub const MAX_REMAINING: usize = 268_435_455;

/// The protocol version of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// MQTT 3.1, "MQIsdp" level 3.
    V31,
    /// MQTT 3.1.1, level 4.
    V311,
    /// MQTT 5.0, level 5.
    V5,
}

impl Version {
    /// True for 5.0, which alone has properties and reason codes.
    pub fn is_v5(self) -> bool {
        self == Self::V5
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V31 => "3.1",
            Self::V311 => "3.1.1",
            Self::V5 => "5.0",
        })
    }
}

/// Quality of service (5.0, section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum QoS {
    /// Sent once, never acknowledged.
    #[default]
    AtMostOnce = 0,
    /// Repeated until acknowledged.
    AtLeastOnce = 1,
    /// Delivered once, by a four-part exchange.
    ExactlyOnce = 2,
}

impl QoS {
    /// The level for 0, 1 or 2; nothing for any other number.
    pub fn from_level(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// The level as the number 0, 1 or 2.
    pub fn level(self) -> u8 {
        self as u8
    }
}

/// What the peer sent breaks the protocol. The connection has to end; a 5.0 client says `reason` in DISCONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireError {
    /// The reason code for our DISCONNECT (5.0 only).
    pub reason: Reason,
    what: Cow<'static, str>,
}

impl WireError {
    /// Bytes that cannot be read as a packet (reason 0x81).
    pub fn malformed(what: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: Reason::MALFORMED_PACKET, what: what.into() }
    }

    /// A well-formed packet that is not allowed here (reason 0x82).
    pub fn protocol(what: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: Reason::PROTOCOL_ERROR, what: what.into() }
    }

    /// Any other reason.
    pub fn with(reason: Reason, what: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, what: what.into() }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server sent something that is not MQTT: {} ({})", self.what, self.reason)
    }
}

impl std::error::Error for WireError {}

/// What the user asked for cannot be sent: the text names the value and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(String);

impl Invalid {
    /// `text` is one line for the user.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}
