//! Methods and response codes by name (RFC 7252 section 12.1, RFC 7959, 8132, 8516, 8768, 9177).

use coap_lite::{MessageClass, Packet, RequestType};
use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::{schemars, serde};

/// The methods, as they are named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Get what is there
    Get,
    /// Hand something over to be processed
    Post,
    /// Put it there, in place of what was
    Put,
    /// Delete it
    Delete,
    /// Get, by what the payload says (RFC 8132)
    Fetch,
    /// Change a part of it (RFC 8132)
    Patch,
    /// The same, and doing it twice makes no difference (RFC 8132)
    Ipatch,
}

impl Method {
    pub fn class(self) -> MessageClass {
        MessageClass::Request(match self {
            Method::Get => RequestType::Get,
            Method::Post => RequestType::Post,
            Method::Put => RequestType::Put,
            Method::Delete => RequestType::Delete,
            Method::Fetch => RequestType::Fetch,
            Method::Patch => RequestType::Patch,
            Method::Ipatch => RequestType::IPatch,
        })
    }

    /// As the RFCs write it.
    pub fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Fetch => "FETCH",
            Method::Patch => "PATCH",
            Method::Ipatch => "iPATCH",
        }
    }

    /// `None` for a method code that is not registered.
    pub fn of(code: MessageClass) -> Option<Method> {
        Some(match code {
            MessageClass::Request(RequestType::Get) => Method::Get,
            MessageClass::Request(RequestType::Post) => Method::Post,
            MessageClass::Request(RequestType::Put) => Method::Put,
            MessageClass::Request(RequestType::Delete) => Method::Delete,
            MessageClass::Request(RequestType::Fetch) => Method::Fetch,
            MessageClass::Request(RequestType::Patch) => Method::Patch,
            MessageClass::Request(RequestType::IPatch) => Method::Ipatch,
            _ => return None,
        })
    }
}

/// Of responses; the words are those of the registry.
const RESPONSES: [(u8, &str); 32] = [
    (0x41, "Created"),
    (0x42, "Deleted"),
    (0x43, "Valid"),
    (0x44, "Changed"),
    (0x45, "Content"),
    (0x5f, "Continue"),
    (0x80, "Bad Request"),
    (0x81, "Unauthorized"),
    (0x82, "Bad Option"),
    (0x83, "Forbidden"),
    (0x84, "Not Found"),
    (0x85, "Method Not Allowed"),
    (0x86, "Not Acceptable"),
    (0x88, "Request Entity Incomplete"),
    (0x89, "Conflict"),
    (0x8c, "Precondition Failed"),
    (0x8d, "Request Entity Too Large"),
    (0x8f, "Unsupported Content-Format"),
    (0x96, "Unprocessable Entity"),
    (0x9d, "Too Many Requests"),
    (0xa0, "Internal Server Error"),
    (0xa1, "Not Implemented"),
    (0xa2, "Bad Gateway"),
    (0xa3, "Service Unavailable"),
    (0xa4, "Gateway Timeout"),
    (0xa5, "Proxying Not Supported"),
    (0xa8, "Hop Limit Reached"),
    (0xe1, "CSM"),
    (0xe2, "Ping"),
    (0xe3, "Pong"),
    (0xe4, "Release"),
    (0xe5, "Abort"),
];

/// The class of a code: 0 requests, 2 success, 4 the client's error, 5 the server's, 7 signalling of RFC 8323.
pub fn class(code: MessageClass) -> u8 {
    u8::from(code) >> 5
}

/// A method, registered or not. `0.00` is none.
pub fn is_request(code: MessageClass) -> bool {
    (1..0x20).contains(&u8::from(code))
}

/// Whether a message came over a stream, where it has neither type nor message id (RFC 8323 section 3.2), nor a version: 0
/// stands for that.
pub fn is_of_stream(packet: &Packet) -> bool {
    packet.header.get_version() == 0
}

/// Says so.
pub fn mark_of_stream(packet: &mut Packet) {
    packet.header.set_version(0);
}

pub fn is_response(code: MessageClass) -> bool {
    matches!(class(code), 2..=5)
}

/// What a code is called: `GET`, `Not Found`. `None` when it is not registered.
pub fn code_name(code: MessageClass) -> Option<&'static str> {
    if let Some(method) = Method::of(code) {
        return Some(method.name());
    }
    let byte = u8::from(code);
    RESPONSES.iter().find(|(number, _)| *number == byte).map(|(_, name)| *name)
}

/// Number and name for people: `4.04 Not Found`; a method's name alone.
pub fn code_text(code: MessageClass) -> String {
    match (Method::of(code), code_name(code)) {
        (Some(method), _) => method.name().to_owned(),
        (None, Some(name)) => format!("{code} {name}"),
        (None, None) => code.to_string(),
    }
}

/// Reads a response code: `4.04`, `404`, `not-found` or `Not Found`.
pub fn parse_code(text: &str) -> Option<MessageClass> {
    let plain = |text: &str| text.to_ascii_lowercase().replace([' ', '_'], "-");
    if let Some((byte, _)) = RESPONSES.iter().find(|(_, name)| plain(name) == plain(text)) {
        return Some(MessageClass::from(*byte));
    }
    let digits = match text.split_once('.') {
        Some((class, detail)) if class.len() == 1 && detail.len() == 2 => format!("{class}{detail}"),
        Some(_) => return None,
        None if text.len() == 3 => text.to_owned(),
        None => return None,
    };
    let number: u16 = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    let (class, detail) = (number / 100, number % 100);
    (class < 8 && detail < 32).then(|| MessageClass::from((class << 5 | detail) as u8))
}
