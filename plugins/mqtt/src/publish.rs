//! The options of a publish.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::prelude::{Result, Span};
use tracemq_plugin_api::{schemars, serde};

use crate::config::{needs_v5, qos, seconds};
use crate::wire::{QoS, Version, topic};

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PublishOptions {
    /// Quality of service: 0 at most once, 1 at least once, 2 exactly once
    #[schemars(title = "QoS", range(min = 0, max = 2), extend(
        "x-group" = "message", "x-order" = 110, "x-title-fr" = "QoS",
        "x-help-fr" = "Qualité de service : 0 au plus une fois, 1 au moins une fois, 2 exactement une fois"
    ))]
    pub qos: u8,

    /// The server keeps the message for later subscribers
    #[schemars(title = "Retain", extend(
        "x-group" = "message", "x-order" = 111, "x-title-fr" = "Conserver",
        "x-help-fr" = "Le serveur garde le message pour les abonnés suivants"
    ))]
    pub retain: bool,

    /// 5.0: how long the message stays valid
    #[schemars(title = "Message expiry", extend(
        "x-group" = "message", "x-order" = 112, "x-title-fr" = "Expiration du message",
        "x-help-fr" = "5.0 : durée de validité du message"
    ))]
    pub message_expiry: Option<Span>,

    /// 5.0: what the payload is, such as application/json
    #[schemars(title = "Content type", extend(
        "x-group" = "message", "x-order" = 113, "x-title-fr" = "Type de contenu",
        "x-help-fr" = "5.0 : nature du contenu, par exemple application/json"
    ))]
    pub content_type: Option<String>,

    /// 5.0: say that the payload is UTF-8 text
    #[schemars(title = "Payload is text", extend(
        "x-group" = "message", "x-order" = 114, "x-title-fr" = "Contenu textuel",
        "x-help-fr" = "5.0 : indiquer que le contenu est du texte UTF-8"
    ))]
    pub payload_format: bool,

    /// 5.0: topic to answer to
    #[schemars(title = "Response topic", extend(
        "x-group" = "message", "x-order" = 115, "x-title-fr" = "Sujet de réponse",
        "x-help-fr" = "5.0 : sujet où répondre"
    ))]
    pub response_topic: Option<String>,

    /// 5.0: what an answer has to repeat
    #[schemars(title = "Correlation data", extend(
        "x-group" = "message", "x-order" = 116, "x-title-fr" = "Données de corrélation",
        "x-help-fr" = "5.0 : ce qu'une réponse doit répéter"
    ))]
    pub correlation_data: Option<String>,
}

impl PublishOptions {
    pub fn qos(&self) -> Result<QoS> {
        qos("--qos", self.qos)
    }

    /// Seconds.
    pub fn message_expiry(&self) -> Result<Option<u32>> {
        self.message_expiry.map(|expiry| seconds("--message-expiry", expiry, u32::MAX)).transpose()
    }

    pub fn correlation_data(&self) -> Option<Bytes> {
        self.correlation_data.clone().map(Bytes::from)
    }

    /// # Errors
    /// A value out of range, a bad response topic, an option that the version has no place for.
    pub fn check(&self, version: Version) -> Result<()> {
        self.qos()?;
        self.message_expiry()?;
        if let Some(response) = &self.response_topic {
            topic::check_topic(response)
                .map_err(|error| crate::error::invalid("--response-topic", &error))?;
        }
        let given = [
            ("--message-expiry", self.message_expiry.is_some()),
            ("--content-type", self.content_type.is_some()),
            ("--payload-format", self.payload_format),
            ("--response-topic", self.response_topic.is_some()),
            ("--correlation-data", self.correlation_data.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((name, _)) if !version.is_v5() => Err(needs_v5(name, version)),
            _ => Ok(()),
        }
    }
}
