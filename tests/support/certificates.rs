//! Certificates made for one test: an authority, what it signed, and what it did not.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Identity {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// One authority and the identities a test of TLS wants.
#[derive(Debug)]
pub struct Certificates {
    folder: TempDir,
    pub ca: PathBuf,
    /// An authority that signed none of these.
    pub other_ca: PathBuf,
    /// For `localhost`, `127.0.0.1` and `::1`.
    pub server: Identity,
    /// Likewise, but no longer valid since 2021.
    pub expired: Identity,
    /// For `elsewhere.example`.
    pub misnamed: Identity,
    /// Its subject's common name is `test-client`.
    pub client: Identity,
    /// A client that the other authority signed.
    pub stranger: Identity,
}

impl Certificates {
    #[allow(clippy::new_without_default, reason = "it makes files")]
    pub fn new() -> Certificates {
        let folder = tempfile::Builder::new().prefix("tracemq-tls-").tempdir().expect("a temporary folder");
        let path = folder.path().to_owned();
        let ca = authority("Test authority");
        let other = authority("Another authority");
        let local = || named(&["localhost", "127.0.0.1", "::1"], "localhost");
        let mut outdated = local();
        outdated.not_before = date_time_ymd(2020, 1, 1);
        outdated.not_after = date_time_ymd(2021, 1, 1);
        Certificates {
            ca: write(&path, "ca.pem", &ca.pem()),
            other_ca: write(&path, "other-ca.pem", &other.pem()),
            server: sign(&path, "server", local(), &ca),
            expired: sign(&path, "expired", outdated, &ca),
            misnamed: sign(&path, "misnamed", named(&["elsewhere.example"], "elsewhere.example"), &ca),
            client: sign(&path, "client", named(&[], "test-client"), &ca),
            stranger: sign(&path, "stranger", named(&[], "stranger"), &other),
            folder,
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = named(&[], name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
}

fn named(alternatives: &[&str], common: &str) -> CertificateParams {
    let alternatives: Vec<String> = alternatives.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(alternatives).expect("names that may stand in a certificate");
    params.distinguished_name.push(DnType::CommonName, common);
    params
}

fn sign(
    folder: &Path,
    name: &str,
    params: CertificateParams,
    issuer: &CertifiedIssuer<'static, KeyPair>,
) -> Identity {
    let key = KeyPair::generate().expect("a key");
    let cert = params.signed_by(&key, issuer).expect("a certificate");
    Identity {
        cert: write(folder, &format!("{name}.pem"), &cert.pem()),
        key: write(folder, &format!("{name}.key"), &key.serialize_pem()),
    }
}

fn write(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).expect("a file in a temporary folder");
    path
}
