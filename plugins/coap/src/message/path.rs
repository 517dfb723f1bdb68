//! Paths and queries: as text, and as options (RFC 7252 sections 6.4 and 6.5).

use std::fmt;

use coap_lite::{CoapOption, Packet};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What section 6.5 wants encoded in a segment: everything but unreserved characters, sub-delims, `:` and `@`.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');
/// The same for an argument of the query, where `/` and `?` are ordinary and `&` ends it.
const ARGUMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'<')
    .add(b'>')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');
const LONGEST: usize = 255;

/// Why a text is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// A fragment, which no CoAP URI has.
    Fragment,
    /// `%` without two hexadecimal digits.
    Percent,
    /// What the percent-encoding stands for is not UTF-8.
    Utf8,
    /// `.` or `..`, which only make sense relative to something.
    Dots,
    /// A segment or argument of more than 255 bytes.
    Long,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathError::Fragment => "a CoAP URI has no fragment (write # as %23)",
            PathError::Percent => "a % must be followed by two hexadecimal digits (write % as %25)",
            PathError::Utf8 => "its percent-encoding is not UTF-8",
            PathError::Dots => "it must not have . or .. in it",
            PathError::Long => "no part of it may have more than 255 bytes",
        })
    }
}

impl std::error::Error for PathError {}

/// Adds the options of `a/b?x=1&y`, with or without a slash before it. `/` and the empty text are the root.
///
/// # Errors
/// See [`PathError`]; the packet may then have some of the options.
pub fn add_uri(packet: &mut Packet, text: &str) -> Result<(), PathError> {
    if text.contains('#') {
        return Err(PathError::Fragment);
    }
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    let path = path.strip_prefix('/').unwrap_or(path);
    if !path.is_empty() {
        for segment in path.split('/') {
            if segment == "." || segment == ".." {
                return Err(PathError::Dots);
            }
            packet.add_option(CoapOption::UriPath, decoded(segment)?);
        }
    }
    for argument in query.into_iter().flat_map(|query| query.split('&')) {
        packet.add_option(CoapOption::UriQuery, decoded(argument)?);
    }
    Ok(())
}

fn decoded(text: &str) -> Result<Vec<u8>, PathError> {
    let hexadecimal =
        |digits: Option<&[u8]>| digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    let bytes = text.as_bytes();
    if (0..bytes.len()).any(|at| bytes[at] == b'%' && !hexadecimal(bytes.get(at + 1..at + 3))) {
        return Err(PathError::Percent);
    }
    let value = percent_decode_str(text).decode_utf8().map_err(|_| PathError::Utf8)?;
    match value.len() {
        0..=LONGEST => Ok(value.into_owned().into_bytes()),
        _ => Err(PathError::Long),
    }
}

/// A packet's path, with a slash before each segment; `/` for the root. What is not UTF-8 is shown with replacement
/// characters.
pub fn path_of(packet: &Packet) -> String {
    let mut path = String::new();
    for segment in packet.get_option(CoapOption::UriPath).into_iter().flatten() {
        path.push('/');
        path.extend(utf8_percent_encode(&String::from_utf8_lossy(segment), SEGMENT));
    }
    if path.is_empty() {
        path.push('/');
    }
    path
}

/// Path and query.
pub fn uri_of(packet: &Packet) -> String {
    let mut uri = path_of(packet);
    for (index, argument) in packet.get_option(CoapOption::UriQuery).into_iter().flatten().enumerate() {
        uri.push(if index == 0 { '?' } else { '&' });
        uri.extend(utf8_percent_encode(&String::from_utf8_lossy(argument), ARGUMENT));
    }
    uri
}
