//! Received packets other than PUBLISH (5.0, sections 3.2 to 3.15).
//!
//! Fixed fields and reason codes are read by hand, property lists by rumqttc, from a slice that ends where the
//! list ends: it cannot run into what follows.

use bytes::{Buf, Bytes};
use rumqttc::v5::mqttbytes::v5;

use super::frame::read_varint;
use super::{Frame, Reason, Version, WireError};

/// A received packet other than PUBLISH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// The answer to CONNECT.
    ConnAck(Box<ConnAck>),
    /// PUBACK.
    PubAck(Ack),
    /// PUBREC.
    PubRec(Ack),
    /// PUBREL.
    PubRel(Ack),
    /// PUBCOMP.
    PubComp(Ack),
    /// SUBACK.
    SubAck(ListAck),
    /// UNSUBACK; without codes in 3.x.
    UnsubAck(ListAck),
    /// PINGRESP.
    PingResp,
    /// DISCONNECT, sent by 5.0 servers.
    Disconnect(Disconnect),
    /// AUTH, 5.0.
    Auth(Auth),
}

/// CONNACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnAck {
    /// The server kept the session. 3.1 has no such flag: false.
    pub session_present: bool,
    /// 3.x return code or 5.0 reason code, as received.
    pub code: u8,
    /// 5.0 properties.
    pub properties: Option<v5::ConnAckProperties>,
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// Packet identifier, never 0.
    pub pid: u16,
    /// Success in 3.x.
    pub reason: Reason,
    /// The server's own words.
    pub text: Option<String>,
}

/// SUBACK or UNSUBACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListAck {
    /// Packet identifier, never 0.
    pub pid: u16,
    /// One for each filter; none in a 3.x UNSUBACK.
    pub reasons: Vec<Reason>,
    /// The server's own words.
    pub text: Option<String>,
}

/// DISCONNECT from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnect {
    /// Why.
    pub reason: Reason,
    /// The server's own words.
    pub text: Option<String>,
    /// Another server to use.
    pub server_reference: Option<String>,
}

/// AUTH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// Success, continue, or re-authenticate.
    pub reason: Reason,
    /// The method's name.
    pub method: Option<String>,
    /// The method's data.
    pub data: Bytes,
}

impl Control {
    /// Reads any frame but PUBLISH.
    ///
    /// # Errors
    /// A packet type that servers do not send, wrong flags, a part cut short, bytes left over, packet
    /// identifier 0, bad properties.
    pub fn read(frame: &Frame<'_>, version: Version) -> Result<Self, WireError> {
        let mut body = Body { bytes: frame.shared(), name: name(frame.kind()), v5: version.is_v5() };
        let flags = if frame.kind() == 6 { 0x02 } else { 0 };
        if frame.first & 0x0F != flags {
            return Err(body.malformed("has wrong flags"));
        }
        let control = match frame.kind() {
            2 => Self::ConnAck(Box::new(body.conn_ack()?)),
            4 => Self::PubAck(
                body.ack(|list| Ok(v5::PubAckProperties::read(list)?.and_then(|p| p.reason_string)))?,
            ),
            5 => Self::PubRec(
                body.ack(|list| Ok(v5::PubRecProperties::read(list)?.and_then(|p| p.reason_string)))?,
            ),
            6 => Self::PubRel(
                body.ack(|list| Ok(v5::PubRelProperties::read(list)?.and_then(|p| p.reason_string)))?,
            ),
            7 => Self::PubComp(
                body.ack(|list| Ok(v5::PubCompProperties::read(list)?.and_then(|p| p.reason_string)))?,
            ),
            9 => {
                let ack = body
                    .list_ack(|list| Ok(v5::SubAckProperties::read(list)?.and_then(|p| p.reason_string)))?;
                if ack.reasons.is_empty() {
                    return Err(WireError::malformed("SUBACK has no codes"));
                }
                Self::SubAck(ack)
            }
            11 => Self::UnsubAck(
                body.list_ack(|list| Ok(v5::UnsubAckProperties::read(list)?.and_then(|p| p.reason_string)))?,
            ),
            13 => Self::PingResp,
            14 if version.is_v5() => Self::Disconnect(body.disconnect()?),
            15 if version.is_v5() => Self::Auth(body.auth()?),
            _ => return Err(WireError::protocol(format!("{}, which a server does not send", body.name))),
        };
        if body.bytes.has_remaining() {
            return Err(body.malformed("is longer than its content"));
        }
        Ok(control)
    }
}

type PropertyResult<T> = Result<T, rumqttc::v5::mqttbytes::Error>;

struct Body {
    bytes: Bytes,
    name: &'static str,
    v5: bool,
}

impl Body {
    fn malformed(&self, what: &str) -> WireError {
        WireError::malformed(format!("{} {what}", self.name))
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        if self.bytes.is_empty() {
            return Err(self.malformed("is cut short"));
        }
        Ok(self.bytes.get_u8())
    }

    fn pid(&mut self) -> Result<u16, WireError> {
        if self.bytes.len() < 2 {
            return Err(self.malformed("is cut short"));
        }
        match self.bytes.get_u16() {
            0 => Err(WireError::protocol(format!("{} has packet identifier 0", self.name))),
            pid => Ok(pid),
        }
    }

    /// Reads the property list, given with its length prefix and nothing behind it.
    fn properties<T>(&mut self, read: impl FnOnce(&mut Bytes) -> PropertyResult<T>) -> Result<T, WireError> {
        let (length, prefix) = read_varint(&self.bytes)?.ok_or_else(|| self.malformed("is cut short"))?;
        if prefix + length > self.bytes.len() {
            return Err(self.malformed("has properties longer than itself"));
        }
        let mut list = self.bytes.split_to(prefix + length);
        read(&mut list).map_err(|error| self.malformed(&format!("has bad properties ({error})")))
    }

    fn conn_ack(&mut self) -> Result<ConnAck, WireError> {
        let flags = self.u8()?;
        let code = self.u8()?;
        // A server that does not know 5.0 answers with the two bytes of 3.x.
        let properties = if self.v5 && !self.bytes.is_empty() {
            self.properties(v5::ConnAckProperties::read)?
        } else {
            None
        };
        Ok(ConnAck { session_present: flags & 1 != 0, code, properties })
    }

    fn ack(
        &mut self,
        text: impl FnOnce(&mut Bytes) -> PropertyResult<Option<String>>,
    ) -> Result<Ack, WireError> {
        let pid = self.pid()?;
        let (mut reason, mut words) = (Reason::SUCCESS, None);
        if self.v5 && !self.bytes.is_empty() {
            reason = Reason(self.u8()?);
            if !self.bytes.is_empty() {
                words = self.properties(text)?;
            }
        }
        Ok(Ack { pid, reason, text: words })
    }

    fn list_ack(
        &mut self,
        text: impl FnOnce(&mut Bytes) -> PropertyResult<Option<String>>,
    ) -> Result<ListAck, WireError> {
        let pid = self.pid()?;
        let text = if self.v5 { self.properties(text)? } else { None };
        let reasons = self.bytes.split_off(0).iter().map(|code| Reason(*code)).collect();
        Ok(ListAck { pid, reasons, text })
    }

    fn disconnect(&mut self) -> Result<Disconnect, WireError> {
        // Reason and properties may both be left out (5.0, section 3.14.2).
        let reason = if self.bytes.is_empty() { Reason::SUCCESS } else { Reason(self.u8()?) };
        let properties =
            if self.bytes.is_empty() { None } else { self.properties(v5::DisconnectProperties::extract)? };
        let (text, server_reference) =
            properties.map_or((None, None), |p| (p.reason_string, p.server_reference));
        Ok(Disconnect { reason, text, server_reference })
    }

    fn auth(&mut self) -> Result<Auth, WireError> {
        let reason = if self.bytes.is_empty() { Reason::SUCCESS } else { Reason(self.u8()?) };
        if self.bytes.is_empty() {
            return Ok(Auth { reason, method: None, data: Bytes::new() });
        }
        let (method, data) = self.properties(auth_properties)?;
        Ok(Auth { reason, method, data })
    }
}

/// Method and data out of AUTH's property list. rumqttc's reader counts their length bytes wrongly.
fn auth_properties(list: &mut Bytes) -> PropertyResult<(Option<String>, Bytes)> {
    use rumqttc::v5::mqttbytes::Error;
    let prefix = read_varint(list).ok().flatten().map_or(0, |(_, prefix)| prefix);
    list.advance(prefix);
    let take = |list: &mut Bytes| {
        let length = list.try_get_u16().map_err(|_| Error::MalformedPacket)?;
        if usize::from(length) > list.len() {
            Err(Error::MalformedPacket)
        } else {
            Ok(list.split_to(length.into()))
        }
    };
    let (mut method, mut data) = (None, Bytes::new());
    while let Ok(id) = list.try_get_u8() {
        match id {
            0x15 => {
                let text = String::from_utf8(take(list)?.to_vec()).map_err(|_| Error::TopicNotUtf8)?;
                method = Some(text);
            }
            0x16 => data = take(list)?,
            0x1F => drop(take(list)?),
            0x26 => drop((take(list)?, take(list)?)),
            other => return Err(Error::InvalidPropertyType(other)),
        }
    }
    Ok((method, data))
}

fn name(kind: u8) -> &'static str {
    const NAMES: [&str; 16] = [
        "packet type 0",
        "CONNECT",
        "CONNACK",
        "PUBLISH",
        "PUBACK",
        "PUBREC",
        "PUBREL",
        "PUBCOMP",
        "SUBSCRIBE",
        "SUBACK",
        "UNSUBSCRIBE",
        "UNSUBACK",
        "PINGREQ",
        "PINGRESP",
        "DISCONNECT",
        "AUTH",
    ];
    NAMES[usize::from(kind & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Frames;

    fn read(bytes: &[u8], version: Version) -> Result<Control, WireError> {
        let bytes = Bytes::copy_from_slice(bytes);
        Control::read(&Frames::new(&bytes).next().expect("a whole frame"), version)
    }

    fn ack(pid: u16, reason: u8, text: Option<&str>) -> Ack {
        Ack { pid, reason: Reason(reason), text: text.map(Into::into) }
    }

    #[test]
    fn short_and_long_forms_are_read() {
        use Version::{V5, V311};
        assert_eq!(read(&[0x40, 2, 0, 9], V311), Ok(Control::PubAck(ack(9, 0, None))));
        assert_eq!(read(&[0x40, 2, 0, 9], V5), Ok(Control::PubAck(ack(9, 0, None))));
        assert_eq!(read(&[0x50, 3, 0, 9, 0x97], V5), Ok(Control::PubRec(ack(9, 0x97, None))));
        let long = [0x62, 9, 0, 9, 0x92, 5, 0x1F, 0, 2, b'n', b'o'];
        assert_eq!(read(&long, V5), Ok(Control::PubRel(ack(9, 0x92, Some("no")))));
        assert_eq!(read(&[0xD0, 0], V5), Ok(Control::PingResp));
        let Ok(Control::Disconnect(gone)) = read(&[0xE0, 0], V5) else { panic!() };
        assert_eq!(gone.reason, Reason::SUCCESS);
        let Ok(Control::Disconnect(gone)) = read(&[0xE0, 1, 0x8B], V5) else { panic!() };
        assert_eq!(gone.reason.to_string(), "0x8B server shutting down");
        let Ok(Control::Disconnect(gone)) = read(&[0xE0, 6, 0x9C, 4, 0x1C, 0, 1, b'b'], V5) else { panic!() };
        assert_eq!(gone.server_reference.as_deref(), Some("b"));
    }

    #[test]
    fn codes_that_are_not_known_are_kept() {
        let Ok(Control::SubAck(ack)) = read(&[0x90, 5, 0, 1, 0, 2, 0xEE], Version::V5) else { panic!() };
        assert_eq!(ack.reasons, vec![Reason(2), Reason(0xEE)]);
        let Ok(Control::ConnAck(ack)) = read(&[0x20, 3, 0, 0xEE, 0], Version::V5) else { panic!() };
        assert_eq!(ack.code, 0xEE);
    }

    #[test]
    fn a_3_x_answer_to_a_5_0_connect_is_read() {
        let Ok(Control::ConnAck(ack)) = read(&[0x20, 2, 0, 1], Version::V5) else { panic!() };
        assert_eq!((ack.code, ack.properties), (1, None));
    }

    #[test]
    fn an_authentication_exchange_is_read() {
        let bytes = [0xF0, 12, 0x18, 10, 0x15, 0, 1, b'M', 0x16, 0, 3, b'a', b'b', b'c'];
        let Ok(Control::Auth(auth)) = read(&bytes, Version::V5) else { panic!() };
        assert_eq!(auth.reason, Reason::CONTINUE_AUTHENTICATION);
        assert_eq!((auth.method.as_deref(), &auth.data[..]), (Some("M"), &b"abc"[..]));
    }

    #[test]
    fn bad_packets_are_refused() {
        for (bytes, version) in [
            (&[0x40, 2, 0, 0][..], Version::V5),   // packet identifier 0
            (&[0x40, 1, 0], Version::V5),          // half of one
            (&[0x41, 2, 0, 1], Version::V5),       // flags
            (&[0x60, 2, 0, 1], Version::V5),       // PUBREL needs flags 2
            (&[0x40, 3, 0, 1, 0], Version::V311),  // left over
            (&[0x40, 4, 0, 1, 0, 9], Version::V5), // properties longer than the packet
            (&[0x90, 3, 0, 1, 0], Version::V5),    // SUBACK without codes
            (&[0x82, 0], Version::V5),             // SUBSCRIBE to a client
            (&[0xE0, 0], Version::V311),           // DISCONNECT from a 3.1.1 server
            (&[0xF0, 0], Version::V311),           // AUTH in 3.1.1
            (&[0x00, 0], Version::V5),             // type 0
            (&[0xD0, 1, 0], Version::V5),          // PINGRESP with content
            (&[0x20, 8, 0, 0, 5, 0x21, 0, 1, 0x21, 0], Version::V5), // a property that runs out of the list
        ] {
            assert!(read(bytes, version).is_err(), "{bytes:?}");
        }
    }
}
