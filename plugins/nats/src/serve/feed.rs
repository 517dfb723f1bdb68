//! The messages of clients on their way to the host.
//!
//! A read's messages go over as one block: the bytes that were read, and where the messages stand in them. Nothing waits for
//! the host: when it is slower than the clients the oldest blocks are dropped, and their messages counted.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tracemq_plugin_api::sdk::{Batch, BatchBuilder, MAX_BATCH, MetaValue, Part, now};

use super::parse::{Publish, Span};
use crate::wire::{Block as Headers, Line};

/// The most bytes that wait for the host.
const MAX_BYTES: usize = 32 << 20;
/// What a message weighs beside its bytes.
const RECORD: usize = size_of::<Publish>();

/// Messages of one read.
#[derive(Debug)]
pub struct Block {
    pub bytes: Bytes,
    pub messages: Vec<Publish>,
    /// The number of the client that sent them.
    pub client: u64,
    /// Nanoseconds since 1970-01-01 UTC.
    pub time: i64,
}

impl Block {
    pub fn new(bytes: Bytes, messages: Vec<Publish>, client: u64) -> Block {
        Block { bytes, messages, client, time: now() }
    }

    fn weight(&self) -> usize {
        self.bytes.len() + self.messages.len() * RECORD
    }
}

/// See the module. One reader, many writers.
#[derive(Debug, Default)]
pub struct Feed {
    state: Mutex<State>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct State {
    blocks: VecDeque<Block>,
    bytes: usize,
    lost: u64,
    /// The first block's messages that were handed out.
    at: usize,
    closed: bool,
}

impl Feed {
    pub fn push(&self, block: Block) {
        {
            let mut state = self.lock();
            if state.closed {
                return;
            }
            state.bytes += block.weight();
            state.blocks.push_back(block);
            while state.bytes > MAX_BYTES && state.blocks.len() > 1 {
                state.lost += state.blocks.front().map_or(0, |first| first.messages.len() - state.at) as u64;
                state.drop_first();
            }
        }
        self.ready.notify_one();
    }

    /// Nothing more will come; what is there can still be read.
    pub fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_one();
    }

    /// Waits for messages; at most [`MAX_BATCH`] of them. `None`: the server has stopped and all was read.
    pub async fn next(&self) -> Option<Batch> {
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_first(&mut self) {
        self.at = 0;
        if let Some(first) = self.blocks.pop_front() {
            self.bytes -= first.weight();
        }
    }

    fn take(&mut self) -> Batch {
        let mut builder = BatchBuilder::with_capacity(MAX_BATCH);
        builder.set_dropped(std::mem::take(&mut self.lost));
        while let Some(first) = self.blocks.front()
            && builder.len() < MAX_BATCH
        {
            builder.set_time(first.time);
            let client = builder.meta_range(&[("client", MetaValue::Uint(first.client))]);
            let buffer = builder.buffer(first.bytes.clone());
            let end = first.messages.len().min(self.at + MAX_BATCH - builder.len());
            for message in &first.messages[self.at..end] {
                let part = |span: Span| Part::In(buffer, span.range());
                let mut record = builder.add(part(message.subject), part(message.payload()));
                if let Some(reply) = message.reply {
                    record = record.reply(part(reply));
                }
                let Some(length) = message.headers else {
                    record.shared_meta(client);
                    continue;
                };
                let start = message.body.start as usize;
                let text = &first.bytes[start..start + length as usize];
                let headers = Headers::read(text);
                let malformed =
                    headers.error.is_some() || headers.clone().any(|line| matches!(line, Line::Malformed(_)));
                record = match headers.status {
                    None if !malformed => record.shared_meta(client),
                    _ => record.meta("client", MetaValue::Uint(first.client)),
                };
                if let Some(status) = headers.status {
                    record = record.meta("status", MetaValue::Uint(status.into()));
                }
                if malformed {
                    record = record.meta("malformed_headers", MetaValue::Bytes(text));
                }
                let at = |range: Range<usize>| Part::In(buffer, start + range.start..start + range.end);
                for line in headers {
                    if let Line::Field { name, value } = line {
                        record = record.header(at(name), at(value));
                    }
                }
            }
            self.at = end;
            if end == first.messages.len() {
                self.drop_first();
            }
        }
        builder.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::{Op, Step, parse};
    use super::*;

    fn block(text: &'static [u8], client: u64) -> Block {
        let mut messages = Vec::new();
        let mut at = 0;
        while let Ok(Step::Op(op, next)) = parse(text, at, 1000) {
            if let Op::Publish(publish) = op {
                messages.push(publish);
            }
            at = next;
        }
        Block::new(Bytes::from_static(text), messages, client)
    }

    #[tokio::test]
    async fn messages_of_several_blocks_come_as_one_batch() {
        let feed = Feed::default();
        feed.push(block(b"PUB a 1\r\nx\r\nPUB b r 1\r\ny\r\n", 1));
        feed.push(block(b"HPUB c 23 24\r\nNATS/1.0\r\nk: v\r\nbad\r\n\r\nz\r\n", 2));
        feed.close();
        let batch = feed.next().await.expect("messages");
        let shown: Vec<_> =
            batch.iter().map(|each| (each.topic_text(), each.payload(), each.reply())).collect();
        assert_eq!(
            shown,
            [
                ("a".into(), &b"x"[..], None),
                ("b".into(), &b"y"[..], Some(&b"r"[..])),
                ("c".into(), &b"z"[..], None)
            ]
        );
        let last = batch.get(2).expect("three");
        assert_eq!(last.headers().collect::<Vec<_>>(), [(&b"k"[..], &b"v"[..])]);
        let meta: Vec<_> = last.meta().map(|(name, _)| name).collect();
        assert_eq!(meta, ["client", "malformed_headers"]);
        assert!(feed.next().await.is_none());
    }

    #[tokio::test]
    async fn the_oldest_are_dropped_and_counted() {
        let feed = Feed::default();
        let large = |count: usize| Block {
            bytes: Bytes::from(vec![b'x'; MAX_BYTES / 2]),
            messages: block(b"PUB a 1\r\nx\r\n", 1).messages.repeat(count),
            client: 1,
            time: 0,
        };
        feed.push(large(300));
        assert_eq!(feed.next().await.expect("messages").len(), MAX_BATCH);
        feed.push(large(2));
        feed.push(large(3));
        let batch = feed.next().await.expect("messages");
        assert_eq!((batch.dropped(), batch.len()), (300 - MAX_BATCH as u64 + 2, 3));
    }
}
