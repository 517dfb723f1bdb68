//! The options of `serve`.

use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::net::ServerTlsOptions;
use tracemq_plugin_api::prelude::{Error, Result, Span};
use tracemq_plugin_api::{schemars, serde};

use super::groups::Group;
use super::handler::WELL_KNOWN;
use super::loss::Probability;
use super::resources::{Limits, Representation};
use super::service::{MAX_AGE, Manners};
use crate::config::no_dtls_1_3;
#[cfg(feature = "dtls")]
use crate::config::no_keys_with_1_3;
#[cfg(feature = "dtls")]
use crate::dtls::ServePskOptions;
use crate::message::{self, CoapOption, MessageClass, Packet, parse_code, path_of};
use crate::oscore::OscoreOptions;
use crate::target::{Target, Transport};

/// DEFAULT_LEISURE (RFC 7252 section 8.2).
const LEISURE: Span = Span::from_secs(5);
/// Of what clients make, in resources of the largest size.
const LARGEST_IN_ALL: usize = 8;

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ServeOptions {
    /// Address to listen on, ADDR:PORT; port 0 takes any free one (default 127.0.0.1:5683, for coaps and coaps+tcp 127.0.0.1:5684)
    #[schemars(title = "Address", extend(
        "x-group" = "server", "x-order" = 210, "x-title-fr" = "Adresse",
        "x-help-fr" = "Adresse d'écoute, ADRESSE:PORT ; le port 0 prend un port libre (par défaut 127.0.0.1:5683, pour coaps et coaps+tcp 127.0.0.1:5684)"
    ))]
    pub bind: Option<String>,

    /// Group to listen to as well: 224.0.1.187, ff02::fd and ff05::fd are All CoAP Nodes; ADDR%INTERFACE joins on that interface alone
    #[schemars(title = "Groups", extend(
        "x-group" = "server", "x-order" = 211, "x-title-fr" = "Groupes",
        "x-help-fr" = "Groupe à écouter aussi : 224.0.1.187, ff02::fd et ff05::fd sont « tous les nœuds CoAP » ; ADRESSE%INTERFACE ne le rejoint que sur cette interface"
    ))]
    pub join_group: Vec<String>,

    /// Time over which the servers of a group spread their answers: each waits for a random part of it
    #[schemars(title = "Leisure", extend(
        "x-group" = "server", "x-order" = 212, "x-title-fr" = "Étalement",
        "x-help-fr" = "Durée sur laquelle les serveurs d'un groupe étalent leurs réponses : chacun en attend une part au hasard"
    ))]
    pub leisure: Span,

    /// Resource to begin with, PATH=VALUE, like /sensors/temp=21.5; VALUE that is JSON (object or list) has its content format
    #[schemars(title = "Resources", extend(
        "x-type" = "pair", "x-group" = "resources", "x-order" = 220, "x-title-fr" = "Ressources",
        "x-help-fr" = "Ressource initiale, CHEMIN=VALEUR, par exemple /sensors/temp=21.5 ; une VALEUR en JSON (objet ou liste) en a le format"
    ))]
    pub resource: Vec<String>,

    /// Folder whose files are resources, to be read only; changes are seen and told to observers
    #[schemars(title = "Folder", extend(
        "x-group" = "resources", "x-order" = 221, "x-title-fr" = "Dossier",
        "x-help-fr" = "Dossier dont les fichiers sont des ressources, en lecture seule ; les changements sont vus et annoncés aux observateurs"
    ))]
    pub folder: Option<PathBuf>,

    /// Largest resource, in bytes; a larger request gets 4.13, a larger file is left out
    #[schemars(title = "Largest resource", range(min = 16, max = 1073741824), extend(
        "x-type" = "size", "x-group" = "resources", "x-order" = 222, "x-title-fr" = "Plus grande ressource",
        "x-help-fr" = "Plus grande ressource, en octets ; une requête plus grande reçoit 4.13, un fichier plus grand est ignoré"
    ))]
    pub max_size: u32,

    /// Most resources that clients may make
    #[schemars(title = "Most resources", range(min = 0, max = 1000000), extend(
        "x-group" = "resources", "x-order" = 223, "x-title-fr" = "Nombre de ressources",
        "x-help-fr" = "Nombre maximal de ressources créées par les clients"
    ))]
    pub max_resources: u32,

    /// Most observers at once
    #[schemars(title = "Most observers", range(min = 0, max = 100000), extend(
        "x-group" = "resources", "x-order" = 224, "x-title-fr" = "Nombre d'observateurs",
        "x-help-fr" = "Nombre maximal d'observateurs à la fois"
    ))]
    pub max_observers: u32,

    /// For how many seconds a response may be taken for fresh (Max-Age)
    #[schemars(title = "Max-Age", extend(
        "x-group" = "resources", "x-order" = 225, "x-title-fr" = "Max-Age",
        "x-help-fr" = "Pendant combien de secondes une réponse peut être considérée comme fraîche (Max-Age)"
    ))]
    pub max_age: u32,

    /// Answer everything with this code, like 4.04 or 2.05, and change nothing; with 2.xx a GET gets what is there, and all else its own payload back
    #[schemars(title = "Fixed answer", extend(
        "x-group" = "trials", "x-order" = 230, "x-title-fr" = "Réponse fixe",
        "x-help-fr" = "Répondre à tout avec ce code, par exemple 4.04 ou 2.05, sans rien changer ; avec 2.xx un GET obtient ce qui est là, et le reste sa propre charge utile"
    ))]
    pub reply: Option<String>,

    /// Wait so long before each answer; the acknowledgement comes before it when that is long
    #[schemars(title = "Delay", extend(
        "x-group" = "trials", "x-order" = 231, "x-title-fr" = "Délai",
        "x-help-fr" = "Attendre cette durée avant chaque réponse ; l'accusé de réception la précède si elle est longue"
    ))]
    pub delay: Span,

    /// Lose this part of all datagrams, both ways, like 10%
    #[schemars(title = "Loss", extend(
        "x-group" = "trials", "x-order" = 232, "x-title-fr" = "Pertes",
        "x-help-fr" = "Perdre cette part de tous les datagrammes, dans les deux sens, par exemple 10%"
    ))]
    pub loss: Option<String>,

    #[serde(flatten)]
    pub oscore: OscoreOptions,

    #[cfg(feature = "dtls")]
    #[serde(flatten)]
    pub psk: ServePskOptions,

    #[serde(flatten)]
    pub tls: ServerTlsOptions,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            bind: None,
            join_group: Vec::new(),
            leisure: LEISURE,
            resource: Vec::new(),
            folder: None,
            max_size: 8 << 20,
            max_resources: 10_000,
            max_observers: 10_000,
            max_age: MAX_AGE,
            reply: None,
            delay: Span::default(),
            loss: None,
            oscore: OscoreOptions::default(),
            #[cfg(feature = "dtls")]
            psk: ServePskOptions::default(),
            tls: ServerTlsOptions::default(),
        }
    }
}

impl fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeOptions")
            .field("bind", &self.bind)
            .field("join_group", &self.join_group)
            .field("folder", &self.folder)
            .field("resources", &self.resource.len())
            .field("oscore", &self.oscore)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// Where and how to listen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listen {
    pub(super) transport: Transport,
    /// ADDR:PORT.
    pub(super) bind: String,
}

impl ServeOptions {
    /// Before anything is opened.
    ///
    /// # Errors
    /// Options that can't be, or the target's URL.
    pub fn check(&self, url: Option<&str>) -> Result<()> {
        self.listen(url)?;
        self.manners()?;
        self.loss()?;
        self.groups()?;
        self.preset().map(drop)
    }

    /// The groups of --join-group.
    ///
    /// # Errors
    /// One that is none.
    pub(super) fn groups(&self) -> Result<Vec<Group>> {
        let group =
            |text: &String| text.parse().map_err(|error| Error::config(format!("--join-group: {error}")));
        self.join_group.iter().map(group).collect()
    }

    /// What the target's URL and the options together mean.
    ///
    /// # Errors
    /// A URL of a resource, or of a transport that is not served.
    pub(super) fn listen(&self, url: Option<&str>) -> Result<Listen> {
        let target = url.map(Target::parse).transpose()?;
        // Who gives keys or a certificate and no scheme means DTLS, CoAP's own security.
        let secure = self.has_psk() || self.tls.is_set();
        let without_scheme = if secure { Transport::Dtls } else { Transport::Udp };
        let transport = target.as_ref().map_or(without_scheme, |target| target.transport);
        self.fits(transport)?;
        if let Some(target) =
            target.as_ref().filter(|target| !target.path.is_empty() || target.query.is_some())
        {
            let shown = target.shown();
            return Err(Error::config(format!("a server has an address and no path: write coap://{shown}")));
        }
        let bind = match (&self.bind, target) {
            (Some(bind), _) => bind.clone(),
            (None, Some(target)) => target.shown(),
            (None, None) => format!("127.0.0.1:{}", transport.default_port()),
        };
        Ok(Listen { transport, bind })
    }

    fn fits(&self, transport: Transport) -> Result<()> {
        self.oscore.parameters()?;
        let scheme = transport.scheme();
        self.fits_groups(transport)?;
        let needs = |what: &str| Err(Error::config(format!("a {scheme} server needs {what}")));
        #[cfg(feature = "dtls")]
        self.psk.check()?;
        match transport {
            Transport::Udp | Transport::Tcp if self.has_psk() => Err(Error::config(format!(
                "--psk is for coaps:// and coaps+tcp://; {scheme}:// is not encrypted"
            ))),
            Transport::Udp | Transport::Tcp if self.tls.is_set() => {
                let option = self.tls.first_set().unwrap_or_default();
                Err(Error::config(format!(
                    "{option} is for coaps:// and coaps+tcp://; {scheme}:// is not encrypted"
                )))
            }
            Transport::Dtls if cfg!(not(feature = "dtls")) => {
                Err(Error::unsupported("coaps:// needs DTLS, without which this plugin was built"))
            }
            Transport::Tls if !self.tls.is_set() && cfg!(not(feature = "dtls")) => {
                needs("a certificate: give --tls-cert and --tls-key, or --tls-self-signed")
            }
            Transport::Dtls | Transport::Tls if !self.has_psk() && !self.tls.is_set() => needs(
                "pre-shared keys or a certificate: give --psk IDENTITY=KEY, --tls-cert and --tls-key, or --tls-self-signed",
            ),
            Transport::Dtls => no_dtls_1_3(self.tls.tls_min_version),
            Transport::Tcp | Transport::Tls if self.loss.is_some() => {
                Err(Error::config(format!("--loss is for datagrams: over {scheme}:// nothing is lost")))
            }
            #[cfg(feature = "dtls")]
            Transport::Tls if self.has_psk() => no_keys_with_1_3(self.tls.tls_min_version),
            _ => Ok(()),
        }
    }

    fn fits_groups(&self, transport: Transport) -> Result<()> {
        if self.join_group.is_empty() {
            return match self.leisure == LEISURE {
                true => Ok(()),
                false => Err(Error::config("--leisure is for groups: give --join-group as well")),
            };
        }
        if transport != Transport::Udp {
            let scheme = transport.scheme();
            return Err(Error::config(format!("--join-group is for coap://: {scheme}:// knows no groups")));
        }
        match self.oscore.parameters()? {
            Some(_) => Err(Error::config("--join-group: a group of servers can't share OSCORE's keys")),
            None => Ok(()),
        }
    }

    #[cfg(feature = "dtls")]
    fn has_psk(&self) -> bool {
        self.psk.is_set()
    }

    #[cfg(not(feature = "dtls"))]
    fn has_psk(&self) -> bool {
        false
    }

    pub(super) fn manners(&self) -> Result<Manners> {
        let reply = self.reply.as_deref().map(reply_code).transpose()?;
        Ok(Manners { reply, delay: self.delay.duration(), max_age: self.max_age })
    }

    pub(super) fn loss(&self) -> Result<Probability> {
        let parsed = self.loss.as_deref().map(str::parse).transpose();
        Ok(parsed.map_err(|error| Error::config(format!("--loss: {error}")))?.unwrap_or_default())
    }

    pub(super) fn limits(&self) -> Limits {
        let size = self.max_size as usize;
        Limits { resources: self.max_resources as usize, size, total: size * LARGEST_IN_ALL }
    }

    /// The resources of --resource.
    pub(super) fn preset(&self) -> Result<Vec<(String, Representation)>> {
        self.resource.iter().map(|text| preset(text)).collect()
    }
}

fn reply_code(text: &str) -> Result<MessageClass> {
    let wrong = || Error::config(format!("--reply {text}: write a response code, like 2.05, 4.04 or 5.03"));
    parse_code(text).filter(|code| matches!(message::class(*code), 2 | 4 | 5)).ok_or_else(wrong)
}

fn preset(text: &str) -> Result<(String, Representation)> {
    let (path, value) = text.split_once('=').ok_or_else(|| {
        Error::config(format!("--resource {text}: write PATH=VALUE, like /sensors/temp=21.5"))
    })?;
    let name = resource_name(path).map_err(|error| Error::config(format!("--resource {path}: {error}")))?;
    let value = Bytes::copy_from_slice(value.as_bytes());
    let format = guess(&value);
    Ok((name, Representation::new(value, Some(format))))
}

/// The content format of bytes of which nobody has said any: JSON only where it can't be meant as text.
pub(super) fn guess(value: &[u8]) -> u16 {
    const TEXT: u16 = 0;
    const OCTETS: u16 = 42;
    const JSON: u16 = 50;
    let begins = value.trim_ascii_start().first();
    let is_json = matches!(begins, Some(b'{' | b'['))
        && tracemq_plugin_api::serde_json::from_slice::<serde::de::IgnoredAny>(value).is_ok();
    match std::str::from_utf8(value) {
        Ok(_) if is_json => JSON,
        Ok(_) => TEXT,
        Err(_) => OCTETS,
    }
}

/// The name of a resource as the user writes it, with or without a slash before it.
///
/// # Errors
/// Why it is none, as the end of a sentence.
pub(super) fn resource_name(text: &str) -> std::result::Result<String, String> {
    let mut packet = Packet::new();
    message::add_uri(&mut packet, text).map_err(|error| error.to_string())?;
    if message::first(&packet, CoapOption::UriQuery).is_some() {
        return Err("a resource has no query".to_owned());
    }
    let name = path_of(&packet);
    if name == WELL_KNOWN {
        return Err("this resource is made by the server".to_owned());
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracemq_plugin_api::serde_json::{self, json};

    fn options(json: serde_json::Value) -> ServeOptions {
        serde_json::from_value(json).expect("the types fit")
    }

    #[test]
    fn where_to_listen() {
        let at = |url, json| options(json).listen(url).unwrap().bind;
        assert_eq!(at(None, json!({})), "127.0.0.1:5683");
        assert_eq!(at(Some("coap://[::1]"), json!({})), "[::1]:5683");
        assert_eq!(at(Some("coap://[::1]:7/"), json!({})), "[::1]:7");
        assert_eq!(at(Some("coap://localhost"), json!({})), "localhost:5683");
        assert_eq!(at(Some("coap://localhost:1"), json!({"bind": "127.0.0.1:0"})), "127.0.0.1:0");
    }

    #[test]
    fn presets_have_a_name_and_a_format() {
        let preset = |text: &str| {
            let (name, state) = preset(text).unwrap();
            (name, state.format)
        };
        assert_eq!(preset("a=b=c"), ("/a".into(), Some(0)));
        assert_eq!(preset("/a b/ü=[1]"), ("/a%20b/%C3%BC".into(), Some(50)));
        assert_eq!(preset("/={oops"), ("/".into(), Some(0)));
    }

    #[test]
    fn what_can_not_work_names_its_option() {
        for (url, json, part) in [
            (None, json!({"reply": "0.01"}), "--reply"),
            (None, json!({"reply": "hello"}), "--reply"),
            (None, json!({"loss": "110%"}), "--loss"),
            (None, json!({"resource": ["a"]}), "--resource"),
            (None, json!({"resource": ["a?b=c"]}), "query"),
            (None, json!({"resource": ["/.well-known/core=x"]}), "made by the server"),
            (Some("coap://h/path"), json!({}), "no path"),
            (Some("coaps+tcp://h"), json!({}), "--tls-cert"),
            (Some("coaps://h"), json!({}), "--psk"),
            (Some("coap+tcp://h"), json!({"loss": "1%"}), "--loss"),
            (Some("coap://h"), json!({"tls_cert": "c"}), "coaps"),
            (None, json!({"oscore_sender_id": "01"}), "--oscore-master-secret"),
            (None, json!({"join_group": ["127.0.0.1"]}), "--join-group"),
            (Some("coap+tcp://h"), json!({"join_group": ["224.0.1.187"]}), "--join-group"),
            (
                None,
                json!({"join_group": ["224.0.1.187"], "oscore_master_secret": "0102", "oscore_sender_id": "01"}),
                "OSCORE",
            ),
            (None, json!({"leisure": "1s"}), "--leisure"),
        ] {
            let text = options(json).check(url).expect_err(part).to_string();
            assert!(text.contains(part), "{text}");
        }
    }
}
