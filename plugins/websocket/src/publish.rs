//! The options of a publish.

use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::prelude::{Error, Result};
use tracemq_plugin_api::{schemars, serde};

use crate::endpoint::Transport;
use crate::link::Kind;

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PublishOptions {
    /// WebSocket: send a binary message; without it messages are text, which must be UTF-8
    #[schemars(title = "Binary", extend(
        "x-group" = "message", "x-order" = 110, "x-title-fr" = "Binaire",
        "x-help-fr" = "WebSocket : envoyer un message binaire ; sinon les messages sont du texte, qui doit être en UTF-8"
    ))]
    pub binary: bool,

    /// WebSocket: send the payload (at most 125 bytes) as a ping, and wait for the answer
    #[schemars(title = "Ping", extend(
        "x-group" = "message", "x-order" = 111, "x-title-fr" = "Ping",
        "x-help-fr" = "WebSocket : envoyer le contenu (125 octets au plus) comme ping et attendre la réponse"
    ))]
    pub ping: bool,

    /// WebSocket: send the payload (at most 125 bytes) as a pong that nobody asked for
    #[schemars(title = "Pong", extend(
        "x-group" = "message", "x-order" = 112, "x-title-fr" = "Pong",
        "x-help-fr" = "WebSocket : envoyer le contenu (125 octets au plus) comme pong non sollicité"
    ))]
    pub pong: bool,
}

impl PublishOptions {
    /// # Errors
    /// Two kinds at once, or a kind on a transport that has none.
    pub fn check(&self, transport: Transport) -> Result<()> {
        let set = [("--binary", self.binary), ("--ping", self.ping), ("--pong", self.pong)];
        let mut given = set.iter().filter(|(_, set)| *set).map(|(name, _)| *name);
        let Some(first) = given.next() else { return Ok(()) };
        if transport.is_raw() {
            let scheme = transport.scheme();
            return Err(Error::config(format!(
                "{first} is for WebSocket (ws, wss); {scheme}:// is a raw socket"
            )));
        }
        match given.next() {
            Some(second) => {
                Err(Error::config(format!("{first} excludes {second}: a message is of one kind")))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match (self.binary, self.ping, self.pong) {
            (true, ..) => Kind::Binary,
            (_, true, _) => Kind::Ping,
            (.., true) => Kind::Pong,
            _ => Kind::Text,
        }
    }
}
