//! The events that clients send on their way to the host.
//!
//! What was appended together goes over as one block: the records as they stand in the log. Nothing waits for the host: when
//! it is slower than the clients the oldest blocks are dropped, and their events counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tracemq_plugin_api::sdk::{Batch, BatchBuilder, MAX_BATCH};

use super::log::Record;
use super::partition::{Appended, Partition};
use super::show;

/// The most bytes that wait for the host.
const MAX_BYTES: usize = 32 << 20;

/// Events to be shown.
pub(super) struct Shown {
    partition: Arc<Partition>,
    bytes: Bytes,
    count: u64,
    /// The number of the client that sent them.
    client: u64,
    /// What was handed out: bytes and events.
    at: usize,
    given: u64,
}

impl Shown {
    pub(super) fn new(partition: &Arc<Partition>, appended: Appended, client: u64) -> Shown {
        let Appended { bytes, count, .. } = appended;
        Shown { partition: Arc::clone(partition), bytes, count, client, at: 0, given: 0 }
    }
}

/// See the module. One reader, many writers.
#[derive(Default)]
pub(super) struct Feed {
    state: Mutex<State>,
    ready: Notify,
}

#[derive(Default)]
struct State {
    blocks: VecDeque<Shown>,
    bytes: usize,
    lost: u64,
    closed: bool,
}

impl Feed {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, block: Shown) {
        {
            let mut state = self.lock();
            if state.closed {
                return;
            }
            state.bytes += block.bytes.len();
            state.blocks.push_back(block);
            while state.bytes > MAX_BYTES && state.blocks.len() > 1 {
                if let Some(first) = state.blocks.pop_front() {
                    state.lost += first.count - first.given;
                    state.bytes -= first.bytes.len();
                }
            }
        }
        self.ready.notify_one();
    }

    /// Nothing more will come; what is there can still be read.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_one();
    }

    /// Waits for events; at most [`MAX_BATCH`] of them. `None`: the server has stopped and all was read.
    pub(super) async fn next(&self) -> Option<Batch> {
        loop {
            {
                let mut state = self.lock();
                if !state.blocks.is_empty() {
                    return Some(state.take());
                }
                if state.closed {
                    return None;
                }
            }
            self.ready.notified().await;
        }
    }
}

impl State {
    fn take(&mut self) -> Batch {
        let mut builder = BatchBuilder::with_capacity(MAX_BATCH);
        builder.set_dropped(std::mem::take(&mut self.lost));
        while let Some(first) = self.blocks.front_mut()
            && builder.len() < MAX_BATCH
        {
            let buffer = builder.buffer(first.bytes.clone());
            let about = (&*first.partition.hub, first.partition.id.as_str(), first.client);
            while builder.len() < MAX_BATCH
                && let Some(record) = Record::read(&first.bytes[first.at..])
            {
                show::add(&mut builder, (buffer, &first.bytes), first.at, &record, about);
                first.at += record.length;
                first.given += 1;
            }
            if first.at >= first.bytes.len() {
                self.bytes -= first.bytes.len();
                self.blocks.pop_front();
            }
        }
        builder.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::Event;
    use super::super::retention::Retention;
    use super::*;
    use crate::wire::{Message, Writer, code};

    fn block(partition: &Arc<Partition>, count: usize, size: usize) -> Shown {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes).describe(code::DATA).binary(&vec![b'x'; size]);
        let event = Event::new(Message::read(&bytes).expect("a message"), None).expect("an event");
        Shown::new(partition, partition.append(&vec![event; count]).expect("it can be written"), 1)
    }

    #[tokio::test]
    async fn batches_of_several_blocks_and_blocks_of_several_batches() {
        let partition = Arc::new(Partition::in_memory("hub".into(), "0".into(), Retention::default()));
        let feed = Feed::default();
        for count in [1, 2, 400] {
            feed.push(block(&partition, count, 1));
        }
        feed.close();
        let first = feed.next().await.expect("a batch");
        let second = feed.next().await.expect("a batch");
        assert_eq!((first.len(), second.len()), (MAX_BATCH, 403 - MAX_BATCH));
        assert!(feed.next().await.is_none());
        assert_eq!(first.get(0).expect("the first").topic(), b"hub");
    }

    #[tokio::test]
    async fn the_oldest_are_dropped_and_counted() {
        let partition = Arc::new(Partition::in_memory("hub".into(), "0".into(), Retention::default()));
        let feed = Feed::default();
        for _ in 0..4 {
            feed.push(block(&partition, 3, MAX_BYTES / 9));
        }
        let batch = feed.next().await.expect("a batch");
        assert_eq!((batch.dropped(), batch.len()), (6, 6));
    }
}
