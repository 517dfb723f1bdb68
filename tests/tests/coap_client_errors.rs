//! `tracemq` against servers that are not there, say nothing, or say what no server may.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use tracemq_tests::{LONG, ScriptedCoap, Tracemq, coap_answer};

/// Few and quick retransmissions.
const QUICK: [&str; 4] = ["--ack-timeout", "0.2", "--max-retransmit", "3"];

/// A port at which nobody listens.
fn closed_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("a bound socket").port()
}

#[test]
fn where_nobody_listens_is_told_at_once() {
    let tracemq = Tracemq::new();
    let url = format!("coap://127.0.0.1:{}/a", closed_port());
    let start = Instant::now();
    for command in [&["request", &url][..], &["pub", &url, "x"], &["sub", &url], &["list", &url]] {
        tracemq.cmd(command).finish().expect_failure(3, &["unreachable", "port"]);
    }
    assert!(start.elapsed() < Duration::from_secs(20), "nothing was waited for");
}

#[test]
fn a_server_that_says_nothing_is_asked_again_and_given_up() {
    let tracemq = Tracemq::new();
    let server = ScriptedCoap::start(Box::new(|_, _, _, _| {}));
    let url = server.url("/a");
    let start = Instant::now();
    let request = tracemq.cmd(["request", &url, "-W", "60"]).args(QUICK).limit(LONG).finish();
    request.expect_failure(6, &["nobody answered", "3 times"]);
    // 0.2 s to 0.3 s, and three times the double.
    assert!(start.elapsed() >= Duration::from_secs(3), "{:?}", start.elapsed());
    let first = server.next();
    let rest = server.rest();
    assert_eq!((first[0] >> 4 & 3, rest.len()), (0, 3));
    assert!(rest.iter().all(|again| *again == first), "the same message each time");
    tracemq.cmd(["pub", &url, "x"]).args(QUICK).limit(LONG).finish().expect_failure(6, &["nobody answered"]);
    tracemq.cmd(["sub", &url]).args(QUICK).limit(LONG).finish().expect_failure(6, &["nobody answered"]);
    tracemq.cmd(["list", &url]).args(QUICK).limit(LONG).finish().expect_failure(6, &["nobody answered"]);
    // The user's patience ends before the protocol's.
    tracemq.cmd(["request", &url, "-W", "1"]).finish().expect_failure(5, &["no answer came in time"]);
    let silent = ["request", &url, "--non-confirmable", "--answer-timeout", "0.5"];
    tracemq.cmd(silent).finish().expect_failure(6, &["--answer-timeout"]);
}

#[test]
fn an_acknowledgement_without_an_answer_is_no_answer() {
    let tracemq = Tracemq::new();
    let server = ScriptedCoap::start(Box::new(|socket, from, request, _| {
        socket.send_to(&[0x60, 0, request[2], request[3]], from).expect("it can be sent");
    }));
    let request = tracemq.cmd(["request", &server.url("/a"), "--answer-timeout", "1", "-W", "60"]).finish();
    request.expect_failure(6, &["did not come in time"]);
    server.next();
    assert!(server.rest().is_empty(), "it was acknowledged: it is not sent again");
}

#[test]
fn a_lost_request_is_sent_again_and_counted() {
    let tracemq = Tracemq::new();
    let server = ScriptedCoap::start(Box::new(|socket, from, request, count| {
        if count == 2 {
            let answer = coap_answer(request, 2, 0x45, None, b"\xffhere");
            socket.send_to(&answer, from).expect("it can be sent");
        }
    }));
    let request = tracemq.cmd(["request", &server.url("/a"), "--format", "json"]).args(QUICK).finish();
    let answer = tracemq_tests::json(&request.expect(0).lines()[0]);
    assert_eq!((&answer["payload"], &answer["meta"]["retransmissions"]), (&"here".into(), &2.into()));
}

#[test]
fn what_is_no_answer_is_not_taken_for_one() {
    let tracemq = Tracemq::new();
    let server = ScriptedCoap::start(Box::new(|socket, from, request, _| {
        let send = |datagram: &[u8]| assert!(socket.send_to(datagram, from).is_ok());
        let good = |rest: &[u8]| coap_answer(request, 2, 0x45, None, rest);
        send(b"");
        send(&good(b"")[..6]);
        // Another version, a reserved token length, options that add up to more than 65535, or are cut off.
        let mut version = good(b"\xffbad");
        version[0] = version[0] & 0x3f | 0x80;
        send(&version);
        let mut length = good(b"\xffbad");
        length[0] |= 0x0f;
        send(&length);
        send(&good(b"\xe0\xff\xff\xe0\xff\xff\xffbad"));
        send(&good(b"\x0d"));
        send(&good(b"\x05ab"));
        send(&good(b"\xff"));
        // Larger than any message needs to be, of options without number.
        send(&good(&[0; 60_000]));
        // The answer to another request: its token, or its message id.
        let mut token = good(b"\xffbad");
        token[4] ^= 1;
        send(&token);
        send(&coap_answer(request, 2, 0x45, Some(!u16::from_be_bytes([request[2], request[3]])), b"\xffbad"));
        // From another port.
        let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        stranger.send_to(&good(b"\xffforged"), from).expect("it can be sent");
        // A ping, and a request, of all things.
        send(&[0x40, 0, 0x12, 0x34]);
        send(&[0x40, 1, 0x12, 0x35]);
        send(&good(b"\xffgood"));
        // The same once more is late.
        send(&good(b"\xffgood"));
    }));
    let request = tracemq.cmd(["request", &server.url("/a"), "--format", "raw"]).finish();
    assert_eq!(request.expect(0).lines(), ["good"]);
}

#[test]
fn answers_that_can_not_be_used_are_told_of() {
    let tracemq = Tracemq::new();
    // The options and payload of an answer, and what is said of it.
    for (rest, parts) in [
        // A critical option with a number that nobody knows.
        (&b"\xe0\xfc\xdc"[..], &["critical option 65001"][..]),
        // Blocks: the third at first, one of reserved size, one that is not full.
        (b"\xd1\x0a\x38\xff0123456789abcdef", &["block 3"]),
        (b"\xd1\x0a\x0f\xff0123456789abcdef", &["block option"]),
        (b"\xd1\x0a\x08\xffshort", &["not full"]),
        // A body of 4 GiB is announced.
        (b"\xd1\x0a\x08\x54\xff\xff\xff\xff\xff0123456789abcdef", &["longer than is allowed"]),
    ] {
        let rest = rest.to_vec();
        let server = ScriptedCoap::start(Box::new(move |socket, from, request, _| {
            let answer = coap_answer(request, 2, 0x45, None, &rest);
            socket.send_to(&answer, from).expect("it can be sent");
        }));
        tracemq.cmd(["request", &server.url("/a")]).finish().expect_failure(1, parts);
    }
    // A server that understands nothing.
    let server = ScriptedCoap::start(Box::new(|socket, from, request, _| {
        socket.send_to(&[0x70, 0, request[2], request[3]], from).expect("it can be sent");
    }));
    tracemq.cmd(["request", &server.url("/a")]).finish().expect_failure(1, &["RST"]);
    tracemq.cmd(["pub", &server.url("/a"), "x"]).finish().expect_failure(1, &["RST"]);
    // A list of resources that is none.
    let server = ScriptedCoap::start(Box::new(|socket, from, request, _| {
        let answer = coap_answer(request, 2, 0x45, None, b"\xc1\x28\xffno links at all");
        socket.send_to(&answer, from).expect("it can be sent");
    }));
    tracemq.cmd(["list", &server.url("")]).finish().expect_failure(1, &["list of resources"]);
}

#[test]
fn blocks_out_of_order_end_a_transfer() {
    let tracemq = Tracemq::new();
    let server = ScriptedCoap::start(Box::new(|socket, from, request, count| {
        // Block 0 of 16 bytes with more to come, and then block 2.
        let block = if count == 0 { 0x08 } else { 0x28 };
        let rest = [&[0xd1, 0x0a, block, 0xff][..], b"0123456789abcdef"].concat();
        let answer = coap_answer(request, 2, 0x45, None, &rest);
        socket.send_to(&answer, from).expect("it can be sent");
    }));
    tracemq.cmd(["request", &server.url("/a")]).finish().expect_failure(1, &["block 2", "1 was asked for"]);
    // The other way round: the server loses track of what it gets.
    let server = ScriptedCoap::start(Box::new(|socket, from, request, _| {
        let answer = coap_answer(request, 2, 0x88, None, b"\xffwhere is the rest");
        socket.send_to(&answer, from).expect("it can be sent");
    }));
    let long = "x".repeat(3000);
    let request = tracemq.cmd(["pub", &server.url("/a"), &long]).finish();
    request.expect_failure(1, &["4.08 Request Entity Incomplete", "where is the rest"]);
}

#[test]
fn many_lines_go_on_behind_one_that_is_refused() {
    let tracemq = Tracemq::new();
    let server = ScriptedCoap::start(Box::new(|socket, from, request, count| {
        let (code, rest) = if count == 1 { (0x84, &b"\xffgone"[..]) } else { (0x44, &b""[..]) };
        let answer = coap_answer(request, 2, code, None, rest);
        socket.send_to(&answer, from).expect("it can be sent");
    }));
    let lines = tracemq.cmd(["pub", &server.url("/a"), "--lines"]).stdin("1\n2\n3\n").finish();
    lines.expect_failure(1, &["1 of 3", "4.04 Not Found: gone"]);
}
