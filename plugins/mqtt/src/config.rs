//! The options of a connection, and the CONNECT packet they make.
//!
//! What a version cannot say is refused before anything is opened: an option that 3.1.1 has no place for is an error
//! there, not something quietly left out.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use tracemq_plugin_api::net::NetOptions;
use tracemq_plugin_api::prelude::{Error, Result, Span};
use tracemq_plugin_api::{schemars, serde};

use crate::auth::{Mechanism, Scram};
use crate::wire::{Connect, QoS, Version, Will};

/// The protocol version to ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ProtocolVersion {
    #[serde(rename = "3.1")]
    V31,
    #[serde(rename = "3.1.1")]
    V311,
    #[default]
    #[serde(rename = "5.0")]
    V5,
}

impl From<ProtocolVersion> for Version {
    fn from(version: ProtocolVersion) -> Version {
        match version {
            ProtocolVersion::V31 => Version::V31,
            ProtocolVersion::V311 => Version::V311,
            ProtocolVersion::V5 => Version::V5,
        }
    }
}

/// Enhanced authentication (5.0, section 4.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum AuthMethod {
    #[serde(rename = "SCRAM-SHA-1")]
    ScramSha1,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConnectOptions {
    /// MQTT version to speak
    #[schemars(title = "Protocol version", extend(
        "x-group" = "connection", "x-order" = 10, "x-title-fr" = "Version du protocole",
        "x-help-fr" = "Version de MQTT à parler"
    ))]
    pub protocol_version: ProtocolVersion,

    /// When the server refuses the version, try the next older one: 5.0, then 3.1.1, then 3.1
    #[schemars(title = "Fall back to older versions", extend(
        "x-group" = "connection", "x-order" = 11, "x-title-fr" = "Repli sur une version antérieure",
        "x-help-fr" = "Si le serveur refuse la version, essayer la précédente : 5.0, puis 3.1.1, puis 3.1"
    ))]
    pub protocol_fallback: bool,

    /// Name of this client on the server (made up when not given; a persistent session needs one)
    #[schemars(title = "Client id", extend(
        "x-group" = "connection", "x-order" = 20, "x-ask" = true, "x-title-fr" = "Identifiant du client",
        "x-help-fr" = "Nom de ce client sur le serveur (inventé s'il manque ; une session persistante en exige un)"
    ))]
    pub client_id: Option<String>,

    /// User name
    #[schemars(title = "User name", extend(
        "x-group" = "authentication", "x-order" = 30, "x-ask" = true, "x-title-fr" = "Nom d'utilisateur",
        "x-help-fr" = "Nom d'utilisateur"
    ))]
    pub username: Option<String>,

    /// Password
    #[schemars(title = "Password", extend(
        "x-secret" = true, "x-group" = "authentication", "x-order" = 31, "x-ask" = true, "x-title-fr" = "Mot de passe",
        "x-help-fr" = "Mot de passe"
    ))]
    pub password: Option<String>,

    /// Enhanced authentication of MQTT 5.0, with the user name and password
    #[schemars(title = "Authentication method", extend(
        "x-group" = "authentication", "x-order" = 32, "x-title-fr" = "Méthode d'authentification",
        "x-help-fr" = "Authentification renforcée de MQTT 5.0, avec le nom d'utilisateur et le mot de passe"
    ))]
    pub auth_method: Option<AuthMethod>,

    /// Longest silence before a ping; at most 65535s, 0 switches pings off
    #[schemars(title = "Keep alive", extend(
        "x-group" = "connection", "x-order" = 40, "x-title-fr" = "Maintien de la connexion",
        "x-help-fr" = "Silence maximal avant un ping ; 65535s au plus, 0 pour ne pas en envoyer"
    ))]
    pub keep_alive: Span,

    /// Start without an earlier session; =false resumes the session of this client id and the messages it missed
    #[schemars(title = "Clean session", extend(
        "x-group" = "session", "x-order" = 50, "x-title-fr" = "Session propre",
        "x-help-fr" = "Commencer sans session antérieure ; =false reprend la session de cet identifiant et ses messages manqués"
    ))]
    pub clean_session: bool,

    /// 5.0: how long the server keeps the session after the connection (default: 0 for a clean session, without end otherwise)
    #[schemars(title = "Session expiry", extend(
        "x-group" = "session", "x-order" = 51, "x-title-fr" = "Expiration de la session",
        "x-help-fr" = "5.0 : durée de conservation de la session après la connexion (par défaut 0 pour une session propre, sans fin sinon)"
    ))]
    pub session_expiry: Option<Span>,

    /// Most unacknowledged messages at once: towards us (5.0), and from us to a 3.x server (default there 20)
    #[schemars(title = "Receive maximum", range(min = 1, max = 65535), extend(
        "x-group" = "session", "x-order" = 52, "x-title-fr" = "Maximum en réception",
        "x-help-fr" = "Nombre maximal de messages non acquittés : vers nous (5.0), et de nous vers un serveur 3.x (20 par défaut)"
    ))]
    pub receive_maximum: Option<u16>,

    /// Largest packet to accept, in bytes (default 268435460, the largest there is)
    #[schemars(title = "Maximum packet size", range(min = 16, max = 268435460), extend(
        "x-group" = "session", "x-order" = 53, "x-title-fr" = "Taille maximale d'un paquet",
        "x-help-fr" = "Plus grand paquet accepté, en octets (par défaut 268435460, le plus grand possible)"
    ))]
    pub maximum_packet_size: Option<u32>,

    /// 5.0: how many topic aliases the server may use
    #[schemars(title = "Topic alias maximum", extend(
        "x-group" = "session", "x-order" = 54, "x-title-fr" = "Nombre d'alias de sujet",
        "x-help-fr" = "5.0 : nombre d'alias de sujet que le serveur peut employer"
    ))]
    pub topic_alias_maximum: Option<u16>,

    /// 5.0: send a long topic once, then an alias for it, as far as the server allows
    #[schemars(title = "Use topic aliases", extend(
        "x-group" = "session", "x-order" = 54, "x-title-fr" = "Employer des alias de sujet",
        "x-help-fr" = "5.0 : envoyer un sujet long une fois, puis un alias, autant que le serveur le permet"
    ))]
    pub use_topic_aliases: bool,

    /// 5.0: ask the server for response information
    #[schemars(title = "Request response information", extend(
        "x-group" = "session", "x-order" = 55, "x-title-fr" = "Demander l'information de réponse",
        "x-help-fr" = "5.0 : demander au serveur l'information de réponse"
    ))]
    pub request_response_information: Option<bool>,

    /// 5.0: =false asks the server to leave out reason texts
    #[schemars(title = "Request problem information", extend(
        "x-group" = "session", "x-order" = 56, "x-title-fr" = "Demander l'information d'erreur",
        "x-help-fr" = "5.0 : =false demande au serveur d'omettre les textes d'erreur"
    ))]
    pub request_problem_information: Option<bool>,

    /// 5.0: user property of the connection, name=value
    #[schemars(title = "User properties", extend(
        "x-type" = "pair", "x-group" = "connection", "x-order" = 60, "x-title-fr" = "Propriétés utilisateur",
        "x-help-fr" = "5.0 : propriété utilisateur de la connexion, nom=valeur"
    ))]
    pub user_property: Vec<String>,

    /// WebSocket: header of the handshake, name=value
    #[schemars(title = "WebSocket headers", extend(
        "x-type" = "pair", "x-group" = "connection", "x-order" = 61, "x-title-fr" = "En-têtes WebSocket",
        "x-help-fr" = "WebSocket : en-tête de la poignée de main, nom=valeur"
    ))]
    pub ws_header: Vec<String>,

    /// Last will: topic that the server publishes to when this client is lost
    #[schemars(title = "Will topic", extend(
        "x-group" = "will", "x-order" = 70, "x-title-fr" = "Sujet du testament",
        "x-help-fr" = "Testament : sujet où le serveur publie si ce client disparaît"
    ))]
    pub will_topic: Option<String>,

    /// Last will: its message
    #[schemars(title = "Will payload", extend(
        "x-group" = "will", "x-order" = 71, "x-title-fr" = "Message du testament",
        "x-help-fr" = "Testament : son message"
    ))]
    pub will_payload: Option<String>,

    /// Last will: quality of service
    #[schemars(title = "Will QoS", range(min = 0, max = 2), extend(
        "x-group" = "will", "x-order" = 72, "x-title-fr" = "QoS du testament",
        "x-help-fr" = "Testament : qualité de service"
    ))]
    pub will_qos: u8,

    /// Last will: the server keeps it for later subscribers
    #[schemars(title = "Will retained", extend(
        "x-group" = "will", "x-order" = 73, "x-title-fr" = "Testament conservé",
        "x-help-fr" = "Testament : le serveur le garde pour les abonnés suivants"
    ))]
    pub will_retain: bool,

    /// Last will, 5.0: how long the server waits for us to come back
    #[schemars(title = "Will delay", extend(
        "x-group" = "will", "x-order" = 74, "x-title-fr" = "Délai du testament",
        "x-help-fr" = "Testament, 5.0 : durée pendant laquelle le serveur attend notre retour"
    ))]
    pub will_delay: Option<Span>,

    /// Last will, 5.0: how long its message stays valid
    #[schemars(title = "Will message expiry", extend(
        "x-group" = "will", "x-order" = 75, "x-title-fr" = "Expiration du testament",
        "x-help-fr" = "Testament, 5.0 : durée de validité de son message"
    ))]
    pub will_message_expiry: Option<Span>,

    /// Last will, 5.0: content type
    #[schemars(title = "Will content type", extend(
        "x-group" = "will", "x-order" = 76, "x-title-fr" = "Type de contenu du testament",
        "x-help-fr" = "Testament, 5.0 : type de contenu"
    ))]
    pub will_content_type: Option<String>,

    /// Last will, 5.0: response topic
    #[schemars(title = "Will response topic", extend(
        "x-group" = "will", "x-order" = 77, "x-title-fr" = "Sujet de réponse du testament",
        "x-help-fr" = "Testament, 5.0 : sujet de réponse"
    ))]
    pub will_response_topic: Option<String>,

    /// Last will, 5.0: correlation data
    #[schemars(title = "Will correlation data", extend(
        "x-group" = "will", "x-order" = 78, "x-title-fr" = "Données de corrélation du testament",
        "x-help-fr" = "Testament, 5.0 : données de corrélation"
    ))]
    pub will_correlation_data: Option<String>,

    /// Last will, 5.0: user property, name=value
    #[schemars(title = "Will user properties", extend(
        "x-type" = "pair", "x-group" = "will", "x-order" = 79, "x-title-fr" = "Propriétés utilisateur du testament",
        "x-help-fr" = "Testament, 5.0 : propriété utilisateur, nom=valeur"
    ))]
    pub will_user_property: Vec<String>,

    #[serde(flatten)]
    pub net: NetOptions,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            protocol_version: ProtocolVersion::V5,
            protocol_fallback: false,
            client_id: None,
            username: None,
            password: None,
            auth_method: None,
            keep_alive: Span::from_secs(60),
            clean_session: true,
            session_expiry: None,
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: None,
            use_topic_aliases: false,
            request_response_information: None,
            request_problem_information: None,
            user_property: Vec::new(),
            ws_header: Vec::new(),
            will_topic: None,
            will_payload: None,
            will_qos: 0,
            will_retain: false,
            will_delay: None,
            will_message_expiry: None,
            will_content_type: None,
            will_response_topic: None,
            will_correlation_data: None,
            will_user_property: Vec::new(),
            net: NetOptions::default(),
        }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("protocol_version", &self.protocol_version)
            .field("client_id", &self.client_id)
            .field("username", &self.username)
            .field("clean_session", &self.clean_session)
            .finish_non_exhaustive()
    }
}

impl ConnectOptions {
    pub fn version(&self) -> Version {
        self.protocol_version.into()
    }

    /// Whether the session is to outlive the connection.
    pub fn is_persistent(&self) -> bool {
        !self.clean_session || self.session_expiry.is_some_and(|expiry| expiry.duration().as_secs() > 0)
    }

    /// What can be said without a server.
    pub fn check(&self) -> Result<()> {
        if !self.clean_session && self.client_id.as_deref().is_none_or(str::is_empty) {
            return Err(Error::config("a persistent session needs a name").hint("give it with --client-id"));
        }
        pairs("--ws-header", &self.ws_header)?;
        self.auth_method()?;
        self.connect(self.version(), self.client_id.as_deref().unwrap_or("tracemq")).map(drop)
    }

    /// The versions to try, the wanted one first.
    pub fn versions(&self) -> Vec<Version> {
        let all = [Version::V5, Version::V311, Version::V31];
        let first = all.iter().position(|version| *version == self.version()).unwrap_or(0);
        let count = if self.protocol_fallback { all.len() } else { first + 1 };
        all[first..count].to_vec()
    }

    /// The CONNECT for one version.
    ///
    /// # Errors
    /// What the version has no place for, and what is out of range: kind config, naming the option.
    pub fn connect(&self, version: Version, client_id: &str) -> Result<Connect> {
        let mut connect = Connect::new(version, client_id, self.clean_session);
        connect.username = self.username.clone();
        if self.auth_method.is_none() {
            connect.password = self.password.clone().map(Bytes::from);
        }
        connect.keep_alive = seconds("--keep-alive", self.keep_alive, u32::from(u16::MAX))? as u16;
        connect.will = self.will()?;
        if version.is_v5() {
            connect.session_expiry = self.session_expiry_seconds()?;
            connect.receive_maximum = self.receive_maximum;
            connect.maximum_packet_size = self.maximum_packet_size;
            connect.topic_alias_maximum = self.topic_alias_maximum;
            connect.request_response_information = self.request_response_information;
            connect.request_problem_information = self.request_problem_information;
            connect.user_properties = pairs("--user-property", &self.user_property)?;
        } else {
            self.refuse_v5_options(version)?;
        }
        connect.check().map_err(|error| Error::config(error.to_string()))?;
        Ok(connect)
    }

    /// 5.0 has no "persistent" flag but a time: a session that is not clean and says none is kept for ever.
    fn session_expiry_seconds(&self) -> Result<Option<u32>> {
        match self.session_expiry {
            Some(expiry) => seconds("--session-expiry", expiry, u32::MAX).map(Some),
            None if self.clean_session => Ok(None),
            None => Ok(Some(u32::MAX)),
        }
    }

    fn refuse_v5_options(&self, version: Version) -> Result<()> {
        let given = [
            ("--session-expiry", self.session_expiry.is_some()),
            ("--topic-alias-maximum", self.topic_alias_maximum.is_some()),
            ("--use-topic-aliases", self.use_topic_aliases),
            ("--request-response-information", self.request_response_information.is_some()),
            ("--request-problem-information", self.request_problem_information.is_some()),
            ("--user-property", !self.user_property.is_empty()),
            ("--auth-method", self.auth_method.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((name, _)) if !self.protocol_fallback => Err(needs_v5(name, version)),
            _ => Ok(()),
        }
    }

    fn will(&self) -> Result<Option<Will>> {
        let Some(topic) = &self.will_topic else {
            let alone = self.will_payload.is_some()
                || self.will_qos != 0
                || self.will_retain
                || self.will_delay.is_some()
                || self.will_message_expiry.is_some()
                || self.will_content_type.is_some()
                || self.will_response_topic.is_some()
                || self.will_correlation_data.is_some()
                || !self.will_user_property.is_empty();
            return if alone {
                Err(Error::config("a last will needs a topic").hint("give it with --will-topic"))
            } else {
                Ok(None)
            };
        };
        let delay = self.will_delay.map(|delay| seconds("--will-delay", delay, u32::MAX)).transpose()?;
        let expiry = self
            .will_message_expiry
            .map(|expiry| seconds("--will-message-expiry", expiry, u32::MAX))
            .transpose()?;
        Ok(Some(Will {
            topic: topic.clone(),
            payload: self.will_payload.clone().unwrap_or_default().into(),
            qos: qos("--will-qos", self.will_qos)?,
            retain: self.will_retain,
            delay,
            message_expiry: expiry,
            payload_is_text: false,
            content_type: self.will_content_type.clone(),
            response_topic: self.will_response_topic.clone(),
            correlation_data: self.will_correlation_data.clone().map(Bytes::from),
            user_properties: pairs("--will-user-property", &self.will_user_property)?,
        }))
    }

    /// The enhanced authentication that was asked for.
    pub fn auth_method(&self) -> Result<Option<Scram>> {
        let Some(method) = self.auth_method else { return Ok(None) };
        let (Some(username), Some(password)) = (&self.username, &self.password) else {
            return Err(Error::config("--auth-method needs a user name and a password")
                .hint("give them with --username and --password"));
        };
        let mechanism = match method {
            AuthMethod::ScramSha1 => Mechanism::ScramSha1,
            AuthMethod::ScramSha256 => Mechanism::ScramSha256,
            AuthMethod::ScramSha512 => Mechanism::ScramSha512,
        };
        Scram::new(mechanism, username, password).map(Some).map_err(|error| Error::config(error.to_string()))
    }
}

/// An option that only 5.0 has a place for.
pub fn needs_v5(option: &str, version: Version) -> Error {
    Error::config(format!("{option} needs MQTT 5.0, this connection speaks {version}"))
        .hint(format!("leave {option} out or use --protocol-version 5.0"))
}

/// Whole seconds, as MQTT carries times.
pub fn seconds(option: &str, span: Span, most: u32) -> Result<u32> {
    let duration = span.duration();
    if duration.subsec_nanos() != 0 {
        return Err(Error::config(format!("{option}: MQTT counts in whole seconds, {span} has a fraction")));
    }
    u32::try_from(duration.as_secs())
        .ok()
        .filter(|seconds| *seconds <= most)
        .ok_or_else(|| Error::config(format!("{option}: {span} is too long, at most {most} seconds")))
}

pub fn qos(option: &str, level: u8) -> Result<QoS> {
    QoS::from_level(level)
        .ok_or_else(|| Error::config(format!("{option}: {level} is not allowed (0, 1 or 2)")))
}

/// Name-value pairs; names may repeat, as MQTT allows.
pub fn pairs(option: &str, texts: &[String]) -> Result<Vec<(String, String)>> {
    texts
        .iter()
        .map(|text| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(Error::config(format!("{option}: {text:?} is not name=value"))),
        })
        .collect()
}
