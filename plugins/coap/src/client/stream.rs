//! Messages on their way to a subscription of the host.
//!
//! Whoever observes wants the newest, and a device does not wait: when the host does not keep up, the oldest are dropped
//! and counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc};
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{MAX_BATCH, spawn};

use super::Command;
use super::reply::Reply;

/// What may wait for the host.
const MESSAGES: usize = 4096;
const BYTES: usize = 16 << 20;

/// A message that is to be shown.
pub(super) struct Shown {
    pub(super) reply: Reply,
    pub(super) topic: Arc<str>,
    /// The number of its notification.
    pub(super) observed: Option<u32>,
}

impl Shown {
    fn size(&self) -> usize {
        self.reply.answer.packet.payload.len()
    }
}

#[derive(Default)]
struct State {
    messages: VecDeque<Shown>,
    bytes: usize,
    dropped: u64,
    ended: bool,
    error: Option<Error>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

/// The sending end. Dropping it ends the stream.
pub(super) struct Stream(Arc<Shared>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.end(None);
    }
}

impl Stream {
    /// `id` is told when the host wants no more.
    pub(super) fn open(id: u64, sender: BatchSender, commands: mpsc::WeakSender<Command>) -> Stream {
        let shared = Arc::new(Shared::default());
        spawn(forward(Arc::clone(&shared), sender, id, commands));
        Stream(shared)
    }

    pub(super) fn push(&self, message: Shown) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes += message.size();
        state.messages.push_back(message);
        while state.messages.len() > MESSAGES || state.bytes > BYTES && state.messages.len() > 1 {
            let Some(oldest) = state.messages.pop_front() else { break };
            state.bytes -= oldest.size();
            state.dropped += 1;
        }
        drop(state);
        self.0.changed.notify_one();
    }

    /// Ends the stream behind what is in it.
    pub(super) fn end(&self, error: Option<Error>) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.ended {
            (state.ended, state.error) = (true, error);
        }
        drop(state);
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn take(&self) -> Option<Batch> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.messages.is_empty() {
            return None;
        }
        let count = state.messages.len().min(MAX_BATCH);
        let mut batch = BatchBuilder::with_capacity(count);
        batch.set_dropped(std::mem::take(&mut state.dropped));
        for mut message in state.messages.drain(..count).collect::<Vec<_>>() {
            state.bytes -= message.size();
            message.reply.add_to(&mut batch, &message.topic, message.observed);
        }
        Some(batch.finish())
    }

    /// The end, when all has been handed over.
    fn ended(&self) -> Option<Option<Error>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.ended && state.messages.is_empty()).then(|| state.error.take())
    }
}

async fn forward(shared: Arc<Shared>, sender: BatchSender, id: u64, commands: mpsc::WeakSender<Command>) {
    loop {
        tokio::select! {
            () = sender.closed() => {
                if let Some(commands) = commands.upgrade() {
                    // The client may have ended.
                    let _ = commands.send(Command::Gone(id)).await;
                }
                return;
            }
            () = shared.changed.notified() => {}
        }
        while let Some(batch) = shared.take() {
            if !sender.send(batch).await {
                break;
            }
        }
        if let Some(error) = shared.ended() {
            if let Some(error) = error {
                sender.fail(error).await;
            }
            return;
        }
    }
}
