//! Batches on their way into the session, and the outcomes of their messages on the way back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::Outcomes;

use crate::publish::PublishOptions;
use crate::session::{self, PublishError, Session};
use crate::wire::publish::Publish;
use crate::wire::{Reason, property};

/// A message's token: which batch, and which message of it.
const INDEX_BITS: u32 = 16;

struct Job {
    batch: Batch,
    options: Arc<PublishOptions>,
    outcomes: Outcomes,
    /// Messages that the session has not taken yet start here.
    next: usize,
    done: oneshot::Sender<Vec<Outcome>>,
}

/// All publish calls that have no answer yet.
#[derive(Default)]
pub(super) struct Publishing {
    jobs: HashMap<u64, Job>,
    /// Jobs of which the session has not taken everything, oldest first.
    feeding: std::collections::VecDeque<u64>,
    number: u64,
}

impl Publishing {
    /// Whether another batch may be taken: one that is half taken holds the others back.
    pub(super) fn has_room(&self) -> bool {
        self.feeding.is_empty()
    }

    /// Whether somebody waits for an answer.
    pub(super) fn is_waiting(&self) -> bool {
        !self.jobs.is_empty()
    }

    pub(super) fn add(
        &mut self,
        batch: Batch,
        options: Arc<PublishOptions>,
        done: oneshot::Sender<Vec<Outcome>>,
    ) {
        let count = batch.len();
        if count == 0 {
            // Nobody waits for an answer any more: nothing to do.
            let _ = done.send(Vec::new());
            return;
        }
        self.number += 1;
        let job = Job { batch, options, outcomes: Outcomes::new(count), next: 0, done };
        self.jobs.insert(self.number, job);
        self.feeding.push_back(self.number);
    }

    /// Gives the session as much as it takes.
    pub(super) fn feed(&mut self, session: &mut Session, now: Instant) {
        while let Some(number) = self.feeding.front().copied() {
            let Some(job) = self.jobs.get_mut(&number) else {
                self.feeding.pop_front();
                continue;
            };
            // A caller that gave up wants nothing more of this sent.
            if job.done.is_closed() {
                job.abandon_rest();
            }
            while job.next < job.batch.len() {
                let index = job.next;
                match job.give(index, number, session, now) {
                    Ok(()) => {}
                    Err(PublishError::Full) => return,
                    Err(PublishError::Invalid(error)) => {
                        job.outcomes.settle(index, Outcome::refused(error.to_string()))
                    }
                }
                job.next += 1;
            }
            self.feeding.pop_front();
            self.answer(number);
        }
    }

    /// What became of a message.
    pub(super) fn settle(&mut self, token: u64, outcome: session::Outcome) {
        let number = token >> INDEX_BITS;
        if let Some(job) = self.jobs.get_mut(&number) {
            job.outcomes.settle((token & ((1 << INDEX_BITS) - 1)) as usize, crossing(outcome));
            self.answer(number);
        }
    }

    /// No message will be confirmed any more.
    pub(super) fn give_up(&mut self, why: &str) {
        self.feeding.clear();
        for (_, job) in self.jobs.drain() {
            let next = job.next;
            let outcomes = job.outcomes.finish(|index| {
                let sent = if index < next { "it may or may not have arrived" } else { "it was not sent" };
                Outcome::unconfirmed(format!("{why}; {sent}"))
            });
            // The caller may be gone.
            let _ = job.done.send(outcomes);
        }
    }

    fn answer(&mut self, number: u64) {
        if let Some(job) = self.jobs.get_mut(&number)
            && let Some(outcomes) = job.outcomes.complete()
            && let Some(job) = self.jobs.remove(&number)
        {
            // The caller may be gone.
            let _ = job.done.send(outcomes);
        }
    }
}

impl Job {
    fn give(
        &self,
        index: usize,
        number: u64,
        session: &mut Session,
        now: Instant,
    ) -> Result<(), PublishError> {
        let Some(message) = self.batch.get(index) else { return Ok(()) };
        let invalid = |text: &str| PublishError::Invalid(crate::wire::Invalid::new(text));
        let topic = std::str::from_utf8(message.topic()).map_err(|_| invalid("the topic is not UTF-8"))?;
        let mut user = Vec::new();
        for (name, value) in message.headers() {
            let text = |bytes| std::str::from_utf8(bytes).map_err(|_| invalid("a header is not UTF-8"));
            user.push((text(name)?, text(value)?));
        }
        if !user.is_empty() && !session.version().is_v5() {
            let version = session.version();
            return Err(invalid(&format!("headers need MQTT 5.0, this connection speaks {version}")));
        }
        let options = &self.options;
        let reply = message.reply().and_then(|reply| std::str::from_utf8(reply).ok());
        let correlation = options.correlation_data.as_ref().map(String::as_bytes);
        let publish = Publish {
            topic,
            payload: message.payload(),
            qos: options.qos().map_err(|error| invalid(error.message()))?,
            retain: options.retain,
            properties: property::Outgoing {
                payload_is_text: options.payload_format,
                message_expiry: options.message_expiry().map_err(|error| invalid(error.message()))?,
                content_type: options.content_type.as_deref(),
                response_topic: options.response_topic.as_deref().or(reply),
                correlation_data: correlation,
                user: &user,
            },
        };
        session.publish(number << INDEX_BITS | index as u64, &publish, now)
    }

    fn abandon_rest(&mut self) {
        let count = self.batch.len();
        self.outcomes.settle_range(self.next..count, &Outcome::unconfirmed("given up before it was sent"));
        self.next = count;
    }
}

fn crossing(outcome: session::Outcome) -> Outcome {
    match outcome {
        session::Outcome::Sent => Outcome::sent(),
        session::Outcome::Acknowledged(Reason::SUCCESS) => Outcome::acknowledged(),
        session::Outcome::Acknowledged(reason) => {
            Outcome::new(tracemq_plugin_api::sdk::OutcomeStatus::ACKNOWLEDGED, reason.to_string())
        }
        session::Outcome::Refused(reason, text) => {
            let text = text.map_or_else(String::new, |text| format!(" ({})", text.escape_debug()));
            let said = format!("the server refused it: {reason}{text}");
            if reason.0 == 0x87 { Outcome::unauthorized(said) } else { Outcome::refused(said) }
        }
        session::Outcome::Unconfirmed => Outcome::unconfirmed(
            "the connection was lost while it was being written; it may or may not have arrived",
        ),
        session::Outcome::NotAllowed(error) => Outcome::refused(error.to_string()),
        session::Outcome::Expired => {
            Outcome::refused("its message expiry ran out while there was no connection; it was not sent")
        }
    }
}
