//! `tracemq serve websocket` with clients that this project did not write: Python's `websockets`, npm's `ws`, Chromium, and
//! sockets that send what no library would.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tracemq_tests::{Certificates, Cmd, LONG, Run, Tracemq, json, peer_script, until};

/// `tracemq serve websocket …` on a free port, and its address.
fn serve(tracemq: &Tracemq, arguments: &[&str]) -> (Run, String) {
    let serve = tracemq.cmd(["serve", "websocket", "--bind", "127.0.0.1:0"]).args(arguments).start();
    let address = serve.wait_stdout("://");
    (serve, address)
}

fn python(url: &str, arguments: &[&str]) -> Run {
    Cmd::python().arg(peer_script("websocket_client.py")).arg(url).args(arguments).keep_stdin().start()
}

fn node(url: &str, arguments: &[&str]) -> Run {
    Cmd::node().arg(peer_script("websocket_client.js")).arg(url).args(arguments).keep_stdin().start()
}

#[test]
fn it_echoes_and_shows_messages_and_who_comes_and_goes() {
    let tracemq = Tracemq::new();
    let (serve, url) = serve(&tracemq, &["--json"]);
    let url = json(&url)["url"].as_str().expect("a URL").to_owned();
    for (number, start) in [python, node].into_iter().enumerate() {
        let number = number + 1;
        let mut client = start(&url, &[]);
        client.wait_stdout("\"open\"");
        client.write("hello\n");
        client.wait_stdout("\"hello\"");
        let message = json(&serve.wait_stdout_by(Duration::from_secs(20), "the message", &|line| {
            line.contains("hello") && line.contains(&format!("\"client\":\"{number}\""))
                || line.contains(&format!("\"topic\":\"{number}\""))
        }));
        assert_eq!((&message["payload"], &message["topic"]), (&"hello".into(), &number.to_string().into()));
        assert_eq!(message["meta"]["type"], "text");
        assert_eq!(message["meta"]["size"], 5);
        assert!(message["meta"]["compressed_size"].as_u64().is_some(), "{message}");
        client.write("close 4005\n");
        client.wait().expect(0);
        let gone = json(&serve.wait_stderr("\"reason\":\"closed the connection with code 4005: as told\""));
        assert_eq!(gone["event"], "client-disconnected");
        let come = json(&serve.wait_stderr("client-connected"));
        assert_eq!(come["details"]["compression"], true, "{come}");
    }
    serve.interrupt().expect(0);
}

#[test]
fn text_binary_empty_and_large_messages_come_back_unchanged() {
    let tracemq = Tracemq::new();
    let (_serve, url) = serve(&tracemq, &[]);
    for flags in [&[][..], &["--no-compression"]] {
        let mut client = python(&url, flags);
        client.write("é\n\nbig 3000000\n");
        client.wait_stdout("\"\\u00e9\"");
        client.wait_stdout("\"message\": \"\"");
        client.wait_stdout_by(LONG, "the large message", &|line| line.len() > 3_000_000);
    }
    let mut client = node(&url, &[]);
    client.wait_stdout("\"open\"");
    client.write("binary\nping\n");
    client.wait_stdout("{\"message\":\"00ff01\",\"binary\":true}");
    client.wait_stdout("{\"pong\":\"hello\"}");
}

#[test]
fn a_broadcast_reaches_all_others() {
    let tracemq = Tracemq::new();
    let (_serve, url) = serve(&tracemq, &["--mode", "broadcast"]);
    let (mut first, second, third) = (python(&url, &[]), node(&url, &[]), python(&url, &[]));
    for client in [&first, &second, &third] {
        client.wait_stdout("\"open\"");
    }
    first.write("to whom it may concern\n");
    second.wait_stdout("to whom it may concern");
    third.wait_stdout("to whom it may concern");
    assert!(!first.stdout().contains("concern"), "{first:?}");
}

#[test]
fn answers_from_a_template() {
    let tracemq = Tracemq::new();
    let file = tracemq
        .write("reply", "{\"id\": {{ json.id }}, \"n\": {{ number }}, \"of\": \"{{ client }}{{ path }}\"}\n");
    let (serve, url) =
        serve(&tracemq, &["--mode", "reply", "--reply-file", file.to_str().expect("a path of ours")]);
    let mut client = python(&format!("{url}/rpc?x=1"), &[]);
    client.write("{\"id\": 7}\n");
    client.wait_stdout(r#"{\"id\": 7, \"n\": 1, \"of\": \"1/rpc?x=1\"}"#);
    client.write("not json\n");
    serve.wait_stderr("--reply-file");
    client.write("{\"id\": 8}\n");
    client.wait_stdout(r#"{\"id\": 8, \"n\": 3"#);
    let wrong = tracemq.write("wrong", "{{ oops");
    let wrong = tracemq.cmd(["serve", "websocket", "--mode", "reply", "--reply-file"]).arg(&wrong);
    wrong.finish().expect_failure(2, &["--reply-file", "line 1"]);
}

#[test]
fn only_those_may_come_who_should() {
    let tracemq = Tracemq::new();
    let rules =
        ["--user", "ann=s3cret", "--subprotocol", "chat", "--origin", "https://example.com", "--path", "/ws"];
    let (serve, url) = serve(&tracemq, &rules);
    assert!(url.ends_with("/ws"), "{url}");
    let ann = "Authorization=Basic YW5uOnMzY3JldA==";
    let enter = |url: &str, arguments: &[&str]| {
        let client = python(url, arguments);
        client.wait_stdout_by(Duration::from_secs(20), "an answer", &|line| line.starts_with('{'))
    };
    let come_in = enter(&url, &["--subprotocol", "chat", ann, "Origin=https://example.com"]);
    assert_eq!(json(&come_in)["protocol"], "chat", "{come_in}");
    assert!(enter(&url, &["--subprotocol", "chat", ann]).contains("open"), "no origin is no page of another");
    for (url, arguments, status, why) in [
        (&url, &["--subprotocol", "chat"][..], 401, "password"),
        (&url, &["--subprotocol", "chat", "Authorization=Basic YW5uOndyMG5n"], 401, "wrong"),
        (&url, &["--subprotocol", "mail", ann], 400, "chat"),
        (&url, &["--subprotocol", "chat", ann, "Origin=https://evil.example"], 403, "evil.example"),
        (&url.replace("/ws", "/other"), &["--subprotocol", "chat", ann], 404, "/other"),
    ] {
        let refusal = json(&enter(url, arguments));
        assert_eq!(refusal["refused"], status, "{refusal}");
        assert!(refusal["body"].as_str().is_some_and(|body| body.contains(why)), "{refusal}");
        serve.wait_stderr(why);
    }
    assert!(!serve.stderr().contains("s3cret") && !serve.stderr().contains("wr0ng"), "{serve:?}");
}

#[test]
fn tls_with_a_client_that_checks_it() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let path = |path: &std::path::Path| path.to_str().expect("a path of ours").to_owned();
    let (cert, key) = (path(&certificates.server.cert), path(&certificates.server.key));
    let (_serve, url) = serve(&tracemq, &["--tls-cert", &cert, "--tls-key", &key]);
    assert!(url.starts_with("wss://"), "{url}");
    let mut client = python(&url, &["--ca", &path(&certificates.ca)]);
    client.write("hello\n");
    client.wait_stdout("\"hello\"");
}

/// A socket that has done the handshake.
fn opened(url: &str) -> TcpStream {
    let address = url.trim_start_matches("ws://");
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .expect("the server reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the server answers");
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    // The example of RFC 6455 section 1.3.
    assert!(head.contains("101") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    stream
}

#[test]
fn clients_that_break_the_rules_are_told_the_code_and_go() {
    let tracemq = Tracemq::new();
    let (serve, url) = serve(&tracemq, &["--max-message-size", "64KiB"]);
    // Masked with zeroes, so that the payload stands as it is.
    let masked =
        |first: u8, payload: &[u8]| [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat();
    let mut bomb = masked(0x02, &[b'x'; 125]);
    for _ in 0..1000 {
        bomb.extend_from_slice(&masked(0x00, &[b'x'; 125]));
    }
    for (frames, code) in [
        (masked(0x81, b"\xff\xfe"), 1007_u16),
        (b"\x81\x02hi".to_vec(), 1002),
        (masked(0xc1, b"hi"), 1002),
        (masked(0x80, b"hi"), 1002),
        (masked(0x83, b"hi"), 1002),
        (b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec(), 1009),
        (bomb, 1009),
    ] {
        let mut client = opened(&url);
        // The server may be gone before it has all.
        drop(client.write_all(&frames));
        let mut head = [0; 4];
        client.read_exact(&mut head).unwrap_or_else(|error| panic!("{code}: {error}"));
        assert_eq!((head[0], u16::from_be_bytes([head[2], head[3]])), (0x88, code));
        serve.wait_stderr(&format!("closed with {code}"));
    }
    // One that never finishes its handshake, or speaks something else, is no client.
    let mut other = TcpStream::connect(url.trim_start_matches("ws://")).expect("the server listens");
    other.write_all(b"EHLO mail.example\r\n\r\n").expect("the server reads");
    serve.wait_stderr("no WebSocket handshake");
    let mut client = python(&url, &[]);
    client.write("still there?\n");
    client.wait_stdout("still there?");
}

#[test]
fn a_slow_client_is_cut_off_and_costs_the_others_nothing() {
    let tracemq = Tracemq::new();
    let (serve, url) = serve(&tracemq, &["--mode", "broadcast", "--format", "{{ topic }}"]);
    // It reads nothing but its handshake.
    let _slow = opened(&url);
    let mut sender = python(&url, &["--no-compression"]);
    sender.wait_stdout("\"open\"");
    let before = serve.resident_kib();
    let receiver = node(&url, &[]);
    receiver.wait_stdout("\"open\"");
    let mut sent = 0;
    let cut = until(LONG, || {
        sender.write("big 1000000\n");
        sent += 1;
        // One after the other: only the slow one is to lag.
        receiver.wait_stdout_lines(1 + sent, LONG);
        serve.stderr().contains("too slow").then_some(())
    });
    assert!(cut.is_some(), "the slow client was not cut off after {sent} MB");
    serve.wait_stderr("client 1 ");
    sender.write("the end\n");
    receiver.wait_stdout("the end");
    let after = serve.resident_kib();
    assert!(after < before + 128 * 1024, "memory grew from {before} to {after} KiB");
}

#[test]
fn a_client_that_answers_no_ping_is_given_up() {
    let tracemq = Tracemq::new();
    let (serve, url) = serve(&tracemq, &["--ping-interval", "3s"]);
    let mut mute = opened(&url);
    let mut client = python(&url, &[]);
    client.wait_stdout("\"open\"");
    let gone = serve.wait_stderr("disconnected");
    assert!(gone.contains("client 1 ") && gone.contains("--ping-interval"), "{gone}");
    let mut told = Vec::new();
    drop(mute.read_to_end(&mut told));
    assert!(told.starts_with(b"\x89\x07tracemq"), "{told:?}");
    // One that answers stays.
    client.write("still here\n");
    client.wait_stdout("still here");
}

#[test]
fn clients_agree_to_the_compression_that_is_asked_for() {
    let tracemq = Tracemq::new();
    for (flags, agreed) in [
        (&["--compression-window-bits", "10"][..], "remote_max_window_bits=10, local_max_window_bits=10"),
        (
            &["--compression-no-context-takeover"],
            "remote_no_context_takeover=True, local_no_context_takeover=True",
        ),
        (&["--compression=false"], "\"extensions\": []"),
    ] {
        let (_serve, url) = serve(&tracemq, flags);
        let mut client = python(&url, &[]);
        let open = client.wait_stdout("\"open\"");
        assert!(open.contains(agreed), "{flags:?}: {open}");
        let text = "the same again and ".repeat(200);
        for _ in 0..3 {
            client.write(&format!("{text}\n"));
        }
        client.wait_stdout_lines(4, LONG);
        assert!(client.stdout().matches(&text).count() == 3, "{client:?}");
    }
}

#[test]
fn stopping_says_going_away() {
    let tracemq = Tracemq::new();
    let (serve, url) = serve(&tracemq, &[]);
    let (first, second) = (python(&url, &[]), node(&url, &[]));
    first.wait_stdout("\"open\"");
    second.wait_stdout("\"open\"");
    serve.interrupt().expect(0);
    for client in [first, second] {
        let closed = client.wait_stdout("\"closed\"");
        assert_eq!(json(&closed)["closed"], 1001, "{closed}");
    }
}

#[test]
fn a_browser_connects_with_compression() {
    let tracemq = Tracemq::new();
    let (serve, url) = serve(&tracemq, &["--json"]);
    let url = json(&url)["url"].as_str().expect("a URL").to_owned();
    let page = format!("file://{}#{url} chat", peer_script("websocket_page.html").display());
    let profile = tracemq.home().join("browser");
    let browser = Cmd::peer("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(page)
        .start();
    let line = serve.wait_stdout_by(LONG, "the browser's report", &|line| line.contains("report {"));
    let line = json(&line);
    let report =
        json(line["payload"].as_str().and_then(|text| text.strip_prefix("report ")).expect("a report"));
    assert_eq!(
        (&report["protocol"], &report["first"], &report["long"], &report["third"]),
        (&"chat".into(), &"first".into(), &true.into(), &"0,255,1".into())
    );
    assert!(
        report["extensions"].as_str().is_some_and(|text| text.contains("permessage-deflate")),
        "{report}"
    );
    serve.wait_stderr("closed the connection with code 4000: seen enough");
    // Asked to end, it ends its own children too.
    browser.signal(libc::SIGTERM);
    browser.wait();
    let long = json(&serve.wait_stdout("the same again"));
    let size = |name: &str| long["meta"][name].as_u64().unwrap_or_else(|| panic!("{long}"));
    assert!(size("compressed_size") * 10 < size("size"), "{long}");
    let come = json(&serve.wait_stderr("client-connected"));
    assert_eq!(
        (&come["details"]["compression"], &come["details"]["subprotocol"]),
        (&true.into(), &"chat".into())
    );
}

#[test]
fn lines_go_to_all_clients_or_to_one() {
    let tracemq = Tracemq::new();
    let start = |topic: &[&str]| {
        let serve = tracemq.cmd(["serve", "websocket", "--bind", "127.0.0.1:0", "--lines"]).args(topic);
        let serve = serve.keep_stdin().start();
        let url = serve.wait_stdout("://");
        let clients = [python(&url, &[]), node(&url, &[])];
        clients.iter().for_each(|client| drop(client.wait_stdout("\"open\"")));
        serve.wait_stderr("client 2 ");
        (serve, clients)
    };
    let (mut serve, clients) = start(&[]);
    serve.write("to all of you\n");
    clients.iter().for_each(|client| drop(client.wait_stdout("to all of you")));
    let (mut serve, clients) = start(&["2"]);
    serve.write("to one of you\n");
    let heard = until(Duration::from_secs(20), || {
        let heard: Vec<_> = clients.iter().filter(|client| client.stdout().contains("one of you")).collect();
        (!heard.is_empty()).then_some(heard.len())
    });
    assert_eq!(heard, Some(1));
    let mut nobody =
        tracemq.cmd(["serve", "websocket", "--bind", "127.0.0.1:0", "--lines", "7"]).keep_stdin().start();
    nobody.wait_stdout("://");
    nobody.write("anybody?\n");
    nobody.wait_stderr("there is no client 7");
    nobody.close_stdin();
    assert_eq!(until(Duration::from_secs(1), || (!nobody.alive()).then_some(())), None, "{nobody:?}");
    nobody.interrupt().expect(0);
}
