//! Options by name and number: what their values look like (RFC 7252 section 5.10 and the RFCs since).

use std::borrow::Cow;

use coap_lite::CoapOption;

use super::format::{content_format_name, content_format_number};
use super::options::{uint_bytes, uint_of};

/// How a value is written (RFC 7252 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueFormat {
    Empty,
    Opaque,
    Uint,
    String,
    /// A number of the registry of content formats.
    ContentFormat,
    /// Number, more and size (RFC 7959 section 2.2).
    Block,
}

/// What is registered about an option.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    pub number: u16,
    pub name: &'static str,
    pub format: ValueFormat,
    /// Shortest and longest value, in bytes.
    pub length: (usize, usize),
    pub repeatable: bool,
    /// Whether this plugin acts on it. A critical option that it does not act on is not understood.
    pub understood: bool,
}

const fn option(
    number: u16,
    name: &'static str,
    format: ValueFormat,
    length: (usize, usize),
    repeatable: bool,
) -> Definition {
    Definition { number, name, format, length, repeatable, understood: true }
}

const fn foreign(definition: Definition) -> Definition {
    Definition { understood: false, ..definition }
}

use ValueFormat::{Block, ContentFormat, Empty, Opaque, String as Text, Uint};

const DEFINITIONS: [Definition; 29] = [
    option(1, "If-Match", Opaque, (0, 8), true),
    option(3, "Uri-Host", Text, (1, 255), false),
    option(4, "ETag", Opaque, (1, 8), true),
    option(5, "If-None-Match", Empty, (0, 0), false),
    option(6, "Observe", Uint, (0, 3), false),
    option(7, "Uri-Port", Uint, (0, 2), false),
    option(8, "Location-Path", Text, (0, 255), true),
    option(9, "OSCORE", Opaque, (0, 255), false),
    option(11, "Uri-Path", Text, (0, 255), true),
    option(12, "Content-Format", ContentFormat, (0, 2), false),
    option(14, "Max-Age", Uint, (0, 4), false),
    option(15, "Uri-Query", Text, (0, 255), true),
    foreign(option(16, "Hop-Limit", Uint, (1, 1), false)),
    option(17, "Accept", ContentFormat, (0, 2), false),
    foreign(option(19, "Q-Block1", Block, (0, 3), false)),
    option(20, "Location-Query", Text, (0, 255), true),
    foreign(option(21, "EDHOC", Empty, (0, 0), false)),
    option(23, "Block2", Block, (0, 3), false),
    option(27, "Block1", Block, (0, 3), false),
    option(28, "Size2", Uint, (0, 4), false),
    foreign(option(31, "Q-Block2", Block, (0, 3), true)),
    option(35, "Proxy-Uri", Text, (1, 1034), false),
    option(39, "Proxy-Scheme", Text, (1, 255), false),
    option(60, "Size1", Uint, (0, 4), false),
    option(252, "Echo", Opaque, (1, 40), false),
    option(258, "No-Response", Uint, (0, 1), false),
    option(292, "Request-Tag", Opaque, (0, 8), true),
    foreign(option(2049, "OCF-Accept-Content-Format-Version", Uint, (0, 2), false)),
    foreign(option(2053, "OCF-Content-Format-Version", Uint, (0, 2), false)),
];

/// `None` when the number is not registered.
pub fn definition(number: u16) -> Option<&'static Definition> {
    let found = DEFINITIONS.binary_search_by_key(&number, |definition| definition.number);
    found.ok().map(|index| &DEFINITIONS[index])
}

/// Reads an option's name or number: `if-match`, `If-Match`, `1`.
pub fn parse_option_number(text: &str) -> Option<u16> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('_', "-");
    let named = DEFINITIONS.iter().find(|definition| plain(definition.name) == plain(text));
    named.map(|definition| definition.number).or_else(|| text.parse().ok())
}

/// Reads `NAME=VALUE`. The value is `0x` and bytes in hexadecimal, else what the option's format says: a number, the name of
/// a content format, or text. An option that is not registered takes text.
///
/// # Errors
/// What is wrong, as the rest of a sentence that begins with the text.
pub fn parse_option(text: &str) -> Result<(CoapOption, Vec<u8>), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let number = parse_option_number(name).ok_or_else(|| format!("there is no option {name:?}"))?;
    let known = definition(number);
    let bytes = match (value.strip_prefix("0x"), known.map(|definition| definition.format)) {
        (Some(digits), _) => hex(digits).ok_or("the value has an odd or wrong digit after 0x")?,
        (None, Some(ValueFormat::Empty)) if !value.is_empty() => {
            return Err("this option has no value".to_owned());
        }
        (None, Some(ValueFormat::Uint | ValueFormat::Block)) => {
            let number: u32 = value.parse().map_err(|_| format!("{value:?} is not a number"))?;
            uint_bytes(number)
        }
        (None, Some(ValueFormat::ContentFormat)) => {
            let number =
                content_format_number(value).ok_or_else(|| format!("{value:?} is not a content format"))?;
            uint_bytes(u32::from(number))
        }
        _ => value.as_bytes().to_vec(),
    };
    let (shortest, longest) = known.map_or((0, usize::from(u16::MAX)), |definition| definition.length);
    if !(shortest..=longest).contains(&bytes.len()) {
        return Err(format!("the value has {} bytes, not {shortest} to {longest}", bytes.len()));
    }
    Ok((CoapOption::from(number), bytes))
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    let nibble = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks_exact(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect()
}

/// A value for people: text, a number, a content format's name, or `0x` and hexadecimal.
pub fn show_value(number: u16, value: &[u8]) -> Cow<'_, str> {
    let format = definition(number).map_or(ValueFormat::Opaque, |definition| definition.format);
    let shown = match (format, std::str::from_utf8(value)) {
        (ValueFormat::String, Ok(text)) => return Cow::Borrowed(text),
        (ValueFormat::Empty, _) if value.is_empty() => return Cow::Borrowed(""),
        (ValueFormat::Uint, _) => uint_of(value).map(|number| number.to_string()),
        (ValueFormat::ContentFormat, _) => uint_of(value).map(|number| {
            let name = u16::try_from(number).ok().and_then(content_format_name);
            name.map_or_else(|| number.to_string(), str::to_owned)
        }),
        (ValueFormat::Block, _) => uint_of(value)
            .map(|bits| format!("{}/{}/{}", bits >> 4, u8::from(bits & 8 != 0), 16_u32 << (bits & 7).min(6))),
        _ => None,
    };
    let hexadecimal = || value.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}"));
    Cow::Owned(shown.unwrap_or_else(hexadecimal))
}
