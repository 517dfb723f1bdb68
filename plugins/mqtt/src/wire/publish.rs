//! PUBLISH, the hot path of both directions (5.0, section 3.3), without an allocation per message.

use std::ops::Range;

use bytes::{BufMut, BytesMut};

use super::frame::{put_varint, read_varint, varint_len};
use super::property::{self, Properties, put_binary};
use super::{Frame, Invalid, MAX_REMAINING, QoS, Version, WireError, topic};

/// DUP in the first byte of a PUBLISH.
pub const DUP: u8 = 0x08;

/// A received PUBLISH: where its parts are in the frame's buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishView {
    /// Quality of service.
    pub qos: QoS,
    /// Sent before.
    pub dup: bool,
    /// Retained by the server (or kept so by "retain as published").
    pub retain: bool,
    /// The packet identifier, 0 at QoS 0 only.
    pub pid: u16,
    /// Topic name; empty when an alias stands for it.
    pub topic: Range<usize>,
    /// Alias from the properties.
    pub alias: Option<u16>,
    /// The property list without its length prefix; checked.
    pub properties: Range<usize>,
    /// Payload.
    pub payload: Range<usize>,
}

impl PublishView {
    /// Reads a PUBLISH frame.
    ///
    /// # Errors
    /// QoS 3, a part cut short, a topic that is not UTF-8 or has NUL, packet identifier 0, bad properties.
    #[inline]
    pub fn read(frame: &Frame<'_>, version: Version) -> Result<Self, WireError> {
        let bytes: &[u8] = frame.buffer;
        let Range { start, end } = frame.body.clone();
        let short = || WireError::malformed("PUBLISH is cut short");
        let u16_at = |at: usize| {
            bytes.get(at..at + 2).filter(|_| at + 2 <= end).map(|b| u16::from_be_bytes([b[0], b[1]]))
        };

        let qos =
            QoS::from_level(frame.first >> 1 & 3).ok_or_else(|| WireError::malformed("PUBLISH has QoS 3"))?;
        let dup = frame.first & DUP != 0;
        let topic_end = start + 2 + usize::from(u16_at(start).ok_or_else(short)?);
        if topic_end > end {
            return Err(short());
        }
        let topic = start + 2..topic_end;
        match std::str::from_utf8(&bytes[topic.clone()]) {
            Ok(text) if !text.as_bytes().contains(&0) => {}
            Ok(_) => return Err(WireError::malformed("PUBLISH has a topic with NUL")),
            Err(_) => return Err(WireError::malformed("PUBLISH has a topic that is not UTF-8")),
        }
        let mut at = topic_end;
        let mut pid = 0;
        if qos != QoS::AtMostOnce {
            pid = u16_at(at).ok_or_else(short)?;
            at += 2;
            if pid == 0 {
                return Err(WireError::protocol("PUBLISH has packet identifier 0"));
            }
        }
        let mut properties = at..at;
        let mut alias = None;
        if version.is_v5() {
            let (length, prefix) = read_varint(&bytes[at..end])?.ok_or_else(short)?;
            properties = at + prefix..at + prefix + length;
            if properties.end > end {
                return Err(short());
            }
            at = properties.end;
            if length > 0 {
                alias = Properties::new(&bytes[properties.clone()]).check()?;
            }
        }
        Ok(Self { qos, dup, retain: frame.first & 1 != 0, pid, topic, alias, properties, payload: at..end })
    }
}

/// A message to publish.
#[derive(Debug, Clone, Default)]
pub struct Publish<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Any bytes.
    pub payload: &'a [u8],
    /// Quality of service.
    pub qos: QoS,
    /// The server keeps it for later subscribers.
    pub retain: bool,
    /// 5.0 only.
    pub properties: property::Outgoing<'a>,
}

/// An encoded PUBLISH whose packet identifier and DUP flag are put in when it is written, since it may wait, and
/// may be written more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Where the topic's length field starts.
    pub topic_at: u32,
    /// Where topic (and packet identifier) end: the properties in 5.0, the payload in 3.x.
    pub body_at: u32,
    /// Quality of service.
    pub qos: QoS,
}

impl Publish<'_> {
    /// Appends the packet, with packet identifier 0, to `out`.
    ///
    /// # Errors
    /// Bad topic or properties, properties with 3.x, a packet above 268,435,455 bytes. Then `out` is unchanged.
    pub fn encode(&self, version: Version, out: &mut BytesMut) -> Result<Layout, Invalid> {
        topic::check_topic(self.topic)?;
        let mut properties_len = 0;
        if version.is_v5() {
            self.properties.check()?;
            properties_len = self.properties.len_with_prefix();
        } else if !self.properties.is_empty() {
            return Err(Invalid::new(format!(
                "message properties (expiry, content type, response topic, correlation data, user properties) \
                 need MQTT 5.0, this connection speaks {version}"
            )));
        }
        let pid_len = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        let remaining = 2 + self.topic.len() + pid_len + properties_len + self.payload.len();
        if remaining > MAX_REMAINING {
            return Err(Invalid::new(format!(
                "payload of {} bytes: an MQTT packet has at most {MAX_REMAINING} bytes after its header",
                self.payload.len()
            )));
        }
        out.reserve(1 + varint_len(remaining) + remaining);
        out.put_u8(0x30 | self.qos.level() << 1 | u8::from(self.retain));
        put_varint(out, remaining);
        put_binary(out, self.topic.as_bytes());
        if pid_len > 0 {
            out.put_u16(0);
        }
        if version.is_v5() {
            self.properties.put(out);
        }
        out.put_slice(self.payload);
        let topic_at = 1 + varint_len(remaining);
        Ok(Layout {
            topic_at: topic_at as u32,
            body_at: (topic_at + 2 + self.topic.len() + pid_len) as u32,
            qos: self.qos,
        })
    }
}

/// How a stored PUBLISH names its topic this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// The full topic, no alias.
    Topic,
    /// The full topic, and from now on this alias for it.
    Define(u16),
    /// The alias alone.
    Alias(u16),
}

impl Layout {
    /// Finds the parts of an encoded PUBLISH again, as when it was read back from disk.
    ///
    /// # Errors
    /// The bytes are no PUBLISH.
    pub fn of(wire: &[u8]) -> Result<Self, WireError> {
        let bad = || WireError::malformed("not a PUBLISH");
        let first = *wire.first().filter(|first| **first >> 4 == 3).ok_or_else(bad)?;
        let qos = QoS::from_level(first >> 1 & 3).ok_or_else(bad)?;
        let (remaining, length) = read_varint(&wire[1..])?.ok_or_else(bad)?;
        let topic_at = 1 + length;
        let topic_len = wire.get(topic_at..topic_at + 2).ok_or_else(bad)?;
        let body_at = topic_at
            + 2
            + usize::from(u16::from_be_bytes([topic_len[0], topic_len[1]]))
            + if qos == QoS::AtMostOnce { 0 } else { 2 };
        if topic_at + remaining != wire.len() || body_at > wire.len() {
            return Err(bad());
        }
        Ok(Self { topic_at: topic_at as u32, body_at: body_at as u32, qos })
    }

    /// The topic inside `wire`.
    pub fn topic<'a>(&self, wire: &'a [u8]) -> &'a [u8] {
        let pid_len = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        &wire[self.topic_at as usize + 2..self.body_at as usize - pid_len]
    }

    /// Writes the packet with this identifier, DUP flag and naming. An alias needs 5.0.
    pub fn write(&self, wire: &[u8], pid: u16, dup: bool, naming: Naming, out: &mut BytesMut) {
        let first = wire[0] | if dup { DUP } else { 0 };
        let (topic_at, body_at) = (self.topic_at as usize, self.body_at as usize);
        let (alias, topic) = match naming {
            Naming::Topic => {
                out.reserve(wire.len());
                out.put_u8(first);
                if self.qos == QoS::AtMostOnce {
                    out.put_slice(&wire[1..]);
                } else {
                    out.put_slice(&wire[1..body_at - 2]);
                    out.put_u16(pid);
                    out.put_slice(&wire[body_at..]);
                }
                return;
            }
            Naming::Define(alias) => (alias, self.topic(wire)),
            Naming::Alias(alias) => (alias, &[][..]),
        };
        // The stored property list was written by `encode`: its prefix is there and whole.
        let (properties, prefix) = read_varint(&wire[body_at..]).ok().flatten().unwrap_or((0, 0));
        let rest = &wire[body_at + prefix..];
        let old_head = body_at - topic_at;
        let new_head = old_head - self.topic(wire).len() + topic.len();
        let remaining = wire.len() - topic_at - old_head - prefix + new_head + varint_len(properties + 3) + 3;
        out.reserve(5 + remaining);
        out.put_u8(first);
        put_varint(out, remaining);
        put_binary(out, topic);
        if self.qos != QoS::AtMostOnce {
            out.put_u16(pid);
        }
        put_varint(out, properties + 3);
        out.put_u8(0x23);
        out.put_u16(alias);
        out.put_slice(rest);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rumqttc::v5::mqttbytes::v5;

    use super::*;
    use crate::wire::Frames;

    fn encoded(publish: &Publish<'_>, version: Version) -> (Bytes, Layout) {
        let mut out = BytesMut::new();
        let layout = publish.encode(version, &mut out).unwrap();
        assert_eq!(Layout::of(&out).unwrap(), layout);
        (out.freeze(), layout)
    }

    fn read(bytes: &Bytes, version: Version) -> Result<PublishView, WireError> {
        PublishView::read(&Frames::new(bytes).next().unwrap(), version)
    }

    #[test]
    fn another_codec_reads_what_is_written() {
        let publish = Publish {
            topic: "a/b",
            payload: b"21.5",
            qos: QoS::ExactlyOnce,
            retain: true,
            properties: property::Outgoing {
                message_expiry: Some(9),
                user: &[("k", "v")],
                ..Default::default()
            },
        };
        let (wire, layout) = encoded(&publish, Version::V5);
        for (naming, topic, alias) in [
            (Naming::Topic, "a/b", None),
            (Naming::Define(3), "a/b", Some(3)),
            (Naming::Alias(3), "", Some(3)),
        ] {
            let mut out = BytesMut::new();
            layout.write(&wire, 77, true, naming, &mut out);
            let v5::Packet::Publish(got) = v5::Packet::read(&mut out, None).unwrap() else { panic!() };
            assert!(out.is_empty());
            assert_eq!((&got.topic[..], &got.payload[..]), (topic.as_bytes(), &b"21.5"[..]));
            assert!(got.dup && got.retain);
            assert_eq!(got.pkid, 77);
            let properties = got.properties.unwrap();
            assert_eq!(properties.topic_alias, alias);
            assert_eq!(properties.message_expiry_interval, Some(9));
            assert_eq!(properties.user_properties, vec![("k".into(), "v".into())]);
        }
    }

    #[test]
    fn the_view_points_into_the_buffer() {
        for version in [Version::V31, Version::V311, Version::V5] {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let publish = Publish { topic: "ä/1", payload: b"xyz", qos, ..Default::default() };
                let (wire, layout) = encoded(&publish, version);
                let mut out = BytesMut::new();
                layout.write(&wire, 5, false, Naming::Topic, &mut out);
                let bytes = out.freeze();
                let view = read(&bytes, version).unwrap();
                assert_eq!(&bytes[view.topic.clone()], "ä/1".as_bytes());
                assert_eq!(&bytes[view.payload.clone()], b"xyz");
                assert_eq!(view.pid, if qos == QoS::AtMostOnce { 0 } else { 5 });
                assert_eq!((view.qos, view.dup), (qos, false));
            }
        }
    }

    #[test]
    fn bad_packets_are_refused() {
        for (bytes, version) in [
            (&[0x36, 5, 0, 1, b'a', 0, 1][..], Version::V311), // QoS 3
            (&[0x30, 1, 0], Version::V311),                    // no room for the topic's length
            (&[0x30, 3, 0, 9, b'a'], Version::V311),           // topic longer than the packet
            (&[0x30, 3, 0, 1, 0xFF], Version::V311),           // topic not UTF-8
            (&[0x30, 3, 0, 1, 0], Version::V311),              // topic with NUL
            (&[0x32, 5, 0, 1, b'a', 0, 0], Version::V311),     // packet identifier 0
            (&[0x32, 4, 0, 1, b'a', 0], Version::V311),        // half a packet identifier
            (&[0x30, 3, 0, 1, b'a'], Version::V5),             // no property length
            (&[0x30, 4, 0, 1, b'a', 9], Version::V5),          // properties longer than the packet
        ] {
            assert!(read(&Bytes::copy_from_slice(bytes), version).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn properties_need_5_0_and_nothing_is_written_on_refusal() {
        let properties = property::Outgoing { content_type: Some("x"), ..Default::default() };
        let publish = Publish { topic: "a", properties, ..Default::default() };
        let mut out = BytesMut::new();
        assert!(publish.encode(Version::V311, &mut out).unwrap_err().to_string().contains("need MQTT 5.0"));
        assert!(out.is_empty());
    }
}
