//! coaps:// against libcoap on OpenSSL and on GnuTLS: pre-shared keys and certificates, and everything that may be wrong
//! with them.

use std::net::UdpSocket;
use tracemq_tests::{
    Certificates, Done, Identity, LIBCOAP, LONG, LibcoapServer, Run, SHORT, Tracemq, json, libcoap_client,
    resident_kib, until,
};

const PSK: [&str; 4] = ["-k", "secret", "-h", "hint"];

fn path(path: &std::path::Path) -> &str {
    path.to_str().expect("a path of letters")
}

fn get(tracemq: &Tracemq, url: &str, arguments: &[&str]) -> Done {
    tracemq.cmd(["request", url, "/", "--format", "json"]).args(arguments).finish()
}

/// `tracemq serve coaps://…` on a free port, and its URL.
fn serve(tracemq: &Tracemq, arguments: &[&str]) -> (Run, String) {
    let serve = tracemq
        .cmd(["serve", "coaps://127.0.0.1:0", "--json", "--resource", "/temp=21.5"])
        .args(arguments)
        .start();
    let url = json(&serve.wait_stdout("coaps://"))["url"].as_str().expect("a URL").to_owned();
    (serve, url)
}

fn pki<'a>(certificates: &'a Certificates, identity: &'a Identity) -> [&'a str; 6] {
    ["-c", path(&identity.cert), "-j", path(&identity.key), "-C", path(&certificates.ca)]
}

#[test]
fn a_client_with_a_shared_key_talks_to_both_libcoaps() {
    let tracemq = Tracemq::new();
    for library in LIBCOAP {
        let server = LibcoapServer::start(library, &PSK);
        let url = server.url("coaps");
        for key in ["secret", "0x736563726574"] {
            let done = get(&tracemq, &url, &["--psk-identity", "ann", "--psk-key", key]).expect(0);
            let message = json(&done.text());
            assert!(
                message["payload"].as_str().is_some_and(|text| text.contains("libcoap")),
                "{library}: {message}"
            );
        }
        let done =
            get(&tracemq, &url, &["--psk-identity", "ann", "--psk-key", "wrong", "--connect-timeout", "3s"]);
        let code = done.code();
        assert!(code == 3 || code == 4, "{library}: {done:?}");
        assert!(
            done.reason().contains("--psk-key") || done.reason().contains("pre-shared key"),
            "{library}: {done:?}"
        );
        assert!(!done.stderr.contains("wrong\""), "the key is told: {done:?}");
        // A server with a key alone has no certificate to show.
        get(&tracemq, &url, &["--connect-timeout", "3s"]).expect(3);
    }
}

#[test]
fn a_client_holds_certificates_of_both_libcoaps_against_authority_and_name() {
    let tracemq = Tracemq::new();
    let certificates = Certificates::new();
    for library in LIBCOAP {
        // -n: no certificate of the client is asked for.
        let server =
            LibcoapServer::start(library, &[&pki(&certificates, &certificates.server)[..], &["-n"]].concat());
        let url = server.url("coaps");
        let ca = ["--tls-ca", path(&certificates.ca)];
        let done = get(&tracemq, &url, &ca).expect(0);
        assert!(
            json(&done.text())["payload"].as_str().is_some_and(|text| text.contains("libcoap")),
            "{done:?}"
        );
        get(&tracemq, &url, &["--tls-ca", path(&certificates.other_ca)])
            .expect_failure(3, &["not signed by a trusted CA", "--tls-ca"]);
        get(&tracemq, &url, &[&ca[..], &["--tls-server-name", "elsewhere.example"]].concat())
            .expect_failure(3, &["elsewhere.example", "--tls-server-name"]);
        let done = get(&tracemq, &url, &["--insecure-skip-verify"]).expect(0);
        assert!(done.stderr.contains("not checked"), "the warning is missing: {done:?}");

        let expired = LibcoapServer::start(
            library,
            &[&pki(&certificates, &certificates.expired)[..], &["-n"]].concat(),
        );
        get(&tracemq, &expired.url("coaps"), &ca).expect_failure(3, &["expired on 2021-01-01"]);
    }
}

#[test]
fn a_client_shows_its_certificate_to_both_libcoaps() {
    let tracemq = Tracemq::new();
    let certificates = Certificates::new();
    for library in LIBCOAP {
        let server = LibcoapServer::start(library, &pki(&certificates, &certificates.server));
        let url = server.url("coaps");
        let with = |identity: &Identity| {
            let arguments = [
                "--tls-ca",
                path(&certificates.ca),
                "--tls-cert",
                path(&identity.cert),
                "--tls-key",
                path(&identity.key),
            ];
            get(&tracemq, &url, &arguments)
        };
        with(&certificates.client).expect(0);
        let none =
            get(&tracemq, &url, &["--tls-ca", path(&certificates.ca), "--connect-timeout", "5s"]).expect(3);
        assert!(none.reason().contains("certificate"), "{library}: {none:?}");
        with(&certificates.stranger).expect(3);
    }
}

#[test]
fn a_device_that_can_observe_is_observed_over_dtls() {
    let tracemq = Tracemq::new();
    let server = LibcoapServer::start("openssl", &PSK);
    let done = tracemq
        .cmd([
            "sub",
            &server.url("coaps"),
            "/time",
            "-C",
            "3",
            "--format",
            "json",
            "--psk-identity",
            "ann",
            "--psk-key",
            "secret",
        ])
        .finish()
        .expect(0);
    assert_eq!(done.lines().len(), 3, "{done:?}");
}

#[test]
fn a_hundred_thousand_bytes_pass_both_libcoaps_dtls_in_blocks() {
    let tracemq = Tracemq::new();
    let body = "0123456789".repeat(10_000);
    let file = tracemq.write("body", &body);
    let (_serve, url) = serve(&tracemq, &["--psk", "ann=secret"]);
    for library in LIBCOAP {
        let server = LibcoapServer::start(library, &PSK);
        let security = ["--psk-identity", "ann", "--psk-key", "secret"];
        let cmd = |verb: &str| tracemq.cmd([verb, &server.url("coaps"), "/body"]).args(security).limit(LONG);
        let put = cmd("pub").args(["--json", "--file", path(&file)]).finish().expect(0);
        assert_eq!(json(&put.lines()[0])["details"]["request_blocks"], 98, "{library}");
        let got = json(&cmd("request").args(["--format", "json"]).finish().expect(0).text());
        assert_eq!(got["payload"].as_str(), Some(&*body), "{library}");

        let put = format!("{url}/body-{library}");
        let client = || libcoap_client(library).args(["-u", "ann", "-k", "secret"]).limit(LONG);
        client().args(["-m", "put", "-f", path(&file), &put]).finish().expect(0);
        assert_eq!(client().arg(&put).finish().expect(0).text().trim(), body, "{library}");
    }
}

#[test]
fn both_libcoaps_talk_to_our_server_with_a_shared_key() {
    let tracemq = Tracemq::new();
    let (serve, url) = serve(&tracemq, &["--psk", "ann=secret", "--psk", "bob=0x6b6579"]);
    for library in LIBCOAP {
        for (identity, key) in [("ann", "secret"), ("bob", "key")] {
            let done = libcoap_client(library)
                .args(["-u", identity, "-k", key, &format!("{url}/temp")])
                .finish()
                .expect(0);
            assert_eq!(done.text().trim(), "21.5", "{library}: {done:?}");
        }
        let unknown = libcoap_client(library)
            .args(["-u", "carl", "-k", "secret", "-B", "5", &format!("{url}/temp")])
            .finish();
        assert!(!unknown.text().contains("21.5"), "{unknown:?}");
        serve.wait_stderr("carl");
        let wrong = libcoap_client(library)
            .args(["-u", "ann", "-k", "wrong", "-B", "4", &format!("{url}/temp")])
            .finish();
        assert!(!wrong.text().contains("21.5"), "{wrong:?}");
    }
    let request = json(&serve.wait_stdout("\"/temp\""));
    assert_eq!(request["meta"]["identity"], "ann", "{request}");
    serve.interrupt().expect(0);
}

#[test]
fn both_libcoaps_talk_to_our_server_with_certificates() {
    let tracemq = Tracemq::new();
    let certificates = Certificates::new();
    let identity = &certificates.server;
    let shown = ["--tls-cert", path(&identity.cert), "--tls-key", path(&identity.key)];
    let (_open, open) = serve(&tracemq, &shown);
    let (closed, closed_url) = serve(&tracemq, &[&shown[..], &["--tls-ca", path(&certificates.ca)]].concat());
    for library in LIBCOAP {
        let get = |url: &str, arguments: &[&str]| {
            libcoap_client(library)
                .args(["-B", "5"])
                .args(arguments)
                .arg(format!("{url}/temp"))
                .finish()
                .text()
        };
        assert_eq!(get(&open, &["-C", path(&certificates.ca)]).trim(), "21.5", "{library}");
        assert!(!get(&open, &["-C", path(&certificates.other_ca)]).contains("21.5"), "{library}: another CA");
        assert_eq!(get(&closed_url, &pki(&certificates, &certificates.client)).trim(), "21.5", "{library}");
        assert!(
            !get(&closed_url, &["-C", path(&certificates.ca)]).contains("21.5"),
            "{library}: no certificate"
        );
        assert!(
            !get(&closed_url, &pki(&certificates, &certificates.stranger)).contains("21.5"),
            "{library}: a stranger"
        );
    }
    closed.wait_stderr("the client's certificate is signed by");
    let request = json(&closed.wait_stdout("\"/temp\""));
    assert_eq!(request["meta"]["identity"], "test-client", "{request}");
}

#[test]
fn our_client_and_server_talk_with_keys_and_certificates() {
    let tracemq = Tracemq::new();
    let certificates = Certificates::new();
    let identity = &certificates.server;
    let (_serve, url) = serve(
        &tracemq,
        &["--psk", "ann=secret", "--tls-cert", path(&identity.cert), "--tls-key", path(&identity.key)],
    );
    let big = "x".repeat(100_000);
    let body = tracemq.write("big", &big);
    for security in
        [&["--psk-identity", "ann", "--psk-key", "secret"][..], &["--tls-ca", path(&certificates.ca)]]
    {
        tracemq.cmd(["pub", &url, "/big", "--file", path(&body)]).args(security).finish().expect(0);
        let done =
            tracemq.cmd(["request", &url, "/big", "--format", "json"]).args(security).finish().expect(0);
        assert_eq!(json(&done.text())["payload"], big);
    }
    get(&tracemq, &url, &["--psk-identity", "carl", "--psk-key", "secret"])
        .expect_failure(4, &["PSK identity", "--psk-identity"]);
}

#[test]
fn a_client_that_starts_again_on_its_port_is_let_in() {
    let tracemq = Tracemq::new();
    let (_serve, url) = serve(&tracemq, &["--psk", "ann=secret"]);
    let port = UdpSocket::bind("127.0.0.1:0").expect("a free port").local_addr().expect("a port").port();
    for _ in 0..5 {
        let mut run = libcoap_client("openssl")
            .args(["-u", "ann", "-k", "secret", "-a", "127.0.0.1", "-p", &port.to_string(), "-s", "60"])
            .arg(format!("{url}/temp"))
            .start();
        run.wait_stdout("21.5");
        // Without a goodbye.
        run.signal(9);
        until(SHORT, || (!run.alive()).then_some(())).expect("it is killed");
    }
}

/// A server that was killed says no goodbye, and one that is started again knows nothing of the association.
#[test]
fn an_observation_survives_its_server() {
    let tracemq = Tracemq::new();
    let (mut first, url) = serve(&tracemq, &["--psk", "ann=secret", "--max-age", "1"]);
    let patience = ["--ack-timeout", "200ms", "--max-retransmit", "1", "--connect-timeout", "2s"];
    let observer = tracemq
        .cmd(["sub", &url, "/temp", "--format", "json", "--psk-identity", "ann", "--psk-key", "secret"])
        .args(patience)
        .start();
    observer.wait_stdout("21.5");
    first.signal(9);
    until(SHORT, || (!first.alive()).then_some(())).expect("it is killed");
    observer.wait_stderr("registering again");
    let _second = tracemq
        .cmd(["serve", &url, "--json", "--resource", "/temp=99", "--psk", "ann=secret", "--max-age", "1"])
        .start();
    observer.wait_stdout("99");
}

#[test]
fn half_open_handshakes_cost_no_memory() {
    let tracemq = Tracemq::new();
    let (serve, url) = serve(&tracemq, &["--psk", "ann=secret"]);
    let address = url.trim_start_matches("coaps://").to_owned();
    libcoap_client("openssl").args(["-u", "ann", "-k", "secret", &format!("{url}/temp")]).finish().expect(0);
    let before = resident_kib(serve.pid());
    // A ClientHello of DTLS 1.2 that offers PSK-AES128-CCM8, without a cookie.
    let hello = client_hello();
    let mut answered = 0;
    for _ in 0..3000 {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.set_read_timeout(Some(SHORT)).expect("a time-out");
        socket.send_to(&hello, &address).expect("a datagram is sent");
        let mut buffer = [0; 1500];
        let length = socket.recv(&mut buffer).expect("it is asked for the cookie");
        // A HelloVerifyRequest, which is smaller than the hello: nobody is flooded in another's name.
        assert_eq!((buffer[0], buffer[13]), (22, 3));
        assert!(length <= hello.len(), "{length} bytes for {}", hello.len());
        answered += 1;
    }
    let after = resident_kib(serve.pid());
    assert_eq!(answered, 3000);
    assert!(after < before + 4096, "{before} KiB before, {after} KiB after");
    let done = libcoap_client("openssl")
        .args(["-u", "ann", "-k", "secret", &format!("{url}/temp")])
        .finish()
        .expect(0);
    assert_eq!(done.text().trim(), "21.5");
}

fn client_hello() -> Vec<u8> {
    let mut body = vec![0xFE, 0xFD];
    body.extend_from_slice(&[7; 32]);
    // No session, no cookie, one suite (0xC0A8) and no renegotiation, no compression.
    body.extend_from_slice(&[0, 0, 0, 4, 0xC0, 0xA8, 0, 0xFF, 1, 0]);
    let length = (body.len() as u32).to_be_bytes();
    let mut message =
        vec![1, length[1], length[2], length[3], 0, 0, 0, 0, 0, length[1], length[2], length[3]];
    message.extend_from_slice(&body);
    let mut record = vec![22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0];
    record.extend_from_slice(&(message.len() as u16).to_be_bytes());
    record.extend_from_slice(&message);
    record
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_sent() {
    let tracemq = Tracemq::new();
    for (url, arguments, part) in [
        ("coap://127.0.0.1", &["--psk-identity", "a", "--psk-key", "b"][..], "coaps"),
        ("coap+tcp://127.0.0.1", &["--psk-identity", "a", "--psk-key", "b"], "coaps+tcp"),
        ("coaps://127.0.0.1", &["--psk-identity", "a"], "--psk-key"),
        ("coaps://127.0.0.1", &["--proxy", "http://127.0.0.1:1"], "--proxy"),
        ("coaps+tcp://127.0.0.1", &["--psk-identity", "a"], "--psk-key"),
        ("coaps://224.0.1.187", &["--psk-identity", "a", "--psk-key", "b"], "group"),
    ] {
        get(&tracemq, url, arguments).expect_failure(2, &[part]);
    }
    let none = tracemq.cmd(["serve", "coaps://127.0.0.1:0"]).finish();
    none.expect_failure(2, &["--psk", "--tls-cert"]);
}
