//! A bounded queue that never makes its writers wait, for what a server shows of its clients.
//!
//! [`queue`](super::queue) makes a plugin wait for the host. A server whose clients must not wait for that writes into this
//! instead: a reader that lags loses the oldest entries and is told how many.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A bounded queue of `T` that drops its oldest entries when full. One reader, many writers.
#[derive(Debug)]
pub struct Feed<T> {
    state: Mutex<State<T>>,
    ready: Notify,
    max_items: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    lost: u64,
    closed: bool,
}

/// What [`Feed::next`] hands out: entries in order, and how many older ones were dropped just before them.
#[derive(Debug, PartialEq, Eq)]
pub struct Fed<T> {
    /// The entries, oldest first; never empty.
    pub items: Vec<T>,
    /// Entries that were dropped because the reader lagged, all of them older than `items`.
    pub lost: u64,
}

impl<T> Feed<T> {
    /// A queue of at most `max_items` entries that weigh at most `max_bytes` together.
    pub fn new(max_items: usize, max_bytes: usize) -> Self {
        let state = State { items: VecDeque::new(), bytes: 0, lost: 0, closed: false };
        Self { state: Mutex::new(state), ready: Notify::new(), max_items, max_bytes }
    }

    /// Adds an entry that weighs `bytes`; makes room by dropping the oldest.
    pub fn push(&self, item: T, bytes: usize) {
        {
            let mut state = self.lock();
            state.items.push_back((item, bytes));
            state.bytes += bytes;
            while state.items.len() > self.max_items
                || (state.bytes > self.max_bytes && state.items.len() > 1)
            {
                if let Some((_, dropped)) = state.items.pop_front() {
                    state.bytes -= dropped;
                    state.lost += 1;
                }
            }
        }
        self.ready.notify_one();
    }

    /// No further entries will come; what is queued can still be read.
    pub fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_one();
    }

    /// Waits for entries and takes at most `max` of them. `None`: the feed was closed and all was read.
    pub async fn next(&self, max: usize) -> Option<Fed<T>> {
        loop {
            {
                let mut state = self.lock();
                if !state.items.is_empty() {
                    let count = state.items.len().min(max.max(1));
                    let mut items = Vec::with_capacity(count);
                    for (item, bytes) in state.items.drain(..count) {
                        items.push((item, bytes));
                    }
                    state.bytes -= items.iter().map(|(_, bytes)| bytes).sum::<usize>();
                    let lost = std::mem::take(&mut state.lost);
                    return Some(Fed { items: items.into_iter().map(|(item, _)| item).collect(), lost });
                }
                if state.closed {
                    // Whoever waits beside us must see the end too.
                    self.ready.notify_one();
                    return None;
                }
            }
            self.ready.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing in here panics between two related writes, so a poisoned state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_drops_the_oldest_and_counts_them() {
        let feed = Feed::new(3, 100);
        for number in 0..10 {
            feed.push(number, 1);
        }
        assert_eq!(feed.next(2).await, Some(Fed { items: vec![7, 8], lost: 7 }));
        assert_eq!(feed.next(9).await, Some(Fed { items: vec![9], lost: 0 }));
        feed.push(10, 60);
        feed.push(11, 60);
        assert_eq!(feed.next(9).await, Some(Fed { items: vec![11], lost: 1 }), "bounded by weight too");
        feed.push(12, 1000);
        assert_eq!(
            feed.next(9).await,
            Some(Fed { items: vec![12], lost: 0 }),
            "a heavy entry still passes alone"
        );
    }

    #[tokio::test]
    async fn close_ends_the_reader_after_the_last_entry() {
        let feed = Feed::new(3, 100);
        feed.push(1, 1);
        feed.close();
        assert_eq!(feed.next(9).await, Some(Fed { items: vec![1], lost: 0 }));
        assert_eq!(feed.next(9).await, None);
        assert_eq!(feed.next(9).await, None);
    }
}
