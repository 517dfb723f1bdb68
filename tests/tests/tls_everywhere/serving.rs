//! Servers: each plugin's own, with a certificate that it makes, against clients that this project did not write; and what it
//! says of clients that don't come in.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tracemq_tests::{
    Certificates, Cmd, Done, Identity, LONG, Run, Tracemq, json, libcoap_client, peer_script,
};

use crate::schemas::plugins;
use crate::text;

/// A server of ours and its clients.
struct Row {
    plugin: &'static str,
    /// What `serve` is told, beside the options of TLS.
    serve: &'static [&'static str],
    /// The command of our client. URL and CONNECTION stand for what the server prints.
    command: &'static [&'static str],
    /// A client of others: it trusts this CA, and is served.
    client: fn(&Served, &str),
    /// The option of `openssl s_client` for its transport; `None` where TLS does not come first.
    s_client: Option<&'static str>,
}

const ROWS: [Row; 6] = [
    Row {
        plugin: "mqtt",
        serve: &["mqtt", "--bind", "127.0.0.1:0"],
        command: &["pub", "URL", "t", "x", "--qos", "1"],
        client: |served, ca| {
            let port = served.port.to_string();
            let arguments = ["-h", "localhost", "-p", &port, "--cafile", ca, "-t", "t", "-m", "x", "-q", "1"];
            Cmd::peer("mosquitto_pub").args(arguments).finish().expect(0);
        },
        s_client: Some("-tls1_3"),
    },
    Row {
        plugin: "nats",
        serve: &["nats", "--bind", "127.0.0.1:0"],
        command: &["pub", "URL", "t", "x"],
        client: |served, ca| {
            let arguments = ["-c", NATS_CLIENT, &served.port.to_string(), ca];
            Cmd::python().args(arguments).limit(LONG).finish().expect(0);
        },
        s_client: None,
    },
    Row {
        plugin: "websocket",
        serve: &["websocket", "--bind", "127.0.0.1:0"],
        command: &["pub", "URL", "x"],
        client: |served, ca| {
            let url = format!("wss://localhost:{}", served.port);
            let command = Cmd::python().arg(peer_script("websocket_client.py")).args([&url, "--ca", ca]);
            let mut client = command.keep_stdin().start();
            client.wait_stdout("\"open\"");
            client.write("hello\n");
            client.wait_stdout("\"hello\"");
        },
        s_client: Some("-tls1_3"),
    },
    Row {
        plugin: "eventhubs",
        serve: &["eventhubs", "--bind", "127.0.0.1:0"],
        command: &["pub", "CONNECTION", "x"],
        client: |served, ca| {
            let address = format!("sb://127.0.0.1:{}", served.port);
            let command = Cmd::python().arg(peer_script("eventhubs_client.py")).arg(&served.connection);
            let command = command.args(["send", "x", "--address", &address, "--ca", ca]);
            command.limit(LONG).finish().expect(0);
        },
        s_client: Some("-tls1_3"),
    },
    Row {
        plugin: "coap",
        serve: &["coaps://127.0.0.1:0", "--resource", "/temp=21.5"],
        command: &["request", "URL", "/temp"],
        client: libcoap,
        s_client: Some("-dtls1_2"),
    },
    Row {
        plugin: "coap",
        serve: &["coaps+tcp://127.0.0.1:0", "--resource", "/temp=21.5"],
        command: &["request", "URL", "/temp"],
        client: libcoap,
        s_client: Some("-tls1_3"),
    },
];

const NATS_CLIENT: &str = r#"
import asyncio, nats, ssl, sys
port, ca = sys.argv[1:]

async def main():
    context = ssl.create_default_context(cafile=ca)
    client = await nats.connect(f"tls://localhost:{port}", tls=context, connect_timeout=20, allow_reconnect=False)
    await client.publish("t", b"x")
    await client.flush(20)
    await client.close()

asyncio.run(main())
"#;

fn libcoap(served: &Served, ca: &str) {
    let url = format!("{}/temp", served.url.replace("127.0.0.1", "localhost"));
    let done = libcoap_client("openssl").args(["-C", ca, &url]).finish().expect(0);
    assert_eq!(done.text().trim(), "21.5", "{done:?}");
}

/// A running server of ours.
struct Served {
    row: &'static Row,
    run: Run,
    url: String,
    /// Of Event Hubs.
    connection: String,
    port: u16,
}

impl Row {
    fn start(&'static self, tracemq: &Tracemq, flags: &[&str]) -> Served {
        let run = tracemq.cmd(["serve"]).args(self.serve).arg("--json").args(flags).limit(LONG).start();
        let first = json(&run.wait_stdout("\"urls\""));
        let url = first["url"].as_str().expect("a URL").to_owned();
        let port = url.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port");
        let connection = first["urls"][1].as_str().unwrap_or_default().to_owned();
        Served { row: self, run, url, connection, port }
    }
}

impl Served {
    /// The file with the CA, from the line that tells how to trust it.
    fn ca(&self) -> PathBuf {
        let notice = json(&self.run.wait_stderr("clients trust it with --tls-ca "));
        assert_eq!(notice["event"], "notice", "{notice}");
        let (_, pasted) =
            notice["text"].as_str().and_then(|text| text.split_once("--tls-ca ")).expect("a flag");
        let (path, _) = pasted.split_once(" (good until 20").expect("a date");
        assert_eq!(notice["details"]["ca"], path, "{notice}");
        path.into()
    }

    /// Runs our client.
    fn client(&self, tracemq: &Tracemq, flags: &[&str]) -> Done {
        let word = |word: &&str| word.replace("URL", &self.url).replace("CONNECTION", &self.connection);
        let words: Vec<String> = self.row.command.iter().map(word).collect();
        tracemq.cmd(words).args(flags).args(["--connect-timeout", "20s"]).limit(LONG).finish()
    }

    fn s_client(&self, arguments: &[&str]) -> Done {
        let address = format!("127.0.0.1:{}", self.port);
        Cmd::peer("openssl").args(["s_client", "-connect", &address]).args(arguments).finish()
    }
}

#[test]
fn every_plugin_that_serves_stands_in_the_table() {
    let plugins = plugins(&Tracemq::new()).into_iter();
    let serves = |schemas: &serde_json::Value| schemas["serve"]["properties"]["tls_self_signed"].is_object();
    let found: BTreeSet<String> = plugins.filter(|(_, schemas)| serves(schemas)).map(|(id, _)| id).collect();
    let table: BTreeSet<String> = ROWS.iter().map(|row| row.plugin.to_owned()).collect();
    assert_eq!(found, table);
}

#[test]
fn a_certificate_is_made_that_clients_can_trust() {
    let tracemq = Tracemq::new();
    let certificates = Certificates::new();
    for row in &ROWS {
        let served = row.start(&tracemq, &["--tls-self-signed"]);
        let file = served.ca();
        let ca = text(&file);
        (row.client)(&served, ca);
        served.client(&tracemq, &["--tls-ca", ca]).expect(0);
        if let Some(version) = row.s_client {
            let checks = ["-CAfile", ca, "-verify_return_error", "-verify_hostname", "localhost"];
            let done = served.s_client(&[&[version], &checks[..]].concat()).expect(0);
            assert!(done.text().contains("Verify return code: 0 (ok)"), "{done:?}");
        }
        served.client(&tracemq, &[]).expect_failure(3, &["but by \"TraceMQ local CA", "--tls-ca"]);
        served.run.wait_stderr("does not know the CA");

        for name in ["ca.pem", "ca.key"] {
            let facts = file.with_file_name(name).metadata().expect("a file beside it");
            let mode = std::os::unix::fs::PermissionsExt::mode(&facts.permissions());
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let kept = std::fs::read(&file).expect("the CA");
        drop(served);
        let again = row.start(&tracemq, &["--tls-self-signed"]);
        assert_eq!(again.ca(), file);
        assert_eq!(std::fs::read(&file).expect("the CA"), kept);
        again.client(&tracemq, &["--tls-ca", ca]).expect(0);

        let cert = text(&certificates.server.cert);
        let both = tracemq.cmd(["serve"]).args(row.serve).args(["--tls-self-signed", "--tls-cert", cert]);
        let both = both.args(["--tls-key", text(&certificates.server.key)]).finish();
        both.expect_failure(2, &["--tls-self-signed", "--tls-cert"]);
    }
}

#[test]
fn a_server_takes_pkcs12_and_encrypted_keys() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let Identity { cert, key } = &certificates.server;
    let file = |name: &str| tracemq.home().join(name);
    let (p12, legacy) = (file("server.p12"), file("server.key"));
    let openssl = |arguments: &[&str]| drop(Cmd::peer("openssl").args(arguments).finish().expect(0));
    let pass = ["-passout", "pass:tomato"];
    let export = ["pkcs12", "-export", "-inkey", text(key), "-in", text(cert), "-out", text(&p12)];
    openssl(&[&export[..], &pass].concat());
    openssl(&[&["ec", "-aes256", "-in", text(key), "-out", text(&legacy)], &pass[..]].concat());
    for row in &ROWS {
        for flags in
            [&["--tls-pkcs12", text(&p12)][..], &["--tls-cert", text(cert), "--tls-key", text(&legacy)]]
        {
            let pass = tracemq.write("pass", "tomato\n");
            let pass = format!("file:{}", text(&pass));
            let served = row.start(&tracemq, &[flags, &["--tls-key-password", &pass]].concat());
            served.client(&tracemq, &["--tls-ca", text(&certificates.ca)]).expect(0);
            let without = tracemq.cmd(["serve"]).args(row.serve).args(flags).finish();
            without.expect_failure(2, &["no pass phrase", "--tls-key-password"]);
        }
    }
}

#[test]
fn clients_that_do_not_come_in_are_told_of_with_the_reason() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let of_clients = text(&certificates.ca);
    let showing = |identity: &'_ Identity| {
        ["--tls-cert", text(&identity.cert), "--tls-key", text(&identity.key)].map(str::to_owned)
    };
    for row in &ROWS {
        for auth in ["required", "optional"] {
            let flags = ["--tls-self-signed", "--tls-ca", of_clients, "--tls-client-auth", auth];
            let served = row.start(&tracemq, &flags);
            let file = served.ca();
            let run = |identity: Option<&Identity>| {
                let shown = identity.map(showing).into_iter().flatten().collect::<Vec<_>>();
                let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
                served.client(&tracemq, &[&["--tls-ca", text(&file)], &shown[..]].concat())
            };
            run(Some(&certificates.client)).expect(0);
            run(Some(&certificates.stranger)).expect_failure(3, &["certificate"]);
            served.run.wait_stderr("the client's certificate is signed by \\\"Another authority\\\"");
            if auth == "optional" {
                run(None).expect(0);
            } else {
                run(None).expect_failure(3, &["client certificate", "--tls-cert"]);
                served.run.wait_stderr("showed no certificate, which --tls-ca demands");
            }
        }
        let alone = tracemq.cmd(["serve"]).args(row.serve).args(["--tls-client-auth", "optional"]);
        alone.arg("--tls-self-signed").finish().expect_failure(2, &["--tls-client-auth needs --tls-ca"]);
    }
}

#[test]
fn a_server_keeps_to_versions_and_application_protocols() {
    let tracemq = Tracemq::new();
    for row in ROWS.iter().filter(|row| row.s_client == Some("-tls1_3")) {
        let flags = ["--tls-self-signed", "--tls-min-version", "1.3", "--tls-alpn", "strange"];
        let served = row.start(&tracemq, &flags);
        let done = served.s_client(&["-tls1_3", "-alpn", "other,strange"]).expect(0);
        assert!(done.text().contains("ALPN protocol: strange"), "{done:?}");
        served.s_client(&["-tls1_2"]).expect(1);
        served.run.wait_stderr("no version of TLS from --tls-min-version on");
        served.s_client(&["-tls1_3", "-alpn", "other"]).expect(1);
        served.run.wait_stderr("none of the application protocols");
    }
    let newer =
        tracemq.cmd(["serve", "coaps://127.0.0.1:0", "--tls-self-signed", "--tls-min-version", "1.3"]);
    newer.finish().expect_failure(2, &["--tls-min-version", "DTLS"]);
}
