//! What went wrong in JetStream, told in our terms.
//!
//! async-nats has an error type for each call. They come to three things: the server's own error with a code, nobody there, or
//! no answer in time.

use std::error::Error as StdError;

use async_nats::jetstream::context::{RequestError, RequestErrorKind};
use async_nats::jetstream::{Error as Told, ErrorCode};
use tracemq_plugin_api::prelude::{Error, ErrorKind};

pub(super) fn not_enabled() -> Error {
    Error::new(ErrorKind::PROTOCOL, "JetStream is not enabled on this server or for this account")
        .code("503")
        .hint("enable it in the server's configuration (nats-server -js), or for the account")
}

pub(super) fn not_allowed(text: &str) -> Error {
    Error::new(ErrorKind::AUTH, "the server does not allow this user to ask that of JetStream")
        .code(format!("-ERR '{}'", text.escape_debug().to_string().replace("\\\"", "\"")))
        .hint("check what the server allows this user to publish to $JS.API.>")
}

/// The server's own error.
pub(super) fn told(error: &Told) -> Error {
    let text = error.to_string();
    let kind = if error.code() == 403 { ErrorKind::AUTH } else { ErrorKind::PROTOCOL };
    let found = Error::new(kind, format!("JetStream says: {}", text.escape_debug()))
        .code(error.error_code().0.to_string());
    match error.error_code() {
        ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT | ErrorCode::JETSTREAM_NOT_ENABLED => not_enabled(),
        _ if error.code() == 503 => found.temporary(),
        _ => found,
    }
}

pub(super) fn request(error: &RequestError) -> Error {
    match error.kind() {
        RequestErrorKind::NoResponders => not_enabled(),
        RequestErrorKind::TimedOut => no_answer(),
        _ => any(error),
    }
}

pub(super) fn no_answer() -> Error {
    Error::new(ErrorKind::TIMEOUT, "JetStream does not answer")
        .hint("a cluster without a leader does not: check the servers")
        .temporary()
}

/// Whatever a call of async-nats returned: the cause deepest down says most.
pub(super) fn any(error: &(dyn StdError + 'static)) -> Error {
    let mut at = Some(error);
    let mut last = error;
    while let Some(error) = at {
        if let Some(found) = error.downcast_ref::<Told>() {
            return told(found);
        }
        if let Some(found) = error.downcast_ref::<RequestError>()
            && matches!(found.kind(), RequestErrorKind::NoResponders | RequestErrorKind::TimedOut)
        {
            return request(found);
        }
        last = error;
        at = error.source();
    }
    let shown =
        if last.to_string() == error.to_string() { error.to_string() } else { format!("{error}: {last}") };
    Error::new(ErrorKind::PROTOCOL, format!("JetStream: {}", shown.escape_debug()))
}
