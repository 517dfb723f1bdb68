//! The options of a connection, and what they come to with the target.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::net::{NetOptions, bad_url};
use tracemq_plugin_api::prelude::{Error, Result, Span};
use tracemq_plugin_api::{schemars, serde};

use crate::connection_string::{ConnectionString, Credential};
use crate::endpoint::{Dialect, Endpoint, Target, gateway};

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConnectOptions {
    /// Azure connection string of a namespace or a hub; the target is then just sb://
    #[schemars(title = "Connection string", extend(
        "x-secret" = true, "x-group" = "authentication", "x-order" = 10, "x-ask" = true, "x-title-fr" = "Chaîne de connexion",
        "x-help-fr" = "Chaîne de connexion Azure d'un espace de noms ou d'un hub ; la cible est alors simplement sb://"
    ))]
    pub connection_string: Option<String>,

    /// User name; for sb:// the name of the shared access key
    #[schemars(title = "User name", extend(
        "x-group" = "authentication", "x-order" = 11, "x-ask" = true, "x-title-fr" = "Nom d'utilisateur",
        "x-help-fr" = "Nom d'utilisateur ; pour sb://, le nom de la clé d'accès partagé"
    ))]
    pub username: Option<String>,

    /// Password; for sb:// the shared access key
    #[schemars(title = "Password", extend(
        "x-secret" = true, "x-group" = "authentication", "x-order" = 12, "x-ask" = true, "x-title-fr" = "Mot de passe",
        "x-help-fr" = "Mot de passe ; pour sb://, la clé d'accès partagé"
    ))]
    pub password: Option<String>,

    /// How to log in to a broker of queues (amqp, amqps): plain if there is a user name, else anonymous; external uses the TLS client certificate
    #[schemars(title = "SASL mechanism", extend(
        "x-group" = "authentication", "x-order" = 13, "x-title-fr" = "Mécanisme SASL",
        "x-help-fr" = "Comment s'identifier auprès d'un serveur de files (amqp, amqps) : plain s'il y a un nom d'utilisateur, sinon anonymous ; external utilise le certificat client TLS"
    ))]
    pub sasl: Option<Mechanism>,

    /// sb://: no TLS, as UseDevelopmentEmulator=true says in a connection string
    #[schemars(title = "Emulator", extend(
        "x-group" = "connection", "x-order" = 20, "x-title-fr" = "Émulateur",
        "x-help-fr" = "sb:// : sans TLS, comme le dit UseDevelopmentEmulator=true dans une chaîne de connexion"
    ))]
    pub emulator: bool,

    /// How the bytes travel: tcp, or websocket where only port 443 is let through (Event Hubs alone)
    #[schemars(title = "Transport", extend(
        "x-group" = "connection", "x-order" = 21, "x-title-fr" = "Transport",
        "x-help-fr" = "Comment passent les octets : tcp, ou websocket là où seul le port 443 est ouvert (Event Hubs seulement)"
    ))]
    pub transport: Transport,

    /// HOST[:PORT] to connect to instead, for a gateway; the server is still asked for by its own name
    #[schemars(title = "Endpoint address", extend(
        "x-group" = "connection", "x-order" = 22, "x-title-fr" = "Adresse du point d'accès",
        "x-help-fr" = "HÔTE[:PORT] auquel se connecter à la place, pour une passerelle ; le serveur reste demandé par son propre nom"
    ))]
    pub endpoint: Option<String>,

    /// Host name of the AMQP open, which brokers of queues take for a virtual host
    #[schemars(title = "Virtual host", extend(
        "x-group" = "connection", "x-order" = 23, "x-title-fr" = "Hôte virtuel",
        "x-help-fr" = "Nom d'hôte de l'open AMQP, que les serveurs de files prennent pour un hôte virtuel"
    ))]
    pub virtual_host: Option<String>,

    /// Life of the tokens that are signed with the key; each is renewed before it ends
    #[schemars(title = "Token life", extend(
        "x-group" = "connection", "x-order" = 24, "x-title-fr" = "Durée des jetons",
        "x-help-fr" = "Durée de vie des jetons signés avec la clé ; chacun est renouvelé avant sa fin"
    ))]
    pub token_lifetime: Span,

    /// Give the connection up when nothing comes for so long; the server is told to send a sign of life in half the time. 0 waits for ever
    #[schemars(title = "Idle time-out", extend(
        "x-group" = "connection", "x-order" = 25, "x-title-fr" = "Délai d'inactivité",
        "x-help-fr" = "Abandonner la connexion si rien n'arrive pendant cette durée ; le serveur est prié de donner signe de vie dans la moitié. 0 : attendre toujours"
    ))]
    pub idle_timeout: Span,

    #[serde(flatten)]
    pub net: NetOptions,
}

/// How to log in to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// Without a name
    Anonymous,
    /// With user name and password
    Plain,
    /// With the TLS client certificate
    External,
}

/// How the bytes travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// TCP, with TLS unless the server is an emulator
    #[default]
    Tcp,
    /// WebSocket
    Websocket,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            connection_string: None,
            username: None,
            password: None,
            sasl: None,
            emulator: false,
            transport: Transport::Tcp,
            endpoint: None,
            virtual_host: None,
            token_lifetime: Span::from_secs(3600),
            idle_timeout: Span::from_secs(60),
            net: NetOptions::default(),
        }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("username", &self.username)
            .field("transport", &self.transport)
            .field("endpoint", &self.endpoint)
            .field("net", &self.net)
            .finish_non_exhaustive()
    }
}

/// How to log in.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// Event Hubs: anonymous to SASL, then tokens.
    Tokens(Credential),
    Anonymous,
    Plain {
        user: String,
        password: String,
    },
    External,
}

/// What a connection needs to know. No `Debug`: it holds secrets.
#[derive(Clone)]
pub struct Settings {
    pub dialect: Dialect,
    pub login: Login,
    /// The host name of the AMQP open.
    pub hostname: String,
    /// Host and port as tokens and addresses have them.
    pub authority: String,
    /// Where to connect to.
    pub host: String,
    pub port: u16,
    pub tls: bool,
    pub transport: Transport,
    /// The hub or queue when no topic is given.
    pub entity: Option<String>,
    pub token_lifetime: Duration,
    /// `None`: for ever.
    pub idle_timeout: Option<Duration>,
    pub net: NetOptions,
}

impl Settings {
    /// # Errors
    /// Kind config: options that exclude each other or the target, a part that is missing or wrong.
    pub fn new(options: &ConnectOptions, url: Option<&str>) -> Result<Settings> {
        let target = Target::parse(url.unwrap_or("sb://"))?;
        let given = match &options.connection_string {
            Some(text) => Some(ConnectionString::parse(text).map_err(|error| {
                Error::config(format!("--connection-string: {}", error.message())).hint(error.hint_text())
            })?),
            None => None,
        };
        let settings = match (target, given) {
            (Target::ConnectionString(_), Some(_)) => {
                return Err(Error::config(
                    "the target is a connection string, so --connection-string is one too many",
                ));
            }
            (Target::ConnectionString(string), None) => Settings::of_string(options, string, None)?,
            (Target::Url(endpoint), Some(string)) => {
                if endpoint.dialect != Dialect::Hubs {
                    return Err(Error::config("--connection-string is for Event Hubs")
                        .hint("write sb:// as the target"));
                }
                if !endpoint.host.is_empty() && !endpoint.host.eq_ignore_ascii_case(&string.host) {
                    return Err(Error::config("the target and --connection-string name different hosts")
                        .hint("write sb:// or sb:///HUB as the target; --endpoint is for a gateway"));
                }
                Settings::of_string(options, string, Some(endpoint))?
            }
            (Target::Url(endpoint), None) => Settings::of_url(options, endpoint)?,
        };
        if settings.token_lifetime < Duration::from_secs(2) {
            return Err(Error::config("--token-lifetime: must be 2 s at least"));
        }
        Ok(settings)
    }

    fn of_string(
        options: &ConnectOptions,
        string: ConnectionString,
        url: Option<Endpoint>,
    ) -> Result<Settings> {
        if options.username.is_some() || options.password.is_some() {
            return Err(Error::config(
                "a connection string holds the key already: leave --username and --password out",
            ));
        }
        let endpoint = Endpoint {
            dialect: Dialect::Hubs,
            tls: !string.emulator,
            host: string.host,
            port: string.port.or(url.as_ref().and_then(|url| url.port)),
            entity: url.and_then(|url| url.entity).or(string.entity_path),
        };
        Settings::of(options, endpoint, Login::Tokens(string.credential))
    }

    fn of_url(options: &ConnectOptions, mut endpoint: Endpoint) -> Result<Settings> {
        if endpoint.host.is_empty() {
            return Err(bad_url("names no host").hint("write sb://HOST/HUB, or give --connection-string"));
        }
        let (user, password) = (options.username.clone(), options.password.clone());
        let login = match endpoint.dialect {
            Dialect::Hubs => {
                endpoint.tls = !options.emulator;
                match (user, password) {
                    (Some(name), Some(key)) => Login::Tokens(Credential::Key { name, key }),
                    (name, _) => {
                        let what = if name.is_none() { "name" } else { "secret" };
                        return Err(Error::config(format!("the {what} of the shared access key is missing"))
                            .hint("give --username NAME and --password env:KEY, or --connection-string env:STRING"));
                    }
                }
            }
            Dialect::Queues => match (options.sasl, user, password) {
                (Some(Mechanism::Anonymous), None, None) | (None, None, None) => Login::Anonymous,
                (Some(Mechanism::External), None, None) => Login::External,
                (Some(Mechanism::Plain) | None, Some(user), password) => {
                    Login::Plain { user, password: password.unwrap_or_default() }
                }
                (Some(Mechanism::Plain) | None, None, _) => {
                    return Err(
                        Error::config("--username is missing").hint("SASL PLAIN wants a name and a password")
                    );
                }
                (Some(_), ..) => {
                    return Err(Error::config("--username and --password are for --sasl plain"));
                }
            },
        };
        Settings::of(options, endpoint, login)
    }

    fn of(options: &ConnectOptions, endpoint: Endpoint, login: Login) -> Result<Settings> {
        let hubs = endpoint.dialect == Dialect::Hubs;
        let misplaced = [
            ("--sasl", hubs && options.sasl.is_some(), "amqp:// and amqps://"),
            ("--virtual-host", hubs && options.virtual_host.is_some(), "amqp:// and amqps://"),
            ("--transport websocket", !hubs && options.transport == Transport::Websocket, "Event Hubs"),
            ("--emulator", !hubs && options.emulator, "Event Hubs"),
        ];
        if let Some((option, _, whose)) = misplaced.iter().find(|(_, wrong, _)| *wrong) {
            return Err(Error::config(format!("{option} is for {whose}")));
        }
        if login == Login::External && !endpoint.tls {
            return Err(Error::config("--sasl external needs the client certificate of amqps://"));
        }
        let tls = endpoint.tls && !(hubs && options.emulator);
        let (mut host, mut port) = (endpoint.host.clone(), endpoint.port);
        if let Some(text) = &options.endpoint {
            let (gateway, gateway_port) = gateway("--endpoint", text)?;
            (host, port) = (gateway, gateway_port);
        }
        let port = port.unwrap_or(match (options.transport, tls) {
            (Transport::Tcp, true) => 5671,
            (Transport::Tcp, false) => 5672,
            (Transport::Websocket, true) => 443,
            (Transport::Websocket, false) => 80,
        });
        let bracketed = match endpoint.host.contains(':') {
            true => format!("[{}]", endpoint.host),
            false => endpoint.host.clone(),
        };
        Ok(Settings {
            dialect: endpoint.dialect,
            login,
            hostname: options.virtual_host.clone().unwrap_or(endpoint.host),
            authority: endpoint.port.map_or(bracketed.clone(), |port| format!("{bracketed}:{port}")),
            host,
            port,
            tls,
            transport: options.transport,
            entity: endpoint.entity,
            token_lifetime: options.token_lifetime.duration(),
            idle_timeout: Some(options.idle_timeout.duration()).filter(|time| !time.is_zero()),
            net: options.net.clone(),
        })
    }

    /// The form in which messages and errors name the server.
    pub fn shown(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The hub or queue that a topic means.
    ///
    /// # Errors
    /// There is none.
    pub fn entity(&self, topic: &str) -> Result<String> {
        match (topic, &self.entity) {
            ("", Some(entity)) => Ok(entity.clone()),
            ("", None) => Err(match self.dialect {
                Dialect::Hubs => Error::config("no hub is named").hint(
                    "give it as TOPIC, in the URL (sb://HOST/HUB), or as EntityPath in the connection string",
                ),
                Dialect::Queues => Error::config("no queue is named")
                    .hint("give its address as TOPIC, or in the URL (amqp://HOST/QUEUE)"),
            }),
            (topic, _) => Ok(topic.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRING: &str =
        "Endpoint=sb://ns.example/;SharedAccessKeyName=Root;SharedAccessKey=hunter2;EntityPath=h1";

    fn options(json: serde_json::Value) -> ConnectOptions {
        serde_json::from_value(json).expect("the types fit")
    }

    fn settings(json: serde_json::Value, url: &str) -> Settings {
        Settings::new(&options(json), Some(url)).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[test]
    fn a_connection_string_may_stand_in_either_place() {
        for found in [
            settings(serde_json::json!({}), STRING),
            settings(serde_json::json!({"connection_string": STRING}), "sb://"),
            settings(serde_json::json!({"connection_string": STRING}), "sb://NS.example"),
        ] {
            assert_eq!((found.shown().as_str(), found.tls), ("ns.example:5671", true));
            assert_eq!(found.entity.as_deref(), Some("h1"));
            assert!(
                found.login == Login::Tokens(Credential::Key { name: "Root".into(), key: "hunter2".into() })
            );
        }
        let other = settings(serde_json::json!({"connection_string": STRING}), "sb:///h2");
        assert_eq!(other.entity.as_deref(), Some("h2"), "the URL's hub comes first");
    }

    #[test]
    fn ports_and_gateways() {
        let json = |extra: serde_json::Value| extra;
        let emulator = format!("{STRING};UseDevelopmentEmulator=true");
        assert_eq!(settings(json(serde_json::json!({})), &emulator).shown(), "ns.example:5672");
        let web = serde_json::json!({"transport": "websocket"});
        assert_eq!(settings(web.clone(), STRING).shown(), "ns.example:443");
        assert_eq!(settings(web, &emulator).shown(), "ns.example:80");
        let gateway = settings(serde_json::json!({"endpoint": "10.0.0.1:99"}), STRING);
        assert_eq!((gateway.shown().as_str(), gateway.hostname.as_str()), ("10.0.0.1:99", "ns.example"));
        assert_eq!(gateway.authority, "ns.example");
        let queue = settings(serde_json::json!({"username": "u", "password": "p"}), "amqps://h/q");
        assert!(queue.login == Login::Plain { user: "u".into(), password: "p".into() } && queue.tls);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (json, url, part) in [
            (serde_json::json!({"connection_string": STRING}), STRING, "one too many"),
            (serde_json::json!({"connection_string": STRING}), "sb://other/", "different hosts"),
            (serde_json::json!({"connection_string": STRING}), "amqp://h", "for Event Hubs"),
            (serde_json::json!({"connection_string": "Endpoint=sb://h/"}), "sb://", "--connection-string"),
            (serde_json::json!({"username": "x"}), STRING, "--username"),
            (serde_json::json!({"username": "x"}), "sb://h/hub", "secret"),
            (serde_json::json!({}), "sb://h/hub", "name of"),
            (serde_json::json!({}), "sb://", "no host"),
            (serde_json::json!({"sasl": "plain"}), "amqp://h", "--username is missing"),
            (serde_json::json!({"sasl": "external"}), "amqp://h", "amqps"),
            (serde_json::json!({"sasl": "external"}), STRING, "--sasl"),
            (serde_json::json!({"transport": "websocket"}), "amqp://h", "websocket"),
            (serde_json::json!({"emulator": true}), "amqp://h", "--emulator"),
            (serde_json::json!({"token_lifetime": "1s"}), STRING, "--token-lifetime"),
        ] {
            let error = Settings::new(&options(json), Some(url)).err().expect(url).to_string();
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown =
            format!("{:?}", options(serde_json::json!({"connection_string": STRING, "password": "hunter2"})));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
