//! Where messages begin and end on a raw socket, without I/O.
//!
//! Received bytes are not copied: a [`Splitter`] looks at the read buffer and tells which ranges of it are messages.
//! What a length prefix announces is believed only as far as the limit, and never allocated ahead of the bytes.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::str::FromStr;

use bytes::{BufMut, BytesMut};

/// The length of a length prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    One = 1,
    Two = 2,
    Four = 4,
}

/// How messages are told apart on a byte stream. Written `line`, `crlf`, `length1`, `length2`, `length4`, `length2-le`,
/// `length4-le`, `fixed:N` or `raw`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// A line feed ends a message; a carriage return before it is taken off.
    #[default]
    Line,
    /// As [`Framing::Line`], but carriage return and line feed are sent.
    Crlf,
    /// A length prefix, big-endian unless `little`; it does not count itself.
    Length { width: Width, little: bool },
    /// Messages of so many bytes.
    Fixed(NonZeroUsize),
    /// What one read brings is a message, without a meaning of its borders.
    Raw,
}

impl Framing {
    /// Those without a parameter.
    const NAMED: [(&'static str, Framing); 8] = [
        ("line", Framing::Line),
        ("crlf", Framing::Crlf),
        ("length1", Framing::Length { width: Width::One, little: false }),
        ("length2", Framing::Length { width: Width::Two, little: false }),
        ("length4", Framing::Length { width: Width::Four, little: false }),
        ("length2-le", Framing::Length { width: Width::Two, little: true }),
        ("length4-le", Framing::Length { width: Width::Four, little: true }),
        ("raw", Framing::Raw),
    ];

    /// Whether a message can be sent as it is.
    ///
    /// # Errors
    /// It would be taken for more or less than one message.
    pub fn check(self, payload: &[u8]) -> Result<(), FramingError> {
        match self {
            Framing::Line | Framing::Crlf if payload.contains(&b'\n') => Err(FramingError::LineFeed),
            Framing::Length { width, .. } if payload.len() > most(width) => {
                Err(FramingError::Unsayable { length: payload.len(), most: most(width) })
            }
            Framing::Fixed(size) if payload.len() != size.get() => {
                Err(FramingError::WrongSize { length: payload.len(), size: size.get() })
            }
            _ => Ok(()),
        }
    }

    /// Appends a message that [`Framing::check`] has let through.
    pub fn write(self, payload: &[u8], out: &mut BytesMut) {
        if let Framing::Length { width, little } = self {
            let length = payload.len().min(most(width)) as u32;
            match (width, little) {
                (Width::One, _) => out.put_u8(length as u8),
                (Width::Two, false) => out.put_u16(length as u16),
                (Width::Two, true) => out.put_u16_le(length as u16),
                (Width::Four, false) => out.put_u32(length),
                (Width::Four, true) => out.put_u32_le(length),
            }
        }
        out.put_slice(payload);
        match self {
            Framing::Line => out.put_u8(b'\n'),
            Framing::Crlf => out.put_slice(b"\r\n"),
            _ => {}
        }
    }
}

fn most(width: Width) -> usize {
    match width {
        Width::One => u8::MAX.into(),
        Width::Two => u16::MAX.into(),
        Width::Four => u32::MAX as usize,
    }
}

impl FromStr for Framing {
    type Err = FramingError;

    fn from_str(text: &str) -> Result<Framing, FramingError> {
        if let Some((_, framing)) = Framing::NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(*framing);
        }
        match text.strip_prefix("fixed:").map(str::parse) {
            Some(Ok(size)) => Ok(Framing::Fixed(size)),
            _ => Err(FramingError::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Framing::Fixed(size) => write!(f, "fixed:{size}"),
            named => {
                let known = Framing::NAMED.iter().find(|(_, framing)| framing == named);
                f.write_str(known.map_or("", |(name, _)| name))
            }
        }
    }
}

/// What can't be a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FramingError {
    /// No framing has this name.
    Unknown(String),
    /// A payload that holds what ends a message.
    LineFeed,
    /// A payload longer than its prefix can say.
    Unsayable { length: usize, most: usize },
    /// A payload of another size than the fixed one.
    WrongSize { length: usize, size: usize },
    /// Received: longer than the limit. `length` is what is known of it.
    TooLong { length: usize, max: usize },
    /// Received: the end came within a message.
    Partial { have: usize, want: Option<usize> },
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FramingError::Unknown(text) => write!(
                f,
                "{text:?} is not one of line, crlf, length1, length2, length4, length2-le, length4-le, fixed:N, raw"
            ),
            FramingError::LineFeed => f.write_str(
                "it holds a line feed, which ends a message (--framing says how messages are told apart)",
            ),
            FramingError::Unsayable { length, most } => {
                write!(f, "its {length} bytes are more than the {most} that the length prefix can say")
            }
            FramingError::WrongSize { length, size } => {
                write!(f, "it has {length} bytes, and --framing fixed:{size} wants {size}")
            }
            FramingError::TooLong { length, max } => {
                write!(f, "a message of {length} bytes or more is over the limit of {max}")
            }
            FramingError::Partial { have, want: Some(want) } => {
                write!(f, "the stream ended within a message: {have} of {want} bytes")
            }
            FramingError::Partial { have, want: None } => {
                write!(f, "the stream ended within a message, after {have} bytes of it")
            }
        }
    }
}

impl std::error::Error for FramingError {}

/// Finds the messages in what was received.
#[derive(Clone, Debug)]
pub struct Splitter {
    framing: Framing,
    max: usize,
    /// So much of the buffer is known to hold no line feed.
    searched: usize,
}

/// A message at the start of a buffer: where its payload lies, and where the next begins.
struct Frame {
    payload: Range<usize>,
    end: usize,
}

impl Splitter {
    /// Messages of more than `max` bytes are an error.
    pub fn new(framing: Framing, max: usize) -> Splitter {
        Splitter { framing, max, searched: 0 }
    }

    /// Appends the ranges of complete messages, `most` of them, and returns the bytes that they take with their frames.
    /// The caller takes those off the buffer before it calls again with more.
    ///
    /// # Errors
    /// The first message is over the limit. What is complete before such a one is given first.
    pub fn split(
        &mut self,
        buffer: &[u8],
        most: usize,
        found: &mut Vec<Range<usize>>,
    ) -> Result<usize, FramingError> {
        let (mut start, before) = (0, found.len());
        while start < buffer.len() && found.len() - before < most {
            match self.next(&buffer[start..]) {
                Ok(Some(frame)) => {
                    found.push(start + frame.payload.start..start + frame.payload.end);
                    start += frame.end;
                    self.searched = 0;
                }
                Ok(None) => break,
                Err(_) if found.len() > before => break,
                Err(error) => return Err(error),
            }
        }
        Ok(start)
    }

    /// What is left when the stream has ended: a last line needs no line feed.
    ///
    /// # Errors
    /// Something else was cut off, or the last line is over the limit.
    pub fn rest(&self, buffer: &[u8]) -> Result<Option<Range<usize>>, FramingError> {
        if buffer.is_empty() {
            return Ok(None);
        }
        match self.framing {
            Framing::Line | Framing::Crlf if buffer.len() > self.max => {
                Err(FramingError::TooLong { length: buffer.len(), max: self.max })
            }
            Framing::Line | Framing::Crlf | Framing::Raw => Ok(Some(0..buffer.len())),
            Framing::Length { width, little } => {
                let want = prefix(buffer, width, little).map(|length| width as usize + length);
                Err(FramingError::Partial { have: buffer.len(), want })
            }
            Framing::Fixed(size) => Err(FramingError::Partial { have: buffer.len(), want: Some(size.get()) }),
        }
    }

    fn next(&mut self, buffer: &[u8]) -> Result<Option<Frame>, FramingError> {
        let too_long = |length| Err(FramingError::TooLong { length, max: self.max });
        match self.framing {
            Framing::Line | Framing::Crlf => match find_line_feed(&buffer[self.searched..]) {
                Some(at) => {
                    let feed = self.searched + at;
                    let end = feed - usize::from(feed > 0 && buffer[feed - 1] == b'\r');
                    if end > self.max {
                        return too_long(end);
                    }
                    Ok(Some(Frame { payload: 0..end, end: feed + 1 }))
                }
                // With room for the carriage return.
                None if buffer.len() > self.max + 1 => too_long(buffer.len()),
                None => {
                    self.searched = buffer.len();
                    Ok(None)
                }
            },
            Framing::Length { width, little } => {
                let Some(length) = prefix(buffer, width, little) else { return Ok(None) };
                if length > self.max {
                    return too_long(length);
                }
                let start = width as usize;
                let end = start + length;
                Ok((buffer.len() >= end).then_some(Frame { payload: start..end, end }))
            }
            Framing::Fixed(size) => {
                let end = size.get();
                Ok((buffer.len() >= end).then_some(Frame { payload: 0..end, end }))
            }
            Framing::Raw => {
                let end = buffer.len().min(self.max.max(1));
                Ok(Some(Frame { payload: 0..end, end }))
            }
        }
    }
}

fn prefix(buffer: &[u8], width: Width, little: bool) -> Option<usize> {
    let bytes = buffer.get(..width as usize)?;
    let fold = |length: usize, byte: &u8| length << 8 | usize::from(*byte);
    Some(if little { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) })
}

/// The standard library looks for a byte many at a time, but offers it for this alone.
fn find_line_feed(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let skipped = std::io::BufRead::skip_until(&mut rest, b'\n').unwrap_or_default();
    (skipped > 0 && bytes[skipped - 1] == b'\n').then(|| skipped - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framing() -> impl Strategy<Value = Framing> {
        prop_oneof![
            (0..Framing::NAMED.len()).prop_map(|at| Framing::NAMED[at].1),
            (1..20_usize).prop_map(|size| Framing::Fixed(NonZeroUsize::new(size).unwrap())),
        ]
    }

    /// Feeds bytes in pieces, as a socket would.
    fn receive(splitter: &mut Splitter, bytes: &[u8], cuts: &[usize], most: usize) -> Vec<Vec<u8>> {
        let (mut buffer, mut messages, mut at, mut cut) = (Vec::new(), Vec::new(), 0, 0);
        while at < bytes.len() {
            let step = cuts.get(cut % cuts.len().max(1)).copied().unwrap_or(usize::MAX);
            let end = at.saturating_add(step).min(bytes.len());
            buffer.extend_from_slice(&bytes[at..end]);
            (at, cut) = (end, cut + 1);
            loop {
                let mut found = Vec::new();
                let taken = splitter.split(&buffer, most, &mut found).unwrap();
                messages.extend(found.iter().map(|range| buffer[range.clone()].to_vec()));
                buffer.drain(..taken);
                if taken == 0 {
                    break;
                }
            }
        }
        if let Some(rest) = splitter.rest(&buffer).unwrap() {
            messages.push(buffer[rest].to_vec());
        }
        messages
    }

    proptest! {
        #[test]
        fn what_is_written_is_found_again_however_it_is_cut(
            framing in framing(),
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..12),
            cuts in prop::collection::vec(1..200_usize, 1..8),
            most in 1..5_usize,
        ) {
            let mut wire = BytesMut::new();
            let mut sent = Vec::new();
            for payload in &payloads {
                if framing.check(payload).is_ok() && !payload.ends_with(b"\r") {
                    framing.write(payload, &mut wire);
                    sent.push(payload.clone());
                }
            }
            let got = receive(&mut Splitter::new(framing, 300), &wire, &cuts, most);
            if framing == Framing::Raw {
                prop_assert_eq!(got.concat(), sent.concat());
            } else {
                prop_assert_eq!(got, sent);
            }
        }

        #[test]
        fn any_bytes_are_split_within_bounds(
            framing in framing(),
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            max in 0..100_usize,
            most in 1..10_usize,
        ) {
            let mut splitter = Splitter::new(framing, max);
            let mut found = Vec::new();
            if let Ok(taken) = splitter.split(&bytes, most, &mut found) {
                prop_assert!(taken <= bytes.len() && found.len() <= most);
                let mut end = 0;
                for range in found {
                    prop_assert!(end <= range.start && range.start <= range.end && range.end <= taken);
                    prop_assert!(range.len() <= max.max(1) || matches!(framing, Framing::Fixed(_)));
                    end = range.end;
                }
            }
        }

        #[test]
        fn names_are_read_back(framing in framing()) {
            prop_assert_eq!(framing.to_string().parse(), Ok(framing));
        }
    }

    #[test]
    fn lines_lose_their_ends_and_the_last_needs_none() {
        for framing in [Framing::Line, Framing::Crlf] {
            let got = receive(&mut Splitter::new(framing, 100), b"a\r\n\nb\rc\nlast", &[1], 9);
            assert_eq!(got, [&b"a"[..], b"", b"b\rc", b"last"]);
        }
    }

    #[test]
    fn over_the_limit() {
        let split = |framing: Framing, max, bytes: &[u8]| {
            Splitter::new(framing, max).split(bytes, 9, &mut Vec::new())
        };
        let long = |length, max| Err(FramingError::TooLong { length, max });
        assert_eq!(split(Framing::Line, 3, b"four"), Ok(0), "a carriage return may be the fourth");
        assert_eq!(split(Framing::Line, 3, b"fiver"), long(5, 3));
        assert_eq!(split(Framing::Line, 3, b"four\n"), long(4, 3));
        assert_eq!(split(Framing::Line, 3, b"abc\r\n"), Ok(5));
        assert_eq!(split("length4".parse().unwrap(), 3, &[0xff; 4]), long(u32::MAX as usize, 3));
        assert_eq!(split("length2-le".parse().unwrap(), 300, &[1, 1, 0]), Ok(0));
        // What is good before it comes first.
        assert_eq!(split("length1".parse().unwrap(), 3, b"\x01a\x04bcde"), Ok(2));
    }

    #[test]
    fn an_end_within_a_message() {
        let rest = |framing: &str, bytes: &[u8]| Splitter::new(framing.parse().unwrap(), 100).rest(bytes);
        assert_eq!(rest("length2", b"\x00\x05abc"), Err(FramingError::Partial { have: 5, want: Some(7) }));
        assert_eq!(rest("length2", b"\x00"), Err(FramingError::Partial { have: 1, want: None }));
        assert_eq!(rest("fixed:4", b"abc"), Err(FramingError::Partial { have: 3, want: Some(4) }));
        assert_eq!(rest("length2", b""), Ok(None));
    }

    #[test]
    fn what_can_not_be_one_message_is_not_sent() {
        let check = |framing: &str, payload: &[u8]| framing.parse::<Framing>().unwrap().check(payload);
        assert_eq!(check("line", b"a\nb"), Err(FramingError::LineFeed));
        assert_eq!(check("length1", &[0; 256]), Err(FramingError::Unsayable { length: 256, most: 255 }));
        assert_eq!(check("fixed:3", b"ab"), Err(FramingError::WrongSize { length: 2, size: 3 }));
        assert_eq!(check("raw", b"a\nb"), Ok(()));
        for name in ["", "lines", "fixed", "fixed:0", "fixed:-1", "length3", "length1-le"] {
            assert!(name.parse::<Framing>().is_err(), "{name}");
        }
    }
}
