//! The texts of `-ERR`: NATS has no codes, so what they mean is told by their words, as every client does.

use std::fmt;

/// What a server refused. The texts are the server's, escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Publish {
        subject: String,
        text: String,
    },
    Subscribe {
        subject: String,
        queue: Option<String>,
        text: String,
    },
    /// The login, now or while it lasted.
    Login(String),
    /// We read too slowly.
    SlowConsumer(String),
    /// The connection would have to be by TLS.
    NeedsTls(String),
    /// Everything else. Most of these are followed by the end of the connection.
    Other(String),
}

impl Refusal {
    pub fn read(text: &[u8]) -> Refusal {
        let shown: String = String::from_utf8_lossy(&text[..text.len().min(400)]).escape_debug().collect();
        let shown = shown.replace("\\\"", "\"").replace("\\'", "'");
        let text = String::from_utf8_lossy(text);
        let small = text.to_ascii_lowercase();
        if let Some(at) = small.find("permissions violation for publish to ") {
            let (subject, _) = quoted(&text[at + "permissions violation for publish to ".len()..]);
            return Refusal::Publish { subject, text: shown };
        }
        if let Some(at) = small.find("permissions violation for subscription to ") {
            let (subject, rest) = quoted(&text[at + "permissions violation for subscription to ".len()..]);
            let queue = rest.to_ascii_lowercase().find("using queue ").map(|at| quoted(&rest[at + 12..]).0);
            return Refusal::Subscribe { subject, queue, text: shown };
        }
        let login = [
            "authorization violation",
            "authentication expired",
            "authentication revoked",
            "authentication timeout",
        ];
        if login.iter().any(|words| small.contains(words)) {
            return Refusal::Login(shown);
        }
        if small.contains("slow consumer") {
            return Refusal::SlowConsumer(shown);
        }
        if small.contains("tls required") {
            return Refusal::NeedsTls(shown);
        }
        Refusal::Other(shown)
    }

    pub fn text(&self) -> &str {
        match self {
            Refusal::Publish { text, .. }
            | Refusal::Subscribe { text, .. }
            | Refusal::Login(text)
            | Refusal::SlowConsumer(text)
            | Refusal::NeedsTls(text)
            | Refusal::Other(text) => text,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-ERR '{}'", self.text())
    }
}

/// What stands in quotes at the start, or the first word; and the rest.
fn quoted(text: &str) -> (String, &str) {
    let (found, rest) = match text.strip_prefix('"') {
        Some(inner) => inner.split_once('"').unwrap_or((inner, "")),
        None => text.split_once(' ').unwrap_or((text, "")),
    };
    (found.to_owned(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_servers() {
        let read = |text: &str| Refusal::read(text.as_bytes());
        assert!(matches!(
            read(r#"Permissions Violation for Publish to "a.b""#),
            Refusal::Publish { subject, text } if subject == "a.b" && text.ends_with(r#"to "a.b""#)
        ));
        assert!(matches!(
            read(r#"Permissions Violation for Subscription to "a.>" using queue "q""#),
            Refusal::Subscribe { subject, queue, .. } if subject == "a.>" && queue.as_deref() == Some("q")
        ));
        assert!(matches!(read("Authorization Violation"), Refusal::Login(_)));
        assert!(matches!(read("User Authentication Expired"), Refusal::Login(_)));
        assert!(matches!(read("Slow Consumer"), Refusal::SlowConsumer(_)));
        assert!(matches!(read("Secure Connection - TLS Required"), Refusal::NeedsTls(_)));
        assert!(matches!(read("\u{1b}[31m"), Refusal::Other(text) if !text.contains('\u{1b}')));
        assert!(matches!(read(r#"Permissions Violation for Publish to ""#), Refusal::Publish { .. }));
    }
}
