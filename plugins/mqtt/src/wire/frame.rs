//! Cuts the byte stream into packets (5.0, section 2.1).
//!
//! Two steps: [`complete`] says how far the read buffer holds whole packets, the caller freezes that part into
//! one reference-counted buffer, and [`Frames`] walks it. So a batch of messages shares one allocation, and a
//! half-received packet is never copied.

use std::ops::Range;

use bytes::{BufMut, Bytes};

use super::{MAX_REMAINING, Reason, WireError};

/// Reads a variable byte integer: its value and how many bytes it took. Nothing when more bytes are needed.
///
/// # Errors
/// A fifth byte would be needed: malformed.
#[inline]
pub fn read_varint(bytes: &[u8]) -> Result<Option<(usize, usize)>, WireError> {
    let mut value = 0usize;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() >= 4 { Err(WireError::malformed("a length of more than four bytes")) } else { Ok(None) }
}

/// Appends a variable byte integer. `value` is at most [`MAX_REMAINING`].
#[inline]
pub fn put_varint(out: &mut impl BufMut, mut value: usize) {
    debug_assert!(value <= MAX_REMAINING);
    loop {
        let byte = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            out.put_u8(byte);
            return;
        }
        out.put_u8(byte | 0x80);
    }
}

/// How many bytes [`put_varint`] writes.
#[inline]
pub fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// The whole packets at the start of a read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Complete {
    /// How many bytes they take.
    pub end: usize,
    /// How many there are.
    pub count: usize,
    /// Full size of the packet that starts at `end`, when its header is there but its rest is not.
    pub next_size: Option<usize>,
}

/// Finds the whole packets at the start of `bytes`, at most `limit` of them, none above `max_size` bytes.
///
/// # Errors
/// The *first* packet has a malformed length or is too large. A bad packet behind good ones shows up once those
/// are taken off, so what arrived before it is not lost.
pub fn complete(bytes: &[u8], max_size: usize, limit: usize) -> Result<Complete, WireError> {
    let mut found = Complete { end: 0, count: 0, next_size: None };
    while found.count < limit {
        match size_at(&bytes[found.end..], max_size) {
            Ok(Some(size)) if bytes.len() - found.end >= size => {
                found.end += size;
                found.count += 1;
            }
            Ok(size) => {
                found.next_size = size;
                break;
            }
            Err(error) if found.count == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(found)
}

fn size_at(bytes: &[u8], max_size: usize) -> Result<Option<usize>, WireError> {
    if bytes.len() < 2 {
        return Ok(None);
    }
    let Some((remaining, length)) = read_varint(&bytes[1..])? else { return Ok(None) };
    let size = 1 + length + remaining;
    if size > max_size {
        let what = format!("a packet of {size} bytes, above the maximum packet size of {max_size}");
        return Err(WireError::with(Reason::PACKET_TOO_LARGE, what));
    }
    Ok(Some(size))
}

/// One packet inside a shared buffer.
#[derive(Debug, Clone)]
pub struct Frame<'a> {
    /// The buffer that all ranges refer to.
    pub buffer: &'a Bytes,
    /// Type (high four bits) and flags (low four).
    pub first: u8,
    /// Variable header and payload.
    pub body: Range<usize>,
}

impl<'a> Frame<'a> {
    /// The packet type, 0 to 15.
    #[inline]
    pub fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// Variable header and payload as bytes.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        &self.buffer[self.body.clone()]
    }

    /// Variable header and payload as a reference-counted slice.
    pub fn shared(&self) -> Bytes {
        self.buffer.slice(self.body.clone())
    }
}

/// Walks the packets of a buffer that [`complete`] measured. Stops at a packet that is not whole.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    buffer: &'a Bytes,
    at: usize,
}

impl<'a> Frames<'a> {
    /// Starts at the first byte of `buffer`.
    pub fn new(buffer: &'a Bytes) -> Self {
        Self { buffer, at: 0 }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    #[inline]
    fn next(&mut self) -> Option<Frame<'a>> {
        let rest = self.buffer.get(self.at..)?;
        let first = *rest.first()?;
        let (remaining, length) = read_varint(&rest[1..]).ok()??;
        let start = self.at + 1 + length;
        let end = start.checked_add(remaining).filter(|end| *end <= self.buffer.len())?;
        self.at = end;
        Some(Frame { buffer: self.buffer, first, body: start..end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_at_their_borders() {
        for value in [0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, MAX_REMAINING] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value));
            assert_eq!(read_varint(&out).unwrap(), Some((value, out.len())));
            assert_eq!(read_varint(&out[..out.len() - 1]).unwrap(), None);
        }
        assert!(read_varint(&[0xFF, 0xFF, 0xFF, 0xFF]).is_err());
    }

    #[test]
    fn whole_packets_are_found_and_the_rest_is_measured() {
        let bytes = [0xD0, 0, 0x40, 2, 0, 1, 0x30, 10, 0, 1];
        let found = complete(&bytes, 100, 10).unwrap();
        assert_eq!(found, Complete { end: 6, count: 2, next_size: Some(12) });
        assert_eq!(complete(&bytes, 100, 1).unwrap().end, 2);
        let buffer = Bytes::copy_from_slice(&bytes[..6]);
        let kinds: Vec<_> = Frames::new(&buffer).map(|f| (f.kind(), f.bytes().to_vec())).collect();
        assert_eq!(kinds, vec![(13, vec![]), (4, vec![0, 1])]);
    }

    #[test]
    fn a_bad_packet_does_not_hide_the_good_one_before_it() {
        let bytes = [0xD0, 0, 0x30, 0xFF, 0xFF, 0xFF, 0xFF];
        assert_eq!(complete(&bytes, 100, 10).unwrap().end, 2);
        assert_eq!(complete(&bytes[2..], 100, 10).unwrap_err().reason, Reason::MALFORMED_PACKET);
        assert_eq!(complete(&[0x30, 99], 100, 10).unwrap_err().reason, Reason::PACKET_TOO_LARGE);
        assert_eq!(complete(&[0x30, 98], 100, 10).unwrap().next_size, Some(100));
    }
}
