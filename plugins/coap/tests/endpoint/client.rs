//! The client's half: retransmission, matching, what is rejected.

use std::time::{Duration, Instant};

use tracemq_coap::endpoint::{Event, Failure, Manner, Parameters};
use tracemq_coap::message::{self, CoapOption, MessageClass, MessageType, Packet};

use super::network::{address, client, events, get, one, raw, response, sent, with_observe};

const CONTENT: u8 = 0x45;

fn content() -> MessageClass {
    MessageClass::from(CONTENT)
}

#[test]
fn retransmissions_back_off_and_end() {
    let mut client = client(Parameters::default());
    let start = Instant::now();
    client.request(start, address(2), &mut get("a"), Manner::CONFIRMABLE).unwrap();
    let first = sent(&mut client);
    let mut times = vec![start];
    let (failure, ended) = loop {
        let now = client.next_timeout().expect("it goes on");
        client.handle_timeout(now);
        for again in sent(&mut client) {
            assert_eq!(again, first[0], "a retransmission is the same message");
            times.push(now);
        }
        if let [Event::Failed { why, .. }] = events(&mut client)[..] {
            break (why, now);
        }
    };
    assert_eq!(failure, Failure::TimedOut { retransmissions: 4 });
    assert_eq!(times.len(), 5);
    let first_wait = times[1] - times[0];
    assert!((2.0..=3.01).contains(&first_wait.as_secs_f64()), "{first_wait:?}");
    for pair in times.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>().windows(2) {
        let ratio = pair[1].as_secs_f64() / pair[0].as_secs_f64();
        assert!((1.95..2.05).contains(&ratio), "the wait doubles: {ratio}");
    }
    assert!(ended - start <= Parameters::default().max_transmit_wait() + Duration::from_secs(1));
    assert_eq!(client.next_timeout(), None);
}

#[test]
fn a_response_needs_token_message_id_and_peer() {
    let mut client = client(Parameters::default());
    let now = Instant::now();
    client.request(now, address(2), &mut get("a"), Manner::CONFIRMABLE).unwrap();
    let request = one(&mut client);
    let (id, token) = (request.header.message_id, request.get_token().to_vec());
    assert_eq!(token.len(), 8);
    let ack = MessageType::Acknowledgement;
    // From another peer, with another token, with another message id: forged or late.
    client.receive(now, address(3), &raw(ack, content(), id, &token, b"x"));
    client.receive(now, address(2), &raw(ack, content(), id, &token[..7], b"x"));
    client.receive(now, address(2), &raw(ack, content(), id.wrapping_add(1), &token, b"x"));
    let strays = events(&mut client);
    assert_eq!(strays.len(), 3);
    assert!(strays.iter().all(|event| matches!(event, Event::Stray { .. })), "{strays:?}");
    assert!(sent(&mut client).is_empty(), "an acknowledgement is not answered");
    client.receive(now + Duration::from_millis(30), address(2), &raw(ack, content(), id, &token, b"x"));
    let [Event::Response { arrival, packet, .. }] = &events(&mut client)[..] else { panic!("no response") };
    assert_eq!((arrival.round_trip, arrival.separate), (Duration::from_millis(30), false));
    assert_eq!(packet.payload, b"x");
}

#[test]
fn a_separate_response_is_acknowledged_as_often_as_it_comes() {
    let mut client = client(Parameters::default());
    let now = Instant::now();
    client.request(now, address(2), &mut get("a"), Manner::CONFIRMABLE).unwrap();
    let request = one(&mut client);
    let token = request.get_token().to_vec();
    let empty = raw(MessageType::Acknowledgement, MessageClass::Empty, request.header.message_id, &[], &[]);
    client.receive(now, address(2), &empty);
    assert!(matches!(events(&mut client)[..], [Event::Acknowledged { .. }]));
    let separate = raw(MessageType::Confirmable, content(), 99, &token, b"later");
    for again in [false, true, true] {
        client.receive(now, address(2), &separate);
        let ack = one(&mut client);
        assert_eq!((ack.header.get_type(), ack.header.message_id), (MessageType::Acknowledgement, 99));
        assert_eq!(events(&mut client).len(), usize::from(!again));
    }
    // The same token once more, in another message: the request is over.
    client.receive(now, address(2), &raw(MessageType::Confirmable, content(), 100, &token, b"later"));
    assert_eq!(one(&mut client).header.get_type(), MessageType::Reset);
}

#[test]
fn a_lost_acknowledgement_does_not_matter() {
    let mut client = client(Parameters::default());
    let now = Instant::now();
    client.request(now, address(2), &mut get("a"), Manner::CONFIRMABLE).unwrap();
    let token = one(&mut client).get_token().to_vec();
    client.receive(now, address(2), &raw(MessageType::NonConfirmable, content(), 5, &token, b"x"));
    assert!(matches!(events(&mut client)[..], [Event::Response { .. }]));
    client.handle_timeout(now + Duration::from_secs(60));
    assert!(sent(&mut client).is_empty(), "nothing is sent again");
}

#[test]
fn a_reset_is_a_failure_at_once() {
    let mut client = client(Parameters::default());
    let now = Instant::now();
    for manner in [Manner::CONFIRMABLE, Manner::NON_CONFIRMABLE] {
        client.request(now, address(2), &mut get("a"), manner).unwrap();
        let id = one(&mut client).header.message_id;
        client.receive(now, address(2), &raw(MessageType::Reset, MessageClass::Empty, id, &[], &[]));
        assert!(matches!(events(&mut client)[..], [Event::Failed { why: Failure::Reset, .. }]));
    }
}

#[test]
fn a_critical_option_that_is_not_understood_is_refused() {
    let mut client = client(Parameters::default());
    let now = Instant::now();
    client.request(now, address(2), &mut get("a"), Manner::CONFIRMABLE).unwrap();
    let request = one(&mut client);
    let mut answer = response("2.05", "x");
    answer.header.set_type(MessageType::Confirmable);
    answer.set_token(request.get_token().to_vec());
    message::add(&mut answer, CoapOption::Unknown(65001), vec![1]);
    let mut bytes = Vec::new();
    message::encode(&answer, &mut bytes);
    client.receive(now, address(2), &bytes);
    assert_eq!(one(&mut client).header.get_type(), MessageType::Reset);
    let [Event::Failed { why, .. }] = events(&mut client)[..] else { panic!("it was taken") };
    assert_eq!(why, Failure::CriticalOption(65001));
}

#[test]
fn notifications_come_until_they_are_cancelled() {
    let mut client = client(Parameters::default());
    let now = Instant::now();
    let manner = Manner { stay: true, ..Manner::CONFIRMABLE };
    let handle = client.request(now, address(2), &mut with_observe(get("a"), 0), manner).unwrap();
    let request = one(&mut client);
    let (id, token) = (request.header.message_id, request.get_token().to_vec());
    client.receive(now, address(2), &raw(MessageType::Acknowledgement, content(), id, &token, b"0"));
    for number in 1..4 {
        let notification = raw(MessageType::NonConfirmable, content(), 10 + number, &token, b"n");
        client.receive(now, address(2), &notification);
        client.receive(now, address(2), &notification);
    }
    assert_eq!(events(&mut client).len(), 4, "each once");
    // Registering again goes with the same token, and another message id.
    assert!(client.renew(now, handle, &mut with_observe(get("a"), 0)));
    let again = one(&mut client);
    assert_eq!(again.get_token(), token);
    assert_ne!(again.header.message_id, id);
    assert!(!client.renew(now, handle, &mut get("a")), "the one before is not answered");
    client.cancel(now, handle);
    client.receive(now, address(2), &raw(MessageType::Confirmable, content(), 40, &token, b"n"));
    assert_eq!(one(&mut client).header.get_type(), MessageType::Reset);
}

#[test]
fn nstart_holds_back() {
    let mut client = client(Parameters { nstart: 2, ..Parameters::default() });
    let now = Instant::now();
    for path in ["a", "b", "c"] {
        client.request(now, address(2), &mut get(path), Manner::CONFIRMABLE).unwrap();
    }
    let first = sent(&mut client);
    assert_eq!(first.len(), 2);
    // Another peer has a count of its own.
    client.request(now, address(3), &mut get("d"), Manner::CONFIRMABLE).unwrap();
    assert_eq!(sent(&mut client).len(), 1);
    let id = message::decode(&first[0].bytes).unwrap().header.message_id;
    client.receive(now, address(2), &raw(MessageType::Acknowledgement, MessageClass::Empty, id, &[], &[]));
    let third = one(&mut client);
    assert_eq!(message::path_of(&third), "/c");
}

#[test]
fn answers_of_a_group_come_from_everybody() {
    let mut client = client(Parameters::default());
    let now = Instant::now();
    let group = "224.0.1.187:5683".parse().unwrap();
    let manner = Manner { confirmable: false, stay: true, any_peer: true };
    client.request(now, group, &mut get("a"), manner).unwrap();
    let request: Packet = one(&mut client);
    assert_eq!(request.header.get_type(), MessageType::NonConfirmable);
    for port in 10..14 {
        let answer = raw(MessageType::NonConfirmable, content(), port, request.get_token(), b"x");
        client.receive(now, address(port), &answer);
        client.receive(now, address(port), &answer);
    }
    let peers: Vec<_> = events(&mut client)
        .into_iter()
        .filter_map(|event| match event {
            Event::Response { arrival, .. } => Some(arrival.peer.port()),
            _ => None,
        })
        .collect();
    assert_eq!(peers, [10, 11, 12, 13]);
}
