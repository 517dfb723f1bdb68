//! What a request does to the resources, and what is answered (RFC 7252 sections 5.8 to 5.10, RFC 8132).
//!
//! Nothing here knows by which transport or in how many blocks a request came. POST does what users of a test server expect:
//! on a resource it replaces the content (2.04), on a path that nothing has yet it creates that resource (2.01), and on a
//! collection, that is the root, a path with a slash at its end or one with resources beneath it, it creates a child whose
//! name is in Location-Path (2.01).

use bytes::Bytes;
use coap_lite::ResponseType;

use super::patch::{self, Failure, JSON_PATCH, MERGE_PATCH};
use super::resources::{ETag, Refused, Representation, Resources, Written};
use crate::message::{
    CoapOption, MessageClass, Method, Packet, add, code_text, content_format, content_format_name, first,
    path_of, set_uint, uint,
};

/// Where discovery looks (RFC 6690 section 4).
pub const WELL_KNOWN: &str = "/.well-known/core";
const TEXT: u16 = 0;
const OCTETS: u16 = 42;

/// A response without its place in an exchange: type, message id, token and blocks are added later.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub code: MessageClass,
    pub etag: Option<ETag>,
    pub format: Option<u16>,
    /// The largest body that would be taken, for 4.13.
    pub size1: Option<usize>,
    /// The path of what was created.
    pub location: Option<String>,
    pub body: Bytes,
}

impl Answer {
    pub fn new(code: ResponseType) -> Answer {
        let code = MessageClass::Response(code);
        Answer { code, etag: None, format: None, size1: None, location: None, body: Bytes::new() }
    }

    /// With a diagnostic payload (RFC 7252 section 5.5.2).
    pub fn because(code: ResponseType, text: impl Into<String>) -> Answer {
        Answer { body: Bytes::from(text.into()), ..Answer::new(code) }
    }

    /// The whole of a representation.
    fn content(state: &Representation) -> Answer {
        let mut answer = Answer::new(ResponseType::Content);
        (answer.etag, answer.format, answer.body) = (Some(state.etag), state.format, state.payload.clone());
        answer
    }

    pub fn is_success(&self) -> bool {
        crate::message::class(self.code) == 2
    }

    /// Code and options; the body is left out.
    pub fn head(&self) -> Packet {
        let mut packet = Packet::new();
        packet.header.code = self.code;
        if let Some(etag) = self.etag {
            add(&mut packet, CoapOption::ETag, etag);
        }
        if let Some(format) = self.format {
            set_uint(&mut packet, CoapOption::ContentFormat, format.into());
        }
        if let Some(size) = self.size1 {
            set_uint(&mut packet, CoapOption::Size1, u32::try_from(size).unwrap_or(u32::MAX));
        }
        if let Some(location) = &self.location {
            add_location(&mut packet, location);
        }
        packet
    }
}

fn add_location(packet: &mut Packet, path: &str) {
    let mut uri = Packet::new();
    // The name of a resource is a path, so it can be read as one.
    if crate::message::add_uri(&mut uri, path).is_ok() {
        for segment in uri.get_option(CoapOption::UriPath).into_iter().flatten() {
            packet.add_option(CoapOption::LocationPath, segment.clone());
        }
    }
}

/// What has become of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Written(String),
    Removed(String),
}

/// The answer, and what has changed by it.
#[derive(Debug)]
pub struct Handled {
    pub answer: Answer,
    pub change: Option<Change>,
}

impl From<Answer> for Handled {
    fn from(answer: Answer) -> Handled {
        Handled { answer, change: None }
    }
}

/// What is answered before the method matters: a proxy is asked for, or a critical option is not understood.
pub fn refuse(request: &Packet) -> Option<Answer> {
    for option in [CoapOption::ProxyUri, CoapOption::ProxyScheme] {
        if first(request, option).is_some() {
            return Some(Answer::because(ResponseType::ProxyingNotSupported, "this is no proxy"));
        }
    }
    crate::message::not_understood(request).map(|number| {
        let name =
            crate::message::definition(number).map_or_else(String::new, |known| format!(" ({})", known.name));
        let text = format!("critical option {number}{name} is not understood, or its value is wrong");
        Answer::because(ResponseType::BadOption, text)
    })
}

/// Carries out a request whose body is whole.
pub fn handle(resources: &mut Resources, request: &Packet, body: Bytes) -> Handled {
    let Some(method) = Method::of(request.header.code) else {
        let text = format!("method {} is not known here", request.header.code);
        return Answer::because(ResponseType::MethodNotAllowed, text).into();
    };
    let path = path_of(request);
    if path == WELL_KNOWN {
        return discover(resources, request, method).into();
    }
    if let Some(answer) = precondition(resources, request, &path) {
        return answer.into();
    }
    match method {
        Method::Get => get(resources, request, &path).into(),
        Method::Put => put(resources, request, path, body),
        Method::Post => post(resources, request, path, body),
        Method::Delete => delete(resources, path),
        Method::Patch | Method::Ipatch => patch(resources, request, path, &body),
        Method::Fetch => fetch(resources, request, &path).into(),
    }
}

fn discover(resources: &mut Resources, request: &Packet, method: Method) -> Answer {
    if method != Method::Get {
        let text = format!("{WELL_KNOWN} can only be read");
        return Answer::because(ResponseType::MethodNotAllowed, text);
    }
    let queries = request.get_option(CoapOption::UriQuery).into_iter().flatten();
    let queries: Vec<String> = queries.map(|query| String::from_utf8_lossy(query).into_owned()).collect();
    read(&resources.listing("/", &queries), request)
}

/// If-Match and If-None-Match (RFC 7252 section 5.10.8).
fn precondition(resources: &Resources, request: &Packet, path: &str) -> Option<Answer> {
    let state = resources.get(path);
    let failed = |text: &str| Some(Answer::because(ResponseType::PreconditionFailed, text));
    if let Some(wanted) = request.get_option(CoapOption::IfMatch) {
        let fits =
            |state: &Representation| wanted.iter().any(|etag| etag.is_empty() || etag[..] == state.etag[..]);
        match state {
            None if !wanted.is_empty() => return failed("If-Match: there is no such resource"),
            Some(state) if !wanted.is_empty() && !fits(state) => {
                return failed("If-Match: the resource is another one by now");
            }
            _ => {}
        }
    }
    if first(request, CoapOption::IfNoneMatch).is_some() && state.is_some() {
        return failed("If-None-Match: there is such a resource");
    }
    None
}

pub fn not_found(path: &str) -> Answer {
    Answer::because(ResponseType::NotFound, format!("there is no resource {path}"))
}

fn get(resources: &mut Resources, request: &Packet, path: &str) -> Answer {
    match resources.get(path) {
        Some(state) => read(state, request),
        // What a folder's listing is elsewhere.
        None if resources.is_collection(path) => read(&resources.listing(path, &[]), request),
        None => not_found(path),
    }
}

/// A representation as a GET wants it: Accept, and ETags that the client has already.
pub fn read(state: &Representation, request: &Packet) -> Answer {
    if let Some(accept) = uint(request, CoapOption::Accept)
        && !acceptable(state, accept)
    {
        let there = match state.format {
            Some(format) => format_name(format),
            None => "without a content format".to_owned(),
        };
        return Answer::because(ResponseType::NotAcceptable, format!("the resource is {there}"));
    }
    let known = request.get_option(CoapOption::ETag);
    if known.into_iter().flatten().any(|etag| etag[..] == state.etag[..]) {
        return Answer { etag: Some(state.etag), ..Answer::new(ResponseType::Valid) };
    }
    Answer::content(state)
}

/// What has no format is text if it can be.
fn acceptable(state: &Representation, accept: u32) -> bool {
    let format = state.format.unwrap_or_else(|| match std::str::from_utf8(&state.payload) {
        Ok(_) => TEXT,
        Err(_) => OCTETS,
    });
    accept == u32::from(format)
}

fn format_name(format: u16) -> String {
    content_format_name(format).map_or_else(|| format!("content format {format}"), str::to_owned)
}

fn refused(resources: &Resources, refused: Refused, path: &str) -> Handled {
    match refused {
        Refused::TooLarge => too_large(resources),
        Refused::Full => {
            Answer::because(ResponseType::ServiceUnavailable, "there is no room for more resources")
        }
        Refused::ReadOnly => {
            Answer::because(ResponseType::MethodNotAllowed, format!("{path} is a file: it can only be read"))
        }
    }
    .into()
}

/// 4.13, with what would be taken.
pub fn too_large(resources: &Resources) -> Answer {
    let most = resources.largest();
    let text = format!("at most {most} bytes are taken");
    Answer { size1: Some(most), ..Answer::because(ResponseType::RequestEntityTooLarge, text) }
}

fn put(resources: &mut Resources, request: &Packet, path: String, body: Bytes) -> Handled {
    let state = Representation::new(body, content_format(request));
    match resources.put(&path, state) {
        Ok(Written::Created) => {
            Handled { answer: Answer::new(ResponseType::Created), change: Some(Change::Written(path)) }
        }
        Ok(Written::Changed) => {
            Handled { answer: Answer::new(ResponseType::Changed), change: Some(Change::Written(path)) }
        }
        Err(why) => refused(resources, why, &path),
    }
}

fn post(resources: &mut Resources, request: &Packet, path: String, body: Bytes) -> Handled {
    let alone = resources.get(&path).is_none();
    if !(alone && (path.ends_with('/') || resources.is_collection(&path))) {
        let mut handled = put(resources, request, path.clone(), body);
        if handled.answer.code == MessageClass::Response(ResponseType::Created) {
            handled.answer.location = Some(path);
        }
        return handled;
    }
    match resources.add_child(&path, Representation::new(body, content_format(request))) {
        Ok(child) => Handled {
            answer: Answer { location: Some(child.clone()), ..Answer::new(ResponseType::Created) },
            change: Some(Change::Written(child)),
        },
        Err(why) => refused(resources, why, &path),
    }
}

fn delete(resources: &mut Resources, path: String) -> Handled {
    match resources.remove(&path) {
        Ok(true) => {
            Handled { answer: Answer::new(ResponseType::Deleted), change: Some(Change::Removed(path)) }
        }
        // RFC 7252 section 5.8.4: what was not there is deleted as well.
        Ok(false) => Answer::new(ResponseType::Deleted).into(),
        Err(why) => refused(resources, why, &path),
    }
}

fn patch(resources: &mut Resources, request: &Packet, path: String, body: &[u8]) -> Handled {
    let Some(state) = resources.get(&path) else { return not_found(&path).into() };
    let format = match content_format(request) {
        Some(format @ (JSON_PATCH | MERGE_PATCH)) => format,
        other => return unsupported("a patch", other).into(),
    };
    match patch::apply(&state.payload, body, format, resources.largest()) {
        Ok(patched) => {
            let state = Representation::new(Bytes::from(patched), state.format);
            match resources.put(&path, state) {
                Ok(_) => Handled {
                    answer: Answer::new(ResponseType::Changed),
                    change: Some(Change::Written(path)),
                },
                Err(why) => refused(resources, why, &path),
            }
        }
        Err(Failure::Malformed(text)) => Answer::because(ResponseType::BadRequest, text).into(),
        Err(Failure::Conflict(text)) => Answer::because(ResponseType::Conflict, text).into(),
        Err(Failure::TooLarge) => too_large(resources).into(),
    }
}

/// RFC 8132 leaves it to applications how a FETCH says what it wants. This server knows no such format, and says so.
fn fetch(resources: &Resources, request: &Packet, path: &str) -> Answer {
    if resources.get(path).is_none() {
        return not_found(path);
    }
    unsupported("a FETCH", content_format(request))
}

fn unsupported(what: &str, format: Option<u16>) -> Answer {
    let known = if what == "a patch" { " (known: 51 JSON patch, 52 JSON merge patch)" } else { "" };
    let text = match format {
        Some(format) => format!("{what} of format {} is not understood{known}", format_name(format)),
        None => format!("{what} needs a Content-Format{known}"),
    };
    Answer::because(ResponseType::UnsupportedContentFormat, text)
}

/// The answer of `--reply`. With a code of success a GET gets what is there, and all else its own body back.
pub fn fixed(code: MessageClass, resources: &Resources, request: &Packet, body: Bytes) -> Answer {
    let mut answer = Answer::new(ResponseType::Content);
    answer.code = code;
    if !answer.is_success() {
        answer.body = Bytes::from(format!("{} (--reply)", code_text(code)));
    } else if let (Some(Method::Get), Some(state)) =
        (Method::of(request.header.code), resources.get(&path_of(request)))
    {
        (answer.etag, answer.format, answer.body) = (Some(state.etag), state.format, state.payload.clone());
    } else {
        (answer.format, answer.body) = (content_format(request), body);
    }
    answer
}
