//! The broker as the host sees it: a server whose messages are what clients publish.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use serde_json::json;
use tokio::task::spawn_blocking;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{Feed, spawn};
use tracemq_plugin_api::serde_json;

use super::broker::Broker;
use super::config::ServeOptions;
use super::error::BrokerError;
use super::event::{BrokerEvent, BrokerMessage, OutgoingMessage, Properties, Text};
use crate::publish::PublishOptions;
use crate::wire::Version;

/// Messages in a batch for the host.
const BATCH: usize = 256;
/// Batches that wait for the host; what is beyond waits in the broker's own bounded queue.
const BATCHES: usize = 4;

impl From<BrokerError> for Error {
    fn from(error: BrokerError) -> Self {
        let kind = match error {
            BrokerError::Net(error) => return error.into(),
            BrokerError::Option { .. } => ErrorKind::CONFIG,
            BrokerError::System(_) => ErrorKind::CONNECT,
            BrokerError::Publish { .. } => ErrorKind::PROTOCOL,
            BrokerError::Stopped => ErrorKind::CLOSED,
        };
        Self::new(kind, error.to_string())
    }
}

/// A running broker.
pub struct MqttServer {
    addresses: Vec<String>,
    messages: Mutex<Option<Arc<Feed<BrokerMessage>>>>,
    /// `None` once closed.
    broker: Mutex<Option<Arc<Broker>>>,
}

impl MqttServer {
    /// Starts the broker. Clients can connect when this returns.
    ///
    /// # Errors
    /// A bad option or file (config), an address that cannot be listened on (connect).
    pub async fn start(options: ServeOptions, context: Context) -> Result<Self> {
        let mut options = options.broker()?;
        options.state_dir = context.state_dir().map(Into::into);
        let broker = spawn_blocking(move || Broker::start(options))
            .await
            .map_err(|error| Error::new(ErrorKind::PANIC, error.to_string()))??;
        broker.announce(context.events());
        spawn(tell(broker.events(), context.events().clone()));
        Ok(Self {
            addresses: broker.addresses().to_vec(),
            messages: Mutex::new(Some(broker.messages())),
            broker: Mutex::new(Some(Arc::new(broker))),
        })
    }

    fn broker(&self) -> Result<Arc<Broker>> {
        let broker = self.broker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        broker.ok_or_else(|| BrokerError::Stopped.into())
    }
}

impl Server for MqttServer {
    type Publish = PublishOptions;

    fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    fn messages(&self) -> Result<Subscription> {
        let feed = self.messages.lock().unwrap_or_else(PoisonError::into_inner).take();
        let feed =
            feed.ok_or_else(|| Error::unsupported("the messages of a server can be read only once"))?;
        let (sender, subscription) = queue(BATCHES);
        spawn(async move {
            // Room first, messages then: those that wait for the host stay where they are counted when dropped.
            while let Some(permit) = sender.reserve().await {
                let batch = tokio::select! {
                    batch = feed.next(BATCH) => batch,
                    () = sender.closed() => None,
                };
                let Some(batch) = batch else { return };
                let mut builder = BatchBuilder::with_capacity(batch.items.len());
                builder.set_dropped(batch.lost);
                for message in &batch.items {
                    add(&mut builder, message);
                }
                permit.send(builder.finish());
            }
        });
        Ok(subscription)
    }

    async fn publish(&self, batch: Batch, options: Arc<PublishOptions>) -> Result<Vec<Outcome>> {
        options.check(Version::V5)?;
        let broker = self.broker()?;
        let mut outcomes = Vec::with_capacity(batch.len());
        for message in batch.iter() {
            let text = |bytes: &[u8]| Text::from(String::from_utf8_lossy(bytes).into_owned());
            let response_topic = match (message.reply(), &options.response_topic) {
                (Some(reply), _) => Some(text(reply)),
                (None, topic) => topic.clone().map(Text::from),
            };
            let outgoing = OutgoingMessage {
                topic: message.topic_text().into_owned(),
                payload: message.payload_bytes(),
                qos: options.qos,
                retain: options.retain,
                properties: Properties {
                    user: message.headers().map(|(name, value)| (text(name), text(value))).collect(),
                    content_type: options.content_type.clone().map(Text::from),
                    response_topic,
                    correlation_data: options.correlation_data(),
                    message_expiry: options.message_expiry()?,
                    utf8: options.payload_format,
                },
            };
            outcomes.push(match broker.publish(outgoing).await {
                Ok(()) => Outcome::sent(),
                Err(error @ BrokerError::Publish { .. }) => Outcome::refused(error.to_string()),
                Err(error) => return Err(error.into()),
            });
        }
        Ok(outcomes)
    }

    async fn close(&self) -> Result<()> {
        let broker = self.broker.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Ends threads, which may take a moment; not on a thread that serves others.
        spawn_blocking(move || drop(broker))
            .await
            .map_err(|error| Error::new(ErrorKind::PANIC, error.to_string()))
    }
}

/// Adds a message under the same names as the client's messages have.
fn add(builder: &mut BatchBuilder, message: &BrokerMessage) {
    let time = message.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let properties = &message.properties;
    let mut record = builder
        .add(message.topic.as_bytes().clone(), message.payload.clone())
        .time(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
        .meta("qos", MetaValue::Uint(message.qos.into()))
        .meta("retain", MetaValue::Bool(message.retain))
        .meta("client", MetaValue::Text(&message.client));
    if message.dup {
        record = record.meta("dup", MetaValue::Bool(true));
    }
    if message.will {
        record = record.meta("will", MetaValue::Bool(true));
    }
    if properties.utf8 {
        record = record.meta("payload_format", MetaValue::Uint(1));
    }
    if let Some(seconds) = properties.message_expiry {
        record = record.meta("message_expiry", MetaValue::Uint(seconds.into()));
    }
    if let Some(text) = &properties.content_type {
        record = record.meta("content_type", MetaValue::Text(text));
    }
    if let Some(topic) = &properties.response_topic {
        record = record.reply(&**topic).meta("response_topic", MetaValue::Text(topic));
    }
    if let Some(data) = &properties.correlation_data {
        record = match std::str::from_utf8(data) {
            Ok(text) => record.meta("correlation_data", MetaValue::Text(text)),
            Err(_) => record.meta("correlation_data", MetaValue::Bytes(data)),
        };
    }
    for (name, value) in &properties.user {
        record = record.header(&**name, &**value);
    }
}

/// Tells the host what clients do, until the broker ends.
async fn tell(feed: Arc<Feed<BrokerEvent>>, events: Events) {
    while let Some(batch) = feed.next(BATCH).await {
        if batch.lost > 0 {
            let text = format!("{} events of clients were not shown: too many at once", batch.lost);
            events.emit(Event::new(EventKind::WARNING, text));
        }
        for event in &batch.items {
            events.emit(describe(event));
        }
    }
}

fn describe(event: &BrokerEvent) -> Event {
    let at = |peer: &Option<std::net::SocketAddr>| peer.map(|peer| format!(" ({peer})")).unwrap_or_default();
    match event {
        BrokerEvent::Connected { client, peer, transport, version, user } => {
            let text = format!("client {client}{} connected, MQTT {version}", at(peer));
            Event::new(EventKind::CLIENT_CONNECTED, text).details(json!({
                "client": &**client,
                "peer": peer.map(|peer| peer.to_string()),
                "transport": transport.map(|transport| transport.scheme()),
                "version": version,
                "user": user.as_deref(),
            }))
        }
        BrokerEvent::Disconnected { client, peer, reason } => {
            let text = format!("client {client}{} disconnected: {reason}", at(peer));
            Event::new(EventKind::CLIENT_DISCONNECTED, text).details(json!({
                "client": &**client, "peer": peer.map(|peer| peer.to_string()), "reason": reason,
            }))
        }
        BrokerEvent::Subscribed { client, filter, group, qos } => {
            let shared = group.as_ref().map(|group| format!(" in group {group}")).unwrap_or_default();
            let text = format!("client {client} subscribed to {filter}{shared}, QoS {qos}");
            Event::new(EventKind::CLIENT_SUBSCRIBED, text).details(json!({
                "client": &**client, "filter": &**filter, "group": group.as_deref(), "qos": qos,
            }))
        }
        BrokerEvent::Refused { client, peer, what, topic, reason } => {
            let who = client.as_ref().map(|client| format!(" of client {client}")).unwrap_or_default();
            let to = topic.as_ref().map(|topic| format!(" to {topic}")).unwrap_or_default();
            let text = format!("refused {what}{to}{who}{}: {reason}", at(peer));
            Event::new(EventKind::CLIENT_REFUSED, text).details(json!({
                "what": what,
                "client": client.as_deref(),
                "peer": peer.map(|peer| peer.to_string()),
                "topic": topic.as_deref(),
                "reason": reason,
            }))
        }
        BrokerEvent::Dropped { client, topic, reason } => {
            let whom = client.as_ref().map(|client| format!(" for client {client}")).unwrap_or_default();
            Event::new(EventKind::DROPPED, format!("message to {topic}{whom} dropped: {reason}")).details(
                json!({"count": 1, "client": client.as_deref(), "topic": &**topic, "reason": reason}),
            )
        }
    }
}
