//! The options of `serve`.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::net::{Location, NetError, ServerTlsOptions, User, Users, bad_url, show_host_port};
use tracemq_plugin_api::prelude::{Error, Result, Span};
use tracemq_plugin_api::{schemars, serde};

use super::retention::Retention;
use crate::address::DEFAULT_GROUP;

/// The hub of a server that is given none.
const DEFAULT_HUB: &str = "events";
const DEFAULT_PARTITIONS: usize = 4;
/// As Azure's largest tier.
const MOST_PARTITIONS: usize = 1024;
/// The key of a server that is given none: that of Microsoft's emulator, so that what is written for the one works with the
/// other, and a connection string is good for tomorrow, too.
pub(super) const DEFAULT_KEY: (&str, &str) = ("RootManageSharedAccessKey", "SAS_KEY_VALUE");
const MAX_MESSAGE: u32 = 1 << 20;
const MEMORY_BYTES: u64 = 64 << 20;
const FOLDER_BYTES: u64 = 1 << 30;

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ServeOptions {
    /// Address to listen on, ADDR:PORT; port 0 takes any free one (default 127.0.0.1:5672, with TLS 127.0.0.1:5671)
    #[schemars(title = "Address", extend(
        "x-group" = "server", "x-order" = 210, "x-title-fr" = "Adresse",
        "x-help-fr" = "Adresse d'écoute, ADRESSE:PORT ; le port 0 prend un port libre (par défaut 127.0.0.1:5672, avec TLS 127.0.0.1:5671)"
    ))]
    pub bind: Option<String>,

    /// Hub, NAME or NAME:PARTITIONS (default events:4; 4 partitions)
    #[schemars(title = "Hubs", extend(
        "x-group" = "server", "x-order" = 211, "x-title-fr" = "Hubs",
        "x-help-fr" = "Hub, NOM ou NOM:PARTITIONS (par défaut events:4 ; 4 partitions)"
    ))]
    pub hub: Vec<String>,

    /// Consumer group of every hub, beside $Default
    #[schemars(title = "Consumer groups", extend(
        "x-group" = "server", "x-order" = 212, "x-title-fr" = "Groupes de consommateurs",
        "x-help-fr" = "Groupe de consommateurs de tous les hubs, en plus de $Default"
    ))]
    pub consumer_group: Vec<String>,

    /// Key that clients sign their tokens with, NAME=SECRET (default: that of Microsoft's emulator, which everybody knows)
    #[schemars(title = "Shared access keys", extend(
        "x-secret" = true, "x-type" = "pair", "x-group" = "authentication", "x-order" = 220, "x-title-fr" = "Clés d'accès partagé",
        "x-help-fr" = "Clé dont les clients signent leurs jetons, NOM=SECRET (par défaut celle de l'émulateur de Microsoft, que tout le monde connaît)"
    ))]
    pub shared_access_key: Vec<String>,

    /// Print the connection string with the key in it, ready to be pasted; otherwise *** stands for a key of one's own
    #[schemars(title = "Print the key", extend(
        "x-reveals" = true, "x-group" = "authentication", "x-order" = 221, "x-title-fr" = "Afficher la clé",
        "x-help-fr" = "Afficher la chaîne de connexion avec la clé, prête à être collée ; sinon *** remplace une clé donnée"
    ))]
    pub print_key: bool,

    /// Folder that keeps the events over a restart (default: they end with the server)
    #[schemars(title = "Data folder", extend(
        "x-file" = "write", "x-group" = "storage", "x-order" = 230, "x-title-fr" = "Dossier des données",
        "x-help-fr" = "Dossier qui garde les événements après un redémarrage (par défaut ils disparaissent avec le serveur)"
    ))]
    pub data_dir: Option<PathBuf>,

    /// Events that each partition keeps; older ones are forgotten (default: no limit)
    #[schemars(title = "Events kept", range(min = 1), extend(
        "x-group" = "storage", "x-order" = 231, "x-title-fr" = "Événements gardés",
        "x-help-fr" = "Événements que garde chaque partition ; les plus anciens sont oubliés (par défaut : sans limite)"
    ))]
    pub retention_events: Option<u64>,

    /// Bytes that each partition keeps, 0 for no limit (default 64MiB, with a data folder 1GiB)
    #[schemars(title = "Bytes kept", extend(
        "x-type" = "size", "x-group" = "storage", "x-order" = 232, "x-title-fr" = "Octets gardés",
        "x-help-fr" = "Octets que garde chaque partition, 0 pour aucune limite (par défaut 64MiB, avec un dossier de données 1GiB)"
    ))]
    pub retention_bytes: Option<u64>,

    /// How long an event is kept; 0 for ever
    #[schemars(title = "Time kept", extend(
        "x-group" = "storage", "x-order" = 233, "x-title-fr" = "Durée de conservation",
        "x-help-fr" = "Durée pendant laquelle un événement est gardé ; 0 : toujours"
    ))]
    pub retention_age: Span,

    /// Largest event or batch accepted, in bytes; clients size their batches by it
    #[schemars(title = "Largest message", range(min = 1024, max = 67108864), extend(
        "x-type" = "size", "x-group" = "server", "x-order" = 240, "x-title-fr" = "Plus grand message",
        "x-help-fr" = "Plus grand événement ou lot accepté, en octets ; les clients y adaptent leurs lots"
    ))]
    pub max_message_size: u32,

    /// Most connections at once
    #[schemars(title = "Most clients", range(min = 1, max = 100000), extend(
        "x-group" = "server", "x-order" = 241, "x-title-fr" = "Nombre de clients",
        "x-help-fr" = "Nombre maximal de connexions à la fois"
    ))]
    pub max_clients: u32,

    /// Refuse every so-manieth send with server-busy, to see a client wait and send again
    #[schemars(title = "Busy every", range(min = 1), extend(
        "x-group" = "server", "x-order" = 242, "x-title-fr" = "Occupé tous les",
        "x-help-fr" = "Refuser un envoi sur tant avec server-busy, pour voir un client attendre et renvoyer"
    ))]
    pub busy_every: Option<u64>,

    /// Certificate and key.
    #[serde(flatten)]
    pub tls: ServerTlsOptions,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            bind: None,
            hub: Vec::new(),
            consumer_group: Vec::new(),
            shared_access_key: Vec::new(),
            print_key: false,
            data_dir: None,
            retention_events: None,
            retention_bytes: None,
            retention_age: Span::default(),
            max_message_size: MAX_MESSAGE,
            max_clients: 1000,
            busy_every: None,
            tls: ServerTlsOptions::default(),
        }
    }
}

impl fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeOptions")
            .field("bind", &self.bind)
            .field("hub", &self.hub)
            .field("shared_access_keys", &self.shared_access_key.len())
            .field("data_dir", &self.data_dir)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// A hub to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HubSpec {
    pub(super) name: String,
    pub(super) partitions: usize,
}

/// Names of hubs and consumer groups, which are names of folders, too: what Azure allows.
fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric();
    (1..=256).contains(&text.len())
        && text.chars().all(|c| fits(c) || "._-".contains(c))
        && text.starts_with(fits)
        && text.ends_with(fits)
}

const NAME: &str = "has a name that can't be one: letters, digits, \".\", \"_\" and \"-\", with a letter or digit at both ends";

impl ServeOptions {
    /// Before anything is opened.
    ///
    /// # Errors
    /// An option that can't work: kind config, naming it and repeating no secret.
    pub fn check(&self, url: Option<&str>) -> Result<()> {
        self.address(url)?;
        self.hubs()?;
        self.groups()?;
        self.keys()?;
        if self.tls.is_set() && !self.tls.has_certificate() {
            return Err(Error::config(
                "TLS needs the server's certificate: --tls-cert, --tls-pkcs12 or --tls-self-signed",
            ));
        }
        Ok(())
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_set()
    }

    /// Where to listen: as the option says, else the target's URL.
    ///
    /// # Errors
    /// A URL that names a hub, or that asks for TLS or for none when the options say otherwise.
    pub(super) fn address(&self, url: Option<&str>) -> Result<String> {
        let default = if self.is_tls() { 5671 } else { 5672 };
        let local = format!("127.0.0.1:{default}");
        let Some(url) = url else { return Ok(self.bind.clone().unwrap_or(local)) };
        let Location { scheme, host, port, path, .. } = Location::parse(url)?;
        if !matches!(path, "" | "/") {
            return Err(bad_url("names a hub: hubs to be served are given by --hub"));
        }
        match (scheme.to_ascii_lowercase().as_str(), self.is_tls()) {
            ("amqps", false) => {
                return Err(bad_url(
                    "asks for TLS, which needs --tls-cert and --tls-key, or --tls-self-signed",
                ));
            }
            ("amqp", true) => return Err(bad_url("asks for no TLS: with a certificate it is amqps://")),
            _ => {}
        }
        if let Some(bind) = &self.bind {
            return Ok(bind.clone());
        }
        if host.is_empty() {
            return Ok(local);
        }
        Ok(show_host_port(host, port.unwrap_or(default)))
    }

    pub(super) fn hubs(&self) -> Result<Vec<HubSpec>> {
        if self.hub.is_empty() {
            return Ok(vec![HubSpec { name: DEFAULT_HUB.to_owned(), partitions: DEFAULT_PARTITIONS }]);
        }
        let mut hubs: Vec<HubSpec> = Vec::new();
        for text in &self.hub {
            let wrong = |why: &str| Error::config(format!("--hub {text} {why}"));
            let (name, partitions) = match text.split_once(':') {
                None => (text.as_str(), DEFAULT_PARTITIONS),
                Some((name, count)) => {
                    let count = count.parse().ok().filter(|count| (1..=MOST_PARTITIONS).contains(count));
                    let why = format!("has a number of partitions that is not from 1 to {MOST_PARTITIONS}");
                    (name, count.ok_or_else(|| wrong(&why))?)
                }
            };
            if !is_name(name) {
                return Err(wrong(NAME));
            }
            if hubs.iter().any(|hub| hub.name.eq_ignore_ascii_case(name)) {
                return Err(wrong("is given twice (case does not matter)"));
            }
            hubs.push(HubSpec { name: name.to_owned(), partitions });
        }
        Ok(hubs)
    }

    pub(super) fn groups(&self) -> Result<Vec<String>> {
        let mut groups = vec![DEFAULT_GROUP.to_owned()];
        for group in &self.consumer_group {
            if !is_name(group) && group != DEFAULT_GROUP {
                return Err(Error::config(format!("--consumer-group {group} {NAME}")));
            }
            if !groups.iter().any(|known| known.eq_ignore_ascii_case(group)) {
                groups.push(group.clone());
            }
        }
        Ok(groups)
    }

    /// The keys; that of the emulator when there are none.
    pub(super) fn keys(&self) -> Result<Vec<User>> {
        let wrong = |error: NetError| Error::config(format!("--shared-access-key: {error}"));
        let mut keys: Vec<User> =
            self.shared_access_key.iter().map(|text| text.parse().map_err(wrong)).collect::<Result<_>>()?;
        if let Some(key) = keys.iter().find(|key| key.secret.is_empty()) {
            return Err(Error::config(format!("--shared-access-key: that named \"{}\" is empty", key.name)));
        }
        if let Some(key) = keys.iter().find(|key| key.name.contains(';') || key.secret.contains(';')) {
            return Err(Error::config(format!(
                "--shared-access-key: that named \"{}\" has a semicolon, which can't stand in a connection string",
                key.name
            )));
        }
        if keys.is_empty() {
            let (name, secret) = DEFAULT_KEY;
            keys.push(User { name: name.to_owned(), secret: secret.to_owned() });
        }
        // Says which is there twice.
        Users::new(&keys).map_err(wrong)?;
        Ok(keys)
    }

    pub(super) fn retention(&self) -> Retention {
        let default = if self.data_dir.is_some() { FOLDER_BYTES } else { MEMORY_BYTES };
        Retention {
            events: self.retention_events,
            bytes: Some(self.retention_bytes.unwrap_or(default)).filter(|bytes| *bytes > 0),
            age: Some(self.retention_age.duration()).filter(|age| !age.is_zero()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(json: serde_json::Value) -> ServeOptions {
        serde_json::from_value(json).expect("the types fit")
    }

    #[test]
    fn hubs_groups_and_keys() {
        let given =
            options(serde_json::json!({"hub": ["a", "b-c:2"], "consumer_group": ["g", "$Default", "G"]}));
        let names: Vec<_> =
            given.hubs().expect("hubs").into_iter().map(|hub| (hub.name, hub.partitions)).collect();
        assert_eq!(names, [("a".to_owned(), 4), ("b-c".to_owned(), 2)]);
        assert_eq!(given.groups().expect("groups"), ["$Default", "g"]);
        let none = ServeOptions::default();
        assert_eq!(none.hubs().expect("hubs")[0].name, DEFAULT_HUB);
        assert_eq!(none.keys().expect("keys")[0].secret, DEFAULT_KEY.1);
        assert_eq!(none.retention().bytes, Some(MEMORY_BYTES));
        assert_eq!(options(serde_json::json!({"retention_bytes": 0})).retention().bytes, None);
    }

    #[test]
    fn where_to_listen() {
        let at = |json, url| options(json).address(url);
        let none = serde_json::json!({});
        assert_eq!(at(none.clone(), None).expect("an address"), "127.0.0.1:5672");
        assert_eq!(at(serde_json::json!({"tls_cert": "c"}), None).expect("an address"), "127.0.0.1:5671");
        assert_eq!(at(none.clone(), Some("sb://127.0.0.1:0")).expect("an address"), "127.0.0.1:0");
        assert_eq!(at(none.clone(), Some("sb://[::1]:7")).expect("an address"), "[::1]:7");
        assert_eq!(at(none.clone(), Some("sb://0.0.0.0")).expect("an address"), "0.0.0.0:5672");
        assert_eq!(at(serde_json::json!({"bind": "a:1"}), Some("sb://b:2")).expect("an address"), "a:1");
        assert!(at(none.clone(), Some("sb://h/hub")).is_err() && at(none, Some("amqps://h")).is_err());
        assert!(at(serde_json::json!({"tls_cert": "c"}), Some("amqp://h")).is_err());
    }

    #[test]
    fn what_can_not_work_names_its_option_and_no_secret() {
        for (json, part) in [
            (serde_json::json!({"hub": ["a:0"]}), "--hub a:0"),
            (serde_json::json!({"hub": ["a:1025"]}), "--hub"),
            (serde_json::json!({"hub": ["../x"]}), "--hub"),
            (serde_json::json!({"hub": [".."]}), "--hub"),
            (serde_json::json!({"hub": ["a", "A"]}), "twice"),
            (serde_json::json!({"consumer_group": ["a/b"]}), "--consumer-group"),
            (serde_json::json!({"shared_access_key": ["hunter2"]}), "--shared-access-key"),
            (serde_json::json!({"shared_access_key": ["a="]}), "is empty"),
            (serde_json::json!({"shared_access_key": ["a=hunter2;x"]}), "semicolon"),
            (serde_json::json!({"shared_access_key": ["a=hunter2", "a=x"]}), "twice"),
            (serde_json::json!({"tls_key": "k"}), "--tls-cert"),
        ] {
            let text = options(json).check(None).expect_err(part).to_string();
            assert!(text.contains(part), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        let secret = options(serde_json::json!({"shared_access_key": ["a=hunter2"]}));
        assert!(secret.check(None).is_ok() && !format!("{secret:?}").contains("hunter2"));
    }
}
