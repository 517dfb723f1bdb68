//! Clients: whom they trust, what they show, and what they say when it does not do.

use std::path::{Path, PathBuf};

use tracemq_tests::{Certificates, Cmd, SHORT, Tracemq, free_port, until};

use crate::peers::ROWS;
use crate::text;

const WARNING: &str = "--insecure-skip-verify: the server's certificate is not checked";

#[test]
fn a_server_proves_who_it_is() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let ca = ["--tls-ca", text(&certificates.ca)];
    for row in &ROWS {
        let good = row.start(&certificates, &certificates.server);
        let run = |flags: &[&str]| row.command(&tracemq, &good).args(flags).finish();
        let done = run(&ca).expect(0);
        assert!(!done.stderr.contains("warning"), "{done:?}");
        let signer = "is not signed by a trusted CA, but by \"Test authority\"";
        run(&["--tls-ca", text(&certificates.other_ca)])
            .expect_failure(3, &["localhost", signer, "--tls-ca"]);
        run(&[]).expect_failure(3, &["localhost", signer, "--tls-ca", "--insecure-skip-verify"]);
        // One that the system trusts needs no words.
        row.command(&tracemq, &good).env("SSL_CERT_FILE", &certificates.ca).finish().expect(0);
        run(&["--tls-ca", "/nonexistent/ca.pem"]).expect_failure(2, &["--tls-ca", "/nonexistent/ca.pem"]);

        let expired = row.start(&certificates, &certificates.expired);
        let run = |flags: &[&str]| row.command(&tracemq, &expired).args(flags).finish();
        run(&ca).expect_failure(3, &["localhost", "expired on 2021-01-01 00:00 UTC", "clock"]);
        for _ in 0..2 {
            let done = run(&["--insecure-skip-verify"]).expect(0);
            assert!(done.stderr.contains(WARNING), "{done:?}");
        }

        let misnamed = row.start(&certificates, &certificates.misnamed);
        let run = |flags: &[&str]| row.command(&tracemq, &misnamed).args(ca).args(flags).finish();
        run(&[]).expect_failure(3, &["is for elsewhere.example, not for localhost", "--tls-server-name"]);
        run(&["--tls-server-name", "elsewhere.example"]).expect(0);
    }
}

/// The client's key in the forms that OpenSSL writes, and its certificate.
struct Keys(PathBuf);

impl Keys {
    fn new(tracemq: &Tracemq, certificates: &Certificates) -> Keys {
        let keys = Keys(tracemq.home().to_owned());
        let (key, cert) = (text(&certificates.client.key), text(&certificates.client.cert));
        let openssl = |arguments: &[&str], file: &str| {
            let out = keys.file(file);
            Cmd::peer("openssl").args(arguments).args(["-out", text(&out)]).finish().expect(0);
        };
        openssl(&["ec", "-in", key], "sec1.key");
        openssl(
            &["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", key, "-passout", "pass:tomato"],
            "pkcs8.key",
        );
        openssl(&["ec", "-aes256", "-in", key, "-passout", "pass:tomato"], "legacy.key");
        let p12 = ["pkcs12", "-export", "-inkey", key, "-in", cert, "-passout", "pass:tomato"];
        openssl(&p12, "client.p12");
        keys
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

#[test]
fn a_client_proves_who_it_is() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let keys = Keys::new(&tracemq, &certificates);
    let (client, stranger) = (&certificates.client, &certificates.stranger);
    for row in &ROWS {
        let peer = row.start_demanding(&certificates);
        let run = |flags: &[&str]| {
            let command = row.command(&tracemq, &peer).args(["--tls-ca", text(&certificates.ca)]).args(flags);
            command.env("PASS", "tomato").env("WRONG", "potato").finish()
        };
        let pem = |key: &Path, more: &[&str]| {
            run(&[&["--tls-cert", text(&client.cert), "--tls-key", text(key)], more].concat())
        };
        pem(&client.key, &[]).expect(0);
        pem(&keys.file("sec1.key"), &[]).expect(0);
        run(&[]).expect_failure(3, &["localhost", "client certificate", "--tls-cert"]);
        run(&["--tls-cert", text(&stranger.cert), "--tls-key", text(&stranger.key)])
            .expect_failure(3, &["localhost", "certificate"]);
        let wrong = run(&["--tls-cert", text(&client.cert), "--tls-key", text(&stranger.key)]);
        wrong.expect_failure(2, &["--tls-key", "does not belong to the certificate"]);

        for file in ["pkcs8.key", "legacy.key"] {
            let key = keys.file(file);
            pem(&key, &["--tls-key-password", "env:PASS"]).expect(0);
            pem(&key, &[]).expect_failure(2, &[file, "no pass phrase", "--tls-key-password"]);
            let wrong = pem(&key, &["--tls-key-password", "env:WRONG"]);
            let wrong = wrong.expect_failure(2, &[file, "the pass phrase does not open the key"]);
            assert!(!wrong.stderr.contains("potato"), "{wrong:?}");
        }
        let p12 = keys.file("client.p12");
        let pkcs12 = |more: &[&str]| run(&[&["--tls-pkcs12", text(&p12)], more].concat());
        pkcs12(&["--tls-key-password", "env:PASS"]).expect(0);
        pkcs12(&[]).expect_failure(2, &["client.p12", "no pass phrase", "--tls-key-password"]);
        pkcs12(&["--tls-key-password", "env:WRONG"]).expect_failure(2, &["does not open"]);
    }
}

#[test]
fn versions_and_application_protocols_are_as_asked_for() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let identity = &certificates.server;
    let ca = ["--tls-ca", text(&certificates.ca)];
    for row in &ROWS {
        let good = row.start(&certificates, identity);
        let run = |flags: &[&str]| row.command(&tracemq, &good).args(ca).args(flags).finish();
        run(&["--tls-min-version", "1.2"]).expect(0);
        run(&["--tls-min-version", "1.1"]).expect_failure(2, &["--tls-min-version", "1.2", "1.3"]);
        if row.datagrams {
            run(&["--tls-min-version", "1.3"]).expect_failure(2, &["--tls-min-version", "DTLS"]);
            continue;
        }
        run(&["--tls-min-version", "1.3"]).expect(0);

        // A server of TLS 1.2 that takes nothing but the application protocol `strange`.
        let port = free_port().to_string();
        let old = Cmd::peer("openssl")
            .args(["s_server", "-tls1_2", "-alpn", "strange", "-accept", &format!("127.0.0.1:{port}")])
            .args(["-cert", text(&identity.cert), "-key", text(&identity.key)])
            .keep_stdin()
            .start();
        old.wait_stdout("ACCEPT");
        let port = port.parse().expect("a port");
        let run =
            |flags: &[&str]| row.command_to(&tracemq, "localhost", port).args(ca).args(row.first).args(flags);
        run(&["--tls-min-version", "1.3"])
            .finish()
            .expect_failure(3, &["no version of TLS in common", "--tls-min-version 1.2"]);
        // It agrees, and then says nothing more.
        let client = run(&["--tls-alpn", "strange", "--tls-alpn", "other"]).start();
        old.wait_stdout("ALPN protocols advertised by the client: strange, other");
        drop(client);
    }
}

#[test]
fn keys_are_logged_where_the_environment_asks_for_it_and_that_is_told() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    for row in &ROWS {
        let peer = row.start(&certificates, &certificates.server);
        let file = tracemq.home().join(format!("{}.keys", row.scheme));
        let run = |file: &Path| {
            let command = row.command(&tracemq, &peer).args(["--tls-ca", text(&certificates.ca)]);
            command.env("SSLKEYLOGFILE", file).finish()
        };
        let done = run(&file).expect(0);
        assert!(done.stderr.contains("SSLKEYLOGFILE is set"), "{done:?}");
        let logged = until(SHORT, || std::fs::read_to_string(&file).ok()).expect("the file");
        let label = if row.datagrams { "CLIENT_RANDOM " } else { "CLIENT_HANDSHAKE_TRAFFIC_SECRET " };
        assert!(logged.lines().any(|line| line.starts_with(label)), "{}: {logged}", row.scheme);
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().expect("the file").permissions());
        assert_eq!(mode & 0o777, 0o600, "{}", row.scheme);
        // What can't be written is told, and does not keep anybody from connecting.
        let done = run(&tracemq.home().join("nowhere/keys")).expect(0);
        assert!(done.stderr.contains("SSLKEYLOGFILE") && done.stderr.contains("nowhere"), "{done:?}");
    }
}
