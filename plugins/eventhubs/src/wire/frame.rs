//! Frames (part 2, section 2.3): size, offset of the body, type, channel.

use super::value::Malformed;

/// What a peer may always send, in bytes: MIN-MAX-FRAME-SIZE.
pub const MIN_FRAME: usize = 512;
const HEADER: usize = 8;

/// What the first eight bytes of a frame say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The whole frame, header included.
    pub size: usize,
    /// Where the body begins.
    pub body: usize,
    pub sasl: bool,
    pub channel: u16,
}

/// A frame's place in the bytes that were read.
#[derive(Clone, Copy, Debug)]
pub struct Frame;

impl Frame {
    /// The header of the frame that begins here; `None` while it is not there in full.
    ///
    /// # Errors
    /// It is no frame, or one longer than `most`.
    pub fn header(bytes: &[u8], most: usize) -> Result<Option<Header>, Malformed> {
        let Some(size) = bytes.first_chunk::<4>() else { return Ok(None) };
        let size = u32::from_be_bytes(*size) as usize;
        if size > most {
            return Err(Malformed::Unexpected("a frame over the negotiated size"));
        }
        if size < HEADER {
            return Err(Malformed::Unexpected("a frame shorter than its header"));
        }
        let Some(&[.., offset, kind, high, low]) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let body = usize::from(offset) * 4;
        if body < HEADER || body > size {
            return Err(Malformed::Unexpected("a frame whose body begins outside of it"));
        }
        if kind > 1 {
            return Err(Malformed::Unexpected("a frame of an unknown type"));
        }
        Ok(Some(Header { size, body, sasl: kind == 1, channel: u16::from_be_bytes([high, low]) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let header = |bytes: &[u8]| Frame::header(bytes, 1000);
        assert_eq!(header(b"\0\0\0"), Ok(None));
        assert_eq!(header(b"\0\0\0\x08\x02\0\x01"), Ok(None));
        let empty = Header { size: 8, body: 8, sasl: false, channel: 258 };
        assert_eq!(header(b"\0\0\0\x08\x02\0\x01\x02"), Ok(Some(empty)));
        // The rest is not waited for to say that it is too long.
        for bytes in [
            &b"\0\0\x03\xe9"[..],
            b"\xff\xff\xff\xff",
            b"\0\0\0\x07",
            b"\0\0\0\x08\x01\0\0\0",
            b"\0\0\0\x08\x03\0\0\0",
            b"\0\0\0\x08\x02\x02\0\0",
        ] {
            assert!(header(bytes).is_err(), "{bytes:?}");
        }
    }
}
