//! A client of a few packets, written from the standard, that can also misbehave.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::house::LIMIT;

pub(crate) struct Raw(pub(crate) TcpStream);

/// A control packet: first byte and what follows the length.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let more = length >= 128;
        bytes.push((length % 128) as u8 | if more { 128 } else { 0 });
        length /= 128;
        if !more {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn string(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// CONNECT of level 4 or 5, without user and will; `properties` for 5.
pub(crate) fn connect(level: u8, id: &str, clean: bool, keep_alive: u16, properties: &[u8]) -> Vec<u8> {
    let mut body = string("MQTT");
    body.extend_from_slice(&[level, if clean { 2 } else { 0 }]);
    body.extend_from_slice(&keep_alive.to_be_bytes());
    if level == 5 {
        body.push(properties.len() as u8);
        body.extend_from_slice(properties);
    }
    body.extend(string(id));
    packet(0x10, &body)
}

/// PUBLISH for level 4 (`properties` None) or 5.
pub(crate) fn publish(topic: &str, payload: &[u8], qos: u8, id: u16, properties: Option<&[u8]>) -> Vec<u8> {
    let mut body = string(topic);
    if qos > 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    if let Some(properties) = properties {
        body.push(properties.len() as u8);
        body.extend_from_slice(properties);
    }
    body.extend_from_slice(payload);
    packet(0x30 | (qos << 1), &body)
}

pub(crate) fn subscribe(level: u8, filter: &str, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    if level == 5 {
        body.push(0);
    }
    body.extend(string(filter));
    body.push(qos);
    packet(0x82, &body)
}

impl Raw {
    pub(crate) fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the broker listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
        stream.set_write_timeout(Some(LIMIT)).expect("a time-out");
        Self(stream)
    }

    /// Connects and returns the client with the body of CONNACK.
    pub(crate) fn connect(address: &str, connect: &[u8]) -> (Self, Vec<u8>) {
        let mut client = Self::open(address);
        client.send(connect);
        let (first, body) = client.packet().expect("a CONNACK");
        assert_eq!(first, 0x20, "CONNACK");
        (client, body)
    }

    /// Connects and is accepted.
    pub(crate) fn accepted(address: &str, connect: &[u8]) -> Self {
        let (client, body) = Self::connect(address, connect);
        assert_eq!(body[1], 0, "accepted: {body:?}");
        client
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("written");
    }

    /// The next packet; `None` at the end of the connection.
    pub(crate) fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut first = [0];
        if self.0.read(&mut first).ok()? == 0 {
            return None;
        }
        let (mut length, mut shift) = (0usize, 0);
        loop {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("a length");
            length |= usize::from(byte[0] & 127) << shift;
            shift += 7;
            if byte[0] < 128 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("a body");
        Some((first[0], body))
    }

    /// Reads until a packet of this type, and returns its body.
    pub(crate) fn expect(&mut self, kind: u8) -> Vec<u8> {
        loop {
            let (first, body) = self.packet().unwrap_or_else(|| panic!("closed before packet type {kind}"));
            if first >> 4 == kind {
                return body;
            }
        }
    }

    /// Whether nothing arrives for a while.
    pub(crate) fn silent(&mut self, time: Duration) -> bool {
        self.0.set_read_timeout(Some(time)).expect("a time-out");
        let mut byte = [0];
        let silent = self.0.peek(&mut byte).is_err();
        self.0.set_read_timeout(Some(LIMIT)).expect("a time-out");
        silent
    }
}
