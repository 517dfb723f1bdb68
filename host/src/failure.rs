//! Why a command ended, and with which status.
//!
//! One place decides the exit status, so that scripts can rely on it: every failure carries one from where it is made.

use std::fmt;
use tracemq_plugin_api::sdk::{Error, ErrorKind};

/// The exit statuses of every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    /// Name, network or TLS.
    Connect = 3,
    /// Credentials or permission.
    Refused = 4,
    /// `-W` ran out before the messages or the answer came.
    TimedOut = 5,
    /// Nobody answered a request.
    NoAnswer = 6,
    /// Plugin missing, refused or broken.
    Plugin = 7,
    Interrupted = 130,
}

/// What was tried, on what, why it failed, and what the user can do: the last line on stderr.
#[derive(Clone, Debug)]
pub struct Failure {
    pub exit: Exit,
    /// Without a full stop; may not be empty, except for [`Exit::Interrupted`] and a closed pipe, which end quietly.
    pub text: String,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, text: impl Into<String>) -> Failure {
        Failure { exit, text: text.into(), hint: None }
    }

    pub fn usage(text: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, text)
    }

    pub fn plugin(text: impl Into<String>) -> Failure {
        Failure::new(Exit::Plugin, text)
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// A plugin's error. `doing` is what the command tried, `target` the target as it may be shown.
    pub fn from_plugin(error: &Error, doing: &str, target: &str, connecting: bool) -> Failure {
        let exit = match error.kind() {
            ErrorKind::CONFIG | ErrorKind::UNSUPPORTED => Exit::Usage,
            ErrorKind::CONNECT => Exit::Connect,
            ErrorKind::AUTH => Exit::Refused,
            ErrorKind::TIMEOUT if connecting => Exit::Connect,
            ErrorKind::TIMEOUT => Exit::TimedOut,
            ErrorKind::NO_RESPONDERS => Exit::NoAnswer,
            ErrorKind::PANIC => Exit::Plugin,
            _ if connecting => Exit::Connect,
            _ => Exit::Failed,
        };
        let mut text = format!("{doing} {target}: ");
        if !error.operation().is_empty() {
            text.push_str(error.operation());
            text.push_str(": ");
        }
        text.push_str(error.message());
        if !error.code_text().is_empty() {
            text.push_str(&format!(" ({})", error.code_text()));
        }
        let hint = (!error.hint_text().is_empty()).then(|| error.hint_text().to_owned());
        Failure { exit, text, hint }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
