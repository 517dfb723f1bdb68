//! Filling a batch without a copy or an allocation per message.
//!
//! A part is either a range of a buffer that was added once ([`BatchBuilder::buffer`]), a `Bytes` of its own, or text that
//! is copied into the batch's arena, which is the batch's buffer number 0. Names of metadata are kept once per batch, and a
//! range of metadata can be shared by many messages.

use crate::abi::{Batch, Buffer, Header, Meta, MetaKind, MetaValue, Record, Slice};
use bytes::Bytes;
use std::ops::Range;

/// A buffer of a batch that is being built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferId(u32);

/// Metadata that several messages of the batch share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaRange {
    start: u32,
    count: u32,
}

/// Where a topic, payload, header or reply comes from.
#[derive(Clone, Debug)]
pub enum Part<'a> {
    /// A range of a buffer added before: nothing is copied.
    In(BufferId, Range<usize>),
    /// Bytes that are kept by reference.
    Shared(Bytes),
    /// Copied into the batch.
    Copied(&'a [u8]),
}

impl<'a> From<&'a str> for Part<'a> {
    fn from(text: &'a str) -> Part<'a> {
        Part::Copied(text.as_bytes())
    }
}

impl<'a> From<&'a [u8]> for Part<'a> {
    fn from(bytes: &'a [u8]) -> Part<'a> {
        Part::Copied(bytes)
    }
}

impl<'a> From<&'a String> for Part<'a> {
    fn from(text: &'a String) -> Part<'a> {
        Part::Copied(text.as_bytes())
    }
}

impl From<Bytes> for Part<'_> {
    fn from(bytes: Bytes) -> Part<'static> {
        Part::Shared(bytes)
    }
}

/// Builds a [`Batch`].
pub struct BatchBuilder {
    batch: Batch,
    arena: Vec<u8>,
    names: Vec<(*const u8, usize, Slice)>,
    time: i64,
}

// SAFETY: the pointers in `names` are only compared, never followed.
unsafe impl Send for BatchBuilder {}

const ARENA: u32 = 0;

impl Default for BatchBuilder {
    fn default() -> BatchBuilder {
        BatchBuilder::with_capacity(0)
    }
}

impl BatchBuilder {
    pub fn new() -> BatchBuilder {
        BatchBuilder::default()
    }

    /// With room for so many messages. Their time is now, until [`BatchBuilder::set_time`] says otherwise.
    pub fn with_capacity(messages: usize) -> BatchBuilder {
        let mut batch = Batch::default();
        batch.records.reserve(messages);
        BatchBuilder { batch, arena: Vec::new(), names: Vec::new(), time: super::now() }
    }

    /// The time of the messages added from here on, in nanoseconds since 1970-01-01 UTC.
    pub fn set_time(&mut self, time: i64) {
        self.time = time;
    }

    /// Says that so many messages were lost since the batch before this one.
    pub fn set_dropped(&mut self, count: u64) {
        self.batch.dropped = count;
    }

    pub fn len(&self) -> usize {
        self.batch.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a buffer whose ranges can be used as parts.
    pub fn buffer(&mut self, bytes: Bytes) -> BufferId {
        self.ensure_arena();
        self.batch.buffers.push(Buffer::from(bytes));
        BufferId((self.batch.buffers.len() - 1) as u32)
    }

    /// Metadata to be given to many messages with [`RecordMut::shared_meta`].
    pub fn meta_range(&mut self, values: &[(&'static str, MetaValue<'_>)]) -> MetaRange {
        let start = self.batch.meta.len() as u32;
        for (name, value) in values {
            self.push_meta(name, *value);
        }
        MetaRange { start, count: values.len() as u32 }
    }

    /// Adds a message.
    pub fn add<'p>(&mut self, topic: impl Into<Part<'p>>, payload: impl Into<Part<'p>>) -> RecordMut<'_> {
        let record = Record {
            topic: self.part(topic.into()),
            payload: self.part(payload.into()),
            reply: Slice::absent(),
            time: self.time,
            headers_start: self.batch.headers.len() as u32,
            headers_count: 0,
            meta_start: self.batch.meta.len() as u32,
            meta_count: 0,
            flags: 0,
            extension: Slice::absent(),
        };
        self.batch.records.push(record);
        RecordMut { builder: self }
    }

    /// The batch. It is empty when nothing was added.
    pub fn finish(mut self) -> Batch {
        if !self.arena.is_empty() {
            self.ensure_arena();
            self.batch.buffers[ARENA as usize] = Buffer::from(Bytes::from(self.arena));
        }
        self.batch
    }

    /// Buffer 0 is set aside for the arena, so that its slices can be written before it is complete.
    fn ensure_arena(&mut self) {
        if self.batch.buffers.is_empty() {
            self.batch.buffers.push(Buffer::from(Bytes::new()));
        }
    }

    fn part(&mut self, part: Part<'_>) -> Slice {
        match part {
            Part::In(buffer, range) => {
                Slice { buffer: buffer.0, start: range.start as u32, length: range.len() as u32 }
            }
            Part::Shared(bytes) => {
                let length = bytes.len() as u32;
                Slice { buffer: self.buffer(bytes).0, start: 0, length }
            }
            Part::Copied(bytes) => {
                let start = self.arena.len() as u32;
                self.arena.extend_from_slice(bytes);
                Slice { buffer: ARENA, start, length: bytes.len() as u32 }
            }
        }
    }

    fn name(&mut self, name: &'static str) -> Slice {
        let known = self
            .names
            .iter()
            .find(|(at, length, _)| std::ptr::eq(*at, name.as_ptr()) && *length == name.len());
        if let Some((_, _, slice)) = known {
            return *slice;
        }
        let slice = self.part(Part::Copied(name.as_bytes()));
        self.names.push((name.as_ptr(), name.len(), slice));
        slice
    }

    fn push_meta(&mut self, name: &'static str, value: MetaValue<'_>) {
        let name = self.name(name);
        let (kind, bits, text) = match value {
            MetaValue::Bool(value) => (MetaKind::BOOL, u64::from(value), Slice::absent()),
            MetaValue::Int(value) => (MetaKind::INT, value as u64, Slice::absent()),
            MetaValue::Uint(value) => (MetaKind::UINT, value, Slice::absent()),
            MetaValue::Float(value) => (MetaKind::FLOAT, value.to_bits(), Slice::absent()),
            MetaValue::Text(value) => (MetaKind::TEXT, 0, self.part(Part::Copied(value.as_bytes()))),
            MetaValue::Bytes(value) => (MetaKind::BYTES, 0, self.part(Part::Copied(value))),
            MetaValue::Json(value) => (MetaKind::JSON, 0, self.part(Part::Copied(value.as_bytes()))),
        };
        self.batch.meta.push(Meta { name, kind, bits, text });
    }
}

/// The message added last.
pub struct RecordMut<'b> {
    builder: &'b mut BatchBuilder,
}

impl RecordMut<'_> {
    fn record(&mut self) -> &mut Record {
        let last = self.builder.batch.records.len() - 1;
        &mut self.builder.batch.records[last]
    }

    /// Where an answer is to be sent.
    pub fn reply<'p>(mut self, reply: impl Into<Part<'p>>) -> Self {
        let slice = self.builder.part(reply.into());
        self.record().reply = slice;
        self
    }

    pub fn header<'p>(mut self, name: impl Into<Part<'p>>, value: impl Into<Part<'p>>) -> Self {
        let header = Header { name: self.builder.part(name.into()), value: self.builder.part(value.into()) };
        self.builder.batch.headers.push(header);
        self.record().headers_count += 1;
        self
    }

    /// Adds one value of metadata. Not to be mixed with [`RecordMut::shared_meta`] on one message.
    pub fn meta(mut self, name: &'static str, value: MetaValue<'_>) -> Self {
        self.builder.push_meta(name, value);
        self.record().meta_count += 1;
        self
    }

    pub fn shared_meta(mut self, range: MetaRange) -> Self {
        let record = self.record();
        (record.meta_start, record.meta_count) = (range.start, range.count);
        self
    }

    /// Nanoseconds since 1970-01-01 UTC.
    pub fn time(mut self, time: i64) -> Self {
        self.record().time = time;
        self
    }
}
