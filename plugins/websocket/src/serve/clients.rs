//! Who is there, and what waits for whom.
//!
//! What one client is too slow to take must not hold up the others, nor fill the memory: each has a queue bounded by bytes,
//! and whoever lets it overflow is cut off and told so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::link::Kind;

/// Bytes that may wait for one client, beside one message.
const WAITING_BYTES: usize = 4 << 20;
/// Messages without a payload take room too.
const OVERHEAD: usize = 64;

/// What is to be sent to a client from outside of its own task.
pub(super) struct Outbox {
    /// Its name for people and programs.
    pub(super) name: String,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    messages: VecDeque<(Kind, Bytes)>,
    bytes: usize,
    overflowed: bool,
}

/// What became of a message for a client.
pub(super) enum Put {
    Queued,
    /// The client is too slow: it is being cut off.
    Overflow,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, kind: Kind, payload: Bytes) -> Put {
        let mut state = self.lock();
        if state.overflowed || state.bytes > WAITING_BYTES {
            state.overflowed = true;
            state.messages.clear();
            drop(state);
            self.changed.notify_one();
            return Put::Overflow;
        }
        state.bytes += payload.len() + OVERHEAD;
        state.messages.push_back((kind, payload));
        drop(state);
        self.changed.notify_one();
        Put::Queued
    }

    pub(super) fn take(&self) -> Option<(Kind, Bytes)> {
        let mut state = self.lock();
        let (kind, payload) = state.messages.pop_front()?;
        state.bytes -= payload.len() + OVERHEAD;
        Some((kind, payload))
    }

    pub(super) fn overflowed(&self) -> bool {
        self.lock().overflowed
    }

    /// Waits until there may be something to take.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// All clients.
#[derive(Default)]
pub(super) struct Clients {
    last: AtomicU64,
    there: Mutex<BTreeMap<String, Arc<Outbox>>>,
}

/// A client's place; it is forgotten when this is dropped.
pub(super) struct Place {
    clients: Arc<Clients>,
    pub(super) outbox: Arc<Outbox>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clients.lock().remove(&self.outbox.name);
    }
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Outbox>>> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a client in, under the next number.
    pub(super) fn enter(self: &Arc<Clients>) -> Place {
        let name = (self.last.fetch_add(1, Ordering::Relaxed) + 1).to_string();
        let outbox = Arc::new(Outbox { name: name.clone(), state: Mutex::default(), changed: Notify::new() });
        self.lock().insert(name, Arc::clone(&outbox));
        Place { clients: Arc::clone(self), outbox }
    }

    /// Sends to all but one; says to how many, and how many are too slow for it.
    pub(super) fn broadcast(&self, kind: Kind, payload: &Bytes, except: Option<&str>) -> (usize, usize) {
        let outboxes: Vec<_> =
            self.lock().values().filter(|outbox| Some(outbox.name.as_str()) != except).cloned().collect();
        let count =
            |(queued, slow): (usize, usize), outbox: Arc<Outbox>| match outbox.put(kind, payload.clone()) {
                Put::Queued => (queued + 1, slow),
                Put::Overflow => (queued, slow + 1),
            };
        outboxes.into_iter().fold((0, 0), count)
    }

    /// Sends to one; `None` if there is none of this name.
    pub(super) fn send(&self, name: &str, kind: Kind, payload: Bytes) -> Option<Put> {
        let outbox = self.lock().get(name).cloned()?;
        Some(outbox.put(kind, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_all_to_all_but_one_and_to_one() {
        let clients = Arc::new(Clients::default());
        let (first, second) = (clients.enter(), clients.enter());
        let payload = Bytes::from_static(b"x");
        assert_eq!(clients.broadcast(Kind::Text, &payload, None), (2, 0));
        assert_eq!(clients.broadcast(Kind::Text, &payload, Some("1")), (1, 0));
        assert!(clients.send("2", Kind::Text, payload.clone()).is_some());
        assert!(clients.send("3", Kind::Text, payload.clone()).is_none());
        let taken = |place: &Place| std::iter::from_fn(|| place.outbox.take()).count();
        assert_eq!((taken(&first), taken(&second)), (1, 3));
        drop(second);
        assert_eq!(clients.broadcast(Kind::Text, &payload, None), (1, 0));
    }

    #[test]
    fn a_slow_client_holds_a_bounded_amount_and_is_cut_off() {
        let clients = Arc::new(Clients::default());
        let place = clients.enter();
        let payload = Bytes::from(vec![0; 1 << 20]);
        let mut queued = 0;
        while clients.broadcast(Kind::Binary, &payload, None) == (1, 0) {
            queued += 1;
            assert!(queued < 10, "there is no bound");
        }
        assert!(place.outbox.overflowed() && place.outbox.take().is_none());
    }
}
