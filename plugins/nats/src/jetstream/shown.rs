//! A message of a stream, or a change of a bucket, as the host shows it.

use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::MessageView;

use super::position::{Position, timestamp};

/// Adds a message of a stream; with `bucket` it is the stream behind that bucket. `gap`: messages may be missing before it.
pub(super) fn show(
    batch: &mut BatchBuilder,
    message: &MessageView<'_>,
    position: &Position<'_>,
    bucket: Option<&str>,
    gap: bool,
) {
    batch.set_time(message.time());
    let payload = Part::Shared(message.payload_bytes());
    let mut record = match bucket {
        Some(bucket) => {
            let topic = message.topic();
            let key = topic.get("$KV..".len() + bucket.len()..).unwrap_or(topic);
            let operation = message.headers().find(|(name, _)| *name == b"KV-Operation");
            let operation = operation.and_then(|(_, value)| std::str::from_utf8(value).ok()).unwrap_or("PUT");
            batch
                .add(key, payload)
                .meta("bucket", MetaValue::Text(bucket))
                .meta("operation", MetaValue::Text(operation))
                .meta("revision", MetaValue::Uint(position.sequence))
        }
        None => batch
            .add(message.topic(), payload)
            .meta("stream", MetaValue::Text(position.stream))
            .meta("consumer", MetaValue::Text(position.consumer))
            .meta("sequence", MetaValue::Uint(position.sequence)),
    };
    record = record
        .meta("pending", MetaValue::Uint(position.pending))
        .meta("timestamp", MetaValue::Text(&timestamp(position.time)))
        .meta("delivered", MetaValue::Uint(position.delivered));
    if gap {
        record = record.meta("gap", MetaValue::Bool(true));
    }
    for (name, value) in message.meta() {
        // What could not be read of it is shown as for any message.
        let known = ["malformed", "malformed_headers", "malformed_header_lines"];
        if let Some(name) = known.into_iter().find(|known| *known == name) {
            record = record.meta(name, value);
        }
    }
    for (name, value) in message.headers() {
        record = record.header(name, value);
    }
}
