//! AMQP values as JSON and as text: for bodies, application properties and annotations.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fe2o3_amqp_types::messaging::{MessageId, annotations::OwnedKey};
use fe2o3_amqp_types::primitives::SimpleValue;
use jiff::Timestamp;
use serde_amqp::Value;
use serde_amqp::primitives::Uuid;
use serde_json::json;

/// Deeper than this nobody nests by intention.
const DEEPEST: usize = 32;

/// The value as JSON. Bytes become base64, times RFC 3339; keys that are no text are written as they would be shown.
pub fn json(value: &Value) -> serde_json::Value {
    nested(value, 0)
}

fn nested(value: &Value, depth: usize) -> serde_json::Value {
    if depth > DEEPEST {
        return json!("…");
    }
    let list = |values: &[Value]| values.iter().map(|value| nested(value, depth + 1)).collect();
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Described(described) => nested(&described.value, depth + 1),
        Value::Bool(value) => json!(value),
        Value::Ubyte(value) => json!(value),
        Value::Ushort(value) => json!(value),
        Value::Uint(value) => json!(value),
        Value::Ulong(value) => json!(value),
        Value::Byte(value) => json!(value),
        Value::Short(value) => json!(value),
        Value::Int(value) => json!(value),
        Value::Long(value) => json!(value),
        Value::Float(value) => json!(value.0),
        Value::Double(value) => json!(value.0),
        Value::Char(value) => json!(value),
        Value::Timestamp(value) => json!(time(value.milliseconds())),
        Value::Uuid(value) => json!(uuid(value)),
        Value::Binary(value) => json!(STANDARD.encode(value)),
        Value::String(value) => json!(value),
        Value::Symbol(value) => json!(value.as_str()),
        Value::List(values) => serde_json::Value::Array(list(values)),
        Value::Array(values) => serde_json::Value::Array(list(&values.0)),
        Value::Map(map) => map
            .iter()
            .map(|(key, value)| {
                let key = match nested(key, depth + 1) {
                    serde_json::Value::String(text) => text,
                    other => other.to_string(),
                };
                (key, nested(value, depth + 1))
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Decimal32(value) => json!(hex(value.as_inner())),
        Value::Decimal64(value) => json!(hex(value.as_inner())),
        Value::Decimal128(value) => json!(hex(value.as_inner())),
    }
}

/// The value as bytes: texts and binaries as they are, the rest as it would stand in JSON.
pub fn bytes(value: Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.into_bytes(),
        Value::Symbol(text) => text.0.into_bytes(),
        Value::Binary(bytes) => bytes.into_vec(),
        Value::Null => Vec::new(),
        Value::Timestamp(value) => time(value.milliseconds()).into_bytes(),
        Value::Uuid(value) => uuid(&value).into_bytes(),
        other => match json(&other) {
            serde_json::Value::String(text) => text.into_bytes(),
            other => other.to_string().into_bytes(),
        },
    }
}

pub fn simple_bytes(value: SimpleValue) -> Vec<u8> {
    bytes(Value::from(value))
}

pub fn key_text(key: &OwnedKey) -> String {
    match key {
        OwnedKey::Symbol(text) => text.as_str().to_owned(),
        OwnedKey::Ulong(number) => number.to_string(),
    }
}

pub fn id_text(id: &MessageId) -> String {
    match id {
        MessageId::String(text) => text.clone(),
        MessageId::Ulong(number) => number.to_string(),
        MessageId::Uuid(value) => uuid(value),
        MessageId::Binary(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => hex(bytes),
        },
    }
}

/// Milliseconds since 1970 as RFC 3339 in UTC. What lies outside of the calendar is shown as the number.
pub fn time(milliseconds: i64) -> String {
    match Timestamp::from_millisecond(milliseconds) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => milliseconds.to_string(),
    }
}

fn uuid(value: &Uuid) -> String {
    let digits = hex(value.as_inner());
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
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
    use serde_amqp::primitives::{OrderedMap, Symbol, Timestamp};

    #[test]
    fn values_as_json() {
        let mut map = OrderedMap::new();
        map.insert(Value::Symbol(Symbol::from("a")), Value::Timestamp(Timestamp::from_milliseconds(1500)));
        map.insert(
            Value::Uint(7),
            Value::List(vec![Value::Null, Value::Bool(true), Value::Binary(vec![1].into())]),
        );
        map.insert(Value::String("u".into()), Value::Uuid(Uuid::from([0x1f; 16])));
        assert_eq!(
            json(&Value::Map(map)),
            json!({
                "a": "1970-01-01T00:00:01.500Z",
                "7": [null, true, "AQ=="],
                "u": "1f1f1f1f-1f1f-1f1f-1f1f-1f1f1f1f1f1f",
            })
        );
        assert_eq!(bytes(Value::Long(-3)), b"-3");
        assert_eq!(bytes(Value::String("x".into())), b"x");
        assert_eq!(time(i64::MIN), i64::MIN.to_string());
    }

    #[test]
    fn depth_is_bounded() {
        let deep = (0..200).fold(Value::Null, |inner, _| Value::List(vec![inner]));
        assert!(json(&deep).to_string().len() < 100);
    }
}
