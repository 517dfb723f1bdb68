//! A packet's options as JSON, for what is shown of messages on either side.

use std::borrow::Cow;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::message::{self, Packet, definition, show_value};

/// `[["ETag", "0x1f"], ["65000", "0x01"]]`: names where there are some, values as they are written on the command line.
pub(crate) struct Options<'a>(pub(crate) &'a Packet);

impl<'a> Serialize for Options<'a> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shown = |number: u16, value: &'a [u8]| -> [Cow<'a, str>; 2] {
            let name = match definition(number) {
                Some(option) => Cow::Borrowed(option.name),
                None => Cow::Owned(number.to_string()),
            };
            [name, show_value(number, value)]
        };
        let all = self
            .0
            .options()
            .flat_map(|(&number, values)| values.iter().map(move |value| shown(number, value)));
        serializer.collect_seq(all)
    }
}

impl fmt::Display for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
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
