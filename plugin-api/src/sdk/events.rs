//! The stream of events beside the messages.
//!
//! It is bounded, and a plugin never waits for it: an event that finds it full is dropped and counted, and the count is
//! told with the next event that fits.

use crate::abi::{Event, EventKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Mutex, mpsc};

const CAPACITY: usize = 1024;

/// The sending end, which a plugin keeps.
#[derive(Clone)]
pub struct Events {
    sender: mpsc::Sender<Event>,
    dropped: Arc<AtomicU64>,
}

pub(super) struct EventStream {
    receiver: Mutex<mpsc::Receiver<Event>>,
    dropped: Arc<AtomicU64>,
}

impl Events {
    pub(super) fn stream() -> (Events, EventStream) {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let dropped = Arc::new(AtomicU64::new(0));
        (
            Events { sender, dropped: Arc::clone(&dropped) },
            EventStream { receiver: Mutex::new(receiver), dropped },
        )
    }

    /// Events that nobody hears, for tests of what tells them.
    pub fn unheard() -> Events {
        Events::stream().0
    }

    pub fn emit(&self, event: Event) {
        if self.sender.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl EventStream {
    /// All events that are there, at least one; none when there can be no more.
    pub(super) async fn next(&self) -> Vec<Event> {
        let mut receiver = self.receiver.lock().await;
        let mut events = Vec::new();
        receiver.recv_many(&mut events, CAPACITY).await;
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            events.push(Event::new(
                EventKind::WARNING,
                format!("{dropped} events were not shown: too many at once"),
            ));
        }
        events
    }
}
