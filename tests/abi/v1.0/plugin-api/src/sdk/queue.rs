//! The bounded queue between a plugin's I/O task and the host.
//!
//! It holds batches, not messages: the hop between two threads is what costs, so it is paid once a batch. When it is full
//! the I/O task gets no permit and stops reading its socket, and the peer's own flow control does the rest. The sender can
//! see how many messages the host has dealt with: acknowledgements wait for that, so that what was acknowledged was shown.

use super::guard::{Quiet, last_panic, panicked};
use super::{Batch, Error, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Mutex, Notify, mpsc};

struct Shared {
    consumed: AtomicU64,
    progress: Notify,
    /// The text of the panic that took a sender with it.
    panic: OnceLock<String>,
}

/// A queue of at most `batches` batches.
pub fn queue(batches: usize) -> (BatchSender, Subscription) {
    let (sender, receiver) = mpsc::channel(batches.max(1));
    let shared =
        Arc::new(Shared { consumed: AtomicU64::new(0), progress: Notify::new(), panic: OnceLock::new() });
    let state = ReceiverState { receiver, rest: None, handed: 0, ended: false };
    let subscription = Subscription { state: Mutex::new(state), shared: Arc::clone(&shared), guard: None };
    (BatchSender { sender, shared }, subscription)
}

/// The plugin's end of a queue.
#[derive(Clone)]
pub struct BatchSender {
    sender: mpsc::Sender<Result<Batch>>,
    shared: Arc<Shared>,
}

/// A place in the queue, kept until it is used.
pub struct Permit(mpsc::OwnedPermit<Result<Batch>>);

impl Permit {
    pub fn send(self, batch: Batch) {
        self.0.send(Ok(batch));
    }
}

impl BatchSender {
    /// Waits for room. `None` when the host has dropped the subscription.
    pub async fn reserve(&self) -> Option<Permit> {
        self.sender.clone().reserve_owned().await.ok().map(Permit)
    }

    /// A place in the queue, if there is one now.
    pub fn try_reserve(&self) -> Option<Permit> {
        self.sender.clone().try_reserve_owned().ok().map(Permit)
    }

    /// Waits for room and sends. `false` when the host has dropped the subscription.
    pub async fn send(&self, batch: Batch) -> bool {
        self.sender.send(Ok(batch)).await.is_ok()
    }

    /// Ends the stream with an error, after what is in the queue.
    pub async fn fail(&self, error: Error) {
        // A host that is gone does not want the error either.
        let _ = self.sender.send(Err(error)).await;
    }

    /// How many messages the host has dealt with since the start.
    pub fn consumed(&self) -> u64 {
        self.shared.consumed.load(Ordering::Acquire)
    }

    /// Waits until [`BatchSender::consumed`] may have moved on.
    pub async fn progress(&self) {
        self.shared.progress.notified().await;
    }

    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until the host has dropped the subscription.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }
}

/// A task that panics drops its sender while it unwinds: without this its stream would seem to have ended well.
impl Drop for BatchSender {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.panic.get_or_init(last_panic);
        }
    }
}

struct ReceiverState {
    receiver: mpsc::Receiver<Result<Batch>>,
    rest: Option<Batch>,
    handed: u64,
    ended: bool,
}

/// The host's end of a queue: what `subscribe` returns. The stream ends when the senders are gone.
pub struct Subscription {
    state: Mutex<ReceiverState>,
    shared: Arc<Shared>,
    guard: Option<Quiet<Box<dyn Send + Sync>>>,
}

impl Subscription {
    /// Keeps something alive as long as the subscription, for what its `Drop` does.
    pub fn with_guard(mut self, guard: impl Send + Sync + 'static) -> Subscription {
        self.guard = Some(Quiet::new(Box::new(guard)));
        self
    }

    /// The next messages, at most `max`. Cancel-safe: a dropped call loses nothing.
    pub async fn next_batch(&self, max: usize) -> Result<Batch> {
        let mut state = self.state.lock().await;
        self.settle(&state);
        let mut batch = match state.rest.take() {
            Some(rest) => rest,
            None if state.ended => return Ok(Batch::end()),
            None => match state.receiver.recv().await {
                Some(Ok(batch)) => batch,
                Some(Err(error)) => {
                    state.ended = true;
                    return Err(error);
                }
                None => {
                    state.ended = true;
                    return match self.shared.panic.get() {
                        Some(text) => Err(panicked(text)),
                        None => Ok(Batch::end()),
                    };
                }
            },
        };
        if batch.len() > max.max(1) {
            let head = batch.split_to(max.max(1));
            state.rest = Some(batch);
            batch = head;
        }
        state.handed += batch.len() as u64;
        Ok(batch)
    }

    /// Says that everything handed out has been dealt with, and takes no more.
    pub async fn close(&self) {
        let mut state = self.state.lock().await;
        self.settle(&state);
        state.receiver.close();
        state.rest = None;
        while state.receiver.try_recv().is_ok() {}
        state.ended = true;
    }

    fn settle(&self, state: &ReceiverState) {
        if self.shared.consumed.swap(state.handed, Ordering::AcqRel) != state.handed {
            self.shared.progress.notify_one();
        }
    }
}
