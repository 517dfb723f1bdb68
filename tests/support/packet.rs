//! As much of MQTT's wire format as a source of messages needs (MQTT 3.1.1 and 5.0, chapters 2 and 3).

use std::io::{self, Read};

pub(crate) const CONNACK: u8 = 0x20;
pub(crate) const PUBLISH: u8 = 0x30;
pub(crate) const SUBACK: u8 = 0x90;
pub(crate) const PINGRESP: u8 = 0xD0;

/// Some packet types that a client sends, as the high half of the first byte.
pub(crate) const CONNECT_TYPE: u8 = 1;
pub(crate) const PUBACK_TYPE: u8 = 4;
pub(crate) const SUBSCRIBE_TYPE: u8 = 8;
pub(crate) const PINGREQ_TYPE: u8 = 12;

/// A packet as it was read: its first byte and what follows the remaining length.
#[derive(Clone, Debug)]
pub struct Packet {
    pub first: u8,
    pub body: Vec<u8>,
}

impl Packet {
    /// The packet type: the high half of the first byte.
    pub fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// `None` at the end of the stream.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Packet>> {
        let mut first = [0];
        if from.read(&mut first)? == 0 {
            return Ok(None);
        }
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let mut byte = [0];
            from.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 0x7F) << shift;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        Ok(Some(Packet { first: first[0], body }))
    }
}

/// Appends a packet.
pub(crate) fn write(out: &mut Vec<u8>, first: u8, parts: &[&[u8]]) {
    out.push(first);
    let mut length: usize = parts.iter().map(|part| part.len()).sum();
    loop {
        let byte = (length & 0x7F) as u8;
        length >>= 7;
        if length == 0 {
            out.push(byte);
            break;
        }
        out.push(byte | 0x80);
    }
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// A text with its length before it.
pub(crate) fn text(value: &str) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("a short text");
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(value.as_bytes());
    bytes
}
