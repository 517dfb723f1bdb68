//! The header block of a message: `NATS/1.0`, a status where the server says something, fields, an empty line.
//!
//! Reading never fails: what is no field comes out as [`Line::Malformed`], because somebody who looks into a system wants to
//! see such a message, not lose the connection over it.

use std::ops::Range;

use super::WireError;

const VERSION: &[u8] = b"NATS/1.0";

/// A line of a block, as positions in the bytes that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    Field { name: Range<usize>, value: Range<usize> },
    Malformed(Range<usize>),
}

/// What is wrong with the block as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// It does not begin with `NATS/1.0`.
    Version,
    /// The empty line at its end is missing.
    Unterminated,
    /// What follows the version is no number of three digits.
    Status,
}

/// A block, read as far as it can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    bytes: &'a [u8],
    /// 503: no responders; 100, 404, 408, 409 of JetStream.
    pub status: Option<u16>,
    description: Range<usize>,
    pub error: Option<HeaderError>,
    at: usize,
}

impl<'a> Block<'a> {
    pub fn read(bytes: &'a [u8]) -> Block<'a> {
        let mut block = Block { bytes, status: None, description: 0..0, error: None, at: 0 };
        let (first, next) = line(bytes, 0);
        if !bytes.ends_with(b"\r\n\r\n") {
            block.error = Some(HeaderError::Unterminated);
        }
        let Some(rest) = bytes[first.clone()].strip_prefix(VERSION) else {
            block.error = Some(HeaderError::Version);
            return block;
        };
        block.at = next;
        let status = trim(bytes, first.end - rest.len()..first.end);
        if status.is_empty() {
            return block;
        }
        let digits = status.start..bytes.len().min(status.start + 3).min(status.end);
        let code = std::str::from_utf8(&bytes[digits.clone()])
            .ok()
            .filter(|text| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit()));
        match code.and_then(|text| text.parse().ok()) {
            Some(code) => {
                block.status = Some(code);
                block.description = trim(bytes, digits.end..status.end);
            }
            None => block.error = block.error.or(Some(HeaderError::Status)),
        }
        block
    }

    /// The text after the status.
    pub fn description(&self) -> &'a [u8] {
        &self.bytes[self.description.clone()]
    }

    /// The fields as bytes, without the malformed lines.
    pub fn fields(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let bytes = self.bytes;
        self.filter_map(move |line| match line {
            Line::Field { name, value } => Some((&bytes[name], &bytes[value])),
            Line::Malformed(_) => None,
        })
    }
}

/// The lines after the first; a line is ended by LF, with or without CR.
impl Iterator for Block<'_> {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let (found, next) = line(self.bytes, self.at);
        self.at = next;
        if found.is_empty() {
            let rest = next..self.bytes.len();
            // Nothing may follow the empty line.
            self.at = self.bytes.len();
            return (!rest.is_empty()).then_some(Line::Malformed(rest));
        }
        let text = &self.bytes[found.clone()];
        let colon = text.iter().position(|byte| *byte == b':');
        Some(match colon {
            Some(colon) if is_name(&text[..colon]) => Line::Field {
                name: found.start..found.start + colon,
                value: trim(self.bytes, found.start + colon + 1..found.end),
            },
            _ => Line::Malformed(found),
        })
    }
}

/// A line without its end, and where the next begins.
fn line(bytes: &[u8], from: usize) -> (Range<usize>, usize) {
    match memchr::memchr(b'\n', &bytes[from..]) {
        Some(length) => {
            let end = from + length;
            let cut = usize::from(length > 0 && bytes[end - 1] == b'\r');
            (from..end - cut, end + 1)
        }
        None => (from..bytes.len(), bytes.len()),
    }
}

fn trim(bytes: &[u8], range: Range<usize>) -> Range<usize> {
    let text = &bytes[range.clone()];
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().position(|byte| !blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !blank(byte)).map_or(start, |at| at + 1);
    range.start + start..range.start + end
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| *byte > b' ' && *byte != 0x7F && *byte != b':')
}

/// # Errors
/// The name is empty, or a colon, space or control character stands in it.
pub fn check_name(name: &[u8]) -> Result<(), WireError> {
    match is_name(name) {
        true => Ok(()),
        false => Err(WireError::new(format!(
            "{} is no header name: it must not be empty or hold a colon, a space or a control character",
            super::quote(name)
        ))),
    }
}

/// # Errors
/// A line break stands in the value.
pub fn check_value(value: &[u8]) -> Result<(), WireError> {
    match value.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        false => Ok(()),
        true => Err(WireError::new("a header value must not hold a line break")),
    }
}

/// Writes a block. The fields have been checked.
pub fn encode<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>, out: &mut impl bytes::BufMut) {
    out.put_slice(VERSION);
    out.put_slice(b"\r\n");
    for (name, value) in fields {
        [name, b": ", value, b"\r\n"].into_iter().for_each(|part| out.put_slice(part));
    }
    out.put_slice(b"\r\n");
}

/// The bytes that [`encode`] writes.
pub fn size<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> usize {
    VERSION.len() + 4 + fields.map(|(name, value)| name.len() + value.len() + 4).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(text: &str) -> Vec<(String, String)> {
        let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Block::read(text.as_bytes()).fields().map(|(name, value)| (text_of(name), text_of(value))).collect()
    }

    #[test]
    fn a_status_and_its_description() {
        let block = Block::read(b"NATS/1.0 503\r\n\r\n");
        assert_eq!((block.status, block.description(), block.error), (Some(503), &b""[..], None));
        let block = Block::read(b"NATS/1.0 409 Consumer Deleted\r\nA: b\r\n\r\n");
        assert_eq!((block.status, block.description()), (Some(409), &b"Consumer Deleted"[..]));
        assert_eq!(block.fields().count(), 1);
    }

    #[test]
    fn fields_may_repeat_be_empty_and_hold_colons() {
        assert_eq!(
            fields("NATS/1.0\r\na:1\r\na: 2 \r\nurl: x://y:1\r\nempty:\r\n\r\n"),
            [("a", "1"), ("a", "2"), ("url", "x://y:1"), ("empty", "")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn what_is_malformed_is_told_and_the_rest_is_read() {
        let text = b"NATS/1.0\r\nno colon\r\na: b\r\n: nameless\r\n\r\ntrailing";
        let block = Block::read(text);
        assert_eq!(block.error, Some(HeaderError::Unterminated));
        let lines: Vec<_> = block.collect();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(matches!(&lines[0], Line::Malformed(at) if &text[at.clone()] == b"no colon"));
        assert!(matches!(&lines[3], Line::Malformed(at) if &text[at.clone()] == b"trailing"));
        assert_eq!(Block::read(b"HTTP/1.1 200\r\n\r\n").error, Some(HeaderError::Version));
        assert_eq!(Block::read(b"NATS/1.0 5x3\r\n\r\n").error, Some(HeaderError::Status));
        assert_eq!(Block::read(b"").error, Some(HeaderError::Version));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(list in proptest::collection::vec(("[!-9;-~]{1,8}", "[!-~]{0,8}"), 0..6)) {
            let mut out = Vec::new();
            let fields = list.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            encode(fields.clone(), &mut out);
            prop_assert_eq!(out.len(), size(fields));
            let block = Block::read(&out);
            prop_assert_eq!(block.error, None);
            let read: Vec<_> = block.fields().collect();
            let written: Vec<_> = list.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
            prop_assert_eq!(read, written);
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for line in Block::read(&bytes) {
                let (Line::Field { value: at, .. } | Line::Malformed(at)) = line;
                prop_assert!(at.start <= at.end && at.end <= bytes.len());
            }
        }
    }
}
