//! What the TLS options say, for a plugin whose TLS isn't rustls: DTLS, or a C library's own.
//!
//! The same files are read with the same complaints, the same CAs are trusted, and a certificate is held against them by the
//! same code, so that the errors are those of every other plugin.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::dial::Peer;
use super::error::{NetError, NetErrorKind};
use super::keylog::{self, KeyLog};
use super::keys::Identity;
use super::options::{TlsOptions, TlsVersion};
use super::server::ServerTls;
use super::server_options::ServerTlsOptions;
use super::tls::ClientTls;
use super::{explain, refused_client};

/// A certificate with its chain, and its key, in DER.
#[derive(Clone)]
pub struct TlsIdentity {
    /// The certificate first, then those of its issuers as far as they were given. Never empty.
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8, PKCS#1 or SEC1, not encrypted. Left out of Debug.
    pub key: Vec<u8>,
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

impl From<&Identity> for TlsIdentity {
    fn from(identity: &Identity) -> Self {
        Self {
            chain: identity.certified.cert.iter().map(|certificate| certificate.to_vec()).collect(),
            key: identity.key.secret_der().to_vec(),
        }
    }
}

/// A client's side.
#[derive(Debug)]
pub struct ClientMaterial(ClientTls);

impl ClientMaterial {
    /// Reads and checks the files that the options name.
    ///
    /// # Errors
    /// [`NetErrorKind::Config`](super::NetErrorKind::Config), as [`Dialer::new`](super::Dialer::new).
    pub fn new(options: &TlsOptions) -> Result<Self, NetError> {
        ClientTls::new(options).map(Self)
    }

    /// The certificate to show to a server that asks for one.
    pub fn identity(&self) -> Option<TlsIdentity> {
        self.0.identity().map(TlsIdentity::from)
    }

    /// The name to ask the server for (SNI). `None` for an address, which is not asked for.
    ///
    /// # Errors
    /// [`NetErrorKind::Config`](super::NetErrorKind::Config): a host that no certificate can name.
    pub fn server_name(&self, host: &str) -> Result<Option<String>, NetError> {
        Ok(match self.0.server_name(host)? {
            ServerName::DnsName(name) => Some(name.as_ref().to_owned()),
            _ => None,
        })
    }

    /// Whether the server's certificate is not looked at, of which [`ClientMaterial::warnings`] tells.
    pub fn insecure(&self) -> bool {
        self.0.insecure()
    }

    /// What the user should be told each time a connection is made; [`ClientMaterial::insecure`] is worth a word only
    /// where a certificate would be looked at.
    pub fn warnings(&self, looks_at_certificate: bool) -> Vec<&'static str> {
        warnings(&self.0, looks_at_certificate)
    }

    /// The oldest version to speak.
    pub fn min_version(&self) -> TlsVersion {
        self.0.min_version()
    }

    /// The application protocols to offer (ALPN), best first, where the user has said which.
    pub fn alpn(&self) -> Option<&[Vec<u8>]> {
        self.0.alpn()
    }

    /// Where to write keys, opened anew.
    pub fn key_log(&self) -> Option<Arc<KeyLog>> {
        self.0.open_key_log()
    }

    /// Holds the certificates that a server shows, its own first, against the trusted ones, the host's name and the clock.
    ///
    /// # Errors
    /// [`NetErrorKind::Tls`](super::NetErrorKind::Tls), which says what is wrong with it and which option would cure it.
    pub fn check_server(&self, host: &str, port: u16, chain: &[Vec<u8>]) -> Result<(), NetError> {
        let peer = Peer::new(host, port);
        let (leaf, rest) = split(chain);
        let name = self.0.server_name(peer.host)?;
        self.0
            .verifier()?
            .verify_server_cert(&leaf, &rest, &name, &[], UnixTime::now())
            .map(drop)
            .map_err(|error| explain::certificate_refused(peer, error))
    }
}

/// What the user should be told each time a connection is made.
pub(super) fn warnings(tls: &ClientTls, looks_at_certificate: bool) -> Vec<&'static str> {
    const INSECURE: &str = "--insecure-skip-verify: the server's certificate is not checked; anyone on the way can read and change everything";
    let insecure = (looks_at_certificate && tls.insecure()).then_some(INSECURE);
    insecure.into_iter().chain(tls.logs_keys().then_some(keylog::WARNING)).collect()
}

/// A server's side.
#[derive(Debug)]
pub struct ServerMaterial {
    tls: ServerTls,
    identity: TlsIdentity,
}

impl ServerMaterial {
    /// Reads and checks the files that the options name. A certificate that is to be made needs [`ServerTls::open`].
    ///
    /// # Errors
    /// [`NetErrorKind::Config`], as [`tls_acceptor`](super::tls_acceptor).
    pub fn new(options: &ServerTlsOptions) -> Result<Self, NetError> {
        ServerTls::open(options, None, "").map(Self::from)
    }

    /// The certificate to show.
    pub fn identity(&self) -> &TlsIdentity {
        &self.identity
    }

    /// Whether clients are asked for a certificate.
    pub fn asks_for_certificate(&self) -> bool {
        self.tls.verifier.is_some()
    }

    /// Whether they must show one.
    pub fn demands_certificate(&self) -> bool {
        self.tls.verifier.as_ref().is_some_and(|verifier| verifier.client_auth_mandatory())
    }

    /// The oldest version to speak.
    pub fn min_version(&self) -> TlsVersion {
        self.tls.versions
    }

    /// The application protocols to agree to (ALPN), best first, where the user has said which.
    pub fn alpn(&self) -> Option<&[Vec<u8>]> {
        self.tls.alpn.as_deref()
    }

    /// Where to write keys.
    pub fn key_log(&self) -> Option<Arc<KeyLog>> {
        self.tls.key_log.clone()
    }

    /// Holds the certificates that a client shows, its own first, against the trusted ones and the clock. Without
    /// `--tls-ca` any will do.
    ///
    /// # Errors
    /// [`NetErrorKind::Tls`], which says what is wrong with it.
    pub fn check_client(&self, chain: &[Vec<u8>]) -> Result<(), NetError> {
        let Some(verifier) = &self.tls.verifier else { return Ok(()) };
        let (leaf, rest) = split(chain);
        verifier
            .verify_client_cert(&leaf, &rest, UnixTime::now())
            .map(drop)
            .map_err(|error| NetError::new(NetErrorKind::Tls, refused_client::explain(&error)).source(error))
    }
}

impl From<ServerTls> for ServerMaterial {
    /// Takes over what has been read and checked.
    fn from(tls: ServerTls) -> Self {
        Self { identity: TlsIdentity::from(&tls.identity), tls }
    }
}

/// Leaf and intermediates. Without any certificate the leaf is empty, which no verifier takes.
fn split(chain: &[Vec<u8>]) -> (CertificateDer<'_>, Vec<CertificateDer<'_>>) {
    let der = |certificate: &Vec<u8>| CertificateDer::from(certificate.as_slice()).into_owned();
    let leaf = chain.first().map_or_else(|| CertificateDer::from(&[][..]), der);
    (leaf, chain.iter().skip(1).map(der).collect())
}
