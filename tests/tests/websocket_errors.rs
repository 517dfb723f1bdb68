//! Servers that refuse, break off or break the rules: what is wrong is told, the server is told with the right close code,
//! and the exit status fits.

use std::time::Duration;
use tracemq_tests::{FaultyServer, HostileWebSocket, LONG, Tracemq, WebSocketPeer, free_port, json, until};

#[test]
fn a_handshake_that_is_refused_shows_status_and_body() {
    let (tracemq, server) = (Tracemq::new(), WebSocketPeer::python(&[]));
    let sub = |path: &str| tracemq.cmd(["sub", &server.url(path)]).finish();
    sub("/refuse401").expect_failure(4, &["401", "no such user"]);
    sub("/refuse403").expect_failure(4, &["403", "not for you"]);
    sub("/refuse503").expect_failure(3, &["503", "come back later"]);
    tracemq.cmd(["pub", &server.url("/refuse401"), "x"]).finish().expect_failure(4, &["401"]);
    tracemq.cmd(["request", &server.url("/refuse403"), "x"]).finish().expect_failure(4, &["403"]);
}

#[test]
fn what_is_no_websocket_server() {
    let tracemq = Tracemq::new();
    let sub = |port: u16, flags: &[&str]| {
        tracemq.cmd(["sub", &format!("ws://127.0.0.1:{port}/")]).args(flags).finish()
    };
    let port = free_port();
    sub(port, &[]).expect_failure(3, &[&port.to_string(), "refused"]);
    let page = FaultyServer::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    sub(page.port(), &[]).expect_failure(3, &["200", "hello", "path"]);
    let other = FaultyServer::answering(b"220 mail.example ESMTP\r\n");
    sub(other.port(), &[]).expect_failure(3, &["HTTP"]);
    sub(FaultyServer::closing().port(), &[]).expect_failure(3, &["handshake"]);
    sub(FaultyServer::silent().port(), &["--connect-timeout", "1"]).expect_failure(3, &["1s"]);
}

#[test]
fn a_subprotocol_that_the_server_does_not_have() {
    let tracemq = Tracemq::new();
    let server = WebSocketPeer::python(&["--subprotocol", "chat"]);
    let sub = tracemq.cmd(["sub", &server.url("/echo"), "--subprotocol", "mail"]);
    sub.finish().expect_failure(3, &["400", "subprotocol", "chat"]);
    // One that has none takes the connection, and must not get it.
    let server = WebSocketPeer::python(&[]);
    let sub = tracemq.cmd(["sub", &server.url("/echo"), "--subprotocol", "mail"]);
    sub.finish().expect_failure(3, &["subprotocol", "mail", "agrees to none"]);
}

/// What a server sends, the close code that it gets for it, and what is told of it.
fn violation(frames: Vec<u8>, code: u16, parts: &[&str]) {
    let (tracemq, server) = (Tracemq::new(), HostileWebSocket::sending(frames));
    let sub = tracemq.cmd(["sub", &server.url(), "--max-message-size", "64KiB"]).finish();
    sub.expect_failure(1, parts);
    assert_eq!(server.close_code(), Some(code));
}

#[test]
fn text_that_is_not_utf_8() {
    violation(b"\x81\x03\x61\xff\xfe".to_vec(), 1007, &["utf-8", "1007"]);
}

#[test]
fn a_character_that_is_cut_off_by_the_end_of_its_message() {
    violation(b"\x01\x01\xc3\x80\x01a".to_vec(), 1007, &["utf-8", "1007"]);
}

#[test]
fn a_masked_frame_of_a_server() {
    violation(b"\x81\x83\x01\x02\x03\x04\x60\x60\x60".to_vec(), 1002, &["masked", "1002"]);
}

#[test]
fn a_message_over_the_limit() {
    let mut frame = b"\x82\x7f".to_vec();
    frame.extend_from_slice(&(70_000_u64).to_be_bytes());
    frame.resize(frame.len() + 70_000, b'x');
    violation(frame, 1009, &["65536", "--max-message-size", "1009"]);
}

#[test]
fn a_frame_that_claims_to_be_longer_than_any_memory() {
    violation(b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff".to_vec(), 1009, &["--max-message-size"]);
}

#[test]
fn a_bomb_of_fragments() {
    let mut frames = b"\x02\x7e\x03\xe8".to_vec();
    frames.resize(frames.len() + 1000, b'x');
    for _ in 0..100 {
        frames.extend_from_slice(b"\x00\x7e\x03\xe8");
        frames.resize(frames.len() + 1000, b'x');
    }
    violation(frames, 1009, &["65536", "--max-message-size", "1009"]);
}

#[test]
fn fragments_reserved_bits_and_operations_out_of_order() {
    violation(b"\x80\x01a".to_vec(), 1002, &["1002"]);
    violation(b"\x01\x01a\x81\x01b".to_vec(), 1002, &["1002"]);
    violation(b"\xc1\x01a".to_vec(), 1002, &["reserved", "1002"]);
    violation(b"\x83\x01a".to_vec(), 1002, &["1002"]);
    let mut long_ping = b"\x89\x7e\x00\x7e".to_vec();
    long_ping.resize(4 + 126, b'x');
    violation(long_ping, 1002, &["1002"]);
}

#[test]
fn what_came_before_a_violation_is_shown() {
    let (tracemq, server) = (Tracemq::new(), HostileWebSocket::sending(b"\x81\x02hi\x81\x01\xff".to_vec()));
    let sub = tracemq.cmd(["sub", &server.url()]).finish().expect_failure(1, &["utf-8"]);
    assert_eq!(sub.lines(), ["hi"]);
}

#[test]
fn the_servers_close_code_and_reason_decide_the_end() {
    let (tracemq, server) = (Tracemq::new(), WebSocketPeer::python(&[]));
    let sub = |query: &str, flags: &[&str]| {
        let done = tracemq.cmd(["sub", &server.url(&format!("/close?{query}"))]).args(flags).finish();
        assert_eq!(done.lines(), ["before"], "{done:?}");
        done
    };
    let once = &["--no-reconnect"][..];
    let normal = sub("code=1000&reason=all+said", &["--no-reconnect", "-v"]).expect(0);
    assert!(normal.stderr.contains("1000") && normal.stderr.contains("all said"), "{normal:?}");
    sub("code=1001", once).expect(0);
    sub("code=4001&reason=on+strike", once).expect_failure(1, &["4001", "on strike"]);
    // These are not asked again, whatever the flags: it would come to the same.
    sub("code=1008&reason=not+you", &[]).expect_failure(4, &["1008", "policy", "not you"]);
    sub("code=3000", &[]).expect_failure(4, &["3000", "unauthorized"]);
    sub("code=1003", &[]).expect_failure(1, &["1003"]);
}

#[test]
fn a_message_that_the_server_does_not_take() {
    let (tracemq, server) = (Tracemq::new(), WebSocketPeer::python(&["--max-size", "1000"]));
    let lines = format!("small\n{}\n", "x".repeat(5000));
    let done = tracemq.cmd(["pub", &server.url("/echo"), "--lines"]).stdin(lines).finish();
    done.expect_failure(1, &["1009", "message too big"]);
}

#[test]
fn a_server_that_refuses_what_it_was_sent_fails_the_publishing() {
    let (tracemq, server) = (Tracemq::new(), WebSocketPeer::python(&[]));
    let publish = |query: &str| {
        let two = ["--repeat", "2", "--interval", "1s"];
        tracemq.cmd(["pub", &server.url(&format!("/refuse?{query}")), "x"]).args(two).finish()
    };
    publish("code=1008&reason=not+you").expect_failure(4, &["1008", "policy", "not you"]);
    publish("code=1003").expect_failure(1, &["1003", "unsupported data"]);
}

#[test]
fn a_connection_that_breaks_is_made_again_and_told_of() {
    let tracemq = Tracemq::new();
    let server = WebSocketPeer::python(&[]);
    let sub = tracemq.cmd(["sub", &server.url("/abort")]).start();
    sub.wait_stdout_lines(3, Duration::from_secs(20));
    sub.wait_stderr("reconnecting");
    sub.wait_stderr("connected to");
    sub.interrupt().expect(130);
    let once = tracemq.cmd(["sub", &server.url("/abort"), "--no-reconnect"]).finish();
    once.expect_failure(1, &["goodbye"]);
}

#[test]
fn a_server_that_is_gone_for_a_while_is_found_again() {
    let tracemq = Tracemq::new();
    let port = free_port().to_string();
    let server = WebSocketPeer::python(&["--port", &port]);
    let url = server.url("/push?count=1");
    let sub = tracemq.cmd(["sub", &url]).start();
    sub.wait_stdout_lines(1, Duration::from_secs(20));
    drop(server);
    sub.wait_stderr("next attempt in");
    let server = WebSocketPeer::python(&["--port", &port]);
    sub.wait_stdout_lines(2, Duration::from_secs(60));
    drop(server);
    sub.interrupt().expect(130);
}

#[test]
fn what_is_sent_in_the_moment_of_the_loss_is_sent_again_or_the_loss_is_told() {
    let (tracemq, port) = (Tracemq::new(), free_port().to_string());
    let mut server = WebSocketPeer::python(&["--port", &port]);
    let publishing = tracemq.cmd(["pub", &server.url("/echo"), "--lines", "--json"]).keep_stdin().limit(LONG);
    let mut publishing = publishing.start();
    publishing.write("before\n");
    publishing.wait_stdout_lines(1, LONG);
    server.run().wait_stdout("got text 6");
    for count in 2..6 {
        publishing.signal(libc::SIGSTOP);
        server.run().signal(libc::SIGKILL);
        drop(server);
        publishing.write("meanwhile\n");
        publishing.signal(libc::SIGCONT);
        let told = until(LONG, || {
            (publishing.stderr().matches("; reconnecting").count() + 1 >= count).then_some(())
        });
        assert!(told.is_some(), "{publishing:?}");
        server = WebSocketPeer::python(&["--port", &port]);
        publishing.wait_stdout_lines(count, LONG);
    }
    publishing.close_stdin();
    let done = publishing.wait();
    let told = done.lines().iter().filter(|line| json(line)["status"] == "unconfirmed").count();
    done.expect(i32::from(told > 0));
}

#[test]
fn silence_ends_a_connection_that_must_not_be_silent() {
    let (tracemq, server) = (Tracemq::new(), WebSocketPeer::python(&[]));
    let idle = tracemq.cmd(["sub", &server.url("/silent"), "--no-reconnect", "--ping-interval", "0"]);
    idle.args(["--idle-timeout", "500ms"]).finish().expect_failure(1, &["500ms", "--idle-timeout"]);
    // It reads nothing, so it answers no ping.
    let mute = HostileWebSocket::sending(b"\x81\x02hi".to_vec());
    let sub = tracemq.cmd(["sub", &mute.url(), "--no-reconnect", "--ping-interval", "300ms"]).finish();
    sub.expect_failure(1, &["--ping-interval"]);
    // A server that answers pings may be silent otherwise.
    let mut sub = tracemq.cmd(["sub", &server.url("/silent"), "--ping-interval", "100ms"]).start();
    sub.wait_stderr("subscribed");
    assert_eq!(until(Duration::from_secs(2), || (!sub.alive()).then_some(())), None, "{sub:?}");
    assert!(!sub.stderr().contains("reconnecting"), "{sub:?}");
}

#[test]
fn options_that_do_not_fit_are_refused_before_anything_is_opened() {
    let (tracemq, port) = (Tracemq::new(), free_port());
    let (ws, tcp) = (format!("ws://127.0.0.1:{port}"), format!("tcp://127.0.0.1:{port}"));
    for (arguments, parts) in [
        (&["sub", &ws, "topic"][..], &["TOPIC"][..]),
        (&["sub", &ws, "--framing", "line"], &["--framing"]),
        (&["sub", &tcp, "--framing", "lines"], &["--framing", "length4"]),
        (&["sub", &tcp, "--origin", "x"], &["--origin"]),
        (&["sub", &tcp, "--show-pings"], &["--show-pings"]),
        (&["pub", &tcp, "x", "--binary"], &["--binary"]),
        (&["pub", &ws, "x", "--token", "a", "--username", "b"], &["--token"]),
        (&["pub", &ws, "x", "--compression-window-bits", "8"], &["--compression-window-bits"]),
        (&["sub", "tcp://127.0.0.1"], &["port"]),
        (&["sub", &format!("{tcp}/path")], &["path"]),
    ] {
        tracemq.cmd(arguments).finish().expect_failure(2, parts);
    }
    let server = WebSocketPeer::python(&[]);
    tracemq.cmd(["pub", &server.url("/echo"), "a-topic", "x"]).finish().expect_failure(1, &["topic"]);
}
