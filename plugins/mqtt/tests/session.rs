//! The session's rules, one by one: each test is one rule of the specification or one bug that another client has.

#[path = "support/session.rs"]
mod support;

use std::time::{Duration, Instant};

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{ConnAckProperties, Packet, Publish as Wire};
use support::*;
use tracemq_mqtt::session::{Notice, PublishError, Session, SessionConfig, SessionError};
use tracemq_mqtt::wire::control::ConnAck;
use tracemq_mqtt::wire::property::Outgoing;
use tracemq_mqtt::wire::request::{Filter, Subscribe};
use tracemq_mqtt::wire::{Publish, QoS, Reason, Version};

const ALL: [Version; 3] = [Version::V31, Version::V311, Version::V5];

fn limits(change: impl FnOnce(&mut ConnAckProperties)) -> ConnAck {
    // rumqttc has no empty list to start from, but can read one: session expiry 0.
    let mut raw = bytes::Bytes::from_static(&[5, 0x11, 0, 0, 0, 0]);
    let mut properties = ConnAckProperties::read(&mut raw).unwrap().unwrap();
    properties.session_expiry_interval = None;
    change(&mut properties);
    ConnAck { properties: Some(properties), ..connack(false) }
}

fn with_limits(change: impl FnOnce(&mut ConnAckProperties)) -> Session {
    let mut config = SessionConfig::new(connect(Version::V5, true));
    config.use_topic_aliases = true;
    let mut session = Session::new(config).unwrap();
    session.on_connack(limits(change)).unwrap();
    session
}

fn publishes(packets: Vec<Packet>) -> Vec<Wire> {
    let publish = |packet| match packet {
        Packet::Publish(publish) => publish,
        other => panic!("{other:?}"),
    };
    packets.into_iter().map(publish).collect()
}

fn filter(filter: &str) -> Filter {
    Filter { filter: filter.into(), ..Filter::default() }
}

fn subscribe(session: &mut Session, token: u64, filters: &[&str]) {
    let filters = filters.iter().map(|text| filter(text)).collect();
    session.subscribe(token, Subscribe { filters, ..Subscribe::default() }).unwrap();
}

#[test]
fn each_qos_ends_with_its_own_outcome() {
    let mut session = connected(Version::V5, true);
    publish(&mut session, 10, QoS::AtMostOnce);
    publish(&mut session, 11, QoS::AtLeastOnce);
    publish(&mut session, 12, QoS::ExactlyOnce);
    let sent = publishes(packets(&mut session));
    assert_eq!(sent.iter().map(|p| p.pkid).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(outcomes(&mut session), [(10, "Sent".into())]);
    let sink = &mut Sink::default();
    feed(&mut session, sink, &[0x40, 3, 0, 1, 0x10, 0x50, 2, 0, 2]).unwrap();
    assert_eq!(output(&mut session)[..], [0x62, 2, 0, 2]);
    assert_eq!(outcomes(&mut session), [(11, "Acknowledged(0x10 no matching subscribers)".into())]);
    feed(&mut session, sink, &[0x70, 2, 0, 2]).unwrap();
    assert_eq!(outcomes(&mut session), [(12, "Acknowledged(0x00 success)".into())]);
    assert_eq!(session.unsettled(), 0);
}

#[test]
fn a_refused_publish_frees_its_place() {
    // rumqttc #1060: a PUBREC of 0x80 or above leaks the place in the window for ever.
    let mut session = with_limits(|limits| limits.receive_max = Some(2));
    let sink = &mut Sink::default();
    (0..10).for_each(|token| publish(&mut session, token, QoS::ExactlyOnce));
    let mut seen = Vec::new();
    for _ in 0..5 {
        let sent = publishes(packets(&mut session));
        assert_eq!(sent.len(), 2);
        for publish in sent {
            let [high, low] = publish.pkid.to_be_bytes();
            feed(&mut session, sink, &[0x50, 9, high, low, 0x97, 5, 0x1F, 0, 2, b'n', b'o']).unwrap();
        }
        seen.extend(outcomes(&mut session));
    }
    assert_eq!(seen.len(), 10);
    assert!(
        seen.iter().all(|(_, outcome)| outcome == "Refused(0x97 quota exceeded, Some(\"no\"))"),
        "{seen:?}"
    );
}

#[test]
fn pubrec_0x91_means_that_the_server_has_it() {
    let mut session = connected(Version::V5, false);
    publish(&mut session, 1, QoS::ExactlyOnce);
    output(&mut session);
    feed(&mut session, &mut Sink::default(), &[0x50, 3, 0, 1, 0x91]).unwrap();
    assert_eq!(output(&mut session)[..], [0x62, 2, 0, 1]);
    feed(&mut session, &mut Sink::default(), &[0x70, 2, 0, 1]).unwrap();
    assert_eq!(outcomes(&mut session), [(1, "Acknowledged(0x00 success)".into())]);
}

#[test]
fn what_was_in_flight_is_repeated_in_order_with_dup() {
    for version in ALL {
        let mut session = connected(version, false);
        publish(&mut session, 1, QoS::AtLeastOnce);
        publish(&mut session, 2, QoS::ExactlyOnce);
        publish(&mut session, 3, QoS::ExactlyOnce);
        let first = output(&mut session);
        feed(&mut session, &mut Sink::default(), &[0x50, 2, 0, 2]).unwrap();
        publish(&mut session, 4, QoS::AtLeastOnce);
        reconnect(&mut session, version != Version::V31);
        let again = output(&mut session);
        let size = first.len() / 3;
        assert_eq!(again[0], first[0] | 8);
        assert_eq!(again[1..size], first[1..size]);
        assert_eq!(again[size..size + 4], [0x62, 2, 0, 2]);
        assert_eq!(again[size + 4], first[2 * size] | 8);
        assert_eq!(again[size + 5..][..size - 1], first[2 * size + 1..]);
        assert_eq!(again[2 * size + 4] & 8, 0, "the one that only waited is not a repetition");
    }
}

#[test]
fn a_lost_session_makes_everything_new() {
    let mut session = connected(Version::V5, false);
    publish(&mut session, 1, QoS::AtLeastOnce);
    publish(&mut session, 2, QoS::ExactlyOnce);
    output(&mut session);
    feed(&mut session, &mut Sink::default(), &[0x50, 2, 0, 2]).unwrap();
    reconnect(&mut session, false);
    let again = publishes(packets(&mut session));
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|publish| !publish.dup));
}

#[test]
fn a_repeated_pubrec_before_our_turn_is_not_answered_with_a_new_publish() {
    let mut session = connected(Version::V311, false);
    publish(&mut session, 1, QoS::ExactlyOnce);
    output(&mut session);
    session.connection_lost();
    session.on_connack(connack(true)).unwrap();
    feed(&mut session, &mut Sink::default(), &[0x50, 2, 0, 1]).unwrap();
    assert_eq!(output(&mut session)[..], [0x62, 2, 0, 1]);
}

#[test]
fn the_window_counts_repetitions_and_the_smaller_limit_wins() {
    let mut session = connected(Version::V5, false);
    (0..10).for_each(|token| publish(&mut session, token, QoS::AtLeastOnce));
    assert_eq!(packets(&mut session).len(), 10);
    session.connection_lost();
    session.on_connack(ConnAck { session_present: true, ..limits(|l| l.receive_max = Some(3)) }).unwrap();
    assert_eq!(packets(&mut session).len(), 3);
    feed(&mut session, &mut Sink::default(), &[0x40, 2, 0, 2]).unwrap();
    assert_eq!(publishes(packets(&mut session))[0].pkid, 4);
}

#[test]
fn the_queue_is_bounded() {
    let mut config = SessionConfig::new(connect(Version::V311, true));
    config.queue_messages = 2;
    let mut session = Session::new(config).unwrap();
    publish(&mut session, 1, QoS::AtMostOnce);
    publish(&mut session, 2, QoS::AtMostOnce);
    let message = Publish { topic: "t", ..Publish::default() };
    assert_eq!(session.publish(3, &message, Instant::now()), Err(PublishError::Full));
    assert_eq!(session.abandon(), [1, 2]);
}

#[test]
fn identifiers_of_subscribe_and_publish_never_meet() {
    let mut session = connected(Version::V5, true);
    subscribe(&mut session, 1, &["a"]);
    publish(&mut session, 2, QoS::AtLeastOnce);
    let ids: Vec<u16> = packets(&mut session)
        .iter()
        .map(|packet| match packet {
            Packet::Subscribe(subscribe) => subscribe.pkid,
            Packet::Publish(publish) => publish.pkid,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn nothing_is_acknowledged_before_it_is_consumed() {
    for version in [Version::V31, Version::V311] {
        let mut session = connected(version, true);
        let sink = &mut Sink::default();
        feed(
            &mut session,
            sink,
            b"\x32\x05\x00\x01a\x00\x05\x34\x05\x00\x01b\x00\x06\x32\x05\x00\x01c\x00\x07",
        )
        .unwrap();
        assert_eq!((sink.got.len(), session.delivered()), (3, 3));
        assert!(output(&mut session).is_empty());
        session.consumed(2);
        assert_eq!(output(&mut session)[..], [0x40, 2, 0, 5, 0x50, 2, 0, 6]);
        session.consumed(3);
        assert_eq!(output(&mut session)[..], [0x40, 2, 0, 7]);
    }
}

#[test]
fn a_qos_2_message_is_delivered_once_however_often_it_comes() {
    let mut session = connected(Version::V311, false);
    let sink = &mut Sink::default();
    let (first, again) = (b"\x34\x06\x00\x01a\x00\x05x", b"\x3C\x06\x00\x01a\x00\x05x");
    feed(&mut session, sink, first).unwrap();
    feed(&mut session, sink, again).unwrap();
    assert!(output(&mut session).is_empty(), "no PUBREC before it is consumed");
    session.connection_lost();
    session.consumed(1);
    session.on_connack(connack(true)).unwrap();
    assert!(output(&mut session).is_empty(), "the new connection has not seen a PUBLISH yet");
    feed(&mut session, sink, again).unwrap();
    assert_eq!(output(&mut session)[..], [0x50, 2, 0, 5]);
    feed(&mut session, sink, &[0x62, 2, 0, 5]).unwrap();
    assert_eq!(output(&mut session)[..], [0x70, 2, 0, 5]);
    assert_eq!(sink.got.len(), 1);
    feed(&mut session, sink, first).unwrap();
    assert_eq!(sink.got.len(), 2, "after PUBREL the identifier is free for another message");
}

#[test]
fn an_unknown_pubrel_is_answered() {
    // rumqttc #1053: it closes the connection instead, again and again.
    let mut session = connected(Version::V5, false);
    feed(&mut session, &mut Sink::default(), &[0x62, 2, 0, 9]).unwrap();
    assert_eq!(output(&mut session)[..], [0x70, 3, 0, 9, 0x92]);
    let mut session = connected(Version::V31, false);
    feed(&mut session, &mut Sink::default(), &[0x62, 2, 0, 9]).unwrap();
    assert_eq!(output(&mut session)[..], [0x70, 2, 0, 9]);
}

#[test]
fn a_message_that_cannot_be_held_is_not_acknowledged() {
    let mut session = connected(Version::V311, false);
    let sink = &mut Sink { full: true, ..Sink::default() };
    feed(&mut session, sink, b"\x34\x05\x00\x01a\x00\x05").unwrap();
    session.consumed(session.delivered());
    assert!(output(&mut session).is_empty());
    sink.full = false;
    reconnect(&mut session, true);
    feed(&mut session, sink, b"\x3C\x05\x00\x01a\x00\x05").unwrap();
    assert_eq!(sink.got.len(), 1);
}

#[test]
fn incoming_aliases_are_resolved_and_checked() {
    let mut asked = connect(Version::V5, true);
    asked.topic_alias_maximum = Some(2);
    let mut session = Session::new(SessionConfig::new(asked)).unwrap();
    session.on_connack(connack(false)).unwrap();
    let sink = &mut Sink::default();
    feed(&mut session, sink, b"\x30\x08\x00\x01a\x03\x23\x00\x021\x30\x07\x00\x00\x03\x23\x00\x022").unwrap();
    assert_eq!(sink.got, [("a".into(), "1".into()), ("a".into(), "2".into())]);
    for (bytes, reason) in [
        (&b"\x30\x06\x00\x00\x03\x23\x00\x03"[..], 0x94), // above our maximum
        (b"\x30\x06\x00\x00\x03\x23\x00\x00", 0x94),      // 0
        (b"\x30\x06\x00\x00\x03\x23\x00\x01", 0x82),      // never defined
        (b"\x30\x03\x00\x00\x00", 0x82),                  // neither topic nor alias
    ] {
        let Err(SessionError::Wire(error)) = feed(&mut session, sink, bytes) else { panic!("{bytes:?}") };
        assert_eq!(error.reason, Reason(reason), "{error}");
    }
    reconnect(&mut session, false);
    assert!(
        feed(&mut session, sink, b"\x30\x06\x00\x00\x03\x23\x00\x02").is_err(),
        "an alias ends with its connection"
    );
}

#[test]
fn outgoing_aliases_save_the_topic_and_never_reach_a_repetition() {
    let mut session = with_limits(|limits| limits.topic_alias_max = Some(1));
    (0..3).for_each(|token| publish(&mut session, token, QoS::AtLeastOnce));
    publish_to(&mut session, 3, "another/topic", QoS::AtMostOnce, Outgoing::default());
    let sent = publishes(packets(&mut session));
    let alias = |publish: &Wire| publish.properties.as_ref().and_then(|p| p.topic_alias);
    let seen: Vec<_> = sent.iter().map(|p| (p.topic.len(), alias(p))).collect();
    assert_eq!(seen, [(7, Some(1)), (0, Some(1)), (0, Some(1)), (13, None)]);
    reconnect(&mut session, false);
    let again = publishes(packets(&mut session));
    assert!(again.iter().all(|publish| publish.topic == "t/topic" && alias(publish).is_none()));
}

#[test]
fn more_than_our_receive_maximum_is_borne_and_nothing_is_lost() {
    let mut asked = connect(Version::V5, true);
    asked.receive_maximum = Some(2);
    let mut session = Session::new(SessionConfig::new(asked)).unwrap();
    session.on_connack(connack(false)).unwrap();
    let sink = &mut Sink::default();
    let message = |pid: u8| [0x34, 6, 0, 1, b'a', 0, pid, 0];
    feed(&mut session, sink, &message(1)).unwrap();
    feed(&mut session, sink, &message(2)).unwrap();
    session.consumed(2);
    feed(&mut session, sink, &[0x62, 2, 0, 1]).unwrap();
    feed(&mut session, sink, &message(3)).unwrap();
    feed(&mut session, sink, &message(4)).unwrap();
    assert_eq!(session.delivered(), 4);
    session.consumed(4);
    let received = packets(&mut session).iter().filter(|packet| matches!(packet, Packet::PubRec(_))).count();
    assert_eq!(received, 4, "one PUBREC each");
}

#[test]
fn the_servers_limits_are_respected() {
    let mut session = with_limits(|limits| {
        limits.max_packet_size = Some(60);
        limits.max_qos = Some(1);
        limits.retain_available = Some(0);
        limits.wildcard_subscription_available = Some(0);
        limits.shared_subscription_available = Some(0);
        limits.subscription_identifiers_available = Some(0);
    });
    publish(&mut session, 1, QoS::ExactlyOnce);
    let large = Publish { topic: "t", payload: &[0; 100], ..Publish::default() };
    session.publish(2, &large, Instant::now()).unwrap();
    let retained = Publish { topic: "t", retain: true, ..Publish::default() };
    session.publish(3, &retained, Instant::now()).unwrap();
    publish(&mut session, 4, QoS::AtLeastOnce);
    subscribe(&mut session, 5, &["a/#"]);
    subscribe(&mut session, 6, &["$share/g/a"]);
    let with_id = Subscribe { filters: vec![filter("a")], id: Some(1), ..Subscribe::default() };
    session.subscribe(7, with_id).unwrap();
    subscribe(&mut session, 8, &["a-rather-long-filter", "another-rather-long-filter", "and-a-third-one"]);
    assert_eq!(packets(&mut session).len(), 1);
    let texts: Vec<String> = session.notices().iter().map(|notice| format!("{notice:?}")).collect();
    for (token, part) in [
        (1, "at most QoS 1"),
        (2, "needs 106 bytes, this server takes at most 60"),
        (3, "0x9A retain"),
        (5, "0xA2 topic filter 'a/#'"),
        (6, "0x9E"),
        (7, "0xA1"),
        (8, "SUBSCRIBE needs"),
    ] {
        let token = format!("token: {token},");
        assert!(texts.iter().any(|text| text.contains(&token) && text.contains(part)), "{part}: {texts:?}");
    }
}

#[test]
fn an_expired_message_is_reported_and_not_sent() {
    let mut session = connected(Version::V5, false);
    session.connection_lost();
    let properties = Outgoing { message_expiry: Some(5), ..Outgoing::default() };
    publish_to(&mut session, 1, "t", QoS::AtLeastOnce, properties);
    session.on_connack(connack(true)).unwrap();
    let mut out = BytesMut::new();
    session.poll_output(Instant::now() + Duration::from_secs(6), &mut out);
    assert!(out.is_empty());
    assert_eq!(outcomes(&mut session), [(1, "Expired".into())]);
}

#[test]
fn qos_0_bytes_that_were_never_flushed_are_told() {
    let mut session = connected(Version::V311, true);
    publish(&mut session, 1, QoS::AtMostOnce);
    session.poll_output(Instant::now(), &mut BytesMut::new());
    session.connection_lost();
    assert_eq!(outcomes(&mut session), [(1, "Unconfirmed".into())]);
}

#[test]
fn subscriptions_are_asked_for_again_when_the_session_is_lost() {
    let mut session = connected(Version::V5, false);
    subscribe(&mut session, 1, &["a", "b"]);
    output(&mut session);
    feed(&mut session, &mut Sink::default(), &[0x90, 5, 0, 1, 0, 1, 0x87]).unwrap();
    let results = vec![("a".into(), Reason(1)), ("b".into(), Reason(0x87))];
    assert_eq!(session.notices(), [Notice::Subscribed { token: 1, results, text: None }]);
    reconnect(&mut session, true);
    assert!(output(&mut session).is_empty());
    reconnect(&mut session, false);
    let [Packet::Subscribe(again)] = &packets(&mut session)[..] else { panic!() };
    assert_eq!(again.filters.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["a"]);
    let [high, low] = again.pkid.to_be_bytes();
    feed(&mut session, &mut Sink::default(), &[0x90, 4, high, low, 0, 0x87]).unwrap();
    assert!(matches!(&session.notices()[..], [Notice::SubscriptionLost { filter, .. }] if filter == "a"));
    assert_eq!(session.granted().count(), 0);
}

#[test]
fn an_unanswered_request_is_sent_again_and_3_1_always_resubscribes() {
    let mut session = connected(Version::V31, false);
    subscribe(&mut session, 1, &["a"]);
    output(&mut session);
    reconnect(&mut session, false);
    let out = output(&mut session);
    assert_eq!(out[0], 0x82);
    feed(&mut session, &mut Sink::default(), &[0x90, 3, out[2], out[3], 0]).unwrap();
    reconnect(&mut session, false);
    assert_eq!(output(&mut session)[0], 0x82);
}

#[test]
fn unsubscribe_reports_and_forgets() {
    let mut session = connected(Version::V311, true);
    subscribe(&mut session, 1, &["a", "b"]);
    output(&mut session);
    feed(&mut session, &mut Sink::default(), &[0x90, 4, 0, 1, 0, 0]).unwrap();
    session.notices();
    session.unsubscribe(2, vec!["a".into()]).unwrap();
    output(&mut session);
    feed(&mut session, &mut Sink::default(), &[0xB0, 2, 0, 2]).unwrap();
    assert_eq!(
        session.notices(),
        [Notice::Unsubscribed { token: 2, results: vec![("a".into(), Reason(0))] }]
    );
    assert_eq!(session.granted().map(|f| f.filter.as_str()).collect::<Vec<_>>(), ["b"]);
    assert!(session.unsubscribe(3, vec!["a/#/b".into()]).is_err());
}

#[test]
fn clean_start_with_an_expiry_is_clean_only_once() {
    let mut asked = connect(Version::V5, true);
    asked.session_expiry = Some(60);
    let mut session = Session::new(SessionConfig::new(asked)).unwrap();
    let clean = |session: &mut Session| session.connect_packet(None).unwrap()[9] & 2 != 0;
    assert!(clean(&mut session));
    session.on_connack(connack(false)).unwrap();
    session.connection_lost();
    assert!(!clean(&mut session));
    let mut session = connected(Version::V311, true);
    assert!(clean(&mut session));
    session.connection_lost();
    assert!(session.on_connack(connack(true)).is_err(), "a session we asked to drop");
}

#[test]
fn the_server_may_name_client_and_keep_alive() {
    let mut session = Session::new(SessionConfig::new(connect(Version::V5, true))).unwrap();
    let answer = limits(|limits| {
        limits.assigned_client_identifier = Some("auto-7".into());
        limits.server_keep_alive = Some(5);
    });
    let accepted = session.on_connack(answer).unwrap();
    assert_eq!((accepted.client_id.as_str(), accepted.keep_alive), ("auto-7", 5));
    session.connection_lost();
    let packet = session.connect_packet(None).unwrap();
    assert!(packet.ends_with(b"\x00\x06auto-7"), "the next connection is the same client");
}

#[test]
fn the_server_may_disconnect_with_a_reason() {
    let mut session = connected(Version::V5, true);
    let error = feed(&mut session, &mut Sink::default(), &[0xE0, 6, 0x9C, 4, 0x1C, 0, 1, b'b']).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server disconnected us: 0x9C use another server; it names another server: b"
    );
}

#[test]
fn answers_that_fit_nothing_are_errors_or_harmless() {
    let mut session = connected(Version::V311, true);
    let sink = &mut Sink::default();
    feed(&mut session, sink, &[0x40, 2, 0, 9, 0x70, 2, 0, 9, 0x90, 3, 0, 9, 0, 0xB0, 2, 0, 9, 0xD0, 0])
        .unwrap();
    feed(&mut session, sink, &[0x50, 2, 0, 9]).unwrap();
    assert_eq!(
        output(&mut session)[..],
        [0x62, 2, 0, 9],
        "PUBREC of an unknown message: let the server finish"
    );
    publish(&mut session, 1, QoS::AtLeastOnce);
    publish(&mut session, 2, QoS::ExactlyOnce);
    output(&mut session);
    for bytes in [&[0x50, 2, 0, 1][..], &[0x40, 2, 0, 2], &[0x70, 2, 0, 2], &[0x20, 2, 0, 0], &[0x10, 0]] {
        assert!(matches!(feed(&mut session, sink, bytes), Err(SessionError::Wire(_))), "{bytes:?}");
    }
}
