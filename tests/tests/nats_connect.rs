//! Ways to log in and to get to a server, and what is said when they fail.

use std::io::{Read, Write};
use std::net::TcpStream;
use tracemq_tests::{
    Certificates, Cmd, FaultyServer, NatsOperator, NatsServer, NatsWire, SHORT, Tracemq, free_port, nkey,
};

#[test]
fn a_token_and_a_user_from_every_place() {
    let tracemq = Tracemq::new();
    let server = NatsServer::builder().authorization("token: s3cret").start();
    let (port, url) = (server.port(), server.url());
    let publish = |url: &str| tracemq.cmd(["pub", url, "a", "x"]);
    publish(&url).args(["--token", "s3cret"]).finish().expect(0);
    publish(&format!("nats://s3cret@127.0.0.1:{port}")).finish().expect(0);
    publish(&url).env("NATS_TOKEN", "s3cret").finish().expect(0);
    publish("nats://").env("NATS_URL", format!("nats://s3cret@127.0.0.1:{port}")).finish().expect(0);
    let wrong = publish(&url).args(["--token", "wr0ng"]).env("NATS_TOKEN", "s3cret").finish();
    let wrong = wrong.expect_failure(4, &["Authorization Violation", "--token"]);
    assert!(!wrong.stderr.contains("wr0ng"), "{wrong:?}");
    publish(&url).finish().expect_failure(4, &["Authorization Violation", "--creds-file"]);

    let server = NatsServer::builder().authorization("user: ann, password: pw").start();
    let (port, url) = (server.port(), server.url());
    publish(&url).args(["--username", "ann", "--password", "pw"]).finish().expect(0);
    publish(&format!("nats://ann:pw@127.0.0.1:{port}")).finish().expect(0);
    publish(&url).env("NATS_USER", "ann").env("NATS_PASSWORD", "pw").finish().expect(0);
    publish(&url).args(["--username", "ann"]).env("NATS_PASSWORD", "pw").finish().expect(0);
    publish(&url).args(["--username", "bob", "--password", "pw"]).env("NATS_USER", "ann").finish().expect(4);
    publish(&url)
        .args(["--token", "x", "--username", "ann"])
        .finish()
        .expect_failure(2, &["--token and --username"]);
}

#[test]
fn the_environment_gives_way_to_flags_and_profile() {
    let (tracemq, server) = (Tracemq::new(), NatsServer::plain());
    let other = format!("nats://127.0.0.1:{}", free_port());
    tracemq.cmd(["pub", "nats://", "a", "x"]).env("NATS_URL", server.url()).finish().expect(0);
    tracemq.cmd(["pub", &server.url(), "a", "x"]).env("NATS_URL", &other).finish().expect(0);
    tracemq
        .cmd(["pub", "nats://", "a", "x", "--server", &server.url()])
        .env("NATS_URL", &other)
        .finish()
        .expect(0);
    tracemq
        .cmd(["pub", "nats://", "a", "x"])
        .env_remove("NATS_URL")
        .finish()
        .expect_failure(2, &["NATS_URL"]);
    std::fs::create_dir_all(tracemq.home().join("profiles")).expect("a folder");
    tracemq.write("profiles/bus.toml", format!("url = \"{}\"\n", server.url()));
    tracemq.cmd(["pub", "bus", "a", "x"]).env("NATS_URL", &other).finish().expect(0);
    tracemq
        .cmd(["pub", "nats://", "a", "x"])
        .env("NATS_URL", &other)
        .finish()
        .expect_failure(3, &["refused"]);
}

#[test]
fn an_nkey_signs_and_a_wrong_one_is_told() {
    let tracemq = Tracemq::new();
    let ((seed, public), (other, _)) = (nkey(), nkey());
    let users = format!("users: [ {{ nkey: {public} }} ]");
    let server = NatsServer::builder().authorization(&users).start();
    let publish = |seed: &str| {
        let file = tracemq.write("seed.nk", seed);
        tracemq.cmd(["pub", &server.url(), "a", "x", "--nkey-file"]).arg(file)
    };
    publish(&format!("{seed}\n")).finish().expect(0);
    let file = tracemq.write("env.nk", &seed);
    tracemq.cmd(["pub", &server.url(), "a", "x"]).env("NATS_NKEY", file).finish().expect(0);
    publish(&other).finish().expect_failure(4, &["Authorization Violation", "public key"]);
    let bad = publish("not a seed").finish().expect_failure(2, &["--nkey-file", "no NKey seed"]);
    assert!(!bad.stderr.contains("not a seed"), "{bad:?}");
    tracemq
        .cmd(["pub", &server.url(), "a", "x", "--nkey-file", "/nowhere"])
        .finish()
        .expect_failure(2, &["/nowhere"]);
}

#[test]
fn creds_are_accepted_until_they_expire() {
    let (tracemq, operator) = (Tracemq::new(), NatsOperator::new());
    let server = NatsServer::builder().setting(&operator.setting).start();
    let publish = |creds: &str| {
        let file = tracemq.write("user.creds", creds);
        tracemq.cmd(["pub", &server.url(), "a", "x", "--creds-file"]).arg(file)
    };
    publish(&operator.creds(3600)).finish().expect(0);
    let file = tracemq.write("env.creds", operator.creds(3600));
    tracemq.cmd(["pub", &server.url(), "a", "x"]).env("NATS_CREDS", file).finish().expect(0);
    publish(&operator.creds(-7200)).finish().expect_failure(4, &["expired 2h ago"]);
    publish(&NatsOperator::new().creds(3600))
        .finish()
        .expect_failure(4, &["Authorization Violation", "--creds-file"]);
    publish("nothing").finish().expect_failure(2, &["--creds-file", "no user JWT"]);

    // One that expires while it is in use is final: coming back with it would be refused for ever.
    let file = tracemq.write("short.creds", operator.creds(3));
    let sub = tracemq.cmd(["sub", &server.url(), "a", "--creds-file"]).arg(file).finish();
    sub.expect_failure(4, &["expired"]);
}

#[test]
fn tls_where_the_server_wants_it_and_certificates_of_ours() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let ca = certificates.ca.to_str().expect("a path in UTF-8");
    let other = certificates.other_ca.to_str().expect("a path in UTF-8");
    let server = NatsServer::builder().tls(&certificates).start();
    let publish = |url: &str| tracemq.cmd(["pub", url, "a", "x"]);
    let (plain, tls) = (server.url(), format!("tls://localhost:{}", server.port()));
    publish(&plain).args(["--tls-ca", ca]).finish().expect(0);
    publish(&tls).args(["--tls-ca", ca]).finish().expect(0);
    publish(&tls).env("NATS_CA", ca).finish().expect(0);
    publish(&tls).args(["--tls-ca", other]).finish().expect_failure(3, &["certificate"]);
    publish(&plain).finish().expect_failure(3, &["certificate", "--tls-ca"]);
    let trusting = publish(&plain).args(["--insecure-skip-verify"]).finish().expect(0);
    assert!(trusting.stderr.contains("not checked"), "{trusting:?}");

    let server = NatsServer::builder().mutual_tls(&certificates).start();
    let client = |identity: &tracemq_tests::Identity| {
        let files =
            [&identity.cert, &identity.key].map(|file| file.to_str().expect("a path in UTF-8").to_owned());
        let [cert, key] = files;
        publish(&server.url()).args(["--tls-ca", ca, "--tls-cert", &cert, "--tls-key", &key])
    };
    client(&certificates.client).finish().expect(0);
    client(&certificates.stranger).finish().expect(3);
    publish(&server.url()).args(["--tls-ca", ca]).finish().expect_failure(3, &["certificate"]);
    let by_environment = publish(&server.url())
        .env("NATS_CA", ca)
        .env("NATS_CERT", &certificates.client.cert)
        .env("NATS_KEY", &certificates.client.key);
    by_environment.finish().expect(0);

    let server = NatsServer::plain();
    publish(&format!("tls://127.0.0.1:{}", server.port()))
        .finish()
        .expect_failure(3, &["does not offer TLS"]);
}

#[test]
fn websocket_plain_and_secure() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let ca = certificates.ca.to_str().expect("a path in UTF-8");
    let plain = NatsServer::builder().websocket().start();
    let secure = NatsServer::builder().secure_websocket(&certificates).start();
    let targets = [
        (format!("nats+ws://127.0.0.1:{}", plain.web_port()), plain.port()),
        (format!("nats+wss://localhost:{}", secure.web_port()), secure.port()),
    ];
    for (url, port) in targets {
        let flags = ["sub", &url, "a", "-C", "2", "--format", "raw", "--tls-ca", ca];
        let sub = tracemq.subscribed(tracemq.cmd(flags));
        NatsWire::connect(port).publish("a", &"x".repeat(300_000));
        tracemq.cmd(["pub", &url, "a", "last", "--tls-ca", ca]).finish().expect(0);
        let lines = sub.wait().expect(0).lines();
        assert_eq!((lines[0].len(), lines[1].as_str()), (300_000, "last"));
    }
    let wrong = format!("nats+ws://127.0.0.1:{}", plain.port());
    tracemq.cmd(["pub", &wrong, "a", "x"]).finish().expect(3);
}

#[test]
fn of_several_servers_one_is_enough() {
    let (tracemq, server) = (Tracemq::new(), NatsServer::plain());
    let gone = free_port();
    let list = format!("nats://127.0.0.1:{gone},127.0.0.1:{}", server.port());
    let done = tracemq.cmd(["pub", &list, "a", "x"]).finish().expect(0);
    assert!(done.stderr.contains("next server"), "{done:?}");
    let more = format!("127.0.0.1:{}", server.port());
    let first = format!("nats://127.0.0.1:{gone}");
    tracemq.cmd(["pub", &first, "a", "x", "--server", &more]).finish().expect(0);
    tracemq.cmd(["pub", &first, "a", "x"]).finish().expect_failure(3, &["refused"]);
    for url in ["nats://127.0.0.1:0", "nats://a/path", "nats://::1"] {
        tracemq.cmd(["pub", url, "a", "x"]).finish().expect(2);
    }
}

/// What a server tells of its clients on its monitoring port.
fn clients(port: u16) -> String {
    let mut monitor = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    monitor.write_all(b"GET /connz HTTP/1.0\r\n\r\n").expect("it reads");
    let mut text = String::new();
    monitor.read_to_string(&mut text).expect("it answers");
    text
}

#[test]
fn the_server_knows_us_by_name() {
    let (tracemq, port) = (Tracemq::new(), free_port());
    let server = NatsServer::builder().setting(&format!("http: \"127.0.0.1:{port}\"")).start();
    let _named = tracemq.subscribed(tracemq.cmd(["sub", &server.url(), "a", "--name", "plant 7 probe"]));
    assert!(clients(port).contains("\"plant 7 probe\""), "{}", clients(port));
    let _plain = tracemq.subscribed(tracemq.cmd(["sub", &server.url(), "a"]));
    assert!(clients(port).contains("\"tracemq\""), "{}", clients(port));
}

#[test]
fn what_is_no_nats_server_is_told() {
    let tracemq = Tracemq::new();
    let publish = |port: u16| {
        tracemq.cmd(["pub", &format!("nats://127.0.0.1:{port}"), "a", "x", "--connect-timeout", "2s"])
    };
    publish(FaultyServer::closing().port()).finish().expect_failure(3, &["closed the connection"]);
    let silent = FaultyServer::silent();
    publish(silent.port()).finish().expect_failure(3, &["2s", "NATS server"]);
}

/// TLS from the first byte, in front of a nats-server: what `handshake_first` of 2.10 does, which Debian's does not have.
const TLS_FRONT: &str = r#"
import asyncio, ssl, sys
cert, key, server = sys.argv[1:4]
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(cert, key)

async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()

async def serve(reader, writer):
    inner = await asyncio.open_connection("127.0.0.1", int(server))
    await asyncio.gather(copy(reader, inner[1]), copy(inner[0], writer))

async def main():
    front = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    print(front.sockets[0].getsockname()[1], flush=True)
    await front.serve_forever()

asyncio.run(main())
"#;

#[test]
fn tls_before_the_first_word() {
    let (tracemq, certificates, server) = (Tracemq::new(), Certificates::new(), NatsServer::plain());
    let identity = [&certificates.server.cert, &certificates.server.key];
    let front =
        Cmd::peer("python3").args(["-c", TLS_FRONT]).args(identity).arg(server.port().to_string()).start();
    let port = front.wait_stdout_by(SHORT, "a port", &|line| line.parse::<u16>().is_ok());
    let ca = certificates.ca.to_str().expect("a path in UTF-8");
    let publish = || tracemq.cmd(["pub", &format!("tls://localhost:{port}"), "a", "x", "--tls-ca", ca]);
    publish().arg("--tls-first").finish().expect(0);
    publish().args(["--connect-timeout", "2s"]).finish().expect_failure(3, &["2s", "--tls-first"]);
    let url = format!("nats+wss://localhost:{port}");
    tracemq.cmd(["pub", &url, "a", "x", "--tls-first"]).finish().expect_failure(2, &["--tls-first"]);
}
