//! Bad input and bad servers: what is wrong, where, and what to do about it, with the right exit code and nothing lost.

use std::time::{Duration, Instant};
use tracemq_tests::{Done, FaultyServer, Mosquitto, Tracemq, free_port};

fn publish(tracemq: &Tracemq, url: &str, arguments: &[&str]) -> Done {
    tracemq.publish(url).args(arguments).finish()
}

#[test]
fn an_unknown_scheme_names_the_known_ones_and_the_places() {
    let tracemq = Tracemq::new();
    for verb in [&["pub", "gopher://host", "t", "x"][..], &["sub", "gopher://host", "t"]] {
        let done = tracemq.cmd(verb).finish().expect(7);
        for part in ["gopher", "mqtt", "plugins"] {
            assert!(done.stderr.contains(part), "{part} is not told of\n{done:?}");
        }
    }
}

#[test]
fn malformed_urls() {
    let tracemq = Tracemq::new();
    for url in ["mqtt://", "mqtt://host:99999", "mqtt://[::1", "mqtt://host:port", "mqtt:// host"] {
        let done = publish(&tracemq, url, &["t", "x"]).expect(2);
        assert!(
            done.reason().contains(url.trim_start_matches("mqtt://")),
            "it does not tell which\n{done:?}"
        );
    }
}

#[test]
fn a_closed_port() {
    let tracemq = Tracemq::new();
    let port = free_port();
    let url = format!("mqtt://127.0.0.1:{port}");
    let address = format!("127.0.0.1:{port}");
    publish(&tracemq, &url, &["t", "x"]).expect_failure(3, &[&address, "refused"]);
    tracemq.cmd(["sub", &url, "t"]).finish().expect_failure(3, &[&address, "refused"]);
}

#[test]
fn a_name_that_does_not_exist() {
    let tracemq = Tracemq::new();
    publish(&tracemq, "mqtt://no-such-host.invalid", &["t", "x"])
        .expect_failure(3, &["no-such-host.invalid", "name"]);
}

#[test]
fn a_wrong_password() {
    let tracemq = Tracemq::new();
    let broker = Mosquitto::builder().user("ann", "s3cret").start();
    for version in tracemq_tests::VERSIONS {
        let flags = ["t", "x", "--protocol-version", version.name, "--username", "ann", "--password"];
        let done = tracemq.publish(&broker.url()).args(flags).arg("wr0ng-one").finish();
        let done = done.expect_failure(4, &[&broker.port().to_string()]);
        assert!(!done.reason().contains("wr0ng-one"), "{done:?}");
        let anonymous =
            tracemq.sub(&broker.url(), "nobody").args(["t", "--protocol-version", version.name]).finish();
        anonymous.expect_failure(4, &["--username"]);
    }
}

#[test]
fn a_publish_that_the_broker_does_not_allow() {
    let tracemq = Tracemq::new();
    let broker = Mosquitto::builder().acl("topic readwrite open/#\n").start();
    publish(&tracemq, &broker.url(), &["open/t", "x", "--qos", "1"]).expect(0);
    for qos in ["1", "2"] {
        let done = publish(&tracemq, &broker.url(), &["closed/t", "x", "--qos", qos]);
        done.expect_failure(4, &["closed/t", "0x87", "not authorized"]);
    }
}

#[test]
fn a_subscription_that_the_broker_does_not_allow() {
    let tracemq = Tracemq::new();
    let serve =
        tracemq.cmd(["serve", "mqtt", "--bind", "127.0.0.1:0", "--deny-subscribe", "closed/#"]).start();
    let url = served_url(&serve);
    for version in tracemq_tests::VERSIONS {
        // 3.1 knows no refusal of a SUBSCRIBE.
        if version.name != "3.1" {
            let sub =
                tracemq.sub(&url, "eager").args(["closed/t", "-W", "10", "--protocol-version", version.name]);
            sub.finish().expect_failure(4, &["closed/t"]);
        }
    }
    serve.interrupt();
}

/// The address that `serve` prints first.
fn served_url(serve: &tracemq_tests::Run) -> String {
    let line = serve.wait_stdout("mqtt://");
    line.split_whitespace().find(|word| word.starts_with("mqtt://")).expect("a URL").to_owned()
}

#[test]
fn topics_and_filters_that_can_not_be() {
    // Nothing listens there: what is wrong is told before anything is opened.
    let (tracemq, url) = (Tracemq::new(), format!("mqtt://127.0.0.1:{}", free_port()));
    let long = "x".repeat(65_536);
    for filter in ["a/#/b", "a/b#", "a/+b", "", &long, "$share/g", "$share//t"] {
        let done = tracemq.cmd(["sub", &url, filter]).finish().expect(2);
        let named = if filter.len() < 100 && !filter.is_empty() { filter } else { "TOPIC" };
        assert!(done.stderr.contains(named), "it does not tell of {named}\n{done:?}");
    }
    for topic in ["a/+/b", "a/#", "", &long] {
        publish(&tracemq, &url, &[topic, "x"]).expect(2);
    }
}

#[test]
fn a_nul_in_a_topic() {
    let (tracemq, url) = (Tracemq::new(), format!("mqtt://127.0.0.1:{}", free_port()));
    // No argument can hold a NUL, but a profile can.
    let profile =
        format!("protocol = \"mqtt\"\nurl = \"{url}\"\n\n[connection]\nwill_topic = \"a\\u0000b\"\n");
    std::fs::create_dir_all(tracemq.home().join("profiles")).expect("a folder in the home");
    tracemq.write("profiles/nul.toml", profile);
    tracemq.cmd(["pub", "nul", "t", "x"]).finish().expect_failure(2, &["NUL"]);
}

#[test]
fn values_that_an_option_does_not_take() {
    let (tracemq, url) = (Tracemq::new(), format!("mqtt://127.0.0.1:{}", free_port()));
    for (flags, parts) in [
        (&["--qos", "7"][..], &["--qos", "7", "2"][..]),
        (&["--qos", "high"], &["--qos", "high"]),
        (&["--protocol-version", "4"], &["--protocol-version", "3.1.1", "5.0"]),
        (&["--keep-alive", "soon"], &["--keep-alive", "soon"]),
        (&["--keep-alive", "20h"], &["--keep-alive"]),
        (&["--receive-maximum", "0"], &["--receive-maximum"]),
        (&["--will-qos", "3", "--will-topic", "w"], &["--will-qos", "3"]),
        (&["--will-payload", "w"], &["will", "--will-topic"]),
        (&["--will-topic", "a/#"], &["will"]),
        (&["--clean-session=false"], &["--client-id"]),
        (&["--user-property", "no-equals-sign"], &["--user-property"]),
        (&["--session-expiry", "1h", "--protocol-version", "3.1.1"], &["--session-expiry", "5.0"]),
        (&["--content-type", "x", "--protocol-version", "3.1"], &["--content-type", "5.0"]),
        (&["--qoss", "1"], &["--qoss", "--qos"]),
    ] {
        let done = publish(&tracemq, &url, &[&["t", "x"], flags].concat()).expect(2);
        let told = done.stderr.to_lowercase();
        for part in parts {
            assert!(told.contains(&part.to_lowercase()), "{flags:?}: it does not tell of {part}\n{done:?}");
        }
    }
}

#[test]
fn headers_need_mqtt5() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    let done = publish(&tracemq, &broker.url(), &["t", "x", "-H", "a=b", "--protocol-version", "3.1.1"]);
    assert!(matches!(done.code(), 1 | 2), "{done:?}");
    assert!(done.stderr.contains("5.0"), "{done:?}");
    assert!(!broker.log().contains("Received PUBLISH"), "nothing was sent without them");
}

#[test]
fn a_payload_over_what_the_broker_takes() {
    let tracemq = Tracemq::new();
    let broker = Mosquitto::builder().setting("max_packet_size 2000").start();
    let file = tracemq.write("large", "x".repeat(10_000));
    let file = file.to_str().expect("UTF-8");
    let done = publish(&tracemq, &broker.url(), &["t", "--file", file, "--qos", "1"]);
    done.expect_failure(1, &["2000", "t"]);
    // One too large among others costs these nothing.
    let watch =
        broker.subscribed(broker.subscriber("t").args(["-i", "watch", "-q", "1", "-C", "2"]), "watch");
    let lines = format!("first\n{}\nlast\n", "x".repeat(5_000));
    let done =
        tracemq.publish(&broker.url()).args(["t", "--lines", "--qos", "1"]).stdin(lines).finish().expect(1);
    assert!(done.stderr.contains("line 2"), "{done:?}");
    assert_eq!(watch.wait().expect(0).lines(), ["first", "last"]);
}

#[test]
fn a_file_that_is_missing() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    let done = publish(&tracemq, &broker.url(), &["t", "--file", "/nonexistent/payload.bin"]).expect(2);
    assert!(done.reason().contains("/nonexistent/payload.bin"), "{done:?}");
    assert!(!broker.log().contains(" as tracemq-"), "nothing was opened");
}

#[test]
fn secrets_that_can_not_be_had() {
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    let flags = ["t", "x", "--username", "ann", "--password"];
    let with = |secret: &str| publish(&tracemq, &broker.url(), &[&flags[..], &[secret]].concat());
    with("env:NOBODY_SET_THIS").expect_failure(2, &["NOBODY_SET_THIS", "password"]);
    with("file:/nonexistent/secret").expect_failure(2, &["/nonexistent/secret", "password"]);
}

#[test]
fn a_server_that_answers_garbage() {
    let tracemq = Tracemq::new();
    for garbage in [
        &b"220 smtp.example.com ESMTP\r\n"[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x20\xff\xff\xff\xff\xff",
        b"\x30\x02\x00\x00",
        b"\x00\x00\x00\x00",
    ] {
        let server = FaultyServer::answering(garbage);
        let url = format!("mqtt://127.0.0.1:{}", server.port());
        let done = publish(&tracemq, &url, &["t", "x", "--connect-timeout", "5s"]);
        done.expect_failure(3, &[&server.port().to_string()]);
        assert_eq!(server.connections(), 1, "a first connection is not tried again");
    }
}

#[test]
fn a_server_that_closes_at_once() {
    let (tracemq, server) = (Tracemq::new(), FaultyServer::closing());
    let url = format!("mqtt://127.0.0.1:{}", server.port());
    publish(&tracemq, &url, &["t", "x"]).expect_failure(3, &["clos"]);
    tracemq.sub(&url, "s").arg("t").finish().expect_failure(3, &["clos"]);
}

#[test]
fn a_server_that_stays_silent() {
    let (tracemq, server) = (Tracemq::new(), FaultyServer::silent());
    let url = format!("mqtt://127.0.0.1:{}", server.port());
    let began = Instant::now();
    publish(&tracemq, &url, &["t", "x", "--connect-timeout", "500ms"]).expect_failure(3, &["500ms"]);
    assert!(began.elapsed() >= Duration::from_millis(500), "it did not wait as long as it was told to");
}

#[test]
fn a_server_that_accepts_and_then_says_nothing_more() {
    // CONNACK, for each version, and then no PUBACK.
    let (tracemq, server) = (Tracemq::new(), FaultyServer::answering(b"\x20\x03\x00\x00\x00"));
    let url = format!("mqtt://127.0.0.1:{}", server.port());
    let flags = ["t", "x", "--qos", "1", "--keep-alive", "1s", "--no-reconnect"];
    let done = tracemq.publish(&url).args(flags).limit(Duration::from_secs(60)).finish();
    assert!(matches!(done.code(), 1 | 5), "the ping is not answered either: {done:?}");
    assert!(!done.reason().is_empty());
}

#[test]
fn a_refusal_in_connack_is_told_with_its_reason() {
    let tracemq = Tracemq::new();
    // 5.0: 0x8A banned, with a reason string; 3.1.1: 3, server unavailable.
    let banned = FaultyServer::answering(b"\x20\x0b\x00\x8a\x08\x1f\x00\x05go on");
    let url = format!("mqtt://127.0.0.1:{}", banned.port());
    publish(&tracemq, &url, &["t", "x"]).expect_failure(4, &["banned", "0x8A", "go on"]);
    let unavailable = FaultyServer::answering(b"\x20\x02\x00\x03");
    let url = format!("mqtt://127.0.0.1:{}", unavailable.port());
    publish(&tracemq, &url, &["t", "x", "--protocol-version", "3.1.1"]).expect_failure(3, &["unavailable"]);
}

#[test]
fn an_older_version_is_tried_only_when_asked() {
    let tracemq = Tracemq::new();
    // "Unacceptable protocol version", as a 3.1.1 broker says it.
    let old = FaultyServer::answering(b"\x20\x02\x00\x01");
    let url = format!("mqtt://127.0.0.1:{}", old.port());
    publish(&tracemq, &url, &["t", "x"]).expect_failure(3, &["--protocol-version"]);
    assert_eq!(old.connections(), 1);
    publish(&tracemq, &url, &["t", "x", "--protocol-fallback"]).expect(3);
    assert_eq!(old.connections(), 1 + 3, "5.0, 3.1.1 and 3.1 were tried");
}
