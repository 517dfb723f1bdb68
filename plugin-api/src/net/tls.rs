//! A client's rustls configuration from the options: TLS 1.2 and 1.3 with `ring`. A server's is in [`server`](super::server).
//!
//! The system's CAs are read only when a connection needs them: it takes milliseconds that a plain connection need not pay.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme, SupportedProtocolVersion};

use super::error::{NetError, NetErrorKind};
use super::keylog::{self, KeyLog};
use super::keys::{self, Identity};
use super::options::{TlsOptions, TlsVersion};
use super::verify::{Anyone, Pinned};

/// A client's side, files read and checked.
pub(super) struct ClientTls {
    provider: Arc<CryptoProvider>,
    /// The CAs of `--tls-ca`; the system's when there are none.
    roots: Option<(Arc<RootCertStore>, Vec<CertificateDer<'static>>)>,
    identity: Option<Identity>,
    server_name: Option<ServerName<'static>>,
    insecure: bool,
    versions: TlsVersion,
    /// What to offer instead of what the protocol would.
    alpn: Option<Vec<Vec<u8>>>,
    /// The file of `SSLKEYLOGFILE`.
    key_log: Option<PathBuf>,
    shown: Arc<Shown>,
    /// Made on first use, and kept: it holds the sessions to resume.
    config: OnceLock<Arc<ClientConfig>>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("own_ca", &self.roots.is_some())
            .field("identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .field("insecure", &self.insecure)
            .field("versions", &self.versions)
            .field("key_log", &self.key_log)
            .finish_non_exhaustive()
    }
}

impl ClientTls {
    pub(super) fn new(options: &TlsOptions) -> Result<Self, NetError> {
        let provider = Arc::new(ring::default_provider());
        let password = options.tls_key_password.as_deref();
        let roots = match &options.tls_ca {
            Some(path) => {
                let certificates = keys::load_cas("--tls-ca", path)?;
                Some((Arc::new(root_store("--tls-ca", path, &certificates)?), certificates))
            }
            None => None,
        };
        let identity = keys::load(
            &provider,
            options.tls_pkcs12.as_deref(),
            options.tls_cert.as_deref(),
            options.tls_key.as_deref(),
            password,
        )?;
        let server_name = match &options.tls_server_name {
            Some(name) => Some(ServerName::try_from(name.clone()).map_err(|_| {
                NetError::config(format!("--tls-server-name {name:?}: neither a host name nor an IP address"))
            })?),
            None => None,
        };
        let certified = identity.as_ref().map(|identity| identity.certified.clone());
        let shown = Shown { certified, asked: AtomicBool::new(false) };
        Ok(Self {
            provider,
            roots,
            identity,
            server_name,
            insecure: options.insecure_skip_verify,
            versions: options.tls_min_version.unwrap_or_default(),
            alpn: protocols(&options.tls_alpn)?,
            key_log: keylog::wanted(),
            shown: Arc::new(shown),
            config: OnceLock::new(),
        })
    }

    pub(super) fn insecure(&self) -> bool {
        self.insecure
    }

    pub(super) fn min_version(&self) -> TlsVersion {
        self.versions
    }

    /// What `--tls-alpn` says.
    pub(super) fn alpn(&self) -> Option<&[Vec<u8>]> {
        self.alpn.as_deref()
    }

    pub(super) fn logs_keys(&self) -> bool {
        self.key_log.is_some()
    }

    pub(super) fn open_key_log(&self) -> Option<Arc<KeyLog>> {
        self.key_log.as_ref().and_then(KeyLog::open)
    }

    /// Whether there is a certificate to show to a server that asks.
    pub(super) fn has_identity(&self) -> bool {
        self.identity.is_some()
    }

    pub(super) fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The name to ask for and to look for in the certificate.
    pub(super) fn server_name(&self, host: &str) -> Result<ServerName<'static>, NetError> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => ServerName::try_from(host.to_owned()).map_err(|_| {
                NetError::config(format!("the host {host:?} cannot be checked against a certificate"))
                    .hint("give the name in the server's certificate with --tls-server-name")
            }),
        }
    }

    /// The configuration, offering these protocols.
    pub(super) fn config(&self, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, NetError> {
        let config = match self.config.get() {
            Some(config) => config,
            None => {
                let made = Arc::new(self.make()?);
                self.config.get_or_init(|| made)
            }
        };
        if alpn.is_empty() && self.alpn.is_none() {
            return Ok(config.clone());
        }
        let mut config = ClientConfig::clone(config);
        let own = || alpn.iter().map(|p| p.to_vec()).collect();
        config.alpn_protocols = self.alpn.clone().unwrap_or_else(own);
        Ok(Arc::new(config))
    }

    fn make(&self) -> Result<ClientConfig, NetError> {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(versions(self.versions))
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier()?)
            .with_client_cert_resolver(self.shown.clone());
        if let Some(key_log) = self.open_key_log() {
            config.key_log = key_log;
        }
        Ok(config)
    }

    /// A server that breaks off without a word, having asked for a certificate, may have done it for that: not every TLS
    /// library gets its alert out.
    pub(super) fn remark(&self, error: NetError) -> NetError {
        let broke_off = error.kind == NetErrorKind::Handshake
            && std::error::Error::source(&error).is_some_and(|source| source.is::<std::io::Error>());
        if !broke_off || !self.shown.asked.load(Ordering::Relaxed) {
            return error;
        }
        error.hint(match self.identity {
            Some(_) => "the server asked for a client certificate and may not have accepted ours: check --tls-cert or --tls-pkcs12",
            None => {
                "the server asked for a client certificate, and there is none: give one with --tls-cert and --tls-key, or with \
                 --tls-pkcs12"
            }
        })
    }

    pub(super) fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, NetError> {
        if self.insecure {
            return Ok(Arc::new(Anyone(self.provider.clone())));
        }
        let (roots, trusted) = match &self.roots {
            Some((roots, trusted)) => (roots.clone(), trusted.clone()),
            None => (Arc::new(system_roots()?), Vec::new()),
        };
        let by_ca = WebPkiServerVerifier::builder_with_provider(roots, self.provider.clone())
            .build()
            .map_err(unusable)?;
        Ok(Arc::new(Pinned { by_ca, trusted }))
    }
}

/// What is shown to a server that asks for it, and whether one has asked.
#[derive(Debug)]
struct Shown {
    certified: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.certified.clone()
    }

    fn has_certs(&self) -> bool {
        self.certified.is_some()
    }
}

/// The versions from this one on.
pub(super) fn versions(oldest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static NEWEST: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
    match oldest {
        TlsVersion::V1_2 => rustls::DEFAULT_VERSIONS,
        TlsVersion::V1_3 => &NEWEST,
    }
}

/// The protocols of `--tls-alpn` (RFC 7301): `None` when nothing is said, an empty list for one empty text.
pub(super) fn protocols(given: &[String]) -> Result<Option<Vec<Vec<u8>>>, NetError> {
    match given {
        [] => Ok(None),
        [none] if none.is_empty() => Ok(Some(Vec::new())),
        some => match some.iter().find(|name| !(1..=255).contains(&name.len())) {
            Some(name) => {
                let length = name.len();
                Err(NetError::config(format!(
                    "--tls-alpn: a protocol of {length} bytes, it has from 1 to 255"
                )))
            }
            None => Ok(Some(some.iter().map(|name| name.as_bytes().to_vec()).collect())),
        },
    }
}

pub(super) fn root_store(
    flag: &str,
    path: &std::path::Path,
    certificates: &[CertificateDer<'static>],
) -> Result<RootCertStore, NetError> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates.iter().enumerate() {
        roots.add(certificate.clone()).map_err(|_| {
            let nth = index + 1;
            NetError::config(format!(
                "{flag} {}: certificate {nth} in it cannot be understood",
                path.display()
            ))
        })?;
    }
    Ok(roots)
}

/// The CAs that the operating system trusts. Single ones that can't be read are passed over, as every TLS client does.
fn system_roots() -> Result<RootCertStore, NetError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if !roots.is_empty() {
        return Ok(roots);
    }
    let why = found.errors.first().map(|e| format!(": {e}")).unwrap_or_default();
    Err(NetError::new(NetErrorKind::Tls, format!("no trusted CA certificates on this system{why}"))
        .hint("install the system's CA certificates (ca-certificates), or name the server's CA with --tls-ca")
        .permanent())
}

/// What only a wrong build could bring about: rustls refuses the provider.
pub(super) fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> NetError {
    NetError::new(NetErrorKind::Tls, format!("TLS cannot be set up: {error}")).permanent().source(error)
}
