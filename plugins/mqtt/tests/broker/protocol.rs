//! What only a client that watches the wire can see.

use std::num::NonZeroU16;
use std::time::Duration;

use tracemq_mqtt::serve::{BrokerEvent, BrokerOptions, Limits};

use super::house::House;
use super::raw::{Raw, connect, publish, string, subscribe};

/// The body of a DISCONNECT that carries this reason.
fn disconnected_with(client: &mut Raw, code: u8) {
    assert_eq!(client.expect(14).first(), Some(&code), "the reason in DISCONNECT");
    assert_eq!(client.packet(), None, "closed after it");
}

#[test]
fn the_keep_alive_of_5_0_is_capped_and_older_clients_pass() {
    let max_keep_alive = NonZeroU16::new(60);
    let house = House::start(BrokerOptions { max_keep_alive, ..BrokerOptions::default() });
    let server_keep_alive = |keep_alive: u16| {
        let (_, body) = Raw::connect(&house.address("mqtt"), &connect(5, "k", true, keep_alive, &[]));
        assert_eq!(body[1], 0);
        let at = body.iter().skip(3).position(|byte| *byte == 0x13).map(|at| at + 3);
        at.map(|at| u16::from_be_bytes([body[at + 1], body[at + 2]]))
    };
    assert_eq!(server_keep_alive(300), Some(60));
    assert_eq!(server_keep_alive(0), Some(60), "switched off is longer than any cap");
    assert!(matches!(server_keep_alive(30), None | Some(30)));
    Raw::accepted(&house.address("mqtt"), &connect(4, "k", true, 300, &[]));
}

#[test]
fn a_silent_client_is_disconnected_after_its_keep_alive() {
    let house = House::start(BrokerOptions::default());
    let mut client = Raw::accepted(&house.address("mqtt"), &connect(5, "silent", true, 1, &[]));
    disconnected_with(&mut client, 0x8D);
    house.event(|event| match event {
        BrokerEvent::Disconnected { reason, .. } => {
            assert!(reason.contains("keep alive"), "{reason}");
            Some(())
        }
        _ => None,
    });
}

#[test]
fn a_second_connection_with_the_same_identifier_takes_over() {
    let house = House::start(BrokerOptions::default());
    let address = house.address("mqtt");
    let mut first = Raw::accepted(&address, &connect(5, "twin", true, 60, &[]));
    let mut second = Raw::accepted(&address, &connect(5, "twin", true, 60, &[]));
    disconnected_with(&mut first, 0x8E);
    second.send(&[0xC0, 0]);
    second.expect(13);
    // 3.1.1 knows no DISCONNECT from the server.
    let mut first = Raw::accepted(&address, &connect(4, "old twin", true, 60, &[]));
    let _second = Raw::accepted(&address, &connect(4, "old twin", true, 60, &[]));
    assert_eq!(first.packet(), None);
}

#[test]
fn faults_of_a_5_0_client_are_told_before_closing() {
    let house = House::start(BrokerOptions::default());
    let address = house.address("mqtt");
    let alias = |number: u8| -> Vec<u8> { vec![0x23, 0, number] };
    for (packet, code) in [
        (publish("a", b"x", 0, 0, Some(&alias(200))), 0x94),
        (publish("", b"x", 0, 0, Some(&alias(3))), 0x94),
        (publish("a/#", b"x", 0, 0, Some(&[])), 0x90),
        (publish(&"/".repeat(60_000), b"x", 0, 0, Some(&[])), 0x90),
        (super::raw::packet(0x30, &[0, 9, b'a']), 0x81),
    ] {
        let mut client = Raw::accepted(&address, &connect(5, "clumsy", true, 60, &[]));
        client.send(&packet);
        disconnected_with(&mut client, code);
    }
    // An alias within the maximum works.
    let mut client = Raw::accepted(&address, &connect(5, "short", true, 60, &[]));
    client.send(&subscribe(5, "long/topic", 0));
    client.expect(9);
    client.send(&publish("long/topic", b"1", 0, 0, Some(&alias(1))));
    client.send(&publish("", b"2", 0, 0, Some(&alias(1))));
    for payload in [b'1', b'2'] {
        let body = client.expect(3);
        assert_eq!(body[2..12], *b"long/topic");
        assert_eq!(body.last(), Some(&payload));
    }
}

#[test]
fn more_than_the_receive_maximum_ends_with_its_reason() {
    let limits = Limits { max_inflight: NonZeroU16::MIN, ..Limits::default() };
    let house = House::start(BrokerOptions { limits, ..BrokerOptions::default() });
    let (mut client, body) = Raw::connect(&house.address("mqtt"), &connect(5, "greedy", true, 60, &[]));
    assert!(body.windows(3).any(|bytes| bytes == [0x21, 0, 1]), "receive maximum 1 in CONNACK: {body:?}");
    for id in 1..=2 {
        client.send(&publish("a", b"x", 2, id, Some(&[])));
    }
    client.expect(5);
    disconnected_with(&mut client, 0x93);
}

#[test]
fn a_client_may_reconnect_at_once() {
    let house = House::start(BrokerOptions::default());
    for round in 0..100 {
        let level = if round % 2 == 0 { 4 } else { 5 };
        let mut client =
            Raw::accepted(&house.address("mqtt"), &connect(level, "hasty", round % 3 != 0, 60, &[]));
        client.send(&[0xE0, 0]);
    }
}

#[test]
fn shared_subscriptions_take_turns() {
    let house = House::start(BrokerOptions::default());
    let address = house.address("mqtt");
    let mut members: Vec<Raw> = ["one", "one", "two", "two"]
        .iter()
        .enumerate()
        .map(|(number, group)| {
            let mut member = Raw::accepted(&address, &connect(5, &format!("m{number}"), true, 60, &[]));
            member.send(&subscribe(5, &format!("$share/{group}/work"), 1));
            assert_eq!(member.expect(9).last(), Some(&1));
            member
        })
        .collect();
    let mut sender = Raw::accepted(&address, &connect(5, "boss", true, 60, &[]));
    for _ in 0..10 {
        sender.send(&publish("work", b"x", 0, 0, Some(&[])));
    }
    // Ten messages for each of the two groups, of which each member gets half.
    for member in &mut members {
        for _ in 0..5 {
            member.expect(3);
        }
        assert!(member.silent(Duration::from_millis(200)), "no more than its share");
    }
}

#[test]
fn what_is_not_mqtt_is_closed() {
    let house = House::start(BrokerOptions::default());
    let address = house.address("mqtt");
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0xFF; 100], vec![0x10, 0xFF, 0xFF, 0xFF, 0xFF], {
        let mut body = string("MQTT");
        body.push(9);
        super::raw::packet(0x10, &body)
    }] {
        let mut client = Raw::open(&address);
        client.send(&bytes);
        while client.packet().is_some() {}
    }
    Raw::accepted(&address, &connect(4, "well", true, 60, &[]));
}
