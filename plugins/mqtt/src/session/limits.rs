//! What the server said at connect that it takes (5.0, section 3.2.2.3), checked before anything is sent.

use rumqttc::v5::mqttbytes::v5::ConnAckProperties;

use crate::wire::publish::Layout;
use crate::wire::request::Subscribe;
use crate::wire::{Invalid, QoS, topic};

/// The limits of a connection; without a word from the server, those of the specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most unacknowledged QoS 1 and 2 messages towards the server, at least 1.
    pub receive_maximum: u16,
    /// Highest QoS.
    pub maximum_qos: QoS,
    /// Retained messages are taken.
    pub retain_available: bool,
    /// Largest packet, in bytes.
    pub maximum_packet_size: u32,
    /// Topic aliases we may use.
    pub topic_alias_maximum: u16,
    /// Filters may have wildcards.
    pub wildcard_available: bool,
    /// SUBSCRIBE may carry an identifier.
    pub subscription_id_available: bool,
    /// `$share/...` is taken.
    pub shared_available: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            receive_maximum: u16::MAX,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            maximum_packet_size: u32::MAX,
            topic_alias_maximum: 0,
            wildcard_available: true,
            subscription_id_available: true,
            shared_available: true,
        }
    }
}

impl Limits {
    /// The limits in a CONNACK. A receive maximum or packet size of 0 is forbidden: taken as not said.
    pub(super) fn new(properties: &ConnAckProperties) -> Self {
        let available = |value: Option<u8>| value != Some(0);
        Self {
            receive_maximum: properties.receive_max.filter(|max| *max > 0).unwrap_or(u16::MAX),
            maximum_qos: properties.max_qos.and_then(QoS::from_level).unwrap_or(QoS::ExactlyOnce),
            retain_available: available(properties.retain_available),
            maximum_packet_size: properties.max_packet_size.filter(|max| *max > 0).unwrap_or(u32::MAX),
            topic_alias_maximum: properties.topic_alias_max.unwrap_or(0),
            wildcard_available: available(properties.wildcard_subscription_available),
            subscription_id_available: available(properties.subscription_identifiers_available),
            shared_available: available(properties.shared_subscription_available),
        }
    }

    /// # Errors
    /// A PUBLISH that this server does not take.
    #[inline]
    pub(super) fn check_publish(&self, wire: &[u8], layout: &Layout) -> Result<(), Invalid> {
        if wire.len() > self.maximum_packet_size as usize {
            return Err(self.too_large("message", wire.len()));
        }
        if layout.qos > self.maximum_qos {
            return Err(Invalid::new(format!(
                "0x9B QoS {} is not supported: this server takes at most QoS {}",
                layout.qos.level(),
                self.maximum_qos.level()
            )));
        }
        if wire[0] & 1 != 0 && !self.retain_available {
            return Err(Invalid::new("0x9A retain is not supported: this server keeps no retained messages"));
        }
        Ok(())
    }

    /// # Errors
    /// A SUBSCRIBE that this server does not take.
    pub(super) fn check_subscribe(&self, subscribe: &Subscribe) -> Result<(), Invalid> {
        for filter in &subscribe.filters {
            let filter = &filter.filter;
            if !self.shared_available && topic::is_shared(filter) {
                return Err(Invalid::new(format!(
                    "0x9E topic filter '{filter}': this server has no shared subscriptions"
                )));
            }
            if !self.wildcard_available && topic::has_wildcard(filter) {
                return Err(Invalid::new(format!(
                    "0xA2 topic filter '{filter}': this server takes no wildcards, name the exact topic"
                )));
            }
        }
        if subscribe.id.is_some() && !self.subscription_id_available {
            return Err(Invalid::new("0xA1 this server takes no subscription ids: leave it out"));
        }
        Ok(())
    }

    /// # Errors
    /// A packet above the server's maximum.
    pub(super) fn check_size(&self, what: &str, size: usize) -> Result<(), Invalid> {
        if size > self.maximum_packet_size as usize { Err(self.too_large(what, size)) } else { Ok(()) }
    }

    fn too_large(&self, what: &str, size: usize) -> Invalid {
        Invalid::new(format!(
            "0x95 packet too large: the {what} needs {size} bytes, this server takes at most {}",
            self.maximum_packet_size
        ))
    }
}
