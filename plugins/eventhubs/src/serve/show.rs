//! Events as the host shows them: parts of the log's bytes. The names of what is shown beside the payload are the client's.
//!
//! What clients write is read no deeper than people would nest: a value that goes on and on costs no stack.

use std::fmt::Write;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, json};
use tracemq_plugin_api::prelude::{BatchBuilder, MetaValue, Part};
use tracemq_plugin_api::sdk::BufferId;
use tracemq_plugin_api::serde_json;

use super::log::Record;
use crate::value::time;
use crate::wire::{Message, Value, code};

/// Deeper than this nobody nests by intention.
const DEEPEST: usize = 16;
/// The annotations that are shown under a name of their own.
const SYSTEM: [&str; 4] =
    ["x-opt-sequence-number", "x-opt-offset", "x-opt-enqueued-time", "x-opt-partition-key"];
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

/// Adds the event that stands in the bytes at `at`. Does nothing for one that can't be read.
pub(super) fn add(
    builder: &mut BatchBuilder,
    (buffer, bytes): (BufferId, &Bytes),
    at: usize,
    record: &Record<'_>,
    (hub, partition, client): (&str, &str, u64),
) {
    let Ok(message) = Message::read(&bytes[at + record.at..at + record.length]) else { return };
    let place = |part: &[u8]| -> Range<usize> {
        // Both are parts of the same bytes.
        let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
        start..start + part.len()
    };
    let mut sections = message.body();
    let first = sections.next();
    let rest: Vec<_> = sections.collect();
    let collected;
    let (payload, kind) = match first {
        Some(section) if section.descriptor() == Some(u64::from(code::VALUE)) => {
            match section.text().map(str::as_bytes).or(section.binary()) {
                Some(bytes) => (Part::In(buffer, place(bytes)), Some("value")),
                None => {
                    collected = text(section).into_bytes();
                    (Part::Copied(&collected), Some("value"))
                }
            }
        }
        Some(section) if section.descriptor() == Some(u64::from(code::SEQUENCE)) => {
            let lists = std::iter::once(section).chain(rest).filter_map(|section| section.list());
            let values: Vec<_> =
                lists.flat_map(|items| items.flatten()).map(|value| nested(value, 1)).collect();
            collected = serde_json::Value::Array(values).to_string().into_bytes();
            (Part::Copied(&collected), Some("sequence"))
        }
        Some(section) if rest.is_empty() => (Part::In(buffer, place(section.data())), None),
        Some(section) => {
            collected =
                std::iter::once(section).chain(rest).flat_map(|section| section.data()).copied().collect();
            (Part::Copied(&collected), None)
        }
        None => (Part::Copied(&[]), None),
    };
    let mut added = builder.add(hub, payload).time(record.mark.time.saturating_mul(1_000_000));
    for (name, value) in message.application.map().into_iter().flat_map(|items| items.pairs()).flatten() {
        let Some(name) = name.text() else { continue };
        let name = Part::In(buffer, place(name.as_bytes()));
        added = match value.text().map(str::as_bytes).or(value.binary()) {
            Some(bytes) => added.header(name, Part::In(buffer, place(bytes))),
            None => added.header(name, text(value).as_str()),
        };
    }
    let properties = message.properties();
    if let Some(reply_to) = properties.reply_to.text() {
        added = added.reply(Part::In(buffer, place(reply_to.as_bytes())));
    }
    added = added
        .meta("client", MetaValue::Uint(client))
        .meta("partition", MetaValue::Text(partition))
        .meta("sequence", MetaValue::Uint(record.mark.sequence))
        .meta("offset", MetaValue::Text(&record.mark.offset.to_string()))
        .meta("enqueued", MetaValue::Text(&time(record.mark.time)));
    if let Some(key) = Record::key(message.annotations) {
        added = added.meta("partition_key", MetaValue::Text(key));
    }
    for (name, value) in PROPERTIES.into_iter().zip(properties.all) {
        if !name.is_empty() && !value.is_null() {
            added = match value.unsigned() {
                Some(number) if name == "group_sequence" => added.meta(name, MetaValue::Uint(number)),
                _ => added.meta(name, MetaValue::Text(&plain(value))),
            };
        }
    }
    if let Some(kind) = kind {
        added = added.meta("body", MetaValue::Text(kind));
    }
    let others: Map<String, serde_json::Value> =
        pairs(message.annotations, 1).filter(|(name, _)| !SYSTEM.contains(&name.as_str())).collect();
    if !others.is_empty() {
        added.meta("annotations", MetaValue::Json(&serde_json::Value::Object(others).to_string()));
    }
}

fn pairs(map: Value<'_>, depth: usize) -> impl Iterator<Item = (String, serde_json::Value)> {
    let pairs = map.map().into_iter().flat_map(|items| items.pairs()).flatten();
    pairs.map(move |(name, value)| (text(name), nested(value, depth)))
}

/// The value as a text: bytes that are one, too.
fn plain(value: Value<'_>) -> String {
    match value.binary() {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => text(value),
    }
}

/// The value as a text: one as it is, the rest as it would stand in JSON.
fn text(value: Value<'_>) -> String {
    match nested(value, 0) {
        serde_json::Value::String(text) => text,
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn nested(value: Value<'_>, depth: usize) -> serde_json::Value {
    if depth > DEEPEST {
        return json!("…");
    }
    if let Some(text) = value.text() {
        return json!(text);
    }
    if let Some(flag) = value.bool() {
        return json!(flag);
    }
    if let Some(milliseconds) = value.timestamp() {
        return json!(time(milliseconds));
    }
    if let Some(number) = value.unsigned() {
        return json!(number);
    }
    if let Some(number) = value.signed() {
        return json!(number);
    }
    if let Some(number) = value.float() {
        return json!(number);
    }
    if let Some(uuid) = value.uuid() {
        let digits = hex(uuid);
        return json!(
            [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
        );
    }
    if let Some(bytes) = value.binary() {
        return json!(STANDARD.encode(bytes));
    }
    if let Some(items) = value.list() {
        return items.flatten().map(|value| nested(value, depth + 1)).collect();
    }
    if value.map().is_some() {
        return pairs(value, depth + 1).collect::<Map<_, _>>().into();
    }
    if value.is_null() {
        return serde_json::Value::Null;
    }
    // Characters, decimals, arrays: rare enough to be shown as their bytes.
    json!(hex(value.data()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::super::log::{Event, Mark, encode};
    use super::*;
    use crate::wire::{Reader, Writer};

    fn shown(message: &[u8], look: impl FnOnce(tracemq_plugin_api::sdk::MessageView<'_>)) {
        let event = Event::new(Message::read(message).expect("a message"), None).expect("an event");
        let mark = Mark { sequence: 7, offset: 70, time: 1_001 };
        let bytes = encode(&[event], mark, false).bytes;
        let mut builder = BatchBuilder::new();
        let buffer = builder.buffer(bytes.clone());
        let record = Record::read(&bytes).expect("a record");
        add(&mut builder, (buffer, &bytes), 0, &record, ("hub", "3", 1));
        let batch = builder.finish();
        look(batch.get(0).expect("a message"));
    }

    #[test]
    fn an_event_with_everything() {
        let mut message = Vec::new();
        let mut writer = Writer::new(&mut message);
        writer.describe(code::MESSAGE_ANNOTATIONS).map(|w| {
            w.symbol("x-opt-partition-key");
            w.string("k");
            w.symbol("x-other");
            w.list(|w| {
                w.uint(1);
                w.null();
            });
        });
        writer.describe(code::PROPERTIES).list(|w| {
            w.ulong(5);
            (0..3).for_each(|_| w.null());
            w.string("answer");
            w.null();
            w.symbol("text/plain");
        });
        writer.describe(code::APPLICATION_PROPERTIES).map(|w| {
            w.string("n");
            w.int(-3);
            w.string("t");
            w.string("x");
        });
        writer.describe(code::DATA).binary(b"a");
        writer.describe(code::DATA).binary(b"b");
        shown(&message, |view| {
            assert_eq!(
                (view.topic(), view.payload(), view.reply()),
                (&b"hub"[..], &b"ab"[..], Some(&b"answer"[..]))
            );
            assert_eq!(view.headers().collect::<Vec<_>>(), [(&b"n"[..], &b"-3"[..]), (b"t", b"x")]);
            let meta: Vec<_> = view.meta().collect();
            for expected in [
                ("client", MetaValue::Uint(1)),
                ("partition", MetaValue::Text("3")),
                ("sequence", MetaValue::Uint(7)),
                ("offset", MetaValue::Text("70")),
                ("enqueued", MetaValue::Text("1970-01-01T00:00:01.001Z")),
                ("partition_key", MetaValue::Text("k")),
                ("message_id", MetaValue::Text("5")),
                ("content_type", MetaValue::Text("text/plain")),
                ("annotations", MetaValue::Json(r#"{"x-other":[1,null]}"#)),
            ] {
                assert!(meta.contains(&expected), "{expected:?} in {meta:?}");
            }
        });
    }

    #[test]
    fn bodies_that_are_no_data() {
        let mut message = Vec::new();
        Writer::new(&mut message).describe(code::VALUE).string("hi");
        shown(&message, |view| assert_eq!(view.payload(), b"hi"));
        message.clear();
        Writer::new(&mut message).describe(code::SEQUENCE).list(|w| {
            w.uint(1);
            w.string("x");
        });
        shown(&message, |view| assert_eq!(view.payload(), br#"[1,"x"]"#));
        shown(&[], |view| assert!(view.payload().is_empty()));
    }

    #[test]
    fn what_nests_for_ever_is_cut() {
        let mut bytes = vec![0x40];
        for _ in 0..2000 {
            let size = (bytes.len() as u32 + 4).to_be_bytes();
            bytes = [&[0xD0][..], &size, &1_u32.to_be_bytes(), &bytes].concat();
        }
        let value = Reader::new(&bytes).value().expect("a value");
        assert!(nested(value, 0).to_string().contains('…'));
    }
}
