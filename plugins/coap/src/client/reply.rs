//! A whole response: as a message for the host, as the outcome of a publish, or as the failure that it is.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::json;
use tracemq_plugin_api::prelude::*;

use crate::blockwise::Answer;
use crate::endpoint::{Arrival, Failure};
use crate::message::{self, CoapOption, MessageClass, Packet, Token, code_name, code_text};
use crate::show;

/// What it took to have a response, over all messages of its transfer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) round_trip: Duration,
    pub(crate) retransmissions: u32,
}

impl Tally {
    pub(crate) fn add(&mut self, arrival: &Arrival) {
        self.round_trip += arrival.round_trip;
        self.retransmissions += arrival.retransmissions;
    }

    fn milliseconds(&self) -> f64 {
        (self.round_trip.as_secs_f64() * 1_000_000.0).round() / 1000.0
    }
}

/// What is told of each published message, written as it is: a tree of values took longer than all else that is done for it.
#[derive(Serialize)]
struct Details<'a> {
    code: Shown<MessageClass>,
    code_name: Option<&'static str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<u16>,
    token: Shown<Token>,
    round_trip_ms: f64,
    retransmissions: u32,
    request_blocks: u32,
    blocks: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<show::Options<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
}

/// As text.
struct Shown<T>(T);

impl<T: std::fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A whole response.
pub(crate) struct Reply {
    pub(crate) answer: Answer,
    pub(crate) tally: Tally,
    pub(crate) peer: SocketAddr,
    pub(crate) separate: bool,
}

impl Reply {
    fn packet(&self) -> &Packet {
        &self.answer.packet
    }

    pub(crate) fn is_success(&self) -> bool {
        message::class(self.answer.code()) == 2
    }

    /// Adds it to a batch. Of an observation, `observed` is its notification's number.
    pub(crate) fn add_to(&mut self, batch: &mut BatchBuilder, topic: &str, observed: Option<u32>) {
        let payload = bytes::Bytes::from(std::mem::take(&mut self.answer.packet.payload));
        let packet = &self.answer.packet;
        let code = packet.header.code;
        let token = Token::of(packet).to_string();
        let number = code.to_string();
        let peer = self.peer.to_string();
        let mut record = batch
            .add(topic, payload)
            .meta("code", MetaValue::Text(&number))
            .meta("code_name", MetaValue::Text(code_name(code).unwrap_or("unknown")))
            .meta("token", MetaValue::Text(&token))
            .meta("peer", MetaValue::Text(&peer));
        if !message::is_of_stream(packet) {
            record = record
                .meta("type", MetaValue::Text(show::message_type(packet)))
                .meta("message_id", MetaValue::Uint(u64::from(packet.header.message_id)));
        }
        record = match observed {
            Some(number) => record.meta("observe", MetaValue::Uint(u64::from(number))),
            None => record
                .meta("round_trip_ms", MetaValue::Float(self.tally.milliseconds()))
                .meta("retransmissions", MetaValue::Uint(u64::from(self.tally.retransmissions)))
                .meta("separate", MetaValue::Bool(self.separate))
                .meta("request_blocks", MetaValue::Uint(u64::from(self.answer.request_blocks))),
        };
        record = record.meta("blocks", MetaValue::Uint(u64::from(self.answer.response_blocks)));
        if let Some(format) = show::content_format(packet) {
            record = record.meta("content_format", MetaValue::Text(&format));
        }
        let options = show::Options(packet).to_string();
        record.meta("options", MetaValue::Json(&options));
    }

    /// What became of a published message.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.is_success() {
            return Outcome::acknowledged().details_of(&self.details());
        }
        let text = self.refusal();
        let outcome = match is_forbidden(self.packet()) {
            true => Outcome::unauthorized(text),
            false => Outcome::refused(text),
        };
        outcome.details_of(&self.details())
    }

    fn details(&self) -> Details<'_> {
        let packet = self.packet();
        let message = (!message::is_of_stream(packet)).then_some(packet.header.message_id);
        Details {
            code: Shown(packet.header.code),
            code_name: code_name(packet.header.code),
            kind: message.map(|_| show::message_type(packet)),
            message_id: message,
            token: Shown(Token::of(packet)),
            round_trip_ms: self.tally.milliseconds(),
            retransmissions: self.tally.retransmissions,
            request_blocks: self.answer.request_blocks,
            blocks: self.answer.response_blocks,
            options: Some(show::Options(packet)).filter(|_| packet.options().next().is_some()),
            payload: if self.is_success() { show::diagnostic(packet) } else { None },
        }
    }

    /// `4.04 Not Found: there is no such thing`.
    fn refusal(&self) -> String {
        let text = code_text(self.packet().header.code);
        match show::diagnostic(self.packet()) {
            Some(why) => format!("{text}: {why}"),
            None => text,
        }
    }

    /// The failure that a response of class 4 or 5 is.
    pub(crate) fn error(&self) -> Error {
        let packet = self.packet();
        let kind = if is_forbidden(packet) { ErrorKind::AUTH } else { ErrorKind::PROTOCOL };
        let error = Error::new(kind, format!("the server answered {}", self.refusal()));
        match hint(packet) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// 4.01 and 4.03.
fn is_forbidden(packet: &Packet) -> bool {
    matches!(u8::from(packet.header.code), 0x81 | 0x83)
}

fn hint(packet: &Packet) -> Option<String> {
    Some(match u8::from(packet.header.code) {
        0x81 | 0x83 => "this client has no permission for it, or has to say who it is".to_owned(),
        0x84 => "list shows what is there".to_owned(),
        0x85 => "another --method may be possible".to_owned(),
        0x86 => "the server has it in no format that --accept allows".to_owned(),
        0x8d => {
            let size = message::uint(packet, CoapOption::Size1)?;
            format!("the server takes at most {size} bytes")
        }
        0x8f => "--content-format says what the payload is".to_owned(),
        0xa3 => {
            let seconds = message::uint(packet, CoapOption::MaxAge)?;
            format!("the server says to try again in {seconds} s")
        }
        _ => return None,
    })
}

/// Why there is no response.
pub(crate) fn failed(why: Failure) -> Error {
    match why {
        Failure::TimedOut { retransmissions: 0 } | Failure::NoResponse => {
            Error::new(ErrorKind::NO_RESPONDERS, "the answer did not come in time")
                .hint("--answer-timeout waits longer")
        }
        Failure::TimedOut { retransmissions } => {
            let times = if retransmissions == 1 { "time" } else { "times" };
            let text =
                format!("nobody answered, though the message was sent again {retransmissions} {times}");
            Error::new(ErrorKind::NO_RESPONDERS, text)
                .hint("check host, port and scheme: who hears no CoAP there says nothing")
        }
        Failure::Reset => {
            Error::new(ErrorKind::PROTOCOL, "the server could not make sense of the message (RST)")
        }
        Failure::Forgotten => Error::new(ErrorKind::CLOSED, "the server has begun anew"),
        Failure::CriticalOption(number) => Error::new(
            ErrorKind::PROTOCOL,
            format!("the answer has the critical option {number}, which is not understood here"),
        ),
        Failure::TooLarge { length, limit } => Error::new(
            ErrorKind::PROTOCOL,
            format!("the message has {length} bytes, and the server takes {limit} at most"),
        )
        .hint("--block-size sends it in blocks"),
        Failure::NotAuthentic => Error::new(
            ErrorKind::PROTOCOL,
            "the answer is not protected as the request was, so that anybody may have sent it (OSCORE)",
        ),
    }
}

/// The details of an outcome that did not come to a response.
pub(crate) fn failed_outcome(why: Failure) -> Outcome {
    let retransmissions = match why {
        Failure::TimedOut { retransmissions } => retransmissions,
        _ => 0,
    };
    let error = failed(why);
    let outcome = match why {
        Failure::Reset | Failure::CriticalOption(_) | Failure::TooLarge { .. } => {
            Outcome::refused(error.message())
        }
        _ => Outcome::unconfirmed(error.message()),
    };
    outcome.details(json!({ "retransmissions": retransmissions }))
}
