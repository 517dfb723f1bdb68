//! Packets that a client sends besides CONNECT and PUBLISH (5.0, sections 3.4 to 3.15).

use bytes::{BufMut, BytesMut};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;
use rumqttc::{mqttbytes, v5::mqttbytes as mqttbytes5};

use super::connect::check_pairs;
use super::frame::{put_varint, varint_len};
use super::property::put_binary;
use super::{Invalid, QoS, Reason, Version, topic};

/// The four acknowledgement packets, as the first byte on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AckKind {
    /// Received, QoS 1.
    PubAck = 0x40,
    /// Received, QoS 2, first part.
    PubRec = 0x50,
    /// Released, QoS 2, second part.
    PubRel = 0x62,
    /// Complete, QoS 2, third part.
    PubComp = 0x70,
}

/// Appends an acknowledgement. A reason other than success is written in 5.0 only: 3.x has no place for it.
#[inline]
pub fn put_ack(kind: AckKind, pid: u16, reason: Reason, version: Version, out: &mut BytesMut) {
    let [high, low] = pid.to_be_bytes();
    if reason == Reason::SUCCESS || !version.is_v5() {
        out.put_slice(&[kind as u8, 2, high, low]);
    } else {
        out.put_slice(&[kind as u8, 3, high, low, reason.0]);
    }
}

/// Appends PINGREQ.
pub fn put_ping(out: &mut BytesMut) {
    out.put_slice(&[0xC0, 0]);
}

/// When the server sends messages that were retained before the SUBSCRIBE (5.0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetainHandling {
    /// At each SUBSCRIBE.
    #[default]
    Send,
    /// Only when the subscription is new.
    SendIfNew,
    /// Never.
    Never,
}

/// A topic filter with its options. All but `qos` need 5.0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// The topic filter.
    pub filter: String,
    /// The highest QoS wanted.
    pub qos: QoS,
    /// Leave out what this client published itself.
    pub no_local: bool,
    /// Keep the retain flag as it was published.
    pub retain_as_published: bool,
    /// Retained messages.
    pub retain_handling: RetainHandling,
}

/// A SUBSCRIBE to send.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subscribe {
    /// At least one.
    pub filters: Vec<Filter>,
    /// 5.0: comes back with each message; 1 to 268,435,455.
    pub id: Option<u32>,
    /// 5.0: names and values.
    pub user_properties: Vec<(String, String)>,
}

impl Subscribe {
    /// # Errors
    /// No filter, a bad one, an option that the version does not have or a value out of range.
    pub fn check(&self, version: Version) -> Result<(), Invalid> {
        if self.filters.is_empty() {
            return Err(Invalid::new("no topic filter: at least one is needed to subscribe"));
        }
        for filter in &self.filters {
            topic::check_filter(&filter.filter, version)?;
            let plain = Filter { filter: filter.filter.clone(), qos: filter.qos, ..Filter::default() };
            if !version.is_v5() && plain != *filter {
                return Err(Invalid::new(format!(
                    "no local, retain as published and retain handling need MQTT 5.0, this connection speaks \
                     {version}"
                )));
            }
            if filter.no_local && topic::is_shared(&filter.filter) {
                return Err(Invalid::new(format!(
                    "topic filter '{}': no local is not allowed for a shared subscription",
                    filter.filter
                )));
            }
        }
        if !version.is_v5() && (self.id.is_some() || !self.user_properties.is_empty()) {
            return Err(Invalid::new(format!(
                "subscription id and user properties need MQTT 5.0, this connection speaks {version}"
            )));
        }
        if self.id.is_some_and(|id| !(1..=268_435_455).contains(&id)) {
            return Err(Invalid::new("subscription id: it must be 1 to 268435455"));
        }
        check_pairs("user property", &self.user_properties)
    }

    /// The packet. Call [`Self::check`] before.
    ///
    /// # Errors
    /// Above 268,435,455 bytes.
    pub fn encode(&self, pid: u16, version: Version, out: &mut BytesMut) -> Result<(), Invalid> {
        let written = if version.is_v5() {
            let filters = self.filters.iter().map(|filter| v5::Filter {
                path: filter.filter.clone(),
                qos: match filter.qos {
                    QoS::AtMostOnce => mqttbytes5::QoS::AtMostOnce,
                    QoS::AtLeastOnce => mqttbytes5::QoS::AtLeastOnce,
                    QoS::ExactlyOnce => mqttbytes5::QoS::ExactlyOnce,
                },
                nolocal: filter.no_local,
                preserve_retain: filter.retain_as_published,
                retain_forward_rule: match filter.retain_handling {
                    RetainHandling::Send => v5::RetainForwardRule::OnEverySubscribe,
                    RetainHandling::SendIfNew => v5::RetainForwardRule::OnNewSubscribe,
                    RetainHandling::Never => v5::RetainForwardRule::Never,
                },
            });
            let properties = v5::SubscribeProperties {
                id: self.id.map(|id| id as usize),
                user_properties: self.user_properties.clone(),
            };
            let mut packet = v5::Subscribe::new_many(filters, Some(properties));
            packet.pkid = pid;
            packet.write(out).is_ok()
        } else {
            let filters = self.filters.iter().map(|filter| {
                let qos = match filter.qos {
                    QoS::AtMostOnce => mqttbytes::QoS::AtMostOnce,
                    QoS::AtLeastOnce => mqttbytes::QoS::AtLeastOnce,
                    QoS::ExactlyOnce => mqttbytes::QoS::ExactlyOnce,
                };
                v4::SubscribeFilter::new(filter.filter.clone(), qos)
            });
            let mut packet = v4::Subscribe::new_many(filters);
            packet.pkid = pid;
            packet.write(out).is_ok()
        };
        if written { Ok(()) } else { Err(too_long("SUBSCRIBE")) }
    }
}

/// Appends UNSUBSCRIBE. The filters were checked by [`topic::check_filter`].
///
/// # Errors
/// Above 268,435,455 bytes.
pub fn put_unsubscribe(
    filters: &[String],
    pid: u16,
    version: Version,
    out: &mut BytesMut,
) -> Result<(), Invalid> {
    let filters = filters.to_vec();
    let written = if version.is_v5() {
        v5::Unsubscribe { pkid: pid, filters, properties: None }.write(out).is_ok()
    } else {
        v4::Unsubscribe { pkid: pid, topics: filters }.write(out).is_ok()
    };
    if written { Ok(()) } else { Err(too_long("UNSUBSCRIBE")) }
}

/// Appends DISCONNECT. Reason and session expiry (seconds) are written in 5.0 only.
pub fn put_disconnect(reason: Reason, session_expiry: Option<u32>, version: Version, out: &mut BytesMut) {
    match session_expiry {
        _ if !version.is_v5() => out.put_slice(&[0xE0, 0]),
        Some(seconds) => {
            out.put_slice(&[0xE0, 7, reason.0, 5, 0x11]);
            out.put_u32(seconds);
        }
        None if reason == Reason::SUCCESS => out.put_slice(&[0xE0, 0]),
        None => out.put_slice(&[0xE0, 2, reason.0, 0]),
    }
}

/// Appends AUTH (5.0). By hand: rumqttc's writer leaves two length bytes out of its count.
///
/// # Errors
/// Method or data above 65,535 bytes.
pub fn put_auth(reason: Reason, method: &str, data: &[u8], out: &mut BytesMut) -> Result<(), Invalid> {
    topic::check_string("authentication method", method)?;
    topic::check_binary("authentication data", data)?;
    let properties = 3 + method.len() + 3 + data.len();
    out.put_u8(0xF0);
    put_varint(out, 1 + varint_len(properties) + properties);
    out.put_u8(reason.0);
    put_varint(out, properties);
    out.put_u8(0x15);
    put_binary(out, method.as_bytes());
    out.put_u8(0x16);
    put_binary(out, data);
    Ok(())
}

fn too_long(what: &str) -> Invalid {
    Invalid::new(format!("{what} is above 268435455 bytes: ask for fewer at once"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscribe_carries_all_options() {
        let subscribe = Subscribe {
            filters: vec![
                Filter {
                    filter: "a/#".into(),
                    qos: QoS::ExactlyOnce,
                    no_local: true,
                    retain_as_published: true,
                    retain_handling: RetainHandling::Never,
                },
                Filter { filter: "b".into(), ..Filter::default() },
            ],
            id: Some(300),
            user_properties: vec![("k".into(), "v".into())],
        };
        let mut out = BytesMut::new();
        subscribe.check(Version::V5).unwrap();
        subscribe.encode(258, Version::V5, &mut out).unwrap();
        let expected = b"\x82\x17\x01\x02\x0A\x0B\xAC\x02\x26\x00\x01k\x00\x01v\x00\x03a/#\x2E\x00\x01b\x00";
        assert_eq!(&out[..], expected);
        assert!(subscribe.check(Version::V311).unwrap_err().to_string().contains("need MQTT 5.0"));
    }

    #[test]
    fn subscribe_3_1_1_has_qos_only() {
        let filters = vec![Filter { filter: "a".into(), qos: QoS::AtLeastOnce, ..Filter::default() }];
        let subscribe = Subscribe { filters, ..Subscribe::default() };
        let mut out = BytesMut::new();
        subscribe.check(Version::V311).unwrap();
        subscribe.encode(1, Version::V311, &mut out).unwrap();
        assert_eq!(&out[..], b"\x82\x06\x00\x01\x00\x01a\x01");
    }

    #[test]
    fn subscribe_refuses_what_is_not_allowed() {
        let filter = |text: &str| Filter { filter: text.into(), ..Filter::default() };
        let refused = |subscribe: Subscribe| subscribe.check(Version::V5).unwrap_err().to_string();
        assert!(refused(Subscribe::default()).contains("at least one"));
        let shared = Filter { no_local: true, ..filter("$share/g/a") };
        assert!(refused(Subscribe { filters: vec![shared], ..Default::default() }).contains("shared"));
        for id in [0, 268_435_456] {
            let subscribe = Subscribe { filters: vec![filter("a")], id: Some(id), ..Default::default() };
            assert!(refused(subscribe).contains("1 to 268435455"));
        }
    }

    #[test]
    fn small_packets() {
        let mut out = BytesMut::new();
        put_ack(AckKind::PubRel, 258, Reason::SUCCESS, Version::V5, &mut out);
        put_ack(AckKind::PubComp, 1, Reason::PACKET_ID_NOT_FOUND, Version::V5, &mut out);
        put_ack(AckKind::PubComp, 1, Reason::PACKET_ID_NOT_FOUND, Version::V311, &mut out);
        put_ping(&mut out);
        put_disconnect(Reason::SUCCESS, None, Version::V5, &mut out);
        put_disconnect(Reason(0x04), None, Version::V5, &mut out);
        put_disconnect(Reason(0x04), Some(1), Version::V311, &mut out);
        put_disconnect(Reason::SUCCESS, Some(1), Version::V5, &mut out);
        assert_eq!(
            &out[..],
            b"\x62\x02\x01\x02\x70\x03\x00\x01\x92\x70\x02\x00\x01\xC0\x00\xE0\x00\xE0\x02\x04\x00\xE0\x00\
              \xE0\x07\x00\x05\x11\x00\x00\x00\x01"
        );
        out.clear();
        put_unsubscribe(&["a".into(), "b".into()], 7, Version::V5, &mut out).unwrap();
        put_unsubscribe(&["a".into()], 7, Version::V31, &mut out).unwrap();
        assert_eq!(&out[..], b"\xA2\x09\x00\x07\x00\x00\x01a\x00\x01b\xA2\x05\x00\x07\x00\x01a");
        out.clear();
        put_auth(Reason::CONTINUE_AUTHENTICATION, "M", b"xy", &mut out).unwrap();
        assert_eq!(&out[..], b"\xF0\x0B\x18\x09\x15\x00\x01M\x16\x00\x02xy");
    }
}
