//! The options of `serve`, and the broker's own options that they make.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::net::{ServerTlsOptions, User};
use tracemq_plugin_api::prelude::{Error, Result, Span};
use tracemq_plugin_api::{schemars, serde};

use super::options::{BrokerOptions, DenyRule, Limits};
use crate::config::seconds;

/// The smallest maximum that leaves room for a CONNECT with a name, a password and a last will.
const LEAST_PACKET_SIZE: u32 = 1024;

/// What the embedded broker is started with.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ServeOptions {
    /// Address to listen on, ADDR:PORT; port 0 takes any free one (default 127.0.0.1:1883, with TLS 127.0.0.1:8883)
    #[schemars(title = "Address", extend(
        "x-group" = "server", "x-order" = 210, "x-title-fr" = "Adresse",
        "x-help-fr" = "Adresse d'écoute, ADRESSE:PORT ; le port 0 prend un port libre (par défaut 127.0.0.1:1883, avec TLS 127.0.0.1:8883)"
    ))]
    pub bind: Option<String>,

    /// Also listen for MQTT over WebSocket on this address, ADDR:PORT
    #[schemars(title = "WebSocket address", extend(
        "x-group" = "server", "x-order" = 211, "x-title-fr" = "Adresse WebSocket",
        "x-help-fr" = "Écouter aussi MQTT sur WebSocket à cette adresse, ADRESSE:PORT"
    ))]
    pub ws_bind: Option<String>,

    /// User who may connect, NAME=SECRET; without any, everybody may
    #[schemars(title = "Users", extend(
        "x-type" = "pair", "x-secret" = true, "x-group" = "authentication", "x-order" = 220, "x-title-fr" = "Utilisateurs",
        "x-help-fr" = "Utilisateur autorisé, NOM=SECRET ; si aucun n'est donné, tout le monde peut se connecter"
    ))]
    pub user: Vec<String>,

    /// Longest keep alive granted to 5.0 clients; at least 1s
    #[schemars(title = "Maximum keep alive", extend(
        "x-group" = "server", "x-order" = 230, "x-title-fr" = "Maintien de connexion maximal",
        "x-help-fr" = "Plus long maintien de connexion accordé aux clients 5.0 ; au moins 1s"
    ))]
    pub max_keep_alive: Option<Span>,

    /// Largest packet accepted, in bytes (default 4194304)
    #[schemars(title = "Maximum packet size", range(min = 1024, max = 268435460), extend(
        "x-group" = "server", "x-order" = 231, "x-title-fr" = "Taille maximale d'un paquet",
        "x-help-fr" = "Plus grand paquet accepté, en octets (par défaut 4194304)"
    ))]
    pub maximum_packet_size: Option<u32>,

    /// Refuse subscriptions to this filter, to see how a client takes it; FILTER=CODE gives 5.0 clients another reason code than 0x87
    #[schemars(title = "Refused subscriptions", extend(
        "x-group" = "server", "x-order" = 240, "x-title-fr" = "Abonnements refusés",
        "x-help-fr" = "Refuser les abonnements à ce filtre, pour voir comment un client réagit ; FILTRE=CODE donne aux clients 5.0 un autre code que 0x87"
    ))]
    pub deny_subscribe: Vec<String>,

    /// Refuse messages to topics of this filter, to see how a client takes it; FILTER=CODE gives 5.0 clients another reason code than 0x87
    #[schemars(title = "Refused messages", extend(
        "x-group" = "server", "x-order" = 241, "x-title-fr" = "Messages refusés",
        "x-help-fr" = "Refuser les messages aux sujets de ce filtre, pour voir comment un client réagit ; FILTRE=CODE donne aux clients 5.0 un autre code que 0x87"
    ))]
    pub deny_publish: Vec<String>,

    /// Certificate and key.
    #[serde(flatten)]
    pub tls: ServerTlsOptions,
}

impl fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeOptions")
            .field("bind", &self.bind)
            .field("ws_bind", &self.ws_bind)
            .field("users", &self.user.len())
            .field("max_keep_alive", &self.max_keep_alive)
            .field("maximum_packet_size", &self.maximum_packet_size)
            .field("deny_subscribe", &self.deny_subscribe)
            .field("deny_publish", &self.deny_publish)
            .field("tls", &self.tls)
            .finish()
    }
}

impl ServeOptions {
    /// What can be said before anything is opened.
    ///
    /// # Errors
    /// A value that cannot work: kind config, naming the option.
    pub fn check(&self) -> Result<()> {
        self.broker().map(drop)
    }

    /// The options of the broker.
    ///
    /// # Errors
    /// As [`ServeOptions::check`].
    pub(super) fn broker(&self) -> Result<BrokerOptions> {
        let max_keep_alive = match self.max_keep_alive {
            None => None,
            Some(span) => {
                let seconds = seconds("--max-keep-alive", span, u32::from(u16::MAX))? as u16;
                Some(NonZeroU16::new(seconds).ok_or_else(|| {
                    Error::config(
                        "--max-keep-alive: 0 would switch the keep alive off; at least 1s is needed",
                    )
                })?)
            }
        };
        let mut limits = Limits::default();
        if let Some(size) = self.maximum_packet_size {
            if size < LEAST_PACKET_SIZE {
                return Err(Error::config(format!(
                    "--maximum-packet-size: {size} is too small, at least {LEAST_PACKET_SIZE} bytes are needed"
                )));
            }
            limits.max_packet_size = size;
        }
        let users: Vec<User> = read("--user", &self.user)?;
        Ok(BrokerOptions {
            bind: self.bind.clone(),
            ws_bind: self.ws_bind.clone(),
            users,
            tls: self.tls.clone(),
            state_dir: None,
            max_keep_alive,
            deny_subscribe: read::<DenyRule>("--deny-subscribe", &self.deny_subscribe)?,
            deny_publish: read::<DenyRule>("--deny-publish", &self.deny_publish)?,
            limits,
        })
    }
}

fn read<T: FromStr<Err: fmt::Display>>(option: &str, texts: &[String]) -> Result<Vec<T>> {
    texts
        .iter()
        .map(|text| text.parse().map_err(|error| Error::config(format!("{option}: {error}"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(json: serde_json::Value) -> Result<BrokerOptions> {
        serde_json::from_value::<ServeOptions>(json).expect("the types fit").broker()
    }

    #[test]
    fn options_become_the_brokers() {
        let broker = options(serde_json::json!({
            "bind": "127.0.0.1:0", "user": ["ann=secret"], "max_keep_alive": "1m", "maximum_packet_size": 2048,
            "deny_subscribe": ["test/nosubscribe=0x80"], "deny_publish": ["p/#"]
        }))
        .expect("all valid");
        assert_eq!(broker.max_keep_alive.map(NonZeroU16::get), Some(60));
        assert_eq!(broker.limits.max_packet_size, 2048);
        assert_eq!(broker.users[0].name, "ann");
        assert_eq!(broker.deny_subscribe[0].code, 0x80);
        assert_eq!(broker.deny_publish[0].code, 0x87);
    }

    #[test]
    fn what_cannot_work_names_its_option_and_no_secret() {
        for (json, option) in [
            (serde_json::json!({"user": ["hunter2"]}), "--user"),
            (serde_json::json!({"max_keep_alive": "0s"}), "--max-keep-alive"),
            (serde_json::json!({"max_keep_alive": "1d"}), "--max-keep-alive"),
            (serde_json::json!({"maximum_packet_size": 10}), "--maximum-packet-size"),
            (serde_json::json!({"deny_subscribe": ["a/#/b"]}), "--deny-subscribe"),
            (serde_json::json!({"deny_publish": [""]}), "--deny-publish"),
        ] {
            let text = options(json).expect_err(option).to_string();
            assert!(text.contains(option), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        let options: ServeOptions =
            serde_json::from_value(serde_json::json!({"user": ["ann=hunter2"]})).expect("the types fit");
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
