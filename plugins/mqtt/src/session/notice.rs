//! What a session tells its owner.

use std::fmt;

use bytes::Bytes;

use crate::wire::control::Disconnect;
use crate::wire::reason::connect_return_name;
use crate::wire::{Invalid, Reason, Version, WireError};

/// What became of one message given to `publish`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// QoS 0: written to the connection; the protocol confirms nothing.
    Sent,
    /// QoS 1 and 2: confirmed. The reason may say more: 0x10 no matching subscribers.
    Acknowledged(Reason),
    /// Refused by the server, with its own words if it had any (5.0).
    Refused(Reason, Option<String>),
    /// QoS 0: the connection was lost while it was being written; it may or may not have arrived.
    Unconfirmed,
    /// Not sent: the server said at connect that it does not take such a message.
    NotAllowed(Invalid),
    /// Not sent: the message expiry ran out while it waited for a connection.
    Expired,
}

/// Something happened that the owner of the session should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A message given to `publish` is done.
    Published {
        /// As given to `publish`.
        token: u64,
        /// What became of it.
        outcome: Outcome,
    },
    /// A SUBSCRIBE was answered: filter and reason, granted or refused, in the order asked.
    Subscribed {
        /// As given to `subscribe`.
        token: u64,
        /// A result for each filter.
        results: Vec<(String, Reason)>,
        /// The server's own words.
        text: Option<String>,
    },
    /// A request was not sent: the server said at connect that it does not take such a one.
    RequestNotAllowed {
        /// As given to `subscribe` or `unsubscribe`.
        token: u64,
        /// What and why.
        error: Invalid,
    },
    /// After a reconnect, the server no longer grants this filter.
    SubscriptionLost {
        /// As given to `subscribe`.
        token: u64,
        /// The filter.
        filter: String,
        /// Why.
        reason: Reason,
        /// The server's own words.
        text: Option<String>,
    },
    /// An UNSUBSCRIBE was answered; without reasons in 3.x.
    Unsubscribed {
        /// As given to `unsubscribe`.
        token: u64,
        /// A result for each filter.
        results: Vec<(String, Reason)>,
    },
    /// AUTH came: the next step of an exchange, or its end.
    Auth {
        /// Success or continue.
        reason: Reason,
        /// The method's name.
        method: Option<String>,
        /// The method's data.
        data: Bytes,
    },
}

/// Why a connection ends while frames are handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionError {
    /// The server broke the protocol.
    Wire(WireError),
    /// The server said DISCONNECT.
    Disconnected(Disconnect),
}

impl From<WireError> for SessionError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(error) => error.fmt(f),
            Self::Disconnected(Disconnect { reason, text, server_reference }) => {
                write!(f, "the server disconnected us: {reason}")?;
                add(f, text.as_deref(), server_reference.as_deref())
            }
        }
    }
}

impl std::error::Error for SessionError {}

/// The server did not accept CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRefused {
    /// The version we asked for.
    pub version: Version,
    /// 3.x return code or 5.0 reason code.
    pub code: u8,
    /// True when `code` is one of the five of 3.x.
    pub is_3x_code: bool,
    /// The server's own words.
    pub text: Option<String>,
    /// Another server to use.
    pub server_reference: Option<String>,
}

impl ConnectRefused {
    /// User, password or permission were refused.
    pub fn is_credentials(&self) -> bool {
        if self.is_3x_code {
            matches!(self.code, 4 | 5)
        } else {
            matches!(self.code, 0x86 | 0x87 | 0x8A | 0x8C)
        }
    }

    /// The server does not speak the version.
    pub fn is_version(&self) -> bool {
        self.code == if self.is_3x_code { 1 } else { 0x84 }
    }

    /// Another attempt may succeed: unavailable, busy, quota or rate exceeded, use another server.
    pub fn is_temporary(&self) -> bool {
        if self.is_3x_code { self.code == 3 } else { matches!(self.code, 0x88 | 0x89 | 0x97 | 0x9C | 0x9F) }
    }
}

impl fmt::Display for ConnectRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server refused the connection: ")?;
        if self.is_3x_code {
            let name = connect_return_name(self.code).unwrap_or("unknown return code");
            write!(f, "{} {name}", self.code)?;
        } else {
            write!(f, "{}", Reason(self.code))?;
        }
        if self.is_version() {
            write!(f, " (MQTT {})", self.version)?;
        }
        add(f, self.text.as_deref(), self.server_reference.as_deref())
    }
}

impl std::error::Error for ConnectRefused {}

/// The server's own words are another party's text: control characters are escaped.
fn add(f: &mut fmt::Formatter<'_>, text: Option<&str>, server_reference: Option<&str>) -> fmt::Result {
    if let Some(text) = text {
        write!(f, " ({})", text.escape_debug())?;
    }
    match server_reference {
        Some(reference) => write!(f, "; it names another server: {}", reference.escape_debug()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_code_name_and_the_servers_words() {
        let mut refused = ConnectRefused {
            version: Version::V5,
            code: 0x87,
            is_3x_code: false,
            text: Some("go\naway".into()),
            server_reference: None,
        };
        assert_eq!(refused.to_string(), "the server refused the connection: 0x87 not authorized (go\\naway)");
        assert!(refused.is_credentials() && !refused.is_temporary());
        refused =
            ConnectRefused { code: 0x9C, text: None, server_reference: Some("b:1883".into()), ..refused };
        assert!(refused.to_string().ends_with("0x9C use another server; it names another server: b:1883"));
        assert!(refused.is_temporary());
        refused = ConnectRefused { code: 1, is_3x_code: true, server_reference: None, ..refused };
        assert!(refused.to_string().ends_with("1 unacceptable protocol version (MQTT 5.0)"));
    }
}
