//! The options of a subscription, and what they come to.

use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::prelude::{Error, Result};
use tracemq_plugin_api::{schemars, serde};

use crate::address::DEFAULT_GROUP;
use crate::config::Settings;
use crate::endpoint::Dialect;
use crate::position::{Position, Start};
use crate::publish::check_partition;

/// Events on their way to us for each partition. Enough for the fastest reader, and little memory: links begin with less
/// and take more as they see how large the events are.
const PREFETCH: u32 = 1000;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SubscribeOptions {
    /// Partition to read; may be repeated, and all are read without it
    #[schemars(title = "Partitions", extend(
        "x-group" = "subscription", "x-order" = 110, "x-title-fr" = "Partitions",
        "x-help-fr" = "Partition à lire ; peut être répété, et toutes sont lues sinon"
    ))]
    pub partition: Vec<String>,

    /// Where to begin: earliest, latest, offset:X, sequence:N or time:2026-11-22T10:00:00Z (default latest)
    #[schemars(title = "Position", extend(
        "x-group" = "subscription", "x-order" = 111, "x-title-fr" = "Position",
        "x-help-fr" = "Où commencer : earliest, latest, offset:X, sequence:N ou time:2026-11-22T10:00:00Z (par défaut latest)"
    ))]
    pub position: Option<String>,

    /// Begin with the event at the position itself, not behind it
    #[schemars(title = "Inclusive", extend(
        "x-group" = "subscription", "x-order" = 112, "x-title-fr" = "Inclusif",
        "x-help-fr" = "Commencer par l'événement à la position même, et non après"
    ))]
    pub inclusive: bool,

    /// Consumer group (default $Default)
    #[schemars(title = "Consumer group", extend(
        "x-group" = "subscription", "x-order" = 113, "x-title-fr" = "Groupe de consommateurs",
        "x-help-fr" = "Groupe de consommateurs (par défaut $Default)"
    ))]
    pub consumer_group: Option<String>,

    /// Read exclusively: shuts out readers of the group with a lower level or none. Without it nobody is disturbed
    #[schemars(title = "Owner level", range(min = 0), extend(
        "x-group" = "subscription", "x-order" = 114, "x-title-fr" = "Niveau de propriétaire",
        "x-help-fr" = "Lire en exclusivité : écarte les lecteurs du groupe de niveau inférieur ou sans niveau. Sinon personne n'est dérangé"
    ))]
    pub owner_level: Option<i64>,

    /// Show with each event how far it is behind the partition's last one
    #[schemars(title = "Lag", extend(
        "x-group" = "subscription", "x-order" = 115, "x-title-fr" = "Retard",
        "x-help-fr" = "Montrer avec chaque événement son retard sur le dernier de la partition"
    ))]
    pub lag: bool,

    /// Messages that may be on their way for each partition or queue
    #[schemars(title = "Prefetch", range(min = 1, max = 100_000), extend(
        "x-group" = "subscription", "x-order" = 116, "x-title-fr" = "Préchargement",
        "x-help-fr" = "Messages pouvant être en route pour chaque partition ou file"
    ))]
    pub prefetch: u32,
}

impl Default for SubscribeOptions {
    fn default() -> SubscribeOptions {
        SubscribeOptions {
            partition: Vec::new(),
            position: None,
            inclusive: false,
            consumer_group: None,
            owner_level: None,
            lag: false,
            prefetch: PREFETCH,
        }
    }
}

/// What is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Hubs or queues.
    pub entities: Vec<String>,
    /// Empty: all of them.
    pub partitions: Vec<String>,
    pub start: Start,
    pub group: String,
    pub owner_level: Option<i64>,
    pub lag: bool,
    pub prefetch: u32,
}

impl SubscribeOptions {
    /// # Errors
    /// Kind config: nothing to read, options that exclude each other or the dialect, a value that can't be.
    pub fn wish(&self, topics: &[String], settings: &Settings) -> Result<Wish> {
        let mut entities: Vec<String> = Vec::new();
        for topic in topics {
            if entities.contains(topic) {
                return Err(Error::config(format!("TOPIC {topic:?} is given twice")));
            }
            entities.push(settings.entity(topic)?);
        }
        if entities.is_empty() {
            entities.push(settings.entity("")?);
        }
        if settings.dialect == Dialect::Queues {
            let hubs = [
                ("--partition", !self.partition.is_empty()),
                ("--position", self.position.is_some()),
                ("--inclusive", self.inclusive),
                ("--consumer-group", self.consumer_group.is_some()),
                ("--owner-level", self.owner_level.is_some()),
                ("--lag", self.lag),
            ];
            if let Some((name, _)) = hubs.iter().find(|(_, given)| *given) {
                return Err(Error::config(format!("{name} is for Event Hubs")));
            }
        } else if let Some(entity) = entities.iter().find(|entity| entity.contains('/')) {
            return Err(Error::config(format!("TOPIC {entity:?}: this is no hub's name")));
        }
        for (at, partition) in self.partition.iter().enumerate() {
            check_partition(partition)?;
            if self.partition[..at].contains(partition) {
                return Err(Error::config(format!("--partition {partition} is given twice")));
            }
        }
        let position = self.position.as_deref().map_or(Ok(Position::Latest), Position::parse)?;
        if self.inclusive && matches!(position, Position::Earliest | Position::Latest) {
            return Err(Error::config("--inclusive is for --position offset:X, sequence:N and time:T"));
        }
        let group = self.consumer_group.clone().unwrap_or_else(|| DEFAULT_GROUP.to_owned());
        if group.is_empty() || group.contains(|c: char| c == '/' || c.is_control()) {
            return Err(Error::config(format!("--consumer-group {group:?}: this is no group's name")));
        }
        Ok(Wish {
            entities,
            partitions: self.partition.clone(),
            start: Start { position, inclusive: self.inclusive },
            group,
            owner_level: self.owner_level,
            lag: self.lag,
            prefetch: self.prefetch,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConnectOptions;
    use serde_json::json;

    fn wish(json: serde_json::Value, topics: &[&str], url: &str) -> Result<Wish> {
        let connect = ConnectOptions {
            username: Some("n".into()),
            password: Some("k".into()),
            ..ConnectOptions::default()
        };
        let settings = Settings::new(&connect, Some(url))?;
        let options: SubscribeOptions = serde_json::from_value(json).expect("the types fit");
        options.wish(&topics.iter().map(|topic| (*topic).to_owned()).collect::<Vec<_>>(), &settings)
    }

    #[test]
    fn defaults() {
        let found = wish(json!({}), &[], "sb://h/hub").expect("a wish");
        assert_eq!((found.entities, found.group.as_str()), (vec!["hub".to_owned()], "$Default"));
        assert_eq!(found.start.position, Position::Latest);
        assert!(found.partitions.is_empty() && found.owner_level.is_none());
        assert_eq!(wish(json!({}), &["a", "b"], "sb://h/hub").expect("a wish").entities, ["a", "b"]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (json, topics, url, part) in [
            (json!({}), &[][..], "sb://h", "no hub"),
            (json!({}), &[], "amqp://h", "no queue"),
            (json!({}), &["a", "a"], "sb://h", "twice"),
            (json!({}), &["a/Partitions/0"], "sb://h", "no hub's name"),
            (json!({"partition": ["0", "0"]}), &[], "sb://h/x", "twice"),
            (json!({"partition": ["-"]}), &[], "sb://h/x", "--partition"),
            (json!({"position": "soon"}), &[], "sb://h/x", "--position"),
            (json!({"inclusive": true}), &[], "sb://h/x", "--inclusive"),
            (json!({"consumer_group": "a/b"}), &[], "sb://h/x", "--consumer-group"),
            (json!({"position": "earliest"}), &[], "amqp://h/q", "Event Hubs"),
        ] {
            let error = wish(json, topics, url).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
