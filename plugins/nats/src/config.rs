//! The options of a connection, and what they come to with the URL and the environment.
//!
//! The variables of NATS are looked at last, only where neither a flag, nor the profile, nor the URL says anything: a login in
//! the environment never mixes with one that was given.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::net::{NetOptions, TlsOptions, bad_url};
use tracemq_plugin_api::prelude::{Error, Result, Span};
use tracemq_plugin_api::{schemars, serde};

use crate::auth::Auth;
use crate::endpoint::{Server, Transport, UserInfo};
use crate::wire::subject;

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConnectOptions {
    /// Another server of the cluster, as a URL or HOST:PORT; may be repeated
    #[schemars(title = "Further servers", extend(
        "x-secret" = true, "x-type" = "url", "x-group" = "connection", "x-order" = 10, "x-title-fr" = "Autres serveurs",
        "x-help-fr" = "Autre serveur de la grappe : URL ou HÔTE:PORT ; peut être répété"
    ))]
    pub server: Vec<String>,

    /// Name of this connection in the server's monitoring
    #[schemars(title = "Name", extend(
        "x-group" = "connection", "x-order" = 11, "x-title-fr" = "Nom",
        "x-help-fr" = "Nom de cette connexion dans la supervision du serveur"
    ))]
    pub name: Option<String>,

    /// Put before every subject that is sent, and taken off those that are shown
    #[schemars(title = "Subject prefix", extend(
        "x-group" = "connection", "x-order" = 12, "x-title-fr" = "Préfixe des sujets",
        "x-help-fr" = "Placé devant chaque sujet envoyé, et retiré de ceux qui sont affichés"
    ))]
    pub subject_prefix: Option<String>,

    /// What this connection publishes does not come back to its own subscriptions
    #[schemars(title = "No echo", extend(
        "x-group" = "connection", "x-order" = 13, "x-title-fr" = "Sans écho",
        "x-help-fr" = "Ce que cette connexion publie ne revient pas à ses propres abonnements"
    ))]
    pub no_echo: bool,

    /// Time between two pings; a server that answers none in twice that time is given up
    #[schemars(title = "Ping interval", extend(
        "x-group" = "connection", "x-order" = 14, "x-title-fr" = "Intervalle des pings",
        "x-help-fr" = "Temps entre deux pings ; un serveur qui n'y répond pas pendant le double est abandonné"
    ))]
    pub ping_interval: Span,

    /// Token (NATS_TOKEN)
    #[schemars(title = "Token", extend(
        "x-secret" = true, "x-group" = "authentication", "x-order" = 30, "x-ask" = true, "x-title-fr" = "Jeton",
        "x-help-fr" = "Jeton (NATS_TOKEN)"
    ))]
    pub token: Option<String>,

    /// User name (NATS_USER)
    #[schemars(title = "User name", extend(
        "x-group" = "authentication", "x-order" = 31, "x-ask" = true, "x-title-fr" = "Nom d'utilisateur",
        "x-help-fr" = "Nom d'utilisateur (NATS_USER)"
    ))]
    pub username: Option<String>,

    /// Password (NATS_PASSWORD)
    #[schemars(title = "Password", extend(
        "x-secret" = true, "x-group" = "authentication", "x-order" = 32, "x-ask" = true, "x-title-fr" = "Mot de passe",
        "x-help-fr" = "Mot de passe (NATS_PASSWORD)"
    ))]
    pub password: Option<String>,

    /// File with the seed of a user's NKey (NATS_NKEY)
    #[schemars(title = "NKey file", extend(
        "x-file" = "read", "x-group" = "authentication", "x-order" = 33, "x-title-fr" = "Fichier NKey",
        "x-help-fr" = "Fichier de la graine NKey d'un utilisateur (NATS_NKEY)"
    ))]
    pub nkey_file: Option<PathBuf>,

    /// Credentials file with a user's JWT and NKey seed (NATS_CREDS)
    #[schemars(title = "Credentials file", extend(
        "x-file" = "read", "x-group" = "authentication", "x-order" = 34, "x-ask" = true, "x-title-fr" = "Fichier d'identification",
        "x-help-fr" = "Fichier .creds avec le JWT et la graine NKey d'un utilisateur (NATS_CREDS)"
    ))]
    pub creds_file: Option<PathBuf>,

    /// Start TLS before the server's INFO, for servers with handshake_first
    #[schemars(title = "TLS first", extend(
        "x-group" = "tls", "x-order" = 490, "x-title-fr" = "TLS d'abord",
        "x-help-fr" = "Commencer TLS avant l'INFO du serveur, pour les serveurs avec handshake_first"
    ))]
    pub tls_first: bool,

    /// Header of the WebSocket handshake, name=value
    #[schemars(title = "WebSocket headers", extend(
        "x-secret" = true, "x-type" = "pair", "x-group" = "connection", "x-order" = 60,
        "x-title-fr" = "En-têtes WebSocket",
        "x-help-fr" = "En-tête de la négociation WebSocket, nom=valeur"
    ))]
    pub ws_header: Vec<String>,

    #[serde(flatten)]
    pub net: NetOptions,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            server: Vec::new(),
            name: None,
            subject_prefix: None,
            no_echo: false,
            ping_interval: Span::from_secs(30),
            token: None,
            username: None,
            password: None,
            nkey_file: None,
            creds_file: None,
            tls_first: false,
            ws_header: Vec::new(),
            net: NetOptions::default(),
        }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("name", &self.name)
            .field("username", &self.username)
            .field("subject_prefix", &self.subject_prefix)
            .finish_non_exhaustive()
    }
}

/// What a connection needs to know: options, URL and environment together. No `Debug`: it holds secrets.
#[derive(Clone)]
pub struct Settings {
    /// At least one.
    pub servers: Vec<Server>,
    pub auth: Auth,
    pub net: NetOptions,
    /// TLS in any case: a CA or a certificate was given for a server that leaves the choice to us.
    pub wants_tls: bool,
    pub tls_first: bool,
    pub name: String,
    pub prefix: Prefix,
    pub echo: bool,
    pub ping_interval: Span,
    pub ws_headers: Vec<(String, String)>,
}

impl Settings {
    /// `environment` looks up a variable.
    ///
    /// # Errors
    /// Kind config: no server, options that exclude each other, a bad URL, prefix or file.
    pub fn new(
        options: &ConnectOptions,
        url: Option<&str>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Settings> {
        let environment = |name: &str| environment(name).filter(|text| !text.is_empty());
        let (mut servers, mut of_url) = Server::parse_list(url.unwrap_or("nats://"))?;
        for text in &options.server {
            let (more, user) = Server::parse_list(text).map_err(|error| named("--server", &error))?;
            servers.extend(more);
            of_url = of_url.or(user);
        }
        let mut of_environment = None;
        if servers.is_empty()
            && let Some(text) = environment("NATS_URL")
        {
            (servers, of_environment) =
                Server::parse_list(&text).map_err(|error| named("NATS_URL in the environment", &error))?;
        }
        if servers.is_empty() {
            return Err(
                bad_url("names no host").hint("write nats://HOST, or set NATS_URL in the environment")
            );
        }
        if options.ping_interval.duration().is_zero() {
            return Err(Error::config("--ping-interval: must be more than 0"));
        }
        let mut net = options.net.clone();
        tls_of_environment(&mut net.tls, &environment);
        if options.tls_first && servers.iter().any(|server| server.transport.is_web()) {
            return Err(Error::config(
                "--tls-first is for nats:// and tls://; nats+wss:// always begins with TLS",
            ));
        }
        let auth = login(options, of_url, of_environment, &environment)?;
        auth.check()?;
        Ok(Settings {
            auth,
            wants_tls: options.tls_first || is_given(&net.tls),
            servers,
            net,
            tls_first: options.tls_first,
            name: options.name.clone().unwrap_or_else(|| "tracemq".into()),
            prefix: Prefix::new(options.subject_prefix.as_deref().unwrap_or_default())?,
            echo: !options.no_echo,
            ping_interval: options.ping_interval,
            ws_headers: pairs("--ws-header", &options.ws_header)?,
        })
    }

    /// Whether a server is reached by TLS even if it does not insist.
    pub fn tls_for(&self, server: &Server) -> bool {
        server.transport == Transport::Tls || self.wants_tls
    }
}

/// What stands before every subject on the wire: empty, or ending with a dot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    fn new(text: &str) -> Result<Prefix> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Ok(Prefix::default());
        }
        subject::check_subject(text)
            .map_err(|error| Error::config(format!("--subject-prefix {text:?}: {error}")))?;
        Ok(Prefix(format!("{text}.")))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As it goes over the wire.
    pub fn on_wire(&self, subject: &str) -> String {
        format!("{}{subject}", self.0)
    }

    /// As it is shown. What does not begin with the prefix is shown whole.
    pub fn shown<'s>(&self, subject: &'s str) -> &'s str {
        subject.strip_prefix(&self.0).unwrap_or(subject)
    }
}

fn login(
    options: &ConnectOptions,
    of_url: Option<UserInfo>,
    of_environment: Option<UserInfo>,
    environment: &impl Fn(&str) -> Option<String>,
) -> Result<Auth> {
    // The host has made the URL's user an option; in a URL of NATS, a user without a password is a token.
    let url_token = of_url.as_ref().filter(|user| {
        user.password.is_none() && options.password.is_none() && options.username.as_ref() == Some(&user.user)
    });
    let username = match (&options.username, url_token, &of_url) {
        (Some(_), Some(_), _) => None,
        (Some(name), None, _) => Some(name.clone()),
        // Of a --server, which the host has not looked into.
        (None, _, Some(user)) if user.password.is_some() => Some(user.user.clone()),
        (None, ..) => None,
    };
    let token = options.token.clone().or_else(|| url_token.map(|user| user.user.clone())).or_else(|| {
        let user = of_url.as_ref().filter(|user| user.password.is_none() && options.username.is_none());
        user.map(|user| user.user.clone())
    });
    let given = [
        ("--token", token.is_some()),
        ("--username", username.is_some()),
        ("--nkey-file", options.nkey_file.is_some()),
        ("--creds-file", options.creds_file.is_some()),
    ];
    let given: Vec<_> = given.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    if given.len() > 1 {
        return Err(
            Error::config(format!("{} are different ways to log in", given.join(" and "))).hint("give one")
        );
    }
    if let Some(name) = username {
        let password = options.password.clone();
        let password = password.or_else(|| of_url.as_ref().and_then(|user| user.password.clone()));
        let password = password.or_else(|| environment("NATS_PASSWORD")).unwrap_or_default();
        return Ok(Auth::User { name, password });
    }
    if let Some(token) = token {
        return Ok(Auth::Token(token));
    }
    if let Some(path) = &options.nkey_file {
        return Ok(Auth::NKey(path.clone()));
    }
    if let Some(path) = &options.creds_file {
        return Ok(Auth::Creds(path.clone()));
    }
    if options.password.is_some() && environment("NATS_USER").is_none() {
        return Err(Error::config("--password is given without a user").hint("give the user with --username"));
    }
    Ok(match of_environment {
        Some(UserInfo { user, password: Some(password) }) => Auth::User { name: user, password },
        Some(UserInfo { user, password: None }) => Auth::Token(user),
        None => login_of_environment(options, environment),
    })
}

fn login_of_environment(options: &ConnectOptions, environment: &impl Fn(&str) -> Option<String>) -> Auth {
    if let Some(name) = environment("NATS_USER") {
        let password = options.password.clone().or_else(|| environment("NATS_PASSWORD"));
        return Auth::User { name, password: password.unwrap_or_default() };
    }
    environment("NATS_CREDS")
        .map(|path| Auth::Creds(path.into()))
        .or_else(|| environment("NATS_NKEY").map(|path| Auth::NKey(path.into())))
        .or_else(|| environment("NATS_TOKEN").map(Auth::Token))
        .unwrap_or_default()
}

fn tls_of_environment(tls: &mut TlsOptions, environment: &impl Fn(&str) -> Option<String>) {
    let path = |name: &str| environment(name).map(PathBuf::from);
    if tls.tls_ca.is_none() {
        tls.tls_ca = path("NATS_CA");
    }
    if tls.tls_cert.is_none() && tls.tls_key.is_none() && tls.tls_pkcs12.is_none() {
        tls.tls_cert = path("NATS_CERT");
        tls.tls_key = path("NATS_KEY").filter(|_| tls.tls_cert.is_some());
    }
}

fn is_given(tls: &TlsOptions) -> bool {
    tls.first_set().is_some()
}

fn named(place: &str, error: &Error) -> Error {
    Error::config(format!("{place}: {}", error.message()))
}

fn pairs(option: &str, texts: &[String]) -> Result<Vec<(String, String)>> {
    texts
        .iter()
        .map(|text| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(Error::config(format!("{option}: what was given is not name=value"))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(options: &ConnectOptions, url: &str, environment: &[(&str, &str)]) -> Result<Settings> {
        Settings::new(options, Some(url), |name| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn user(name: &str, password: &str) -> Auth {
        Auth::User { name: name.into(), password: password.into() }
    }

    #[test]
    fn the_environment_comes_last() {
        let none = ConnectOptions::default();
        let hosts = |settings: Settings| settings.servers.iter().map(Server::shown).collect::<Vec<_>>();
        let variables = [("NATS_URL", "nats://e:1"), ("NATS_USER", "eve"), ("NATS_PASSWORD", "pw")];
        let found = settings(&none, "nats://", &variables).unwrap_or_else(|error| panic!("{error}"));
        assert!(found.auth == user("eve", "pw"));
        assert_eq!(hosts(found), ["e:1"]);
        let found = settings(&none, "nats://h", &variables).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(hosts(found), ["h:4222"]);
        let given = ConnectOptions { token: Some("t".into()), server: vec!["b:2".into()], ..none.clone() };
        let found = settings(&given, "nats://", &variables).unwrap_or_else(|error| panic!("{error}"));
        assert!(found.auth == Auth::Token("t".into()));
        assert_eq!(hosts(found), ["b:2"]);
        assert!(settings(&none, "nats://", &[]).err().unwrap().to_string().contains("no host"));
    }

    #[test]
    fn a_user_alone_in_a_url_is_a_token() {
        let of_host = |name: &str, password: Option<&str>| ConnectOptions {
            username: Some(name.into()),
            password: password.map(str::to_owned),
            ..ConnectOptions::default()
        };
        let auth = |options: ConnectOptions, url| {
            settings(&options, url, &[]).unwrap_or_else(|error| panic!("{error}")).auth
        };
        assert!(auth(of_host("t", None), "nats://t@h") == Auth::Token("t".into()));
        assert!(auth(of_host("u", Some("p")), "nats://u:p@h") == user("u", "p"));
        assert!(auth(of_host("u", None), "nats://h") == user("u", ""));
        let server = ConnectOptions { server: vec!["nats://u:p@b".into()], ..ConnectOptions::default() };
        assert!(auth(server, "nats://a") == user("u", "p"));
    }

    #[test]
    fn two_logins_are_refused() {
        let both = ConnectOptions {
            token: Some("t".into()),
            username: Some("u".into()),
            ..ConnectOptions::default()
        };
        let error = settings(&both, "nats://h", &[]).err().unwrap().to_string();
        assert!(error.contains("--token and --username"), "{error}");
    }

    #[test]
    fn prefixes() {
        assert_eq!(Prefix::new("a.b").unwrap().on_wire("c"), "a.b.c");
        assert_eq!(Prefix::new("a.").unwrap().shown("a.c"), "c");
        assert_eq!(Prefix::new("a").unwrap().shown("ab.c"), "ab.c");
        assert_eq!(Prefix::new("").unwrap().on_wire("c"), "c");
        assert!(Prefix::new("a..b").is_err() && Prefix::new("a.*").is_err());
    }
}
