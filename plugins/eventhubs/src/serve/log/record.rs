//! How an event is kept: length (4 bytes) and CRC-32 (4) of what follows; flags (1), length of the message's header section
//! (2), sequence number (8), offset (8) and time (8); then the message as readers get it. Numbers are little-endian.
//!
//! The events of one transfer are accepted together: the last of them has the flag that says so, and what a torn file holds
//! behind the last such flag was never accepted.

use bytes::Bytes;

use crate::wire::{Malformed, Message, Value, Writer, code};

const PREFIX: usize = 8;
const FIXED: usize = 1 + 2 + 8 + 8 + 8;
const LAST: u8 = 1;
/// Distance of marks, in bytes: what may have to be passed over to find an event.
const STRIDE: usize = 64 * 1024;

const SEQUENCE: &str = "x-opt-sequence-number";
const OFFSET: &str = "x-opt-offset";
const ENQUEUED: &str = "x-opt-enqueued-time";
const KEY: &str = "x-opt-partition-key";

/// Where an event stands in its partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Without gaps, from 0.
    pub(crate) sequence: u64,
    /// Bytes of all events before it.
    pub(crate) offset: u64,
    /// When it came, in milliseconds since 1970-01-01 UTC; never before that of the event before it.
    pub(crate) time: i64,
}

/// An event as a client sent it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'a> {
    message: Message<'a>,
    key: Option<&'a str>,
}

impl<'a> Event<'a> {
    /// `key` is that of the whole batch.
    ///
    /// # Errors
    /// Its annotations can't be read.
    pub(crate) fn new(message: Message<'a>, key: Option<&'a str>) -> Result<Event<'a>, Malformed> {
        let mut key = key;
        if let Some(items) = message.annotations.map() {
            for pair in items.pairs() {
                let (name, value) = pair?;
                if name.text() == Some(KEY) {
                    key = value.text().or(key);
                }
            }
        }
        if message.header.len() > usize::from(u16::MAX) {
            return Err(Malformed::Unexpected("a header section of more than 64 KiB"));
        }
        Ok(Event { message, key })
    }

    pub(crate) fn key(&self) -> Option<&'a str> {
        self.key
    }

    fn write(&self, mark: Mark, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.describe(code::MESSAGE_ANNOTATIONS).map(|map| {
            map.symbol(SEQUENCE);
            map.long(mark.sequence as i64);
            map.symbol(OFFSET);
            map.string(&mark.offset.to_string());
            map.symbol(ENQUEUED);
            map.timestamp(mark.time);
            if let Some(key) = self.key {
                map.symbol(KEY);
                map.string(key);
            }
            let own: Option<_> = self.message.annotations.map();
            for (name, value) in own.into_iter().flat_map(|items| items.pairs()).flatten() {
                if !matches!(name.text(), Some(SEQUENCE | OFFSET | ENQUEUED | KEY)) {
                    map.raw(name.raw);
                    map.raw(value.raw);
                }
            }
        });
    }
}

/// Events that were appended together.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) bytes: Bytes,
    /// Of the first event, and of others at some distance, with where their records begin.
    pub(crate) marks: Vec<(Mark, usize)>,
    pub(crate) count: u64,
    /// Of the last event.
    pub(crate) last: Mark,
}

/// Encodes events, the first of which stands at `mark`; with checksums if they are `checked`. There must be one at least.
pub(crate) fn encode(events: &[Event<'_>], mark: Mark, checked: bool) -> Block {
    let bare: usize = events.iter().map(|event| event.message.header.len() + event.message.bare.len()).sum();
    let mut out = Vec::with_capacity(bare + events.len() * 192);
    let mut marks: Vec<(Mark, usize)> = Vec::new();
    let (mut next, mut last) = (mark, mark);
    for (index, event) in events.iter().enumerate() {
        let at = out.len();
        last = next;
        if marks.last().is_none_or(|(_, marked)| at - marked >= STRIDE) {
            marks.push((next, at));
        }
        let header = event.message.header;
        out.extend_from_slice(&[0; PREFIX]);
        out.push(if index + 1 == events.len() { LAST } else { 0 });
        out.extend_from_slice(&(header.len() as u16).to_le_bytes());
        out.extend_from_slice(&next.sequence.to_le_bytes());
        out.extend_from_slice(&next.offset.to_le_bytes());
        out.extend_from_slice(&next.time.to_le_bytes());
        out.extend_from_slice(header);
        event.write(next, &mut out);
        out.extend_from_slice(event.message.bare);
        let length = out.len() - at - PREFIX;
        out[at..at + 4].copy_from_slice(&(length as u32).to_le_bytes());
        if checked {
            let sum = crc32fast::hash(&out[at + PREFIX..]);
            out[at + 4..at + PREFIX].copy_from_slice(&sum.to_le_bytes());
        }
        next.sequence += 1;
        next.offset += (length + PREFIX) as u64;
    }
    Block { bytes: out.into(), marks, count: events.len() as u64, last }
}

/// An event in a log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) mark: Mark,
    /// Bytes of the whole record.
    pub(crate) length: usize,
    /// No event of the same transfer follows.
    pub(crate) last: bool,
    /// Where the message begins in the record.
    pub(crate) at: usize,
    /// The message's header section.
    pub(crate) header: &'a [u8],
    /// The message's other sections.
    pub(crate) rest: &'a [u8],
}

fn array<const LENGTH: usize>(bytes: &[u8], at: usize) -> [u8; LENGTH] {
    let mut array = [0; LENGTH];
    array.copy_from_slice(&bytes[at..at + LENGTH]);
    array
}

impl<'a> Record<'a> {
    /// The record at the beginning of these bytes; `None` when it is not there in full.
    #[inline]
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Record<'a>> {
        let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
        let body = bytes.get(PREFIX..PREFIX.checked_add(length)?).filter(|body| body.len() >= FIXED)?;
        let header = usize::from(u16::from_le_bytes(array(body, 1)));
        let (header, rest) = body[FIXED..].split_at_checked(header)?;
        let mark = Mark {
            sequence: u64::from_le_bytes(array(body, 3)),
            offset: u64::from_le_bytes(array(body, 11)),
            time: i64::from_le_bytes(array(body, 19)),
        };
        let last = body[0] & LAST != 0;
        Some(Record { mark, length: PREFIX + length, last, at: PREFIX + FIXED, header, rest })
    }

    /// Likewise, and `None` when it is damaged.
    pub(crate) fn checked(bytes: &'a [u8]) -> Option<Record<'a>> {
        let record = Record::read(bytes)?;
        let sum = u32::from_le_bytes(array(bytes, 4));
        (crc32fast::hash(&bytes[PREFIX..record.length]) == sum).then_some(record)
    }

    /// The partition key in a message's annotations.
    pub(crate) fn key(annotations: Value<'_>) -> Option<&str> {
        annotations.get(KEY)?.text()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A message with this text as its data.
    pub(in super::super) fn message(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        Writer::new(&mut out).describe(code::DATA).binary(text.as_bytes());
        out
    }

    /// A block of messages with these texts.
    pub(in super::super) fn block(texts: &[String], mark: Mark) -> Block {
        let messages: Vec<_> = texts.iter().map(|text| message(text)).collect();
        let events: Vec<_> = messages
            .iter()
            .map(|bytes| Event::new(Message::read(bytes).expect("a message"), None).expect("an event"))
            .collect();
        encode(&events, mark, true)
    }

    #[test]
    fn what_is_kept_is_what_was_sent_with_its_place() {
        let mut sent = Vec::new();
        let mut writer = Writer::new(&mut sent);
        writer.describe(code::HEADER).list(|w| w.bool(true));
        writer.describe(code::MESSAGE_ANNOTATIONS).map(|w| {
            w.symbol("x-opt-partition-key");
            w.string("key");
            w.symbol("x-opt-sequence-number");
            w.long(99);
            w.symbol("mine");
            w.uint(7);
        });
        writer.describe(code::DATA).binary(b"body");
        let event = Event::new(Message::read(&sent).expect("a message"), None).expect("an event");
        assert_eq!(event.key(), Some("key"));
        let mark = Mark { sequence: 5, offset: 700, time: 1_700_000_000_000 };
        let block = encode(&[event, event], mark, true);
        let first = Record::checked(&block.bytes).expect("a record");
        assert_eq!((first.mark, first.last, first.header.is_empty()), (mark, false, false));
        let message = [first.header, first.rest].concat();
        let message = Message::read(&message).expect("a message");
        let get = |name| message.annotations.get(name).expect("it is there");
        assert_eq!((get(SEQUENCE).signed(), get(OFFSET).text()), (Some(5), Some("700")));
        assert_eq!((get(ENQUEUED).timestamp(), get(KEY).text()), (Some(mark.time), Some("key")));
        assert_eq!(
            (get("mine").unsigned(), message.annotations.map().expect("a map").pairs().count()),
            (Some(7), 5)
        );
        assert_eq!(message.body().next().and_then(|body| body.binary()), Some(&b"body"[..]));
        let second = Record::checked(&block.bytes[first.length..]).expect("a record");
        assert!(second.last && second.mark == block.last && second.mark.sequence == 6);
        assert_eq!(second.mark.offset, 700 + first.length as u64);
    }

    #[test]
    fn damage_is_seen() {
        let block = block(&["text".to_owned()], Mark::default());
        for at in 0..block.bytes.len() {
            let mut damaged = block.bytes.to_vec();
            damaged[at] ^= 1;
            assert!(Record::checked(&damaged).is_none(), "byte {at}");
            assert!(Record::checked(&block.bytes[..at]).is_none(), "cut at {at}");
        }
    }
}
