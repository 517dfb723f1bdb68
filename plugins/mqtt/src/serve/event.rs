//! What the broker reports: what clients do, and the messages they publish.

use std::net::SocketAddr;
use std::time::SystemTime;

use bytes::Bytes;

use super::links::Transport;

/// Text from the wire, shared instead of copied. Dereferences to `str`.
pub use rmqtt::types::TopicName as Text;

/// Something a client did, or that happened to it.
#[derive(Debug, Clone)]
pub enum BrokerEvent {
    /// A client is connected.
    Connected {
        /// The client identifier, possibly one that the broker assigned.
        client: Text,
        /// Its address; `None` if its connection is already gone.
        peer: Option<SocketAddr>,
        /// How it came in; `None` if its connection is already gone.
        transport: Option<Transport>,
        /// "3.1", "3.1.1" or "5.0".
        version: &'static str,
        /// The user name it gave.
        user: Option<Text>,
    },
    /// A client is no longer connected.
    Disconnected {
        /// The client identifier.
        client: Text,
        /// Its address; `None` if its connection is already forgotten.
        peer: Option<SocketAddr>,
        /// Why.
        reason: String,
    },
    /// A client subscribed.
    Subscribed {
        /// The client identifier.
        client: Text,
        /// The topic filter, without `$share/GROUP/`.
        filter: Text,
        /// The group of a shared subscription.
        group: Option<Text>,
        /// The granted QoS.
        qos: u8,
    },
    /// Something was refused: a connection, a subscription or a message.
    Refused {
        /// The client identifier, if it came that far.
        client: Option<Text>,
        /// The address, if known.
        peer: Option<SocketAddr>,
        /// What: "connection", "subscribe" or "publish".
        what: &'static str,
        /// The topic or filter, for "subscribe" and "publish".
        topic: Option<Text>,
        /// Why.
        reason: String,
    },
    /// A message did not reach one of its receivers.
    Dropped {
        /// The receiver; `None` if it was dropped before that was known.
        client: Option<Text>,
        /// The topic.
        topic: Text,
        /// Why.
        reason: String,
    },
}

/// A message that a client published, or its last will.
#[derive(Debug, Clone)]
pub struct BrokerMessage {
    /// When it arrived.
    pub time: SystemTime,
    /// Who published it.
    pub client: Text,
    /// Whether it is the client's last will.
    pub will: bool,
    /// The topic name.
    pub topic: Text,
    /// The payload.
    pub payload: Bytes,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Whether it is to be retained.
    pub retain: bool,
    /// Whether the client sent it again.
    pub dup: bool,
    /// What came with it; empty below 5.0.
    pub properties: Properties,
}

/// The properties of a PUBLISH (MQTT 5.0 section 3.3.2.3) that its receivers see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// User properties in the order of the packet; a name may come more than once.
    pub user: Vec<(Text, Text)>,
    /// Content type.
    pub content_type: Option<Text>,
    /// Where an answer is expected.
    pub response_topic: Option<Text>,
    /// Returned with the answer.
    pub correlation_data: Option<Bytes>,
    /// Seconds until it expires; never 0.
    pub message_expiry: Option<u32>,
    /// Whether the payload is declared to be UTF-8 text.
    pub utf8: bool,
}

impl BrokerMessage {
    /// What it weighs in a queue.
    pub(super) fn weight(&self) -> usize {
        let user: usize = self.properties.user.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.topic.len() + self.payload.len() + user + size_of::<Self>()
    }
}

/// A message that is published from inside with [`super::Broker::publish`].
#[derive(Debug, Clone, Default)]
pub struct OutgoingMessage {
    /// The topic name.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Keep it for later subscribers; an empty payload removes what is kept.
    pub retain: bool,
    /// For 5.0 subscribers.
    pub properties: Properties,
}
