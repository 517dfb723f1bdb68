//! What waits for the host, bounded by bytes.
//!
//! A server cuts a client off that does not read, and slows down those who publish to it: so an inspector reads on and drops
//! the oldest, counting each. Before it drops, it waits a moment for a host that is only a little slower: a server does
//! not notice a pause of [`PAUSE`], and a host that keeps up loses nothing. A host that made no use of such a pause is not
//! given another until it has taken something.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracemq_plugin_api::prelude::{Batch, BatchBuilder};
use tracemq_plugin_api::sdk::MAX_BATCH;

use crate::message::Filler;
use crate::wire::MessageAt;

/// How long reading may stop before messages are dropped.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// Small chunks are put together up to so many bytes: the host takes its bounded number of batches.
const BATCH_BYTES: usize = 256 * 1024;
/// What a message costs beside its bytes.
const OVERHEAD: usize = size_of::<MessageAt>() + 8;

/// Messages of one read.
struct Chunk {
    block: Bytes,
    messages: Vec<MessageAt>,
    bytes: usize,
    time: i64,
    gap: bool,
}

pub(super) struct Ring {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    limit: usize,
    lossless: bool,
    /// Messages dropped and not yet told.
    dropped: u64,
    /// Since when reading has stopped for want of room.
    full: Option<Instant>,
    /// Bytes that the host has to take before another pause is worth it.
    owed: usize,
}

impl Ring {
    pub(super) fn new(limit: usize, lossless: bool) -> Ring {
        Ring { chunks: VecDeque::new(), bytes: 0, limit, lossless, dropped: 0, full: None, owed: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(super) fn push(&mut self, block: &Bytes, messages: &[MessageAt], time: i64, gap: bool) {
        let bytes = messages.iter().map(size_of_message).sum();
        self.bytes += bytes;
        self.chunks.push_back(Chunk { block: block.clone(), messages: messages.to_vec(), bytes, time, gap });
    }

    /// Whether more may be read; and if not, until when at most that stays so. May drop the oldest messages, and says how
    /// many.
    pub(super) fn has_room(&mut self, now: Instant) -> Room {
        if self.bytes <= self.limit {
            // Once reading has stopped, it is worth while only for more than a read or two.
            if self.full.is_none() || self.bytes <= self.limit / 4 * 3 {
                self.full = None;
                return Room::Some;
            }
        }
        let since = *self.full.get_or_insert(now);
        if self.lossless {
            return Room::None { until: None };
        }
        if self.owed == 0 && now < since + PAUSE {
            return Room::None { until: Some(since + PAUSE) };
        }
        if self.bytes > self.limit {
            self.drop_oldest();
            self.owed = self.limit / 4;
        }
        self.full = None;
        Room::Some
    }

    fn drop_oldest(&mut self) {
        // The newest stay, however large.
        while self.bytes > self.limit / 4 * 3
            && self.chunks.len() > 1
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.bytes -= chunk.bytes;
            self.dropped += chunk.messages.len() as u64;
            // Where messages may be missing stays known.
            if let (true, Some(next)) = (chunk.gap, self.chunks.front_mut()) {
                next.gap = true;
            }
        }
    }

    /// The next messages for the host, with the number of those dropped before them.
    pub(super) fn next_batch(&mut self, prefix: &str) -> Option<Batch> {
        let first = self.chunks.pop_front()?;
        let mut builder = BatchBuilder::with_capacity(first.messages.len());
        builder.set_dropped(std::mem::take(&mut self.dropped));
        let mut bytes = self.fill(&mut builder, &first, prefix);
        while let Some(next) = self.chunks.front()
            && builder.len() + next.messages.len() <= MAX_BATCH
            && bytes + next.bytes <= BATCH_BYTES
            && let Some(next) = self.chunks.pop_front()
        {
            bytes += self.fill(&mut builder, &next, prefix);
        }
        Some(builder.finish())
    }

    fn fill(&mut self, builder: &mut BatchBuilder, chunk: &Chunk, prefix: &str) -> usize {
        self.bytes -= chunk.bytes;
        self.owed = self.owed.saturating_sub(chunk.bytes);
        fill(builder, &chunk.block, &chunk.messages, chunk.time, chunk.gap, prefix);
        chunk.bytes
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Some,
    None { until: Option<Instant> },
}

/// A batch of messages that need not wait.
pub(super) fn batch_of(block: &Bytes, messages: &[MessageAt], time: i64, gap: bool, prefix: &str) -> Batch {
    let mut builder = BatchBuilder::with_capacity(messages.len());
    fill(&mut builder, block, messages, time, gap, prefix);
    builder.finish()
}

fn fill(
    builder: &mut BatchBuilder,
    block: &Bytes,
    messages: &[MessageAt],
    time: i64,
    gap: bool,
    prefix: &str,
) {
    builder.set_time(time);
    let mut filler = Filler::new(builder, block, prefix);
    for (index, at) in messages.iter().enumerate() {
        filler.add(at, gap && index == 0);
    }
}

fn size_of_message(at: &MessageAt) -> usize {
    at.payload().end - at.subject().start + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Limits, Op, Scan, scan};
    use proptest::prelude::*;

    /// A chunk of messages whose payloads are numbers.
    fn chunk(first: u64, count: u64) -> (Bytes, Vec<MessageAt>) {
        let mut text = Vec::new();
        let mut at = Vec::new();
        for number in first..first + count {
            let payload = number.to_string();
            let start = text.len();
            text.extend(format!("MSG s 1 {}\r\n{payload}\r\n", payload.len()).into_bytes());
            let Ok(Scan::Op(Op::Message(mut found), _)) = scan(&text[start..], &Limits::default()) else {
                panic!("a message")
            };
            found.shift(start as u32);
            at.push(found);
        }
        (text.into(), at)
    }

    fn numbers(batch: &Batch) -> Vec<u64> {
        batch.iter().map(|message| std::str::from_utf8(message.payload()).unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn a_host_that_stands_still_loses_the_oldest_after_one_pause() {
        let mut ring = Ring::new(10_000, false);
        let mut now = Instant::now();
        let mut next = 0;
        let mut fill = |ring: &mut Ring, now| {
            let mut rooms = 0;
            while ring.has_room(now) == Room::Some && rooms < 1000 {
                let (block, messages) = chunk(next, 10);
                ring.push(&block, &messages, 0, false);
                next += 10;
                rooms += 1;
            }
            rooms
        };
        let rooms = fill(&mut ring, now);
        assert!(rooms > 10 && rooms < 1000, "{rooms}");
        assert_eq!(ring.has_room(now), Room::None { until: Some(now + PAUSE) });
        now += PAUSE;
        assert_eq!(fill(&mut ring, now), 1000, "no second pause");
        let mut expected = 0;
        let mut lost = 0;
        while let Some(batch) = ring.next_batch("") {
            lost += batch.dropped();
            expected += batch.dropped();
            for number in numbers(&batch) {
                assert_eq!(number, expected);
                expected += 1;
            }
        }
        assert_eq!(expected, next);
        assert!(lost > 0);
        assert_eq!(ring.bytes, 0);
    }

    #[test]
    fn a_lossless_ring_waits_for_ever() {
        let mut ring = Ring::new(1000, true);
        let (block, messages) = chunk(0, 100);
        ring.push(&block, &messages, 0, false);
        let now = Instant::now();
        assert_eq!(ring.has_room(now), Room::None { until: None });
        assert_eq!(ring.has_room(now + Duration::from_secs(3600)), Room::None { until: None });
        assert_eq!(ring.next_batch("").map(|batch| (batch.len(), batch.dropped())), Some((100, 0)));
        assert_eq!(ring.has_room(now), Room::Some);
    }

    proptest! {
        /// Whatever the host and the server do: each message is handed over once, in order, or counted.
        #[test]
        fn every_message_is_accounted_for(steps in proptest::collection::vec((0_u64..300, 0_usize..4, 0_u64..150), 1..60)) {
            let mut ring = Ring::new(20_000, false);
            let (mut now, mut next, mut expected) = (Instant::now(), 0, 0);
            let mut take = |ring: &mut Ring| -> bool {
                let Some(batch) = ring.next_batch("") else { return false };
                assert!(batch.len() <= MAX_BATCH);
                expected += batch.dropped();
                for number in numbers(&batch) {
                    assert_eq!(number, expected);
                    expected += 1;
                }
                true
            };
            for (arrived, taken, passed) in steps {
                if ring.has_room(now) == Room::Some && arrived > 0 {
                    let count = arrived.min(MAX_BATCH as u64);
                    let (block, messages) = chunk(next, count);
                    ring.push(&block, &messages, 0, false);
                    next += count;
                }
                for _ in 0..taken {
                    take(&mut ring);
                }
                now += Duration::from_millis(passed);
            }
            while take(&mut ring) {}
            prop_assert_eq!(expected, next);
            prop_assert_eq!(ring.bytes, 0);
        }
    }
}
