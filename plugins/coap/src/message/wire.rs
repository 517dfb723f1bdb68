//! Bytes to packets and back.

use std::fmt;

use coap_lite::{MessageClass, MessageType, Packet};

/// What stands between options and payload.
pub const PAYLOAD_MARKER: u8 = 0xff;
/// More options than this no message has any use for; each costs an allocation.
pub const MAX_OPTIONS: usize = 512;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MalformedKind {
    /// Fewer than four bytes, or the end within the token.
    Truncated,
    /// Another version than 1: to be ignored without an answer.
    Version(u8),
    /// Token lengths 9 to 15 are reserved.
    TokenLength(u8),
    /// An empty message with a token, options or payload.
    EmptyWithContent,
    /// Codes of the classes 1, 6 and 7, which no message over UDP has.
    ReservedClass(u8),
    /// An option header with a nibble of 15, or one that ends early.
    OptionHeader,
    /// The option numbers add up to more than 65535.
    OptionNumber,
    /// A value reaches beyond the end.
    OptionLength,
    /// More than [`MAX_OPTIONS`].
    TooManyOptions,
    /// A payload marker with nothing behind it.
    EmptyPayload,
}

impl fmt::Display for MalformedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MalformedKind::Truncated => f.write_str("it is cut off"),
            MalformedKind::Version(version) => write!(f, "it has version {version}, not 1"),
            MalformedKind::TokenLength(length) => write!(f, "its token length of {length} is reserved"),
            MalformedKind::EmptyWithContent => f.write_str("it is an empty message with content"),
            MalformedKind::ReservedClass(code) => {
                write!(f, "its code {}.{:02} is of a reserved class", code >> 5, code & 0x1f)
            }
            MalformedKind::OptionHeader => f.write_str("an option has a reserved or broken header"),
            MalformedKind::OptionNumber => f.write_str("an option's number is beyond 65535"),
            MalformedKind::OptionLength => f.write_str("an option's value is cut off"),
            MalformedKind::TooManyOptions => write!(f, "it has more than {MAX_OPTIONS} options"),
            MalformedKind::EmptyPayload => f.write_str("it has a payload marker without a payload"),
        }
    }
}

/// Bytes that are no message, and as much of their header as could be read: a confirmable one is to be rejected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Malformed {
    pub kind: MalformedKind,
    /// Type and message id, if there were four bytes of version 1.
    pub head: Option<(MessageType, u16)>,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl std::error::Error for Malformed {}

/// Reads a datagram (RFC 7252 section 3).
///
/// # Errors
/// Everything that section 3 calls a message format error, reserved classes of codes (section 3, "Code"), and another
/// version than 1.
pub fn decode(bytes: &[u8]) -> Result<Packet, Malformed> {
    let &[first, code, high, low, ..] = bytes else {
        return Err(Malformed { kind: MalformedKind::Truncated, head: None });
    };
    let version = first >> 6;
    if version != 1 {
        return Err(Malformed { kind: MalformedKind::Version(version), head: None });
    }
    let message_type = match first >> 4 & 3 {
        0 => MessageType::Confirmable,
        1 => MessageType::NonConfirmable,
        2 => MessageType::Acknowledgement,
        _ => MessageType::Reset,
    };
    let head = Some((message_type, u16::from_be_bytes([high, low])));
    let bad = |kind| Malformed { kind, head };
    let length = usize::from(first & 0x0f);
    if length > 8 {
        return Err(bad(MalformedKind::TokenLength(length as u8)));
    }
    if code == 0 && (bytes.len() > 4 || length > 0) {
        return Err(bad(MalformedKind::EmptyWithContent));
    }
    if matches!(code >> 5, 1 | 6 | 7) {
        return Err(bad(MalformedKind::ReservedClass(code)));
    }
    let rest = bytes.get(4 + length..).ok_or_else(|| bad(MalformedKind::Truncated))?;
    check_options(rest).map_err(bad)?;
    // What is left to go wrong has been looked at above.
    Packet::from_bytes(bytes).map_err(|_| bad(MalformedKind::OptionHeader))
}

/// Looks at options and payload, as they follow the token: the same over every transport.
///
/// # Errors
/// What section 3.1 of RFC 7252 does not allow.
pub fn check_options(mut rest: &[u8]) -> Result<(), MalformedKind> {
    let mut number: usize = 0;
    let mut count = 0;
    while let Some((&first, after)) = rest.split_first() {
        if first == PAYLOAD_MARKER {
            return if after.is_empty() { Err(MalformedKind::EmptyPayload) } else { Ok(()) };
        }
        count += 1;
        if count > MAX_OPTIONS {
            return Err(MalformedKind::TooManyOptions);
        }
        rest = after;
        number += extended(first >> 4, &mut rest)?;
        if number > usize::from(u16::MAX) {
            return Err(MalformedKind::OptionNumber);
        }
        let length = extended(first & 0x0f, &mut rest)?;
        // coap-lite counts lengths in 16 bits.
        if length > usize::from(u16::MAX) {
            return Err(MalformedKind::OptionLength);
        }
        rest = rest.get(length..).ok_or(MalformedKind::OptionLength)?;
    }
    Ok(())
}

/// A nibble of an option's header with its extension.
fn extended(nibble: u8, rest: &mut &[u8]) -> Result<usize, MalformedKind> {
    match nibble {
        13 => {
            let (&byte, after) = rest.split_first().ok_or(MalformedKind::OptionHeader)?;
            *rest = after;
            Ok(usize::from(byte) + 13)
        }
        14 => {
            let (bytes, after) = rest.split_first_chunk::<2>().ok_or(MalformedKind::OptionHeader)?;
            *rest = after;
            Ok(usize::from(u16::from_be_bytes(*bytes)) + 269)
        }
        15 => Err(MalformedKind::OptionHeader),
        small => Ok(usize::from(small)),
    }
}

/// Appends a datagram: header, token, options, payload.
pub fn encode(packet: &Packet, out: &mut Vec<u8>) {
    let token = packet.get_token();
    let message_type = match packet.header.get_type() {
        MessageType::Confirmable => 0,
        MessageType::NonConfirmable => 1,
        MessageType::Acknowledgement => 2,
        MessageType::Reset => 3,
    };
    out.reserve(16 + token.len() + packet.payload.len());
    out.push(1 << 6 | message_type << 4 | token.len() as u8 & 0x0f);
    out.push(code_byte(packet.header.code));
    out.extend_from_slice(&packet.header.message_id.to_be_bytes());
    out.extend_from_slice(token);
    encode_options(packet, out);
}

/// Appends options and payload, as they follow the token: the same over every transport.
pub fn encode_options(packet: &Packet, out: &mut Vec<u8>) {
    let mut before = 0;
    for (&number, values) in packet.options() {
        for value in values {
            let (delta, delta_bytes) = nibble(usize::from(number - before));
            let (length, length_bytes) = nibble(value.len());
            out.push(delta << 4 | length);
            out.extend_from_slice(delta_bytes.as_slice());
            out.extend_from_slice(length_bytes.as_slice());
            out.extend_from_slice(value);
            before = number;
        }
    }
    if !packet.payload.is_empty() {
        out.push(PAYLOAD_MARKER);
        out.extend_from_slice(&packet.payload);
    }
}

/// The extension of a nibble.
struct Extension {
    bytes: [u8; 2],
    length: usize,
}

impl Extension {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[2 - self.length..]
    }
}

/// Values of options are at most 65535 bytes long: those of users are checked, those from the network were shorter.
fn nibble(value: usize) -> (u8, Extension) {
    match value {
        0..13 => (value as u8, Extension { bytes: [0; 2], length: 0 }),
        13..269 => (13, Extension { bytes: [0, (value - 13) as u8], length: 1 }),
        _ => (14, Extension { bytes: ((value - 269) as u16).to_be_bytes(), length: 2 }),
    }
}

fn code_byte(code: MessageClass) -> u8 {
    code.into()
}
