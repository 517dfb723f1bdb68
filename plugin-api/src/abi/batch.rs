//! Up to [`MAX_BATCH`] messages that cross in one call.
//!
//! A batch is a list of ref-counted buffers and a list of fixed-size records whose parts are (buffer, start, length).
//! 256 messages parsed out of one read buffer cross as one reference to it, with no allocation or copy a message.
//! Headers and metadata stand in lists of their own, and a record names a range of them, so that records may share
//! one range.

use super::{Buffer, Extension};
use abi_stable::StableAbi;
use abi_stable::std_types::RVec;

/// The most messages that one call hands over.
pub const MAX_BATCH: usize = 256;

/// A part of one of a batch's buffers. `buffer` is [`Slice::NONE`] when the part is absent.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    pub buffer: u32,
    pub start: u32,
    pub length: u32,
}

impl Slice {
    pub const NONE: u32 = u32::MAX;

    pub const fn absent() -> Slice {
        Slice { buffer: Slice::NONE, start: 0, length: 0 }
    }
}

/// One message, by reference into its batch.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Record {
    pub topic: Slice,
    pub payload: Slice,
    /// Where an answer is to be sent, in the protocol's own terms.
    pub reply: Slice,
    /// Nanoseconds since 1970-01-01 UTC at which the message was received, or is to be said to have been sent.
    pub time: i64,
    pub headers_start: u32,
    pub headers_count: u32,
    pub meta_start: u32,
    pub meta_count: u32,
    /// No flag is defined by 1.0; unknown ones are ignored.
    pub flags: u32,
    /// Reserved for what later versions add to a message.
    pub extension: Slice,
}

#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Header {
    pub name: Slice,
    pub value: Slice,
}

/// The type of a metadata value. An unknown number is data of a later version and is skipped.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaKind(pub u32);

impl MetaKind {
    pub const BOOL: MetaKind = MetaKind(1);
    pub const INT: MetaKind = MetaKind(2);
    pub const UINT: MetaKind = MetaKind(3);
    pub const FLOAT: MetaKind = MetaKind(4);
    pub const TEXT: MetaKind = MetaKind(5);
    pub const BYTES: MetaKind = MetaKind(6);
    pub const JSON: MetaKind = MetaKind(7);
}

/// One thing that the protocol says about a message: `qos`, `partition`, `code`.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Meta {
    pub name: Slice,
    pub kind: MetaKind,
    pub bits: u64,
    pub text: Slice,
}

/// A metadata value, read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetaValue<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// A JSON text, for values with a structure of their own.
    Json(&'a str),
}

/// Messages, in order, and how many were lost just before them.
#[repr(C)]
#[derive(StableAbi, Clone)]
pub struct Batch {
    pub(crate) buffers: RVec<Buffer>,
    pub(crate) records: RVec<Record>,
    pub(crate) headers: RVec<Header>,
    pub(crate) meta: RVec<Meta>,
    pub(crate) dropped: u64,
    pub(crate) flags: u32,
    pub(crate) extensions: RVec<Extension>,
}

const END: u32 = 1;

impl Default for Batch {
    fn default() -> Batch {
        Batch {
            buffers: RVec::new(),
            records: RVec::new(),
            headers: RVec::new(),
            meta: RVec::new(),
            dropped: 0,
            flags: 0,
            extensions: RVec::new(),
        }
    }
}

impl Batch {
    /// The batch that says that no other will follow.
    pub fn end() -> Batch {
        Batch { flags: END, ..Batch::default() }
    }

    pub fn is_end(&self) -> bool {
        self.flags & END != 0
    }

    /// Messages that the plugin had to drop between the batch before this one and this one.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub fn get(&self, index: usize) -> Option<MessageView<'_>> {
        self.records.get(index).map(|record| MessageView { batch: self, record })
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = MessageView<'_>> {
        self.records.iter().map(|record| MessageView { batch: self, record })
    }

    /// Takes the first `count` messages out; both batches go on sharing the buffers.
    pub fn split_to(&mut self, count: usize) -> Batch {
        let count = count.min(self.records.len());
        let mut head = self.clone();
        head.records.truncate(count);
        self.records.drain(..count);
        self.dropped = 0;
        head.flags &= !END;
        head
    }

    /// The messages for which `keep` holds, sharing the buffers.
    pub fn filter(&self, keep: impl Fn(&MessageView<'_>) -> bool) -> Batch {
        let mut kept = self.clone();
        kept.records = self
            .records
            .iter()
            .filter(|record| keep(&MessageView { batch: self, record }))
            .copied()
            .collect();
        kept
    }

    /// Makes [`MessageView::payload_bytes`] cheap for every message that shares a buffer with others: what the other side of
    /// the boundary owns is wrapped once a buffer, and no longer once a message.
    pub fn adopt(&mut self) {
        for buffer in &mut self.buffers {
            buffer.adopt();
        }
    }

    /// A part's bytes. What a faulty plugin points outside of its buffers reads as empty.
    fn slice(&self, slice: Slice) -> &[u8] {
        let end = slice.start as usize + slice.length as usize;
        self.buffers
            .get(slice.buffer as usize)
            .and_then(|buffer| buffer.as_slice().get(slice.start as usize..end))
            .unwrap_or_default()
    }

    fn text(&self, slice: Slice) -> &str {
        std::str::from_utf8(self.slice(slice)).unwrap_or_default()
    }

    /// The part as ref-counted bytes that may outlive the batch. They keep the whole buffer alive.
    fn bytes(&self, slice: Slice) -> bytes::Bytes {
        let (start, end) = (slice.start as usize, slice.start as usize + slice.length as usize);
        match self.buffers.get(slice.buffer as usize) {
            Some(buffer) if end <= buffer.as_slice().len() => buffer.to_bytes().slice(start..end),
            _ => bytes::Bytes::new(),
        }
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch({} messages)", self.len())
    }
}

/// One message of a batch.
#[derive(Clone, Copy)]
pub struct MessageView<'a> {
    batch: &'a Batch,
    record: &'a Record,
}

impl<'a> MessageView<'a> {
    pub fn topic(&self) -> &'a [u8] {
        self.batch.slice(self.record.topic)
    }

    pub fn topic_text(&self) -> std::borrow::Cow<'a, str> {
        String::from_utf8_lossy(self.topic())
    }

    pub fn payload(&self) -> &'a [u8] {
        self.batch.slice(self.record.payload)
    }

    /// The payload as ref-counted bytes, for keeping it longer than the batch.
    pub fn payload_bytes(&self) -> bytes::Bytes {
        self.batch.bytes(self.record.payload)
    }

    pub fn reply(&self) -> Option<&'a [u8]> {
        (self.record.reply.buffer != Slice::NONE).then(|| self.batch.slice(self.record.reply))
    }

    /// Nanoseconds since 1970-01-01 UTC.
    pub fn time(&self) -> i64 {
        self.record.time
    }

    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let batch = self.batch;
        range(&batch.headers, self.record.headers_start, self.record.headers_count)
            .iter()
            .map(move |header| (batch.slice(header.name), batch.slice(header.value)))
    }

    pub fn meta(&self) -> impl Iterator<Item = (&'a str, MetaValue<'a>)> + use<'a> {
        let batch = self.batch;
        range(&batch.meta, self.record.meta_start, self.record.meta_count)
            .iter()
            .filter_map(move |meta| Some((batch.text(meta.name), meta.value(batch)?)))
    }
}

impl Meta {
    fn value<'a>(&self, batch: &'a Batch) -> Option<MetaValue<'a>> {
        Some(match self.kind {
            MetaKind::BOOL => MetaValue::Bool(self.bits != 0),
            MetaKind::INT => MetaValue::Int(self.bits as i64),
            MetaKind::UINT => MetaValue::Uint(self.bits),
            MetaKind::FLOAT => MetaValue::Float(f64::from_bits(self.bits)),
            MetaKind::TEXT => MetaValue::Text(batch.text(self.text)),
            MetaKind::BYTES => MetaValue::Bytes(batch.slice(self.text)),
            MetaKind::JSON => MetaValue::Json(batch.text(self.text)),
            _ => return None,
        })
    }
}

fn range<T>(list: &RVec<T>, start: u32, count: u32) -> &[T] {
    list.as_slice().get(start as usize..start as usize + count as usize).unwrap_or_default()
}
