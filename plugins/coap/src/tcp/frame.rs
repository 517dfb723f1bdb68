//! Where one message ends and the next begins (RFC 8323 section 3.2): a length of four bits, or what these four bits stand for.

use std::fmt;

use bytes::{Buf, BytesMut};

use crate::message::{self, MalformedKind, MessageClass, Packet};

/// Lengths that need one, two or four more bytes begin here.
const EXTENDED: [(u8, usize, usize); 3] = [(13, 1, 13), (14, 2, 269), (15, 4, 65_805)];
/// The longest token. What RFC 8974 allows beyond is not understood.
const LONGEST_TOKEN: usize = 8;

/// Why a stream can't be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The message is longer than was told to be the longest: its length, and the limit.
    TooLong(u64, usize),
    /// Token, options or payload are malformed.
    Malformed(MalformedKind),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong(length, limit) => {
                write!(f, "a message of {length} bytes is longer than the {limit} that are accepted")
            }
            FrameError::Malformed(kind) => write!(f, "a message is malformed: {kind}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Cuts a stream into messages.
#[derive(Debug)]
pub struct Deframer {
    buffer: BytesMut,
    /// The longest message, header and all.
    limit: usize,
}

impl Deframer {
    pub fn new(limit: usize) -> Deframer {
        Deframer { buffer: BytesMut::new(), limit }
    }

    /// What came next. It is the caller's to read the messages out before it adds more, so that little more than one is
    /// held.
    pub fn add(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, if it is whole. Its type and message id mean nothing.
    ///
    /// # Errors
    /// [`FrameError`]: the stream is of no use any more.
    pub fn next_message(&mut self) -> Result<Option<Packet>, FrameError> {
        let Some(head) = Head::read(&self.buffer)? else { return Ok(None) };
        let whole = head.start as u64 + head.token as u64 + head.length;
        let Some(end) = usize::try_from(whole).ok().filter(|whole| *whole <= self.limit) else {
            return Err(FrameError::TooLong(whole, self.limit));
        };
        if self.buffer.len() < end {
            self.buffer.reserve(end - self.buffer.len());
            return Ok(None);
        }
        let packet = read(&head, &self.buffer[head.start..end]);
        self.buffer.advance(end);
        packet.map(Some).map_err(FrameError::Malformed)
    }

    /// Whether the stream may end here.
    pub fn is_between_messages(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// What stands before the token.
struct Head {
    code: u8,
    token: usize,
    /// Of options, payload marker and payload.
    length: u64,
    /// Where the token begins.
    start: usize,
}

impl Head {
    /// `None`: it is not there yet.
    fn read(bytes: &[u8]) -> Result<Option<Head>, FrameError> {
        let Some(first) = bytes.first() else { return Ok(None) };
        let (nibble, token) = (first >> 4, usize::from(first & 0x0F));
        if token > LONGEST_TOKEN {
            return Err(FrameError::Malformed(MalformedKind::TokenLength(token as u8)));
        }
        let extended = EXTENDED.iter().find(|(value, ..)| *value == nibble);
        let (more, base) = extended.map_or((0, usize::from(nibble)), |(_, more, base)| (*more, *base));
        let Some([extension @ .., code]) = bytes.get(1..2 + more) else { return Ok(None) };
        let extension = extension.iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
        Ok(Some(Head { code: *code, token, length: base as u64 + extension, start: 2 + more }))
    }
}

/// `bytes` are the token and what follows it.
fn read(head: &Head, bytes: &[u8]) -> Result<Packet, MalformedKind> {
    let (token, rest) = bytes.split_at(head.token);
    message::check_options(rest)?;
    // The same options and payload behind a header that coap-lite reads.
    let datagram = [&[0x40, head.code, 0, 0], rest].concat();
    let mut packet = Packet::from_bytes(&datagram).map_err(|_| MalformedKind::OptionHeader)?;
    packet.set_token(token.to_vec());
    message::mark_of_stream(&mut packet);
    Ok(packet)
}

/// Appends a message. Returns how long it is, header and all.
pub fn write_frame(packet: &Packet, out: &mut Vec<u8>) -> usize {
    let before = out.len();
    let mut content = Vec::with_capacity(packet.payload.len() + 16);
    message::encode_options(packet, &mut content);
    let token = packet.get_token();
    let extended = EXTENDED.iter().rev().find(|(.., base)| content.len() >= *base);
    let (nibble, more, base) = extended.copied().unwrap_or((content.len() as u8, 0, content.len()));
    out.push(nibble << 4 | token.len() as u8);
    // A message of four gigabytes is refused before it comes here.
    let extension = ((content.len() - base) as u32).to_be_bytes();
    out.extend_from_slice(&extension[extension.len() - more..]);
    out.push(code(packet.header.code));
    out.extend_from_slice(token);
    out.extend_from_slice(&content);
    out.len() - before
}

fn code(code: MessageClass) -> u8 {
    code.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::CoapOption;
    use proptest::prelude::*;

    fn packet(code: u8, token: &[u8], payload: usize) -> Packet {
        let mut packet = Packet::new();
        packet.header.code = code.into();
        packet.set_token(token.to_vec());
        packet.payload = vec![b'x'; payload];
        packet
    }

    #[test]
    fn frames_are_those_of_the_rfc() {
        // RFC 8323 section 3.2, figures 6 and 7: a GET of nothing with a token of one byte, and a length of 13.
        let mut out = Vec::new();
        write_frame(&packet(0x43, &[0x7F], 0), &mut out);
        assert_eq!(out, [0x01, 0x43, 0x7F]);
        out.clear();
        write_frame(&packet(0x45, &[], 12), &mut out);
        assert_eq!(out[..4], [0xD0, 0x00, 0x45, 0xFF]);
    }

    #[test]
    fn lengths_of_every_size_and_any_cut() {
        for payload in [0, 1, 11, 12, 13, 267, 268, 269, 65_803, 65_804, 65_805, 100_000] {
            let mut message = packet(0x45, b"token", payload);
            message.add_option(CoapOption::ContentFormat, vec![0]);
            let mut out = Vec::new();
            let length = write_frame(&message, &mut out);
            assert_eq!(length, out.len());
            for step in [out.len(), 7] {
                let mut deframer = Deframer::new(out.len());
                let mut read = None;
                for piece in out.chunks(step) {
                    assert!(read.is_none());
                    deframer.add(piece);
                    read = deframer.next_message().unwrap();
                }
                let read = read.expect("a message");
                assert_eq!((read.get_token(), &read.payload), (message.get_token(), &message.payload));
                assert_eq!(read.header.code, message.header.code);
                assert!(deframer.is_between_messages());
            }
            let mut short = Deframer::new(out.len() - 1);
            short.add(&out);
            assert!(matches!(short.next_message(), Err(FrameError::TooLong(..))));
        }
    }

    #[test]
    fn a_length_is_refused_before_it_is_waited_for() {
        let mut deframer = Deframer::new(1152);
        deframer.add(&[0xF0, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]);
        assert!(matches!(deframer.next_message(), Err(FrameError::TooLong(4_295_033_106, 1152))));
    }

    #[test]
    fn malformed_messages_are_refused() {
        for (bytes, kind) in [
            (&[0x09, 0x01][..], MalformedKind::TokenLength(9)),
            (&[0x10, 0x01, 0xFF], MalformedKind::EmptyPayload),
            (&[0x10, 0x01, 0xF0], MalformedKind::OptionHeader),
            (&[0x20, 0x01, 0x02, 0x00], MalformedKind::OptionLength),
        ] {
            let mut deframer = Deframer::new(1152);
            deframer.add(bytes);
            assert_eq!(deframer.next_message().unwrap_err(), FrameError::Malformed(kind), "{bytes:02x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_messages_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400), step in 1_usize..50) {
            let mut deframer = Deframer::new(300);
            'stream: for piece in bytes.chunks(step) {
                deframer.add(piece);
                loop {
                    match deframer.next_message() {
                        Ok(Some(message)) => {
                            let mut out = Vec::new();
                            prop_assert!(write_frame(&message, &mut out) <= 300);
                        }
                        Ok(None) => break,
                        Err(_) => break 'stream,
                    }
                }
            }
        }
    }
}
