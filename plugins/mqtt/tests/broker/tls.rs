//! TLS with and without client certificates, with keys made for each run.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tracemq_mqtt::serve::{Broker, BrokerOptions};
use tracemq_plugin_api::net::ServerTlsOptions;

use super::house::House;

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    name: &'static str,
}

impl Authority {
    fn new(folder: &Path, name: &'static str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
        let authority = Self { issuer, folder: folder.to_owned(), name };
        fs::write(authority.ca(), authority.issuer.pem()).expect("written");
        authority
    }

    fn ca(&self) -> PathBuf {
        self.folder.join(format!("{}.pem", self.name))
    }

    /// A certificate and its key, for a server or client at 127.0.0.1.
    fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let params = CertificateParams::new(names).expect("parameters");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let (cert, private) =
            (self.folder.join(format!("{name}.crt")), self.folder.join(format!("{name}.key")));
        fs::write(&cert, certificate.pem()).expect("written");
        fs::write(&private, key.serialize_pem()).expect("written");
        (cert, private)
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn a_server_certificate_is_shown_and_its_ca_decides() {
    let folder = TempDir::new().expect("a folder");
    let (ours, others) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "others"));
    let (cert, key) = ours.issue("server");
    let tls = ServerTlsOptions { tls_cert: Some(cert), tls_key: Some(key), ..ServerTlsOptions::default() };
    let house = House::start(BrokerOptions { tls, ..BrokerOptions::default() });
    assert!(house.broker.addresses()[0].starts_with("mqtts://127.0.0.1:"), "{:?}", house.broker.addresses());
    for version in super::house::VERSIONS {
        let subscriber =
            house.subscribe(&["-V", version, "--cafile", path(&ours.ca()), "-t", "t", "-F", "%p"]);
        let big = "x".repeat(100_000);
        let sent =
            house.publish(&["-V", version, "--cafile", path(&ours.ca()), "-t", "t", "-q", "2", "-m", &big]);
        assert!(sent.status.success(), "{sent:?}");
        assert_eq!(subscriber.line(), big);
    }
    let refused = house.publish(&["--cafile", path(&others.ca()), "-t", "t", "-m", "x"]);
    assert!(!refused.status.success(), "a foreign CA");
    let refused = house.publish(&["-t", "t", "-m", "x"]);
    assert!(!refused.status.success(), "plain MQTT to a TLS port");
}

#[test]
fn with_a_client_ca_only_its_certificates_come_in() {
    let folder = TempDir::new().expect("a folder");
    let (ours, others) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "others"));
    let (cert, key) = ours.issue("server");
    let tls = ServerTlsOptions {
        tls_cert: Some(cert),
        tls_key: Some(key),
        tls_ca: Some(ours.ca()),
        ..ServerTlsOptions::default()
    };
    let house = House::start(BrokerOptions { tls, ..BrokerOptions::default() });
    let publish = |identity: Option<&(PathBuf, PathBuf)>| {
        let ca = ours.ca();
        let mut arguments = vec!["--cafile", path(&ca), "-q", "1", "-t", "t", "-m", "x"];
        if let Some((cert, key)) = identity {
            arguments.extend_from_slice(&["--cert", path(cert), "--key", path(key)]);
        }
        house.publish(&arguments)
    };
    assert!(publish(Some(&ours.issue("client"))).status.success());
    assert!(!publish(None).status.success(), "no certificate");
    assert!(house.refusal("connection").starts_with("TLS:"));
    assert!(!publish(Some(&others.issue("stranger"))).status.success(), "another CA's certificate");
    assert!(house.refusal("connection").starts_with("TLS:"));
    assert_eq!(house.message().payload, "x");
}

#[test]
fn unusable_files_are_named() {
    let folder = TempDir::new().expect("a folder");
    let missing = folder.path().join("missing.pem");
    let tls = ServerTlsOptions { tls_cert: Some(missing), ..ServerTlsOptions::default() };
    let options = BrokerOptions { bind: Some("127.0.0.1:0".to_owned()), tls, ..BrokerOptions::default() };
    let error = Broker::start(options).expect_err("no such file").to_string();
    assert!(error.contains("missing.pem"), "{error}");
}
