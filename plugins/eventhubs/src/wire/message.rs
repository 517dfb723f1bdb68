//! A message's sections (part 3, section 3.2), and batches of messages.

use super::performative::code;
use super::value::{Malformed, Reader, Value};

/// The message format of a batch: its data sections are a whole message each. Microsoft's own.
pub const BATCH_FORMAT: u32 = 0x8001_3700;

/// A message, taken apart. Sections that are not there are null, or empty.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The bytes of the header section.
    pub header: &'a [u8],
    /// The map of the delivery annotations.
    pub delivery_annotations: Value<'a>,
    /// The map of the message annotations.
    pub annotations: Value<'a>,
    /// The list of the properties.
    pub properties: Value<'a>,
    /// The map of the application's properties.
    pub application: Value<'a>,
    /// The bytes of all that follows the annotations: what nobody on the way may change, and the footer.
    pub bare: &'a [u8],
    /// The bytes of the body and the footer.
    body: &'a [u8],
}

/// The properties with a name that people know them by.
#[derive(Clone, Copy, Debug)]
pub struct Properties<'a> {
    pub message_id: Value<'a>,
    pub reply_to: Value<'a>,
    pub correlation_id: Value<'a>,
    /// All, in their order.
    pub all: [Value<'a>; 13],
}

impl<'a> Message<'a> {
    /// # Errors
    /// A section is unknown, out of order, or can't be read.
    pub fn read(bytes: &'a [u8]) -> Result<Message<'a>, Malformed> {
        let null = Value::NULL;
        let mut message = Message {
            header: &[],
            delivery_annotations: null,
            annotations: null,
            properties: null,
            application: null,
            bare: &[],
            body: &[],
        };
        let mut reader = Reader::new(bytes);
        let mut last = 0;
        while !reader.is_empty() {
            let here = reader.rest();
            let section = reader.value()?;
            let code = section_code(&section)
                .ok_or(Malformed::Unexpected("something that is no section of a message"))?;
            let is_body = |code| (code::DATA..=code::VALUE).contains(&code);
            let again = code == last && matches!(code, code::DATA | code::SEQUENCE);
            if !again && (code <= last || is_body(code) && is_body(last)) {
                return Err(Malformed::Unexpected("a section out of its order"));
            }
            if code >= code::PROPERTIES && last < code::PROPERTIES {
                message.bare = here;
            }
            if code >= code::DATA && last < code::DATA {
                message.body = here;
            }
            match code {
                code::HEADER => message.header = section.raw,
                code::DELIVERY_ANNOTATIONS => message.delivery_annotations = section,
                code::MESSAGE_ANNOTATIONS => message.annotations = section,
                code::PROPERTIES => message.properties = section,
                code::APPLICATION_PROPERTIES => message.application = section,
                code::DATA if section.binary().is_none() => return Err(Malformed::Field("data")),
                _ => {}
            }
            last = code;
        }
        Ok(message)
    }

    pub fn properties(&self) -> Properties<'a> {
        let all = self.properties.list().and_then(|items| items.fields().ok()).unwrap_or([Value::NULL; 13]);
        Properties { message_id: all[0], reply_to: all[4], correlation_id: all[5], all }
    }

    /// The body's sections.
    pub fn body(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut reader = Reader::new(self.body);
        std::iter::from_fn(move || {
            let section = reader.value().ok()?;
            (section_code(&section) != Some(code::FOOTER)).then_some(section)
        })
    }

    /// What the body's sections are.
    pub fn kind(&self) -> Kind {
        match self.body().next().as_ref().and_then(section_code) {
            Some(code::DATA) => Kind::Data,
            Some(code::SEQUENCE) => Kind::Sequence,
            Some(code::VALUE) => Kind::Value,
            _ => Kind::Empty,
        }
    }
}

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Data,
    Sequence,
    Value,
    /// There is none.
    Empty,
}

/// Sections are described by a number, and seldom by the symbol that stands for it.
fn section_code(section: &Value<'_>) -> Option<u8> {
    let code = match section.descriptor() {
        Some(code) => u8::try_from(code).ok()?,
        None => match section.descriptor_symbol()? {
            "amqp:header:list" => code::HEADER,
            "amqp:delivery-annotations:map" => code::DELIVERY_ANNOTATIONS,
            "amqp:message-annotations:map" => code::MESSAGE_ANNOTATIONS,
            "amqp:properties:list" => code::PROPERTIES,
            "amqp:application-properties:map" => code::APPLICATION_PROPERTIES,
            "amqp:data:binary" => code::DATA,
            "amqp:amqp-sequence:list" => code::SEQUENCE,
            "amqp:amqp-value:*" => code::VALUE,
            "amqp:footer:map" => code::FOOTER,
            _ => return None,
        },
    };
    (code::HEADER..=code::FOOTER).contains(&code).then_some(code)
}

/// The messages of a batch.
///
/// # Errors
/// Its body is no data, or a message in it can't be read.
pub fn batch<'a>(outer: &Message<'a>) -> Result<Vec<Message<'a>>, Malformed> {
    let inner = |section: Value<'a>| {
        let bytes = section.binary().ok_or(Malformed::Unexpected("something that is no data in a batch"))?;
        Message::read(bytes)
    };
    outer.body().map(inner).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Writer;
    use super::*;
    use proptest::prelude::*;

    fn message(fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut out = Vec::new();
        fill(&mut Writer::new(&mut out));
        out
    }

    #[test]
    fn sections_are_found() {
        let bytes = message(|w| {
            w.describe(code::HEADER).list(|w| w.bool(true));
            w.describe(code::DELIVERY_ANNOTATIONS).map(|_| {});
            w.describe(code::MESSAGE_ANNOTATIONS).map(|w| {
                w.symbol("x-opt-partition-key");
                w.string("key");
            });
            w.describe(code::PROPERTIES).list(|w| w.string("id"));
            w.describe(code::APPLICATION_PROPERTIES).map(|w| {
                w.string("operation");
                w.string("READ");
            });
            w.describe(code::DATA).binary(b"one");
            w.describe(code::DATA).binary(b"two");
        });
        let found = Message::read(&bytes).expect("a message");
        assert_eq!(found.annotations.get("x-opt-partition-key").and_then(|key| key.text()), Some("key"));
        assert_eq!(found.application.get("operation").and_then(|name| name.text()), Some("READ"));
        assert_eq!(found.properties().message_id.text(), Some("id"));
        let body: Vec<_> = found.body().map(|section| section.binary()).collect();
        assert_eq!(body, [Some(&b"one"[..]), Some(b"two")]);
        assert_eq!(
            Message::read(found.bare).expect("the bare message").properties().message_id.text(),
            Some("id")
        );
        assert!(bytes.starts_with(found.header) && bytes.ends_with(found.bare));
    }

    #[test]
    fn sections_may_be_described_by_symbols() {
        let bytes = b"\0\xa3\x1camqp:message-annotations:map\xc1\x06\x02\xa3\x01k\x54\x07\0\xa3\x10amqp:data:binary\xa0\x01x";
        let found = Message::read(bytes).expect("a message");
        assert_eq!(found.annotations.get("k").and_then(|value| value.signed()), Some(7));
        assert_eq!((found.kind(), found.body().count()), (Kind::Data, 1));
    }

    #[test]
    fn batches() {
        let inner = |text: &[u8]| message(|w| w.describe(code::DATA).binary(text));
        let outer = message(|w| {
            w.describe(code::DATA).binary(&inner(b"one"));
            w.describe(code::DATA).binary(&inner(b"two"));
        });
        let outer = Message::read(&outer).expect("a message");
        let bodies: Vec<_> = batch(&outer).expect("a batch").iter().map(|m| m.body().count()).collect();
        assert_eq!(bodies, [1, 1]);
        let wrong = message(|w| w.describe(code::DATA).binary(b"\x10"));
        assert!(batch(&Message::read(&wrong).expect("a message")).is_err());
        let wrong = message(|w| w.describe(code::VALUE).string("x"));
        assert!(batch(&Message::read(&wrong).expect("a message")).is_err());
    }

    #[test]
    fn what_is_no_message() {
        for bytes in [
            message(|w| w.string("no section")),
            message(|w| w.describe(0x79).list(|_| {})),
            message(|w| {
                w.describe(code::DATA).binary(b"x");
                w.describe(code::PROPERTIES).list(|_| {});
            }),
            message(|w| {
                w.describe(code::DATA).binary(b"x");
                w.describe(code::VALUE).string("x");
            }),
            message(|w| w.describe(code::DATA).string("x")),
        ] {
            assert!(Message::read(&bytes).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(message) = Message::read(&bytes) {
                let _ = (message.properties(), message.kind(), batch(&message).map(|_| ()));
            }
        }
    }
}
