//! The options of a server's TLS, the same for every plugin that serves.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::options::{TlsVersion, hidden};

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// Whoever shows none is refused
    #[default]
    Required,
    /// Whoever shows none comes in without; one that is shown has to be good
    Optional,
}

/// What a server's TLS shows and checks, to be flattened into a plugin's serve options.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ServerTlsOptions {
    /// File with the server's certificate and its chain (PEM); makes the server speak TLS; may hold the key as well
    #[schemars(title = "Server certificate", extend(
        "x-file" = "read", "x-group" = "tls", "x-order" = 500,
        "x-title-fr" = "Certificat du serveur",
        "x-help-fr" = "Fichier du certificat du serveur et de sa chaîne (PEM) ; le serveur parle alors TLS ; peut aussi contenir la clé"
    ))]
    pub tls_cert: Option<PathBuf>,

    /// File with the private key of the server's certificate (PEM: PKCS#8, PKCS#1 or SEC1; may be encrypted)
    #[schemars(title = "Server key", extend(
        "x-file" = "read", "x-group" = "tls", "x-order" = 501,
        "x-title-fr" = "Clé du serveur",
        "x-help-fr" = "Fichier de la clé privée du certificat du serveur (PEM : PKCS#8, PKCS#1 ou SEC1 ; peut être chiffrée)"
    ))]
    pub tls_key: Option<PathBuf>,

    /// Pass phrase of the server's key or of the PKCS#12 file
    #[schemars(title = "Key pass phrase", extend(
        "x-secret" = true, "x-group" = "tls", "x-order" = 502,
        "x-title-fr" = "Phrase de passe de la clé",
        "x-help-fr" = "Phrase de passe de la clé du serveur ou du fichier PKCS#12"
    ))]
    pub tls_key_password: Option<String>,

    /// PKCS#12 file (.p12, .pfx) with the server's certificate and key, instead of the two PEM files
    #[schemars(title = "PKCS#12 file", extend(
        "x-file" = "read", "x-group" = "tls", "x-order" = 503,
        "x-title-fr" = "Fichier PKCS#12",
        "x-help-fr" = "Fichier PKCS#12 (.p12, .pfx) du certificat du serveur et de sa clé, à la place des deux fichiers PEM"
    ))]
    pub tls_pkcs12: Option<PathBuf>,

    /// Make a certificate for localhost and the address listened on, signed by a CA that is made once and kept; the path of the CA's certificate is printed, for clients to trust
    #[cfg(feature = "self-signed")]
    #[schemars(title = "Own certificate", extend(
        "x-group" = "tls", "x-order" = 504,
        "x-title-fr" = "Certificat fabriqué",
        "x-help-fr" = "Fabriquer un certificat pour localhost et l'adresse d'écoute, signé par une autorité fabriquée une fois et conservée ; le chemin du certificat de l'autorité est affiché, pour que les clients lui fassent confiance"
    ))]
    pub tls_self_signed: bool,

    /// File with CA certificates (PEM or DER): clients must then show a certificate signed by one of them
    #[schemars(title = "Client CA", extend(
        "x-file" = "read", "x-group" = "tls", "x-order" = 505,
        "x-title-fr" = "Autorité des clients",
        "x-help-fr" = "Fichier de certificats d'autorité (PEM ou DER) : les clients doivent alors présenter un certificat signé par l'une d'elles"
    ))]
    pub tls_ca: Option<PathBuf>,

    /// With a client CA: whether a client may come without a certificate (default required)
    #[schemars(title = "Client certificates", extend(
        "x-group" = "tls", "x-order" = 506,
        "x-title-fr" = "Certificats des clients",
        "x-help-fr" = "Avec une autorité des clients : un client peut-il venir sans certificat (optional) ou non (required, par défaut)"
    ))]
    pub tls_client_auth: Option<ClientAuth>,

    /// Application protocol to agree to (ALPN), best first, instead of what the protocol itself would; may be given more than once; one empty text agrees to none
    #[schemars(title = "Application protocols", extend(
        "x-group" = "tls", "x-order" = 507,
        "x-title-fr" = "Protocoles applicatifs",
        "x-help-fr" = "Protocole applicatif à accepter (ALPN), par ordre de préférence, à la place de celui du protocole lui-même ; peut être répété ; un texte vide seul n'en accepte aucun"
    ))]
    pub tls_alpn: Vec<String>,

    /// Oldest version of TLS that clients may speak (default 1.2)
    #[schemars(title = "Minimum TLS version", extend(
        "x-group" = "tls", "x-order" = 508,
        "x-title-fr" = "Version minimale de TLS",
        "x-help-fr" = "Plus ancienne version de TLS que les clients peuvent parler (par défaut 1.2)"
    ))]
    pub tls_min_version: Option<TlsVersion>,
}

impl ServerTlsOptions {
    /// Whether any of them is given, so that the server is meant to speak TLS.
    pub fn is_set(&self) -> bool {
        self.first_set().is_some()
    }

    /// The first option that is given, as a flag; for a plugin whose scheme has no TLS, to say so.
    pub fn first_set(&self) -> Option<&'static str> {
        let set = [
            ("--tls-cert", self.tls_cert.is_some()),
            ("--tls-key", self.tls_key.is_some()),
            ("--tls-key-password", self.tls_key_password.is_some()),
            ("--tls-pkcs12", self.tls_pkcs12.is_some()),
            ("--tls-self-signed", self.is_self_signed()),
            ("--tls-ca", self.tls_ca.is_some()),
            ("--tls-client-auth", self.tls_client_auth.is_some()),
            ("--tls-alpn", !self.tls_alpn.is_empty()),
            ("--tls-min-version", self.tls_min_version.is_some()),
        ];
        set.into_iter().find(|(_, set)| *set).map(|(option, _)| option)
    }

    /// Whether there is something to show to clients: a certificate, or the wish that one be made.
    pub fn has_certificate(&self) -> bool {
        self.tls_cert.is_some() || self.tls_pkcs12.is_some() || self.is_self_signed()
    }

    /// Whether clients must show a certificate.
    pub fn demands_certificate(&self) -> bool {
        self.tls_ca.is_some() && self.tls_client_auth.unwrap_or_default() == ClientAuth::Required
    }

    /// Whether a certificate is to be made. Without the feature `self-signed` there is no such option.
    pub fn is_self_signed(&self) -> bool {
        #[cfg(feature = "self-signed")]
        return self.tls_self_signed;
        #[cfg(not(feature = "self-signed"))]
        false
    }
}

impl fmt::Debug for ServerTlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTlsOptions")
            .field("tls_cert", &self.tls_cert)
            .field("tls_key", &self.tls_key)
            .field("tls_key_password", &hidden(&self.tls_key_password))
            .field("tls_pkcs12", &self.tls_pkcs12)
            .field("tls_self_signed", &self.is_self_signed())
            .field("tls_ca", &self.tls_ca)
            .field("tls_client_auth", &self.tls_client_auth)
            .field("tls_alpn", &self.tls_alpn)
            .field("tls_min_version", &self.tls_min_version)
            .finish()
    }
}
