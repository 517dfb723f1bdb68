//! Any bytes as a session's journal, and any changes as its content: reading must not panic, what was written is read
//! back, and a session takes what it says.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use tracemq_mqtt::session::store::{Change, Restored, load, put};
use tracemq_mqtt::session::{Session, SessionConfig};
use tracemq_mqtt::wire::control::ConnAck;
use tracemq_mqtt::wire::{Connect, Version};

fn changes(mut data: &[u8]) -> Vec<Change> {
    let mut changes = Vec::new();
    while let [kind, pid, length, rest @ ..] = data {
        let (wire, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        let pid = u16::from(*pid);
        changes.push(match kind % 5 {
            0 => Change::Sent { pid, wire: Bytes::copy_from_slice(wire) },
            1 => Change::Released { pid },
            2 => Change::Done { pid },
            3 => Change::Received { pid },
            _ => Change::Forgotten { pid },
        });
        data = rest;
    }
    changes
}

fuzz_target!(|data: &[u8]| {
    let loaded = load(&Bytes::copy_from_slice(data));
    assert!(loaded.good <= data.len());

    let changes = changes(data);
    let mut journal = b"tracemq mqtt session 1\n".to_vec();
    changes.iter().for_each(|change| put(change, &mut journal));
    let loaded = load(&Bytes::from(journal));
    assert_eq!((&loaded.changes, loaded.damaged), (&changes, false));

    let mut connect = Connect::new(Version::V5, "fuzz", false);
    connect.session_expiry = Some(60);
    let mut session = Session::new(SessionConfig::new(connect)).unwrap();
    session.restore(Restored::from_changes(changes));
    let ack = ConnAck { session_present: data.len() % 2 == 0, code: 0, properties: None };
    session.on_connack(ack).unwrap();
    session.poll_output(std::time::Instant::now(), &mut BytesMut::new());
});
