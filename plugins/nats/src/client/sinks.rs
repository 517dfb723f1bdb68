//! Handing messages to the host.
//!
//! A subscription's messages of one read go over in batches, straight from where they were parsed; only when the host is
//! behind do they wait in a ring. A message costs an entry in a batch and nothing else.

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use tracemq_plugin_api::prelude::*;

use super::ring::{Ring, Room, batch_of};
use crate::session::Route;
use crate::wire::{Block, MessageAt};

/// How a subscription is to be served.
pub(crate) struct Service {
    /// Bytes that may wait for the host.
    pub(crate) buffer: usize,
    pub(crate) lossless: bool,
    /// The subject of a request, for which these are the answers.
    pub(crate) request: Option<String>,
    /// Whoever asked sees to it that a lost connection leaves no gap.
    pub(crate) gapless: bool,
}

impl Service {
    fn has_gaps(&self) -> bool {
        self.request.is_none() && !self.gapless
    }
}

struct Sink {
    group: u64,
    sender: BatchSender,
    ring: Ring,
    service: Service,
    /// Messages of the present read.
    found: Vec<MessageAt>,
    /// Messages may have been missed before the next one.
    gap: bool,
    /// No other message will come.
    ended: bool,
    /// An error that ends it, once the ring is empty.
    failed: Option<Error>,
}

/// All subscriptions of a connection.
#[derive(Default)]
pub(super) struct Sinks {
    sinks: Vec<Sink>,
    /// Taken off subjects and replies.
    prefix: String,
}

impl Sinks {
    pub(super) fn new(prefix: &str) -> Sinks {
        Sinks { sinks: Vec::new(), prefix: prefix.to_owned() }
    }

    pub(super) fn add(&mut self, group: u64, sender: BatchSender, service: Service) {
        let ring = Ring::new(service.buffer, service.lossless);
        self.sinks.push(Sink {
            group,
            sender,
            ring,
            service,
            found: Vec::new(),
            gap: false,
            ended: false,
            failed: None,
        });
    }

    pub(super) fn remove(&mut self, group: u64) {
        self.sinks.retain(|sink| sink.group != group);
    }

    /// Subscriptions that the host has dropped.
    pub(super) fn closed(&self) -> Vec<u64> {
        self.sinks.iter().filter(|sink| sink.sender.is_closed()).map(|sink| sink.group).collect()
    }

    /// Whether there are subscriptions for which a lost connection leaves a gap.
    pub(super) fn any(&self) -> bool {
        self.sinks.iter().any(|sink| sink.service.has_gaps() && !sink.ended)
    }

    /// The next message of each subscription comes after a gap.
    pub(super) fn mark_gap(&mut self) {
        for sink in self.sinks.iter_mut().filter(|sink| sink.service.has_gaps()) {
            sink.gap = true;
        }
    }

    /// Notes a message of the present read.
    #[inline]
    pub(super) fn note(&mut self, route: Route, at: MessageAt) {
        let found = match self.sinks.as_mut_slice() {
            [only] if only.group == route.group => Some(only),
            sinks => sinks.iter_mut().find(|sink| sink.group == route.group),
        };
        if let Some(sink) = found {
            sink.found.push(at);
            sink.ended |= route.last;
        }
    }

    /// Hands over what was noted of `block`.
    pub(super) fn deliver(&mut self, block: &Bytes, time: i64) {
        for sink in &mut self.sinks {
            if !sink.found.is_empty() {
                sink.deliver(block, time, &self.prefix);
            }
        }
        self.settle();
    }

    /// No other message will come for a group.
    pub(super) fn end(&mut self, group: u64, error: Option<Error>) {
        if let Some(sink) = self.sinks.iter_mut().find(|sink| sink.group == group) {
            sink.ended = true;
            sink.failed = sink.failed.take().or(error);
        }
        self.settle();
    }

    /// Hands over what waits, as far as there is room now.
    pub(super) fn flush(&mut self) {
        for sink in &mut self.sinks {
            sink.flush(&self.prefix);
        }
        self.settle();
    }

    /// Lets go of subscriptions that have ended and have been handed over whole.
    fn settle(&mut self) {
        self.sinks.retain_mut(|sink| {
            if !sink.ended || !sink.ring.is_empty() {
                return true;
            }
            match sink.failed.take() {
                None => false,
                Some(error) => {
                    let sender = sink.sender.clone();
                    // The host may be slow to take it, and this task has a socket to read.
                    tracemq_plugin_api::sdk::spawn(async move { sender.fail(error).await });
                    false
                }
            }
        });
    }

    /// Whether more messages may be read; and if not, until when.
    pub(super) fn has_room(&mut self, now: Instant) -> Room {
        let mut until = None;
        for sink in self.sinks.iter_mut().filter(|sink| !sink.ended) {
            if let Room::None { until: end } = sink.ring.has_room(now) {
                match end {
                    None => return Room::None { until: None },
                    Some(_) => until = end,
                }
            }
        }
        match until {
            None => Room::Some,
            Some(_) => Room::None { until },
        }
    }

    /// Waits until there may be room in the host's queue for what waits, or the host has dropped a subscription.
    pub(super) async fn changed(&self) {
        if let [sink] = self.sinks.as_slice() {
            // The usual case, without an allocation.
            let (mut room, mut closed) = (pin!(sink.room()), pin!(sink.sender.closed()));
            return poll_fn(|context| {
                if room.as_mut().poll(context).is_ready() || closed.as_mut().poll(context).is_ready() {
                    return Poll::Ready(());
                }
                Poll::Pending
            })
            .await;
        }
        if self.sinks.is_empty() {
            return pending().await;
        }
        let mut waits: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = Vec::new();
        for sink in &self.sinks {
            waits.push(Box::pin(sink.room()));
            waits.push(Box::pin(sink.sender.closed()));
        }
        poll_fn(|context| match waits.iter_mut().any(|wait| wait.as_mut().poll(context).is_ready()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    /// Ends all subscriptions with an error, after what waits.
    pub(super) async fn fail(&mut self, error: &Error) {
        for mut sink in self.sinks.drain(..) {
            while let Some(batch) = sink.ring.next_batch(&self.prefix) {
                if !sink.sender.send(batch).await {
                    break;
                }
            }
            sink.sender.fail(error.clone()).await;
        }
    }
}

impl Sink {
    fn deliver(&mut self, block: &Bytes, time: i64, prefix: &str) {
        if let Some(subject) = &self.service.request
            && self.found.iter().any(|at| says_nobody(block, at))
        {
            self.failed = Some(
                Error::new(ErrorKind::NO_RESPONDERS, format!("nobody is subscribed to {subject:?}"))
                    .code("503")
                    .hint("check the subject, and whether the service that should answer is running"),
            );
            self.ended = true;
            self.found.clear();
            return;
        }
        let gap = std::mem::take(&mut self.gap);
        match self.sender.try_reserve().filter(|_| self.ring.is_empty()) {
            Some(permit) => permit.send(batch_of(block, &self.found, time, gap, prefix)),
            None => {
                self.ring.push(block, &self.found, time, gap);
                self.flush(prefix);
            }
        }
        self.found.clear();
    }

    fn flush(&mut self, prefix: &str) {
        while !self.ring.is_empty() {
            let Some(permit) = self.sender.try_reserve() else { return };
            let Some(batch) = self.ring.next_batch(prefix) else { return };
            permit.send(batch);
        }
    }

    async fn room(&self) {
        match self.ring.is_empty() {
            true => pending().await,
            // Whether the host is gone is seen by the other wait.
            false => drop(self.sender.reserve().await),
        }
    }
}

/// Whether an answer is the server's: nobody is there (ADR-4 of NATS: status 503, no payload).
fn says_nobody(block: &Bytes, at: &MessageAt) -> bool {
    at.has_headers() && at.payload().is_empty() && Block::read(&block[at.headers()]).status == Some(503)
}
