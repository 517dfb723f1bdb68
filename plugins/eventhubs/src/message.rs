//! Received messages as the host shows them.
//!
//! What Event Hubs says of an event (partition, sequence number, offset, time, key) becomes metadata of its own; the offset is
//! a text that nothing is read into. Annotations that nobody here knows are shown as they came.

use bytes::Bytes;
use fe2o3_amqp_types::messaging::annotations::OwnedKey;
use fe2o3_amqp_types::messaging::{Body, Message, Properties};
use serde_amqp::Value;
use serde_json::Map;
use tracemq_plugin_api::prelude::{BatchBuilder, MetaValue, Part};
use tracemq_plugin_api::sdk::RecordMut;

use crate::value;

/// A payload of this size or more is handed over as it is; a smaller one is copied to the others.
const WORTH_KEEPING: usize = 256;

/// Adds the messages of one link to batches.
pub struct Filler {
    topic: String,
    /// `None` for a queue.
    partition: Option<String>,
    clock: Clock,
}

/// What has to be known of a message that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    pub sequence: Option<i64>,
    /// Bytes of its payload.
    pub size: usize,
}

/// What the service says of an event.
#[derive(Default)]
struct Facts {
    sequence: Option<i64>,
    offset: Option<String>,
    enqueued: Option<i64>,
    key: Option<String>,
    /// The sequence number of the partition's last event.
    last: Option<i64>,
    others: Map<String, serde_json::Value>,
}

impl Facts {
    fn read(message: &mut Message<Body<Value>>) -> Facts {
        let mut facts = Facts::default();
        for (key, value) in message.message_annotations.take().into_iter().flat_map(|map| map.0) {
            let name = if let OwnedKey::Symbol(name) = &key { name.as_str() } else { "" };
            match (name, value) {
                ("x-opt-sequence-number", Value::Long(number)) => facts.sequence = Some(number),
                ("x-opt-offset", Value::String(text)) => facts.offset = Some(text),
                ("x-opt-enqueued-time", Value::Timestamp(time)) => facts.enqueued = Some(time.milliseconds()),
                ("x-opt-partition-key", Value::String(text)) => facts.key = Some(text),
                (_, value) => drop(facts.others.insert(value::key_text(&key), value::json(&value))),
            }
        }
        for (key, value) in message.delivery_annotations.take().into_iter().flat_map(|map| map.0) {
            let name = if let OwnedKey::Symbol(name) = &key { name.as_str() } else { "" };
            match (name, value) {
                ("last_enqueued_sequence_number", Value::Long(number)) => facts.last = Some(number),
                (
                    "last_enqueued_offset" | "last_enqueued_time_utc" | "runtime_info_retrieval_time_utc",
                    _,
                ) => {}
                (_, value) => drop(facts.others.insert(value::key_text(&key), value::json(&value))),
            }
        }
        facts
    }
}

impl Filler {
    pub fn new(topic: String, partition: Option<String>) -> Filler {
        Filler { topic, partition, clock: Clock::default() }
    }

    pub fn add(&mut self, builder: &mut BatchBuilder, mut message: Message<Body<Value>>) -> Added {
        let facts = Facts::read(&mut message);
        let (payload, body) = payload(message.body);
        let size = payload.len();
        let topic = Part::from(&self.topic);
        let mut record = match size < WORTH_KEEPING {
            true => builder.add(topic, Part::Copied(&payload)),
            false => builder.add(topic, Part::Shared(Bytes::from(payload))),
        };
        for (name, value) in message.application_properties.into_iter().flat_map(|map| map.0) {
            let value = value::simple_bytes(value);
            record = record.header(&name, value.as_slice());
        }
        if let Some(partition) = &self.partition {
            record = record.meta("partition", MetaValue::Text(partition));
        }
        if let Some(sequence) = facts.sequence {
            record = record.meta("sequence", MetaValue::Int(sequence));
        }
        if let Some(offset) = &facts.offset {
            record = record.meta("offset", MetaValue::Text(offset));
        }
        if let Some(time) = facts.enqueued {
            record = record.meta("enqueued", MetaValue::Text(self.clock.text(time)));
        }
        if let Some(key) = &facts.key {
            record = record.meta("partition_key", MetaValue::Text(key));
        }
        if let (Some(last), Some(sequence)) = (facts.last, facts.sequence) {
            record = record.meta("last_sequence", MetaValue::Int(last));
            record = record.meta("lag", MetaValue::Int(last.saturating_sub(sequence).max(0)));
        }
        if let Some(header) = &message.header {
            if header.durable {
                record = record.meta("durable", MetaValue::Bool(true));
            }
            if header.priority.0 != 4 {
                record = record.meta("priority", MetaValue::Uint(header.priority.0.into()));
            }
            if let Some(ttl) = header.ttl {
                record = record.meta("ttl_ms", MetaValue::Uint(ttl.into()));
            }
            if header.delivery_count > 0 {
                record = record.meta("delivery_count", MetaValue::Uint(header.delivery_count.into()));
            }
        }
        if let Some(properties) = &message.properties {
            record = add_properties(record, properties);
        }
        if let Some(body) = body {
            record = record.meta("body", MetaValue::Text(body));
        }
        if !facts.others.is_empty() {
            let text = serde_json::Value::Object(facts.others).to_string();
            record.meta("annotations", MetaValue::Json(&text));
        }
        Added { sequence: facts.sequence, size }
    }
}

fn add_properties<'b>(mut record: RecordMut<'b>, properties: &Properties) -> RecordMut<'b> {
    if let Some(reply_to) = &properties.reply_to {
        record = record.reply(reply_to);
    }
    let texts = [
        ("message_id", properties.message_id.as_ref().map(value::id_text)),
        ("correlation_id", properties.correlation_id.as_ref().map(value::id_text)),
        ("content_type", properties.content_type.as_ref().map(|text| text.as_str().to_owned())),
        ("content_encoding", properties.content_encoding.as_ref().map(|text| text.as_str().to_owned())),
        ("subject", properties.subject.clone()),
        ("to", properties.to.clone()),
        ("user_id", properties.user_id.as_ref().map(|id| String::from_utf8_lossy(id).into_owned())),
        ("group_id", properties.group_id.clone()),
        ("reply_to_group_id", properties.reply_to_group_id.clone()),
        ("created", properties.creation_time.as_ref().map(|time| value::time(time.milliseconds()))),
        ("expires", properties.absolute_expiry_time.as_ref().map(|time| value::time(time.milliseconds()))),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            record = record.meta(name, MetaValue::Text(&text));
        }
    }
    match properties.group_sequence {
        Some(number) => record.meta("group_sequence", MetaValue::Uint(number.into())),
        None => record,
    }
}

/// The body as bytes, and what it was if not data.
fn payload(body: Body<Value>) -> (Vec<u8>, Option<&'static str>) {
    match body {
        Body::Data(sections) => {
            let mut sections = sections.into_iter().map(|data| data.0.into_vec());
            let mut first = sections.next().unwrap_or_default();
            sections.for_each(|section| first.extend_from_slice(&section));
            (first, None)
        }
        Body::Value(value) => (value::bytes(value.0), Some("value")),
        Body::Sequence(sections) => {
            let values =
                sections.into_iter().flat_map(|sequence| sequence.0).map(|value| value::json(&value));
            (serde_json::Value::Array(values.collect()).to_string().into_bytes(), Some("sequence"))
        }
        Body::Empty => (Vec::new(), None),
    }
}

/// Writes times. Those of one second share their beginning, and events come many a second.
#[derive(Default)]
struct Clock {
    second: i64,
    text: String,
}

/// Where the milliseconds stand in `2026-11-22T10:00:00.123Z`.
const MILLIS: std::ops::Range<usize> = 20..23;
const LENGTH: usize = 24;

impl Clock {
    fn text(&mut self, milliseconds: i64) -> &str {
        let (second, millis) = (milliseconds.div_euclid(1000), milliseconds.rem_euclid(1000));
        if second != self.second || self.text.len() != LENGTH {
            (self.second, self.text) = (second, value::time(milliseconds));
            return &self.text;
        }
        let digit = |place: i64| char::from(b'0' + u8::try_from(millis / place % 10).unwrap_or(0));
        let digits: [char; 3] = [100, 10, 1].map(digit);
        let mut buffer = [0; 3];
        for (at, digit) in buffer.iter_mut().zip(digits) {
            *at = digit as u8;
        }
        self.text.replace_range(MILLIS, std::str::from_utf8(&buffer).unwrap_or("000"));
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fe2o3_amqp_types::messaging::{
        ApplicationProperties, Batch, Data, DeliveryAnnotations, MessageAnnotations,
    };
    use serde_amqp::primitives::{Symbol, Timestamp};

    fn event(body: Body<Value>) -> Message<Body<Value>> {
        Message::builder()
            .message_annotations(
                MessageAnnotations::builder()
                    .insert("x-opt-sequence-number", Value::Long(7))
                    .insert("x-opt-offset", Value::String("a/7".into()))
                    .insert("x-opt-enqueued-time", Value::Timestamp(Timestamp::from_milliseconds(1_001)))
                    .insert("x-opt-partition-key", Value::String("k".into()))
                    .insert("x-other", Value::Symbol(Symbol::from("y")))
                    .build(),
            )
            .delivery_annotations(
                DeliveryAnnotations::builder()
                    .insert("last_enqueued_sequence_number", Value::Long(9))
                    .build(),
            )
            .properties(
                Properties::builder().message_id(5_u64).content_type("text/plain").reply_to("r").build(),
            )
            .application_properties(
                ApplicationProperties::builder().insert("n", 3_i32).insert("t", "x").build(),
            )
            .body(body)
            .build()
    }

    #[test]
    fn an_event_with_everything() {
        let mut filler = Filler::new("hub".into(), Some("0".into()));
        let mut builder = BatchBuilder::new();
        let body = Body::Data(Batch::new(vec![Data::from(vec![b'a'; 300]), Data::from(vec![b'b'])]));
        let added = filler.add(&mut builder, event(body));
        assert_eq!(added, Added { sequence: Some(7), size: 301 });
        let batch = builder.finish();
        let message = batch.get(0).expect("one message");
        assert_eq!((message.topic(), message.payload().len()), (&b"hub"[..], 301));
        assert_eq!(message.reply(), Some(&b"r"[..]));
        let headers: Vec<_> = message.headers().collect();
        assert_eq!(headers, [(&b"n"[..], &b"3"[..]), (&b"t"[..], &b"x"[..])]);
        let meta: Vec<_> = message.meta().collect();
        for expected in [
            ("partition", MetaValue::Text("0")),
            ("sequence", MetaValue::Int(7)),
            ("offset", MetaValue::Text("a/7")),
            ("enqueued", MetaValue::Text("1970-01-01T00:00:01.001Z")),
            ("partition_key", MetaValue::Text("k")),
            ("lag", MetaValue::Int(2)),
            ("message_id", MetaValue::Text("5")),
            ("content_type", MetaValue::Text("text/plain")),
            ("annotations", MetaValue::Json(r#"{"x-other":"y"}"#)),
        ] {
            assert!(meta.contains(&expected), "{expected:?} in {meta:?}");
        }
    }

    #[test]
    fn bodies_that_are_no_data() {
        let shown = |body| {
            let (payload, kind) = payload(body);
            (String::from_utf8(payload).expect("text"), kind)
        };
        assert_eq!(shown(Body::from(Value::String("hi".into()))), ("hi".into(), Some("value")));
        assert_eq!(shown(Body::from([Value::Int(1), Value::Null])), ("[1,null]".into(), Some("sequence")));
        assert_eq!(shown(Body::Empty), (String::new(), None));
    }

    #[test]
    fn the_clock_is_right_within_and_across_seconds() {
        let mut clock = Clock::default();
        for time in
            [0, 5, 999, 1_000, 1_042, -1, 1_700_000_000_123, 1_700_000_000_007, i64::MAX, i64::MAX - 1, 3]
        {
            assert_eq!(clock.text(time), value::time(time));
        }
    }
}
