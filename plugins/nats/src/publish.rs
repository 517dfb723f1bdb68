//! The options of a publish.

use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::prelude::{Error, Result, Verb};
use tracemq_plugin_api::{schemars, serde};

use crate::jetstream;
use crate::wire::subject;

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PublishOptions {
    /// Subject to answer to
    #[schemars(title = "Reply subject", extend(
        "x-group" = "message", "x-order" = 110, "x-title-fr" = "Sujet de réponse",
        "x-help-fr" = "Sujet où répondre"
    ))]
    pub reply: Option<String>,

    /// Wait until a stream of JetStream has stored the message, and tell stream and sequence
    #[schemars(title = "JetStream", extend(
        "x-group" = "jetstream", "x-order" = 120, "x-title-fr" = "JetStream",
        "x-help-fr" = "Attendre qu'un flux JetStream ait stocké le message, et indiquer flux et séquence"
    ))]
    pub jetstream: bool,

    /// Message id: the stream takes it once, so it is sent again until it is confirmed. {number} stands for the number of the message in this run; auto makes one up for each
    #[schemars(title = "Message id", extend(
        "x-group" = "jetstream", "x-order" = 121, "x-title-fr" = "Identifiant du message",
        "x-help-fr" = "Identifiant : le flux ne prend le message qu'une fois, il est donc renvoyé jusqu'à confirmation. {number} est le numéro du message ; auto en invente un pour chacun"
    ))]
    pub msg_id: Option<String>,

    /// Store it only in this stream
    #[schemars(title = "Expected stream", extend(
        "x-group" = "jetstream", "x-order" = 122, "x-title-fr" = "Flux attendu",
        "x-help-fr" = "Ne stocker que dans ce flux"
    ))]
    pub expect_stream: Option<String>,

    /// Store it only if this is the last sequence of the stream, or with --bucket the last revision of the key; of several messages each expects the one before it
    #[schemars(title = "Expected last sequence", extend(
        "x-group" = "jetstream", "x-order" = 123, "x-title-fr" = "Dernière séquence attendue",
        "x-help-fr" = "Ne stocker que si c'est la dernière séquence du flux, ou avec --bucket la dernière révision de la clé ; de plusieurs messages, chacun attend le précédent"
    ))]
    pub expect_last_sequence: Option<u64>,

    /// Put the value into this key-value bucket, or get it from there: TOPIC is the key, to which no subject prefix is added
    #[schemars(title = "Bucket", extend(
        "x-group" = "key-value", "x-order" = 130, "x-title-fr" = "Bucket",
        "x-help-fr" = "Mettre la valeur dans ce bucket clé-valeur, ou l'y lire : TOPIC est la clé, sans préfixe de sujet"
    ))]
    pub bucket: Option<String>,

    /// Make the bucket if there is none
    #[schemars(title = "Create the bucket", extend(
        "x-group" = "key-value", "x-order" = 131, "x-title-fr" = "Créer le bucket",
        "x-help-fr" = "Créer le bucket s'il n'existe pas"
    ))]
    pub create_bucket: bool,

    /// Put the value only if there is no such key
    #[schemars(title = "Create only", extend(
        "x-group" = "key-value", "x-order" = 132, "x-title-fr" = "Créer seulement",
        "x-help-fr" = "Ne mettre la valeur que si la clé n'existe pas"
    ))]
    pub create: bool,

    /// Delete the key; its history stays. The message is to be --empty
    #[schemars(title = "Delete", extend(
        "x-group" = "key-value", "x-order" = 133, "x-title-fr" = "Supprimer",
        "x-help-fr" = "Supprimer la clé ; son historique reste. Le message doit être vide (--empty)"
    ))]
    pub delete: bool,

    /// Delete the key with its history. The message is to be --empty
    #[schemars(title = "Purge", extend(
        "x-group" = "key-value", "x-order" = 134, "x-title-fr" = "Purger",
        "x-help-fr" = "Supprimer la clé avec son historique. Le message doit être vide (--empty)"
    ))]
    pub purge: bool,
}

/// A header of JetStream's own that an option is for.
fn header_value(option: &str, text: &str) -> Result<()> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(Error::config(format!(
            "{option} {text:?}: it must not be empty or hold control characters"
        )));
    }
    Ok(())
}

impl PublishOptions {
    /// Whether a stream confirms the messages.
    pub(crate) fn is_stored(&self) -> bool {
        self.jetstream || self.bucket.is_some()
    }

    /// # Errors
    /// A topic is no subject or key, or options exclude each other.
    pub(crate) fn check_topics(&self, verb: Verb, topics: &[String]) -> Result<()> {
        self.check()?;
        if verb == Verb::Request {
            self.check_request()?;
        }
        for topic in topics {
            match &self.bucket {
                Some(_) => jetstream::check_key(topic)?,
                None => subject::check_subject(topic)
                    .map_err(|error| Error::config(format!("TOPIC {topic:?}: {error}")))?,
            }
        }
        Ok(())
    }

    fn check_request(&self) -> Result<()> {
        let stored = [
            ("--jetstream", self.jetstream),
            ("--create-bucket", self.create_bucket),
            ("--create", self.create),
            ("--delete", self.delete),
            ("--purge", self.purge),
            ("--msg-id", self.msg_id.is_some()),
            ("--expect-stream", self.expect_stream.is_some()),
            ("--expect-last-sequence", self.expect_last_sequence.is_some()),
        ];
        match stored.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(Error::config(format!("{name} is for pub, not for request"))),
            None => Ok(()),
        }
    }

    fn check_jetstream(&self) -> Result<()> {
        for (name, given) in [
            ("--create-bucket", self.create_bucket),
            ("--create", self.create),
            ("--delete", self.delete),
            ("--purge", self.purge),
        ] {
            if given && self.bucket.is_none() {
                return Err(
                    Error::config(format!("{name} is for key-value buckets")).hint("name one with --bucket")
                );
            }
        }
        for (name, given) in [
            ("--msg-id", self.msg_id.is_some()),
            ("--expect-stream", self.expect_stream.is_some()),
            ("--expect-last-sequence", self.expect_last_sequence.is_some()),
        ] {
            if given && !self.is_stored() {
                return Err(Error::config(format!("{name} is for streams")).hint("add --jetstream"));
            }
        }
        let exclusive = [("--create", self.create), ("--delete", self.delete), ("--purge", self.purge)];
        let given: Vec<_> = exclusive.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        if given.len() > 1 {
            return Err(Error::config(format!("{} exclude each other", given.join(" and "))));
        }
        if self.create && self.expect_last_sequence.is_some() {
            return Err(Error::config("--create and --expect-last-sequence exclude each other"));
        }
        if self.reply.is_some() && self.is_stored() {
            return Err(Error::config("--reply can't be used with --jetstream or --bucket")
                .hint("the reply subject is where the stream confirms the message"));
        }
        if let Some(bucket) = &self.bucket {
            jetstream::check_bucket(bucket)?;
        }
        if let Some(id) = &self.msg_id {
            header_value("--msg-id", id)?;
        }
        if let Some(stream) = &self.expect_stream {
            header_value("--expect-stream", stream)?;
        }
        Ok(())
    }

    /// # Errors
    /// The reply is no subject, or options exclude each other.
    pub fn check(&self) -> Result<()> {
        self.check_jetstream()?;
        match &self.reply {
            Some(reply) => subject::check_subject(reply)
                .map_err(|error| Error::config(format!("--reply {reply:?}: {error}"))),
            None => Ok(()),
        }
    }
}
