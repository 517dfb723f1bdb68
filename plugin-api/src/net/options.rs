//! The options every plugin shares. The one place where their flags, help and order stand.
//!
//! Those of a client; a server's are in [`server_options`](super::server_options). Field order numbers: TLS from 500, the
//! proxy 560, the connect time-out 570, so that a plugin's own options come first in `--help` and in a form, and these stand
//! together after them.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::sdk::Span;

/// How long a connection may take to come up when nothing else is said.
const CONNECT_TIMEOUT: Span = Span::from_secs(10);

/// All that [`Dialer`](super::Dialer) wants to know, to be `#[serde(flatten)]`ed into a plugin's connection options.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NetOptions {
    /// Certificates, keys and checks.
    #[serde(flatten)]
    pub tls: TlsOptions,
    /// The way round a firewall.
    #[serde(flatten)]
    pub proxy: ProxyOptions,
    /// How long to wait.
    #[serde(flatten)]
    pub timeout: TimeoutOptions,
}

/// The oldest version of TLS that is spoken. Older ones than these are insecure and not supported at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 or 1.3
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3 alone
    #[serde(rename = "1.3")]
    V1_3,
}

/// What a client's TLS checks and shows. All optional: without any of them the system's CAs are trusted.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TlsOptions {
    /// File with the CA certificates to trust (PEM or DER) instead of the system's; a self-signed server certificate may stand there itself
    #[schemars(title = "CA certificates", extend(
        "x-file" = "read", "x-group" = "tls", "x-order" = 500,
        "x-title-fr" = "Certificats d'autorité",
        "x-help-fr" = "Fichier des certificats d'autorité de confiance (PEM ou DER), à la place de ceux du système ; un certificat de serveur autosigné peut y figurer lui-même"
    ))]
    pub tls_ca: Option<PathBuf>,

    /// File with the client certificate and its chain (PEM); may hold the key as well
    #[schemars(title = "Client certificate", extend(
        "x-file" = "read", "x-group" = "tls", "x-order" = 501,
        "x-title-fr" = "Certificat client",
        "x-help-fr" = "Fichier du certificat client et de sa chaîne (PEM) ; peut aussi contenir la clé"
    ))]
    pub tls_cert: Option<PathBuf>,

    /// File with the private key of the client certificate (PEM: PKCS#8, PKCS#1 or SEC1; may be encrypted)
    #[schemars(title = "Client key", extend(
        "x-file" = "read", "x-group" = "tls", "x-order" = 502,
        "x-title-fr" = "Clé du client",
        "x-help-fr" = "Fichier de la clé privée du certificat client (PEM : PKCS#8, PKCS#1 ou SEC1 ; peut être chiffrée)"
    ))]
    pub tls_key: Option<PathBuf>,

    /// Pass phrase of the client key or of the PKCS#12 file
    #[schemars(title = "Key pass phrase", extend(
        "x-secret" = true, "x-group" = "tls", "x-order" = 503,
        "x-title-fr" = "Phrase de passe de la clé",
        "x-help-fr" = "Phrase de passe de la clé du client ou du fichier PKCS#12"
    ))]
    pub tls_key_password: Option<String>,

    /// PKCS#12 file (.p12, .pfx) with client certificate and key, instead of the two PEM files
    #[schemars(title = "PKCS#12 file", extend(
        "x-file" = "read", "x-group" = "tls", "x-order" = 504,
        "x-title-fr" = "Fichier PKCS#12",
        "x-help-fr" = "Fichier PKCS#12 (.p12, .pfx) du certificat client et de sa clé, à la place des deux fichiers PEM"
    ))]
    pub tls_pkcs12: Option<PathBuf>,

    /// Name to ask the server for (SNI) and to look for in its certificate, instead of the host in the URL
    #[schemars(title = "Server name", extend(
        "x-group" = "tls", "x-order" = 505,
        "x-title-fr" = "Nom du serveur",
        "x-help-fr" = "Nom à demander au serveur (SNI) et à chercher dans son certificat, à la place de l'hôte de l'URL"
    ))]
    pub tls_server_name: Option<String>,

    /// Application protocol to offer (ALPN), best first, instead of what the protocol itself would; may be given more than once; one empty text offers none
    #[schemars(title = "Application protocols", extend(
        "x-group" = "tls", "x-order" = 506,
        "x-title-fr" = "Protocoles applicatifs",
        "x-help-fr" = "Protocole applicatif à proposer (ALPN), par ordre de préférence, à la place de celui du protocole lui-même ; peut être répété ; un texte vide seul n'en propose aucun"
    ))]
    pub tls_alpn: Vec<String>,

    /// Oldest version of TLS to speak (default 1.2)
    #[schemars(title = "Minimum TLS version", extend(
        "x-group" = "tls", "x-order" = 507,
        "x-title-fr" = "Version minimale de TLS",
        "x-help-fr" = "Plus ancienne version de TLS acceptée (par défaut 1.2)"
    ))]
    pub tls_min_version: Option<TlsVersion>,

    /// Accept any server certificate: the connection is encrypted, but the server may be anyone
    #[schemars(title = "Do not check the server", extend(
        "x-insecure" = true, "x-group" = "tls", "x-order" = 508,
        "x-title-fr" = "Ne pas vérifier le serveur",
        "x-help-fr" = "Accepter tout certificat de serveur : la connexion est chiffrée, mais le serveur peut être n'importe qui"
    ))]
    pub insecure_skip_verify: bool,
}

impl TlsOptions {
    /// The first option that is given, as a flag; for a plugin whose target's scheme has no TLS, to say so.
    pub fn first_set(&self) -> Option<&'static str> {
        let set = [
            ("--tls-ca", self.tls_ca.is_some()),
            ("--tls-cert", self.tls_cert.is_some()),
            ("--tls-key", self.tls_key.is_some()),
            ("--tls-key-password", self.tls_key_password.is_some()),
            ("--tls-pkcs12", self.tls_pkcs12.is_some()),
            ("--tls-server-name", self.tls_server_name.is_some()),
            ("--tls-alpn", !self.tls_alpn.is_empty()),
            ("--tls-min-version", self.tls_min_version.is_some()),
            ("--insecure-skip-verify", self.insecure_skip_verify),
        ];
        set.into_iter().find(|(_, set)| *set).map(|(option, _)| option)
    }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("tls_ca", &self.tls_ca)
            .field("tls_cert", &self.tls_cert)
            .field("tls_key", &self.tls_key)
            .field("tls_key_password", &hidden(&self.tls_key_password))
            .field("tls_pkcs12", &self.tls_pkcs12)
            .field("tls_server_name", &self.tls_server_name)
            .field("tls_alpn", &self.tls_alpn)
            .field("tls_min_version", &self.tls_min_version)
            .field("insecure_skip_verify", &self.insecure_skip_verify)
            .finish()
    }
}

/// The proxy to connect through.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ProxyOptions {
    /// Proxy to connect through: socks5://[USER:PASSWORD@]HOST:PORT (the proxy looks names up; socks5h:// is the same) or http://[USER:PASSWORD@]HOST:PORT (CONNECT). Default: that of HTTPS_PROXY (with TLS) or ALL_PROXY, except for this machine and what NO_PROXY lists
    #[schemars(title = "Proxy", extend(
        "x-secret" = true, "x-type" = "url", "x-group" = "proxy", "x-order" = 560,
        "x-title-fr" = "Proxy",
        "x-help-fr" = "Proxy à traverser : socks5://[UTILISATEUR:MOT-DE-PASSE@]HÔTE:PORT (c'est lui qui résout les noms ; socks5h:// de même) ou http://[UTILISATEUR:MOT-DE-PASSE@]HÔTE:PORT (CONNECT). Par défaut celui de HTTPS_PROXY (avec TLS) ou de ALL_PROXY, sauf pour cette machine et ce que NO_PROXY énumère"
    ))]
    pub proxy: Option<String>,
}

impl fmt::Debug for ProxyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyOptions").field("proxy", &hidden(&self.proxy)).finish()
    }
}

/// How long connecting may take.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TimeoutOptions {
    /// Longest time for a connection to come up: name lookup, TCP, proxy, TLS and WebSocket together
    #[schemars(title = "Connect time-out", extend(
        "x-group" = "connection", "x-order" = 570,
        "x-title-fr" = "Délai de connexion",
        "x-help-fr" = "Durée maximale d'établissement de la connexion : résolution du nom, TCP, proxy, TLS et WebSocket ensemble"
    ))]
    pub connect_timeout: Span,
}

impl Default for TimeoutOptions {
    fn default() -> Self {
        Self { connect_timeout: CONNECT_TIMEOUT }
    }
}

/// Stands for a secret in `Debug` output: says only whether there is one.
pub(super) fn hidden(secret: &Option<String>) -> Option<&'static str> {
    secret.as_ref().map(|_| "***")
}
