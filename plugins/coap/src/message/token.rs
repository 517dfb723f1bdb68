//! Tokens: what ties a response to its request (RFC 7252 section 5.3.1).

use std::fmt;

use super::Packet;

/// Up to eight bytes, kept in place.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Token {
    length: u8,
    bytes: [u8; 8],
}

impl Token {
    /// `None` when there are more than eight bytes.
    pub fn new(bytes: &[u8]) -> Option<Token> {
        let mut token = Token { length: u8::try_from(bytes.len()).ok()?, bytes: [0; 8] };
        token.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(token)
    }

    /// The longest token, of these bits.
    pub fn from_bits(bits: u64) -> Token {
        Token { length: 8, bytes: bits.to_be_bytes() }
    }

    /// A packet's token: [`decode`](super::decode) lets no longer ones through.
    pub fn of(packet: &Packet) -> Token {
        Token::new(packet.get_token()).unwrap_or_default()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}
