//! Handing messages to the host.
//!
//! Every subscription gets every message: neither WebSocket nor a raw socket has topics. What comes before there is a
//! subscription is kept, a bounded number of bytes. Then the socket is not read, so that nothing is lost; unless something
//! was published, for a server that answers to nobody's ear must not stand still: then the oldest goes.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;

use futures_util::future::select_all;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::MessageView;

use crate::link::{Kind, Taken};

/// Bytes that are kept while there is no subscription.
const EARLY_BYTES: usize = 1 << 20;
/// Bytes handed over and not yet dealt with, above which no more is read: the queue counts batches, and messages may be
/// large.
const UNREAD_BYTES: usize = 8 << 20;

struct Sink {
    sender: BatchSender,
    pings: bool,
    request: bool,
    /// A batch for which there was no room yet.
    waiting: VecDeque<Batch>,
    /// Messages handed over since the start.
    handed: u64,
    /// Of what was handed over and not dealt with: the count after it, and its bytes.
    unread: VecDeque<(u64, usize)>,
    unread_bytes: usize,
}

impl Sink {
    fn flush(&mut self) {
        while !self.waiting.is_empty() {
            let Some(permit) = self.sender.try_reserve() else { return };
            let Some(batch) = self.waiting.pop_front() else { return };
            permit.send(batch);
        }
    }

    fn push(&mut self, batch: Batch, bytes: usize) {
        self.handed += batch.len() as u64;
        self.unread.push_back((self.handed, bytes));
        self.unread_bytes += bytes;
        self.waiting.push_back(batch);
        self.flush();
    }

    fn has_room(&mut self) -> bool {
        let consumed = self.sender.consumed();
        while let Some((count, bytes)) = self.unread.front().copied() {
            if count > consumed {
                break;
            }
            self.unread_bytes -= bytes;
            self.unread.pop_front();
        }
        self.waiting.is_empty() && self.unread_bytes < UNREAD_BYTES
    }
}

/// All subscriptions of a connection.
#[derive(Default)]
pub(super) struct Sinks {
    sinks: Vec<Sink>,
    early: VecDeque<(Batch, usize)>,
    early_bytes: usize,
    /// Messages of `early` that had to go.
    dropped: u64,
    /// Whether a full `early` loses its oldest.
    discard: bool,
}

impl Sinks {
    /// A subscription, which gets what came before it.
    pub(super) fn subscribe(&mut self, sender: BatchSender, pings: bool) {
        let mut sink = Sink::new(sender, pings, false);
        if self.dropped > 0 {
            let mut batch = BatchBuilder::new();
            batch.set_dropped(std::mem::take(&mut self.dropped));
            sink.push(batch.finish(), 0);
        }
        for (batch, bytes) in self.early.drain(..) {
            sink.push(if pings { batch } else { batch.filter(is_data) }, bytes);
        }
        self.early_bytes = 0;
        self.sinks.push(sink);
    }

    /// A request, which gets what comes from now on: what came before it is no answer.
    pub(super) fn request(&mut self, sender: BatchSender) {
        self.sinks.push(Sink::new(sender, false, true));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sinks.is_empty()
    }

    /// From here on messages for which there is no subscription may be lost.
    pub(super) fn published(&mut self) {
        self.discard = true;
    }

    pub(super) fn deliver(&mut self, taken: &Taken) {
        if self.sinks.is_empty() {
            let Some(batch) = taken.batch(true) else { return };
            self.early_bytes += taken.bytes;
            self.early.push_back((batch, taken.bytes));
            while self.discard && self.early_bytes > EARLY_BYTES {
                let Some((batch, bytes)) = self.early.pop_front() else { return };
                self.early_bytes -= bytes;
                self.dropped += batch.len() as u64;
            }
            return;
        }
        for sink in &mut self.sinks {
            if let Some(batch) = taken.batch(sink.pings) {
                sink.push(batch, taken.bytes);
            }
        }
    }

    /// Whether more messages may be read.
    pub(super) fn has_room(&mut self) -> bool {
        if self.sinks.is_empty() {
            return self.discard || self.early_bytes < EARLY_BYTES;
        }
        self.sinks.iter_mut().all(Sink::has_room)
    }

    /// Hands over what waits, and forgets subscriptions that the host has dropped.
    pub(super) fn flush(&mut self) {
        self.sinks.iter_mut().for_each(Sink::flush);
        let before = self.sinks.len();
        self.sinks.retain(|sink| !sink.sender.is_closed());
        // What nobody wants any more must not hold up the rest.
        self.discard |= self.sinks.is_empty() && before > 0;
    }

    /// Waits until there may be room, or the host has dealt with something, or has dropped a subscription.
    pub(super) async fn changed(&self) {
        let mut waits: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = Vec::new();
        for sink in &self.sinks {
            waits.push(Box::pin(sink.sender.closed()));
            if !sink.waiting.is_empty() {
                waits.push(Box::pin(async { drop(sink.sender.reserve().await) }));
            } else if sink.unread_bytes >= UNREAD_BYTES {
                waits.push(Box::pin(sink.sender.progress()));
            }
        }
        match waits.is_empty() {
            true => pending().await,
            false => drop(select_all(waits).await),
        }
    }

    /// The connection is lost: no request will be answered any more.
    pub(super) async fn fail_requests(&mut self, error: &Error) {
        let (requests, rest) = self.sinks.drain(..).partition(|sink| sink.request);
        self.sinks = rest;
        finish(requests, Some(error)).await;
    }

    /// Ends all subscriptions, after what they still have to get.
    pub(super) async fn end(&mut self, error: Option<&Error>) {
        finish(std::mem::take(&mut self.sinks), error).await;
    }
}

impl Sink {
    fn new(sender: BatchSender, pings: bool, request: bool) -> Sink {
        let (waiting, unread) = (VecDeque::new(), VecDeque::new());
        Sink { sender, pings, request, waiting, handed: 0, unread, unread_bytes: 0 }
    }
}

/// Whether a message is none of a WebSocket's pings and pongs.
fn is_data(message: &MessageView<'_>) -> bool {
    let control = [Kind::Ping, Kind::Pong].map(|kind| MetaValue::Text(kind.name()));
    !message.meta().any(|(name, value)| name == "type" && control.contains(&value))
}

async fn finish(sinks: Vec<Sink>, error: Option<&Error>) {
    for sink in sinks {
        for batch in sink.waiting {
            if !sink.sender.send(batch).await {
                break;
            }
        }
        if let Some(error) = error {
            sink.sender.fail(error.clone()).await;
        }
    }
}
