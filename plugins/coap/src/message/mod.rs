//! Messages as they travel, on coap-lite's [`Packet`] (RFC 7252 section 3).
//!
//! coap-lite keeps a message and reads one, but takes much that the RFC wants refused: any version, an empty payload after
//! its marker, an empty message with content. So [`decode`] looks at the bytes first. Writing is done here, because
//! coap-lite allocates for each option. What options, codes and content formats are called, and how their values are
//! written, is the same for client, server and every transport.

mod block;
mod code;
mod format;
mod option;
mod options;
mod path;
mod token;
mod wire;

pub use block::Block;
pub use coap_lite::{CoapOption, MessageClass, MessageType, Packet};
pub use code::{
    Method, class, code_name, code_text, is_of_stream, is_request, is_response, mark_of_stream, parse_code,
};
pub use format::{content_format_name, content_format_number};
pub use option::{Definition, ValueFormat, definition, parse_option, parse_option_number, show_value};
pub use options::{
    add, content_format, etag, first, not_understood, observe, replace, set_uint, uint, uint_bytes, uint_of,
    without,
};
pub use path::{PathError, add_uri, path_of, uri_of};
pub use token::Token;
pub use wire::{
    MAX_OPTIONS, Malformed, MalformedKind, PAYLOAD_MARKER, check_options, decode, encode, encode_options,
};
