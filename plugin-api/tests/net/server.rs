//! A server's TLS: versions, application protocols and client certificates, and what is said of clients that don't come in.

use rcgen::ExtendedKeyUsagePurpose;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tracemq_plugin_api::net::{
    ClientAuth, NetError, ServerTlsOptions, TlsOptions, TlsVersion, explain_client, explain_io, tls_acceptor,
};

use crate::support::{Pair, Pki, dialer, echo, fails, listen, round_trip, showing, soon};

/// An echo server, and why clients did not come in.
async fn telling(options: &ServerTlsOptions, alpn: &[&[u8]]) -> (u16, UnboundedReceiver<String>) {
    let acceptor = tls_acceptor(options, alpn).unwrap();
    let (tell, told) = unbounded_channel();
    let port = listen(move |tcp| {
        let (acceptor, tell) = (acceptor.clone(), tell.clone());
        async move {
            match acceptor.accept(tcp).await {
                Ok(stream) => echo(stream).await,
                Err(error) => {
                    tell.send(explain_client(&error)).unwrap();
                    Err(error)
                }
            }
        }
    })
    .await;
    (port, told)
}

async fn connect(options: &TlsOptions, port: u16) -> Result<(), NetError> {
    let stream = soon(dialer(options, None).tls("localhost", port, &[b"own"])).await?;
    soon(round_trip(stream))
        .await
        .map_err(|e| explain_io(&e).unwrap_or_else(|| panic!("not a TLS error: {e}")))
}

async fn hears(told: &mut UnboundedReceiver<String>, parts: &[&str]) {
    let text = soon(told.recv()).await.unwrap();
    assert!(text.starts_with("TLS: "), "{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

fn showing_to(pki: &Pki, pair: Pair) -> TlsOptions {
    TlsOptions { tls_cert: Some(pair.cert), tls_key: Some(pair.key), ..pki.trusting() }
}

#[tokio::test]
async fn the_oldest_version_is_kept_to_by_both_sides() {
    let pki = Pki::new();
    let pair = pki.issue("localhost", |_| {});
    let newest = Some(TlsVersion::V1_3);
    let only_new = ServerTlsOptions { tls_min_version: newest, ..showing(&pair) };
    let (port, _) = telling(&only_new, &[]).await;
    let client = TlsOptions { tls_min_version: newest, ..pki.trusting() };
    connect(&client, port).await.unwrap();
    connect(&pki.trusting(), port).await.unwrap();
    let stream = soon(dialer(&client, None).tls("localhost", port, &[])).await.unwrap();
    assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
}

#[tokio::test]
async fn the_options_say_which_application_protocols_are_spoken() {
    let pki = Pki::new();
    let pair = pki.issue("localhost", |_| {});
    let alpn = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let server = ServerTlsOptions { tls_alpn: alpn(&["x", "y"]), ..showing(&pair) };
    let (port, mut told) = telling(&server, &[b"own"]).await;
    let client = TlsOptions { tls_alpn: alpn(&["y", "z"]), ..pki.trusting() };
    let stream = soon(dialer(&client, None).tls("localhost", port, &[b"own"])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"y"[..]));
    fails(connect(&pki.trusting(), port).await, &["application protocols", "--tls-alpn"]);
    hears(&mut told, &["application protocols", "--tls-alpn"]).await;
    let none = TlsOptions { tls_alpn: alpn(&[""]), ..pki.trusting() };
    let stream = soon(dialer(&none, None).tls("localhost", port, &[b"own"])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), None);
}

#[tokio::test]
async fn client_certificates_are_demanded_or_welcome() {
    let (pki, other) = (Pki::new(), Pki::named("Other CA"));
    let pair = pki.issue("localhost", |_| {});
    let demands = ServerTlsOptions { tls_ca: Some(pki.ca()), ..showing(&pair) };
    let welcomes = ServerTlsOptions { tls_client_auth: Some(ClientAuth::Optional), ..demands.clone() };
    let (port, mut told) = telling(&demands, &[]).await;
    connect(&showing_to(&pki, pki.issue("client", |_| {})), port).await.unwrap();
    fails(connect(&pki.trusting(), port).await, &["requires a client certificate"]);
    hears(&mut told, &["showed no certificate", "--tls-client-auth optional"]).await;

    let (port, mut told) = telling(&welcomes, &[]).await;
    connect(&pki.trusting(), port).await.unwrap();
    connect(&showing_to(&pki, pki.issue("client", |_| {})), port).await.unwrap();
    fails(connect(&showing_to(&pki, other.issue("client", |_| {})), port).await, &["client certificate"]);
    hears(&mut told, &["the client's certificate is signed by \"Other CA\"", "--tls-ca"]).await;
    let old = pki.issue("old", |p| p.not_after = rcgen::date_time_ymd(2020, 1, 1));
    fails(connect(&showing_to(&pki, old), port).await, &["client certificate has expired"]);
    hears(&mut told, &["expired on 2020-01-01 00:00 UTC"]).await;
    let server = pki.issue("server", |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    fails(connect(&showing_to(&pki, server), port).await, &["client certificate"]);
    hears(&mut told, &["not meant for clients"]).await;
}

#[tokio::test]
async fn who_signed_and_what_for_is_told_to_the_client() {
    let pki = Pki::named("Company CA");
    let (port, mut told) = telling(&showing(&pki.issue("localhost", |_| {})), &[]).await;
    fails(
        connect(&Pki::named("Other CA").trusting(), port).await,
        &["is not signed by a trusted CA, but by \"Company CA\"", "--tls-ca"],
    );
    hears(&mut told, &["does not know the CA that signed this server's certificate"]).await;

    let (lower, _) = pki.issue_by_lower_ca("localhost");
    let (port, _) = telling(&showing(&lower), &[]).await;
    fails(connect(&Pki::named("Other CA").trusting(), port).await, &["but by \"Company CA\""]);

    let client =
        pki.issue("localhost", |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let (port, _) = telling(&showing(&client), &[]).await;
    fails(connect(&pki.trusting(), port).await, &["not meant for servers"]);
}

#[tokio::test]
async fn what_is_no_tls_is_told_as_such() {
    use tokio::io::AsyncWriteExt;
    let pki = Pki::new();
    let (port, mut told) = telling(&showing(&pki.issue("localhost", |_| {})), &[]).await;
    let mut tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    hears(&mut told, &["does not speak TLS"]).await;
    drop(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    hears(&mut told, &["broke the handshake off"]).await;
}
