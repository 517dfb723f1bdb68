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
use fe2o3_amqp_types::messaging::Body;
use serde_amqp::Value;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{MAX_BATCH, Permit};

use super::window::Window;
use super::{GOODBYE, stopped};
use crate::error::Broken;
use crate::message::Filler;

/// Bytes of a batch, above which the next event waits for the next one.
const BATCH_BYTES: usize = 1 << 20;
/// A link has been drained when nothing has come for so long.
const QUIET: Duration = Duration::from_millis(50);

type Event = Delivery<Body<Value>>;

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
                first = self.receiver.recv::<Body<Value>>() => first,
            };
            let Some(first) = self.readable(first).await? else { continue };
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
        let mut batch = BatchBuilder::new();
        let mut infos = Vec::new();
        let mut bytes = self.add(first, &mut batch, &mut infos);
        let mut failed = None;
        while batch.len() < MAX_BATCH && bytes < BATCH_BYTES && self.window.has_credit() {
            match now(self.receiver.recv::<Body<Value>>()).await {
                None => break,
                Some(next) => match self.readable(next).await {
                    Ok(Some(next)) => bytes += self.add(next, &mut batch, &mut infos),
                    Ok(None) => {}
                    Err(broken) => {
                        failed = Some(broken);
                        break;
                    }
                },
            }
        }
        let before = self.output.send(permit, batch.finish());
        if let Some(broken) = failed {
            return Err(broken);
        }
        match self.settling {
            Settling::AtOnce => self.receiver.accept_all(infos).await.map_err(|_| lost())?,
            Settling::WhenShown(_) => {
                unshown.extend((before..).zip(infos));
                self.settle(unshown).await?;
            }
        }
        Ok(())
    }

    fn add(&mut self, event: Event, batch: &mut BatchBuilder, infos: &mut Vec<DeliveryInfo>) -> usize {
        let (info, message) = event.into_parts();
        infos.push(info);
        let added = self.filler.add(batch, message);
        self.window.taken(added.size);
        self.progress.last = added.sequence.or(self.progress.last);
        added.size
    }

    /// The event; `None` when it was one that can't be read, and that others are to have.
    async fn readable(&mut self, received: Result<Event, RecvError>) -> Result<Option<Event>, Broken> {
        match received {
            Ok(event) => Ok(Some(event)),
            Err(RecvError::MessageDecode(error)) => {
                log::warn!(
                    "a message can't be read and is left out: {}",
                    crate::error::one_line(&error.source.to_string())
                );
                self.window.taken(0);
                self.receiver.release(error.info).await.map_err(|_| lost())?;
                Ok(None)
            }
            Err(error) => Err(Broken::from(&error)),
        }
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
            while let Ok(received) = timeout(QUIET, self.receiver.recv::<Body<Value>>()).await {
                if matches!(received, Err(RecvError::TransferLimitExceeded)) {
                    continue;
                }
                if let Some(event) = self.readable(received).await? {
                    self.receiver.release(event).await.map_err(|_| lost())?;
                }
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

/// The result of a future that need not wait.
async fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
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
