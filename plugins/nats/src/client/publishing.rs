//! Messages on their way out. NATS confirms none of them, but it answers a ping in order: what was written before the ping
//! has then been dealt with, and a refusal would have come before.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::BytesMut;
use tokio::sync::oneshot;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{MessageView, Outcomes};

use crate::config::Prefix;
use crate::session::{Mark, Session};
use crate::wire::{Encoder, ServerInfo, check_name, check_value, size_of_headers, subject};

/// Calls that wait to be written.
const WAITING: usize = 8;
/// Bytes that are written before the socket has to take some.
const AHEAD: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Publishing {
    waiting: VecDeque<Job>,
    /// Written, and waiting for the answer to a ping.
    sent: VecDeque<(Mark, Job)>,
    /// The subject that was found to be good last.
    good: Vec<u8>,
}

/// How the subjects of a batch are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subjects {
    /// The prefix is to be put before them.
    Prefixed,
    OnWire,
}

struct Job {
    batch: Batch,
    subjects: Subjects,
    /// The subject for answers, without the prefix.
    reply: Option<String>,
    done: oneshot::Sender<Vec<Outcome>>,
    /// The first that was not written.
    next: usize,
    outcomes: Outcomes,
}

impl Publishing {
    pub(super) fn add(
        &mut self,
        batch: Batch,
        reply: Option<String>,
        subjects: Subjects,
        done: oneshot::Sender<Vec<Outcome>>,
    ) {
        let outcomes = Outcomes::new(batch.len());
        self.waiting.push_back(Job { batch, subjects, reply, done, next: 0, outcomes });
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING
    }

    /// Whether everything has been written and confirmed.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.sent.is_empty()
    }

    /// Writes what there is room for, and a ping after it.
    pub(super) fn feed(
        &mut self,
        session: &mut Session,
        info: &ServerInfo,
        prefix: &Prefix,
        now: Instant,
        out: &mut BytesMut,
    ) {
        let mut complete = 0;
        for job in &mut self.waiting {
            while job.next < job.batch.len() && out.len() < AHEAD {
                let index = job.next;
                job.next += 1;
                let prefix = if job.subjects == Subjects::OnWire { "" } else { prefix.as_str() };
                if let Err(outcome) = job.write(index, info, prefix, &mut self.good, out) {
                    job.outcomes.settle(index, outcome);
                }
            }
            if job.next < job.batch.len() {
                break;
            }
            complete += 1;
        }
        if complete > 0 {
            let mark = session.ping(now, out);
            self.sent.extend(self.waiting.drain(..complete).map(|job| (mark, job)));
        }
    }

    /// The server has answered a ping.
    pub(super) fn confirm(&mut self, mark: Mark) {
        while let Some((waited, _)) = self.sent.front()
            && *waited <= mark
            && let Some((_, job)) = self.sent.pop_front()
        {
            job.finish(Outcome::sent);
        }
    }

    /// The server has refused a message to this subject, on the wire. It answers in order: so it is one of those written
    /// before the next ping that will be answered.
    pub(super) fn denied(&mut self, subject: &str, text: &str, prefix: &Prefix) -> bool {
        let shown = prefix.shown(subject).as_bytes();
        let refused = |job: &Job, topic: &[u8]| match job.subjects {
            Subjects::Prefixed => topic == shown,
            Subjects::OnWire => topic == subject.as_bytes(),
        };
        let first = self.sent.front().map(|(mark, _)| *mark);
        let sent = self.sent.iter_mut().take_while(|(mark, _)| Some(*mark) == first).map(|(_, job)| job);
        let mut found = false;
        for job in sent.chain(self.waiting.front_mut().filter(|_| first.is_none())) {
            for index in 0..job.next {
                if job.batch.get(index).is_some_and(|message| refused(job, message.topic())) {
                    job.outcomes
                        .settle(index, Outcome::unauthorized(format!("the server refused it: {text}")));
                    found = true;
                }
            }
        }
        found
    }

    /// The connection is lost: what was written and not confirmed is of unknown fate.
    pub(super) fn connection_lost(&mut self) {
        let unknown = || {
            Outcome::unconfirmed(
                "the connection was lost before the server confirmed it; it may or may not have arrived",
            )
        };
        self.sent.drain(..).for_each(|(_, job)| job.finish(unknown));
        if let Some(job) = self.waiting.front_mut() {
            job.outcomes.settle_range(0..job.next, &unknown());
        }
    }

    /// No connection will come any more.
    pub(super) fn give_up(&mut self, why: &str) {
        self.connection_lost();
        for job in self.waiting.drain(..) {
            job.finish(|| Outcome::unconfirmed(format!("{why}; it was not sent")));
        }
    }
}

impl Job {
    fn write(
        &self,
        index: usize,
        info: &ServerInfo,
        prefix: &str,
        good: &mut Vec<u8>,
        out: &mut BytesMut,
    ) -> Result<(), Outcome> {
        let Some(message) = self.batch.get(index) else { return Ok(()) };
        let topic = message.topic();
        if topic != good.as_slice() {
            let text =
                std::str::from_utf8(topic).map_err(|_| Outcome::refused("the subject is not UTF-8"))?;
            subject::check_subject(text).map_err(|error| Outcome::refused(error.to_string()))?;
            topic.clone_into(good);
        }
        let size = message.payload().len();
        let with_headers = message.headers().len() > 0;
        let size = match with_headers {
            false => size,
            true => size + check_headers(&message, info)?,
        };
        if info.max_payload > 0 && size > info.max_payload {
            let what = if with_headers { "headers and payload have" } else { "the payload has" };
            return Err(Outcome::refused(format!(
                "{what} {size} bytes, and the server's max_payload is {}",
                info.max_payload
            )));
        }
        let reply = match (&self.reply, message.reply()) {
            (Some(reply), _) => Some([prefix.as_bytes(), reply.as_bytes()].concat()),
            (None, Some(reply)) => Some([prefix.as_bytes(), reply].concat()),
            (None, None) => None,
        };
        if prefix.len() + topic.len() + reply.as_ref().map_or(0, Vec::len) > subject::LONGEST_TOGETHER {
            return Err(Outcome::refused(format!(
                "subject, prefix and reply subject are longer than {} bytes together",
                subject::LONGEST_TOGETHER
            )));
        }
        let parts = (prefix.as_bytes(), topic);
        let reply = reply.as_deref();
        match with_headers {
            false => Encoder(out).publish(parts, reply, message.payload()),
            true => Encoder(out).publish_with_headers(parts, reply, message.headers(), message.payload()),
        }
        Ok(())
    }

    /// Answers the caller; `otherwise` is for messages of which nothing else is known.
    fn finish(self, otherwise: impl Fn() -> Outcome) {
        // The caller may be gone.
        let _ = self.done.send(self.outcomes.finish(|_| otherwise()));
    }
}

/// Bytes of the header block.
fn check_headers(message: &MessageView<'_>, info: &ServerInfo) -> Result<usize, Outcome> {
    if !info.headers {
        return Err(Outcome::refused("the server takes no headers"));
    }
    for (name, value) in message.headers() {
        check_name(name)
            .and_then(|()| check_value(value))
            .map_err(|error| Outcome::refused(error.to_string()))?;
    }
    Ok(size_of_headers(message.headers()))
}
