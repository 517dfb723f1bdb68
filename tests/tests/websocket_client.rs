//! `tracemq pub`, `sub` and `request` against WebSocket servers that this project did not write.

use tracemq_tests::{Certificates, LONG, Tracemq, WebSocketPeer, json};

#[test]
fn every_message_arrives_in_order() {
    let (tracemq, server) = (Tracemq::new(), WebSocketPeer::python(&[]));
    let sub =
        tracemq.cmd(["sub", &server.url("/push?count=20000&size=20"), "-C", "20000", "--format", "raw"]);
    let lines = sub.limit(LONG).finish().expect(0).lines();
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(*line, format!("message {number}{}", "x".repeat(20)));
    }
    assert_eq!(lines.len(), 20_000);
}

#[test]
fn text_binary_fragments_and_pings_are_told_apart() {
    let (tracemq, server) = (Tracemq::new(), WebSocketPeer::python(&[]));
    let sub = tracemq.cmd(["sub", &server.url("/mixed"), "-C", "4", "--format", "json", "--show-pings"]);
    let got: Vec<_> = sub.finish().expect(0).lines().iter().map(|line| json(line)).collect();
    let fields = |at: usize| (got[at]["payload"].as_str(), got[at]["meta"]["type"].as_str());
    assert_eq!(fields(0), (Some("text é"), Some("text")));
    assert_eq!(fields(1), (Some("AP8B"), Some("binary")));
    assert_eq!(fields(2), (Some("in three parts"), Some("text")));
    assert_eq!(fields(3), (Some("are you there"), Some("ping")));
    assert_eq!(got[1]["encoding"], "base64");
    // Without the flag a ping is answered and not shown.
    let sub = tracemq.cmd(["sub", &server.url("/mixed"), "-C", "4", "-W", "2"]).finish().expect(5);
    assert_eq!(sub.lines().len(), 3, "{sub:?}");
}

#[test]
fn published_messages_arrive_as_text_or_binary() {
    let (tracemq, server) = (Tracemq::new(), WebSocketPeer::python(&[]));
    let url = server.url("/echo");
    tracemq.cmd(["pub", &url, "hello"]).finish().expect(0);
    server.run().wait_stdout("got text 5");
    tracemq.cmd(["pub", &url, "hello!", "--binary"]).finish().expect(0);
    server.run().wait_stdout("got binary 6");
    // What is no text is not sent as text.
    let file = tracemq.write("bytes", [0, 255, 1]);
    let command = |flags: &[&str]| tracemq.cmd(["pub", &url, "--file"]).arg(&file).args(flags);
    command(&[]).finish().expect_failure(1, &["utf-8", "--binary"]);
    command(&["--binary"]).finish().expect(0);
    server.run().wait_stdout("got binary 3");
}

#[test]
fn a_flood_of_lines_is_published_while_the_server_echoes_each() {
    let (tracemq, server) = (Tracemq::new(), WebSocketPeer::node());
    let lines: String = (0..30_000).map(|number| format!("line {number}\n")).collect();
    let done = tracemq.cmd(["pub", &server.url("/"), "--lines"]).stdin(lines).limit(LONG).finish();
    done.expect(0);
    server.run().wait_stdout("closed 1000");
}

#[test]
fn a_request_gets_one_answer() {
    let tracemq = Tracemq::new();
    for server in [WebSocketPeer::python(&[]), WebSocketPeer::node()] {
        let done = tracemq.cmd(["request", &server.url("/echo"), "what?", "--format", "json"]).finish();
        let answer = json(&done.expect(0).lines()[0]);
        assert_eq!((&answer["payload"], &answer["meta"]["type"]), (&"what?".into(), &"text".into()));
    }
    let server = WebSocketPeer::python(&[]);
    let silent = tracemq.cmd(["request", &server.url("/silent"), "what?", "-W", "1"]);
    silent.finish().expect(5);
    let closed = tracemq.cmd(["request", &server.url("/close?code=1000"), "what?", "--replies", "2"]);
    closed.finish().expect_failure(6, &["closed the connection with code 1000"]);
}

#[test]
fn a_ping_waits_for_its_answer() {
    let (tracemq, server) = (Tracemq::new(), WebSocketPeer::python(&[]));
    let done = tracemq.cmd(["pub", &server.url("/echo"), "are you there", "--ping", "--json"]).finish();
    let outcome = json(&done.expect(0).lines()[0]);
    assert_eq!(outcome["status"], "acknowledged");
    assert!(outcome["details"]["round_trip_ms"].as_f64().is_some_and(|took| took > 0.0), "{outcome}");
    tracemq.cmd(["pub", &server.url("/echo"), "unasked", "--pong"]).finish().expect(0);
    let long = "x".repeat(126);
    tracemq.cmd(["pub", &server.url("/echo"), &long, "--ping"]).finish().expect_failure(1, &["125"]);
    tracemq
        .cmd(["pub", &server.url("/echo"), "x", "--ping", "--binary"])
        .finish()
        .expect_failure(2, &["--ping"]);
}

#[test]
fn the_handshake_carries_what_was_asked_for() {
    let (tracemq, server) = (Tracemq::new(), WebSocketPeer::python(&["--subprotocol", "chat"]));
    let url = server.url("/headers?a=b");
    let sub = tracemq.cmd(["sub", &url, "-C", "1", "--format", "raw", "--ws-header", "X-One=1"]);
    let sub =
        sub.args(["--origin", "https://example.com", "--subprotocol", "other", "--subprotocol", "chat"]);
    let sub = sub.args(["--compression-window-bits", "10", "--compression-no-context-takeover"]);
    let headers = json(&sub.finish().expect(0).lines()[0]);
    let header = |name: &str| {
        let found = headers.as_object().unwrap().iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str().unwrap().to_owned()).unwrap_or_default()
    };
    assert_eq!(header("x-one"), "1");
    assert_eq!(header("origin"), "https://example.com");
    assert_eq!(header("sec-websocket-protocol"), "other, chat");
    let offer = header("sec-websocket-extensions");
    for part in ["server_max_window_bits=10", "client_max_window_bits=10", "server_no_context_takeover"] {
        assert!(offer.contains(part), "{offer}");
    }
    server.run().wait_stdout("client /headers chat");
    let plain = tracemq.cmd([
        "sub",
        &url,
        "-C",
        "1",
        "--format",
        "raw",
        "--subprotocol",
        "chat",
        "--compression=false",
    ]);
    assert!(!plain.finish().expect(0).text().contains("deflate"));
}

#[test]
fn basic_and_bearer_open_a_private_path() {
    let (tracemq, server) = (Tracemq::new(), WebSocketPeer::python(&[]));
    let url = server.url("/private");
    let command = || tracemq.cmd(["request", &url, "hello"]);
    command().args(["--username", "ann", "--password", "s3cret"]).finish().expect(0);
    command().env("SECRET", "t0ken").args(["--token", "env:SECRET"]).finish().expect(0);
    let with_user = url.replace("ws://", "ws://ann:s3cret@");
    tracemq.cmd(["request", &with_user, "hello"]).finish().expect(0);
    command().finish().expect_failure(4, &["401", "who are you?"]);
    let wrong = command().args(["--username", "ann", "--password", "wr0ng-one"]).finish();
    let wrong = wrong.expect_failure(4, &["401"]);
    assert!(!wrong.reason().contains("wr0ng-one"), "{wrong:?}");
}

#[test]
fn the_close_code_and_reason_that_were_asked_for_reach_the_server() {
    let (tracemq, server) = (Tracemq::new(), WebSocketPeer::python(&[]));
    let done =
        tracemq.cmd(["pub", &server.url("/echo"), "x", "--close-code", "4321", "--close-reason", "bye now"]);
    done.finish().expect(0);
    server.run().wait_stdout("closed 4321 bye now");
    tracemq
        .cmd(["pub", &server.url("/echo"), "x", "--close-code", "1006"])
        .finish()
        .expect_failure(2, &["1006"]);
}

#[test]
fn messages_are_compressed_both_ways_and_both_sizes_are_told() {
    let tracemq = Tracemq::new();
    let text = "the same again and ".repeat(200);
    for server in [WebSocketPeer::python(&[]), WebSocketPeer::node()] {
        let request = |flags: &[&str]| {
            let done =
                tracemq.cmd(["request", &server.url("/"), &text, "--format", "json"]).args(flags).finish();
            json(&done.expect(0).lines()[0])
        };
        for flags in [&[][..], &["--compression-window-bits", "9"], &["--compression-no-context-takeover"]] {
            let answer = request(flags);
            assert_eq!(answer["payload"], text.as_str());
            let size = |name: &str| answer["meta"][name].as_u64().unwrap_or_else(|| panic!("{answer}"));
            assert_eq!(size("size"), text.len() as u64);
            assert!(size("compressed_size") * 10 < size("size"), "{answer}");
        }
        assert!(request(&["--compression=false"])["meta"]["compressed_size"].is_null());
        let done = tracemq.cmd(["pub", &server.url("/"), &text, "--json"]).finish().expect(0);
        let sent = json(&done.lines()[0]);
        assert_eq!(sent["details"]["size"], text.len());
        assert!(sent["details"]["compressed_size"].as_u64().is_some_and(|size| size < 200), "{sent}");
    }
}

#[test]
fn tls_with_a_known_and_an_unknown_authority() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let server = WebSocketPeer::python_tls(&certificates.server);
    let url = server.url("/echo");
    let request = || tracemq.cmd(["request", &url, "hello"]);
    request().arg("--tls-ca").arg(&certificates.ca).finish().expect(0);
    request()
        .arg("--tls-ca")
        .arg(&certificates.other_ca)
        .finish()
        .expect_failure(3, &["trusted", "--tls-ca"]);
    let insecure = request().arg("--insecure-skip-verify").finish().expect(0);
    assert!(insecure.stderr.contains("--insecure-skip-verify"), "{insecure:?}");
}
