//! What waits to be written to one client.
//!
//! Whoever routes a message appends to a plain buffer under a short lock; the client's writer takes the whole buffer and leaves
//! an empty one. So a flood costs a wake-up and a write for each burst, not for each message.
//!
//! It is bounded twice: by the bytes that may wait for one client, and by those that may wait in the whole server, of which a
//! client that holds more than its share gives way. A client beyond its bound is cut off, as nats-server does it: nothing
//! else keeps memory bounded without losing messages in silence. Before that, publishers are made to wait a little, which
//! keeps a healthy subscriber from being overrun by a quick publisher.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A buffer larger than this is not kept for later use.
const KEPT_BUFFER: usize = 1 << 20;
/// From here on publishers wait a moment for this client.
const SLOW: usize = 2 << 20;

/// How much a client is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    Even,
    /// It has a burst to catch up with.
    Slow,
    /// It has used up half of what it may.
    Behind,
}

/// All bytes that wait in a server.
#[derive(Debug)]
pub struct Budget {
    bytes: AtomicUsize,
    clients: AtomicUsize,
    max_bytes: usize,
}

impl Budget {
    pub fn new(max_bytes: usize) -> Budget {
        Budget { bytes: AtomicUsize::new(0), clients: AtomicUsize::new(0), max_bytes }
    }

    /// Whether a client that holds so much is to give way.
    fn exceeded_by(&self, held: usize) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.max_bytes
            && held > self.max_bytes / self.clients.load(Ordering::Relaxed).max(1)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    ready: Notify,
    drained: Notify,
    max_bytes: usize,
    budget: Arc<Budget>,
}

/// The part under the lock.
#[derive(Debug, Default)]
pub struct State {
    pending: Vec<u8>,
    /// Bytes that the writer has taken and not yet written.
    writing: usize,
    /// The writer knows that there is something to do.
    awake: bool,
    /// Nothing is added any more; what is there is still written.
    finished: bool,
    /// Nothing is written any more.
    closed: bool,
}

impl State {
    pub fn is_open(&self) -> bool {
        !self.finished && !self.closed
    }

    /// Where to append.
    pub fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }
}

/// What [`Outbox::appended`] makes of what was added.
#[derive(Debug, PartialEq, Eq)]
pub enum Appended {
    /// `wake`: the writer has to be told with [`Outbox::wake`].
    Fits { wake: bool, pace: Pace },
    /// The client was cut off: so many bytes waited.
    Overflow(usize),
}

/// What the writer has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Work {
    Write,
    Wait,
    End,
}

impl Outbox {
    pub fn new(max_bytes: usize, budget: Arc<Budget>) -> Outbox {
        budget.clients.fetch_add(1, Ordering::Relaxed);
        Outbox { state: Mutex::default(), ready: Notify::new(), drained: Notify::new(), max_bytes, budget }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accounts for `added` bytes that were appended under this lock.
    pub fn appended(&self, state: &mut State, added: usize) -> Appended {
        self.budget.bytes.fetch_add(added, Ordering::Relaxed);
        let held = state.pending.len() + state.writing;
        if held > self.max_bytes || self.budget.exceeded_by(held) {
            self.discard(state);
            return Appended::Overflow(held);
        }
        let pace = match held {
            _ if held > self.max_bytes / 2 => Pace::Behind,
            _ if held > SLOW => Pace::Slow,
            _ => Pace::Even,
        };
        let wake = !state.awake;
        state.awake = true;
        Appended::Fits { wake, pace }
    }

    /// Appends text of our own and wakes the writer.
    pub fn say(&self, text: &[u8]) {
        let mut state = self.lock();
        if state.is_open() {
            state.pending.extend_from_slice(text);
            if self.appended(&mut state, text.len()) == (Appended::Fits { wake: false, pace: Pace::Even }) {
                return;
            }
        }
        drop(state);
        self.wake();
    }

    /// Tells the writer that there is something to do.
    pub fn wake(&self) {
        self.ready.notify_one();
    }

    /// No more is added; the writer ends when it has written what is there.
    pub fn finish(&self) {
        self.lock().finished = true;
        self.wake();
    }

    /// Throws away what is there; the writer ends at once.
    pub fn close(&self) {
        self.discard(&mut self.lock());
        self.wake();
        self.drained.notify_waiters();
    }

    /// Whether nothing is written any more.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn discard(&self, state: &mut State) {
        state.closed = true;
        self.budget.bytes.fetch_sub(state.pending.len(), Ordering::Relaxed);
        state.pending = Vec::new();
    }

    /// Takes what is there into `buffer`, which is empty and stays with the outbox.
    pub fn take(&self, buffer: &mut Vec<u8>) -> Work {
        let mut state = self.lock();
        if state.closed {
            return Work::End;
        }
        if state.pending.is_empty() {
            state.awake = false;
            return if state.finished { Work::End } else { Work::Wait };
        }
        if buffer.capacity() > KEPT_BUFFER {
            *buffer = Vec::new();
        }
        std::mem::swap(&mut state.pending, buffer);
        state.writing = buffer.len();
        Work::Write
    }

    /// So many bytes that were taken have been written.
    pub fn wrote(&self, bytes: usize) {
        let held = {
            let mut state = self.lock();
            state.writing -= bytes;
            self.budget.bytes.fetch_sub(bytes, Ordering::Relaxed);
            state.pending.len() + state.writing
        };
        if held <= SLOW {
            self.drained.notify_waiters();
        }
    }

    /// Waits until something may have been added.
    pub async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Waits until the client has caught up, or is gone.
    pub async fn drained(&self) {
        loop {
            let drained = self.drained.notified();
            {
                let state = self.lock();
                if state.closed || state.pending.len() + state.writing <= SLOW {
                    return;
                }
            }
            drained.await;
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.budget.bytes.fetch_sub(state.pending.len() + state.writing, Ordering::Relaxed);
        self.budget.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(max: usize, all: usize) -> (Outbox, Arc<Budget>) {
        let budget = Arc::new(Budget::new(all));
        (Outbox::new(max, Arc::clone(&budget)), budget)
    }

    fn add(outbox: &Outbox, bytes: usize) -> Appended {
        let mut state = outbox.lock();
        state.pending().resize(bytes, b'x');
        outbox.appended(&mut state, bytes)
    }

    #[test]
    fn the_writer_is_woken_once_a_burst() {
        let (outbox, budget) = outbox(100, 1000);
        assert_eq!(add(&outbox, 10), Appended::Fits { wake: true, pace: Pace::Even });
        outbox.say(b"more");
        let mut buffer = Vec::new();
        assert_eq!(outbox.take(&mut buffer), Work::Write);
        assert_eq!(buffer.len(), 14);
        buffer.clear();
        outbox.wrote(14);
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 0);
        assert_eq!(outbox.take(&mut buffer), Work::Wait);
        assert_eq!(add(&outbox, 60), Appended::Fits { wake: true, pace: Pace::Behind });
        outbox.finish();
        assert!(!outbox.lock().is_open());
        assert_eq!(outbox.take(&mut buffer), Work::Write);
        buffer.clear();
        outbox.wrote(60);
        assert_eq!(outbox.take(&mut buffer), Work::End);
    }

    #[test]
    fn what_waits_is_bounded() {
        let (first, budget) = outbox(100, 150);
        assert_eq!(add(&first, 101), Appended::Overflow(101));
        assert_eq!(first.take(&mut Vec::new()), Work::End);
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 0);
        // Two that share 150 bytes.
        drop(first);
        let (first, second) = (Outbox::new(100, Arc::clone(&budget)), Outbox::new(100, Arc::clone(&budget)));
        assert!(matches!(add(&first, 90), Appended::Fits { .. }));
        assert_eq!(add(&second, 80), Appended::Overflow(80), "more than its share");
        assert!(matches!(add(&second, 0), Appended::Fits { .. }));
        drop((first, second));
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 0);
    }
}
