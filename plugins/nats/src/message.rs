//! Received messages as the host shows them: parts of the read buffer, without a copy.
//!
//! A message whose headers can't be understood is shown with what could be read, and says so in its metadata.

use std::ops::Range;

use bytes::Bytes;
use tracemq_plugin_api::prelude::{BatchBuilder, MetaValue, Part};
use tracemq_plugin_api::sdk::{BufferId, RecordMut};

use crate::wire::{Block, HeaderError, Line, MessageAt};

/// Adds messages of one read buffer to a batch.
pub struct Filler<'b> {
    builder: &'b mut BatchBuilder,
    block: &'b Bytes,
    buffer: BufferId,
    prefix: &'b [u8],
}

impl<'b> Filler<'b> {
    /// `prefix` is taken off subjects and replies.
    pub fn new(builder: &'b mut BatchBuilder, block: &'b Bytes, prefix: &'b str) -> Filler<'b> {
        let buffer = builder.buffer(block.clone());
        Filler { builder, block, buffer, prefix: prefix.as_bytes() }
    }

    /// `gap`: messages may have been missed before this one, because the connection was lost.
    #[inline]
    pub fn add(&mut self, at: &MessageAt, gap: bool) {
        let mut subject = at.subject();
        let bytes = &self.block[subject.clone()];
        let readable = std::str::from_utf8(bytes).is_ok();
        take_prefix_off(self.prefix, self.block, &mut subject);
        let buffer = self.buffer;
        let mut record = self.builder.add(Part::In(buffer, subject), Part::In(buffer, at.payload()));
        if let Some(mut reply) = at.reply() {
            take_prefix_off(self.prefix, self.block, &mut reply);
            record = record.reply(Part::In(buffer, reply));
        }
        if gap {
            record = record.meta("gap", MetaValue::Bool(true));
        }
        if !readable {
            record = record.meta("malformed", MetaValue::Text("the subject is not UTF-8"));
        }
        if at.has_headers() {
            add_headers(record, buffer, self.block, at);
        }
    }
}

fn take_prefix_off(prefix: &[u8], block: &[u8], subject: &mut Range<usize>) {
    // Most often there is none, and comparing with nothing costs a third of all that is done for a message: glibc's vector
    // loads, masked out as they are, stumble over the address of an empty slice.
    if !prefix.is_empty() && block[subject.clone()].starts_with(prefix) {
        subject.start += prefix.len();
    }
}

fn add_headers(mut record: RecordMut<'_>, buffer: BufferId, block: &[u8], at: &MessageAt) {
    let start = at.headers().start;
    let part = |range: Range<usize>| Part::In(buffer, start + range.start..start + range.end);
    let headers = &block[at.headers()];
    let lines = Block::read(headers);
    if let Some(status) = lines.status {
        record = record.meta("status", MetaValue::Uint(status.into()));
        let description = lines.description();
        if !description.is_empty() {
            record = record.meta("description", MetaValue::Text(&String::from_utf8_lossy(description)));
        }
    }
    let wrong = lines.error.map(|error| match error {
        HeaderError::Version => "the headers do not begin with NATS/1.0",
        HeaderError::Unterminated => "the headers do not end with an empty line",
        HeaderError::Status => "the status in the headers is no number",
    });
    if let Some(text) = wrong {
        record = record.meta("malformed_headers", MetaValue::Text(text));
    }
    let mut malformed = Vec::new();
    for line in lines {
        match line {
            Line::Field { name, value } => record = record.header(part(name), part(value)),
            Line::Malformed(line) => {
                malformed.extend_from_slice(if malformed.is_empty() { b"" } else { b"\n" });
                malformed.extend_from_slice(&headers[line]);
            }
        }
    }
    if !malformed.is_empty() {
        record.meta("malformed_header_lines", MetaValue::Bytes(&malformed));
    }
}
