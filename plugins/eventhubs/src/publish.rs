//! The options of a message, and messages as AMQP has them.

use fe2o3_amqp_types::messaging::{
    ApplicationProperties, Data, Header, Message, MessageAnnotations, Properties,
    message::__private::Serializable,
};
use fe2o3_amqp_types::primitives::SimpleValue;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_amqp::Value;
use serde_amqp::primitives::{Binary, OrderedMap, Symbol};
use tracemq_plugin_api::prelude::{Error, Result};
use tracemq_plugin_api::sdk::MessageView;
use tracemq_plugin_api::{schemars, serde};

use crate::address::Address;
use crate::endpoint::Dialect;

/// The longest partition key that the service takes.
const LONGEST_KEY: usize = 128;
pub const KEY_ANNOTATION: &str = "x-opt-partition-key";

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PublishOptions {
    /// Partition to send to; without it the service picks one
    #[schemars(title = "Partition", extend(
        "x-group" = "message", "x-order" = 100, "x-title-fr" = "Partition",
        "x-help-fr" = "Partition de destination ; sinon le service en choisit une"
    ))]
    pub partition: Option<String>,

    /// Events with the same key go to the same partition
    #[schemars(title = "Partition key", extend(
        "x-group" = "message", "x-order" = 101, "x-title-fr" = "Clé de partition",
        "x-help-fr" = "Les événements de même clé vont dans la même partition"
    ))]
    pub partition_key: Option<String>,

    /// Content type, such as application/json
    #[schemars(title = "Content type", extend(
        "x-group" = "message", "x-order" = 102, "x-title-fr" = "Type de contenu",
        "x-help-fr" = "Type de contenu, par exemple application/json"
    ))]
    pub content_type: Option<String>,

    /// Message id
    #[schemars(title = "Message id", extend(
        "x-group" = "message", "x-order" = 103, "x-title-fr" = "Identifiant du message",
        "x-help-fr" = "Identifiant du message"
    ))]
    pub message_id: Option<String>,

    /// Correlation id
    #[schemars(title = "Correlation id", extend(
        "x-group" = "message", "x-order" = 104, "x-title-fr" = "Identifiant de corrélation",
        "x-help-fr" = "Identifiant de corrélation"
    ))]
    pub correlation_id: Option<String>,

    /// Subject
    #[schemars(title = "Subject", extend(
        "x-group" = "message", "x-order" = 105, "x-title-fr" = "Sujet", "x-help-fr" = "Sujet"
    ))]
    pub subject: Option<String>,

    /// Address to which an answer is to be sent
    #[schemars(title = "Reply to", extend(
        "x-group" = "message", "x-order" = 106, "x-title-fr" = "Adresse de réponse",
        "x-help-fr" = "Adresse à laquelle envoyer une réponse"
    ))]
    pub reply_to: Option<String>,

    /// Queues: ask the broker to keep the message through a restart
    #[schemars(title = "Durable", extend(
        "x-group" = "message", "x-order" = 107, "x-title-fr" = "Durable",
        "x-help-fr" = "Files : demander au serveur de garder le message à travers un redémarrage"
    ))]
    pub durable: bool,
}

impl PublishOptions {
    /// # Errors
    /// Kind config: options that exclude each other or the dialect, a value that can't be.
    pub fn check(&self, dialect: Dialect) -> Result<()> {
        if dialect == Dialect::Queues {
            let hubs = [("--partition", &self.partition), ("--partition-key", &self.partition_key)];
            return match hubs.iter().find(|(_, value)| value.is_some()) {
                Some((name, _)) => Err(Error::config(format!("{name} is for Event Hubs"))),
                None => Ok(()),
            };
        }
        if self.durable {
            return Err(Error::config("--durable is for queues: Event Hubs keep every event"));
        }
        match (&self.partition, &self.partition_key) {
            (Some(_), Some(_)) => {
                Err(Error::config("--partition and --partition-key exclude each other")
                    .hint("give one, or none"))
            }
            (Some(partition), None) => check_partition(partition),
            (None, Some(key)) if key.len() > LONGEST_KEY => Err(Error::config(format!(
                "--partition-key: {} bytes are too long, at most {LONGEST_KEY} are possible",
                key.len()
            ))),
            (None, _) => Ok(()),
        }
    }

    /// The address of a link for a hub or queue.
    pub fn address(&self, dialect: Dialect, entity: &str) -> String {
        match (dialect, &self.partition) {
            (Dialect::Hubs, Some(partition)) => {
                Address::Partition { hub: entity.to_owned(), partition: partition.clone() }.to_string()
            }
            _ => entity.to_owned(),
        }
    }

    fn properties(&self, reply: Option<&[u8]>) -> Option<Properties> {
        let reply_to =
            self.reply_to.clone().or_else(|| reply.map(|text| String::from_utf8_lossy(text).into_owned()));
        let properties = Properties {
            message_id: self.message_id.clone().map(Into::into),
            correlation_id: self.correlation_id.clone().map(Into::into),
            content_type: self.content_type.clone().map(Symbol),
            subject: self.subject.clone(),
            reply_to,
            ..Properties::new()
        };
        (properties != Properties::new()).then_some(properties)
    }

    /// The host's message as AMQP has it.
    ///
    /// # Errors
    /// What is wrong with it, as the reason of a refusal.
    pub fn message(&self, message: &MessageView<'_>) -> std::result::Result<Message<Data>, String> {
        let mut headers = OrderedMap::new();
        for (name, value) in message.headers() {
            let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned);
            let name = text(name).map_err(|_| "a header's name is not UTF-8")?;
            let value = match text(value) {
                Ok(text) => SimpleValue::String(text),
                Err(_) => SimpleValue::Binary(Binary::from(value.to_vec())),
            };
            if headers.get(name.as_str()).is_some() {
                return Err(format!("the header {name:?} is given twice, and an AMQP message has each once"));
            }
            headers.insert(name, value);
        }
        Ok(Message {
            header: self.durable.then(|| Header { durable: true, ..Header::default() }),
            delivery_annotations: None,
            message_annotations: self.annotations(),
            properties: self.properties(message.reply()),
            application_properties: (!headers.is_empty()).then_some(ApplicationProperties(headers)),
            body: Data(Binary::from(message.payload().to_vec())),
            footer: None,
        })
    }

    /// What an event with a key carries, and a batch of such events as well.
    pub fn annotations(&self) -> Option<MessageAnnotations> {
        let key = self.partition_key.as_ref()?;
        Some(MessageAnnotations::builder().insert(KEY_ANNOTATION, Value::String(key.clone())).build())
    }

    /// The message as it stands in a batch: encoded.
    ///
    /// # Errors
    /// As [`PublishOptions::message`].
    pub fn encoded(&self, message: &MessageView<'_>) -> std::result::Result<Vec<u8>, String> {
        if self == &PublishOptions::default() && message.headers().len() == 0 && message.reply().is_none() {
            return Ok(encoded_data(message.payload()));
        }
        let message = self.message(message)?;
        serde_amqp::to_vec(&Serializable(message)).map_err(|error| format!("it can't be encoded: {error}"))
    }
}

/// A message of nothing but one data section (part 3.2.6): what most events are, and no serializer is faster.
fn encoded_data(payload: &[u8]) -> Vec<u8> {
    const SECTION: [u8; 3] = [0x00, 0x53, 0x75];
    let mut encoded = Vec::with_capacity(payload.len() + 8);
    encoded.extend_from_slice(&SECTION);
    match u8::try_from(payload.len()) {
        Ok(length) => encoded.extend_from_slice(&[0xa0, length]),
        Err(_) => {
            encoded.push(0xb0);
            // The host's payloads have less than 4 GiB.
            encoded.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    encoded.extend_from_slice(payload);
    encoded
}

/// # Errors
/// A text that is no partition's id.
pub fn check_partition(partition: &str) -> Result<()> {
    match partition.is_empty()
        || partition.len() > 64
        || !partition.chars().all(|c| c.is_ascii_alphanumeric())
    {
        true => Err(Error::config(format!("--partition {partition:?}: this is no partition's id"))
            .hint("ids are like 0, 1, 2; tracemq list TARGET partitions shows them")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tracemq_plugin_api::prelude::BatchBuilder;

    fn options(json: serde_json::Value) -> PublishOptions {
        serde_json::from_value(json).expect("the types fit")
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (json, dialect, part) in [
            (json!({"partition": "0", "partition_key": "k"}), Dialect::Hubs, "exclude"),
            (json!({"partition": "a/b"}), Dialect::Hubs, "--partition"),
            (json!({"partition_key": "k".repeat(129)}), Dialect::Hubs, "129"),
            (json!({"partition_key": "k"}), Dialect::Queues, "Event Hubs"),
            (json!({"durable": true}), Dialect::Hubs, "--durable"),
        ] {
            let error = options(json).check(dialect).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
        let partition = options(json!({"partition": "3"}));
        assert!(partition.check(Dialect::Hubs).is_ok());
        assert_eq!(partition.address(Dialect::Hubs, "h"), "h/Partitions/3");
    }

    #[test]
    fn the_short_way_encodes_as_the_long_one() {
        for length in [0, 1, 254, 256, 70_000] {
            let mut builder = BatchBuilder::new();
            let payload = vec![7_u8; length];
            builder.add("t", payload.as_slice());
            let batch = builder.finish();
            let message = batch.get(0).expect("one message");
            let none = PublishOptions::default();
            let long = none.message(&message).expect("a message");
            let long = serde_amqp::to_vec(&Serializable(long)).expect("encoded");
            assert_eq!(none.encoded(&message).expect("encoded"), long, "{length}");
        }
    }

    #[test]
    fn headers_become_application_properties() {
        let mut builder = BatchBuilder::new();
        builder.add("t", "p").header("a", "b").header("c", &b"\xff"[..]).reply("r");
        let batch = builder.finish();
        let message = options(json!({"message_id": "m", "partition_key": "k"}));
        let message = message.message(&batch.get(0).expect("one")).expect("a message");
        let headers = message.application_properties.expect("headers").0;
        assert_eq!(headers.get("a"), Some(&SimpleValue::String("b".into())));
        assert_eq!(headers.get("c"), Some(&SimpleValue::Binary(vec![0xff].into())));
        let properties = message.properties.expect("properties");
        assert_eq!(
            (properties.reply_to.as_deref(), properties.message_id),
            (Some("r"), Some("m".to_owned().into()))
        );
        assert!(message.message_annotations.is_some());
        let mut builder = BatchBuilder::new();
        builder.add("t", "p").header("a", "b").header("a", "c");
        let twice = PublishOptions::default().message(&builder.finish().get(0).expect("one")).err();
        assert!(twice.is_some_and(|reason| reason.contains("\"a\" is given twice")));
    }
}
