//! How long each step of making a connection took: looking up the name, TCP, TLS, handshakes.
//!
//! A step crosses as a log record with a target of its own, at debug level. So it needs no function of the ABI, a plugin that
//! tells of none works as before, and a host that knows nothing of steps shows them as it shows any record. What the
//! [`net`](crate::net) module does is told by itself; a plugin adds what it does beside that.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt::Display;
use std::time::Instant;

/// The target of the records of steps. Their text is a [`StepRecord`] as JSON.
pub const STEP_TARGET: &str = "tracemq::step";

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    Begun,
    Done,
    /// It failed, or was given up: the error of the call says why.
    Failed,
}

/// What a record of a step says. Fields added later have defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord<'a> {
    /// What is done, in a word: `name`, `tcp`, `proxy`, `tls`, `websocket`, or a protocol's own.
    pub step: Cow<'a, str>,
    pub state: StepState,
    /// Microseconds since the step began.
    #[serde(default)]
    pub us: u64,
    /// What came of it, on one line, such as an address. Never a secret.
    #[serde(default)]
    pub detail: Cow<'a, str>,
}

/// A step under way. Dropped without [`Step::done`], it has failed.
#[derive(Debug)]
pub struct Step {
    name: &'static str,
    begun: Instant,
    ended: bool,
}

impl Step {
    /// Begins a step. `name` is one word in small letters.
    pub fn begin(name: &'static str) -> Step {
        let step = Step { name, begun: Instant::now(), ended: false };
        step.tell(StepState::Begun, "");
        step
    }

    /// It went well. `detail` is what came of it, on one line; it may be empty, and must hold no secret.
    pub fn done(mut self, detail: impl Display) {
        self.ended = true;
        if log::log_enabled!(target: STEP_TARGET, log::Level::Debug) {
            self.tell(StepState::Done, &detail.to_string());
        }
    }

    fn tell(&self, state: StepState, detail: &str) {
        if !log::log_enabled!(target: STEP_TARGET, log::Level::Debug) {
            return;
        }
        let us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let record = StepRecord { step: self.name.into(), state, us, detail: detail.into() };
        // Texts and numbers can always be written.
        if let Ok(text) = serde_json::to_string(&record) {
            log::debug!(target: STEP_TARGET, "{text}");
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.ended {
            self.tell(StepState::Failed, "");
        }
    }
}
