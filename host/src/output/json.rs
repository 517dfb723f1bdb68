//! One object a line, the same for every protocol.
//!
//! Written straight into the buffer: keys and their order are fixed, and only texts need a look at each byte. A topic, header
//! or metadata value that is not UTF-8 stands as `{"base64":"…"}`; the payload has `encoding` for that. The address for an
//! answer is `meta.reply`.

use super::{base64_into, write_time};
use std::io::Write;
use tracemq_plugin_api::sdk::{MessageView, MetaValue};

pub struct Json {
    /// `","protocol":…,"target":…,"topic":`, which stands after the time of every message of a run.
    origin: Vec<u8>,
}

impl Json {
    pub fn new(protocol: &str, target: &str) -> Json {
        let mut origin = b"\",\"protocol\":".to_vec();
        string(protocol, &mut origin);
        origin.extend_from_slice(b",\"target\":");
        string(target, &mut origin);
        origin.extend_from_slice(b",\"topic\":");
        Json { origin }
    }

    pub fn append(&self, message: &MessageView<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        write_time(message.time(), out);
        out.extend_from_slice(&self.origin);
        text_or_bytes(message.topic(), out);
        out.extend_from_slice(b",\"payload\":");
        match std::str::from_utf8(message.payload()) {
            Ok(text) => {
                string(text, out);
                out.extend_from_slice(b",\"encoding\":\"utf-8\"");
            }
            Err(_) => {
                quoted_base64(message.payload(), out);
                out.extend_from_slice(b",\"encoding\":\"base64\"");
            }
        }
        out.extend_from_slice(b",\"headers\":[");
        for (index, (name, value)) in message.headers().enumerate() {
            out.extend_from_slice(if index == 0 { b"[" } else { b",[" });
            text_or_bytes(name, out);
            out.push(b',');
            text_or_bytes(value, out);
            out.push(b']');
        }
        out.extend_from_slice(b"],\"meta\":{");
        let mut first = true;
        if let Some(reply) = message.reply() {
            out.extend_from_slice(b"\"reply\":");
            text_or_bytes(reply, out);
            first = false;
        }
        for (name, value) in message.meta() {
            // The message's own reply is the one that counts; a key may not stand twice.
            if name == "reply" && message.reply().is_some() {
                continue;
            }
            if !first {
                out.push(b',');
            }
            first = false;
            string(name, out);
            out.push(b':');
            meta(value, out);
        }
        out.extend_from_slice(b"}}");
    }
}

fn meta(value: MetaValue<'_>, out: &mut Vec<u8>) {
    // Writing to a `Vec` can't fail.
    let _ = match value {
        MetaValue::Bool(value) => write!(out, "{value}"),
        MetaValue::Int(value) => write!(out, "{value}"),
        MetaValue::Uint(value) => write!(out, "{value}"),
        // JSON has no infinity.
        MetaValue::Float(value) if value.is_finite() => write!(out, "{value}"),
        MetaValue::Float(_) => write!(out, "null"),
        MetaValue::Text(value) => return string(value, out),
        MetaValue::Bytes(value) => return text_or_bytes(value, out),
        MetaValue::Json(value) => return embedded(value, out),
    };
}

/// A plugin's own JSON. It must not be able to break the line: what is not JSON becomes a text.
pub fn embedded(json: &str, out: &mut Vec<u8>) {
    if serde_json::from_str::<serde::de::IgnoredAny>(json).is_err() {
        return string(json, out);
    }
    // Inside of texts these are escaped, so here they can only be layout.
    out.extend(json.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
}

fn text_or_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => string(text, out),
        Err(_) => {
            out.extend_from_slice(b"{\"base64\":");
            quoted_base64(bytes, out);
            out.push(b'}');
        }
    }
}

fn quoted_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    base64_into(bytes, out);
    out.push(b'"');
}

/// A JSON string: runs of plain bytes are copied at once.
pub fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        // DEL is allowed in JSON, but not harmless on a terminal.
        if byte >= 0x20 && byte != b'"' && byte != b'\\' && byte != 0x7f {
            continue;
        }
        out.extend_from_slice(&bytes[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => drop(write!(out, "\\u{byte:04x}")),
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tracemq_plugin_api::sdk::{Batch, BatchBuilder};

    const TIME: i64 = 1_795_255_200_123_456_000;

    fn line(batch: &Batch) -> String {
        let mut out = Vec::new();
        Json::new("demo", "local").append(&batch.get(0).unwrap(), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn parsed(batch: BatchBuilder) -> Value {
        let text = line(&batch.finish());
        assert!(!text.contains(['\n', '\r']), "{text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn the_documented_line() {
        let mut batch = BatchBuilder::new();
        batch.set_time(TIME);
        batch
            .add("a/b", "21.5")
            .header("k", "v")
            .meta("qos", MetaValue::Uint(1))
            .meta("retain", MetaValue::Bool(false));
        assert_eq!(
            line(&batch.finish()),
            r#"{"time":"2026-11-21T10:00:00.123456Z","protocol":"demo","target":"local","topic":"a/b","payload":"21.5","encoding":"utf-8","headers":[["k","v"]],"meta":{"qos":1,"retain":false}}"#
        );
    }

    #[test]
    fn hostile_texts_come_back_as_they_were() {
        let nasty = "\"\\\u{0}\u{1f}\u{7f}\u{9b}\n\r\t\u{2028}é🙂";
        let mut batch = BatchBuilder::new();
        batch.add(nasty, nasty).header(nasty, nasty).reply(nasty).meta("reason", MetaValue::Text(nasty));
        let value = parsed(batch);
        assert_eq!(value["topic"], nasty);
        assert_eq!(value["payload"], nasty);
        assert_eq!(value["headers"], json!([[nasty, nasty]]));
        assert_eq!(value["meta"], json!({"reply": nasty, "reason": nasty}));
    }

    #[test]
    fn bytes_are_base64_everywhere() {
        let bytes: &[u8] = &[0xff, 0xfe];
        let mut batch = BatchBuilder::new();
        batch.add(bytes, bytes).header("k", bytes).meta("correlation-data", MetaValue::Bytes(bytes));
        let value = parsed(batch);
        assert_eq!(value["payload"], "//4=");
        assert_eq!(value["encoding"], "base64");
        assert_eq!(value["topic"], json!({"base64": "//4="}));
        assert_eq!(value["headers"], json!([["k", {"base64": "//4="}]]));
        assert_eq!(value["meta"]["correlation-data"], json!({"base64": "//4="}));
    }

    #[test]
    fn metadata_of_every_kind_and_no_key_twice() {
        let mut batch = BatchBuilder::new();
        batch
            .add("t", "")
            .reply("inbox")
            .meta("reply", MetaValue::Text("another"))
            .meta("int", MetaValue::Int(i64::MIN))
            .meta("uint", MetaValue::Uint(u64::MAX))
            .meta("float", MetaValue::Float(1e21))
            .meta("nan", MetaValue::Float(f64::NAN))
            .meta("bytes", MetaValue::Bytes(b"text"))
            .meta("json", MetaValue::Json("{\n \"a\": [1]\r\n}"))
            .meta("broken", MetaValue::Json("{\n"));
        let text = line(&batch.finish());
        assert_eq!(text.matches("\"reply\"").count(), 1, "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value["meta"],
            json!({"reply": "inbox", "int": i64::MIN, "uint": u64::MAX, "float": 1e21, "nan": null, "bytes": "text",
                "json": {"a": [1]}, "broken": "{\n"})
        );
    }
}
