//! Deflate with the end of each message cut off and put back: RFC 7692 section 7.2. And what both directions need of frames.

use std::fmt;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// The end of a flushed deflate stream, which is left out on the wire (section 7.2.1).
pub(super) const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// The smallest window that zlib can compress with. A peer that says 8 is served by 9 when reading.
const SMALLEST_WINDOW: u8 = 9;

/// What is wrong with a compressed message; the connection can't go on. [`super::Stream`] gives it inside an
/// [`std::io::Error`] of kind `InvalidData`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeflateError {
    /// The bytes are no deflate stream, or refer to what lies before the beginning.
    Invalid,
    /// The message is larger than allowed once it is inflated; that many bytes were allowed.
    TooLarge(usize),
}

impl DeflateError {
    /// The close code that tells the peer.
    pub fn close_code(&self) -> CloseCode {
        match self {
            DeflateError::Invalid => CloseCode::Invalid,
            DeflateError::TooLarge(_) => CloseCode::Size,
        }
    }
}

impl fmt::Display for DeflateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeflateError::Invalid => write!(formatter, "the compressed message is no valid deflate data"),
            DeflateError::TooLarge(limit) => {
                write!(formatter, "the compressed message is larger than {limit} bytes when inflated")
            }
        }
    }
}

impl std::error::Error for DeflateError {}

pub(super) struct Inflater {
    stream: Decompress,
    takeover: bool,
    /// No byte was read since the message began or a final block ended: there is nothing to put an end to.
    at_boundary: bool,
}

impl Inflater {
    pub(super) fn new(window_bits: u8, takeover: bool) -> Self {
        let stream = Decompress::new_with_window_bits(false, window_bits.max(SMALLEST_WINDOW));
        Self { stream, takeover, at_boundary: true }
    }

    /// Inflates into the spare room of `output`, and returns how much of `input` was read: all of it, unless the room
    /// is used up.
    pub(super) fn inflate(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, DeflateError> {
        let mut read = 0;
        while output.len() < output.capacity() {
            let before = (self.stream.total_in(), output.len());
            let status = self
                .stream
                .decompress_vec(&input[read..], output, FlushDecompress::Sync)
                .map_err(|_| DeflateError::Invalid)?;
            let taken = usize::try_from(self.stream.total_in() - before.0).unwrap_or(usize::MAX);
            read += taken;
            self.at_boundary &= taken == 0;
            if status == Status::StreamEnd {
                // A final block (section 7.2.3.4): what follows is a stream of its own.
                self.stream.reset(false);
                self.at_boundary = true;
            } else if read < input.len() && taken == 0 && output.len() == before.1 {
                return Err(DeflateError::Invalid);
            }
            if read == input.len() {
                break;
            }
        }
        Ok(read)
    }

    /// What is to be read at the end of a message.
    pub(super) fn tail(&self) -> &'static [u8] {
        if self.at_boundary { &[] } else { &TAIL }
    }

    pub(super) fn end_message(&mut self) {
        if !self.takeover {
            self.stream.reset(false);
        }
        self.at_boundary = true;
    }
}

pub(super) struct Compressor {
    stream: Compress,
    takeover: bool,
}

impl Compressor {
    /// `None` for a window that zlib can't make: messages may always be sent as they are (section 6).
    pub(super) fn new(window_bits: u8, takeover: bool) -> Option<Self> {
        (window_bits >= SMALLEST_WINDOW).then(|| Self {
            stream: Compress::new_with_window_bits(Compression::default(), false, window_bits),
            takeover,
        })
    }

    /// Adds `input` in compressed form; `flush` at the end of a frame.
    pub(super) fn compress(&mut self, input: &[u8], flush: bool, output: &mut Vec<u8>) {
        let mode = if flush { FlushCompress::Sync } else { FlushCompress::None };
        let mut read = 0;
        loop {
            output.reserve((input.len() - read) / 4 + 128);
            let before = self.stream.total_in();
            // An error is possible only on a stream that was ended, and none is.
            let done = self.stream.compress_vec(&input[read..], output, mode).is_err();
            read += usize::try_from(self.stream.total_in() - before).unwrap_or(usize::MAX);
            if done || (read >= input.len() && output.len() < output.capacity()) {
                return;
            }
        }
    }

    /// Ends a message: `output` is the last frame's payload.
    pub(super) fn end_message(&mut self, output: &mut Vec<u8>) {
        if output.ends_with(&TAIL) {
            output.truncate(output.len() - TAIL.len());
        }
        if output.is_empty() {
            // The flush of an empty message gives nothing when the last thing was a flush too: section 7.2.3.6.
            output.push(0);
        }
        if !self.takeover {
            self.stream.reset();
        }
    }
}

/// A frame's header: RFC 6455 section 5.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) first: u8,
    pub(super) length: u64,
    pub(super) mask: Option<[u8; 4]>,
}

pub(super) const FIN: u8 = 0x80;
pub(super) const RSV1: u8 = 0x40;
const OTHER_RESERVED: u8 = 0x30;
const MASKED: u8 = 0x80;

impl Head {
    pub(super) fn fin(&self) -> bool {
        self.first & FIN != 0
    }

    pub(super) fn rsv1(&self) -> bool {
        self.first & RSV1 != 0
    }

    pub(super) fn other_reserved(&self) -> bool {
        self.first & OTHER_RESERVED != 0
    }

    pub(super) fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    pub(super) fn is_control(&self) -> bool {
        self.first & 0x08 != 0
    }

    pub(super) fn write(&self, output: &mut Vec<u8>) {
        let masked = if self.mask.is_some() { MASKED } else { 0 };
        output.push(self.first);
        match self.length {
            length @ 0..126 => output.push(masked | length as u8),
            length @ 126..=0xffff => {
                output.push(masked | 126);
                output.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                output.push(masked | 127);
                output.extend_from_slice(&length.to_be_bytes());
            }
        }
        output.extend_from_slice(self.mask.as_ref().map_or(&[], |mask| mask.as_slice()));
    }
}

/// Collects a header out of pieces of any size.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    bytes: [u8; 14],
    length: usize,
}

impl HeadReader {
    /// Takes from `input` what is missing; `None` when that was not enough.
    pub(super) fn read(&mut self, input: &mut &[u8]) -> Option<Head> {
        loop {
            let wanted = self.wanted();
            let taken = input.len().min(wanted - self.length);
            let (now, rest) = input.split_at(taken);
            self.bytes[self.length..][..taken].copy_from_slice(now);
            self.length += taken;
            *input = rest;
            if self.length < wanted {
                return None;
            }
            if self.wanted() == wanted {
                let head = self.parse();
                self.length = 0;
                return Some(head);
            }
        }
    }

    fn wanted(&self) -> usize {
        if self.length < 2 {
            return 2;
        }
        let extended = match self.bytes[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + extended + if self.bytes[1] & MASKED != 0 { 4 } else { 0 }
    }

    fn parse(&self) -> Head {
        let bytes = &self.bytes;
        let (length, end) = match bytes[1] & 0x7f {
            126 => (u64::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
            127 => (u64::from_be_bytes(bytes[2..10].try_into().expect("8 bytes")), 10),
            short => (u64::from(short), 2),
        };
        let mask = (bytes[1] & MASKED != 0).then(|| bytes[end..end + 4].try_into().expect("4 bytes"));
        Head { first: bytes[0], length, mask }
    }
}

/// Masks or unmasks what lies `offset` bytes into a payload.
pub(super) fn apply_mask(data: &mut [u8], mask: [u8; 4], offset: u64) {
    let mut key = mask;
    key.rotate_left((offset % 4) as usize);
    let word = u32::from_ne_bytes(key);
    let mut words = data.chunks_exact_mut(4);
    for chunk in &mut words {
        let masked = u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]) ^ word;
        chunk.copy_from_slice(&masked.to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key) {
        *byte ^= key;
    }
}
