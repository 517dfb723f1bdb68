//! Answers to what was published, by number: each message has a reply subject of its own below one inbox.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{MAX_BATCH, spawn};

use crate::client::{Client, Service};
use crate::session::Pattern;

/// Bytes of answers that may wait. An answer has some 50, and no more are under way than messages.
const BUFFER: usize = 64 << 20;

/// What came back for one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nobody takes messages to this subject.
    Nobody,
    /// As JSON.
    Text(Bytes),
}

pub(super) struct Answers {
    /// As it goes over the wire.
    inbox: String,
    begun: AtomicBool,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    next: AtomicU64,
    /// By the number of their first message.
    groups: Mutex<BTreeMap<u64, Arc<Group>>>,
    /// Why no answers can come.
    failed: OnceLock<Error>,
}

struct Group {
    slots: Mutex<Slots>,
    complete: Notify,
}

struct Slots {
    /// `Some(None)`: none is waited for any more.
    answers: Vec<Option<Option<Answer>>>,
    missing: usize,
}

/// Messages whose answers are waited for.
pub(super) struct Waiting<'a> {
    inbox: &'a str,
    first: u64,
    state: &'a State,
    group: Arc<Group>,
}

impl Answers {
    /// `inbox` is on the wire.
    pub(super) fn new(inbox: String) -> Answers {
        Answers { inbox, begun: AtomicBool::new(false), state: Arc::default() }
    }

    pub(super) fn expect(&self, count: usize) -> Waiting<'_> {
        let first = self.state.next.fetch_add(count as u64, Ordering::Relaxed);
        let slots = Slots { answers: vec![None; count], missing: count };
        let group = Arc::new(Group { slots: Mutex::new(slots), complete: Notify::new() });
        lock(&self.state.groups).insert(first, Arc::clone(&group));
        Waiting { inbox: &self.inbox, first, state: &self.state, group }
    }

    /// Publishes, after the subscription to the answers if this is the first time: the server takes them in order.
    ///
    /// # Errors
    /// The connection is closed, or the answers may not be subscribed to.
    pub(super) async fn publish(&self, client: &Client, batch: Batch) -> Result<Vec<Outcome>> {
        if self.begun.swap(true, Ordering::AcqRel) {
            if let Some(error) = self.state.failed.get() {
                return Err(error.clone());
            }
            return client.publish_as_it_is(batch).await;
        }
        let pattern = Pattern { subject: format!("{}.*", self.inbox), queue: None, max: None };
        let service = Service { buffer: BUFFER, lossless: false, request: None, gapless: true };
        let (answers, outcomes) = tokio::join!(
            biased;
            client.subscribe(vec![pattern], service),
            client.publish_as_it_is(batch)
        );
        match answers {
            Ok(answers) => drop(spawn(listen(answers, Arc::clone(&self.state)))),
            Err(error) => {
                self.state.fail(error.clone());
                return Err(error);
            }
        }
        outcomes
    }
}

async fn listen(answers: Subscription, state: Arc<State>) {
    loop {
        match answers.next_batch(MAX_BATCH).await {
            Ok(batch) => {
                for message in batch.iter() {
                    let number = message.topic().rsplit(|byte| *byte == b'.').next();
                    let number = number.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
                    let Some(number) = number else { continue };
                    let nobody =
                        message.meta().any(|(name, value)| name == "status" && value == MetaValue::Uint(503));
                    // The payload is copied: it would keep the whole block that was read.
                    let answer = match nobody {
                        true => Answer::Nobody,
                        false => Answer::Text(Bytes::copy_from_slice(message.payload())),
                    };
                    state.answered(number, answer);
                }
                if batch.is_end() {
                    return state.fail(Error::new(ErrorKind::CLOSED, "the connection is closed"));
                }
            }
            Err(error) => return state.fail(error),
        }
    }
}

impl State {
    fn answered(&self, number: u64, answer: Answer) {
        let found =
            lock(&self.groups).range(..=number).next_back().map(|(first, group)| (*first, Arc::clone(group)));
        if let Some((first, group)) = found
            && let Ok(index) = usize::try_from(number - first)
        {
            group.set(index, Some(answer));
        }
    }

    fn fail(&self, error: Error) {
        let _ = self.failed.set(error);
        for group in lock(&self.groups).values() {
            group.complete.notify_one();
        }
    }
}

impl Group {
    fn set(&self, index: usize, answer: Option<Answer>) {
        let mut slots = lock(&self.slots);
        // An answer that comes twice, or to a message that is no longer waited for, changes nothing.
        let Some(slot @ None) = slots.answers.get_mut(index) else { return };
        *slot = Some(answer);
        slots.missing = slots.missing.saturating_sub(1);
        if slots.missing == 0 {
            self.complete.notify_one();
        }
    }
}

impl Waiting<'_> {
    /// The reply subject of one message.
    pub(super) fn reply(&self, index: usize) -> String {
        format!("{}.{}", self.inbox, self.first + index as u64)
    }

    /// There will be no answer to this one.
    pub(super) fn excuse(&self, index: usize) {
        self.group.set(index, None);
    }

    /// Waits until all have come, but not for longer than `limit` without any.
    pub(super) async fn wait(&self, limit: Duration) {
        let mut before = usize::MAX;
        let mut until = Instant::now() + limit;
        loop {
            let missing = lock(&self.group.slots).missing;
            if missing == 0 || self.state.failed.get().is_some() {
                return;
            }
            if missing < before {
                (before, until) = (missing, Instant::now() + limit);
            }
            if tokio::time::timeout_at(until, self.group.complete.notified()).await.is_err()
                && lock(&self.group.slots).missing == before
            {
                return;
            }
        }
    }

    pub(super) fn take(&self, index: usize) -> Option<Answer> {
        lock(&self.group.slots).answers.get_mut(index)?.as_mut()?.take()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.state.groups).remove(&self.first);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Answer {
        Answer::Text(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn answers_find_their_message_in_any_order() {
        let answers = Answers::new("_INBOX.x".into());
        let (first, second) = (answers.expect(2), answers.expect(3));
        assert_eq!((first.reply(1), second.reply(2)), ("_INBOX.x.1".into(), "_INBOX.x.4".into()));
        for (number, answer) in [(4, text("e")), (0, text("a")), (4, text("twice")), (99, text("nobody's"))] {
            answers.state.answered(number, answer);
        }
        second.excuse(0);
        answers.state.answered(3, Answer::Nobody);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let wait = |waiting: &Waiting<'_>, limit| runtime.block_on(waiting.wait(limit));
        wait(&second, Duration::from_secs(600));
        assert_eq!(
            (second.take(0), second.take(1), second.take(2)),
            (None, Some(Answer::Nobody), Some(text("e")))
        );
        wait(&first, Duration::from_millis(10));
        assert_eq!((first.take(0), first.take(1)), (Some(text("a")), None));
        drop((first, second));
        assert!(lock(&answers.state.groups).is_empty());
        answers.state.answered(0, text("late"));
    }
}
