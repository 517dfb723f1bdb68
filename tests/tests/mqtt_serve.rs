//! `tracemq serve mqtt` with mosquitto's clients, and with our own.

use serde_json::json as value;
use std::io::Write;
use std::net::TcpStream;
use tracemq_tests::{Certificates, Cmd, Packet, Run, Tracemq, VERSIONS, json, until};

/// A broker of ours, and its address.
struct Served {
    tracemq: Tracemq,
    run: Run,
    port: u16,
}

impl Served {
    fn start(flags: &[&str]) -> Served {
        let tracemq = Tracemq::new();
        let run = tracemq.cmd(["serve", "mqtt", "--bind", "127.0.0.1:0"]).args(flags).start();
        let line = run.wait_stdout("mqtt");
        let port = port_in(&line).unwrap_or_else(|| panic!("no URL in {line:?}"));
        Served { tracemq, run, port }
    }

    fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    fn peer(&self, program: &str, topic: &str) -> Cmd {
        Cmd::peer(program).args(["-p", &self.port.to_string(), "-t", topic])
    }

    fn mosquitto_pub(&self, topic: &str) -> Cmd {
        self.peer("mosquitto_pub", topic)
    }

    fn mosquitto_sub(&self, topic: &str) -> Cmd {
        self.peer("mosquitto_sub", topic)
    }

    /// Starts a mosquitto_sub of this name, and returns when the broker has told of its subscription.
    fn subscribed(&self, client: &str, command: Cmd) -> Run {
        let run = command.args(["-i", client]).start();
        self.run.wait_stderr(&format!("client {client} subscribed"));
        run
    }
}

/// The port of the first URL in a line.
fn port_in(line: &str) -> Option<u16> {
    let address = line.split("://").nth(1)?;
    let address = address.split(|c: char| c == '"' || c == '/' || c.is_whitespace()).next()?;
    address.rsplit_once(':')?.1.parse().ok()
}

#[test]
fn every_version_and_qos_of_mosquittos_clients() {
    let served = Served::start(&[]);
    for version in VERSIONS {
        for qos in ["0", "1", "2"] {
            let topic = format!("t/{}/{qos}", version.logged);
            let flags = ["-q", qos, "-V", version.mosquitto];
            let sub = served.mosquitto_sub(&topic).args(flags).args(["-C", "2", "-F", "%q %p"]);
            let sub = served.subscribed(&format!("sub-{}-{qos}", version.logged), sub);
            served.mosquitto_pub(&topic).args(flags).args(["-m", "one"]).finish().expect(0);
            let large = "x".repeat(100_000);
            served.mosquitto_pub(&topic).args(flags).args(["-m", &large]).finish().expect(0);
            let came = sub.wait().expect(0).lines();
            assert_eq!(came, [format!("{qos} one"), format!("{qos} {large}")], "{version:?}");
        }
    }
}

#[test]
fn our_own_client_with_every_version() {
    let served = Served::start(&[]);
    for version in VERSIONS {
        let flags = ["--protocol-version", version.name, "--qos", "2"];
        let sub =
            served.tracemq.sub(&served.url(), version.logged).args(["t/#", "-C", "1", "--format", "raw"]);
        let sub = sub.args(flags).start();
        sub.wait_stderr("subscribed");
        served.tracemq.publish(&served.url()).args(["t/x", version.name]).args(flags).finish().expect(0);
        assert_eq!(sub.wait().expect(0).lines(), [version.name]);
    }
}

#[test]
fn what_clients_do_is_shown_as_lines_of_json() {
    let served = Served::start(&["--json"]);
    let first = json(served.run.stdout().lines().next().expect("a line"));
    assert!(first.to_string().contains(&format!("mqtt://127.0.0.1:{}", served.port)), "{first}");
    let properties = ["-D", "publish", "user-property", "unit", "C"];
    let publisher =
        served.mosquitto_pub("a/b").args(["-V", "mqttv5", "-i", "their-client", "-q", "1", "-m", "21.5"]);
    publisher.args(properties).finish().expect(0);
    let message = json(&served.run.wait_stdout("\"21.5\""));
    assert_eq!((&message["topic"], &message["payload"]), (&value!("a/b"), &value!("21.5")));
    assert_eq!(message["headers"], value!([["unit", "C"]]));
    assert_eq!((&message["meta"]["qos"], &message["meta"]["client"]), (&value!(1), &value!("their-client")));
    for line in served.run.stdout().lines() {
        json(line);
    }
}

#[test]
fn ctrl_c_and_sigterm_end_it_and_free_the_port() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let served = Served::start(&[]);
        let sub = served.subscribed("watch", served.mosquitto_sub("t"));
        served.run.signal(signal);
        let Served { run, port, .. } = served;
        run.wait().expect(0);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "nothing listens any more");
        drop(sub);
    }
}

#[test]
fn retained_messages_shared_subscriptions_and_wills() {
    let served = Served::start(&[]);
    served.mosquitto_pub("state").args(["-r", "-q", "1", "-m", "on"]).finish().expect(0);
    let kept = served.mosquitto_sub("state").args(["-C", "1", "-F", "%r %p"]).finish().expect(0);
    assert_eq!(kept.text(), "1 on\n");

    let worker =
        |name: &str| served.subscribed(name, served.mosquitto_sub("$share/g/work").args(["-q", "1"]));
    let (first, second) = (worker("first"), worker("second"));
    let lines: String = (0..20).map(|number| format!("{number}\n")).collect();
    served.mosquitto_pub("work").args(["-l", "-q", "1"]).stdin(lines).finish().expect(0);
    let both = || first.stdout_lines() + second.stdout_lines();
    assert!(until(tracemq_tests::SHORT, || (both() >= 20).then_some(())).is_some(), "{first:?}{second:?}");
    assert!(first.stdout_lines() > 0 && second.stdout_lines() > 0, "{first:?}{second:?}");
    assert_eq!(both(), 20);

    let watch = served.subscribed("watch", served.mosquitto_sub("gone"));
    let will = ["--will-topic", "gone", "--will-payload", "bye", "--will-qos", "1"];
    let mortal = served.subscribed("mortal", served.mosquitto_sub("t").args(will));
    mortal.signal(libc::SIGKILL);
    watch.wait_stdout("bye");
}

#[test]
fn a_persistent_session_of_mosquitto_sub() {
    let served = Served::start(&[]);
    let keeper = || served.mosquitto_sub("t").args(["-c", "-i", "keeper", "-q", "1"]);
    keeper().arg("-E").finish().expect(0);
    served.mosquitto_pub("t").args(["-l", "-q", "1"]).stdin("one\ntwo\nthree\n").finish().expect(0);
    assert_eq!(keeper().args(["-C", "3"]).finish().expect(0).lines(), ["one", "two", "three"]);
}

#[test]
fn users_and_passwords() {
    let served = Served::start(&["--user", "ann=s3cret", "--user", "bob=b=b"]);
    let publish = |user: &str, password: &str, version: &str| {
        let flags = ["-q", "1", "-m", "x", "-V", version, "-u", user, "-P", password];
        served.mosquitto_pub("t").args(flags).finish().code()
    };
    for version in VERSIONS {
        assert_eq!(publish("ann", "s3cret", version.mosquitto), 0);
        assert_eq!(publish("bob", "b=b", version.mosquitto), 0, "a password may hold an equals sign");
        assert_ne!(publish("ann", "wrong", version.mosquitto), 0);
        assert_ne!(publish("eve", "s3cret", version.mosquitto), 0);
        let anonymous =
            served.mosquitto_pub("t").args(["-q", "1", "-m", "x", "-V", version.mosquitto]).finish();
        assert_ne!(anonymous.code(), 0);
    }
    let wrong =
        served.tracemq.publish(&served.url()).args(["t", "x", "--username", "ann", "--password", "wrong"]);
    wrong.finish().expect_failure(4, &[]);
    let all = served.run.interrupt();
    assert!(!all.stderr.contains("s3cret") && !all.text().contains("s3cret"), "{all:?}");
}

#[test]
fn tls_with_and_without_client_certificates() {
    let certificates = Certificates::new();
    let path = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let (cert, key) = (path(&certificates.server.cert), path(&certificates.server.key));
    let ca = path(&certificates.ca);
    let tls = Served::start(&["--tls-cert", &cert, "--tls-key", &key]);
    let through = |served: &Served, flags: &[&str]| {
        let publish =
            served.mosquitto_pub("t").args(["-h", "localhost", "-q", "1", "-m", "x", "--cafile", &ca]);
        publish.args(flags).finish().code()
    };
    assert_eq!(through(&tls, &[]), 0);
    let url = format!("mqtts://localhost:{}", tls.port);
    tls.tracemq.publish(&url).args(["t", "x", "--qos", "1", "--tls-ca", &ca]).finish().expect(0);

    let mutual = Served::start(&["--tls-cert", &cert, "--tls-key", &key, "--tls-ca", &ca]);
    assert_ne!(through(&mutual, &[]), 0, "without a certificate of its own");
    let identity = |identity: &tracemq_tests::Identity| [path(&identity.cert), path(&identity.key)];
    let [cert, key] = identity(&certificates.client);
    assert_eq!(through(&mutual, &["--cert", &cert, "--key", &key]), 0);
    let [cert, key] = identity(&certificates.stranger);
    assert_ne!(through(&mutual, &["--cert", &cert, "--key", &key]), 0, "signed by another authority");
}

#[test]
fn websocket_beside_tcp() {
    let served = Served::start(&["--ws-bind", "127.0.0.1:0", "--json"]);
    let first = json(served.run.stdout().lines().next().expect("a line"));
    let url = first["urls"][1].as_str().expect("a second URL").to_owned();
    assert!(url.starts_with("mqtt+ws://"), "{first}");
    let sub = served.subscribed("watch", served.mosquitto_sub("t").args(["-C", "1"]));
    served.tracemq.publish(&url).args(["t", "over a web socket", "--qos", "2"]).finish().expect(0);
    assert_eq!(sub.wait().expect(0).text(), "over a web socket\n");
}

#[test]
fn refusals_on_demand() {
    let flags =
        ["--deny-subscribe", "no/sub/#", "--deny-publish", "no/pub=0x97", "--deny-publish", "no/pub/2"];
    let served = Served::start(&flags);
    let refused = served.mosquitto_sub("no/sub/x").args(["-V", "mqttv5", "-W", "10"]).finish();
    assert!(refused.stderr.contains("All subscription requests were denied"), "{refused:?}");
    served.subscribed("allowed", served.mosquitto_sub("no/subs"));

    let refused = served.mosquitto_pub("no/pub").args(["-V", "mqttv5", "-q", "1", "-m", "x"]).finish();
    assert!(refused.stderr.contains("Quota exceeded"), "0x97\n{refused:?}");
    let ours = |topic: &str| served.tracemq.publish(&served.url()).args([topic, "x", "--qos", "1"]).finish();
    // Only 0x87 is a matter of permission.
    ours("no/pub").expect_failure(1, &["no/pub", "0x97"]);
    ours("no/pub/2").expect_failure(4, &["no/pub/2", "0x87"]);
    ours("no/publ").expect(0);
}

#[test]
fn the_keep_alive_is_capped_for_mqtt5() {
    let served = Served::start(&["--max-keep-alive", "7s"]);
    let mut client = TcpStream::connect(("127.0.0.1", served.port)).expect("the broker listens");
    // CONNECT, 5.0, clean start, keep alive 60, no properties, client id "c".
    client.write_all(b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01c").expect("the broker reads");
    let answer = Packet::read(&mut client).expect("an answer").expect("a CONNACK");
    assert_eq!((answer.kind(), answer.body[1]), (2, 0), "{answer:?}");
    // Property 0x13, Server Keep Alive.
    assert!(answer.body.windows(3).any(|bytes| bytes == [0x13, 0, 7]), "{answer:?}");
}

#[test]
fn options_that_can_not_be() {
    let tracemq = Tracemq::new();
    let serve = |flags: &[&str]| tracemq.cmd(["serve", "mqtt"]).args(flags).finish();
    serve(&["--bind", "nowhere"]).expect_failure(2, &["nowhere"]);
    serve(&["--bind", "127.0.0.1:0", "--deny-publish", "a/#/b"]).expect_failure(2, &["a/#/b"]);
    serve(&["--bind", "127.0.0.1:0", "--tls-cert", "/nonexistent/c.pem", "--tls-key", "/nonexistent/k.pem"])
        .expect_failure(2, &["/nonexistent/c.pem"]);
    let secret = serve(&["--bind", "127.0.0.1:0", "--user", "hunter2"]).expect(2);
    assert!(!secret.stderr.contains("hunter2"), "it may be a secret\n{secret:?}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    serve(&["--bind", &address]).expect_failure(3, &[&address, "in use"]);
}
