//! A flood stays bounded, whoever makes it.

use std::io::Write;
use std::time::Duration;

use tracemq_mqtt::serve::{BrokerEvent, BrokerOptions, Limits};

use super::house::House;
use super::raw::{Raw, connect, publish, subscribe};

fn limited(limits: Limits) -> House {
    House::start(BrokerOptions { limits, ..BrokerOptions::default() })
}

#[test]
fn a_reader_that_lags_is_told_how_many_it_lost() {
    let house = limited(Limits { max_shown: 100, ..Limits::default() });
    let mut client = Raw::accepted(&house.address("mqtt"), &connect(4, "flood", true, 60, &[]));
    for number in 0..1000 {
        client.send(&publish("f", number.to_string().as_bytes(), 0, 0, None));
    }
    client.send(&[0xC0, 0]);
    client.expect(13);
    let messages = house.broker.messages();
    let batch = house.wait(messages.next(1000)).expect("messages");
    assert_eq!((batch.items.len(), batch.lost), (100, 900));
    assert_eq!(batch.items[99].payload, "999", "the newest are kept");
}

#[test]
fn a_connection_without_connect_is_closed_in_time() {
    let house = limited(Limits { handshake_timeout: Duration::from_millis(300), ..Limits::default() });
    let mut idle = Raw::open(&house.address("mqtt"));
    let mut half = Raw::open(&house.address("mqtt"));
    half.send(&connect(4, "half", true, 60, &[])[..4]);
    assert_eq!(idle.packet(), None);
    assert_eq!(half.packet(), None);
    assert!(house.refusal("connection").contains("no CONNECT"));
    let mut connected = Raw::accepted(&house.address("mqtt"), &connect(4, "c", true, 60, &[]));
    assert!(connected.silent(Duration::from_millis(500)), "an accepted client stays");
    connected.send(&[0xC0, 0]);
    connected.expect(13);
}

#[test]
fn connections_and_sessions_are_counted() {
    let house = limited(Limits { max_connections: 2, ..Limits::default() });
    let address = house.address("mqtt");
    let first = Raw::accepted(&address, &connect(4, "a", true, 60, &[]));
    let _second = Raw::accepted(&address, &connect(4, "b", true, 60, &[]));
    assert_eq!(Raw::open(&address).packet(), None);
    assert!(house.refusal("connection").contains("as many connections"));
    drop(first);
    house.event(|event| matches!(event, BrokerEvent::Disconnected { .. }).then_some(()));
    // The place is free a moment after the event.
    while {
        let mut again = Raw::open(&address);
        again.0.write_all(&connect(4, "c", true, 60, &[])).is_err() || again.packet().is_none()
    } {}

    let house = limited(Limits { max_sessions: 1, ..Limits::default() });
    let address = house.address("mqtt");
    let _first = Raw::accepted(&address, &connect(4, "a", true, 60, &[]));
    assert_eq!(Raw::connect(&address, &connect(4, "b", true, 60, &[])).1[1], 3, "server unavailable");
    assert_eq!(Raw::connect(&address, &connect(5, "b", true, 60, &[])).1[1], 0x88, "server unavailable");
}

#[test]
fn a_packet_above_the_maximum_is_refused() {
    let house = limited(Limits { max_packet_size: 1000, ..Limits::default() });
    let (mut client, body) = Raw::connect(&house.address("mqtt"), &connect(5, "big", true, 60, &[]));
    assert!(body.windows(5).any(|bytes| bytes == [0x27, 0, 0, 3, 232]), "maximum packet size: {body:?}");
    client.send(&publish("a", &[0; 900], 1, 1, Some(&[])));
    client.expect(4);
    client.send(&publish("a", &[0; 1100], 1, 2, Some(&[])));
    assert_eq!(client.expect(14).first(), Some(&0x95), "packet too large");
}

#[test]
fn undelivered_payloads_stay_within_their_budget() {
    let house = limited(Limits {
        max_payload_memory: 1024 * 1024,
        // Nobody reads what is shown.
        max_shown: 1,
        send_timeout: Duration::from_secs(60),
        ..Limits::default()
    });
    let address = house.address("mqtt");
    // Subscribes, and then never reads.
    let mut stalled = Raw::accepted(&address, &connect(5, "stalled", true, 0, &[]));
    stalled.send(&subscribe(5, "flood", 0));
    stalled.expect(9);
    let mut sender = Raw::accepted(&address, &connect(5, "sender", true, 0, &[]));
    let payload = vec![0; 64 * 1024];
    let mut refused = None;
    for id in 1..=400 {
        sender.send(&publish("flood", &payload, 1, id, Some(&[])));
        if let Some(code) = sender.expect(4).get(2).filter(|code| **code >= 0x80) {
            refused = Some(*code);
            break;
        }
    }
    assert_eq!(refused, Some(0x97), "quota exceeded, before 25 MiB went in");
    // The stalled client goes, and with it what was kept for it.
    drop(stalled);
    house.event(|event| match event {
        BrokerEvent::Disconnected { client, .. } if &**client == "stalled" => Some(()),
        _ => None,
    });
    sender.send(&publish("flood", &payload, 1, 500, Some(&[])));
    assert!(sender.expect(4).get(2).is_none_or(|code| *code < 0x80), "accepted again");
}

#[test]
fn retained_messages_are_bounded_and_can_still_be_replaced_by_nothing() {
    let house = limited(Limits { max_retained: 2, ..Limits::default() });
    let mut client = Raw::accepted(&house.address("mqtt"), &connect(5, "keeper", true, 60, &[]));
    let mut retain = |topic: &str, payload: &[u8]| {
        let mut packet = publish(topic, payload, 1, 1, Some(&[]));
        packet[0] |= 1;
        client.send(&packet);
        client.expect(4).get(2).copied().unwrap_or(0)
    };
    assert!(retain("a", b"1") < 0x80);
    assert!(retain("b", b"1") < 0x80);
    assert_eq!(retain("c", b"1"), 0x97, "quota exceeded");
    assert!(retain("a", b"") < 0x80);
    assert!(retain("c", b"1") < 0x80, "there is room again");
}
