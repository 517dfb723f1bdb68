//! From the host's messages to transfers: events of a hub in batches, as large as the link takes, messages to a queue one by
//! one.

use std::ops::Range;

use fe2o3_amqp::Sendable;
use fe2o3_amqp_types::messaging::{Batch as Sections, Body, Data, Message};
use serde_amqp::Value;
use tracemq_plugin_api::prelude::*;

use crate::publish::PublishOptions;

/// `com.microsoft:batch`: each data section is a message.
const BATCH_FORMAT: u32 = 0x8001_3700;
/// Of a section, and of what stands round all of them.
const SECTION: usize = 8;
const ENVELOPE: usize = 512;
/// What Event Hubs take when the link does not say.
pub(super) const USUAL_LIMIT: usize = 1 << 20;

/// The next transfer, or why a message can't be one.
pub(super) enum Packed {
    Transfer { messages: Range<usize>, sendable: Box<Sendable<Body<Value>>>, size: usize },
    Refused { message: usize, reason: String },
}

/// Packs messages of a batch from `from` on, all to one address, that ends before `end`. `limit` is in bytes, for the whole
/// transfer.
pub(super) fn pack(
    batch: &Batch,
    messages: Range<usize>,
    options: &PublishOptions,
    limit: Option<usize>,
    joined: bool,
) -> Packed {
    let first = messages.start;
    if !joined || messages.len() == 1 {
        return single(batch, first, options, limit);
    }
    let limit = limit.unwrap_or(USUAL_LIMIT);
    let room = limit.saturating_sub(ENVELOPE);
    let mut sections = Vec::new();
    let mut size = 0;
    for index in messages {
        let Some(message) = batch.get(index) else { break };
        // Before it is copied: what is larger than a whole transfer is not worth it.
        let encoded = match message.payload().len() > limit {
            true => None,
            false => options.encoded(&message).ok(),
        };
        match encoded {
            Some(encoded) if size + encoded.len() + SECTION <= room => {
                size += encoded.len() + SECTION;
                sections.push(Data::from(encoded));
            }
            _ => break,
        }
    }
    let end = first + sections.len();
    match sections.len() {
        // By itself it may just fit, and if not, this says why.
        0 | 1 => single(batch, first, options, Some(limit)),
        _ => {
            let message = Message {
                header: None,
                delivery_annotations: None,
                message_annotations: options.annotations(),
                properties: None,
                application_properties: None,
                body: Body::Data(Sections::new(sections)),
                footer: None,
            };
            let sendable = Box::new(Sendable { message, message_format: BATCH_FORMAT, settled: None });
            Packed::Transfer { messages: first..end, sendable, size: size + ENVELOPE }
        }
    }
}

fn single(batch: &Batch, index: usize, options: &PublishOptions, limit: Option<usize>) -> Packed {
    let refused = |reason: String| Packed::Refused { message: index, reason };
    let Some(message) = batch.get(index) else { return refused("there is no such message".into()) };
    let bytes = message.payload().len();
    if let Some(limit) = limit.filter(|limit| bytes > *limit) {
        return refused(too_large(bytes as u64, limit as u64));
    }
    match options.message(&message) {
        Ok(found) => Packed::Transfer {
            messages: index..index + 1,
            sendable: Box::new(Sendable {
                message: found.map_body(|data| Body::Data(Sections::new(vec![data]))),
                message_format: 0,
                settled: None,
            }),
            size: bytes + ENVELOPE,
        },
        Err(reason) => refused(reason),
    }
}

/// The reason for which an event is refused that the link's max-message-size has no room for.
pub(super) fn too_large(bytes: u64, limit: u64) -> String {
    format!("it has {bytes} bytes, and the server takes messages of at most {limit} (max-message-size)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(sizes: &[usize]) -> Batch {
        let mut builder = BatchBuilder::new();
        for size in sizes {
            builder.add("h", vec![b'x'; *size].as_slice());
        }
        builder.finish()
    }

    /// The ranges of the transfers, and which messages were refused.
    fn plan(sizes: &[usize], limit: usize, joined: bool) -> (Vec<Range<usize>>, Vec<usize>) {
        let batch = batch(sizes);
        let (mut ranges, mut refused, mut at) = (Vec::new(), Vec::new(), 0);
        while at < sizes.len() {
            match pack(&batch, at..sizes.len(), &PublishOptions::default(), Some(limit), joined) {
                Packed::Transfer { messages, size, .. } => {
                    assert!(messages.start == at && messages.end > at && size <= limit + ENVELOPE);
                    at = messages.end;
                    ranges.push(messages);
                }
                Packed::Refused { message, reason } => {
                    assert!(message == at && reason.contains("max-message-size"), "{reason}");
                    refused.push(message);
                    at += 1;
                }
            }
        }
        (ranges, refused)
    }

    #[test]
    fn events_are_joined_up_to_the_limit() {
        let (ranges, refused) = plan(&[100; 10], 10_000, true);
        assert!(ranges.len() == 1 && ranges[0] == (0..10) && refused.is_empty());
        assert_eq!(plan(&[1000; 10], 5_000, true), (vec![0..4, 4..8, 8..10], vec![]));
        assert_eq!(plan(&[1000; 3], 5_000, false), (vec![0..1, 1..2, 2..3], vec![]));
    }

    #[test]
    fn what_is_too_large_is_refused_by_itself() {
        assert_eq!(plan(&[10, 10, 6_000, 10, 10], 5_000, true), (vec![0..2, 3..5], vec![2]));
        assert_eq!(plan(&[6_000], 5_000, false), (vec![], vec![0]));
        // Too large for a batch, not for a transfer.
        assert_eq!(plan(&[4_900, 10], 5_000, true), (vec![0..1, 1..2], vec![]));
    }
}
