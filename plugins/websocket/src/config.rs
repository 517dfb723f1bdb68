//! The options of a connection.
//!
//! What a transport has no use for is refused before anything is opened: a header on a raw socket is a mistake, not
//! something to leave out quietly.

use schemars::JsonSchema;
use serde::Deserialize;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tracemq_plugin_api::net::NetOptions;
use tracemq_plugin_api::prelude::{Error, Result, Span};
use tracemq_plugin_api::{schemars, serde};

use crate::deflate;
use crate::endpoint::Transport;
use crate::framing::Framing;

/// Large enough for what is sent over WebSocket, small enough that a peer can't fill the memory.
pub(crate) const MAX_MESSAGE_SIZE: u32 = 16 << 20;
/// A close frame's reason: what is left of 125 bytes beside the code (RFC 6455 section 5.5).
const LONGEST_REASON: usize = 123;

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConnectOptions {
    /// User name of the WebSocket handshake (basic authentication)
    #[schemars(title = "User name", extend(
        "x-group" = "authentication", "x-order" = 10, "x-ask" = true, "x-title-fr" = "Nom d'utilisateur",
        "x-help-fr" = "Nom d'utilisateur de la poignée de main WebSocket (authentification basic)"
    ))]
    pub username: Option<String>,

    /// Password
    #[schemars(title = "Password", extend(
        "x-secret" = true, "x-group" = "authentication", "x-order" = 11, "x-ask" = true, "x-title-fr" = "Mot de passe",
        "x-help-fr" = "Mot de passe"
    ))]
    pub password: Option<String>,

    /// Bearer token of the WebSocket handshake, instead of user name and password
    #[schemars(title = "Token", extend(
        "x-secret" = true, "x-group" = "authentication", "x-order" = 12, "x-ask" = true, "x-title-fr" = "Jeton",
        "x-help-fr" = "Jeton (bearer) de la poignée de main WebSocket, à la place du nom et du mot de passe"
    ))]
    pub token: Option<String>,

    /// WebSocket subprotocol to offer, the best first; the server must agree to one
    #[schemars(title = "Subprotocols", extend(
        "x-group" = "websocket", "x-order" = 20, "x-title-fr" = "Sous-protocoles",
        "x-help-fr" = "Sous-protocole WebSocket à proposer, le meilleur d'abord ; le serveur doit en accepter un"
    ))]
    pub subprotocol: Vec<String>,

    /// Origin header of the WebSocket handshake, such as https://example.com
    #[schemars(title = "Origin", extend(
        "x-group" = "websocket", "x-order" = 21, "x-title-fr" = "Origine",
        "x-help-fr" = "En-tête Origin de la poignée de main WebSocket, par exemple https://example.com"
    ))]
    pub origin: Option<String>,

    /// Header of the WebSocket handshake, name=value
    #[schemars(title = "WebSocket headers", extend(
        "x-type" = "pair", "x-group" = "websocket", "x-order" = 22, "x-title-fr" = "En-têtes WebSocket",
        "x-help-fr" = "En-tête de la poignée de main WebSocket, nom=valeur"
    ))]
    pub ws_header: Vec<String>,

    /// Offer the server to compress messages (permessage-deflate); =false does not
    #[schemars(title = "Compression", extend(
        "x-group" = "websocket", "x-order" = 30, "x-title-fr" = "Compression",
        "x-help-fr" = "Proposer au serveur de compresser les messages (permessage-deflate) ; =false ne le fait pas"
    ))]
    pub compression: bool,

    #[serde(flatten)]
    pub deflate: DeflateOptions,

    /// Longest time without a ping; a server that does not answer before the next one is given up. 0 sends none
    #[schemars(title = "Ping interval", extend(
        "x-group" = "websocket", "x-order" = 40, "x-title-fr" = "Intervalle des pings",
        "x-help-fr" = "Durée maximale sans ping ; un serveur qui ne répond pas avant le suivant est abandonné. 0 : pas de ping"
    ))]
    pub ping_interval: Span,

    /// Close code to end with: 1000 to 4999
    #[schemars(title = "Close code", range(min = 1000, max = 4999), extend(
        "x-group" = "websocket", "x-order" = 41, "x-title-fr" = "Code de fermeture",
        "x-help-fr" = "Code avec lequel fermer la connexion : 1000 à 4999"
    ))]
    pub close_code: u16,

    /// Reason to end with, at most 123 bytes
    #[schemars(title = "Close reason", extend(
        "x-group" = "websocket", "x-order" = 42, "x-title-fr" = "Raison de fermeture",
        "x-help-fr" = "Raison donnée en fermant la connexion, 123 octets au plus"
    ))]
    pub close_reason: Option<String>,

    /// Raw sockets: what tells messages apart: line, crlf, length1, length2, length4, length2-le, length4-le, fixed:N or raw (default line)
    #[schemars(title = "Framing", extend(
        "x-group" = "raw", "x-order" = 50, "x-title-fr" = "Découpage",
        "x-help-fr" = "Sockets bruts : ce qui sépare les messages : line, crlf, length1, length2, length4, length2-le, length4-le, fixed:N ou raw (par défaut line)"
    ))]
    pub framing: Option<String>,

    /// Give the connection up when nothing comes for so long; 0 waits for ever
    #[schemars(title = "Idle time-out", extend(
        "x-group" = "connection", "x-order" = 60, "x-title-fr" = "Délai d'inactivité",
        "x-help-fr" = "Abandonner la connexion si rien n'arrive pendant cette durée ; 0 : attendre toujours"
    ))]
    pub idle_timeout: Span,

    /// Largest message to accept, in bytes; a larger one ends the connection
    #[schemars(title = "Largest message", range(min = 1), extend(
        "x-type" = "size", "x-group" = "connection", "x-order" = 61, "x-title-fr" = "Plus grand message",
        "x-help-fr" = "Plus grand message accepté, en octets ; un plus grand met fin à la connexion"
    ))]
    pub max_message_size: u32,

    #[serde(flatten)]
    pub net: NetOptions,
}

/// How to compress, on either side.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DeflateOptions {
    /// Largest compression window, as the power of two of its bytes: 9 to 15; smaller takes less memory (default 15)
    #[schemars(title = "Compression window", range(min = 9, max = 15), extend(
        "x-group" = "websocket", "x-order" = 31, "x-title-fr" = "Fenêtre de compression",
        "x-help-fr" = "Plus grande fenêtre de compression, puissance de deux de ses octets : 9 à 15 ; plus petite, elle prend moins de mémoire (par défaut 15)"
    ))]
    pub compression_window_bits: Option<u8>,

    /// Compress each message by itself: less memory, larger messages
    #[schemars(title = "No context takeover", extend(
        "x-group" = "websocket", "x-order" = 32, "x-title-fr" = "Sans reprise du contexte",
        "x-help-fr" = "Compresser chaque message à part : moins de mémoire, des messages plus grands"
    ))]
    pub compression_no_context_takeover: bool,
}

impl DeflateOptions {
    pub fn is_set(&self) -> bool {
        self.compression_window_bits.is_some() || self.compression_no_context_takeover
    }

    /// What to negotiate: the same for both directions.
    pub fn negotiated(&self) -> deflate::Options {
        deflate::Options {
            client_no_context_takeover: self.compression_no_context_takeover,
            server_no_context_takeover: self.compression_no_context_takeover,
            client_max_window_bits: self.compression_window_bits,
            server_max_window_bits: self.compression_window_bits,
        }
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            username: None,
            password: None,
            token: None,
            subprotocol: Vec::new(),
            origin: None,
            ws_header: Vec::new(),
            compression: true,
            deflate: DeflateOptions::default(),
            ping_interval: Span::from_secs(30),
            close_code: CloseCode::Normal.into(),
            close_reason: None,
            framing: None,
            idle_timeout: Span::default(),
            max_message_size: MAX_MESSAGE_SIZE,
            net: NetOptions::default(),
        }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("username", &self.username)
            .field("subprotocol", &self.subprotocol)
            .field("origin", &self.origin)
            .field("compression", &self.compression)
            .field("framing", &self.framing)
            .field("net", &self.net)
            .finish_non_exhaustive()
    }
}

impl ConnectOptions {
    /// # Errors
    /// A value that can't be, or an option that the transport has no place for.
    pub fn check(&self, transport: Transport) -> Result<()> {
        self.framing()?;
        self.close()?;
        if transport.is_raw() {
            let set = [
                ("--username", self.username.is_some() || self.password.is_some()),
                ("--token", self.token.is_some()),
                ("--subprotocol", !self.subprotocol.is_empty()),
                ("--origin", self.origin.is_some()),
                ("--ws-header", !self.ws_header.is_empty()),
                ("--compression-window-bits", self.deflate.compression_window_bits.is_some()),
                ("--compression-no-context-takeover", self.deflate.compression_no_context_takeover),
                ("--close-reason", self.close_reason.is_some()),
                ("--close-code", self.close_code != u16::from(CloseCode::Normal)),
            ];
            if let Some((option, _)) = set.iter().find(|(_, set)| *set) {
                return Err(Error::config(format!(
                    "{option} is for WebSocket (ws, wss); {}:// is a raw socket",
                    transport.scheme()
                )));
            }
            return Ok(());
        }
        if self.framing.is_some() {
            return Err(Error::config(
                "--framing is for raw sockets (tcp, tls+tcp); WebSocket has frames of its own",
            ));
        }
        if self.deflate.is_set() && !self.compression {
            return Err(Error::config(
                "--compression=false leaves the other options of compression without use",
            ));
        }
        self.headers().map(drop)
    }

    /// # Errors
    /// Another name than those of [`Framing`].
    pub fn framing(&self) -> Result<Framing> {
        framing(self.framing.as_deref())
    }

    /// The headers of the handshake.
    ///
    /// # Errors
    /// Two ways to log in, or a header that is no pair.
    pub fn headers(&self) -> Result<Vec<(String, String)>> {
        let mut headers = pairs("--ws-header", &self.ws_header)?;
        if let Some(origin) = &self.origin {
            headers.push(("Origin".to_owned(), origin.clone()));
        }
        let basic = self.username.is_some() || self.password.is_some();
        let authorization = match (&self.token, basic) {
            (Some(_), true) => {
                return Err(Error::config(
                    "--token excludes --username and --password: there is one Authorization",
                ));
            }
            (Some(token), false) => format!("Bearer {token}"),
            (None, true) => {
                let text = |part: &Option<String>| part.clone().unwrap_or_default();
                format!(
                    "Basic {}",
                    STANDARD.encode(format!("{}:{}", text(&self.username), text(&self.password)))
                )
            }
            (None, false) => return Ok(headers),
        };
        if headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
            return Err(Error::config(
                "--ws-header Authorization excludes --token, --username and --password: there is one Authorization",
            ));
        }
        headers.push(("Authorization".to_owned(), authorization));
        Ok(headers)
    }

    /// The subprotocols as the handshake's header has them.
    pub fn subprotocols(&self) -> Option<String> {
        (!self.subprotocol.is_empty()).then(|| self.subprotocol.join(", "))
    }

    /// Code and reason to close with.
    ///
    /// # Errors
    /// A code that must not be sent (RFC 6455 section 7.4), a reason that is too long.
    pub fn close(&self) -> Result<(u16, String)> {
        if !CloseCode::from(self.close_code).is_allowed() {
            return Err(Error::config(format!(
                "--close-code {}: this code can't be sent (1000 to 1003, 1007 to 1014 and 3000 to 4999 can)",
                self.close_code
            )));
        }
        let reason = self.close_reason.clone().unwrap_or_default();
        if reason.len() > LONGEST_REASON {
            return Err(Error::config(format!(
                "--close-reason: {} bytes are too long, at most {LONGEST_REASON} are possible",
                reason.len()
            )));
        }
        Ok((self.close_code, reason))
    }

    /// What to offer, if compression is wanted.
    pub fn offer(&self) -> Option<deflate::Options> {
        self.compression.then(|| self.deflate.negotiated())
    }
}

/// # Errors
/// Another name than those of [`Framing`].
pub(crate) fn framing(text: Option<&str>) -> Result<Framing> {
    match text {
        None => Ok(Framing::default()),
        Some(text) => text.parse().map_err(|error| Error::config(format!("--framing: {error}"))),
    }
}

/// A span that is not zero.
pub(crate) fn some(span: Span) -> Option<Duration> {
    Some(span.duration()).filter(|duration| !duration.is_zero())
}

fn pairs(option: &str, texts: &[String]) -> Result<Vec<(String, String)>> {
    let read = |text: &String| {
        text.split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            // The value may be a secret, so that the text is not repeated.
            .ok_or_else(|| Error::config(format!("{option}: write it as name=value")))
    };
    texts.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(json: serde_json::Value) -> ConnectOptions {
        serde_json::from_value(json).expect("the types fit")
    }

    #[test]
    fn what_does_not_fit_the_transport_is_refused() {
        for (json, transport, part) in [
            (serde_json::json!({"origin": "x"}), Transport::Tcp, "--origin"),
            (serde_json::json!({"close_code": 3000}), Transport::Tls, "--close-code"),
            (serde_json::json!({"framing": "line"}), Transport::Ws, "--framing"),
            (serde_json::json!({"framing": "lines"}), Transport::Tcp, "--framing"),
            (serde_json::json!({"close_code": 1005}), Transport::Ws, "1005"),
            (serde_json::json!({"close_reason": "x".repeat(124)}), Transport::Ws, "--close-reason"),
            (serde_json::json!({"token": "t", "username": "u"}), Transport::Ws, "--token"),
            (
                serde_json::json!({"token": "t", "ws_header": ["authorization=x"]}),
                Transport::Ws,
                "--ws-header",
            ),
            (
                serde_json::json!({"compression": false, "compression_window_bits": 9}),
                Transport::Ws,
                "compression",
            ),
        ] {
            let error = options(json).check(transport).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
        for transport in [Transport::Ws, Transport::Wss, Transport::Tcp, Transport::Tls] {
            options(serde_json::json!({})).check(transport).expect("the defaults fit every transport");
        }
    }

    #[test]
    fn logins_are_headers_and_stay_out_of_debug_output() {
        let basic = options(serde_json::json!({"username": "ann", "password": "hunter2"}));
        assert_eq!(
            basic.headers().unwrap(),
            [("Authorization".to_owned(), "Basic YW5uOmh1bnRlcjI=".to_owned())]
        );
        let bearer = options(serde_json::json!({"token": "hunter2", "ws_header": ["X-A=hunter2"]}));
        assert_eq!(bearer.headers().unwrap()[1].1, "Bearer hunter2");
        assert!(!format!("{basic:?} {bearer:?}").contains("hunter2"));
    }
}
