//! Helpers of the session tests: frames in, packets out, and a sink that writes down what it was given.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::v5;
use tracemq_mqtt::session::{Deliver, Message, Notice, Session, SessionConfig, SessionError};
use tracemq_mqtt::wire::control::ConnAck;
use tracemq_mqtt::wire::property::Outgoing;
use tracemq_mqtt::wire::{Connect, Frames, Publish, QoS, Version};

/// What was delivered: topic and payload, both as text.
#[derive(Default)]
pub(crate) struct Sink {
    pub(crate) got: Vec<(String, String)>,
    pub(crate) full: bool,
}

impl Deliver for Sink {
    fn deliver(&mut self, message: &Message<'_>) -> bool {
        if !self.full {
            let payload = String::from_utf8(message.buffer[message.payload.clone()].to_vec()).unwrap();
            self.got.push((message.topic().to_owned(), payload));
        }
        !self.full
    }
}

/// Feeds packets to the session.
pub(crate) fn feed(session: &mut Session, sink: &mut Sink, bytes: &[u8]) -> Result<(), SessionError> {
    let bytes = Bytes::copy_from_slice(bytes);
    Frames::new(&bytes).try_for_each(|frame| session.handle(&frame, sink))
}

/// All that the session wants to write now.
pub(crate) fn output(session: &mut Session) -> BytesMut {
    let mut out = BytesMut::new();
    session.poll_output(Instant::now(), &mut out);
    session.flushed();
    out
}

/// The same, read by rumqttc's 5.0 codec.
pub(crate) fn packets(session: &mut Session) -> Vec<v5::Packet> {
    let mut out = output(session);
    let mut packets = Vec::new();
    while !out.is_empty() {
        packets.push(v5::Packet::read(&mut out, None).unwrap());
    }
    packets
}

pub(crate) fn connack(session_present: bool) -> ConnAck {
    ConnAck { session_present, code: 0, properties: None }
}

pub(crate) fn connect(version: Version, clean: bool) -> Connect {
    let mut connect = Connect::new(version, "me", clean);
    if version == Version::V5 && !clean {
        connect.session_expiry = Some(3600);
    }
    connect
}

/// A session that was accepted, with no session at the server.
pub(crate) fn connected(version: Version, clean: bool) -> Session {
    let mut session = Session::new(SessionConfig::new(connect(version, clean))).unwrap();
    session.on_connack(connack(false)).unwrap();
    session
}

pub(crate) fn reconnect(session: &mut Session, session_present: bool) {
    session.connection_lost();
    session.on_connack(connack(session_present)).unwrap();
}

pub(crate) fn publish(session: &mut Session, token: u64, qos: QoS) {
    publish_to(session, token, "t/topic", qos, Outgoing::default());
}

pub(crate) fn publish_to(session: &mut Session, token: u64, topic: &str, qos: QoS, properties: Outgoing<'_>) {
    let payload = token.to_string();
    let publish = Publish { topic, payload: payload.as_bytes(), qos, retain: false, properties };
    session.publish(token, &publish, Instant::now()).unwrap();
}

/// The outcomes so far, by token, as text.
pub(crate) fn outcomes(session: &mut Session) -> Vec<(u64, String)> {
    let notices = session.notices().into_iter();
    notices
        .filter_map(|notice| match notice {
            Notice::Published { token, outcome } => Some((token, format!("{outcome:?}"))),
            _ => None,
        })
        .collect()
}
