//! rustls configurations from the options: TLS 1.2 and 1.3 with `ring`, for clients and for servers.
//!
//! The system's CAs are read only when a connection needs them: it takes milliseconds that a plain connection need not pay.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::error::{NetError, NetErrorKind};
use super::keys::{self, Identity};
use super::options::{ServerTlsOptions, TlsOptions};
use super::verify::{Anyone, Pinned};

/// A client's side, files read and checked.
pub(super) struct ClientTls {
    provider: Arc<CryptoProvider>,
    /// The CAs of `--tls-ca`; the system's when there are none.
    roots: Option<(Arc<RootCertStore>, Vec<CertificateDer<'static>>)>,
    identity: Option<Identity>,
    server_name: Option<ServerName<'static>>,
    insecure: bool,
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
        let identity = match (&options.tls_pkcs12, &options.tls_cert, &options.tls_key) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                return Err(NetError::config(
                    "--tls-pkcs12 holds certificate and key: it excludes --tls-cert and --tls-key",
                ));
            }
            (Some(path), None, None) => Some(keys::load_pkcs12(&provider, path, password)?),
            (None, Some(certificate), key) => {
                Some(keys::load_pem(&provider, certificate, key.as_deref(), password)?)
            }
            (None, None, Some(_)) => return Err(key_without_certificate()),
            (None, None, None) => None,
        };
        let server_name = match &options.tls_server_name {
            Some(name) => Some(ServerName::try_from(name.clone()).map_err(|_| {
                NetError::config(format!("--tls-server-name {name:?}: neither a host name nor an IP address"))
            })?),
            None => None,
        };
        Ok(Self {
            provider,
            roots,
            identity,
            server_name,
            insecure: options.insecure_skip_verify,
            config: OnceLock::new(),
        })
    }

    pub(super) fn insecure(&self) -> bool {
        self.insecure
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
        if alpn.is_empty() {
            return Ok(config.clone());
        }
        let mut config = ClientConfig::clone(config);
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        Ok(Arc::new(config))
    }

    fn make(&self) -> Result<ClientConfig, NetError> {
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier()?);
        Ok(match &self.identity {
            Some(identity) => builder
                .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified.clone()))),
            None => builder.with_no_client_auth(),
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

/// A server's side: what turns accepted sockets into TLS streams.
///
/// `alpn` lists the protocols to agree to, best first; empty agrees to none. When `tls_ca` is given, a client without a
/// certificate signed by it is refused.
///
/// # Errors
/// [`NetErrorKind::Config`], naming the option and the path.
pub fn tls_acceptor(options: &ServerTlsOptions, alpn: &[&[u8]]) -> Result<TlsAcceptor, NetError> {
    let provider = Arc::new(ring::default_provider());
    let identity = server_identity(&provider, options)?;
    let verifier = client_verifier(&provider, options)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified)));
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What a server shows to its clients.
pub(super) fn server_identity(
    provider: &CryptoProvider,
    options: &ServerTlsOptions,
) -> Result<Identity, NetError> {
    let certificate = options.tls_cert.as_deref().ok_or_else(|| match options.tls_key {
        Some(_) => key_without_certificate(),
        None => NetError::config("a TLS server needs a certificate: give --tls-cert and --tls-key"),
    })?;
    keys::load_pem(provider, certificate, options.tls_key.as_deref(), options.tls_key_password.as_deref())
}

/// What a server holds its clients' certificates against; `None` when it asks for none.
pub(super) fn client_verifier(
    provider: &Arc<CryptoProvider>,
    options: &ServerTlsOptions,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, NetError> {
    let Some(path) = &options.tls_ca else { return Ok(None) };
    let roots = root_store("--tls-ca", path, &keys::load_cas("--tls-ca", path)?)?;
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map(Some)
        .map_err(|e| NetError::config(format!("--tls-ca {}: {e}", path.display())))
}

fn key_without_certificate() -> NetError {
    NetError::config("--tls-key is given without --tls-cert: a key is of no use without its certificate")
}

fn root_store(
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
fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> NetError {
    NetError::new(NetErrorKind::Tls, format!("TLS cannot be set up: {error}")).permanent().source(error)
}
