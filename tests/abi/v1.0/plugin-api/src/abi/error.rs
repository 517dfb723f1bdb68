//! The error that crosses the boundary: a kind, what was tried, why it failed, what the user can do.
//! The host adds the plugin and the target, and turns the kind into an exit status.

use super::Extension;
use abi_stable::StableAbi;
use abi_stable::std_types::{RBox, RString, RVec};
use std::fmt;

/// What kind of failure it was. Kinds added later read as [`ErrorKind::OTHER`] in an older host.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorKind(pub u32);

impl ErrorKind {
    pub const OTHER: ErrorKind = ErrorKind(0);
    /// An option, topic or file given by the user is wrong. Exit status 2.
    pub const CONFIG: ErrorKind = ErrorKind(1);
    /// Name lookup, network, TLS or proxy. Exit status 3.
    pub const CONNECT: ErrorKind = ErrorKind(2);
    /// Credentials or permission refused by the peer. Exit status 4.
    pub const AUTH: ErrorKind = ErrorKind(3);
    /// The peer did not answer in time. Exit status 3 while connecting, 5 afterwards.
    pub const TIMEOUT: ErrorKind = ErrorKind(4);
    /// The peer broke the protocol, or refused what was asked for another reason than permission. Exit status 1.
    pub const PROTOCOL: ErrorKind = ErrorKind(5);
    /// The plugin does not offer what was asked. Exit status 2.
    pub const UNSUPPORTED: ErrorKind = ErrorKind(6);
    /// The connection is gone. Exit status 1.
    pub const CLOSED: ErrorKind = ErrorKind(7);
    /// The plugin panicked; the message holds the panic's text. Exit status 7.
    pub const PANIC: ErrorKind = ErrorKind(8);
    /// Nobody is there to answer a request. Exit status 6.
    pub const NO_RESPONDERS: ErrorKind = ErrorKind(9);
}

/// An error with what, where, why and what to do. `Debug` and `Display` never hold a secret: authors put none in.
///
/// Its parts stand behind one pointer, so that a `Result` of it is as cheap to pass on as its success.
#[repr(C)]
#[derive(StableAbi, Clone, Debug, PartialEq, Eq)]
pub struct Error {
    parts: RBox<Parts>,
}

#[repr(C)]
#[derive(StableAbi, Clone, Debug, PartialEq, Eq)]
struct Parts {
    kind: ErrorKind,
    /// 1 when the same call may succeed later.
    retry: u8,
    operation: RString,
    message: RString,
    hint: RString,
    /// The protocol's own reason code, as its users know it: `0x87 not authorized`.
    code: RString,
    extensions: RVec<Extension>,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error {
            parts: RBox::new(Parts {
                kind,
                retry: 0,
                operation: RString::new(),
                message: message.into().into(),
                hint: RString::new(),
                code: RString::new(),
                extensions: RVec::new(),
            }),
        }
    }

    pub fn config(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::CONFIG, message)
    }

    pub fn unsupported(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::UNSUPPORTED, message)
    }

    /// What was being done: `connect`, `subscribe to a/b`.
    pub fn while_doing(mut self, operation: impl Into<String>) -> Error {
        self.parts.operation = operation.into().into();
        self
    }

    /// What the user can do about it, as a sentence without a full stop.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.parts.hint = hint.into().into();
        self
    }

    /// The protocol's reason code in the protocol's own notation.
    pub fn code(mut self, code: impl Into<String>) -> Error {
        self.parts.code = code.into().into();
        self
    }

    /// Marks the error as one that may pass by itself.
    pub fn temporary(mut self) -> Error {
        self.parts.retry = 1;
        self
    }

    pub fn kind(&self) -> ErrorKind {
        self.parts.kind
    }

    pub fn message(&self) -> &str {
        &self.parts.message
    }

    pub fn operation(&self) -> &str {
        &self.parts.operation
    }

    pub fn hint_text(&self) -> &str {
        &self.parts.hint
    }

    pub fn code_text(&self) -> &str {
        &self.parts.code
    }

    pub fn is_temporary(&self) -> bool {
        self.parts.retry != 0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.parts.operation.is_empty() {
            write!(f, "{}: ", self.parts.operation)?;
        }
        f.write_str(&self.parts.message)?;
        if !self.parts.code.is_empty() {
            write!(f, " ({})", self.parts.code)?;
        }
        if !self.parts.hint.is_empty() {
            write!(f, "; {}", self.parts.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
