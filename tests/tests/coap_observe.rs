//! `tracemq sub` on CoAP: observing servers that this project did not write, and one that breaks the rules.

use std::net::UdpSocket;
use std::sync::{Arc, Mutex};

use tracemq_tests::{CoapServer, LONG, ScriptedCoap, Tracemq, coap_answer, json, until};

/// Observe 0, as it stands before Uri-Path in a registration; and 1, of a deregistration.
const REGISTER: u8 = 0x60;
const DEREGISTER: [u8; 2] = [0x61, 0x01];

/// The options of a request, behind its token.
fn options(request: &[u8]) -> &[u8] {
    &request[4 + usize::from(request[0] & 15)..]
}

#[test]
fn notifications_are_shown_until_the_end_which_the_server_is_told() {
    let (tracemq, server) = (Tracemq::new(), CoapServer::aiocoap());
    let sub = tracemq.cmd(["sub", &server.url("/ticks"), "-C", "5", "--format", "json"]);
    let got: Vec<_> = sub.limit(LONG).finish().expect(0).lines().iter().map(|line| json(line)).collect();
    let numbers: Vec<_> = got.iter().map(|line| line["meta"]["observe"].as_u64().unwrap_or(0)).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    assert_eq!(got[0]["meta"]["type"], "ACK");
    assert_eq!(got[1]["meta"]["type"], "CON");
    assert!(got.iter().all(|line| line["topic"] == "/ticks"));
    server.run().wait_stdout("observers 0");
}

#[test]
fn several_resources_in_one_subscription() {
    let (tracemq, server) = (Tracemq::new(), CoapServer::aiocoap());
    let mut sub = tracemq.cmd(["sub", &server.url(""), "/ticks", "/big-ticks", "--format", "json"]).start();
    let both =
        || ["\"/ticks\"", "\"/big-ticks\""].iter().all(|topic| sub.stdout().matches(topic).count() > 2);
    assert!(until(LONG, || both().then_some(())).is_some(), "{sub:?}");
    assert!(sub.alive());
    let done = sub.interrupt();
    for line in done.lines() {
        let line = json(&line);
        if line["topic"] == "/big-ticks" {
            assert!(line["payload"].as_str().is_some_and(|text| text.len() >= 3002), "{line}");
        }
    }
    let left = || server.run().stdout().matches("observers 0").count() == 2;
    assert!(until(LONG, || left().then_some(())).is_some(), "{:?}", server.run());
}

#[test]
fn a_notification_that_does_not_fit_is_fetched_whole() {
    let (tracemq, server) = (Tracemq::new(), CoapServer::libcoap(&[]));
    let url = server.url("/example_data");
    let put = |letter: &str| {
        let file = tracemq.write("body", letter.repeat(5000));
        tracemq.cmd(["pub", &url, "--file"]).arg(&file).finish().expect(0);
    };
    put("a");
    let sub = tracemq.cmd(["sub", &url, "-C", "2", "--format", "json"]).limit(LONG).start();
    sub.wait_stdout("aaaa");
    put("b");
    let done = sub.wait().expect(0);
    let last = json(&done.lines()[1]);
    assert_eq!(last["payload"].as_str(), Some("b".repeat(5000).as_str()));
    assert_eq!(last["meta"]["blocks"], 5);
}

#[test]
fn a_server_that_does_not_observe_is_told_of() {
    let (tracemq, server) = (Tracemq::new(), CoapServer::aiocoap());
    let done = tracemq.cmd(["sub", &server.url("/hello")]).finish();
    let done = done.expect_failure(1, &["does not let /hello be observed", "request"]);
    assert_eq!(done.lines(), ["/hello hello"], "its only answer is shown");
    tracemq.cmd(["sub", &server.url("/nothing")]).finish().expect_failure(1, &["4.04 Not Found"]);
    tracemq.cmd(["sub", &server.url("/code?4.01")]).finish().expect_failure(4, &["4.01 Unauthorized"]);
    // The others of the subscription go on.
    let sub = tracemq.cmd(["sub", &server.url(""), "/nothing", "/ticks", "-C", "3"]).finish().expect(0);
    assert_eq!(sub.lines().len(), 3);
    assert!(sub.stderr.contains("/nothing: the server answered 4.04"), "{}", sub.stderr);
}

/// Sends a notification: Observe and Max-Age of the given values, then the payload.
fn notify(
    socket: &UdpSocket,
    to: std::net::SocketAddr,
    registration: &[u8],
    id: u16,
    number: u8,
    text: &str,
) {
    let kind = if id == 0 { 2 } else { 1 };
    let rest = [&[0x61, number, 0x81, 2, 0xff][..], text.as_bytes()].concat();
    let datagram = coap_answer(registration, kind, 0x45, (id > 0).then_some(id), &rest);
    socket.send_to(&datagram, to).expect("it can be sent");
}

#[test]
fn old_doubled_and_forged_notifications_are_not_shown() {
    let tracemq = Tracemq::new();
    let server = ScriptedCoap::start(Box::new(|socket, from, request, count| {
        if count > 0 {
            return;
        }
        notify(socket, from, request, 0, 5, "first");
        notify(socket, from, request, 100, 7, "second");
        // Overtaken, the same again, the same message again.
        notify(socket, from, request, 101, 6, "old");
        notify(socket, from, request, 102, 7, "again");
        notify(socket, from, request, 100, 7, "second");
        // Somebody else knows the token.
        let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        notify(&stranger, from, request, 103, 9, "forged");
        notify(socket, from, request, 104, 8, "third");
    }));
    let sub = tracemq.cmd(["sub", &server.url("/a"), "-C", "3", "--format", "raw"]).limit(LONG).finish();
    assert_eq!(sub.expect(0).lines(), ["first", "second", "third"]);
    let first = server.next();
    assert_eq!((first[1], options(&first)), (1, &[REGISTER, 0x51, b'a'][..]), "GET, Observe 0, /a");
    let last = server.rest().pop().expect("a goodbye");
    assert_eq!(options(&last)[..2], DEREGISTER, "GET, Observe 1");
    assert_eq!(last[4..12], first[4..12], "with the same token");
}

#[test]
fn a_registration_is_renewed_when_nothing_comes() {
    let tracemq = Tracemq::new();
    let server = ScriptedCoap::start(Box::new(|socket, from, request, count| {
        let text = if count == 0 { "first" } else { "renewed" };
        // Its number goes back: the server has been started again.
        notify(socket, from, request, 0, 9 - u8::try_from(count.min(9)).unwrap_or(9), text);
    }));
    let sub = tracemq.cmd(["sub", &server.url("/a"), "-C", "2", "--format", "raw"]).limit(LONG).finish();
    assert_eq!(sub.expect(0).lines(), ["first", "renewed"]);
    let (first, second) = (server.next(), server.next());
    assert_eq!(options(&first), options(&second));
    assert_eq!(first[4..12], second[4..12], "the token is the same");
    assert_ne!(first[2..4], second[2..4], "the message id is another");
}

#[test]
fn an_observer_that_is_gone_rejects_what_still_comes() {
    let tracemq = Tracemq::new();
    // The goodbye is not heard: the next notification is confirmable.
    let answers = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&answers);
    let server = ScriptedCoap::start(Box::new(move |socket, from, request, count| match count {
        0 => notify(socket, from, request, 0, 5, "first"),
        1 => {
            let late = coap_answer(request, 0, 0x45, Some(77), &[0x61, 6, 0xff, b'x']);
            socket.send_to(&late, from).expect("it can be sent");
        }
        _ => seen.lock().expect("no panic").push(request[0] >> 4 & 3),
    }));
    let sub = tracemq.cmd(["sub", &server.url("/a"), "-C", "1"]).limit(LONG).finish();
    sub.expect(0);
    let (_, goodbye, answer) = (server.next(), server.next(), server.next());
    assert_eq!(options(&goodbye)[..2], DEREGISTER);
    assert!(matches!(answer[0] >> 4 & 3, 2 | 3), "it is acknowledged or rejected, not ignored");
}

#[test]
fn a_server_that_is_started_again_is_observed_again() {
    let tracemq = Tracemq::new();
    let server = CoapServer::libcoap(&[]);
    let port = server.port().to_string();
    let sub = tracemq.cmd(["sub", &server.url("/time"), "--ack-timeout", "0.2"]).limit(LONG).start();
    sub.wait_stdout_lines(2, LONG);
    drop(server);
    let told = |part: &str| until(LONG, || sub.stderr().contains(part).then_some(()));
    assert!(told("registering again in").is_some(), "{}", sub.stderr());
    let before = sub.stdout_lines();
    let again = tracemq_tests::Cmd::peer("coap-server-notls").args(["-A", "127.0.0.1", "-p", &port]).start();
    assert!(told("observing /time again").is_some(), "{}", sub.stderr());
    sub.wait_stdout_lines(before + 2, LONG);
    sub.interrupt();
    drop(again);
}
