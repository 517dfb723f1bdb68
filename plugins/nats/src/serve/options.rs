//! The options of `serve`.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::net::{ServerTlsOptions, User};
use tracemq_plugin_api::prelude::{Error, Result, Span};
use tracemq_plugin_api::{schemars, serde};

/// Where a server listens unless told otherwise: this machine only, on the port of NATS.
pub const DEFAULT_BIND: &str = "127.0.0.1:4222";
/// As in nats-server.
const MAX_PAYLOAD: u32 = 1 << 20;
/// nats-server refuses more; the positions in a read buffer would allow it.
const MOST_PAYLOAD: u32 = 64 << 20;
const MAX_PENDING: u32 = 64 << 20;
const MAX_CONNECTIONS: u32 = 1000;
const PING_INTERVAL: Span = Span::from_secs(120);
const WRITE_DEADLINE: Span = Span::from_secs(10);

/// What the embedded server is started with.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ServeOptions {
    /// Address to listen on, ADDR:PORT; port 0 takes any free one (default 127.0.0.1:4222)
    #[schemars(title = "Address", extend(
        "x-group" = "server", "x-order" = 210, "x-title-fr" = "Adresse",
        "x-help-fr" = "Adresse d'écoute, ADRESSE:PORT ; le port 0 prend un port libre (par défaut 127.0.0.1:4222)"
    ))]
    pub bind: Option<String>,

    /// User who may connect, NAME=SECRET; without any and without a token, everybody may
    #[schemars(title = "Users", extend(
        "x-type" = "pair", "x-secret" = true, "x-group" = "authentication", "x-order" = 220, "x-title-fr" = "Utilisateurs",
        "x-help-fr" = "Utilisateur autorisé, NOM=SECRET ; sans aucun et sans jeton, tout le monde peut se connecter"
    ))]
    pub user: Vec<String>,

    /// Token that lets a client in
    #[schemars(title = "Token", extend(
        "x-secret" = true, "x-group" = "authentication", "x-order" = 221, "x-title-fr" = "Jeton",
        "x-help-fr" = "Jeton qui donne accès à un client"
    ))]
    pub token: Option<String>,

    /// Start a nats-server from PATH with JetStream and a temporary store, instead of the embedded server
    #[schemars(title = "JetStream", extend(
        "x-group" = "server", "x-order" = 230, "x-title-fr" = "JetStream",
        "x-help-fr" = "Lancer un nats-server du PATH avec JetStream et un stockage temporaire, à la place du serveur intégré"
    ))]
    pub jetstream: bool,

    /// Largest payload accepted, headers included, in bytes (default 1048576)
    #[schemars(title = "Maximum payload", range(min = 1, max = 67108864), extend(
        "x-group" = "server", "x-order" = 231, "x-title-fr" = "Charge utile maximale",
        "x-help-fr" = "Plus grande charge utile acceptée, en-têtes compris, en octets (par défaut 1048576)"
    ))]
    pub max_payload: Option<u32>,

    /// Connections at once (default 1000)
    #[schemars(title = "Maximum connections", range(min = 1, max = 65536), extend(
        "x-group" = "server", "x-order" = 232, "x-title-fr" = "Nombre maximal de connexions",
        "x-help-fr" = "Connexions simultanées (par défaut 1000)"
    ))]
    pub max_connections: Option<u32>,

    /// Bytes that may wait for a client that reads slowly before it is cut off (default 67108864)
    #[schemars(title = "Maximum pending", range(min = 65536, max = 1073741824), extend(
        "x-group" = "server", "x-order" = 233, "x-title-fr" = "Attente maximale",
        "x-help-fr" = "Octets qui peuvent attendre un client qui lit lentement avant qu'il soit coupé (par défaut 67108864)"
    ))]
    pub max_pending: Option<u32>,

    /// How long a client may read nothing of what waits for it before it is cut off; at least 1ms (default 10s)
    #[schemars(title = "Write deadline", extend(
        "x-group" = "server", "x-order" = 234, "x-title-fr" = "Délai d'écriture",
        "x-help-fr" = "Durée pendant laquelle un client peut ne rien lire de ce qui l'attend avant d'être coupé ; au moins 1ms (par défaut 10s)"
    ))]
    pub write_deadline: Option<Span>,

    /// Ping clients that were silent for so long; the third ping without an answer ends the connection; at least 10ms (default 2m)
    #[schemars(title = "Ping interval", extend(
        "x-group" = "server", "x-order" = 235, "x-title-fr" = "Intervalle de ping",
        "x-help-fr" = "Envoyer un ping aux clients silencieux depuis cette durée ; le troisième sans réponse met fin à la connexion ; au moins 10ms (par défaut 2m)"
    ))]
    pub ping_interval: Option<Span>,

    /// Certificate and key.
    #[serde(flatten)]
    pub tls: ServerTlsOptions,
}

impl fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeOptions")
            .field("bind", &self.bind)
            .field("users", &self.user.len())
            .field("token", &self.token.is_some())
            .field("jetstream", &self.jetstream)
            .field("max_payload", &self.max_payload)
            .field("max_connections", &self.max_connections)
            .field("max_pending", &self.max_pending)
            .field("write_deadline", &self.write_deadline)
            .field("ping_interval", &self.ping_interval)
            .field("tls", &self.tls)
            .finish()
    }
}

/// What keeps clients within bounds.
#[derive(Debug, Clone)]
pub struct Limits {
    pub max_payload: usize,
    pub max_connections: usize,
    pub max_pending: usize,
    pub write_deadline: Duration,
    pub ping_interval: Duration,
}

impl ServeOptions {
    /// What can be said before anything is opened.
    ///
    /// # Errors
    /// A value that cannot work: kind config, naming the option.
    pub fn check(&self) -> Result<()> {
        self.users()?;
        self.limits()?;
        if self.token.as_deref() == Some("") {
            return Err(Error::config(
                "--token: an empty token would let everybody in; leave it out for that",
            ));
        }
        if self.jetstream { super::jetstream::check(self) } else { Ok(()) }
    }

    /// # Errors
    /// A user that is not written NAME=SECRET.
    pub fn users(&self) -> Result<Vec<User>> {
        let read = |text: &String| text.parse().map_err(|error| Error::config(format!("--user: {error}")));
        self.user.iter().map(read).collect()
    }

    /// # Errors
    /// As [`ServeOptions::check`].
    pub fn limits(&self) -> Result<Limits> {
        let max_payload = self.max_payload.unwrap_or(MAX_PAYLOAD);
        if !(1..=MOST_PAYLOAD).contains(&max_payload) {
            return Err(Error::config(format!(
                "--max-payload: {max_payload} is not from 1 to {MOST_PAYLOAD}"
            )));
        }
        let max_pending = self.max_pending.unwrap_or(MAX_PENDING.max(max_payload.saturating_mul(2)));
        if max_pending <= max_payload {
            return Err(Error::config(format!(
                "--max-pending: {max_pending} bytes are too few for a message of up to {max_payload} (--max-payload)"
            )));
        }
        let span = |option: &str, span: Option<Span>, default: Span, least: Duration| {
            let span = span.unwrap_or(default);
            if span.duration() < least {
                return Err(Error::config(format!(
                    "{option}: {span} is too short, at least {least:?} is needed"
                )));
            }
            Ok(span.duration())
        };
        Ok(Limits {
            max_payload: max_payload as usize,
            max_connections: self.max_connections.unwrap_or(MAX_CONNECTIONS).max(1) as usize,
            max_pending: max_pending as usize,
            write_deadline: span(
                "--write-deadline",
                self.write_deadline,
                WRITE_DEADLINE,
                Duration::from_millis(1),
            )?,
            ping_interval: span(
                "--ping-interval",
                self.ping_interval,
                PING_INTERVAL,
                Duration::from_millis(10),
            )?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(json: serde_json::Value) -> ServeOptions {
        serde_json::from_value(json).expect("the types fit")
    }

    #[test]
    fn what_cannot_work_names_its_option_and_no_secret() {
        for (json, option) in [
            (serde_json::json!({"user": ["hunter2"]}), "--user"),
            (serde_json::json!({"token": ""}), "--token"),
            (serde_json::json!({"max_payload": 0}), "--max-payload"),
            (serde_json::json!({"max_pending": 70000, "max_payload": 70000}), "--max-pending"),
            (serde_json::json!({"write_deadline": "0s"}), "--write-deadline"),
            (serde_json::json!({"ping_interval": "1ms"}), "--ping-interval"),
        ] {
            let text = options(json).check().expect_err(option).to_string();
            assert!(text.contains(option), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        let secret = options(serde_json::json!({"user": ["ann=hunter2"], "token": "hunter3"}));
        assert!(secret.check().is_ok());
        let shown = format!("{secret:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("hunter3"), "{shown}");
    }

    #[test]
    fn a_large_payload_makes_room_for_itself() {
        let limits = options(serde_json::json!({"max_payload": 64 << 20})).limits().expect("valid");
        assert_eq!(limits.max_pending, 128 << 20);
    }
}
