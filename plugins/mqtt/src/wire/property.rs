//! The properties of a PUBLISH (5.0, section 3.3.2.3), read in place.
//!
//! [`Properties::check`] walks the list once when the packet arrives: ids, lengths, UTF-8, the topic alias.
//! After that, iterating cannot fail, and costs nothing for those who do not look.

use bytes::BufMut;

use super::frame::{put_varint, read_varint, varint_len};
use super::{Invalid, Reason, WireError, topic};

/// One property of a received PUBLISH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property<'a> {
    /// 1: the payload is UTF-8 text.
    PayloadFormat(u8),
    /// Seconds the message stays valid.
    MessageExpiry(u32),
    /// What the payload is.
    ContentType(&'a str),
    /// Where the answer is expected.
    ResponseTopic(&'a str),
    /// What the answer has to repeat.
    CorrelationData(&'a [u8]),
    /// The subscription that brought the message; may come several times.
    SubscriptionId(u32),
    /// Stands for a topic sent earlier on this connection.
    TopicAlias(u16),
    /// A name and a value; may come several times.
    User(&'a str, &'a str),
}

/// The raw property list of a PUBLISH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Properties<'a>(&'a [u8]);

impl<'a> Properties<'a> {
    /// A list without its length prefix.
    pub fn new(raw: &'a [u8]) -> Self {
        Self(raw)
    }

    /// True when there are none.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Reads the list once and returns the topic alias in it.
    ///
    /// # Errors
    /// An id that a PUBLISH must not have, a value cut short, text that is not UTF-8, an id given twice that
    /// may come once.
    pub fn check(self) -> Result<Option<u16>, WireError> {
        let mut rest = self.0;
        let mut alias = None;
        let mut seen = 0u64;
        while !rest.is_empty() {
            let (property, id) = take(&mut rest)?;
            let repeatable = matches!(property, Property::User(..) | Property::SubscriptionId(_));
            let bit = 1u64 << id;
            if !repeatable && seen & bit != 0 {
                return Err(WireError::protocol(format!("PUBLISH has property 0x{id:02X} twice")));
            }
            seen |= bit;
            match property {
                Property::TopicAlias(value) => alias = Some(value),
                Property::SubscriptionId(0) => {
                    return Err(WireError::protocol("PUBLISH has a subscription identifier of 0"));
                }
                _ => {}
            }
        }
        Ok(alias)
    }
}

impl<'a> Iterator for Properties<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        if self.0.is_empty() {
            return None;
        }
        match take(&mut self.0) {
            Ok((property, _)) => Some(property),
            Err(_) => {
                self.0 = &[];
                None
            }
        }
    }
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<(Property<'a>, u8), WireError> {
    let id = take_bytes(rest, 1)?[0];
    let property = match id {
        0x01 => Property::PayloadFormat(take_bytes(rest, 1)?[0]),
        0x02 => {
            let bytes = take_bytes(rest, 4)?;
            Property::MessageExpiry(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        }
        0x03 => Property::ContentType(take_str(rest)?),
        0x08 => Property::ResponseTopic(take_str(rest)?),
        0x09 => Property::CorrelationData(take_binary(rest)?),
        0x0B => {
            let (value, length) = read_varint(rest)?.ok_or_else(cut_short)?;
            *rest = &rest[length..];
            Property::SubscriptionId(value as u32)
        }
        0x23 => {
            let bytes = take_bytes(rest, 2)?;
            Property::TopicAlias(u16::from_be_bytes([bytes[0], bytes[1]]))
        }
        0x26 => Property::User(take_str(rest)?, take_str(rest)?),
        other => return Err(WireError::malformed(format!("PUBLISH has property 0x{other:02X}"))),
    };
    Ok((property, id))
}

fn cut_short() -> WireError {
    WireError::malformed("a PUBLISH property is cut short")
}

fn take_bytes<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], WireError> {
    let (head, tail) = rest.split_at_checked(count).ok_or_else(cut_short)?;
    *rest = tail;
    Ok(head)
}

fn take_binary<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], WireError> {
    let length = take_bytes(rest, 2)?;
    take_bytes(rest, usize::from(u16::from_be_bytes([length[0], length[1]])))
}

fn take_str<'a>(rest: &mut &'a [u8]) -> Result<&'a str, WireError> {
    std::str::from_utf8(take_binary(rest)?)
        .map_err(|_| WireError::with(Reason::MALFORMED_PACKET, "a PUBLISH property is not UTF-8"))
}

/// The properties of a PUBLISH to send. The topic alias is not among them: the session adds it per connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// The payload is UTF-8 text.
    pub payload_is_text: bool,
    /// Seconds the message stays valid.
    pub message_expiry: Option<u32>,
    /// What the payload is.
    pub content_type: Option<&'a str>,
    /// Where the answer is expected; a topic name.
    pub response_topic: Option<&'a str>,
    /// What the answer has to repeat.
    pub correlation_data: Option<&'a [u8]>,
    /// Names and values.
    pub user: &'a [(&'a str, &'a str)],
}

impl Outgoing<'_> {
    /// True when nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Outgoing::default()
    }

    /// # Errors
    /// A text or data above 65,535 bytes or with NUL, or a response topic that is no topic name.
    pub fn check(&self) -> Result<(), Invalid> {
        if let Some(text) = self.content_type {
            topic::check_string("content type", text)?;
        }
        if let Some(text) = self.response_topic {
            topic::check_topic(text).map_err(|error| Invalid::new(format!("response topic: {error}")))?;
        }
        if let Some(data) = self.correlation_data {
            topic::check_binary("correlation data", data)?;
        }
        for (name, value) in self.user {
            topic::check_string("user property name", name)?;
            topic::check_string("user property value", value)?;
        }
        Ok(())
    }

    /// Bytes that [`Self::put`] writes, without the length prefix.
    pub fn len(&self) -> usize {
        let text = |text: Option<&str>| text.map_or(0, |text| 3 + text.len());
        usize::from(self.payload_is_text) * 2
            + self.message_expiry.map_or(0, |_| 5)
            + text(self.content_type)
            + text(self.response_topic)
            + self.correlation_data.map_or(0, |data| 3 + data.len())
            + self.user.iter().map(|(name, value)| 5 + name.len() + value.len()).sum::<usize>()
    }

    /// Bytes with the length prefix.
    pub fn len_with_prefix(&self) -> usize {
        let len = self.len();
        varint_len(len) + len
    }

    /// Writes length prefix and list. Call [`Self::check`] before.
    pub fn put(&self, out: &mut impl BufMut) {
        put_varint(out, self.len());
        if self.payload_is_text {
            out.put_slice(&[0x01, 1]);
        }
        if let Some(seconds) = self.message_expiry {
            out.put_u8(0x02);
            out.put_u32(seconds);
        }
        if let Some(text) = self.content_type {
            out.put_u8(0x03);
            put_binary(out, text.as_bytes());
        }
        if let Some(text) = self.response_topic {
            out.put_u8(0x08);
            put_binary(out, text.as_bytes());
        }
        if let Some(data) = self.correlation_data {
            out.put_u8(0x09);
            put_binary(out, data);
        }
        for (name, value) in self.user {
            out.put_u8(0x26);
            put_binary(out, name.as_bytes());
            put_binary(out, value.as_bytes());
        }
    }
}

/// Writes a two-byte length and the bytes; their number was checked before.
pub(super) fn put_binary(out: &mut impl BufMut, data: &[u8]) {
    debug_assert!(data.len() <= topic::MAX_STRING);
    out.put_u16(data.len() as u16);
    out.put_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_written_is_read_back() {
        let sent = Outgoing {
            payload_is_text: true,
            message_expiry: Some(60),
            content_type: Some("text/plain"),
            response_topic: Some("answers/1"),
            correlation_data: Some(&[0, 255]),
            user: &[("a", "1"), ("a", "2")],
        };
        let mut out = Vec::new();
        sent.put(&mut out);
        assert_eq!(out.len(), sent.len_with_prefix());
        let list = Properties::new(&out[1..]);
        assert_eq!(list.check(), Ok(None));
        assert_eq!(
            list.collect::<Vec<_>>(),
            vec![
                Property::PayloadFormat(1),
                Property::MessageExpiry(60),
                Property::ContentType("text/plain"),
                Property::ResponseTopic("answers/1"),
                Property::CorrelationData(&[0, 255]),
                Property::User("a", "1"),
                Property::User("a", "2"),
            ]
        );
    }

    #[test]
    fn bad_lists_are_refused() {
        for raw in [
            &[0x02, 0, 0][..],               // cut short
            &[0x03, 0, 5, b'a'],             // text longer than the list
            &[0x03, 0, 1, 0xFF],             // not UTF-8
            &[0x11, 0, 0, 0, 1],             // session expiry has no place here
            &[0x23, 0, 1, 0x23, 0, 2],       // alias twice
            &[0x0B, 0],                      // subscription identifier 0
            &[0x0B, 0xFF, 0xFF, 0xFF, 0xFF], // endless varint
        ] {
            assert!(Properties::new(raw).check().is_err(), "{raw:?}");
        }
        assert_eq!(Properties::new(&[0x23, 0, 7]).check(), Ok(Some(7)));
    }
}
