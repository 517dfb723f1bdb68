//! AMQP's errors in our terms: what kind it is, whether it may pass, what the user can do.
//!
//! Conditions are those of AMQP 1.0 (part 2.8) and of Microsoft's services. The peer's texts are shown on one line, without
//! anything that could drive a terminal.

use std::time::Duration;

use fe2o3_amqp::connection::ConnectionStopReason;
use fe2o3_amqp::link::{
    DetachError, LinkStateError, ReceiverAttachError, RecvError, SendError, SenderAttachError,
    SessionStopReason,
};
use fe2o3_amqp_types::definitions::{self, ErrorCondition};
use serde_amqp::Value;
use serde_amqp::primitives::Symbol;
use tracemq_plugin_api::prelude::{Error, ErrorKind};

/// What a busy service wants to be left alone for when it does not say.
const BUSY: Duration = Duration::from_secs(4);
/// The longest that a service's word is taken for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// An error that the peer gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Like `amqp:not-found`.
    pub name: String,
    /// One line; may be empty.
    pub text: String,
    /// Where a redirect points.
    place: Option<String>,
}

impl Condition {
    pub fn new(name: impl Into<String>, text: &str) -> Condition {
        Condition { name: name.into(), text: one_line(text), place: None }
    }

    pub fn is_stolen(&self) -> bool {
        self.name == "amqp:link:stolen"
    }

    /// How long a busy service wants to be left alone, if that is what it says.
    pub fn busy(&self) -> Option<Duration> {
        (self.name == "com.microsoft:server-busy").then(|| self.pause().unwrap_or(BUSY).min(LONGEST_PAUSE))
    }

    /// "Please wait 4 seconds and try again."
    fn pause(&self) -> Option<Duration> {
        let words: Vec<&str> = self.text.split_whitespace().collect();
        words.windows(2).find_map(|pair| match pair {
            [number, unit] if unit.starts_with("second") => {
                number.parse().ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
            }
            _ => None,
        })
    }

    /// Whether the same thing may work later without anybody doing anything.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self.name.as_str(),
            "com.microsoft:server-busy"
                | "com.microsoft:timeout"
                | "com.microsoft:operation-cancelled"
                | "com.microsoft:container-close"
                | "com.microsoft:partition-not-owned"
                | "com.microsoft:message-wait-timeout"
                | "amqp:internal-error"
                | "amqp:illegal-state"
                | "amqp:connection:forced"
                | "amqp:connection:framing-error"
                | "amqp:link:detach-forced"
                | "amqp:link:transfer-limit-exceeded"
                | "amqp:session:window-violation"
                | "amqp:session:errant-link"
                | "amqp:session:unattached-handle"
        )
    }

    /// Whether it is about what was asked for, so that another connection would do no better.
    fn is_final(&self) -> bool {
        matches!(
            self.name.as_str(),
            "amqp:not-found"
                | "amqp:not-allowed"
                | "amqp:not-implemented"
                | "amqp:invalid-field"
                | "amqp:precondition-failed"
                | "amqp:resource-locked"
                | "amqp:unauthorized-access"
                | "amqp:connection:redirect"
        )
    }

    /// `subject` is what was refused: `the hub "h"`.
    pub fn error(&self, subject: &str) -> Error {
        let text = if self.text.is_empty() { String::new() } else { format!(": {}", self.text) };
        let error =
            |kind, what: &str| Error::new(kind, format!("{subject}: {what}{text}")).code(self.name.clone());
        let error = match self.name.as_str() {
            "amqp:not-found" => error(ErrorKind::PROTOCOL, "the server does not know it")
                .hint("check the names of hub, partition and consumer group, or of the queue"),
            "amqp:unauthorized-access" | "com.microsoft:auth-failed" | "com.microsoft:unauthorized-access" => {
                error(ErrorKind::AUTH, "the server does not allow it")
                    .hint("check the key or token, and that its rule has the right to Send or Listen")
            }
            "amqp:link:stolen" => error(ErrorKind::PROTOCOL, "another reader has taken it over").hint(
                "a reader with an owner level shuts out those with a lower one or none: give a higher --owner-level, or \
                 another --consumer-group",
            ),
            "amqp:link:message-size-exceeded" => error(ErrorKind::PROTOCOL, "the event is too large"),
            "amqp:link:redirect" | "amqp:connection:redirect" => {
                let place = self.place.as_deref().unwrap_or("another place, which it does not name");
                error(ErrorKind::PROTOCOL, &format!("the server points to {place}"))
                    .hint(
                        "redirects are not followed, for the login would go to a host that you did not name: connect to that \
                         place yourself",
                    )
            }
            "amqp:resource-limit-exceeded" => error(ErrorKind::PROTOCOL, "the server is at a limit")
                .hint("a partition has at most five readers in a consumer group; close one, or use another group"),
            "com.microsoft:server-busy" => error(ErrorKind::PROTOCOL, "the server is busy"),
            _ => error(ErrorKind::PROTOCOL, "the server refused it"),
        };
        if self.is_temporary() { error.temporary() } else { error }
    }
}

impl From<&definitions::Error> for Condition {
    fn from(error: &definitions::Error) -> Condition {
        let name = match &error.condition {
            ErrorCondition::AmqpError(condition) => Symbol::from(condition).0,
            ErrorCondition::ConnectionError(condition) => Symbol::from(condition).0,
            ErrorCondition::SessionError(condition) => Symbol::from(condition).0,
            ErrorCondition::LinkError(condition) => Symbol::from(condition).0,
            ErrorCondition::Custom(condition) => one_line(condition.as_str()),
        };
        let info = |key: &str| match error.info.as_ref()?.get(&Symbol::from(key))? {
            Value::String(text) => Some(one_line(text)),
            Value::Symbol(text) => Some(one_line(text.as_str())),
            Value::Uint(number) => Some(number.to_string()),
            Value::Ushort(number) => Some(number.to_string()),
            Value::Int(number) => Some(number.to_string()),
            _ => None,
        };
        let host = info("network-host").or_else(|| info("hostname"));
        let place = host.map(|host| {
            let port = info("port").map(|port| format!(":{port}")).unwrap_or_default();
            let address = info("address").map(|address| format!(" ({address})")).unwrap_or_default();
            format!("{host}{port}{address}")
        });
        Condition { name, text: one_line(error.description.as_deref().unwrap_or_default()), place }
    }
}

/// Why a link, its session or its connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The peer ended the link, and said why.
    Link(Condition),
    /// The session or the connection ended with it, and the peer said why.
    Beneath(Condition),
    /// It broke, or ended without a reason.
    Lost(String),
}

impl Broken {
    /// A message came that is larger than we take.
    pub fn too_large() -> Broken {
        Broken::Link(Condition::new("amqp:link:message-size-exceeded", "it is larger than we take"))
    }

    /// Whether the connection is gone as well.
    pub fn is_connection(&self) -> bool {
        !matches!(self, Broken::Link(_))
    }

    pub fn error(&self, subject: &str) -> Error {
        match self {
            Broken::Link(condition) => condition.error(subject),
            // RabbitMQ ends the session over a queue that it does not know.
            Broken::Beneath(condition) if condition.is_final() => condition.error(subject),
            Broken::Beneath(condition) => condition.error(subject).temporary(),
            Broken::Lost(why) => Error::new(ErrorKind::CLOSED, format!("{subject}: {why}")).temporary(),
        }
    }
}

impl From<&SessionStopReason> for Broken {
    fn from(reason: &SessionStopReason) -> Broken {
        use ConnectionStopReason as Connection;
        match reason {
            SessionStopReason::RemoteEndedWithError(error)
            | SessionStopReason::ConnectionStopped(Connection::RemoteClosedWithError(error)) => {
                Broken::Beneath(error.into())
            }
            SessionStopReason::EndedWithError(error)
            | SessionStopReason::ConnectionStopped(Connection::ClosedWithError(error)) => {
                let condition = Condition::from(error);
                Broken::Lost(format!("the server broke the protocol ({})", condition.name))
            }
            SessionStopReason::RemoteEnded => Broken::Lost("the server ended the session".into()),
            SessionStopReason::ConnectionStopped(Connection::RemoteClosed) => {
                Broken::Lost("the server closed the connection".into())
            }
            SessionStopReason::Ended | SessionStopReason::ConnectionStopped(Connection::Closed) => {
                Broken::Lost("the connection broke".into())
            }
        }
    }
}

impl From<&LinkStateError> for Broken {
    fn from(error: &LinkStateError) -> Broken {
        match error {
            LinkStateError::SessionStopped(reason) => reason.into(),
            LinkStateError::RemoteDetachedWithError(error) | LinkStateError::RemoteClosedWithError(error) => {
                Broken::Link(error.into())
            }
            LinkStateError::RemoteDetached | LinkStateError::RemoteClosed => Broken::Link(Condition::new(
                "amqp:link:detach-forced",
                "the server closed the link without a reason",
            )),
            LinkStateError::IllegalState | LinkStateError::ExpectImmediateDetach => {
                Broken::Lost("the connection broke".into())
            }
        }
    }
}

impl From<&RecvError> for Broken {
    fn from(error: &RecvError) -> Broken {
        match error {
            RecvError::LinkStateError(error) => error.into(),
            RecvError::MessageSizeExceeded(_) => Broken::too_large(),
            error => {
                Broken::Lost(format!("the server broke the protocol ({})", one_line(&error.to_string())))
            }
        }
    }
}

impl From<&SendError> for Broken {
    fn from(error: &SendError) -> Broken {
        match error {
            SendError::LinkStateError(error) => error.into(),
            SendError::Detached(error) => error.into(),
            error => Broken::Lost(one_line(&error.to_string())),
        }
    }
}

impl From<&DetachError> for Broken {
    fn from(error: &DetachError) -> Broken {
        match error {
            DetachError::SessionStopped(reason) => reason.into(),
            DetachError::RemoteDetachedWithError(error) | DetachError::RemoteClosedWithError(error) => {
                Broken::Link(error.into())
            }
            error => Broken::Lost(one_line(&error.to_string())),
        }
    }
}

impl From<&ReceiverAttachError> for Broken {
    fn from(error: &ReceiverAttachError) -> Broken {
        match error {
            ReceiverAttachError::SessionStopped(reason) => reason.into(),
            ReceiverAttachError::RemoteClosedWithError(error) => Broken::Link(error.into()),
            ReceiverAttachError::IncomingSourceIsNone => {
                Broken::Link(Condition::new("amqp:not-found", "it has no such source"))
            }
            error => Broken::Lost(format!("no link: {}", one_line(&error.to_string()))),
        }
    }
}

impl From<&SenderAttachError> for Broken {
    fn from(error: &SenderAttachError) -> Broken {
        match error {
            SenderAttachError::SessionStopped(reason) => reason.into(),
            SenderAttachError::RemoteClosedWithError(error) => Broken::Link(error.into()),
            SenderAttachError::IncomingTargetIsNone => {
                Broken::Link(Condition::new("amqp:not-found", "it has no such target"))
            }
            error => Broken::Lost(format!("no link: {}", one_line(&error.to_string()))),
        }
    }
}

/// The peer's text on one line of at most 300 characters.
pub fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > LONGEST {
            let end = (0..=LONGEST).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
            line.truncate(end);
            line.push('…');
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use fe2o3_amqp_types::definitions::{Fields, LinkError};

    #[test]
    fn kinds_and_whether_it_may_pass() {
        for (name, kind, temporary) in [
            ("amqp:not-found", ErrorKind::PROTOCOL, false),
            ("amqp:unauthorized-access", ErrorKind::AUTH, false),
            ("amqp:link:stolen", ErrorKind::PROTOCOL, false),
            ("com.microsoft:server-busy", ErrorKind::PROTOCOL, true),
            ("com.microsoft:argument-out-of-range", ErrorKind::PROTOCOL, false),
            ("amqp:connection:forced", ErrorKind::PROTOCOL, true),
        ] {
            let error = Condition::new(name, "a\n\u{1b}[31mb").error("the hub \"h\"");
            assert_eq!((error.kind(), error.is_temporary(), error.code_text()), (kind, temporary, name));
            assert!(error.message().contains("a [31mb") && error.message().contains("\"h\""), "{error}");
        }
    }

    #[test]
    fn a_busy_server_is_left_alone_for_as_long_as_it_says() {
        let busy = |text: &str| Condition::new("com.microsoft:server-busy", text).busy();
        assert_eq!(busy("please wait 7 seconds and try again"), Some(Duration::from_secs(7)));
        assert_eq!(busy("later"), Some(BUSY));
        assert_eq!(busy("wait 99999 seconds"), Some(LONGEST_PAUSE));
        assert_eq!(Condition::new("amqp:not-found", "").busy(), None);
    }

    #[test]
    fn a_redirect_is_told() {
        let mut info = Fields::new();
        info.insert("network-host".into(), Value::String("other.example".into()));
        info.insert("port".into(), Value::Uint(5671));
        let error = definitions::Error::new(LinkError::Redirect, None, info);
        let error = Condition::from(&error).error("the hub \"h\"");
        assert!(error.message().contains("other.example:5671"), "{error}");
        assert!(!error.is_temporary());
    }

    #[test]
    fn long_texts_are_cut() {
        let line = one_line(&"é".repeat(1000));
        assert!(line.len() < 310 && line.ends_with('…'));
    }
}
