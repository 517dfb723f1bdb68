//! AMQP values as JSON, as text and as bytes: for bodies, application properties and annotations.
//!
//! What peers write is read no deeper than people would nest, and where it can't be read, that place alone is left out: a value
//! that goes on and on costs no stack, and one that is damaged costs no message.

use std::borrow::Cow;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, json};
use tracemq_plugin_api::serde_json;

use crate::wire::{Malformed, Value};

/// Deeper than this nobody nests by intention.
const DEEPEST: usize = 32;

/// The value as JSON. Bytes become base64, times RFC 3339; keys that are no text are written as they would be shown.
pub fn json(value: Value<'_>) -> serde_json::Value {
    nested(value, 0)
}

/// The pairs of a map, each as [`json`]. None of what is no map.
#[cfg(feature = "serve")]
pub fn pairs(map: Value<'_>) -> impl Iterator<Item = (String, serde_json::Value)> {
    pairs_at(map, 1)
}

/// The value as bytes: texts and binaries as they are, the rest as it would stand in JSON. Null is empty.
pub fn bytes(value: Value<'_>) -> Cow<'_, [u8]> {
    match value.bytes() {
        Some(bytes) => Cow::Borrowed(bytes),
        None => Cow::Owned(text(value).into_bytes()),
    }
}

/// The value as a text: one as it is, and so are bytes that are one; the rest as it would stand in JSON.
pub fn text(value: Value<'_>) -> String {
    if let Some(bytes) = value.binary() {
        return std::str::from_utf8(bytes).map_or_else(|_| hex(bytes), str::to_owned);
    }
    string(json(value))
}

/// Milliseconds since 1970 as RFC 3339 in UTC. What lies outside of the calendar is shown as the number.
pub fn time(milliseconds: i64) -> String {
    match Timestamp::from_millisecond(milliseconds) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => milliseconds.to_string(),
    }
}

fn string(json: serde_json::Value) -> String {
    match json {
        serde_json::Value::String(text) => text,
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn pairs_at(map: Value<'_>, depth: usize) -> impl Iterator<Item = (String, serde_json::Value)> {
    let pairs = map.map().into_iter().flat_map(|items| items.pairs()).flatten();
    pairs.map(move |(name, value)| (string(nested(name, depth)), nested(value, depth)))
}

fn nested(value: Value<'_>, depth: usize) -> serde_json::Value {
    if depth > DEEPEST {
        return json!("…");
    }
    let all = |items: &mut dyn Iterator<Item = Result<Value<'_>, Malformed>>| -> serde_json::Value {
        items.flatten().map(|value| nested(value, depth + 1)).collect()
    };
    if let Some(bytes) = value.binary() {
        json!(STANDARD.encode(bytes))
    } else if let Some(bytes) = value.bytes() {
        json!(String::from_utf8_lossy(bytes))
    } else if let Some(flag) = value.bool() {
        json!(flag)
    } else if let Some(milliseconds) = value.timestamp() {
        json!(time(milliseconds))
    } else if let Some(number) = value.unsigned() {
        json!(number)
    } else if let Some(number) = value.signed() {
        json!(number)
    } else if let Some(number) = value.float() {
        json!(number)
    } else if let Some(letter) = value.char() {
        json!(letter)
    } else if let Some(uuid) = value.uuid() {
        let digits = hex(uuid);
        json!([&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"))
    } else if let Some(mut items) = value.list() {
        all(&mut items)
    } else if let Some(mut elements) = value.array() {
        all(&mut elements)
    } else if value.map().is_some() {
        pairs_at(value, depth + 1).collect::<Map<_, _>>().into()
    } else if value.is_null() {
        serde_json::Value::Null
    } else {
        // Decimals, and what breaks off: as it came.
        json!(hex(value.data()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Reader, Writer};
    use proptest::prelude::*;

    fn with<T>(fill: impl FnOnce(&mut Writer<'_>), look: impl FnOnce(Value<'_>) -> T) -> T {
        let mut bytes = Vec::new();
        fill(&mut Writer::new(&mut bytes));
        look(Reader::new(&bytes).value().expect("a value"))
    }

    #[test]
    fn values_as_json() {
        let fill = |w: &mut Writer<'_>| {
            w.map(|w| {
                w.symbol("a");
                w.timestamp(1500);
                w.uint(7);
                w.list(|w| {
                    w.null();
                    w.bool(true);
                    w.binary(&[1]);
                    w.raw(b"\x73\0\0\0\xe9");
                    w.raw(b"\x82\x3f\xf8\0\0\0\0\0\0");
                });
                w.string("u");
                w.raw(&[&[0x98][..], &[0x1f; 16]].concat());
                w.string("array");
                w.strings(["x", "y"].into_iter());
                w.string("decimal");
                w.raw(b"\x74\0\0\0\x01");
            });
        };
        let expected = json!({
            "a": "1970-01-01T00:00:01.500Z",
            "7": [null, true, "AQ==", "é", 1.5],
            "u": "1f1f1f1f-1f1f-1f1f-1f1f-1f1f1f1f1f1f",
            "array": ["x", "y"],
            "decimal": "00000001",
        });
        with(fill, |value| assert_eq!(json(value), expected));
        let shown = |bytes: &[u8]| text(Reader::new(bytes).value().expect("a value"));
        assert_eq!(shown(b"\x55\xfd"), "-3");
        assert_eq!((shown(b"\xa0\x01x").as_str(), shown(b"\xa0\x01\xff").as_str()), ("x", "ff"));
        assert_eq!((shown(b"\x40"), shown(b"\xa1\x01\xff")), (String::new(), "\u{fffd}".to_owned()));
        let raw = |value: &[u8]| bytes(Reader::new(value).value().expect("a value")).into_owned();
        assert_eq!(
            (raw(b"\xa1\x01\xff"), raw(b"\xa0\x01\0"), raw(b"\x41")),
            (vec![0xff], vec![0], b"true".to_vec())
        );
        assert_eq!(time(i64::MIN), i64::MIN.to_string());
    }

    #[test]
    fn depth_is_bounded_and_damage_stays_where_it_is() {
        let mut bytes = vec![0x45];
        for _ in 0..200 {
            let size = (bytes.len() as u32 + 4).to_be_bytes();
            bytes.splice(..0, [&[0xD0][..], &size, &[0, 0, 0, 1]].concat());
        }
        let deep = json(Reader::new(&bytes).value().expect("a value"));
        assert!(deep.to_string().len() < 100, "{deep}");
        // Three are claimed, and the second is of no type.
        let damaged = json(Reader::new(b"\xc0\x04\x03\x41\x10\x41").value().expect("a value"));
        assert_eq!(damaged, json!([true]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0xC0u8), Just(0xE0), Just(4)], 0..200)) {
            if let Ok(value) = Reader::new(&bytes).value() {
                let (_, _) = (json(value), text(value));
            }
        }
    }
}
