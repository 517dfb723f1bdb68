//! What became of the messages of a `pub`: told one by one where it was not well, summed up at the end.

use super::pipeline::Sent;
use super::run::{self, Cut, Stop};
use crate::failure::{Exit, Failure};
use crate::output::{Sink, WriteError, append_outcome, events, status_name};
use tracemq_plugin_api::sdk::{Error, ErrorKind, Outcome, OutcomeStatus};

/// What the messages of the run are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// There is one, and the failure of the command says all.
    Only,
    Message,
    Line,
}

impl Unit {
    fn name(self) -> &'static str {
        if self == Unit::Line { "line" } else { "message" }
    }
}

/// The outcomes so far.
pub struct Report {
    unit: Unit,
    verbose: bool,
    json: Option<Sink>,
    buffer: Vec<u8>,
    told: u64,
    refused: u64,
    unauthorized: u64,
    unconfirmed: u64,
    /// The first failure: what follows often only follows from it.
    reason: String,
}

impl Report {
    pub fn new(unit: Unit, json: bool, verbose: bool) -> Report {
        Report {
            unit,
            verbose,
            json: json.then(Sink::stdout),
            buffer: Vec::new(),
            told: 0,
            refused: 0,
            unauthorized: 0,
            unconfirmed: 0,
            reason: String::new(),
        }
    }

    /// Takes the outcomes of one call.
    ///
    /// # Errors
    /// The call itself failed, after which no other will do better, or stdout did.
    pub fn tell(&mut self, sent: &Sent, doing: &str, target: &str) -> Result<(), Cut> {
        match &sent.outcomes {
            Ok(outcomes) => {
                for (number, outcome) in (sent.first..).zip(outcomes) {
                    self.outcome(number, outcome);
                }
            }
            Err(error) => self.call_failed(sent, error),
        }
        self.write()?;
        match &sent.outcomes {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::from_plugin(error, doing, target, false).into()),
        }
    }

    /// How many messages have an outcome.
    #[cfg(test)]
    pub fn told(&self) -> u64 {
        self.told
    }

    /// Messages of which nothing will be heard any more.
    pub fn unconfirmed(&mut self, first: u64, count: usize, reason: &str) {
        let outcome = Outcome::unconfirmed(reason);
        for number in (first..).take(count) {
            self.outcome(number, &outcome);
        }
        // The command is ending with a failure already; one of stdout would add nothing.
        let _ = self.write();
    }

    fn call_failed(&mut self, sent: &Sent, error: &Error) {
        let reason = error.to_string();
        let outcome = match error.kind() {
            // Refused before any of it went out.
            ErrorKind::CONFIG | ErrorKind::UNSUPPORTED => Outcome::refused(reason),
            ErrorKind::AUTH => Outcome::unauthorized(reason),
            _ => Outcome::unconfirmed(reason),
        };
        for number in (sent.first..).take(sent.count) {
            self.outcome(number, &outcome);
        }
    }

    fn outcome(&mut self, number: u64, outcome: &Outcome) {
        self.told += 1;
        match outcome.status() {
            OutcomeStatus::REFUSED => self.refused += 1,
            OutcomeStatus::UNAUTHORIZED => self.unauthorized += 1,
            OutcomeStatus::UNCONFIRMED => self.unconfirmed += 1,
            _ => {}
        }
        let failed = is_failure(outcome.status());
        if failed && self.reason.is_empty() {
            self.reason = describe(outcome);
        }
        if self.verbose || failed && self.unit != Unit::Only {
            events::line(&format!("{} {number}: {}", self.unit.name(), describe(outcome)));
        }
        if self.json.is_some() {
            append_outcome(number, outcome, &mut self.buffer);
        }
    }

    fn write(&mut self) -> Result<(), WriteError> {
        let Some(sink) = &mut self.json else { return Ok(()) };
        let written = sink.write_all(&self.buffer);
        self.buffer.clear();
        written
    }

    /// What the run comes to.
    pub fn verdict(&self, outcome: Result<(), Cut>, doing: &str, target: &str) -> Result<(), Failure> {
        let failed = self.refused + self.unauthorized + self.unconfirmed;
        match outcome {
            Err(Cut::Stop(Stop::NoReader)) => Ok(()),
            Err(Cut::Stop(_)) => {
                if failed > 0 {
                    events::line(&format!("{doing} {target}: {}", self.summary(failed)));
                }
                Err(run::interrupted())
            }
            Err(Cut::Failed(failure)) => {
                if self.unit != Unit::Only && failed > 0 {
                    events::line(&format!("{doing} {target}: {}", self.summary(failed)));
                }
                Err(failure)
            }
            Ok(()) if failed == 0 => Ok(()),
            Ok(()) => {
                let exit = if self.unauthorized > 0 { Exit::Refused } else { Exit::Failed };
                let text = match self.unit {
                    Unit::Only => self.reason.clone(),
                    _ => format!("{}; the first: {}", self.summary(failed), self.reason),
                };
                Err(Failure::new(exit, format!("{doing} {target}: {text}")))
            }
        }
    }

    fn summary(&self, failed: u64) -> String {
        let parts = [
            (self.refused, "refused"),
            (self.unauthorized, "unauthorized"),
            (self.unconfirmed, "unconfirmed"),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, name)| format!("{count} {name}"))
            .collect();
        format!("{failed} of {} {}s failed ({})", self.told, self.unit.name(), parts.join(", "))
    }
}

/// What is to be said of an outcome that was not well.
pub fn fault(outcome: &Outcome) -> Option<String> {
    is_failure(outcome.status()).then(|| describe(outcome))
}

/// A status of a later version is neither success nor failure.
fn is_failure(status: OutcomeStatus) -> bool {
    matches!(status, OutcomeStatus::REFUSED | OutcomeStatus::UNAUTHORIZED | OutcomeStatus::UNCONFIRMED)
}

fn describe(outcome: &Outcome) -> String {
    let mut text = status_name(outcome.status()).into_owned();
    if !outcome.reason().is_empty() {
        text.push_str(": ");
        text.push_str(outcome.reason());
    }
    if !outcome.details_json().is_empty() {
        text.push(' ');
        text.push_str(outcome.details_json());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(outcomes: Result<Vec<Outcome>, Error>) -> Sent {
        Sent { first: 1, count: 3, outcomes }
    }

    fn verdict(report: &Report, outcome: Result<(), Cut>) -> Failure {
        report.verdict(outcome, "publish to a on", "x").unwrap_err()
    }

    #[test]
    fn all_well_is_no_failure() {
        let mut report = Report::new(Unit::Line, false, false);
        let later = Outcome::new(OutcomeStatus(77), "of a later version");
        report.tell(&sent(Ok(vec![Outcome::sent(), Outcome::acknowledged(), later])), "", "").unwrap();
        assert!(report.verdict(Ok(()), "publish to a on", "x").is_ok());
    }

    #[test]
    fn refused_lines_are_counted_and_permission_decides_the_status() {
        let mut report = Report::new(Unit::Line, false, false);
        let outcomes =
            vec![Outcome::acknowledged(), Outcome::refused("0x97 quota exceeded"), Outcome::sent()];
        report.tell(&sent(Ok(outcomes)), "", "").unwrap();
        let failure = verdict(&report, Ok(()));
        assert_eq!(failure.exit, Exit::Failed);
        assert_eq!(
            failure.text,
            "publish to a on x: 1 of 3 lines failed (1 refused); the first: refused: 0x97 quota exceeded"
        );
        report.tell(&sent(Ok(vec![Outcome::unauthorized("0x87"); 3])), "", "").unwrap();
        assert_eq!(verdict(&report, Ok(())).exit, Exit::Refused);
    }

    #[test]
    fn a_single_message_needs_no_numbers() {
        let mut report = Report::new(Unit::Only, false, false);
        report.tell(&sent(Ok(vec![Outcome::refused("too large")])), "", "").unwrap();
        assert_eq!(verdict(&report, Ok(())).text, "publish to a on x: refused: too large");
    }

    #[test]
    fn a_call_that_failed_leaves_its_messages_unconfirmed_and_ends_the_run() {
        let mut report = Report::new(Unit::Line, false, false);
        let error = Error::new(ErrorKind::CLOSED, "the connection is gone");
        let cut = report.tell(&sent(Err(error)), "publish to a on", "x").unwrap_err();
        assert_eq!(report.unconfirmed, 3);
        let failure = verdict(&report, Err(cut));
        assert_eq!(
            (failure.exit, failure.text.as_str()),
            (Exit::Failed, "publish to a on x: the connection is gone")
        );
    }

    #[test]
    fn a_signal_is_not_a_failure_of_the_peer() {
        let report = Report::new(Unit::Only, false, false);
        assert_eq!(verdict(&report, Err(Cut::Stop(Stop::Signal))).exit, Exit::Interrupted);
        assert!(report.verdict(Err(Cut::Stop(Stop::NoReader)), "", "").is_ok());
    }
}
