//! What plugins tell of the steps of connecting ([`tracemq_plugin_api::sdk::Step`]): lines of the log for most commands, and
//! kept for the one that asks for them.

use log::{Level, Record};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracemq_plugin_api::sdk::{STEP_TARGET, StepRecord, StepState};

/// More steps than any connection takes: a plugin that tells of more is not listened to for ever.
const MOST: usize = 256;
/// Characters of a step's name and of its detail that are kept.
const LONGEST_NAME: usize = 32;
const LONGEST_DETAIL: usize = 200;

/// A step that has begun.
#[derive(Clone, Debug)]
pub struct Taken {
    pub name: String,
    pub state: StepState,
    /// How long it took, or has gone on for.
    pub time: Duration,
    pub detail: String,
    begun: Instant,
}

/// `None`: nobody listens.
static TAKEN: Mutex<Option<Vec<Taken>>> = Mutex::new(None);

/// Begins to listen, with nothing heard yet. Plugins tell of steps only when the log is as detailed as debug
/// ([`crate::logging::hear_debug`]).
pub fn listen() {
    *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
}

/// What was heard since [`listen`], in the order in which it began.
pub fn heard() -> Vec<Taken> {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default();
    for step in taken.iter_mut().filter(|step| step.state == StepState::Begun) {
        step.time = step.begun.elapsed();
    }
    taken
}

/// Takes a record of a plugin.
pub(super) fn hear(plugin: &str, level: Level, text: &str) {
    let Ok(record) = serde_json::from_str::<StepRecord<'_>>(text) else {
        return log::debug!("{plugin} tells of a step in a way that is not understood");
    };
    if let Some(taken) = &mut *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) {
        keep(taken, &record);
    }
    let what = match record.state {
        StepState::Begun => return,
        StepState::Done => "took",
        StepState::Failed => "failed after",
    };
    if level <= log::max_level() {
        let (step, ms, detail) = (&record.step, record.us as f64 / 1000.0, &record.detail);
        let gap = if detail.is_empty() { "" } else { ": " };
        let args = format_args!("{step} {what} {ms:.1} ms{gap}{detail}");
        let target = format!("{plugin}::{STEP_TARGET}");
        log::logger().log(&Record::builder().level(level).target(&target).args(args).build());
    }
}

fn keep(taken: &mut Vec<Taken>, record: &StepRecord<'_>) {
    let short = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    let name = short(&record.step, LONGEST_NAME);
    match record.state {
        StepState::Begun if taken.len() < MOST => {
            let (state, begun) = (StepState::Begun, Instant::now());
            taken.push(Taken { name, state, time: Duration::ZERO, detail: String::new(), begun });
        }
        StepState::Begun => {}
        StepState::Done | StepState::Failed => {
            let open = |step: &&mut Taken| step.name == name && step.state == StepState::Begun;
            if let Some(step) = taken.iter_mut().rev().find(open) {
                step.state = record.state;
                step.time = Duration::from_micros(record.us);
                step.detail = short(&record.detail, LONGEST_DETAIL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_belongs_to_the_last_step_of_its_name_that_goes_on() {
        let mut taken = Vec::new();
        let mut tell = |step: &str, state, us| {
            keep(&mut taken, &StepRecord { step: step.into(), state, us, detail: "".into() });
        };
        tell("tcp", StepState::Done, 1);
        tell("tcp", StepState::Begun, 0);
        tell("tcp", StepState::Failed, 2);
        tell("tcp", StepState::Begun, 0);
        tell("tcp", StepState::Done, 3);
        tell("tls", StepState::Begun, 0);
        let seen: Vec<_> =
            taken.iter().map(|step| (step.name.as_str(), step.state, step.time.as_micros())).collect();
        assert_eq!(
            seen,
            [("tcp", StepState::Failed, 2), ("tcp", StepState::Done, 3), ("tls", StepState::Begun, 0)]
        );
        let record =
            StepRecord { step: "x".repeat(99).into(), state: StepState::Begun, us: 0, detail: "".into() };
        (0..2 * MOST).for_each(|_| keep(&mut taken, &record));
        assert_eq!((taken.len(), taken[5].name.len()), (MOST, LONGEST_NAME));
    }
}
