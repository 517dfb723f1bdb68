//! Messages as the host shows them, on both sides.
//!
//! They are read where they stand: a batch keeps the bytes that came from the network or the log, and the parts of a message
//! are places in them.

use bytes::Bytes;
use serde_json::Map;
use tracemq_plugin_api::prelude::{BatchBuilder, MetaValue, Part};
use tracemq_plugin_api::sdk::{BufferId, RecordMut};
use tracemq_plugin_api::serde_json;

use crate::value;
use crate::wire::{Kind, Message, Value};

/// The properties (part 3, section 3.2.4) by number; that which is an answer's address is shown as such.
const PROPERTIES: [&str; 13] = [
    "message_id",
    "user_id",
    "to",
    "subject",
    "",
    "correlation_id",
    "content_type",
    "content_encoding",
    "expires",
    "created",
    "group_id",
    "group_sequence",
    "reply_to_group_id",
];

/// A message on its way into a batch: payload, headers and reply address are there, metadata is to come.
pub struct Adding<'b, 'm> {
    record: RecordMut<'b>,
    message: Message<'m>,
    body: Option<&'static str>,
    size: usize,
}

impl<'b, 'm> Adding<'b, 'm> {
    /// `kept`: the batch's buffer in which the message lies. Without it the message is copied.
    pub fn new(
        builder: &'b mut BatchBuilder,
        topic: &str,
        message: Message<'m>,
        kept: Option<(BufferId, &'m Bytes)>,
    ) -> Adding<'b, 'm> {
        let place = |part: &'m [u8]| match kept {
            // What is empty may lie anywhere.
            Some((buffer, bytes)) if !part.is_empty() => {
                let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
                Part::In(buffer, start..start + part.len())
            }
            _ => Part::Copied(part),
        };
        let mut sections = message.body();
        let (first, more) = (sections.next().unwrap_or(Value::NULL), sections.next().is_some());
        let collected: Vec<u8>;
        let (payload, body) = match message.kind() {
            Kind::Empty => (Part::Copied(&[]), None),
            Kind::Data if !more => (place(first.data()), None),
            Kind::Data => {
                collected = message.body().flat_map(|section| section.data()).copied().collect();
                (Part::Copied(&collected), None)
            }
            Kind::Value => match first.bytes() {
                Some(bytes) => (place(bytes), Some("value")),
                None => {
                    collected = value::bytes(first).into_owned();
                    (Part::Copied(&collected), Some("value"))
                }
            },
            Kind::Sequence => {
                let lists = message.body().filter_map(|section| section.list());
                let values: serde_json::Value = lists.flatten().flatten().map(value::json).collect();
                collected = values.to_string().into_bytes();
                (Part::Copied(&collected), Some("sequence"))
            }
        };
        let size = match &payload {
            Part::In(_, range) => range.len(),
            Part::Copied(bytes) => bytes.len(),
            Part::Shared(bytes) => bytes.len(),
        };
        let mut record = builder.add(topic, payload);
        for (name, value) in message.application.map().into_iter().flat_map(|items| items.pairs()).flatten() {
            let other = value::bytes(name);
            let name = match name.bytes() {
                Some(name) => place(name),
                // No text, which it ought to be: it is shown all the same.
                None => Part::Copied(&other),
            };
            record = match value.bytes() {
                Some(bytes) => record.header(name, place(bytes)),
                None => record.header(name, &*value::bytes(value)),
            };
        }
        if let Some(reply_to) = message.properties().reply_to.bytes() {
            record = record.reply(place(reply_to));
        }
        Adding { record, message, body, size }
    }

    /// Bytes of the payload.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Nanoseconds since 1970-01-01 UTC.
    #[cfg(feature = "serve")]
    pub fn time(mut self, time: i64) -> Self {
        self.record = self.record.time(time);
        self
    }

    pub fn meta(mut self, name: &'static str, value: MetaValue<'_>) -> Self {
        self.record = self.record.meta(name, value);
        self
    }

    /// Adds properties, what the body is if not data, and the annotations that have no name of their own.
    pub fn finish(mut self, annotations: Map<String, serde_json::Value>) {
        if !self.message.properties.is_null() {
            for (name, value) in PROPERTIES.into_iter().zip(self.message.properties().all) {
                if name.is_empty() || value.is_null() {
                    continue;
                }
                self = match value.unsigned() {
                    Some(number) if name == "group_sequence" => self.meta(name, MetaValue::Uint(number)),
                    _ => self.meta(name, MetaValue::Text(&value::text(value))),
                };
            }
        }
        if let Some(body) = self.body {
            self = self.meta("body", MetaValue::Text(body));
        }
        if !annotations.is_empty() {
            self.meta("annotations", MetaValue::Json(&serde_json::Value::Object(annotations).to_string()));
        }
    }
}
