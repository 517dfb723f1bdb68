//! A server that sends anything at any time, across connections: the session must not panic, and its books must balance.

#![no_main]

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use tracemq_mqtt::session::store::Restored;
use tracemq_mqtt::session::{Deliver, Message, Session, SessionConfig};
use tracemq_mqtt::wire::control::ConnAck;
use tracemq_mqtt::wire::frame::complete;
use tracemq_mqtt::wire::request::{Filter, Subscribe};
use tracemq_mqtt::wire::{Connect, Frames, Publish, QoS, Version};

struct Sink(u64);

impl Deliver for Sink {
    fn deliver(&mut self, message: &Message<'_>) -> bool {
        let _ = (message.topic().len(), &message.buffer[message.payload.clone()], message.properties.count());
        self.0 += 1;
        true
    }
}

fn run(version: Version, persistent: bool, mut data: &[u8]) {
    let mut connect = Connect::new(version, "fuzz", !persistent);
    if version == Version::V5 {
        connect.session_expiry = persistent.then_some(60);
        connect.topic_alias_maximum = Some(3);
        connect.receive_maximum = Some(20);
    }
    let mut config = SessionConfig::new(connect);
    config.use_topic_aliases = true;
    let Ok(mut session) = Session::new(config) else { return };
    session.restore(Restored::default());
    let mut sink = Sink(0);
    let mut token = 0;
    let accept = |session: &mut Session, present| {
        session.on_connack(ConnAck { session_present: present, code: 0, properties: None }).is_ok()
    };
    accept(&mut session, false);
    while let [step, rest @ ..] = data {
        data = rest;
        match step % 8 {
            0 | 1 => {
                let Some((length, rest)) = rest.split_first() else { break };
                let (input, rest) = rest.split_at((*length as usize).min(rest.len()));
                data = rest;
                let Ok(found) = complete(input, 1 << 16, 256) else { continue };
                let buffer = Bytes::copy_from_slice(&input[..found.end]);
                if Frames::new(&buffer).any(|frame| session.handle(&frame, &mut sink).is_err()) {
                    session.connection_lost();
                    accept(&mut session, persistent);
                }
            }
            2 => {
                token += 1;
                let qos = QoS::from_level(step / 8 % 3).unwrap_or_default();
                let publish = Publish { topic: "fuzz/topic", payload: b"x", qos, ..Publish::default() };
                let _ = session.publish(token, &publish, Instant::now());
            }
            3 => {
                let mut out = BytesMut::new();
                session.poll_output(Instant::now(), &mut out);
                session.flushed();
                while !out.is_empty() {
                    let found = complete(&out, 1 << 20, 256).expect("what we write is whole");
                    assert!(found.count > 0);
                    let _ = out.split_to(found.end);
                }
            }
            4 => session.consumed(session.delivered().saturating_sub(u64::from(step / 8))),
            5 => {
                session.connection_lost();
                accept(&mut session, step & 8 != 0 && persistent);
            }
            6 => {
                let filters = vec![Filter { filter: "a/#".into(), ..Filter::default() }];
                let _ = session.subscribe(token, Subscribe { filters, ..Subscribe::default() });
            }
            _ => {
                let _ = session.unsubscribe(token, vec!["a/#".into()]);
            }
        }
    }
    assert_eq!(session.delivered(), sink.0);
    // The journal leads to the same state as the snapshot.
    let _ = session.notices();
    let restored = Restored::from_changes(session.snapshot());
    let mut again = Session::new(SessionConfig::new(Connect::new(version, "fuzz", true))).unwrap();
    again.restore(restored.clone());
    assert_eq!(Restored::from_changes(again.snapshot()), restored);
}

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let version = [Version::V31, Version::V311, Version::V5][usize::from(first % 3)];
    run(version, first & 4 != 0, rest);
});
