//! Handing messages to the host, and learning what it has dealt with.
//!
//! A connection usually has one subscription: then a message costs one entry in a batch. With several, each message goes to
//! those whose filters match. Messages that come before there is any (a resumed session gets what it missed right after
//! CONNACK) are kept for the first, a bounded number of them; beyond that no more is read. Only who has to read on, since
//! a publisher's confirmations stand behind them, takes no more of them: the server sends these again, but not before the
//! next connection.

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::MAX_BATCH;

use crate::message::Filler;
use crate::session::{Deliver, Message};
use crate::wire::{QoS, topic};

/// Messages and bytes that are kept while there is no subscription.
const EARLY_MESSAGES: usize = 4 * MAX_BATCH;
const EARLY_BYTES: usize = 4 << 20;
/// Bytes handed over and not yet dealt with, above which no more is read: the queue counts batches, and messages may be
/// large.
const UNREAD_BYTES: usize = 8 << 20;

struct Sink {
    token: u64,
    filters: Vec<String>,
    sender: BatchSender,
    /// Messages handed to this sink since its start.
    handed: u64,
}

/// Messages handed over in one go, and the session's ordinal of the last of them.
struct Handed {
    token: u64,
    /// The sink's count before and after.
    from: u64,
    to: u64,
    ordinal: u64,
    /// They are the session's last `to - from` messages, for no other subscription was there.
    alone: bool,
    /// The count that the sink had dealt with when it was dropped.
    settled: Option<u64>,
    bytes: usize,
}

/// All subscriptions of a connection.
#[derive(Default)]
pub(super) struct Sinks {
    sinks: Vec<Sink>,
    handed: VecDeque<Handed>,
    unread: usize,
    /// Batches for which there was no room yet, or no subscription.
    waiting: VecDeque<Waiting>,
    early: usize,
    early_bytes: usize,
    /// Messages for which there is no room are passed over.
    passing_over: bool,
    /// QoS 0 messages that were passed over.
    dropped: u64,
    /// Others that were.
    refused: u64,
    consumed: u64,
}

struct Waiting {
    token: Option<u64>,
    batch: Batch,
    ordinal: u64,
    alone: bool,
    bytes: usize,
}

impl Sinks {
    /// Adds a subscription, before its SUBSCRIBE goes out: retained messages may come before SUBACK.
    pub(super) fn add(&mut self, token: u64, filters: Vec<String>, sender: BatchSender) {
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.token.is_none()) {
            waiting.token = Some(token);
        }
        (self.early, self.early_bytes) = (0, 0);
        self.sinks.push(Sink { token, filters, sender, handed: 0 });
    }

    /// The filters of a subscription that is no more, for UNSUBSCRIBE: those that no other one has.
    pub(super) fn remove(&mut self, token: u64) -> Vec<String> {
        let Some(at) = self.sinks.iter().position(|sink| sink.token == token) else { return Vec::new() };
        let removed = self.sinks.remove(at);
        self.waiting.retain(|waiting| waiting.token != Some(token));
        let settled = removed.sender.consumed();
        self.handed
            .iter_mut()
            .filter(|handed| handed.token == token)
            .for_each(|handed| handed.settled = Some(settled));
        let others = |filter: &String| self.sinks.iter().any(|sink| sink.filters.contains(filter));
        removed.filters.into_iter().filter(|filter| !others(filter)).collect()
    }

    /// Subscriptions that the host has dropped.
    pub(super) fn closed(&self) -> Vec<u64> {
        self.sinks.iter().filter(|sink| sink.sender.is_closed()).map(|sink| sink.token).collect()
    }

    /// Whether more messages may be read. `confirmations`: somebody waits for what stands behind them; while there is no
    /// subscription that would make room, they are passed over.
    pub(super) fn has_room(&mut self, confirmations: bool) -> bool {
        if self.sinks.is_empty() {
            self.passing_over = confirmations;
            return confirmations || self.has_early_room();
        }
        self.waiting.is_empty() && self.unread < UNREAD_BYTES
    }

    fn has_early_room(&self) -> bool {
        self.early < EARLY_MESSAGES && self.early_bytes < EARLY_BYTES
    }

    /// Hands over what waits, as far as there is room now.
    pub(super) fn flush(&mut self) {
        while let Some(token) = self.waiting.front().and_then(|waiting| waiting.token) {
            let Some(sink) = self.sinks.iter_mut().find(|sink| sink.token == token) else {
                self.waiting.pop_front();
                continue;
            };
            if sink.sender.is_closed() {
                self.waiting.pop_front();
                continue;
            }
            let Some(permit) = sink.sender.try_reserve() else { return };
            let Some(waiting) = self.waiting.pop_front() else { return };
            let from = sink.handed;
            sink.handed += waiting.batch.len() as u64;
            self.handed.push_back(Handed {
                token,
                from,
                to: sink.handed,
                ordinal: waiting.ordinal,
                alone: waiting.alone,
                settled: None,
                bytes: waiting.bytes,
            });
            self.unread += waiting.bytes;
            permit.send(waiting.batch);
        }
    }

    /// Waits until there may be room, or the host has dealt with something, or has dropped a subscription.
    pub(super) async fn changed(&self) {
        if self.sinks.is_empty() {
            return pending().await;
        }
        let blocked = self.waiting.front().and_then(|waiting| waiting.token);
        let mut waits: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = Vec::new();
        if let [sink] = self.sinks.as_slice() {
            // The usual case, without an allocation.
            let (mut progress, mut closed) = (pin!(sink.sender.progress()), pin!(sink.sender.closed()));
            let mut room = pin!(async {
                match blocked {
                    Some(_) => drop(sink.sender.reserve().await),
                    None => pending().await,
                }
            });
            return poll_fn(|context| {
                if progress.as_mut().poll(context).is_ready()
                    || room.as_mut().poll(context).is_ready()
                    || closed.as_mut().poll(context).is_ready()
                {
                    return Poll::Ready(());
                }
                Poll::Pending
            })
            .await;
        }
        for sink in &self.sinks {
            waits.push(Box::pin(sink.sender.progress()));
            waits.push(Box::pin(sink.sender.closed()));
            if blocked == Some(sink.token) {
                waits.push(Box::pin(async { drop(sink.sender.reserve().await) }));
            }
        }
        poll_fn(|context| {
            if waits.iter_mut().any(|wait| wait.as_mut().poll(context).is_ready()) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// The ordinal up to which everything has been dealt with. What a dropped subscription had not dealt with is passed
    /// over: it is acknowledged only if another subscription gets to a later message.
    pub(super) fn consumed(&mut self) -> u64 {
        while let Some(handed) = self.handed.front() {
            let sink = self.sinks.iter().find(|sink| sink.token == handed.token);
            let dealt = handed.settled.or(sink.map(|sink| sink.sender.consumed())).unwrap_or(handed.from);
            if dealt >= handed.to {
                self.consumed = handed.ordinal;
            } else if handed.alone && dealt > handed.from {
                // A part of it. Of what comes after it nothing has been dealt with, and what came before may be passed over.
                self.consumed = handed.ordinal - (handed.to - dealt);
            }
            if dealt < handed.to && handed.settled.is_none() {
                break;
            }
            self.unread -= handed.bytes;
            self.handed.pop_front();
        }
        self.consumed
    }

    /// Starts taking the messages of one read buffer, which holds `count` packets.
    pub(super) fn collect<'s>(&'s mut self, buffer: &'s Bytes, count: usize) -> Collector<'s> {
        Collector { sinks: self, buffer, count, fillers: Vec::new(), bytes: 0 }
    }

    /// How many QoS 0 messages were lost for want of a subscription since this was last asked.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// How many others were passed over since this was last asked: the server still has them.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Ends all subscriptions with an error.
    pub(super) async fn fail(&mut self, error: &Error) {
        for sink in self.sinks.drain(..) {
            sink.sender.fail(error.clone()).await;
        }
    }
}

/// Takes the messages of one read buffer.
pub(super) struct Collector<'s> {
    sinks: &'s mut Sinks,
    buffer: &'s Bytes,
    count: usize,
    /// One for each subscription, made with the first message: most reads of a publisher hold none.
    fillers: Vec<Filler>,
    bytes: usize,
}

impl Collector<'_> {
    #[cold]
    fn start(&mut self) {
        self.fillers = (0..self.sinks.sinks.len().max(1))
            .map(|_| Filler::new(self.buffer.clone(), self.count))
            .collect();
    }
}

impl Deliver for Collector<'_> {
    #[inline]
    fn deliver(&mut self, message: &Message<'_>) -> bool {
        if self.fillers.is_empty() {
            self.start();
        }
        let size = message.payload.len();
        match self.sinks.sinks.as_slice() {
            [] => {
                if self.sinks.passing_over && !self.sinks.has_early_room() {
                    match message.qos {
                        QoS::AtMostOnce => self.sinks.dropped += 1,
                        QoS::AtLeastOnce | QoS::ExactlyOnce => self.sinks.refused += 1,
                    }
                    return false;
                }
                self.sinks.early += 1;
                self.sinks.early_bytes += size;
                self.fillers[0].add(message);
            }
            [_] => self.fillers[0].add(message),
            sinks => {
                let topic = message.topic();
                for (sink, filler) in sinks.iter().zip(&mut self.fillers) {
                    if sink.filters.iter().any(|filter| topic::matches(filter, topic)) {
                        filler.add(message);
                    }
                }
            }
        }
        self.bytes += size;
        true
    }
}

impl Collector<'_> {
    /// Hands the messages over. `delivered` is the session's ordinal of the last one.
    pub(super) fn finish(self, delivered: u64) {
        for (at, filler) in self.fillers.into_iter().enumerate() {
            if !filler.is_empty() {
                let token = self.sinks.sinks.get(at).map(|sink| sink.token);
                let batch = filler.finish();
                let alone = self.sinks.sinks.len() < 2;
                self.sinks.waiting.push_back(Waiting {
                    token,
                    batch,
                    ordinal: delivered,
                    alone,
                    bytes: self.bytes,
                });
            }
        }
        self.sinks.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracemq_plugin_api::sdk::{BatchBuilder, Part, queue};

    fn batch(count: usize) -> Batch {
        let mut batch = BatchBuilder::with_capacity(count);
        for _ in 0..count {
            batch.add(Part::Copied(b"t"), Part::Copied(b"x"));
        }
        batch.finish()
    }

    fn hand(sinks: &mut Sinks, token: u64, count: usize, ordinal: u64) {
        let waiting = Waiting { token: Some(token), batch: batch(count), ordinal, alone: true, bytes: count };
        sinks.waiting.push_back(waiting);
        sinks.flush();
    }

    #[tokio::test]
    async fn what_a_dropped_subscription_had_not_dealt_with_is_not_acknowledged() {
        let (mut sinks, (sender, subscription)) = (Sinks::default(), queue(8));
        sinks.add(1, vec!["t".into()], sender);
        for ordinal in [4, 8, 12] {
            hand(&mut sinks, 1, 4, ordinal);
        }
        // Six of twelve, in batches of four, two, and then the end.
        for (most, count) in [(4, 4), (2, 2)] {
            assert_eq!(subscription.next_batch(most).await.unwrap().len(), count);
        }
        subscription.close().await;
        assert_eq!(sinks.consumed(), 6);
        sinks.remove(1);
        assert_eq!(sinks.consumed(), 6);
        // Another one that gets to a later message acknowledges what was passed over.
        let (sender, next) = queue(8);
        sinks.add(2, vec!["t".into()], sender);
        hand(&mut sinks, 2, 3, 15);
        assert_eq!(sinks.consumed(), 6);
        next.next_batch(MAX_BATCH).await.unwrap();
        next.close().await;
        assert_eq!(sinks.consumed(), 15);
    }
}
