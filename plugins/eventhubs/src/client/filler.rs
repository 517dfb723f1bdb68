//! Received messages as the host shows them.
//!
//! What Event Hubs says of an event (partition, sequence number, offset, time, key) becomes metadata of its own; the offset is
//! a text that nothing is read into. Annotations that nobody here knows are shown as they came.

use bytes::Bytes;
use serde_json::Map;
use tracemq_plugin_api::prelude::{BatchBuilder, MetaValue};
use tracemq_plugin_api::serde_json;

use crate::message::Adding;
use crate::value;
use crate::wire::{Malformed, Message, Reader, Value};

/// A message of this size or more is handed over as it is; a smaller one is copied to the others.
const WORTH_KEEPING: usize = 256;

/// Adds the messages of one link to batches.
pub(super) struct Filler {
    topic: String,
    /// `None` for a queue.
    partition: Option<String>,
    clock: Clock,
}

/// What has to be known of a message that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) sequence: Option<i64>,
    /// Bytes of its payload.
    pub(super) size: usize,
}

/// What the service says of an event.
#[derive(Default)]
struct Facts<'a> {
    sequence: Option<i64>,
    offset: Option<&'a str>,
    enqueued: Option<i64>,
    key: Option<&'a str>,
    /// The sequence number of the partition's last event.
    last: Option<i64>,
    others: Map<String, serde_json::Value>,
}

impl<'a> Facts<'a> {
    fn read(message: &Message<'a>) -> Facts<'a> {
        let mut facts = Facts::default();
        for (key, value) in pairs(message.annotations) {
            let (number, text) = (value.signed(), value.text());
            match (key.text().unwrap_or_default(), number, text, value.timestamp()) {
                ("x-opt-sequence-number", Some(number), ..) => facts.sequence = Some(number),
                ("x-opt-offset", _, Some(text), _) => facts.offset = Some(text),
                ("x-opt-enqueued-time", .., Some(time)) => facts.enqueued = Some(time),
                ("x-opt-partition-key", _, Some(text), _) => facts.key = Some(text),
                _ => facts.other(key, value),
            }
        }
        for (key, value) in pairs(message.delivery_annotations) {
            match (key.text().unwrap_or_default(), value.signed()) {
                ("last_enqueued_sequence_number", Some(number)) => facts.last = Some(number),
                (
                    "last_enqueued_offset" | "last_enqueued_time_utc" | "runtime_info_retrieval_time_utc",
                    _,
                ) => {}
                _ => facts.other(key, value),
            }
        }
        facts
    }

    fn other(&mut self, key: Value<'_>, value: Value<'_>) {
        self.others.insert(value::text(key), value::json(value));
    }
}

fn pairs(map: Value<'_>) -> impl Iterator<Item = (Value<'_>, Value<'_>)> {
    map.map().into_iter().flat_map(|items| items.pairs()).flatten()
}

impl Filler {
    pub(super) fn new(topic: String, partition: Option<String>) -> Filler {
        Filler { topic, partition, clock: Clock::default() }
    }

    /// # Errors
    /// The message can't be read; nothing was added.
    pub(super) fn add(&mut self, builder: &mut BatchBuilder, bytes: &Bytes) -> Result<Added, Malformed> {
        let message = Message::read(bytes)?;
        let facts = Facts::read(&message);
        let kept = (bytes.len() >= WORTH_KEEPING).then(|| (builder.buffer(bytes.clone()), bytes));
        let mut adding = Adding::new(builder, &self.topic, message, kept);
        let added = Added { sequence: facts.sequence, size: adding.size() };
        if let Some(partition) = &self.partition {
            adding = adding.meta("partition", MetaValue::Text(partition));
        }
        if let Some(sequence) = facts.sequence {
            adding = adding.meta("sequence", MetaValue::Int(sequence));
        }
        if let Some(offset) = facts.offset {
            adding = adding.meta("offset", MetaValue::Text(offset));
        }
        if let Some(time) = facts.enqueued {
            adding = adding.meta("enqueued", MetaValue::Text(self.clock.text(time)));
        }
        if let Some(key) = facts.key {
            adding = adding.meta("partition_key", MetaValue::Text(key));
        }
        if let (Some(last), Some(sequence)) = (facts.last, facts.sequence) {
            adding = adding.meta("last_sequence", MetaValue::Int(last));
            adding = adding.meta("lag", MetaValue::Int(last.saturating_sub(sequence).max(0)));
        }
        add_header(adding, message.header).finish(facts.others);
        Ok(added)
    }
}

/// Adds what the header section (part 3, section 3.2.1) says beyond the usual.
fn add_header<'b, 'm>(mut adding: Adding<'b, 'm>, header: &[u8]) -> Adding<'b, 'm> {
    let fields = Reader::new(header).value().ok().and_then(|header| header.list()?.fields::<5>().ok());
    let Some([durable, priority, ttl, _, delivery_count]) = fields else { return adding };
    if durable.bool() == Some(true) {
        adding = adding.meta("durable", MetaValue::Bool(true));
    }
    if let Some(priority) = priority.unsigned().filter(|priority| *priority != 4) {
        adding = adding.meta("priority", MetaValue::Uint(priority));
    }
    if let Some(ttl) = ttl.unsigned() {
        adding = adding.meta("ttl_ms", MetaValue::Uint(ttl));
    }
    if let Some(count) = delivery_count.unsigned().filter(|count| *count > 0) {
        adding = adding.meta("delivery_count", MetaValue::Uint(count));
    }
    adding
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
    use crate::wire::{Writer, code};

    fn event(body: impl FnOnce(&mut Writer<'_>)) -> Bytes {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes);
        writer.describe(code::HEADER).list(|w| {
            w.bool(true);
            w.ubyte(4);
        });
        writer.describe(code::DELIVERY_ANNOTATIONS).map(|w| {
            w.symbol("last_enqueued_sequence_number");
            w.long(9);
        });
        writer.describe(code::MESSAGE_ANNOTATIONS).map(|w| {
            w.symbol("x-opt-sequence-number");
            w.long(7);
            w.symbol("x-opt-offset");
            w.string("a/7");
            w.symbol("x-opt-enqueued-time");
            w.timestamp(1_001);
            w.symbol("x-opt-partition-key");
            w.string("k");
            w.symbol("x-other");
            w.symbol("y");
        });
        writer.describe(code::PROPERTIES).list(|w| {
            w.ulong(5);
            (0..3).for_each(|_| w.null());
            w.string("r");
            w.null();
            w.symbol("text/plain");
        });
        writer.describe(code::APPLICATION_PROPERTIES).map(|w| {
            w.string("n");
            w.int(3);
            w.string("t");
            w.string("x");
        });
        body(&mut writer);
        Bytes::from(bytes)
    }

    #[test]
    fn an_event_with_everything() {
        let mut filler = Filler::new("hub".into(), Some("0".into()));
        let mut builder = BatchBuilder::new();
        let two = event(|w| {
            w.describe(code::DATA).binary(&[b'a'; 300]);
            w.describe(code::DATA).binary(b"b");
        });
        let one = event(|w| w.describe(code::DATA).binary(&[b'a'; 300]));
        let small = event(|w| w.describe(code::DATA).binary(b""));
        for (event, size) in [(&two, 301), (&one, 300), (&small, 0)] {
            let added = filler.add(&mut builder, event).expect("it can be read");
            assert_eq!(added, Added { sequence: Some(7), size });
        }
        assert!(filler.add(&mut builder, &Bytes::from_static(b"\x10")).is_err());
        let batch = builder.finish();
        assert_eq!(batch.len(), 3);
        for (index, size) in [301, 300, 0].into_iter().enumerate() {
            let message = batch.get(index).expect("a message");
            assert_eq!((message.topic(), message.payload().len()), (&b"hub"[..], size));
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
                ("durable", MetaValue::Bool(true)),
                ("message_id", MetaValue::Text("5")),
                ("content_type", MetaValue::Text("text/plain")),
                ("annotations", MetaValue::Json(r#"{"x-other":"y"}"#)),
            ] {
                assert!(meta.contains(&expected), "{expected:?} in {meta:?}");
            }
            assert!(meta.iter().all(|(name, _)| *name != "priority"), "{meta:?}");
        }
    }

    #[test]
    fn bodies_that_are_no_data() {
        let shown = |body: &dyn Fn(&mut Writer<'_>)| {
            let mut builder = BatchBuilder::new();
            let event = event(|writer| body(writer));
            Filler::new("q".into(), None).add(&mut builder, &event).expect("it can be read");
            let batch = builder.finish();
            let message = batch.get(0).expect("a message");
            let kind = message.meta().find(|(name, _)| *name == "body").map(|(_, value)| value);
            (String::from_utf8_lossy(message.payload()).into_owned(), kind == Some(MetaValue::Text("value")))
        };
        assert_eq!(shown(&|w| w.describe(code::VALUE).string("hi")), ("hi".into(), true));
        assert_eq!(shown(&|w| w.describe(code::VALUE).int(-3)), ("-3".into(), true));
        let list = |w: &mut Writer<'_>| {
            w.describe(code::SEQUENCE).list(|w| {
                w.int(1);
                w.null();
            });
        };
        assert_eq!(shown(&list), ("[1,null]".into(), false));
        assert_eq!(shown(&|_| {}), (String::new(), false));
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
