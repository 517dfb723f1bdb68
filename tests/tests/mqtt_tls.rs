//! TLS, WebSocket and proxies: what gets through, and how it is told when it does not.

use std::net::TcpListener;
use tracemq_tests::{
    Certificates, Done, FaultyServer, Identity, Listener, Mosquitto, Relay, RelayKind, Tracemq,
};

/// Publishes one message with these flags.
fn publish(tracemq: &Tracemq, url: &str, flags: &[&str]) -> Done {
    tracemq.publish(url).args(["t", "x", "--qos", "1", "--connect-timeout", "10s"]).args(flags).finish()
}

fn file(path: &std::path::Path) -> &str {
    path.to_str().expect("a temporary folder's name is UTF-8")
}

fn all_listeners(certificates: &Certificates) -> Mosquitto {
    let mut builder = Mosquitto::builder().certificates(certificates);
    for listener in
        [Listener::Plain, Listener::Tls, Listener::MutualTls, Listener::WebSocket, Listener::SecureWebSocket]
    {
        builder = builder.listener(listener);
    }
    builder.start()
}

/// A broker that shows this certificate, and the URL of its TLS listener.
fn showing(certificates: &Certificates, server: &Identity) -> (Mosquitto, String) {
    let broker = Mosquitto::builder().listener(Listener::Tls).identity(certificates, server.clone()).start();
    let url = format!("mqtts://localhost:{}", broker.port());
    (broker, url)
}

#[test]
fn every_transport_carries_every_version() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let broker = all_listeners(&certificates);
    let payload = "x".repeat(20_000);
    for (scheme, listener) in [
        ("mqtt", Listener::Plain),
        ("mqtts", Listener::Tls),
        ("mqtt+ws", Listener::WebSocket),
        ("mqtt+wss", Listener::SecureWebSocket),
    ] {
        for version in tracemq_tests::VERSIONS {
            let url = format!("{scheme}://localhost:{}", broker.port_of(listener));
            let client = format!("{}-{}", scheme.replace('+', "-"), version.logged);
            let mut flags = vec!["--protocol-version", version.name, "--qos", "2"];
            if matches!(listener, Listener::Tls | Listener::SecureWebSocket) {
                flags.extend(["--tls-ca", file(&certificates.ca)]);
            }
            let topic = format!("t/{client}");
            let sub = tracemq.sub(&url, &client).args([&topic, "-C", "2", "--format", "raw"]).args(&flags);
            let sub = broker.subscribed(sub, &client);
            for payload in ["small", &payload] {
                tracemq.publish(&url).arg(&topic).arg(payload).args(&flags).finish().expect(0);
            }
            assert_eq!(sub.wait().expect(0).lines(), ["small", &payload], "{url} {version:?}");
            let connected = broker.wait_log(&format!(" as {client} ("));
            assert!(connected.contains(&format!("({},", version.logged)), "{connected}");
        }
    }
}

#[test]
fn a_client_certificate_opens_what_wants_one() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let broker = all_listeners(&certificates);
    let url = format!("mqtts://localhost:{}", broker.port_of(Listener::MutualTls));
    let ca = ["--tls-ca", file(&certificates.ca)];
    let with = |identity: &Identity| {
        let flags =
            [&ca[..], &["--tls-cert", file(&identity.cert), "--tls-key", file(&identity.key)]].concat();
        publish(&tracemq, &url, &flags)
    };
    with(&certificates.client).expect(0);
    with(&certificates.stranger).expect_failure(3, &["localhost", "certificate"]);
    publish(&tracemq, &url, &ca).expect_failure(3, &["localhost", "certificate"]);

    let missing =
        [&ca[..], &["--tls-cert", "/nonexistent/client.pem", "--tls-key", "/nonexistent/client.key"]]
            .concat();
    publish(&tracemq, &url, &missing).expect_failure(2, &["/nonexistent/client.pem"]);
    let swapped = [
        &ca[..],
        &["--tls-cert", file(&certificates.client.cert), "--tls-key", file(&certificates.server.key)],
    ];
    publish(&tracemq, &url, &swapped.concat()).expect_failure(2, &["key"]);
}

#[test]
fn a_server_that_can_not_prove_who_it_is() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let ca = ["--tls-ca", file(&certificates.ca)];

    let (good, url) = showing(&certificates, &certificates.server);
    publish(&tracemq, &url, &ca).expect(0);
    publish(&tracemq, &url, &[]).expect_failure(3, &["localhost", "certificate", "--tls-ca"]);
    publish(&tracemq, &url, &["--tls-ca", file(&certificates.other_ca)])
        .expect_failure(3, &["localhost", "certificate"]);
    publish(&tracemq, &url, &["--tls-ca", "/nonexistent/ca.pem"]).expect_failure(2, &["/nonexistent/ca.pem"]);
    let no_pem = tracemq.write("no.pem", "this is no certificate\n");
    publish(&tracemq, &url, &["--tls-ca", file(&no_pem)]).expect_failure(2, &["no.pem", "certificate"]);
    drop(good);

    let (_expired, url) = showing(&certificates, &certificates.expired);
    publish(&tracemq, &url, &ca).expect_failure(3, &["localhost", "expired"]);

    let (_misnamed, url) = showing(&certificates, &certificates.misnamed);
    publish(&tracemq, &url, &ca).expect_failure(3, &["localhost", "elsewhere.example", "--tls-server-name"]);
    publish(&tracemq, &url, &[&ca[..], &["--tls-server-name", "elsewhere.example"]].concat()).expect(0);
}

#[test]
fn skipping_the_check_works_and_warns_each_time() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let (_expired, url) = showing(&certificates, &certificates.expired);
    for _ in 0..2 {
        let done = publish(&tracemq, &url, &["--insecure-skip-verify"]).expect(0);
        assert!(done.stderr.contains("insecure-skip-verify"), "{done:?}");
    }
}

#[test]
fn tls_towards_a_plain_port_and_the_reverse() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let broker = all_listeners(&certificates);
    let tls_to_plain = format!("mqtts://localhost:{}", broker.port_of(Listener::Plain));
    let ca = ["--tls-ca", file(&certificates.ca), "--connect-timeout", "3s"];
    tracemq
        .publish(&tls_to_plain)
        .args(["t", "x"])
        .args(ca)
        .finish()
        .expect_failure(3, &["TLS", "localhost"]);

    let plain_to_tls = format!("mqtt://localhost:{}", broker.port_of(Listener::Tls));
    publish(&tracemq, &plain_to_tls, &[]).expect_failure(3, &["localhost", "mqtts"]);

    let ws_to_plain = format!("mqtt+ws://localhost:{}", broker.port_of(Listener::Plain));
    let done = tracemq.publish(&ws_to_plain).args(["t", "x", "--connect-timeout", "3s"]).finish();
    done.expect_failure(3, &["WebSocket"]);
}

#[test]
fn a_web_server_that_is_no_broker() {
    let tracemq = Tracemq::new();
    let server =
        FaultyServer::answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let url = format!("mqtt+ws://127.0.0.1:{}/elsewhere", server.port());
    publish(&tracemq, &url, &[]).expect_failure(3, &["404"]);
}

#[test]
fn through_a_proxy() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let broker = all_listeners(&certificates);
    let plain = format!("mqtt://localhost:{}", broker.port_of(Listener::Plain));
    let tls = format!("mqtts://localhost:{}", broker.port_of(Listener::Tls));
    let secure_ws = format!("mqtt+wss://localhost:{}", broker.port_of(Listener::SecureWebSocket));
    let ca = file(&certificates.ca);
    for kind in [RelayKind::Http, RelayKind::Socks5] {
        let relay = Relay::start(kind);
        publish(&tracemq, &plain, &["--proxy", &relay.url()]).expect(0);
        publish(&tracemq, &tls, &["--proxy", &relay.url(), "--tls-ca", ca]).expect(0);
        publish(&tracemq, &secure_ws, &["--proxy", &relay.url(), "--tls-ca", ca]).expect(0);
        let expected = [Listener::Plain, Listener::Tls, Listener::SecureWebSocket];
        let expected = expected.map(|listener| format!("localhost:{}", broker.port_of(listener)));
        assert_eq!(relay.asked(), expected, "the proxy looks the name up");

        let refused = publish(&tracemq, &plain, &["--proxy", &relay.url_with("wrong-secret")]);
        let refused = refused.expect_failure(4, &["proxy"]);
        assert!(!refused.reason().contains("wrong-secret"), "{refused:?}");

        let closed =
            TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address").port();
        let behind = publish(&tracemq, &format!("mqtt://localhost:{closed}"), &["--proxy", &relay.url()]);
        behind.expect_failure(3, &["proxy", "localhost"]);
    }
    publish(&tracemq, &plain, &["--proxy", "ftp://127.0.0.1:1"]).expect_failure(2, &["--proxy"]);
}
