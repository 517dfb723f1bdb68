//! A packet's options as JSON, for what is shown of messages on either side.

use serde_json::{Value, json};

use crate::message::{self, Packet, definition, show_value};

/// `[["ETag", "0x1f"], ["65000", "0x01"]]`: names where there are some, values as they are written on the command line.
pub(crate) fn options(packet: &Packet) -> Value {
    let shown = |number: u16, value: &[u8]| {
        let name = definition(number).map_or_else(|| number.to_string(), |option| option.name.to_owned());
        json!([name, show_value(number, value)])
    };
    let all = packet.options().flat_map(|(&number, values)| {
        values.iter().map(move |value| shown(number, value)).collect::<Vec<_>>()
    });
    Value::Array(all.collect())
}

/// The media type of the payload, or its number if it is not registered.
pub(crate) fn content_format(packet: &Packet) -> Option<String> {
    let number = message::content_format(packet)?;
    Some(message::content_format_name(number).map_or_else(|| number.to_string(), str::to_owned))
}

/// `CON`, `NON`, `ACK`, `RST`.
pub(crate) fn message_type(packet: &Packet) -> &'static str {
    match packet.header.get_type() {
        message::MessageType::Confirmable => "CON",
        message::MessageType::NonConfirmable => "NON",
        message::MessageType::Acknowledgement => "ACK",
        message::MessageType::Reset => "RST",
    }
}

/// What a server says with an error (RFC 7252 section 5.5.2): text, if it is some; a bounded part of it.
pub(crate) fn diagnostic(packet: &Packet) -> Option<String> {
    const LONGEST: usize = 400;
    if packet.payload.is_empty() {
        return None;
    }
    let text = match std::str::from_utf8(&packet.payload) {
        Ok(text) => text.trim().to_owned(),
        Err(_) => {
            packet.payload.iter().take(64).fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
        }
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => Some(format!("{}…", &text[..end])),
        None => Some(text).filter(|text| !text.is_empty()),
    }
}
