//! A connected client, as others see it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use super::outbox::{Budget, Outbox};
use super::routes::Subscription;

/// The most subscriptions of one client.
pub const MAX_SUBSCRIPTIONS: usize = 100_000;

/// See the module.
#[derive(Debug)]
pub struct Client {
    pub id: u64,
    pub peer: SocketAddr,
    pub outbox: Outbox,
    /// Whether it takes HMSG.
    pub headers: AtomicBool,
    /// Whether something came from it since [`Client::is_stale`] asked.
    pub heard: AtomicBool,
    unanswered: AtomicU32,
    /// What it says of itself in CONNECT.
    pub name: OnceLock<String>,
    subscriptions: Mutex<HashMap<Box<[u8]>, Arc<Subscription>>>,
    ending: Notify,
    reason: Mutex<Option<String>>,
}

impl Client {
    pub fn new(id: u64, peer: SocketAddr, max_pending: usize, budget: Arc<Budget>) -> Client {
        Client {
            id,
            peer,
            outbox: Outbox::new(max_pending, budget),
            headers: AtomicBool::new(false),
            heard: AtomicBool::new(false),
            unanswered: AtomicU32::new(0),
            name: OnceLock::new(),
            subscriptions: Mutex::default(),
            ending: Notify::new(),
            reason: Mutex::default(),
        }
    }

    /// Its subscriptions by their identifiers.
    pub fn subscriptions(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, Arc<Subscription>>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it after the last word `error` has been written, if there is one. The first reason counts.
    pub fn end(&self, error: Option<&str>, reason: impl Into<String>) {
        if self.blame(reason) {
            if let Some(error) = error {
                self.outbox.say(format!("-ERR '{error}'\r\n").as_bytes());
            }
            self.outbox.finish();
        }
    }

    /// Ends it at once; what waits for it is lost.
    pub fn cut(&self, reason: impl Into<String>) {
        self.blame(reason);
        self.outbox.close();
    }

    fn blame(&self, reason: impl Into<String>) -> bool {
        let mut known = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        let first = known.is_none();
        if first {
            *known = Some(reason.into());
        }
        drop(known);
        self.ending.notify_one();
        first
    }

    /// Waits until somebody ends it. For its own connection only.
    pub async fn ending(&self) {
        self.ending.notified().await;
    }

    /// Why it ended.
    pub fn reason(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// To be asked at each interval: pings it when it was silent; `true` when that went unanswered too often.
    pub fn is_stale(&self, max_unanswered: u32) -> bool {
        if self.heard.swap(false, Ordering::Relaxed) {
            self.unanswered.store(0, Ordering::Relaxed);
            return false;
        }
        if self.unanswered.fetch_add(1, Ordering::Relaxed) >= max_unanswered {
            return true;
        }
        self.outbox.say(b"PING\r\n");
        false
    }

    #[cfg(test)]
    pub fn for_tests() -> Arc<Client> {
        let budget = Arc::new(Budget::new(usize::MAX));
        Arc::new(Client::new(0, SocketAddr::from(([127, 0, 0, 1], 1)), usize::MAX, budget))
    }
}

/// How it is shown: by its number, and its name if it gave one.
impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "client {}", self.id)?;
        match self.name.get() {
            Some(name) => write!(f, " \"{}\" ({})", name.escape_debug(), self.peer),
            None => write!(f, " ({})", self.peer),
        }
    }
}
