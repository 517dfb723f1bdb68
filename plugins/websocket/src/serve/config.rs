//! The options of `serve`.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tracemq_plugin_api::net::{NetError, ServerTlsOptions, User, Users};
use tracemq_plugin_api::prelude::{Error, Result, Span};
use tracemq_plugin_api::{schemars, serde};

use crate::config::{DeflateOptions, MAX_MESSAGE_SIZE, framing};
use crate::endpoint::{Endpoint, Transport};

/// What is done with a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Send it back to its client
    #[default]
    Echo,
    /// Send it to all other clients
    Broadcast,
    /// Answer with --reply-file
    Reply,
    /// Only show it
    Silent,
}

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ServeOptions {
    /// Address to listen on, ADDR:PORT; port 0 takes any free one (default 127.0.0.1:8080, with TLS 127.0.0.1:8443)
    #[schemars(title = "Address", extend(
        "x-group" = "server", "x-order" = 210, "x-title-fr" = "Adresse",
        "x-help-fr" = "Adresse d'écoute, ADRESSE:PORT ; le port 0 prend un port libre (par défaut 127.0.0.1:8080, avec TLS 127.0.0.1:8443)"
    ))]
    pub bind: Option<String>,

    /// What to do with messages
    #[schemars(title = "Mode", extend(
        "x-group" = "server", "x-order" = 211, "x-title-fr" = "Mode",
        "x-help-fr" = "Que faire des messages"
    ))]
    pub mode: Mode,

    /// Mode reply: file with the answer, a template like {"id": {{ json.id }}, "n": {{ number }}}; an empty answer is not sent
    #[schemars(title = "Reply file", extend(
        "x-file" = "read", "x-group" = "server", "x-order" = 212, "x-title-fr" = "Fichier de réponse",
        "x-help-fr" = "Mode reply : fichier de la réponse, un modèle comme {\"id\": {{ json.id }}, \"n\": {{ number }}} ; une réponse vide n'est pas envoyée"
    ))]
    pub reply_file: Option<PathBuf>,

    /// User who may connect, NAME=SECRET (WebSocket, basic authentication); without any, everybody may
    #[schemars(title = "Users", extend(
        "x-secret" = true, "x-type" = "pair", "x-group" = "server", "x-order" = 213, "x-title-fr" = "Utilisateurs",
        "x-help-fr" = "Utilisateur autorisé, NOM=SECRET (WebSocket, authentification basic) ; sans aucun, tout le monde l'est"
    ))]
    pub user: Vec<String>,

    /// Most clients at once
    #[schemars(title = "Most clients", range(min = 1, max = 100000), extend(
        "x-group" = "server", "x-order" = 214, "x-title-fr" = "Nombre de clients",
        "x-help-fr" = "Nombre maximal de clients à la fois"
    ))]
    pub max_clients: u32,

    /// WebSocket: the only path to serve (default: every path)
    #[schemars(title = "Path", extend(
        "x-group" = "websocket", "x-order" = 220, "x-title-fr" = "Chemin",
        "x-help-fr" = "WebSocket : le seul chemin servi (par défaut tous)"
    ))]
    pub path: Option<String>,

    /// WebSocket: subprotocol to agree to; clients that offer none of them are refused (default: the client's first)
    #[schemars(title = "Subprotocols", extend(
        "x-group" = "websocket", "x-order" = 221, "x-title-fr" = "Sous-protocoles",
        "x-help-fr" = "WebSocket : sous-protocole à accepter ; un client qui n'en propose aucun est refusé (par défaut le premier du client)"
    ))]
    pub subprotocol: Vec<String>,

    /// WebSocket: origin whose pages may connect, such as https://example.com; clients that name no origin may
    #[schemars(title = "Origins", extend(
        "x-group" = "websocket", "x-order" = 222, "x-title-fr" = "Origines",
        "x-help-fr" = "WebSocket : origine dont les pages sont admises, par exemple https://example.com ; un client sans origine l'est"
    ))]
    pub origin: Vec<String>,

    /// Compress messages for clients that can (permessage-deflate); =false does not
    #[schemars(title = "Compression", extend(
        "x-group" = "websocket", "x-order" = 230, "x-title-fr" = "Compression",
        "x-help-fr" = "Compresser les messages pour les clients qui le peuvent (permessage-deflate) ; =false ne le fait pas"
    ))]
    pub compression: bool,

    #[serde(flatten)]
    pub deflate: DeflateOptions,

    /// WebSocket: longest time without a ping; a client that does not answer before the next one is given up. 0 sends none
    #[schemars(title = "Ping interval", extend(
        "x-group" = "websocket", "x-order" = 240, "x-title-fr" = "Intervalle des pings",
        "x-help-fr" = "WebSocket : durée maximale sans ping ; un client qui ne répond pas avant le suivant est abandonné. 0 : pas de ping"
    ))]
    pub ping_interval: Span,

    /// Raw sockets: what tells messages apart: line, crlf, length1, length2, length4, length2-le, length4-le, fixed:N or raw (default line)
    #[schemars(title = "Framing", extend(
        "x-group" = "raw", "x-order" = 250, "x-title-fr" = "Découpage",
        "x-help-fr" = "Sockets bruts : ce qui sépare les messages : line, crlf, length1, length2, length4, length2-le, length4-le, fixed:N ou raw (par défaut line)"
    ))]
    pub framing: Option<String>,

    /// Give a client up when nothing comes from it for so long; 0 waits for ever
    #[schemars(title = "Idle time-out", extend(
        "x-group" = "server", "x-order" = 260, "x-title-fr" = "Délai d'inactivité",
        "x-help-fr" = "Abandonner un client dont rien n'arrive pendant cette durée ; 0 : attendre toujours"
    ))]
    pub idle_timeout: Span,

    /// Largest message to accept, in bytes; a larger one ends its connection
    #[schemars(title = "Largest message", range(min = 1), extend(
        "x-type" = "size", "x-group" = "server", "x-order" = 261, "x-title-fr" = "Plus grand message",
        "x-help-fr" = "Plus grand message accepté, en octets ; un plus grand met fin à sa connexion"
    ))]
    pub max_message_size: u32,

    #[serde(flatten)]
    pub tls: ServerTlsOptions,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            bind: None,
            mode: Mode::default(),
            reply_file: None,
            user: Vec::new(),
            max_clients: 1000,
            path: None,
            subprotocol: Vec::new(),
            origin: Vec::new(),
            compression: true,
            deflate: DeflateOptions::default(),
            ping_interval: Span::from_secs(30),
            framing: None,
            idle_timeout: Span::default(),
            max_message_size: MAX_MESSAGE_SIZE,
            tls: ServerTlsOptions::default(),
        }
    }
}

impl fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeOptions")
            .field("bind", &self.bind)
            .field("mode", &self.mode)
            .field("users", &self.user.len())
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// Where and how to listen.
#[derive(Debug)]
pub(super) struct Listen {
    pub(super) transport: Transport,
    pub(super) bind: String,
    /// The only path, with its slash.
    pub(super) path: Option<String>,
}

impl ServeOptions {
    /// Before anything is opened.
    ///
    /// # Errors
    /// Options that don't fit together, or the target's URL.
    pub fn check(&self, url: Option<&str>) -> Result<()> {
        self.listen(url).map(drop)
    }

    /// What the target's URL and the options together mean. Without a URL it is a WebSocket, with TLS when there is a
    /// certificate.
    ///
    /// # Errors
    /// Options that don't fit together, or the transport.
    pub(super) fn listen(&self, url: Option<&str>) -> Result<Listen> {
        let endpoint = url.map(Endpoint::parse).transpose()?;
        let transport = match &endpoint {
            Some(endpoint) => endpoint.transport,
            None if self.tls.is_set() => Transport::Wss,
            None => Transport::Ws,
        };
        if let Some(option) = self.tls.first_set().filter(|_| !transport.is_tls()) {
            let other = if transport.is_raw() { "tls+tcp" } else { "wss" };
            return Err(Error::config(format!("{option} is for {other}://")));
        }
        let default = if transport.is_tls() { "127.0.0.1:8443" } else { "127.0.0.1:8080" };
        let bind = match (&self.bind, &endpoint) {
            (Some(bind), _) => bind.clone(),
            (None, Some(endpoint)) => endpoint.shown(),
            (None, None) => default.to_owned(),
        };
        let named = endpoint.map(|endpoint| endpoint.path).filter(|path| !matches!(path.as_str(), "" | "/"));
        let path = match (&self.path, named) {
            (Some(path), Some(named)) if *path != named => {
                return Err(Error::config(format!("--path {path} and the path of the URL, {named}, differ")));
            }
            (Some(path), _) if path.starts_with('/') => Some(path.clone()),
            (Some(path), _) => Some(format!("/{path}")),
            (None, named) => named,
        };
        if let Some(path) = path.as_ref().filter(|path| path.contains(['?', '#', ' '])) {
            return Err(Error::config(format!(
                "--path {path}: a query, a fragment or a space is no part of a path"
            )));
        }
        self.fits(transport)?;
        Ok(Listen { transport, bind, path })
    }

    fn fits(&self, transport: Transport) -> Result<()> {
        framing(self.framing.as_deref())?;
        match (self.mode, &self.reply_file) {
            (Mode::Reply, None) => return Err(Error::config("--mode reply needs --reply-file")),
            (Mode::Echo | Mode::Broadcast | Mode::Silent, Some(_)) => {
                return Err(Error::config("--reply-file needs --mode reply"));
            }
            _ => {}
        }
        self.users()?;
        if transport.is_raw() {
            let set = [
                ("--user", !self.user.is_empty()),
                ("--path", self.path.is_some()),
                ("--subprotocol", !self.subprotocol.is_empty()),
                ("--origin", !self.origin.is_empty()),
                ("--compression-window-bits", self.deflate.compression_window_bits.is_some()),
                ("--compression-no-context-takeover", self.deflate.compression_no_context_takeover),
            ];
            if let Some((option, _)) = set.iter().find(|(_, set)| *set) {
                let scheme = transport.scheme();
                return Err(Error::config(format!("{option} is for WebSocket; {scheme}:// is a raw socket")));
            }
            return Ok(());
        }
        if self.framing.is_some() {
            return Err(Error::config(
                "--framing is for raw sockets: serve tcp://ADDR:PORT or tls+tcp://ADDR:PORT",
            ));
        }
        if self.deflate.is_set() && !self.compression {
            return Err(Error::config(
                "--compression=false leaves the other options of compression without use",
            ));
        }
        let unfit =
            |name: &&String| name.is_empty() || name.contains(',') || HeaderValue::from_str(name).is_err();
        if let Some(name) = self.subprotocol.iter().find(unfit) {
            return Err(Error::config(format!("--subprotocol {name:?} can't be the name of one")));
        }
        Ok(())
    }

    /// Who may come in.
    ///
    /// # Errors
    /// One that is not written NAME=SECRET, or whose name can't be said in basic authentication (RFC 7617).
    pub(super) fn users(&self) -> Result<Users> {
        let wrong = |error: NetError| Error::config(format!("--user: {error}"));
        let users: Vec<User> =
            self.user.iter().map(|text| text.parse().map_err(wrong)).collect::<Result<_>>()?;
        if let Some(user) = users.iter().find(|user| user.name.contains(':')) {
            return Err(Error::config(format!("--user: the name \"{}\" holds a colon", user.name)));
        }
        Users::new(&users).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(url: Option<&str>, json: serde_json::Value) -> Result<Listen> {
        serde_json::from_value::<ServeOptions>(json).expect("the types fit").listen(url)
    }

    #[test]
    fn where_to_listen() {
        let at = |url, json| listen(url, json).map(|l| (l.transport, l.bind, l.path)).unwrap();
        let none = serde_json::json!({});
        assert_eq!(at(None, none.clone()), (Transport::Ws, "127.0.0.1:8080".into(), None));
        assert_eq!(at(Some("tcp://[::1]:0"), none.clone()), (Transport::Tcp, "[::1]:0".into(), None));
        let path = at(Some("ws://127.0.0.1:0/chat"), none);
        assert_eq!(path, (Transport::Ws, "127.0.0.1:0".into(), Some("/chat".into())));
        let tls = serde_json::json!({"tls_cert": "c", "path": "p"});
        assert_eq!(at(None, tls), (Transport::Wss, "127.0.0.1:8443".into(), Some("/p".into())));
    }

    #[test]
    fn what_can_not_work_names_its_option_and_no_secret() {
        for (url, json, part) in [
            (None, serde_json::json!({"mode": "reply"}), "--reply-file"),
            (None, serde_json::json!({"reply_file": "x"}), "--mode reply"),
            (None, serde_json::json!({"user": ["hunter2"]}), "--user"),
            (None, serde_json::json!({"framing": "line"}), "--framing"),
            (None, serde_json::json!({"subprotocol": ["a, b"]}), "--subprotocol"),
            (None, serde_json::json!({"path": "/a?b"}), "--path"),
            (Some("tcp://127.0.0.1:0"), serde_json::json!({"user": ["a=hunter2"]}), "--user"),
            (Some("tcp://127.0.0.1:0"), serde_json::json!({"framing": "x"}), "--framing"),
            (Some("ws://127.0.0.1:0"), serde_json::json!({"tls_cert": "c"}), "wss"),
            (Some("ws://127.0.0.1:0/a"), serde_json::json!({"path": "/b"}), "differ"),
        ] {
            let text = listen(url, json).expect_err(part).to_string();
            assert!(text.contains(part), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
