//! The options of a subscription.

use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::prelude::{Error, Result};
use tracemq_plugin_api::{schemars, serde};

use crate::config::Prefix;
use crate::session::Pattern;
use crate::wire::subject;

/// Bytes that may wait for the host: enough for a pause of a second at most rates, and little beside what a desktop has.
const BUFFER: u64 = 64 << 20;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SubscribeOptions {
    /// Share the messages with the other members of this queue group
    #[schemars(title = "Queue group", extend(
        "x-group" = "subscription", "x-order" = 110, "x-title-fr" = "Groupe de file",
        "x-help-fr" = "Partager les messages avec les autres membres de ce groupe"
    ))]
    pub queue_group: Option<String>,

    /// The server sends so many messages for each subject and then ends the subscription; unlike -C, no other one is taken from a queue group
    #[schemars(title = "Unsubscribe after", range(min = 1), extend(
        "x-group" = "subscription", "x-order" = 111, "x-title-fr" = "Désabonner après",
        "x-help-fr" = "Le serveur envoie ce nombre de messages par sujet puis met fin à l'abonnement ; à la différence de -C, aucun autre n'est pris à un groupe"
    ))]
    pub unsubscribe_after: Option<u64>,

    /// Bytes that may wait to be shown; when they are used up, the oldest messages are dropped and counted
    #[schemars(title = "Buffer", range(min = 65536, max = 17179869184_u64), extend(
        "x-type" = "size", "x-group" = "subscription", "x-order" = 112, "x-title-fr" = "Tampon",
        "x-help-fr" = "Octets qui peuvent attendre d'être affichés ; au-delà, les messages les plus anciens sont abandonnés et comptés"
    ))]
    pub buffer: u64,

    /// Drop nothing: when the buffer is full, nothing more is read. The server then slows publishers down, and after its write deadline (10 s) or 64 MB cuts this connection off
    #[schemars(title = "Lossless", extend(
        "x-group" = "subscription", "x-order" = 113, "x-title-fr" = "Sans perte",
        "x-help-fr" = "Ne rien abandonner : tampon plein, plus rien n'est lu. Le serveur ralentit alors les éditeurs, puis coupe cette connexion après son délai d'écriture (10 s) ou 64 Mo"
    ))]
    pub lossless: bool,
}

impl Default for SubscribeOptions {
    fn default() -> SubscribeOptions {
        SubscribeOptions { queue_group: None, unsubscribe_after: None, buffer: BUFFER, lossless: false }
    }
}

impl SubscribeOptions {
    /// # Errors
    /// A topic is no subject, or the queue group can't be one.
    pub fn patterns(&self, topics: &[String], prefix: &Prefix) -> Result<Vec<Pattern>> {
        if let Some(queue) = &self.queue_group
            && (queue.is_empty() || queue.chars().any(|c| c.is_whitespace() || c.is_control()))
        {
            return Err(Error::config(format!(
                "--queue-group {queue:?}: a group's name is not empty and has no spaces"
            )));
        }
        let pattern = |topic: &String| {
            subject::check_pattern(topic)
                .map_err(|error| Error::config(format!("TOPIC {topic:?}: {error}")))?;
            Ok(Pattern {
                subject: prefix.on_wire(topic),
                queue: self.queue_group.clone(),
                max: self.unsubscribe_after,
            })
        };
        topics.iter().map(pattern).collect()
    }
}
