//! What was asked to be sent, and what became of it.
//!
//! A call of the host's is a job of many messages; a job is sent as items, each a transfer of its own: a message, or a batch
//! of events. Transfers are confirmed in the order in which they were sent, nearly always, so that only the first one on its
//! way is waited for.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::Sendable;
use fe2o3_amqp::link::SendError;
use fe2o3_amqp::link::delivery::DeliveryFut;
use fe2o3_amqp_types::messaging::{Body, Outcome as Settled};
use serde_amqp::Value;
use tokio::sync::oneshot;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::Outcomes;

use super::publisher::Place;
use crate::error::{Broken, Condition};
use crate::publish::PublishOptions;

/// Transfers and bytes that may be unconfirmed.
const MOST: usize = 4096;
const MOST_BYTES: usize = 16 << 20;
/// How often a busy server is tried before it is believed.
const TRIES: u32 = 10;

pub(super) type Answered = oneshot::Sender<Result<Vec<Outcome>>>;

/// A call of the host's.
struct Job {
    done: Answered,
    outcomes: Outcomes,
}

/// One transfer.
pub(super) struct Item {
    pub(super) job: u64,
    /// The messages of the job that it holds.
    messages: Range<usize>,
    pub(super) place: Arc<Place>,
    pub(super) sendable: Box<Sendable<Body<Value>>>,
    pub(super) size: usize,
    tries: u32,
}

impl Item {
    pub(super) fn new(
        job: u64,
        messages: Range<usize>,
        place: Arc<Place>,
        sendable: Box<Sendable<Body<Value>>>,
        size: usize,
    ) -> Item {
        Item { job, messages, place, sendable, size, tries: 0 }
    }
}

pub(super) type Delivery = DeliveryFut<std::result::Result<Settled, SendError>>;

/// What is on its way.
#[derive(Default)]
pub(super) struct Flights {
    items: VecDeque<(Item, Delivery)>,
    bytes: usize,
}

/// An item that is on its way no more.
pub(super) struct Landed(Item, std::result::Result<Settled, SendError>);

impl Flights {
    pub(super) fn push(&mut self, item: Item, delivery: Delivery) {
        self.bytes += item.size;
        self.items.push_back((item, delivery));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.items.len() < MOST && self.bytes < MOST_BYTES
    }

    /// The next one that lands; waits for ever when there is none. Cancel-safe.
    pub(super) async fn next(&mut self) -> Landed {
        let Some((_, delivery)) = self.items.front_mut() else { return std::future::pending().await };
        let settled = delivery.await;
        // There is a first one: it has just been waited for.
        let Some((item, _)) = self.items.pop_front() else { return std::future::pending().await };
        self.bytes -= item.size;
        Landed(item, settled)
    }

    /// All that is on its way, of which nothing more will be heard.
    pub(super) fn forget(&mut self) -> impl Iterator<Item = Item> + use<> {
        self.bytes = 0;
        std::mem::take(&mut self.items).into_iter().map(|(item, _)| item)
    }
}

#[derive(Default)]
pub(super) struct Ledger {
    jobs: BTreeMap<u64, Job>,
    next: u64,
    /// What a busy server has refused, in order.
    again: Vec<Item>,
    pause: Duration,
}

impl Ledger {
    /// Opens a job of so many messages.
    pub(super) fn open(&mut self, messages: usize, done: Answered) -> u64 {
        let number = self.next;
        self.next += 1;
        self.jobs.insert(number, Job { done, outcomes: Outcomes::new(messages) });
        self.answer(number);
        number
    }

    /// Whether a job still waits for something.
    pub(super) fn is_open(&self, job: u64) -> bool {
        self.jobs.contains_key(&job)
    }

    pub(super) fn settle(&mut self, job: u64, messages: Range<usize>, outcome: &Outcome) {
        let Some(found) = self.jobs.get_mut(&job) else { return };
        found.outcomes.settle_range(messages, outcome);
        self.answer(job);
    }

    pub(super) fn settle_item(&mut self, item: &Item, outcome: &Outcome) {
        self.settle(item.job, item.messages.clone(), outcome);
    }

    /// The whole job fails: nothing else of it will do better.
    pub(super) fn fail(&mut self, job: u64, error: Error) {
        if let Some(job) = self.jobs.remove(&job) {
            // The caller may be gone.
            let _ = job.done.send(Err(error));
        }
    }

    /// Nothing more will be sent. What is on its way has been settled before.
    pub(super) fn give_up(&mut self, why: &str) {
        self.again.clear();
        for (_, job) in std::mem::take(&mut self.jobs) {
            let unsent = |_| Outcome::unconfirmed(format!("{why}; it was not sent"));
            // The caller may be gone.
            let _ = job.done.send(Ok(job.outcomes.finish(unsent)));
        }
    }

    /// What is to be sent again, and after which pause.
    pub(super) fn take_again(&mut self) -> Option<(Vec<Item>, Duration)> {
        let items = std::mem::take(&mut self.again);
        (!items.is_empty()).then(|| (items, std::mem::take(&mut self.pause)))
    }

    pub(super) fn has_again(&self) -> bool {
        !self.again.is_empty()
    }

    /// Keeps what a busy server wants later; gives the item back when that is not what it says, or was too often.
    fn later(&mut self, mut item: Item, condition: &Condition) -> std::result::Result<(), Item> {
        let Some(pause) = condition.busy() else { return Err(item) };
        item.tries += 1;
        if item.tries >= TRIES {
            return Err(item);
        }
        self.pause = self.pause.max(pause);
        self.again.push(item);
        Ok(())
    }

    /// Notes what became of a transfer.
    pub(super) fn land(&mut self, Landed(item, settled): Landed) {
        let outcome = match settled {
            Ok(Settled::Accepted(_)) => Outcome::acknowledged(),
            Ok(Settled::Released(_)) => {
                Outcome::refused("the server released it: it has no place for it now")
            }
            Ok(Settled::Modified(_)) => Outcome::refused("the server gave it back unprocessed (modified)"),
            Ok(Settled::Rejected(rejected)) => {
                let condition = match &rejected.error {
                    Some(error) => Condition::from(error),
                    None => Condition::new("rejected", "it gives no reason"),
                };
                return self.refused(item, &condition);
            }
            Err(error) => match Broken::from(&error) {
                Broken::Link(condition) if condition.busy().is_some() || !condition.is_temporary() => {
                    return self.ended(item, &condition);
                }
                broken => unknown(&broken.error("the link").to_string()),
            },
        };
        self.settle_item(&item, &outcome);
    }

    /// The server refused this one transfer: a busy one gets it again later.
    pub(super) fn refused(&mut self, item: Item, condition: &Condition) {
        let Err(item) = self.later(item, condition) else { return };
        let reason = condition.error("the event");
        let outcome = match reason.kind() {
            ErrorKind::AUTH => Outcome::unauthorized(reason.to_string()),
            _ => Outcome::refused(reason.to_string()),
        };
        self.settle_item(&item, &outcome);
    }

    /// The server ended the link before it said anything of this transfer.
    fn ended(&mut self, item: Item, condition: &Condition) {
        if condition.busy().is_some() || condition.name == "amqp:link:message-size-exceeded" {
            return self.refused(item, condition);
        }
        let error = condition.error(&item.place.subject);
        self.fail(item.job, error);
    }

    /// Nothing will be heard of these any more.
    pub(super) fn lost(&mut self, items: impl Iterator<Item = Item>, why: &str) {
        for item in items {
            self.settle_item(&item, &unknown(why));
        }
    }

    fn answer(&mut self, number: u64) {
        if let Some(job) = self.jobs.get_mut(&number)
            && let Some(outcomes) = job.outcomes.complete()
            && let Some(job) = self.jobs.remove(&number)
        {
            // The caller may be gone.
            let _ = job.done.send(Ok(outcomes));
        }
    }
}

fn unknown(why: &str) -> Outcome {
    Outcome::unconfirmed(format!("{why}; it may or may not have arrived"))
}

/// A call to publish.
pub(super) struct Order {
    pub(super) batch: Batch,
    pub(super) options: Arc<PublishOptions>,
    pub(super) done: Answered,
}
