//! What is to be sent, and what became of it.
//!
//! WebSocket confirms nothing but pings: a message counts as sent when it has left for the network. What was queued when
//! the connection broke may or may not have arrived, and is not sent again; what was not queued yet waits for the next
//! connection.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::Outcomes;
use tracemq_plugin_api::serde_json;

use super::window::Window;
use crate::link::{Broken, Kind, Link, Taken, mark};
use crate::publish::PublishOptions;

/// Batches that may be under way.
const JOBS: usize = 16;
/// Bytes that are queued before a flush.
const QUEUED: usize = 256 * 1024;

struct Job {
    batch: Batch,
    kind: Kind,
    outcomes: Outcomes,
    /// Queued so far, and flushed so far.
    next: usize,
    flushed: usize,
    /// Pings that wait for their answer: the index, and when they were queued.
    pings: VecDeque<(usize, Instant)>,
    done: oneshot::Sender<Vec<Outcome>>,
}

/// Everything under way, in order.
pub(super) struct Publishing {
    jobs: VecDeque<Job>,
    window: Window,
}

impl Publishing {
    /// `pings` may be sent.
    pub(super) fn new(pings: bool) -> Publishing {
        Publishing { jobs: VecDeque::new(), window: Window::new(pings) }
    }

    /// When to feed again though nothing has come.
    pub(super) fn alarm(&self) -> Option<Instant> {
        self.window.alarm()
    }

    pub(super) fn has_room(&self) -> bool {
        self.jobs.len() < JOBS
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(super) fn add(
        &mut self,
        mut batch: Batch,
        options: &Arc<PublishOptions>,
        done: oneshot::Sender<Vec<Outcome>>,
    ) {
        batch.adopt();
        let job = Job {
            kind: options.kind(),
            outcomes: Outcomes::new(batch.len()),
            batch,
            next: 0,
            flushed: 0,
            pings: VecDeque::new(),
            done,
        };
        self.jobs.push_back(job);
        self.answer();
    }

    /// Queues as much as may wait for a flush.
    pub(super) fn feed(&mut self, link: &mut Link) -> std::result::Result<(), Broken> {
        for job in &mut self.jobs {
            while job.next < job.batch.len() {
                if link.queued() >= QUEUED || !self.window.has_room() {
                    return Ok(());
                }
                if job.done.is_closed() {
                    job.abandon_rest();
                    break;
                }
                let index = job.next;
                job.next += 1;
                match job.send(index, link)? {
                    Err(reason) => job.outcomes.settle(index, Outcome::refused(reason)),
                    Ok(length) => {
                        if let Some(number) = self.window.queued(length) {
                            link.mark(number)?;
                        }
                    }
                }
            }
        }
        self.answer();
        Ok(())
    }

    /// All that was queued has left.
    pub(super) fn flushed(&mut self, link: &mut Link) {
        for job in &mut self.jobs {
            for index in std::mem::replace(&mut job.flushed, job.next)..job.next {
                if job.kind == Kind::Ping || job.outcomes.is_settled(index) {
                    continue;
                }
                let size = if job.kind == Kind::Pong { None } else { link.take_sent() };
                let details = size.map(|size| match size.compressed {
                    Some(compressed) => json!({"size": size.plain, "compressed_size": compressed}),
                    None => json!({"size": size.plain}),
                });
                let sent = Outcome::sent();
                let sent = match details {
                    Some(details) => sent.details(details),
                    None => sent,
                };
                job.outcomes.settle(index, sent);
            }
        }
        self.answer();
    }

    /// Looks for the answers to pings.
    pub(super) fn received(&mut self, taken: &Taken) {
        let pongs = taken.messages.iter().filter(|message| message.kind == Kind::Pong);
        for pong in pongs {
            match mark(&pong.payload) {
                Some(number) => self.window.answered(number),
                None => self.pong(&pong.payload),
            }
        }
    }

    /// A pong answers its ping and all before it (RFC 6455 section 5.5.3).
    fn pong(&mut self, payload: &Bytes) {
        let asked = |job: &Job| {
            job.pings.iter().position(|(index, _)| {
                job.batch.get(*index).is_some_and(|message| message.payload() == payload.as_ref())
            })
        };
        let Some(at) = self.jobs.iter().position(|job| asked(job).is_some()) else { return };
        for job in self.jobs.range_mut(..=at) {
            let last = asked(job).map_or(job.pings.len(), |last| last + 1);
            for (index, since) in job.pings.drain(..last).collect::<Vec<_>>() {
                let took = since.elapsed().as_secs_f64() * 1000.0;
                let took = (took * 1000.0).round() / 1000.0;
                job.outcomes.settle(index, Outcome::acknowledged().details(json!({"round_trip_ms": took})));
            }
        }
        self.answer();
    }

    /// The connection broke: what had been queued may or may not have arrived.
    pub(super) fn lost(&mut self, why: &str) {
        self.window.restart();
        for job in &mut self.jobs {
            job.pings.clear();
            let doubt = match job.kind {
                Kind::Ping => "no answer came",
                _ => "it may or may not have arrived",
            };
            job.outcomes.settle_range(0..job.next, &Outcome::unconfirmed(format!("{why}; {doubt}")));
            job.flushed = job.next;
        }
        self.answer();
    }

    /// Nothing more will be sent.
    pub(super) fn give_up(&mut self, why: &str) {
        self.lost(why);
        for job in &mut self.jobs {
            let unsent = Outcome::unconfirmed(format!("{why}; it was not sent"));
            job.outcomes.settle_range(job.next..job.batch.len(), &unsent);
            job.next = job.batch.len();
        }
        self.answer();
    }

    fn answer(&mut self) {
        let mut at = 0;
        while at < self.jobs.len() {
            let Some(outcomes) = self.jobs[at].outcomes.complete() else {
                at += 1;
                continue;
            };
            if let Some(job) = self.jobs.remove(at) {
                // The caller may be gone.
                let _ = job.done.send(outcomes);
            }
        }
    }
}

impl Job {
    fn send(
        &mut self,
        index: usize,
        link: &mut Link,
    ) -> std::result::Result<std::result::Result<usize, String>, Broken> {
        let Some(message) = self.batch.get(index) else { return Ok(Ok(0)) };
        if !message.topic().is_empty() {
            return Ok(Err("there are no topics here: leave it out".to_owned()));
        }
        if message.headers().len() > 0 {
            return Ok(Err(
                "messages have no headers here (--ws-header is for those of the handshake)".to_owned()
            ));
        }
        let sent = link.send(self.kind, message.payload_bytes())?;
        if sent.is_ok() && self.kind == Kind::Ping {
            self.pings.push_back((index, Instant::now()));
        }
        Ok(sent.map(|()| message.payload().len()))
    }

    fn abandon_rest(&mut self) {
        let count = self.batch.len();
        self.outcomes.settle_range(self.next..count, &Outcome::unconfirmed("given up before it was sent"));
        self.next = count;
    }
}
