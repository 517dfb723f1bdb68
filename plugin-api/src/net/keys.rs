//! Certificates and private keys from files.
//!
//! A file is read whole, up to a bound, and every complaint names the option and the path. What is accepted: PEM for
//! everything (PKCS#8, PKCS#1, SEC1), DER for certificates, PKCS#12 with PBES1 or PBES2. Encrypted keys: PKCS#8 with PBES1
//! or PBES2, and the old OpenSSL way ([`legacy`](super::legacy)).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};

use super::certificate::Fields;
use super::error::NetError;
use super::pkcs12::Pkcs12;
use super::sealed::{self, Closed};
use super::{calendar, legacy};

/// The largest file read. A bundle of all public CAs has about 250 KiB.
const LARGEST_FILE: u64 = 4 << 20;

/// Certificate chain and key, checked to belong together.
pub(super) struct Identity {
    /// For rustls.
    pub(super) certified: Arc<CertifiedKey>,
    /// As it stood in its file, for what isn't rustls.
    pub(super) key: PrivateKeyDer<'static>,
}

/// A file that an option names, with the words for complaints about it.
struct Named<'a> {
    flag: &'static str,
    path: &'a Path,
    bytes: Vec<u8>,
}

impl<'a> Named<'a> {
    fn read(flag: &'static str, path: &'a Path) -> Result<Self, NetError> {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes));
        let named = Self { flag, path, bytes };
        match read {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(named.wrong("no such file")),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                Err(named.wrong("may not be read (permissions)"))
            }
            Err(e) => Err(named.wrong(&format!("cannot be read: {e}")).source(e)),
            Ok(_) if named.bytes.len() as u64 > LARGEST_FILE => {
                Err(named.wrong("larger than 4 MiB, which no file of this kind is"))
            }
            Ok(_) => Ok(named),
        }
    }

    fn wrong(&self, what: &str) -> NetError {
        NetError::config(format!("{} {}: {what}", self.flag, self.path.display()))
    }

    fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, NetError> {
        // DER: an ASN.1 SEQUENCE with a two-byte length. Its content is checked by whoever uses it.
        if self.bytes.starts_with(&[0x30, 0x82]) {
            return Ok(vec![CertificateDer::from(self.bytes.clone())]);
        }
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        match found {
            Err(e) => Err(self.damaged(&e)),
            Ok(certificates) if certificates.is_empty() => Err(self.wrong("no certificate in it")),
            Ok(certificates) => Ok(certificates),
        }
    }

    /// An old certificate may still do: the clock here may be wrong. But what the other side says of it may be little.
    fn warn_if_expired(&self, chain: &[CertificateDer<'_>]) {
        let end = chain.first().and_then(|leaf| Fields::read(leaf)?.not_after());
        if let Some(end) = end.filter(|end| *end < UnixTime::now().as_secs()) {
            let end = calendar::date(UnixTime::since_unix_epoch(Duration::from_secs(end)));
            log::warn!("{}", self.wrong(&format!("the certificate expired on {end}")));
        }
    }

    fn key(&self, password: Option<&str>) -> Result<PrivateKeyDer<'static>, NetError> {
        let text = self.text();
        if let Some(der) = section(&text, "ENCRYPTED PRIVATE KEY") {
            let der = der.ok_or_else(|| self.wrong("damaged PEM in its encrypted key"))?;
            return self.decrypt(&der, password);
        }
        if let Some(sealed) = legacy::find(&text) {
            return self.opened(sealed.open(self.wanted(password)?));
        }
        match PrivateKeyDer::from_pem_slice(&self.bytes) {
            Ok(key) => Ok(key),
            Err(pem::Error::NoItemsFound) => Err(self.wrong("no private key in it")),
            Err(e) => Err(self.damaged(&e)),
        }
    }

    /// Not with the error's own words, which show markers as lists of bytes.
    fn damaged(&self, error: &pem::Error) -> NetError {
        self.wrong(match error {
            pem::Error::MissingSectionEnd { .. } => "damaged PEM: an END line is missing or does not match",
            pem::Error::IllegalSectionStart { .. } => "damaged PEM: a BEGIN line is not complete",
            _ => "damaged PEM: what stands between BEGIN and END is not base64",
        })
    }

    fn decrypt(&self, der: &[u8], password: Option<&str>) -> Result<PrivateKeyDer<'static>, NetError> {
        let open = sealed::open_key(der, self.wanted(password)?);
        self.opened(open.map(|open| PrivatePkcs8KeyDer::from(open).into()))
    }

    /// The pass phrase, where there has to be one.
    fn wanted<'p>(&self, password: Option<&'p str>) -> Result<&'p str, NetError> {
        password.ok_or_else(|| {
            self.wrong("the key is encrypted and there is no pass phrase")
                .hint("give it with --tls-key-password")
        })
    }

    fn opened(
        &self,
        key: Result<PrivateKeyDer<'static>, Closed>,
    ) -> Result<PrivateKeyDer<'static>, NetError> {
        key.map_err(|closed| match closed {
            Closed::WrongPassword => self.wrong_password(),
            Closed::Unreadable(why) => self.wrong(&format!("the key cannot be read: {why}")),
        })
    }

    fn wrong_password(&self) -> NetError {
        self.wrong("the pass phrase does not open the key").hint("check --tls-key-password")
    }
}

/// The bytes of the first PEM section of this kind: `None` when there is none, `Some(None)` when it is damaged.
fn section(text: &str, kind: &str) -> Option<Option<Vec<u8>>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {kind}-----"))?;
    let body = rest.split_once(&format!("-----END {kind}-----")).map(|(body, _)| body);
    Some(body.and_then(|body| {
        let base64: String = body.split_whitespace().collect();
        STANDARD.decode(base64).ok()
    }))
}

/// The certificates of a file of CAs.
pub(super) fn load_cas(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, NetError> {
    Named::read(flag, path)?.certificates()
}

/// What the options name: a PKCS#12 file, or PEM files, or nothing.
pub(super) fn load(
    provider: &CryptoProvider,
    pkcs12: Option<&Path>,
    certificate: Option<&Path>,
    key: Option<&Path>,
    password: Option<&str>,
) -> Result<Option<Identity>, NetError> {
    match (pkcs12, certificate, key) {
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => Err(NetError::config(
            "--tls-pkcs12 holds certificate and key: it excludes --tls-cert and --tls-key",
        )),
        (Some(path), None, None) => load_pkcs12(provider, path, password).map(Some),
        (None, Some(certificate), key) => load_pem(provider, certificate, key, password).map(Some),
        (None, None, Some(_)) => Err(NetError::config(
            "--tls-key is given without --tls-cert: a key is of no use without its certificate",
        )),
        (None, None, None) => Ok(None),
    }
}

/// Certificate chain and key from PEM files, checked to belong together. Without `key` it is looked for beside the
/// certificate.
fn load_pem(
    provider: &CryptoProvider,
    certificate: &Path,
    key: Option<&Path>,
    password: Option<&str>,
) -> Result<Identity, NetError> {
    let certificate = Named::read("--tls-cert", certificate)?;
    let chain = certificate.certificates()?;
    certificate.warn_if_expired(&chain);
    let (key, file) = match key {
        Some(path) => {
            let file = Named::read("--tls-key", path)?;
            (file.key(password)?, file)
        }
        None if certificate.text().contains("PRIVATE KEY-----") => (certificate.key(password)?, certificate),
        None => {
            return Err(certificate
                .wrong("there is no private key for this certificate")
                .hint("give the key's file with --tls-key"));
        }
    };
    pair(provider, chain, key, &file)
}

/// Certificate chain and key from a PKCS#12 file.
fn load_pkcs12(provider: &CryptoProvider, path: &Path, password: Option<&str>) -> Result<Identity, NetError> {
    let file = Named::read("--tls-pkcs12", path)?;
    let archive = Pkcs12::open(&file.bytes, password.unwrap_or("")).map_err(|e| match (e, password) {
        (Closed::WrongPassword, None) => file
            .wrong("the file is encrypted and there is no pass phrase")
            .hint("give it with --tls-key-password"),
        (Closed::WrongPassword, Some(_)) => file.wrong_password(),
        (Closed::Unreadable(why), _) => file.wrong(&format!("not a PKCS#12 file that can be read: {why}")),
    })?;
    let key = archive.key().ok_or_else(|| file.wrong("no private key in it"))?;
    let chain: Vec<_> = archive.chain().into_iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    if chain.is_empty() {
        return Err(file.wrong("no certificate in it"));
    }
    file.warn_if_expired(&chain);
    pair(provider, chain, PrivatePkcs8KeyDer::from(key.to_vec()).into(), &file)
}

/// Puts chain and key together. `file` is the one the key came from.
fn pair(
    provider: &CryptoProvider,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    file: &Named<'_>,
) -> Result<Identity, NetError> {
    let certified = CertifiedKey::from_der(chain, key.clone_key(), provider).map_err(|e| match e {
        TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => file
            .wrong("the private key does not belong to the certificate")
            .hint("check --tls-cert and --tls-key"),
        TlsError::InvalidCertificate(e) => file.wrong(&format!("the certificate cannot be used: {e}")),
        e => file
            .wrong(&format!("the private key cannot be used: {e}"))
            .hint("keys may be RSA (2048 bits up), ECDSA P-256, P-384 or Ed25519"),
    })?;
    Ok(Identity { certified: Arc::new(certified), key })
}
