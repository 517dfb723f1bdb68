//! What the two ends agree on: RFC 7692 sections 5 and 7.1.

use std::fmt::{self, Write as _};
use std::ops::RangeInclusive;

use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::Role;

use super::header::{self, Extension};

const NAME: &str = "permessage-deflate";
/// The window sizes of the RFC, as base-2 logarithms of bytes.
const WINDOW_BITS: RangeInclusive<u8> = 8..=15;

/// What this end wants of the extension; the default asks for nothing and allows all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The client starts each message with an empty window: less memory, larger messages.
    pub client_no_context_takeover: bool,
    /// The server does.
    pub server_no_context_takeover: bool,
    /// The largest window that the client may compress with, 9 to 15; `None` leaves it to the peer.
    pub client_max_window_bits: Option<u8>,
    /// The largest window that the server may compress with, 9 to 15; `None` leaves it to the peer.
    pub server_max_window_bits: Option<u8>,
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// The client starts each message with an empty window.
    pub client_no_context_takeover: bool,
    /// The server does.
    pub server_no_context_takeover: bool,
    /// The client's window, 8 to 15.
    pub client_max_window_bits: u8,
    /// The server's window, 8 to 15.
    pub server_max_window_bits: u8,
}

/// The server's answer doesn't fit what was offered; the text names the part that doesn't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NegotiationError(String);

impl fmt::Display for NegotiationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the server's Sec-WebSocket-Extensions: {}", self.0)
    }
}

impl std::error::Error for NegotiationError {}

impl Options {
    /// The `Sec-WebSocket-Extensions` of a client's request.
    pub fn offer(&self) -> String {
        let mut text = self.flags(NAME);
        // Always there, so that the server may choose a window for us (section 7.1.2.2).
        text.push_str("; client_max_window_bits");
        if let Some(bits) = self.client_max_window_bits {
            let _ = write!(text, "={bits}");
        }
        if let Some(bits) = self.server_max_window_bits {
            let _ = write!(text, "; server_max_window_bits={bits}");
        }
        text
    }

    fn flags(&self, name: &str) -> String {
        let mut text = name.to_owned();
        if self.client_no_context_takeover {
            text.push_str("; client_no_context_takeover");
        }
        if self.server_no_context_takeover {
            text.push_str("; server_no_context_takeover");
        }
        text
    }

    /// Client: what the server's `Sec-WebSocket-Extensions` means after [`Options::offer`]; `None` when it does without
    /// compression.
    ///
    /// # Errors
    ///
    /// When the answer can't be read, names another extension, or does not fit the offer: the connection is then failed.
    pub fn check(&self, answer: Option<&str>) -> Result<Option<Params>, NegotiationError> {
        let refuse = |what: String| Err(NegotiationError(what));
        let answer = match header::read(answer) {
            Ok(answer) => answer,
            Err(text) => return refuse(format!("can't read {text:?}")),
        };
        let extension = match answer.as_slice() {
            [] => return Ok(None),
            [one] if one.name.eq_ignore_ascii_case(NAME) => one,
            [one] => return refuse(format!("{} was not offered", one.name)),
            more => return refuse(format!("{} extensions, one was offered", more.len())),
        };
        let read = match Read::of(extension, false) {
            Ok(read) => read,
            Err(what) => return refuse(what),
        };
        if self.server_no_context_takeover && !read.server_no_context_takeover {
            return refuse("server_no_context_takeover was asked for and is missing".to_owned());
        }
        if let Some(asked) = self.server_max_window_bits
            && read.server_bits.is_none_or(|bits| bits > asked)
        {
            return refuse(format!("server_max_window_bits={asked} was asked for and is missing or larger"));
        }
        let ours = self.client_max_window_bits.unwrap_or(15);
        Ok(Some(Params {
            client_no_context_takeover: self.client_no_context_takeover || read.client_no_context_takeover,
            server_no_context_takeover: read.server_no_context_takeover,
            // A larger window than the offer's is no promise we have to use up.
            client_max_window_bits: read.client_bits.map_or(ours, |bits| bits.min(ours)),
            server_max_window_bits: read.server_bits.unwrap_or(15),
        }))
    }

    /// Server: takes the first offer in the request's headers that can be met, and gives the value of the answer. An offer that
    /// can't be read or met is passed over (section 5.1); `None` when none is left.
    pub fn accept(&self, headers: &HeaderMap) -> Option<(Params, HeaderValue)> {
        let values = headers.get_all(header::EXTENSIONS).iter();
        let offers =
            header::read(values.map(|value| value.to_str()).collect::<Result<Vec<_>, _>>().ok()?).ok()?;
        let offer = offers
            .iter()
            .filter(|offer| offer.name.eq_ignore_ascii_case(NAME))
            .find_map(|offer| Read::of(offer, true).ok())?;
        let params = Params {
            client_no_context_takeover: self.client_no_context_takeover || offer.client_no_context_takeover,
            server_no_context_takeover: self.server_no_context_takeover || offer.server_no_context_takeover,
            // A client that doesn't name the parameter can't be told a window.
            client_max_window_bits: match (offer.client_named, self.client_max_window_bits) {
                (true, ours) => offer.client_bits.unwrap_or(15).min(ours.unwrap_or(15)),
                (false, _) => 15,
            },
            server_max_window_bits: offer
                .server_bits
                .unwrap_or(15)
                .min(self.server_max_window_bits.unwrap_or(15)),
        };
        let answer = Options {
            client_no_context_takeover: params.client_no_context_takeover,
            server_no_context_takeover: params.server_no_context_takeover,
            ..Options::default()
        };
        let mut text = answer.flags(NAME);
        if params.client_max_window_bits < 15 {
            let _ = write!(text, "; client_max_window_bits={}", params.client_max_window_bits);
        }
        if offer.server_bits.is_some() || params.server_max_window_bits < 15 {
            let _ = write!(text, "; server_max_window_bits={}", params.server_max_window_bits);
        }
        Some((params, HeaderValue::try_from(text).ok()?))
    }
}

impl Params {
    /// The window and context takeover of what `role` sends.
    pub(super) fn sent_by(&self, role: Role) -> (u8, bool) {
        match role {
            Role::Client => (self.client_max_window_bits, !self.client_no_context_takeover),
            Role::Server => (self.server_max_window_bits, !self.server_no_context_takeover),
        }
    }
}

/// The parameters as they stand in the header.
#[derive(Default)]
struct Read {
    client_no_context_takeover: bool,
    server_no_context_takeover: bool,
    client_named: bool,
    client_bits: Option<u8>,
    server_bits: Option<u8>,
}

impl Read {
    /// Each parameter at most once, no other, values where the RFC wants them. In an offer `client_max_window_bits` may
    /// stand alone.
    fn of(extension: &Extension, offer: bool) -> Result<Self, String> {
        let mut read = Self::default();
        for (name, value) in &extension.parameters {
            let twice = match (name.as_str(), value) {
                ("client_no_context_takeover", None) => {
                    std::mem::replace(&mut read.client_no_context_takeover, true)
                }
                ("server_no_context_takeover", None) => {
                    std::mem::replace(&mut read.server_no_context_takeover, true)
                }
                ("client_max_window_bits", None) if offer => std::mem::replace(&mut read.client_named, true),
                ("client_max_window_bits", Some(value)) => {
                    read.client_bits = Some(bits(name, value)?);
                    std::mem::replace(&mut read.client_named, true)
                }
                ("server_max_window_bits", Some(value)) => {
                    read.server_bits.replace(bits(name, value)?).is_some()
                }
                (name, Some(value)) => return Err(format!("{name}={value} is no parameter of {NAME}")),
                (name, None) => return Err(format!("{name} without a value is no parameter of {NAME}")),
            };
            if twice {
                return Err(format!("{name} stands there twice"));
            }
        }
        Ok(read)
    }
}

/// Decimal without leading zeroes (section 7.1.2).
fn bits(name: &str, value: &str) -> Result<u8, String> {
    value
        .parse()
        .ok()
        .filter(|bits: &u8| WINDOW_BITS.contains(bits) && bits.to_string() == value)
        .ok_or_else(|| format!("{name}={value} is not between 8 and 15"))
}
