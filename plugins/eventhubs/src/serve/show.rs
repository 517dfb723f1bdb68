//! Events as the host shows them: parts of the log's bytes. The names of what is shown beside the payload are the client's.

use bytes::Bytes;
use tracemq_plugin_api::prelude::{BatchBuilder, MetaValue};
use tracemq_plugin_api::sdk::BufferId;

use super::log::Record;
use crate::message::Adding;
use crate::value;
use crate::wire::Message;

/// The annotations that are shown under a name of their own.
const SYSTEM: [&str; 4] =
    ["x-opt-sequence-number", "x-opt-offset", "x-opt-enqueued-time", "x-opt-partition-key"];

/// Adds the event that stands in the bytes at `at`. Does nothing for one that can't be read.
pub(super) fn add(
    builder: &mut BatchBuilder,
    (buffer, bytes): (BufferId, &Bytes),
    at: usize,
    record: &Record<'_>,
    (hub, partition, client): (&str, &str, u64),
) {
    let Ok(message) = Message::read(&bytes[at + record.at..at + record.length]) else { return };
    let mut adding = Adding::new(builder, hub, message, Some((buffer, bytes)))
        .time(record.mark.time.saturating_mul(1_000_000))
        .meta("client", MetaValue::Uint(client))
        .meta("partition", MetaValue::Text(partition))
        .meta("sequence", MetaValue::Uint(record.mark.sequence))
        .meta("offset", MetaValue::Text(&record.mark.offset.to_string()))
        .meta("enqueued", MetaValue::Text(&value::time(record.mark.time)));
    if let Some(key) = Record::key(message.annotations) {
        adding = adding.meta("partition_key", MetaValue::Text(key));
    }
    let others = value::pairs(message.annotations).filter(|(name, _)| !SYSTEM.contains(&name.as_str()));
    adding.finish(others.collect());
}

#[cfg(test)]
mod tests {
    use super::super::log::{Event, Mark, encode};
    use super::*;
    use crate::wire::{Writer, code};

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
}
