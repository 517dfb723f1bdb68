//! One link that is read: a partition of a hub, or a queue. It is a task of its own, which hands events straight to the
//! host's queue.
//!
//! Its end is always the same: what is on its way is drained, and the link is closed and seen to be. A receiver that is
//! dropped while transfers are on their way takes the session and the connection with it, and so does a server that goes on
//! sending behind a detach: so these tasks are never aborted, they are told to stop.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use fe2o3_amqp::Delivery;
use fe2o3_amqp::link::delivery::DeliveryInfo;
use fe2o3_amqp::link::{Receiver, RecvError};
use fe2o3_amqp_types::messaging::{Batch as Sections, Data};
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::{Instant, timeout};
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{MAX_BATCH, Permit};

use super::filler::Filler;
use super::payloads::{Inbox, Missing};
use super::window::Window;
use super::{GOODBYE, stopped};
use crate::error::Broken;

/// Bytes of a batch, above which the next event waits for the next one.
const BATCH_BYTES: usize = 1 << 20;
/// A link counts as drained when nothing has come for so long, whether its peer says so or not.
const QUIET: Duration = Duration::from_millis(50);

/// A delivery, and by what its message is found.
type Event = Delivery<Sections<Data>>;

/// The host's queue, shared by the links of a subscription.
#[derive(Clone)]
pub(super) struct Output {
    pub(super) sender: BatchSender,
    handed: Arc<Mutex<u64>>,
}

impl Output {
    pub(super) fn new(sender: BatchSender) -> Output {
        Output { sender, handed: Arc::default() }
    }

    /// Hands a batch over; how many messages of the whole subscription came before it.
    fn send(&self, permit: Permit, batch: Batch) -> u64 {
        // Locked while it is sent, so that the count is that of the queue's order.
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *handed;
        *handed += batch.len() as u64;
        permit.send(batch);
        before
    }
}

/// What becomes of deliveries that the peer does not hold for settled.
pub(super) enum Settling {
    /// Event Hubs keep events: they are accepted as they come.
    AtOnce,
    /// A queue forgets messages: they are accepted when the host has dealt with them. Holds the host's count.
    WhenShown(watch::Receiver<u64>),
}

pub(super) struct Reader {
    /// The link's place among those of the subscription.
    pub(super) index: usize,
    pub(super) receiver: Receiver,
    pub(super) inbox: Inbox,
    pub(super) filler: Filler,
    pub(super) window: Window,
    pub(super) output: Output,
    pub(super) settling: Settling,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) progress: Progress,
}

/// What a link has seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// The sequence number that was handed over last.
    pub(super) last: Option<i64>,
    pub(super) since: Instant,
}

pub(super) struct Ended {
    pub(super) index: usize,
    pub(super) progress: Progress,
    /// `Ok`: it was told to stop.
    pub(super) result: Result<(), Broken>,
}

/// Events that are handed over together.
#[derive(Default)]
struct Taken {
    batch: BatchBuilder,
    /// Bytes of their payloads.
    bytes: usize,
    infos: Vec<DeliveryInfo>,
    /// Of those that are left out.
    unreadable: Vec<DeliveryInfo>,
}

/// Deliveries that the host has not dealt with, each with its place in the order of the whole subscription.
type Unshown = VecDeque<(u64, DeliveryInfo)>;

impl Reader {
    pub(super) async fn run(mut self) -> Ended {
        let mut unshown = Unshown::new();
        let result = self.read(&mut unshown).await;
        let (index, progress) = (self.index, self.progress);
        match &result {
            Err(broken) if broken.is_connection() => {}
            Err(_) => drop(timeout(GOODBYE, self.receiver.close()).await),
            Ok(()) => self.leave(unshown).await,
        }
        Ended { index, progress, result }
    }

    async fn read(&mut self, unshown: &mut Unshown) -> Result<(), Broken> {
        loop {
            if let Some(credit) = self.window.due() {
                self.receiver.set_credit(credit).await.map_err(|_| lost())?;
            }
            let first = tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return Ok(()),
                () = shown(&mut self.settling) => {
                    self.settle(unshown).await?;
                    continue;
                }
                first = self.receiver.recv::<Sections<Data>>() => first,
            };
            let first = first.map_err(|error| Broken::from(&error))?;
            let permit = tokio::select! {
                biased;
                () = stopped(&mut self.stop) => None,
                permit = self.output.sender.reserve() => permit,
            };
            let Some(permit) = permit else {
                // It was not shown: whoever reads next is to get it.
                drop(self.receiver.release(&first).await);
                return Ok(());
            };
            self.hand_over(first, permit, unshown).await?;
        }
    }

    /// Hands over an event with all that have come behind it.
    async fn hand_over(&mut self, first: Event, permit: Permit, unshown: &mut Unshown) -> Result<(), Broken> {
        let mut taken = Taken::default();
        let mut failed = self.add(first, &mut taken).err();
        while failed.is_none()
            && taken.batch.len() < MAX_BATCH
            && taken.bytes < BATCH_BYTES
            && self.window.has_credit()
        {
            match now(self.receiver.recv::<Sections<Data>>()).await {
                None => break,
                Some(Ok(next)) => failed = self.add(next, &mut taken).err(),
                Some(Err(error)) => failed = Some(Broken::from(&error)),
            }
        }
        if !taken.batch.is_empty() {
            let before = self.output.send(permit, taken.batch.finish());
            if let Settling::WhenShown(_) = self.settling {
                unshown.extend((before..).zip(taken.infos.drain(..)));
            }
        }
        if let Some(broken) = failed {
            return Err(broken);
        }
        if !taken.unreadable.is_empty() {
            self.receiver.release_all(taken.unreadable).await.map_err(|_| lost())?;
        }
        match self.settling {
            Settling::AtOnce => self.receiver.accept_all(taken.infos).await.map_err(|_| lost()),
            Settling::WhenShown(_) => self.settle(unshown).await,
        }
    }

    /// Adds the event to what is handed over; one that can't be read is left to others.
    fn add(&mut self, event: Event, taken: &mut Taken) -> Result<(), Broken> {
        let (info, message) = event.into_parts();
        let bytes = self.inbox.take(&message.body).map_err(|missing| match missing {
            Missing::TooLarge => Broken::too_large(),
            Missing::Unknown => lost(),
        })?;
        match self.filler.add(&mut taken.batch, &bytes) {
            Ok(added) => {
                self.window.taken(added.size);
                self.progress.last = added.sequence.or(self.progress.last);
                taken.bytes += added.size;
                taken.infos.push(info);
            }
            Err(error) => {
                log::warn!("a message can't be read and is left out: {error}");
                self.window.taken(0);
                taken.unreadable.push(info);
            }
        }
        Ok(())
    }

    /// Accepts what the host has dealt with.
    async fn settle(&mut self, unshown: &mut Unshown) -> Result<(), Broken> {
        let consumed = self.output.sender.consumed();
        let shown = unshown.partition_point(|(place, _)| *place < consumed);
        if shown == 0 {
            return Ok(());
        }
        let infos = unshown.drain(..shown).map(|(_, info)| info);
        self.receiver.accept_all(infos).await.map_err(|_| lost())
    }

    /// Drains the link and closes it.
    async fn leave(mut self, mut unshown: Unshown) {
        let drain = async {
            self.settle(&mut unshown).await?;
            let back = unshown.into_iter().map(|(_, info)| info);
            self.receiver.release_all(back).await.map_err(|_| lost())?;
            self.receiver.drain().await.map_err(|_| lost())?;
            while !self.inbox.is_drained() {
                let received = tokio::select! {
                    biased;
                    received = timeout(QUIET, self.receiver.recv::<Sections<Data>>()) => received,
                    () = self.inbox.drained() => continue,
                };
                let event = match received {
                    Ok(Ok(event)) => event,
                    Ok(Err(RecvError::TransferLimitExceeded)) => continue,
                    Ok(Err(error)) => return Err(Broken::from(&error)),
                    Err(_) => break,
                };
                drop(self.inbox.take(event.body()));
                self.receiver.release(event).await.map_err(|_| lost())?;
            }
            Ok::<(), Broken>(())
        };
        if !matches!(timeout(GOODBYE, drain).await, Ok(Ok(()))) {
            log::debug!("a link could not be drained");
        }
        match timeout(GOODBYE, self.receiver.close()).await {
            Ok(Ok(())) => {}
            // RabbitMQ's answer to a close is such, and all goes on.
            Ok(Err(error)) => log::debug!("a link was not closed well: {error}"),
            Err(_) => log::debug!("the server does not answer the detach of a link"),
        }
    }
}

/// Waits until the host has dealt with something that is to be settled.
async fn shown(settling: &mut Settling) {
    match settling {
        Settling::WhenShown(consumed) => {
            if consumed.changed().await.is_err() {
                std::future::pending().await
            }
        }
        Settling::AtOnce => std::future::pending().await,
    }
}

/// The result of a future that need not wait. It does not have to either because this task has had its share: a batch ends.
async fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(unconstrained(future));
    std::future::poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}

fn lost() -> Broken {
    Broken::Lost("the connection broke".into())
}
