//! The thin slice through everything that knows no protocol: a small plugin is loaded, its options are flags, and messages go
//! through it from one process to another.

use serde_json::{Value, json};
use tracemq_tests::Tracemq;

#[test]
fn every_kind_of_option_reaches_the_plugin() {
    let tracemq = Tracemq::with_loopback();
    let preload = tracemq.write("preload.txt", "one\ntwo\n");
    let password = tracemq.write("password", "open-sesame\n");
    let done = tracemq
        .cmd(["list", "loopback://", "options", "--client-name", "me", "--username", "u", "--queue", "64"])
        .args([
            "--share", "0.25", "--sign", "--level", "high", "--tag", "x", "--tag", "y,z", "--delay", "5ms",
        ])
        .args(["--property", "a=1", "--property", "b=c=d", "--preload"])
        .arg(&preload)
        .args(["--password", &format!("file:{}", password.display())])
        .finish()
        .expect(0);
    let value = |name: &str| {
        let line =
            done.lines().into_iter().find(|line| line.starts_with(name)).expect("the option is listed");
        line[name.len()..].trim().to_owned()
    };
    let preload = preload.display().to_string();
    for (name, wanted) in [
        ("client_name", "me"),
        ("username", "u"),
        ("password", "11 characters"),
        ("queue", "64"),
        ("share", "0.25"),
        ("sign", "true"),
        ("level", "high"),
        ("tag", "x,y,z"),
        ("property", "{\"a\":\"1\",\"b\":\"c=d\"}"),
        ("delay", "5ms"),
        ("preload", &preload),
    ] {
        assert_eq!(value(name), wanted, "{name}\n{done:?}");
    }
}

#[test]
fn a_value_that_does_not_fit_is_refused_with_what_is_allowed() {
    let tracemq = Tracemq::with_loopback();
    for (flag, value, allowed) in [
        ("--queue", "65", "1 to 64"),
        ("--queue", "many", "1 to 64"),
        ("--share", "1.5", "0 to 1"),
        ("--level", "higher", "low, medium or high"),
        ("--delay", "soon", "500ms"),
        ("--property", "novalue", "="),
        ("--preload", "/nowhere/at/all", "no such file"),
    ] {
        tracemq.cmd(["list", "loopback://", flag, value]).finish().expect_failure(2, &[flag, value, allowed]);
    }
}

#[test]
fn messages_go_from_process_to_process() {
    let tracemq = Tracemq::with_loopback();
    let (server, url) = tracemq.serve_loopback(&[]);
    let sub = tracemq.cmd(["sub", &url, "plant/*", "-C", "2", "--format", "json"]).start();
    sub.wait_stderr("subscribed");
    tracemq.cmd(["pub", &url, "office/lamp", "off"]).finish().expect(0);
    tracemq
        .cmd(["pub", &url, "plant/oven", "21.5", "-H", "unit=°C", "--priority", "7", "--sign"])
        .args(["--client-name", "oven"])
        .finish()
        .expect(0);
    tracemq.cmd(["pub", &url, "plant/lines", "--lines"]).stdin("a line\n").finish().expect(0);
    let messages: Vec<Value> = sub
        .wait()
        .expect(0)
        .lines()
        .iter()
        .map(|line| serde_json::from_str(line).expect("a JSON object a line"))
        .collect();
    let oven = &messages[0];
    assert_eq!(
        (&oven["protocol"], &oven["topic"], &oven["payload"], &oven["encoding"]),
        (&"loopback".into(), &"plant/oven".into(), &"21.5".into(), &"utf-8".into())
    );
    assert_eq!(oven["headers"], json!([["unit", "°C"]]));
    assert_eq!((&oven["meta"]["priority"], &oven["meta"]["client"]), (&7.into(), &"oven".into()));
    assert_eq!((&messages[1]["topic"], &messages[1]["payload"]), (&"plant/lines".into(), &"a line".into()));
    // The server shows what clients sent, whoever subscribed.
    server.wait_stdout("office/lamp");
    server.interrupt().expect(0);
}

#[test]
fn bytes_that_are_no_text_stay_what_they_are() {
    let tracemq = Tracemq::with_loopback();
    let (_server, url) = tracemq.serve_loopback(&[]);
    let sub = tracemq.cmd(["sub", &url, "t", "-C", "1", "--format", "raw", "--no-newline"]).start();
    sub.wait_stderr("subscribed");
    let bytes: Vec<u8> = (0..=255).collect();
    tracemq.cmd(["pub", &url, "t", "--stdin"]).stdin(bytes.clone()).finish().expect(0);
    assert_eq!(sub.wait().expect(0).stdout, bytes);
}

#[test]
fn requests_are_answered_or_not() {
    let tracemq = Tracemq::with_loopback();
    let (_server, url) = tracemq.serve_loopback(&["--answer", "pong"]);
    let done = tracemq.cmd(["request", &url, "a", "ping", "--format", "raw"]).finish().expect(0);
    assert_eq!(done.text(), "pong\n");
    tracemq.cmd(["request", &url, "nobody", "ping"]).finish().expect_failure(6, &["nobody"]);
    tracemq.cmd(["request", &url, "silent", "ping", "-W", "200ms"]).finish().expect(5);
}

#[test]
fn refusals_have_their_statuses() {
    let tracemq = Tracemq::with_loopback();
    tracemq
        .cmd(["pub", "loopback://", "t", "x", "--refuse", "not today"])
        .finish()
        .expect_failure(1, &["not today"]);
    tracemq
        .cmd(["pub", "loopback://", "t", "x", "--username", "u", "--password", "env:WRONG"])
        .env("WRONG", "let-me-in")
        .finish()
        .expect_failure(4, &["log in", "401", "--password"]);
    tracemq.cmd(["pub", "loopback://127.0.0.1:1", "t", "x"]).finish().expect_failure(3, &["127.0.0.1:1"]);
    tracemq.cmd(["pub", "loopback://", "a/*", "x"]).finish().expect_failure(2, &["a/*", "wildcard"]);
    tracemq.cmd(["sub", "loopback://", "a/*/b"]).finish().expect_failure(2, &["a/*/b", "last"]);
}

#[test]
fn a_stream_of_a_million_loses_nothing() {
    let tracemq = Tracemq::with_loopback();
    let done = tracemq
        .cmd(["sub", "loopback://", "t", "--emit", "1000000", "--size", "3", "--format", "raw"])
        .limit(tracemq_tests::LONG)
        .finish()
        .expect(0);
    assert_eq!(done.stdout.len(), 4_000_000);
}
