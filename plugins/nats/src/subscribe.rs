//! The options of a subscription.

use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::prelude::{Error, Result};
use tracemq_plugin_api::{schemars, serde};

use crate::config::Prefix;
use crate::jetstream::{self, Deliver, Wish};
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

    /// Read this stream of JetStream; topics and --filter say which of its subjects
    #[schemars(title = "Stream", extend(
        "x-group" = "jetstream", "x-order" = 120, "x-title-fr" = "Flux",
        "x-help-fr" = "Lire ce flux JetStream ; les sujets et --filter disent lesquels de ses sujets"
    ))]
    pub stream: Option<String>,

    /// Where to begin: all, new, last, last-per-subject, sequence:N or since:10m. A stream is read from the start, a bucket from the last value of each key; an existing durable consumer goes on where it was
    #[schemars(title = "Deliver", extend(
        "x-group" = "jetstream", "x-order" = 121, "x-title-fr" = "Début",
        "x-help-fr" = "Où commencer : all, new, last, last-per-subject, sequence:N ou since:10m. Par défaut au début d'un flux, à la dernière valeur de chaque clé d'un bucket ; un consommateur durable existant reprend où il était"
    ))]
    pub deliver: Option<String>,

    /// Name of a durable consumer: the server remembers what was acknowledged, and the next run goes on behind it
    #[schemars(title = "Durable consumer", extend(
        "x-group" = "jetstream", "x-order" = 122, "x-title-fr" = "Consommateur durable",
        "x-help-fr" = "Nom d'un consommateur durable : le serveur retient ce qui fut acquitté, et l'exécution suivante reprend après"
    ))]
    pub durable: Option<String>,

    /// Whether messages are acknowledged once they are shown: explicit for a durable consumer, else none
    #[schemars(title = "Acknowledgements", extend(
        "x-group" = "jetstream", "x-order" = 123, "x-title-fr" = "Acquittements",
        "x-help-fr" = "Si les messages sont acquittés une fois affichés : explicit pour un consommateur durable, sinon none"
    ))]
    pub ack: Option<Ack>,

    /// Only messages to this subject, wildcards allowed; may be repeated with nats-server 2.10
    #[schemars(title = "Filter", extend(
        "x-group" = "jetstream", "x-order" = 124, "x-title-fr" = "Filtre",
        "x-help-fr" = "Seulement les messages de ce sujet, jokers permis ; peut être répété avec nats-server 2.10"
    ))]
    pub filter: Vec<String>,

    /// End when everything that the stream or bucket holds was shown
    #[schemars(title = "To the end", extend(
        "x-group" = "jetstream", "x-order" = 125, "x-title-fr" = "Jusqu'à la fin",
        "x-help-fr" = "Terminer quand tout le contenu du flux ou du bucket a été affiché"
    ))]
    pub to_end: bool,

    /// Watch this key-value bucket; topics are keys, with wildcards, and all keys without one
    #[schemars(title = "Bucket", extend(
        "x-group" = "key-value", "x-order" = 130, "x-title-fr" = "Bucket",
        "x-help-fr" = "Observer ce bucket clé-valeur ; les sujets sont des clés, jokers permis, toutes sans sujet"
    ))]
    pub bucket: Option<String>,
}

/// Whether messages of a stream are acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ack {
    /// Each message, once it was shown
    Explicit,
    /// Not at all
    None,
}

impl Default for SubscribeOptions {
    fn default() -> SubscribeOptions {
        SubscribeOptions {
            queue_group: None,
            unsubscribe_after: None,
            buffer: BUFFER,
            lossless: false,
            stream: None,
            deliver: None,
            durable: None,
            ack: None,
            filter: Vec::new(),
            to_end: false,
            bucket: None,
        }
    }
}

impl SubscribeOptions {
    /// What is to be read of JetStream: `None` for an ordinary subscription.
    ///
    /// # Errors
    /// Options that exclude each other, or that need a stream; a name, subject or key that can't be one.
    pub(crate) fn wish(&self, topics: &[String], prefix: &Prefix) -> Result<Option<Wish>> {
        let (stream, bucket) = match (&self.stream, &self.bucket) {
            (None, None) => return self.without_stream().map(|()| None),
            (Some(_), Some(_)) => return Err(Error::config("--stream and --bucket exclude each other")),
            (Some(stream), None) => (check_name("--stream", stream)?, None),
            (None, Some(bucket)) => {
                jetstream::check_bucket(bucket)?;
                (Wish::of_bucket(bucket), Some(bucket.clone()))
            }
        };
        for (name, given) in [
            ("--queue-group", self.queue_group.is_some()),
            ("--unsubscribe-after", self.unsubscribe_after.is_some()),
            ("--lossless", self.lossless),
        ] {
            if given {
                return Err(Error::config(format!("{name} is not for streams and buckets"))
                    .hint("several that name the same --durable share its messages, and none is dropped"));
            }
        }
        let filter = |text: &String| match &bucket {
            Some(bucket) => {
                jetstream::check_key_pattern(text)?;
                Ok(format!("$KV.{bucket}.{text}"))
            }
            None => {
                subject::check_pattern(text)
                    .map_err(|error| Error::config(format!("filter {text:?}: {error}")))?;
                Ok(prefix.on_wire(text))
            }
        };
        let mut filters = topics.iter().chain(&self.filter).map(filter).collect::<Result<Vec<_>>>()?;
        if filters.is_empty() && bucket.is_none() && !prefix.as_str().is_empty() {
            filters.push(prefix.on_wire(">"));
        }
        Ok(Some(Wish {
            bucket,
            stream,
            deliver: self.deliver.as_deref().map(Deliver::parse).transpose()?,
            durable: self.durable.as_deref().map(|name| check_name("--durable", name)).transpose()?,
            ack: self.ack,
            filters,
            to_end: self.to_end,
            buffer: usize::try_from(self.buffer).unwrap_or(usize::MAX),
        }))
    }

    fn without_stream(&self) -> Result<()> {
        let given = [
            ("--deliver", self.deliver.is_some()),
            ("--durable", self.durable.is_some()),
            ("--ack", self.ack.is_some()),
            ("--filter", !self.filter.is_empty()),
            ("--to-end", self.to_end),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(Error::config(format!("{name} is for streams and buckets"))
                .hint("name one with --stream or --bucket")),
            None => Ok(()),
        }
    }

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
            let (subject, queue) = (prefix.on_wire(topic), self.queue_group.clone());
            if subject.len() + queue.as_ref().map_or(0, String::len) > subject::LONGEST_TOGETHER {
                return Err(Error::config(format!(
                    "TOPIC, --subject-prefix and --queue-group are longer than {} bytes together",
                    subject::LONGEST_TOGETHER
                )));
            }
            Ok(Pattern { subject, queue, max: self.unsubscribe_after })
        };
        if topics.is_empty() {
            return Err(Error::config("there is no TOPIC to subscribe to")
                .hint("give a subject, like 'orders.>', or read a stream with --stream"));
        }
        topics.iter().map(pattern).collect()
    }
}

/// A name of a stream or a consumer.
fn check_name(option: &str, name: &str) -> Result<String> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || ".*>/\\".contains(c);
    match name.is_empty() || name.len() > 255 || name.contains(bad) {
        true => Err(Error::config(format!(
            "{option} {name:?}: a name is not empty and has no spaces and none of . * > / \\ in it"
        ))),
        false => Ok(name.to_owned()),
    }
}
