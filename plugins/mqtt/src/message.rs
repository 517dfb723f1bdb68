//! From a received PUBLISH to a message of a batch: topic and payload as slices of the read buffer.
//!
//! What MQTT says of a message becomes its metadata. Without properties there are few combinations of QoS, retain and dup,
//! so their metadata is written once per batch and shared.

use bytes::Bytes;
use tracemq_plugin_api::sdk::{Batch, BatchBuilder, BufferId, MetaRange, MetaValue, Part};

use crate::session::{Message, Topic};
use crate::wire::{Properties, Property, QoS};

/// Fills a batch from the PUBLISH packets of one read buffer.
pub struct Filler {
    builder: BatchBuilder,
    buffer: BufferId,
    shared: [Option<MetaRange>; 12],
}

impl Filler {
    /// For the packets of one read buffer, `count` of them.
    pub fn new(buffer: Bytes, count: usize) -> Filler {
        let mut builder = BatchBuilder::with_capacity(count);
        let buffer = builder.buffer(buffer);
        Filler { builder, buffer, shared: [None; 12] }
    }

    pub fn is_empty(&self) -> bool {
        self.builder.is_empty()
    }

    /// Adds a message of the buffer.
    #[inline]
    pub fn add(&mut self, message: &Message<'_>) {
        let buffer = self.buffer;
        let topic = match &message.topic {
            Topic::In(range) => Part::In(buffer, range.clone()),
            Topic::Aliased(topic) => Part::Shared(Bytes::clone(topic)),
        };
        let payload = Part::In(buffer, message.payload.clone());
        if message.properties.is_empty() {
            let meta = self.flags(message);
            self.builder.add(topic, payload).shared_meta(meta);
            return;
        }
        let mut record = self.builder.add(topic, payload);
        for (name, value) in &flags(message.qos, message.retain)[..if message.dup { 3 } else { 2 }] {
            record = record.meta(name, *value);
        }
        let overlapping = overlapping_ids(message.properties);
        if let Some(ids) = &overlapping {
            record = record.meta("subscription_id", MetaValue::Json(ids));
        }
        for property in message.properties {
            record = match property {
                Property::PayloadFormat(format) => {
                    record.meta("payload_format", MetaValue::Uint(format.into()))
                }
                Property::MessageExpiry(seconds) => {
                    record.meta("message_expiry", MetaValue::Uint(seconds.into()))
                }
                Property::ContentType(text) => record.meta("content_type", MetaValue::Text(text)),
                Property::ResponseTopic(topic) => {
                    record.reply(topic).meta("response_topic", MetaValue::Text(topic))
                }
                Property::CorrelationData(data) => match std::str::from_utf8(data) {
                    Ok(text) => record.meta("correlation_data", MetaValue::Text(text)),
                    Err(_) => record.meta("correlation_data", MetaValue::Bytes(data)),
                },
                Property::SubscriptionId(id) if overlapping.is_none() => {
                    record.meta("subscription_id", MetaValue::Uint(id.into()))
                }
                Property::User(name, value) => record.header(name, value),
                Property::SubscriptionId(_) | Property::TopicAlias(_) => record,
            };
        }
    }

    pub fn finish(self) -> Batch {
        self.builder.finish()
    }

    fn flags(&mut self, message: &Message<'_>) -> MetaRange {
        let (qos, retain, dup) = (message.qos, message.retain, message.dup);
        let index = usize::from(qos.level()) * 4 + usize::from(retain) * 2 + usize::from(dup);
        let builder = &mut self.builder;
        *self.shared[index]
            .get_or_insert_with(|| builder.meta_range(&flags(qos, retain)[..if dup { 3 } else { 2 }]))
    }
}

/// The last of the three is for a message that the server has sent before.
fn flags(qos: QoS, retain: bool) -> [(&'static str, MetaValue<'static>); 3] {
    [
        ("qos", MetaValue::Uint(qos.level().into())),
        ("retain", MetaValue::Bool(retain)),
        ("dup", MetaValue::Bool(true)),
    ]
}

/// A message that several subscriptions brought carries all their identifiers (5.0, section 3.3.2.3.8): as a JSON list.
fn overlapping_ids(properties: Properties<'_>) -> Option<String> {
    let ids = || {
        properties.into_iter().filter_map(|property| match property {
            Property::SubscriptionId(id) => Some(id.to_string()),
            _ => None,
        })
    };
    (ids().count() > 1).then(|| format!("[{}]", ids().collect::<Vec<_>>().join(",")))
}
