//! Certificates made for a test, and the servers that the tests dial.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tracemq_plugin_api::net::{
    Dialer, NetError, NetErrorKind, ProxyOptions, ServerTlsOptions, TlsOptions, tls_acceptor,
};

/// Far longer than anything here takes, short enough for a hanging test to be seen as one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test's work with a bound on its time.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("the test hangs")
}

/// A file of this folder, made by `make.sh`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/net").join(name)
}

/// A CA and the folder that its files are in.
pub(crate) struct Pki {
    pub(crate) dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) der: Vec<u8>,
    pub(crate) key_der: Vec<u8>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        Self::named("Test CA")
    }

    pub(crate) fn named(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let params = ca_params(name);
        std::fs::write(dir.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub(crate) fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        self.write(name, &cert, &key)
    }

    /// A certificate below a CA below this one: the file of the certificate holds the lower CA's as well.
    pub(crate) fn issue_by_lower_ca(&self, name: &str) -> (Pair, Vec<u8>) {
        let lower_key = KeyPair::generate().unwrap();
        let lower_params = ca_params("Lower CA");
        let lower = lower_params.signed_by(&lower_key, &self.issuer).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let cert = params.signed_by(&key, &Issuer::new(lower_params, lower_key)).unwrap();
        let pair = self.write(name, &cert, &key);
        std::fs::write(&pair.cert, cert.pem() + &lower.pem()).unwrap();
        (pair, lower.der().to_vec())
    }

    fn write(&self, name: &str, cert: &rcgen::Certificate, key: &KeyPair) -> Pair {
        let pair = Pair {
            cert: self.dir.path().join(format!("{name}.crt")),
            key: self.dir.path().join(format!("{name}.key")),
            der: cert.der().to_vec(),
            key_der: key.serialize_der(),
        };
        std::fs::write(&pair.cert, cert.pem()).unwrap();
        std::fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }

    /// Client options that trust this CA.
    pub(crate) fn trusting(&self) -> TlsOptions {
        TlsOptions { tls_ca: Some(self.ca()), ..Default::default() }
    }
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Server options that show this certificate.
pub(crate) fn showing(pair: &Pair) -> ServerTlsOptions {
    ServerTlsOptions {
        tls_cert: Some(pair.cert.clone()),
        tls_key: Some(pair.key.clone()),
        ..Default::default()
    }
}

/// Runs `serve` for each connection to a port of its own, until the test's runtime ends.
pub(crate) async fn listen<F, W>(serve: F) -> u16
where
    F: Fn(TcpStream) -> W + Send + 'static,
    W: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A connection that a client breaks off is no failure of the server.
            drop(tokio::spawn(serve(stream)));
        }
    });
    port
}

/// An echo server behind TLS.
pub(crate) async fn tls_echo(options: &ServerTlsOptions, alpn: &[&[u8]]) -> u16 {
    let acceptor = tls_acceptor(options, alpn).unwrap();
    listen(move |tcp| {
        let acceptor = acceptor.clone();
        async move { echo(acceptor.accept(tcp).await?).await }
    })
    .await
}

/// Sends back what comes, to the end.
pub(crate) async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let (mut read, mut write) = tokio::io::split(stream);
    tokio::io::copy(&mut read, &mut write).await?;
    write.shutdown().await
}

/// Reads an HTTP request without a body.
pub(crate) async fn http_head(tcp: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await?);
    }
    Ok(String::from_utf8(head).unwrap())
}

/// A port where nothing listens.
pub(crate) async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

pub(crate) fn dialer(tls: &TlsOptions, proxy: Option<String>) -> Dialer {
    Dialer::new(tls, &ProxyOptions { proxy }, PATIENCE).unwrap()
}

/// A dialer that gives up soon.
pub(crate) fn hasty(proxy: Option<String>) -> Dialer {
    Dialer::new(&TlsOptions::default(), &ProxyOptions { proxy }, Duration::from_millis(300)).unwrap()
}

/// Sends a text through an echo server and back.
pub(crate) async fn round_trip(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut back = [0; 5];
    stream.write_all(b"hello").await?;
    stream.flush().await?;
    stream.read_exact(&mut back).await?;
    assert_eq!(&back, b"hello");
    Ok(())
}

/// Checks that the message, or the hint, has each of these in it.
#[track_caller]
pub(crate) fn says(error: &NetError, parts: &[&str]) {
    let text = format!("{} | {}", error.message, error.hint.as_deref().unwrap_or(""));
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

/// A handshake that fails for good.
#[track_caller]
pub(crate) fn fails(outcome: Result<(), NetError>, parts: &[&str]) {
    let error = outcome.expect_err("a bad connection was accepted");
    assert_eq!(error.kind, NetErrorKind::Tls, "{error}");
    assert!(error.permanent, "{error}");
    says(&error, parts);
}
