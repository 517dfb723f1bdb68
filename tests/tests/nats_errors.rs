//! Servers that refuse, break the protocol, or send what nobody can read: it is told, and shown where it can be.

use tracemq_tests::{Done, NatsServer, NatsWire, ScriptedNats, Tracemq, json};

#[test]
fn what_is_not_permitted_is_told_and_ends_with_4() {
    let tracemq = Tracemq::new();
    let users = r#"users: [
        { user: "ann", password: "pw", permissions: { publish: ["ok.>"], subscribe: ["ok.>", "_INBOX.>"] } }
    ]"#;
    let server = NatsServer::builder().authorization(users).start();
    let url = format!("nats://ann:pw@127.0.0.1:{}", server.port());
    tracemq.cmd(["pub", &url, "ok.a", "x"]).finish().expect(0);
    tracemq
        .cmd(["pub", &url, "no.a", "x"])
        .finish()
        .expect_failure(4, &["Permissions Violation for Publish", "no.a"]);
    tracemq.cmd(["pub", &url, "no.a", "--lines"]).stdin("1\n2\n").finish().expect(4);
    tracemq
        .cmd(["request", &url, "no.a", "x"])
        .finish()
        .expect_failure(4, &["Permissions Violation", "no.a"]);
    tracemq
        .cmd(["sub", &url, "no.>"])
        .finish()
        .expect_failure(4, &["Permissions Violation for Subscription", "no.>"]);
    tracemq
        .cmd(["sub", &url, "no", "--queue-group", "q"])
        .finish()
        .expect_failure(4, &["Permissions Violation"]);
    // One of two is refused: the other goes on.
    let sub = tracemq.subscribed(tracemq.cmd(["sub", &url, "no.a", "ok.a", "-C", "1", "--format", "raw"]));
    sub.wait_stderr("no.a");
    NatsWire::connect_with(server.port(), r#"{"verbose":false,"user":"ann","pass":"pw"}"#)
        .publish("ok.a", "through");
    assert_eq!(sub.wait().expect(0).lines(), ["through"]);
}

#[test]
fn a_greeting_that_is_no_good_is_told() {
    let tracemq = Tracemq::new();
    let long = [b"INFO {\"x\":\"".to_vec(), vec![b'x'; 2 << 20], b"\"}\r\n".to_vec()].concat();
    for (greeting, why) in [
        (&b"INFO {\"server_id\":\r\n"[..], "INFO"),
        (b"INFO []\r\n", "INFO"),
        (b"INFO {\"max_payload\":\"much\"}\r\n", "INFO"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP/1.1"),
        (b"SSH-2.0-OpenSSH\r\n", "SSH"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "\\u{16}"),
        (b"PING\r\n", "INFO"),
        (b"-ERR 'maximum connections exceeded'\r\n", "maximum connections exceeded"),
        (&long, "1048576"),
    ] {
        let server = ScriptedNats::new();
        let publishing = tracemq.cmd(["pub", &server.url(), "a", "x"]).start();
        let client = server.greet(greeting);
        let done = publishing.wait().expect_failure(3, &[why]);
        assert!(!done.stderr.contains('\u{16}') && done.stderr.len() < 2000, "{done:?}");
        drop(client);
    }
}

#[test]
fn a_message_that_can_not_be_understood_is_shown() {
    let tracemq = Tracemq::new();
    let server = ScriptedNats::new();
    let sub = tracemq.cmd(["sub", &server.url(), "a", "-C", "6", "--format", "json"]).start();
    let mut client = server.accept_subscriber();
    client.send(b"HMSG a 1 14 16\r\nrubbish\r\nx\r\n\r\nok\r\n");
    client.send(b"HMSG a 1 34 36\r\nNATS/1.0\r\nno colon\r\nk: \xff\xfe\r\n: y\r\n\r\nok\r\n");
    client.send(b"HMSG a 1 8 10\r\nNATS/1.0ok\r\n");
    client.send(b"MSG a\xff.b 1 2\r\nok\r\n");
    client.send(b"HMSG a 1 28 28\r\nNATS/1.0 503 Nobody here\r\n\r\n\r\n");
    client.send(b"MSG a 1 3\r\nend\r\n");
    let done = sub.wait().expect(0);
    let lines: Vec<_> = done.lines().iter().map(|line| json(line)).collect();
    assert!(
        lines[0]["meta"]["malformed_headers"].as_str().is_some_and(|text| text.contains("NATS/1.0")),
        "{done:?}"
    );
    assert_eq!(lines[0]["payload"], "ok");
    let broken = lines[1]["meta"]["malformed_header_lines"].as_str().expect("a text");
    assert!(broken.contains("no colon") && broken.contains(": y"), "{done:?}");
    assert_eq!(lines[1]["headers"][0][0], "k");
    assert!(lines[2]["meta"]["malformed_headers"].is_string() && lines[2]["payload"] == "ok", "{done:?}");
    assert!(lines[3]["meta"]["malformed"].is_string(), "{done:?}");
    assert_eq!(
        (&lines[4]["meta"]["status"], &lines[4]["meta"]["description"]),
        (&503.into(), &"Nobody here".into())
    );
    assert_eq!(lines[5]["payload"], "end");
}

#[test]
fn a_stream_that_can_not_be_understood_is_left_and_made_again() {
    let tracemq = Tracemq::new();
    let server = ScriptedNats::new();
    let sub = tracemq.cmd(["sub", &server.url(), "a", "-C", "5", "--format", "json"]).start();
    let long = b"MSG ".repeat(20_000);
    let endings = [&b"MSG a 1 5\r\nhello!!\r\n"[..], b"GARBAGE\r\n", b"MSG a 1 99999999999\r\n", &long];
    for ending in endings {
        let mut client = server.accept_subscriber_again();
        client.send(b"MSG a 1 1\r\nx\r\n");
        client.send(ending);
        sub.wait_stderr("reconnecting");
    }
    server.accept_subscriber_again().send(b"MSG a 1 1\r\ny\r\n");
    let done = sub.wait().expect(0);
    let lines: Vec<_> = done.lines().iter().map(|line| json(line)).collect();
    assert!(lines[0]["meta"]["gap"].is_null() && lines[1]["meta"]["gap"] == true, "{done:?}");
    for why in ["does not end where it should", "GARBAGE", "99999999999", "65536 bytes"] {
        assert!(done.stderr.contains(why), "{why}: {done:?}");
    }

    let sub = tracemq.cmd(["sub", &server.url(), "a", "--no-reconnect"]).start();
    server.accept_subscriber().send(b"GARBAGE\r\n");
    sub.wait().expect_failure(1, &["GARBAGE"]);
}

#[test]
fn a_server_that_ends_the_connection_says_why() {
    let tracemq = Tracemq::new();
    let server = ScriptedNats::new();
    let sub = tracemq.cmd(["sub", &server.url(), "a"]).start();
    let mut client = server.accept_subscriber();
    client.send(b"-ERR 'User Authentication Expired'\r\n");
    client.close();
    sub.wait().expect_failure(4, &["User Authentication Expired"]);

    let mut sub = tracemq.cmd(["sub", &server.url(), "a"]).start();
    let mut client = server.accept_subscriber();
    client.send(b"-ERR 'Stale Connection'\r\n");
    client.close();
    sub.wait_stderr("Stale Connection");
    drop(server.accept());
    assert!(sub.alive());

    let publishing = tracemq.cmd(["pub", &server.url(), "a", "x", "--no-reconnect"]).start();
    let mut client = server.accept();
    while client.raw_line() != "PING" {}
    client.close();
    publishing.wait().expect_failure(1, &["may or may not have arrived"]);
}

#[test]
fn a_token_in_the_place_of_a_url_s_user_is_a_secret() {
    let tracemq = Tracemq::new();
    let url = "nats://t0ken-of-ours@127.0.0.1:1";
    let hidden = |done: Done| {
        let stdout = String::from_utf8_lossy(&done.stdout);
        assert!(!stdout.contains("t0ken-of-ours") && !done.stderr.contains("t0ken-of-ours"), "{done:?}");
        done
    };
    let advice = ["no secret in clear", "nats://127.0.0.1:1 --token vault:plant-token"];
    hidden(tracemq.cmd(["profile", "add", "plant", url]).finish()).expect_failure(2, &advice);
    assert!(tracemq.cmd(["profile", "list"]).finish().expect(0).stdout.is_empty());
    let done =
        hidden(tracemq.cmd(["pub", url, "a", "b", "-vvv"]).finish()).expect_failure(3, &["***@127.0.0.1:1"]);
    assert!(done.stderr.contains("stands in clear on the command line"), "{done:?}");

    // One that somebody has written by hand.
    let file = tracemq.home().join("profiles/plant.toml");
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
    std::fs::write(&file, format!("url = \"{url}\"\n")).expect("written");
    for arguments in [&["profile", "list"][..], &["profile", "list", "--json"], &["profile", "show", "plant"]]
    {
        let done = hidden(tracemq.cmd(arguments).finish()).expect(0);
        assert!(String::from_utf8_lossy(&done.stdout).contains("***@127.0.0.1:1"), "{done:?}");
    }
    let advice = ["a secret stands in clear in its url", "secret set plant-token"];
    hidden(tracemq.cmd(["pub", "plant", "a", "b"]).finish()).expect_failure(2, &advice);
}
