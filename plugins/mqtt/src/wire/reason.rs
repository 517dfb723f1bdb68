//! Reason codes (5.0, section 2.4) and CONNACK return codes (3.1.1, section 3.2.2.3) by name.
//!
//! A code stays a byte: one that is not in the table is shown as a number.

use std::fmt;

/// A 5.0 reason code. SUBACK codes of 3.x fit in as well: 0, 1, 2 and 0x80.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Reason(pub u8);

impl Reason {
    /// 0x00, also "normal disconnection" and "granted QoS 0".
    pub const SUCCESS: Self = Self(0x00);
    /// AUTH: the exchange goes on.
    pub const CONTINUE_AUTHENTICATION: Self = Self(0x18);
    /// AUTH: the client starts it anew.
    pub const REAUTHENTICATE: Self = Self(0x19);
    /// The received packet could not be read.
    pub const MALFORMED_PACKET: Self = Self(0x81);
    /// A packet that is not allowed in this place.
    pub const PROTOCOL_ERROR: Self = Self(0x82);
    /// The packet identifier is in use already.
    pub const PACKET_ID_IN_USE: Self = Self(0x91);
    /// The packet identifier is not known.
    pub const PACKET_ID_NOT_FOUND: Self = Self(0x92);
    /// A topic alias of 0, above our maximum, or never defined.
    pub const TOPIC_ALIAS_INVALID: Self = Self(0x94);
    /// A packet above our maximum packet size.
    pub const PACKET_TOO_LARGE: Self = Self(0x95);

    /// 0x80 and above mean failure.
    pub fn is_failure(self) -> bool {
        self.0 >= 0x80
    }

    /// The specification's name, in lower case; nothing for an unknown code.
    pub fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0x00 => "success",
            0x01 => "granted QoS 1",
            0x02 => "granted QoS 2",
            0x04 => "disconnect with will message",
            0x10 => "no matching subscribers",
            0x11 => "no subscription existed",
            0x18 => "continue authentication",
            0x19 => "re-authenticate",
            0x80 => "unspecified error",
            0x81 => "malformed packet",
            0x82 => "protocol error",
            0x83 => "implementation specific error",
            0x84 => "unsupported protocol version",
            0x85 => "client identifier not valid",
            0x86 => "bad user name or password",
            0x87 => "not authorized",
            0x88 => "server unavailable",
            0x89 => "server busy",
            0x8A => "banned",
            0x8B => "server shutting down",
            0x8C => "bad authentication method",
            0x8D => "keep alive timeout",
            0x8E => "session taken over",
            0x8F => "topic filter invalid",
            0x90 => "topic name invalid",
            0x91 => "packet identifier in use",
            0x92 => "packet identifier not found",
            0x93 => "receive maximum exceeded",
            0x94 => "topic alias invalid",
            0x95 => "packet too large",
            0x96 => "message rate too high",
            0x97 => "quota exceeded",
            0x98 => "administrative action",
            0x99 => "payload format invalid",
            0x9A => "retain not supported",
            0x9B => "QoS not supported",
            0x9C => "use another server",
            0x9D => "server moved",
            0x9E => "shared subscriptions not supported",
            0x9F => "connection rate exceeded",
            0xA0 => "maximum connect time",
            0xA1 => "subscription identifiers not supported",
            0xA2 => "wildcard subscriptions not supported",
            _ => return None,
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "0x{:02X} {name}", self.0),
            None => write!(f, "0x{:02X} unknown reason", self.0),
        }
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of a 3.x CONNACK return code; nothing for an unknown one.
pub fn connect_return_name(code: u8) -> Option<&'static str> {
    Some(match code {
        0 => "accepted",
        1 => "unacceptable protocol version",
        2 => "identifier rejected",
        3 => "server unavailable",
        4 => "bad user name or password",
        5 => "not authorized",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_shown_with_number_and_name() {
        assert_eq!(Reason(0x87).to_string(), "0x87 not authorized");
        assert_eq!(Reason(0xEE).to_string(), "0xEE unknown reason");
        assert_eq!(connect_return_name(5), Some("not authorized"));
        assert_eq!(connect_return_name(6), None);
    }

    #[test]
    fn failures_start_at_0x80() {
        assert!(!Reason(0x7F).is_failure());
        assert!(Reason(0x80).is_failure());
    }
}
