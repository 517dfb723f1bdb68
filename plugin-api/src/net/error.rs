//! The one error of this module: what went wrong, where, and which option cures it.
//!
//! Apart from the SDK's error, so that a plugin can act on the kind (a refused credential is another exit status than a
//! closed port) before it hands the text on.

use std::error::Error;
use std::fmt;

/// What a [`NetError`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NetErrorKind {
    /// An option is wrong, or a file it names.
    Config,
    /// The host's name could not be looked up.
    Name,
    /// No TCP connection: refused, unreachable, reset.
    Connect,
    /// TLS could not be set up, or the other side is not who it should be.
    Tls,
    /// The proxy could not be reached or did not do its work.
    Proxy,
    /// The WebSocket handshake was refused or is not one.
    Handshake,
    /// The proxy or the WebSocket server refused the credentials (401, 403, 407, SOCKS5 authentication).
    Auth,
    /// The connect time-out passed.
    Timeout,
}

/// Why there is no connection.
///
/// `Display` gives the message without the hint, so that a caller can lay them out as it likes. Neither holds a secret.
#[derive(Debug)]
pub struct NetError {
    /// What it is about.
    pub kind: NetErrorKind,
    /// What went wrong, where and why, in one line.
    pub message: String,
    /// What the user can do, naming the option as a flag.
    pub hint: Option<String>,
    /// Whether trying again without changing anything is pointless.
    pub permanent: bool,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl NetError {
    /// An error of this kind. Wrong options and refused credentials are permanent; the rest is worth a retry.
    pub(super) fn new(kind: NetErrorKind, message: impl Into<String>) -> Self {
        let permanent = matches!(kind, NetErrorKind::Config | NetErrorKind::Auth);
        Self { kind, message: message.into(), hint: None, permanent, source: None }
    }

    pub(super) fn config(message: impl Into<String>) -> Self {
        Self::new(NetErrorKind::Config, message)
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn permanent(mut self) -> Self {
        self.permanent = true;
        self
    }

    pub(super) fn source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for NetError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn Error + 'static))
    }
}

/// As it crosses to the host, which turns the kind into an exit status.
impl From<NetError> for crate::sdk::Error {
    fn from(error: NetError) -> Self {
        use crate::sdk::ErrorKind;
        let kind = match error.kind {
            NetErrorKind::Config => ErrorKind::CONFIG,
            NetErrorKind::Auth => ErrorKind::AUTH,
            NetErrorKind::Timeout => ErrorKind::TIMEOUT,
            _ => ErrorKind::CONNECT,
        };
        let crossing = Self::new(kind, error.message);
        let crossing = if error.permanent { crossing } else { crossing.temporary() };
        match error.hint {
            Some(hint) => crossing.hint(hint),
            None => crossing,
        }
    }
}

/// Text that came from the other side, made fit to stand in an error: one line, nothing that could drive a terminal, and
/// at most 200 characters.
pub(super) fn quote(text: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * LONGEST)]);
    let mut out = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    if let Some((end, _)) = out.char_indices().nth(LONGEST) {
        out.truncate(end);
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_is_one_short_line_without_control_characters() {
        assert_eq!(quote(b" a\r\n\tb\x1b[31mc\x07 \xff"), "a b [31mc \u{fffd}");
        let long = quote(&[b'x'; 5000]);
        assert_eq!(long.chars().count(), 201);
        assert!(long.ends_with('…'));
    }
}
