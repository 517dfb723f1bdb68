//! The options of a subscription, and the SUBSCRIBE that they make.

use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::prelude::{Error, Result};
use tracemq_plugin_api::{schemars, serde};

use crate::config::{needs_v5, pairs, qos};
use crate::wire::Version;
use crate::wire::request::{Filter, RetainHandling, Subscribe};

/// Which retained messages a subscription starts with (5.0, section 3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Retained {
    #[serde(rename = "always")]
    Always,
    #[serde(rename = "new")]
    New,
    #[serde(rename = "never")]
    Never,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SubscribeOptions {
    /// Highest quality of service wanted; given several times, one for each TOPIC in turn
    #[schemars(title = "QoS", inner(range(min = 0, max = 2)), extend(
        "x-group" = "subscription", "x-order" = 110, "x-title-fr" = "QoS",
        "x-help-fr" = "Qualité de service maximale ; répété, une par sujet dans l'ordre"
    ))]
    pub qos: Vec<u8>,

    /// 5.0: leave out what this client publishes itself
    #[schemars(title = "No local", extend(
        "x-group" = "subscription", "x-order" = 111, "x-title-fr" = "Sans nos propres messages",
        "x-help-fr" = "5.0 : omettre ce que ce client publie lui-même"
    ))]
    pub no_local: bool,

    /// 5.0: show the retain flag as the publisher set it
    #[schemars(title = "Retain as published", extend(
        "x-group" = "subscription", "x-order" = 112, "x-title-fr" = "Indicateur de conservation d'origine",
        "x-help-fr" = "5.0 : montrer l'indicateur de conservation tel que publié"
    ))]
    pub retain_as_published: bool,

    /// 5.0: retained messages to start with: always, only if the subscription is new, or never
    #[schemars(title = "Retain handling", extend(
        "x-group" = "subscription", "x-order" = 113, "x-title-fr" = "Messages conservés",
        "x-help-fr" = "5.0 : messages conservés reçus au départ : toujours, seulement si l'abonnement est nouveau, jamais"
    ))]
    pub retain_handling: Option<Retained>,

    /// 5.0: number that comes back with each message of this subscription
    #[schemars(title = "Subscription id", range(min = 1, max = 268435455), extend(
        "x-group" = "subscription", "x-order" = 114, "x-title-fr" = "Identifiant d'abonnement",
        "x-help-fr" = "5.0 : nombre qui revient avec chaque message de cet abonnement"
    ))]
    pub subscription_id: Option<u32>,

    /// 5.0: user property of the subscription, name=value
    #[schemars(title = "User properties", extend(
        "x-type" = "pair", "x-group" = "subscription", "x-order" = 115, "x-title-fr" = "Propriétés utilisateur",
        "x-help-fr" = "5.0 : propriété utilisateur de l'abonnement, nom=valeur"
    ))]
    pub subscribe_user_property: Vec<String>,
}

impl SubscribeOptions {
    /// # Errors
    /// A bad filter, a value out of range, options that the version has no place for.
    pub fn subscribe(&self, topics: &[String], version: Version) -> Result<Subscribe> {
        if self.qos.len() > 1 && self.qos.len() != topics.len() {
            return Err(Error::config(format!(
                "--qos was given {} times for {} topics",
                self.qos.len(),
                topics.len()
            ))
            .hint("give it once for all topics, or once for each"));
        }
        let given = [
            ("--no-local", self.no_local),
            ("--retain-as-published", self.retain_as_published),
            ("--retain-handling", self.retain_handling.is_some()),
            ("--subscription-id", self.subscription_id.is_some()),
            ("--subscribe-user-property", !self.subscribe_user_property.is_empty()),
        ];
        if let Some((name, _)) = given.iter().find(|(_, given)| *given)
            && !version.is_v5()
        {
            return Err(needs_v5(name, version));
        }
        let filters = topics
            .iter()
            .enumerate()
            .map(|(index, topic)| {
                let level = self.qos.get(index).or(self.qos.first()).copied().unwrap_or(0);
                Ok(Filter {
                    filter: topic.clone(),
                    qos: qos("--qos", level)?,
                    no_local: self.no_local,
                    retain_as_published: self.retain_as_published,
                    retain_handling: match self.retain_handling {
                        None | Some(Retained::Always) => RetainHandling::default(),
                        Some(Retained::New) => RetainHandling::SendIfNew,
                        Some(Retained::Never) => RetainHandling::Never,
                    },
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let subscribe = Subscribe {
            filters,
            id: self.subscription_id,
            user_properties: pairs("--subscribe-user-property", &self.subscribe_user_property)?,
        };
        subscribe.check(version).map_err(|error| crate::error::invalid("TOPIC", &error))?;
        Ok(subscribe)
    }
}
