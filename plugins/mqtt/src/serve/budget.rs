//! One memory budget for all payloads a broker holds.
//!
//! The library bounds each client's queue by a count of messages only, and hands messages to a session
//! through an unbounded channel. So every payload that enters is wrapped here: it carries its weight until
//! the last queue, retained copy and reader has let go of it, and a publisher has to wait while all of them
//! together are too heavy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::timeout;

/// What a queued message costs beside its payload.
const OVERHEAD: usize = 256;
/// Payloads up to this size are copied, so that they do not keep a whole read buffer alive.
const COPY_BELOW: usize = 4096;

/// Counts the bytes of all payloads that are still referred to.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    max: usize,
    freed: Notify,
}

struct Tracked {
    payload: Bytes,
    weight: usize,
    budget: Arc<Budget>,
}

impl AsRef<[u8]> for Tracked {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let before = self.budget.used.fetch_sub(self.weight, Ordering::Relaxed);
        if before > self.budget.max {
            self.budget.freed.notify_waiters();
        }
    }
}

impl Budget {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), max, freed: Notify::new() })
    }

    /// The same payload, counted until its last copy is dropped.
    pub(super) fn track(self: &Arc<Self>, payload: &Bytes) -> Bytes {
        let weight = payload.len() + OVERHEAD;
        self.used.fetch_add(weight, Ordering::Relaxed);
        let payload =
            if payload.len() < COPY_BELOW { Bytes::copy_from_slice(payload) } else { payload.clone() };
        Bytes::from_owner(Tracked { payload, weight, budget: Arc::clone(self) })
    }

    /// Waits until the payloads fit the budget again; `false` if they still do not after `patience`.
    pub(super) async fn room(&self, patience: Duration) -> bool {
        if self.fits() {
            return true;
        }
        timeout(patience, async {
            loop {
                let freed = self.freed.notified();
                if self.fits() {
                    return;
                }
                freed.await;
            }
        })
        .await
        .is_ok()
    }

    fn fits(&self) -> bool {
        self.used.load(Ordering::Relaxed) <= self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_budget_is_freed_with_the_last_copy() {
        let budget = Budget::new(10_000);
        let first = budget.track(&Bytes::from(vec![1; 8000]));
        let copy = first.slice(10..20);
        assert!(budget.room(Duration::ZERO).await);
        let second = budget.track(&Bytes::from(vec![2; 3000]));
        assert_eq!(second.len(), 3000);
        assert!(!budget.room(Duration::from_millis(10)).await);
        drop(first);
        assert!(!budget.room(Duration::from_millis(10)).await, "a slice keeps the whole payload alive");
        let waiting = {
            let budget = Arc::clone(&budget);
            tokio::spawn(async move { budget.room(Duration::from_secs(5)).await })
        };
        tokio::task::yield_now().await;
        drop(copy);
        assert!(waiting.await.expect("no panic"));
    }
}
