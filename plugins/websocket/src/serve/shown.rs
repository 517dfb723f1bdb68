//! What a client sent, on its way to the host.
//!
//! Waking the host costs more than what it does with a few messages: they are put together up to a full batch, or for a
//! moment that nobody notices.

use std::time::Duration;

use tokio::time::Instant;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{MAX_BATCH, now};

use crate::link::Taken;

/// How long a message may wait for others.
const MOMENT: Duration = Duration::from_millis(1);
/// Bytes that are put together, beside what one read brings.
const BYTES: usize = 256 * 1024;

#[derive(Default)]
pub(super) struct Shown {
    batch: BatchBuilder,
    bytes: usize,
    since: Option<Instant>,
    /// A complete batch, until the host has room.
    waiting: Option<Batch>,
}

impl Shown {
    /// Whether more may be read.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.is_none()
    }

    /// Takes what one read brought. There must be room.
    pub(super) fn add(&mut self, taken: &Taken, client: &str) {
        if self.batch.len() + taken.len() > MAX_BATCH {
            self.waiting = self.complete();
        }
        self.batch.set_time(now());
        taken.add_to(&mut self.batch, false, Some(client));
        self.bytes += taken.bytes;
        if !self.batch.is_empty() {
            self.since.get_or_insert_with(Instant::now);
        }
    }

    /// When the host is to have what is there.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.filter(|_| self.waiting.is_none()).map(|since| since + MOMENT)
    }

    /// Gives the host what is due, as far as it has room.
    pub(super) fn hand_over(&mut self, sender: &BatchSender) {
        while self.waiting.is_some() || self.is_due() {
            if self.waiting.is_none() {
                self.waiting = self.complete();
            }
            match sender.try_reserve() {
                Some(permit) => permit.send(self.waiting.take().unwrap_or_default()),
                None if sender.is_closed() => self.waiting = None,
                None => return,
            }
        }
    }

    /// Gives the host all that is left, however long that takes.
    pub(super) async fn finish(&mut self, sender: &BatchSender) {
        for batch in [self.waiting.take(), self.complete()].into_iter().flatten() {
            // A host that is gone needs nothing.
            let _ = sender.send(batch).await;
        }
    }

    fn is_due(&self) -> bool {
        let full = self.batch.len() >= MAX_BATCH || self.bytes >= BYTES;
        full || self.since.is_some_and(|since| since.elapsed() >= MOMENT)
    }

    fn complete(&mut self) -> Option<Batch> {
        (self.bytes, self.since) = (0, None);
        let batch = std::mem::take(&mut self.batch);
        (!batch.is_empty()).then(|| batch.finish())
    }
}
