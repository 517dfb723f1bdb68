//! A server's TLS from the options: its certificate, from files or made for it, and what it asks of clients.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::SingleCertAndKey;
use tokio_rustls::TlsAcceptor;

use super::error::NetError;
use super::keylog::{self, KeyLog};
use super::keys::{self, Identity};
#[cfg(feature = "self-signed")]
use super::local_ca;
use super::options::TlsVersion;
use super::server_options::{ClientAuth, ServerTlsOptions};
use super::tls::{protocols, root_store, unusable, versions};
use super::verify::Clients;
#[cfg(feature = "self-signed")]
use crate::sdk::Events;

/// What turns accepted sockets into TLS streams, of a server that shows a certificate from files.
///
/// `alpn` lists the protocols to agree to, best first; empty agrees to none. When `tls_ca` is given, a client without a
/// certificate signed by it is refused. A certificate that is to be made needs [`ServerTls::open`].
///
/// # Errors
/// [`NetErrorKind::Config`](super::NetErrorKind::Config), naming the option and the path.
pub fn tls_acceptor(options: &ServerTlsOptions, alpn: &[&[u8]]) -> Result<TlsAcceptor, NetError> {
    ServerTls::open(options, None, "")?.acceptor(alpn)
}

/// A server's TLS, files read and checked.
pub struct ServerTls {
    provider: Arc<CryptoProvider>,
    pub(super) identity: Identity,
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    pub(super) versions: TlsVersion,
    pub(super) alpn: Option<Vec<Vec<u8>>>,
    pub(super) key_log: Option<Arc<KeyLog>>,
    #[cfg(feature = "self-signed")]
    made: Option<local_ca::Made>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("asks_for_certificate", &self.verifier.is_some())
            .field("versions", &self.versions)
            .finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads and checks the files that the options name, or makes a certificate.
    ///
    /// For the latter, `state_dir` is the folder in which the CA is kept
    /// ([`Context::state_dir`](crate::sdk::Context::state_dir)), and `bind` what is listened on, as
    /// [`listen`](super::listen()) takes it: the certificate names its host beside this machine's.
    ///
    /// # Errors
    /// [`NetErrorKind::Config`](super::NetErrorKind::Config), naming the option and the path: a file is missing or holds
    /// something else, there is no certificate, there is no folder for the CA.
    pub fn open(options: &ServerTlsOptions, state_dir: Option<&Path>, bind: &str) -> Result<Self, NetError> {
        let provider = Arc::new(ring::default_provider());
        let given = keys::load(
            &provider,
            options.tls_pkcs12.as_deref(),
            options.tls_cert.as_deref(),
            options.tls_key.as_deref(),
            options.tls_key_password.as_deref(),
        )?;
        #[cfg(feature = "self-signed")]
        let (given, made) = match (given, options.is_self_signed()) {
            (Some(_), true) => {
                return Err(NetError::config(
                    "--tls-self-signed makes a certificate: it excludes --tls-cert, --tls-key and --tls-pkcs12",
                ));
            }
            (None, true) => {
                let made = local_ca::certificate(&provider, state_dir, bind)?;
                (Some(made.identity()), Some(made))
            }
            (given, false) => (given, None),
        };
        #[cfg(not(feature = "self-signed"))]
        let _ = (state_dir, bind);
        let identity = given.ok_or_else(|| {
            let more =
                if cfg!(feature = "self-signed") { ", or have one made with --tls-self-signed" } else { "" };
            NetError::config(format!("a TLS server needs a certificate: give --tls-cert and --tls-key{more}"))
        })?;
        let verifier = client_verifier(&provider, options)?;
        let key_log = keylog::wanted().and_then(|path| KeyLog::open(&path));
        if key_log.is_some() {
            log::warn!("{}", keylog::SERVER_WARNING);
        }
        Ok(Self {
            provider,
            identity,
            verifier,
            versions: options.tls_min_version.unwrap_or_default(),
            alpn: protocols(&options.tls_alpn)?,
            key_log,
            #[cfg(feature = "self-signed")]
            made,
        })
    }

    /// What turns accepted sockets into TLS streams. `alpn` lists the protocols to agree to unless the options say
    /// otherwise, best first; empty agrees to none.
    ///
    /// # Errors
    /// None but of a wrong build.
    pub fn acceptor(&self, alpn: &[&[u8]]) -> Result<TlsAcceptor, NetError> {
        let builder = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(versions(self.versions))
            .map_err(unusable)?;
        let builder = match &self.verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let shown = SingleCertAndKey::from(self.identity.certified.clone());
        let mut config = builder.with_cert_resolver(Arc::new(shown));
        let own = || alpn.iter().map(|p| p.to_vec()).collect();
        config.alpn_protocols = self.alpn.clone().unwrap_or_else(own);
        if let Some(key_log) = &self.key_log {
            config.key_log = key_log.clone();
        }
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Tells the user how clients come to trust a certificate that was made. To be called once.
    #[cfg(feature = "self-signed")]
    pub fn announce(&self, events: &Events) {
        if let Some(made) = &self.made {
            events.emit(made.event());
        }
    }

    /// Certificate and key in PEM, where they were made: for a server of another program, which wants files.
    #[cfg(feature = "self-signed")]
    pub fn made_pem(&self) -> Option<(String, String)> {
        self.made.as_ref().map(local_ca::Made::pem)
    }
}

/// What a server holds its clients' certificates against; `None` when it asks for none.
fn client_verifier(
    provider: &Arc<CryptoProvider>,
    options: &ServerTlsOptions,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, NetError> {
    let Some(path) = &options.tls_ca else {
        return match options.tls_client_auth {
            Some(_) => {
                Err(NetError::config("--tls-client-auth needs --tls-ca, by which clients are checked"))
            }
            None => Ok(None),
        };
    };
    let roots = root_store("--tls-ca", path, &keys::load_cas("--tls-ca", path)?)?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = match options.tls_client_auth.unwrap_or_default() {
        ClientAuth::Required => builder,
        ClientAuth::Optional => builder.allow_unauthenticated(),
    };
    let verifier =
        builder.build().map_err(|e| NetError::config(format!("--tls-ca {}: {e}", path.display())))?;
    Ok(Some(Arc::new(Clients(verifier))))
}
