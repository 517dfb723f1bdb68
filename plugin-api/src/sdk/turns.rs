//! Calls that are made one after the other begin one after the other.
//!
//! The host keeps several publish calls under way. Each is a task of its own, and tasks may run in any order: so each waits
//! until the one before it has been polled once, which is as far as it takes to put its messages into the plugin's queue.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use tokio::sync::oneshot;

/// The order of the calls on one connection.
#[derive(Default)]
pub(super) struct Turns(Mutex<Option<Before>>);

/// Tells when the call before has begun; or, when that was given up while it waited itself, for whom it waited.
type Before = oneshot::Receiver<GivenUp>;

struct GivenUp(Option<Before>);

/// A place in the order, taken when the call is made.
pub(super) struct Turn {
    before: Option<Before>,
    begun: Option<oneshot::Sender<GivenUp>>,
}

impl Turns {
    pub(super) fn next(&self) -> Turn {
        let (begun, after) = oneshot::channel();
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(after);
        Turn { before, begun: Some(begun) }
    }
}

impl Turn {
    /// Runs a call in its turn. One before it that was given up lets nobody past those before that.
    pub(super) async fn run<T>(mut self, call: impl Future<Output = T>) -> T {
        while let Some(before) = &mut self.before {
            // An error says that its sender is gone: it has begun.
            let given_up = before.await.ok();
            self.before = given_up.and_then(|GivenUp(before)| before);
        }
        let mut call = pin!(call);
        let first = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
        drop(self.begun.take());
        match first {
            Poll::Ready(result) => result,
            Poll::Pending => call.await,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(begun) = self.begun.take() {
            // Nobody may come after it.
            let _ = begun.send(GivenUp(self.before.take()));
        }
    }
}
