//! From a received PUBLISH to a message of a batch: topic and payload as slices of the read buffer.
//!
//! What MQTT says of a message becomes its metadata. Without properties there are few combinations of QoS, retain and dup,
//! so their metadata is written once per batch and shared.

use bytes::Bytes;
use std::ops::Range;
use tracemq_plugin_api::sdk::{Batch, BatchBuilder, BufferId, MetaRange, MetaValue, Part};

use crate::wire::{Properties, Property, PublishView, QoS};

/// Fills batches from PUBLISH packets.
pub struct Filler {
    builder: BatchBuilder,
    buffer: Option<BufferId>,
    shared: [Option<MetaRange>; 12],
}

impl Filler {
    /// With room for so many messages.
    pub fn new(messages: usize) -> Filler {
        Filler { builder: BatchBuilder::with_capacity(messages), buffer: None, shared: [None; 12] }
    }

    pub fn len(&self) -> usize {
        self.builder.len()
    }

    pub fn is_empty(&self) -> bool {
        self.builder.is_empty()
    }

    /// The read buffer in which the packets that follow stand.
    pub fn enter(&mut self, buffer: Bytes) {
        self.buffer = Some(self.builder.buffer(buffer));
    }

    /// Adds a message of the buffer given to [`Filler::enter`], whose bytes are `raw`. `topic` is what a topic alias
    /// stood for.
    pub fn add(&mut self, view: &PublishView, raw: &[u8], topic: Option<&str>) {
        let Some(buffer) = self.buffer else { return };
        let part = |range: &Range<usize>| Part::In(buffer, range.clone());
        let topic = topic.map_or_else(|| part(&view.topic), Part::from);
        if view.properties.is_empty() {
            let meta = self.flags(view);
            self.builder.add(topic, part(&view.payload)).shared_meta(meta);
            return;
        }
        let mut record = self.builder.add(topic, part(&view.payload));
        record = record.meta("qos", MetaValue::Uint(u64::from(view.qos.level()))).meta("retain", MetaValue::Bool(view.retain));
        if view.dup {
            record = record.meta("dup", MetaValue::Bool(true));
        }
        let overlapping = overlapping_ids(Properties::new(&raw[view.properties.clone()]));
        if let Some(ids) = &overlapping {
            record = record.meta("subscription_id", MetaValue::Json(ids));
        }
        for property in Properties::new(&raw[view.properties.clone()]) {
            record = match property {
                Property::PayloadFormat(text) => record.meta("payload_format", MetaValue::Uint(text.into())),
                Property::MessageExpiry(seconds) => record.meta("message_expiry", MetaValue::Uint(seconds.into())),
                Property::ContentType(text) => record.meta("content_type", MetaValue::Text(text)),
                Property::ResponseTopic(topic) => record.reply(topic).meta("response_topic", MetaValue::Text(topic)),
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

    fn flags(&mut self, view: &PublishView) -> MetaRange {
        let index = usize::from(view.qos.level()) * 4 + usize::from(view.retain) * 2 + usize::from(view.dup);
        let builder = &mut self.builder;
        *self.shared[index].get_or_insert_with(|| flag_meta(builder, view.qos, view.retain, view.dup))
    }
}

fn flag_meta(builder: &mut BatchBuilder, qos: QoS, retain: bool, dup: bool) -> MetaRange {
    let values =
        [("qos", MetaValue::Uint(qos.level().into())), ("retain", MetaValue::Bool(retain)), ("dup", MetaValue::Bool(true))];
    builder.meta_range(&values[..if dup { 3 } else { 2 }])
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
