//! TLS handshakes, good and bad.

use std::sync::{Arc, Mutex};

use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tracemq_plugin_api::net::{NetError, NetErrorKind, TlsOptions, explain_io};

use crate::support::{
    Pair, Pki, dialer, echo, fails, fixture, listen, round_trip, says, showing, soon, tls_echo,
};

async fn connect(options: &TlsOptions, host: &str, port: u16) -> Result<(), NetError> {
    let stream = soon(dialer(options, None).tls(host, port, &[])).await?;
    match soon(round_trip(stream)).await {
        Ok(()) => Ok(()),
        // TLS 1.3: the server's refusal of a client certificate arrives only now.
        Err(e) => Err(explain_io(&e).unwrap_or_else(|| panic!("not a TLS error: {e}"))),
    }
}

/// An echo server with one version of TLS, asking for client certificates of this CA when there is one.
async fn versioned(version: &'static SupportedProtocolVersion, pair: &Pair, client_ca: Option<&Pki>) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version]).unwrap();
    let builder = match client_ca {
        Some(pki) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(pki.ca()).unwrap()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
    let config = builder.with_single_cert(vec![CertificateDer::from(pair.der.clone())], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    listen(move |tcp| {
        let acceptor = acceptor.clone();
        async move { echo(acceptor.accept(tcp).await?).await }
    })
    .await
}

#[tokio::test]
async fn both_versions_work_and_alpn_is_agreed_on() {
    let pki = Pki::new();
    let pair = pki.issue("localhost", |_| {});
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let port = versioned(version, &pair, None).await;
        connect(&pki.trusting(), "localhost", port).await.unwrap();
    }
    let port = tls_echo(&showing(&pair), &[b"mqtt"]).await;
    let stream =
        soon(dialer(&pki.trusting(), None).tls("localhost", port, &[b"other", b"mqtt"])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"mqtt"[..]));
    let outcome = soon(dialer(&pki.trusting(), None).tls("localhost", port, &[b"other"])).await.map(drop);
    fails(outcome, &["application protocols"]);
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    let pki = Pki::new();
    let port = tls_echo(&showing(&pki.issue("localhost", |_| {})), &[]).await;
    let outcome = connect(&Pki::named("Other CA").trusting(), "localhost", port).await;
    fails(
        outcome,
        &[&format!("localhost:{port}"), "not signed by a trusted CA", "--tls-ca", "--insecure-skip-verify"],
    );
    // The same name, another key: an impostor.
    fails(connect(&Pki::new().trusting(), "localhost", port).await, &["certificate of", "--tls-ca"]);
    // The system's CAs don't know it either.
    fails(connect(&TlsOptions::default(), "localhost", port).await, &["--tls-ca"]);
}

#[tokio::test]
async fn dates_are_checked_and_told() {
    let pki = Pki::new();
    let old = pki.issue("localhost", |p| p.not_after = rcgen::date_time_ymd(2020, 2, 29));
    let port = tls_echo(&showing(&old), &[]).await;
    fails(connect(&pki.trusting(), "localhost", port).await, &["expired on 2020-02-29 00:00 UTC", "clock"]);
    let early = pki.issue("localhost", |p| p.not_before = rcgen::date_time_ymd(3999, 12, 31));
    let port = tls_echo(&showing(&early), &[]).await;
    fails(
        connect(&pki.trusting(), "localhost", port).await,
        &["not valid before 3999-12-31 00:00 UTC", "clock"],
    );
}

#[tokio::test]
async fn names_are_checked_and_can_be_overridden() {
    let pki = Pki::new();
    let port = tls_echo(&showing(&pki.issue("broker.example", |_| {})), &[]).await;
    fails(
        connect(&pki.trusting(), "localhost", port).await,
        &["is for broker.example, not for localhost", "--tls-server-name"],
    );
    fails(connect(&pki.trusting(), "127.0.0.1", port).await, &["is for broker.example, not for 127.0.0.1"]);
    let named = TlsOptions { tls_server_name: Some("broker.example".into()), ..pki.trusting() };
    connect(&named, "127.0.0.1", port).await.unwrap();
    let nameless = pki.issue("x", |p| p.subject_alt_names.clear());
    let port = tls_echo(&showing(&nameless), &[]).await;
    fails(connect(&pki.trusting(), "localhost", port).await, &["names no host"]);
}

#[tokio::test]
async fn the_server_is_asked_for_the_name_given() {
    let asked = Arc::new(Mutex::new(None));
    let pki = Pki::new();
    let acceptor =
        tracemq_plugin_api::net::tls_acceptor(&showing(&pki.issue("a.example", |_| {})), &[]).unwrap();
    let seen = asked.clone();
    let port = listen(move |tcp| {
        let (acceptor, seen) = (acceptor.clone(), seen.clone());
        async move {
            let tls = acceptor.accept(tcp).await?;
            *seen.lock().unwrap() = tls.get_ref().1.server_name().map(String::from);
            echo(tls).await
        }
    })
    .await;
    let named = TlsOptions { tls_server_name: Some("a.example".into()), ..pki.trusting() };
    connect(&named, "localhost", port).await.unwrap();
    assert_eq!(asked.lock().unwrap().as_deref(), Some("a.example"));
}

#[tokio::test]
async fn a_self_signed_certificate_can_be_trusted_itself() {
    // What `openssl req -x509` makes: marked as a CA, and shown by the server all the same.
    let pair = |cert: &str, key: &str| tracemq_plugin_api::net::ServerTlsOptions {
        tls_cert: Some(fixture(cert)),
        tls_key: Some(fixture(key)),
        ..Default::default()
    };
    let port = tls_echo(&pair("ec.crt", "ec-sec1.pem"), &[]).await;
    let trusting = |file: &str| TlsOptions { tls_ca: Some(fixture(file)), ..Default::default() };
    connect(&trusting("ec.crt"), "localhost", port).await.unwrap();
    fails(connect(&trusting("ec.crt"), "127.0.0.1", port).await, &["is for localhost, not for 127.0.0.1"]);
    fails(connect(&trusting("rsa.crt"), "localhost", port).await, &["self-signed", "--tls-ca"]);
}

#[tokio::test]
async fn skipping_the_check_accepts_anyone_and_warns() {
    let pki = Pki::new();
    let old = pki.issue("other.example", |p| p.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let options = TlsOptions { insecure_skip_verify: true, ..Default::default() };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let port = versioned(version, &old, None).await;
        connect(&options, "localhost", port).await.unwrap();
    }
    let warnings = dialer(&options, None).warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("--insecure-skip-verify"), "{warnings:?}");
    assert!(dialer(&pki.trusting(), None).warnings().is_empty());
}

#[tokio::test]
async fn a_plain_port_is_found_out() {
    // One that answers in its own protocol, one that hangs up, one that waits for more.
    let port = listen(|mut tcp| async move {
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
        tcp.read(&mut [0; 1024]).await.map(drop)
    })
    .await;
    let outcome =
        connect(&TlsOptions { insecure_skip_verify: true, ..Default::default() }, "localhost", port).await;
    fails(outcome, &[&format!("does not speak TLS on port {port}"), "scheme"]);

    let port = listen(|mut tcp| async move { tcp.read(&mut [0; 1024]).await.map(drop) }).await;
    let options = TlsOptions { insecure_skip_verify: true, ..Default::default() };
    let error = connect(&options, "localhost", port).await.unwrap_err();
    assert_eq!(error.kind, NetErrorKind::Tls);
    assert!(!error.permanent, "it may have been a restart");
    says(&error, &["ended the TLS handshake", &format!("does not speak TLS on port {port}")]);

    let port = listen(|mut tcp| async move { tcp.read_to_end(&mut Vec::new()).await.map(drop) }).await;
    let error = soon(hasty_insecure().tls("127.0.0.1", port, &[])).await.unwrap_err();
    assert_eq!(error.kind, NetErrorKind::Timeout);
    says(
        &error,
        &["did not finish the TLS handshake within 300ms", &format!("does not speak TLS on port {port}")],
    );
}

fn hasty_insecure() -> tracemq_plugin_api::net::Dialer {
    let options = TlsOptions { insecure_skip_verify: true, ..Default::default() };
    let time = std::time::Duration::from_millis(300);
    tracemq_plugin_api::net::Dialer::new(&options, &Default::default(), time).unwrap()
}

#[tokio::test]
async fn garbage_from_the_server_is_an_error_and_no_more() {
    for garbage in [&[0u8; 64][..], &[0xff; 64], &[0x16, 3, 3, 0xff, 0xff, 0], &[0x15, 3, 3, 0, 2, 2, 99]] {
        let port = listen(move |mut tcp| async move { tcp.write_all(garbage).await }).await;
        let error =
            connect(&TlsOptions { insecure_skip_verify: true, ..Default::default() }, "localhost", port)
                .await
                .expect_err("garbage taken for TLS");
        assert_eq!(error.kind, NetErrorKind::Tls, "{error}");
    }
}

#[tokio::test]
async fn client_certificates_are_shown_and_missing_ones_told() {
    let (pki, other) = (Pki::new(), Pki::named("Other CA"));
    let server = pki.issue("localhost", |_| {});
    let client =
        |pair: Pair| TlsOptions { tls_cert: Some(pair.cert), tls_key: Some(pair.key), ..pki.trusting() };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let port = versioned(version, &server, Some(&pki)).await;
        connect(&client(pki.issue("client", |_| {})), "localhost", port).await.unwrap();
        fails(
            connect(&pki.trusting(), "localhost", port).await,
            &["requires a client certificate", "--tls-cert"],
        );
        fails(
            connect(&client(other.issue("client", |_| {})), "localhost", port).await,
            &["client certificate", "CA", "--tls-cert"],
        );
        let old = pki.issue("old", |p| p.not_after = rcgen::date_time_ymd(2020, 1, 1));
        fails(connect(&client(old), "localhost", port).await, &["client certificate has expired"]);
    }
    // The same by our own acceptor.
    let options = tracemq_plugin_api::net::ServerTlsOptions { tls_ca: Some(pki.ca()), ..showing(&server) };
    let port = tls_echo(&options, &[]).await;
    connect(&client(pki.issue("client", |_| {})), "localhost", port).await.unwrap();
    fails(connect(&pki.trusting(), "localhost", port).await, &["requires a client certificate"]);
}

#[tokio::test]
async fn chains_are_sent_whole_from_pem_and_from_pkcs12() {
    let pki = Pki::new();
    let (server, _) = pki.issue_by_lower_ca("localhost");
    let port = tls_echo(
        &tracemq_plugin_api::net::ServerTlsOptions { tls_ca: Some(pki.ca()), ..showing(&server) },
        &[],
    )
    .await;
    let (client, lower) = pki.issue_by_lower_ca("client");
    let pem = TlsOptions { tls_cert: Some(client.cert), tls_key: Some(client.key), ..pki.trusting() };
    connect(&pem, "localhost", port).await.unwrap();

    let chain = [&client.der, &lower].map(|der| Certificate::from_der(der).unwrap());
    let key = PrivateKey::from_der(&client.key_der).unwrap();
    let mut store = KeyStore::new();
    store.add_entry("client", KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new("id", key, chain)));
    let file = pki.dir.path().join("client.p12");
    std::fs::write(&file, store.writer("tomato").write().unwrap()).unwrap();
    let p12 =
        TlsOptions { tls_pkcs12: Some(file), tls_key_password: Some("tomato".into()), ..pki.trusting() };
    connect(&p12, "localhost", port).await.unwrap();
}

#[tokio::test]
async fn tls_can_start_on_a_connection_that_began_without() {
    let pki = Pki::new();
    let acceptor =
        tracemq_plugin_api::net::tls_acceptor(&showing(&pki.issue("localhost", |_| {})), &[]).unwrap();
    let port = listen(move |mut tcp| {
        let acceptor = acceptor.clone();
        async move {
            tcp.write_all(b"INFO\r\n").await?;
            echo(acceptor.accept(tcp).await?).await
        }
    })
    .await;
    let dialer = dialer(&pki.trusting(), None);
    let mut tcp = soon(dialer.tcp("localhost", port)).await.unwrap();
    let mut info = [0; 6];
    soon(tcp.read_exact(&mut info)).await.unwrap();
    let tls = soon(dialer.start_tls(tcp, "localhost", port, &[])).await.unwrap();
    soon(round_trip(tls)).await.unwrap();
}
