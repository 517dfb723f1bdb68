//! The server's half: de-duplication, piggy-backed and separate responses, what is rejected, and what a flood can do.

use std::time::{Duration, Instant};

use tracemq_coap::endpoint::{Endpoint, Event, Failure, Incoming, Limits, Parameters};
use tracemq_coap::message::{MessageClass, MessageType, Method};

use super::network::{address, events, get, one, raw, response, sent, server, with_observe};

fn request(endpoint: &mut Endpoint) -> Option<Incoming> {
    events(endpoint).into_iter().find_map(|event| match event {
        Event::Request { request, .. } => Some(request),
        _ => None,
    })
}

#[test]
fn a_request_that_comes_again_gets_the_same_answer_and_is_not_seen() {
    let mut server = server();
    let now = Instant::now();
    let bytes = raw(MessageType::Confirmable, Method::Put.class(), 7, b"tok", b"x");
    server.receive(now, address(9), &bytes);
    let incoming = request(&mut server).unwrap();
    assert!(server.respond(now, incoming, response("2.04", "done")).is_none());
    let first = sent(&mut server);
    server.receive(now + Duration::from_secs(100), address(9), &bytes);
    assert_eq!(sent(&mut server), first);
    assert!(request(&mut server).is_none());
    // From somebody else, or with other content, it is another one.
    server.receive(now, address(10), &bytes);
    assert!(request(&mut server).is_some());
    server.receive(now, address(9), &raw(MessageType::Confirmable, Method::Put.class(), 7, b"tok", b"y"));
    assert!(request(&mut server).is_some());
    // After EXCHANGE_LIFETIME the message id may be used again.
    server.receive(now + Duration::from_secs(500), address(9), &bytes);
    assert!(request(&mut server).is_some());
}

#[test]
fn a_request_that_is_not_confirmable_is_seen_once() {
    let mut server = server();
    let now = Instant::now();
    let bytes = raw(MessageType::NonConfirmable, Method::Post.class(), 7, b"tok", b"x");
    server.receive(now, address(9), &bytes);
    let incoming = request(&mut server).unwrap();
    server.respond(now, incoming, response("2.04", ""));
    assert_eq!(one(&mut server).header.get_type(), MessageType::NonConfirmable);
    server.receive(now, address(9), &bytes);
    assert!(request(&mut server).is_none() && sent(&mut server).is_empty());
}

#[test]
fn a_slow_answer_is_acknowledged_first_and_sent_until_it_arrives() {
    let mut server = server();
    let now = Instant::now();
    server.receive(now, address(9), &raw(MessageType::Confirmable, Method::Get.class(), 7, b"tok", b""));
    let incoming = request(&mut server).unwrap();
    let late = server.next_timeout().unwrap();
    assert!(late <= now + Duration::from_secs(1));
    server.handle_timeout(late);
    let ack = one(&mut server);
    assert_eq!((ack.header.get_type(), ack.header.code), (MessageType::Acknowledgement, MessageClass::Empty));
    let handle = server.respond(late, incoming, response("2.05", "x")).unwrap();
    let separate = one(&mut server);
    assert_eq!((separate.header.get_type(), separate.get_token()), (MessageType::Confirmable, &b"tok"[..]));
    assert_ne!(separate.header.message_id, 7);
    // It is retransmitted.
    let again = server.next_timeout().unwrap();
    server.handle_timeout(again);
    assert_eq!(one(&mut server), separate);
    let id = separate.header.message_id;
    server.receive(again, address(9), &raw(MessageType::Acknowledgement, MessageClass::Empty, id, &[], &[]));
    assert!(matches!(events(&mut server)[..], [Event::Acknowledged { handle: done, .. }] if done == handle));
}

#[test]
fn an_early_retransmission_is_acknowledged() {
    let mut server = server();
    let now = Instant::now();
    let bytes = raw(MessageType::Confirmable, Method::Get.class(), 7, b"tok", b"");
    server.receive(now, address(9), &bytes);
    let incoming = request(&mut server).unwrap();
    server.receive(now, address(9), &bytes);
    assert_eq!(one(&mut server).header.code, MessageClass::Empty);
    assert!(server.respond(now, incoming, response("2.05", "x")).is_some(), "it goes by itself now");
}

#[test]
fn observers_are_heard_of() {
    let mut server = server();
    let now = Instant::now();
    let mut notification = with_observe(response("2.05", "x"), 2);
    notification.set_token(b"obs".to_vec());
    // Not confirmable, and rejected.
    assert_eq!(server.send(now, address(9), notification.clone(), false), Ok(None));
    let id = one(&mut server).header.message_id;
    server.receive(now, address(9), &raw(MessageType::Reset, MessageClass::Empty, id, &[], &[]));
    let [Event::Rejected { token, .. }] = events(&mut server)[..] else { panic!("not told") };
    assert_eq!(token.as_bytes(), b"obs");
    // Confirmable, and never acknowledged.
    let handle = server.send(now, address(9), notification, true).unwrap().unwrap();
    let mut count = 0;
    while let Some(timeout) = server.next_timeout() {
        server.handle_timeout(timeout);
        count += sent(&mut server).len();
    }
    assert_eq!(count, 1 + 4);
    let [Event::Failed { handle: failed, why, .. }] = events(&mut server)[..] else { panic!("not told") };
    assert_eq!((failed, why), (handle, Failure::TimedOut { retransmissions: 4 }));
}

#[test]
fn what_is_no_message_is_rejected_or_ignored() {
    let mut server = server();
    let now = Instant::now();
    let reset = |id: u16| vec![0x70, 0, (id >> 8) as u8, id as u8];
    for (bytes, answer) in [
        (&b""[..], None),
        (b"\x40\x01\x12", None),
        // Version 2 is ignored, whatever it says.
        (b"\x80\x01\x12\x34", None),
        // Confirmable: reserved token length, token cut off, reserved class, empty with content, no payload, bad options.
        (b"\x49\x01\x12\x34123456789", Some(reset(0x1234))),
        (b"\x44\x01\x12\x34ab", Some(reset(0x1234))),
        (b"\x40\x21\x12\x34", Some(reset(0x1234))),
        (b"\x41\x00\x12\x34a", Some(reset(0x1234))),
        (b"\x40\x01\x12\x34\xff", Some(reset(0x1234))),
        (b"\x40\x01\x12\x34\xf0", Some(reset(0x1234))),
        (b"\x40\x01\x12\x34\x0f", Some(reset(0x1234))),
        (b"\x40\x01\x12\x34\xe0\xff\xff", Some(reset(0x1234))),
        (b"\x40\x01\x12\x34\xe0\xfe\xf2\x10\xe0\x00\x00", Some(reset(0x1234))),
        (b"\x40\x01\x12\x34\xb5ab", Some(reset(0x1234))),
        // The same, not confirmable.
        (b"\x59\x01\x12\x34123456789", None),
        (b"\x50\x01\x12\x34\xff", None),
        // Acknowledgement and reset of nothing, with requests in them.
        (b"\x60\x01\x12\x34", None),
        (b"\x70\x01\x12\x34", None),
        (b"\x60\x00\x12\x34", None),
        (b"\x70\x00\x12\x34", None),
        // Ping.
        (b"\x40\x00\x12\x34", Some(reset(0x1234))),
        (b"\x50\x00\x12\x34", None),
    ] {
        server.receive(now, address(9), bytes);
        assert!(request(&mut server).is_none(), "{bytes:02x?}");
        let got: Vec<_> = sent(&mut server).into_iter().map(|transmit| transmit.bytes.to_vec()).collect();
        assert_eq!(got, Vec::from_iter(answer), "{bytes:02x?}");
    }
}

#[test]
fn a_flood_of_peers_and_messages_is_bounded() {
    let limits =
        Limits { peers: 100, recent_per_peer: 8, replies_per_peer: 64, replies: 1000, ..Limits::SERVER };
    let mut server = Endpoint::seeded(Parameters::default(), limits, 1);
    let now = Instant::now();
    for number in 0..20_000_u32 {
        let peer = address((number % 5000) as u16 + 1);
        let bytes = raw(MessageType::Confirmable, Method::Post.class(), number as u16, b"t", b"x");
        server.receive(now, peer, &bytes);
        let incoming = request(&mut server).unwrap();
        server.respond(now, incoming, response("2.04", "an answer of thirty-two bytes...."));
        assert_eq!(sent(&mut server).len(), 1);
        assert!(server.peers() <= 100);
    }
    // The last ones are still recognised, with or without their answer.
    let bytes = raw(MessageType::Confirmable, Method::Post.class(), 19_999, b"t", b"x");
    server.receive(now, address(5000), &bytes);
    assert!(request(&mut server).is_none());
    assert_eq!(sent(&mut server).len(), 1);
}

#[test]
fn a_peer_that_is_forgotten_begins_anew() {
    let mut server = server();
    let now = Instant::now();
    let bytes = raw(MessageType::Confirmable, Method::Get.class(), 7, b"tok", b"");
    server.receive(now, address(9), &bytes);
    let incoming = request(&mut server).unwrap();
    server.respond(now, incoming, response("2.05", "x"));
    let mut notification = with_observe(get(""), 2);
    notification.header.code = MessageClass::from(0x45);
    server.send(now, address(9), notification, true).unwrap();
    server.forget(now, address(9));
    assert!(matches!(events(&mut server)[..], [Event::Failed { why: Failure::Forgotten, .. }]));
    server.receive(now, address(9), &bytes);
    assert!(request(&mut server).is_some());
}

#[test]
fn of_what_goes_to_a_group_only_requests_are_heard_and_nothing_is_rejected() {
    let mut server = server();
    let now = Instant::now();
    let heard = raw(MessageType::NonConfirmable, Method::Get.class(), 7, b"tok", b"");
    for bytes in [
        raw(MessageType::Confirmable, Method::Get.class(), 8, b"tok", b""),
        raw(MessageType::Confirmable, MessageClass::Empty, 9, b"", b""),
        raw(MessageType::NonConfirmable, response("2.05", "").header.code, 10, b"tok", b"x"),
        raw(MessageType::Reset, MessageClass::Empty, 11, b"", b""),
        vec![0x40, 1, 0, 1, 0xff],
        vec![0x41],
    ] {
        server.receive_of_group(now, address(9), &bytes);
        assert!(request(&mut server).is_none() && sent(&mut server).is_empty(), "{bytes:?}");
    }
    server.receive_of_group(now, address(9), &heard);
    let incoming = request(&mut server).unwrap();
    assert!(incoming.to_group && !incoming.confirmable);
    server.respond(now, incoming, response("2.05", "here"));
    assert_eq!(one(&mut server).header.get_type(), MessageType::NonConfirmable);
    // The same by way of another interface.
    server.receive_of_group(now, address(9), &heard);
    assert!(request(&mut server).is_none());
}
