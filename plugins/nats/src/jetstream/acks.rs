//! Messages that were handed to the host and are not acknowledged yet.

use std::collections::VecDeque;

use bytes::Bytes;
use tracemq_plugin_api::prelude::{Batch, BatchBuilder, Part};
use tracemq_plugin_api::sdk::MAX_BATCH;

/// Reply subjects, in the order of the messages.
#[derive(Default)]
pub(super) struct Acks {
    open: VecDeque<Bytes>,
    /// Messages before the first of `open`.
    settled: u64,
}

impl Acks {
    pub(super) fn add(&mut self, reply: &[u8]) {
        self.open.push_back(Bytes::copy_from_slice(reply));
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Acknowledgements for what the host has dealt with: so many messages since the start.
    pub(super) fn consumed(&mut self, consumed: u64) -> Vec<Batch> {
        let count = usize::try_from(consumed.saturating_sub(self.settled)).unwrap_or(usize::MAX);
        self.settle(count.min(self.open.len()), b"+ACK")
    }

    /// Gives back what the host will not deal with: another may have it at once.
    pub(super) fn give_back(&mut self) -> Vec<Batch> {
        self.settle(self.open.len(), b"-NAK")
    }

    fn settle(&mut self, count: usize, answer: &'static [u8]) -> Vec<Batch> {
        self.settled += count as u64;
        let replies: Vec<_> = self.open.drain(..count).collect();
        replies
            .chunks(MAX_BATCH)
            .map(|replies| {
                let mut batch = BatchBuilder::with_capacity(replies.len());
                let payload = batch.buffer(Bytes::from_static(answer));
                for reply in replies {
                    batch.add(Part::Copied(reply), Part::In(payload, 0..answer.len()));
                }
                batch.finish()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(batches: &[Batch]) -> Vec<String> {
        batches
            .iter()
            .flat_map(Batch::iter)
            .map(|message| format!("{} {}", message.topic_text(), String::from_utf8_lossy(message.payload())))
            .collect()
    }

    #[test]
    fn only_what_was_dealt_with_is_acknowledged() {
        let mut acks = Acks::default();
        ["a", "b", "c"].iter().for_each(|reply| acks.add(reply.as_bytes()));
        assert!(acks.consumed(0).is_empty());
        assert_eq!(shown(&acks.consumed(2)), ["a +ACK", "b +ACK"]);
        assert!(acks.consumed(2).is_empty());
        assert_eq!(shown(&acks.give_back()), ["c -NAK"]);
        assert!(acks.is_empty());
        acks.add(b"d");
        assert_eq!(shown(&acks.consumed(4)), ["d +ACK"]);
    }

    #[test]
    fn no_batch_is_too_large() {
        let mut acks = Acks::default();
        (0..600).for_each(|_| acks.add(b"r"));
        assert_eq!(acks.consumed(600).iter().map(Batch::len).collect::<Vec<_>>(), [256, 256, 88]);
    }
}
