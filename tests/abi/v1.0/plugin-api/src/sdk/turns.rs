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
pub(super) struct Turns(Mutex<Option<oneshot::Receiver<()>>>);

/// A place in the order, taken when the call is made.
pub(super) struct Turn {
    before: Option<oneshot::Receiver<()>>,
    begun: oneshot::Sender<()>,
}

impl Turns {
    pub(super) fn next(&self) -> Turn {
        let (begun, after) = oneshot::channel();
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(after);
        Turn { before, begun }
    }
}

impl Turn {
    /// Runs a call in its turn. A call before it that was given up counts as begun.
    pub(super) async fn run<T>(self, call: impl Future<Output = T>) -> T {
        if let Some(before) = self.before {
            // An error says that its sender is gone: it was given up.
            let _ = before.await;
        }
        let mut call = pin!(call);
        let first = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
        drop(self.begun);
        match first {
            Poll::Ready(result) => result,
            Poll::Pending => call.await,
        }
    }
}
