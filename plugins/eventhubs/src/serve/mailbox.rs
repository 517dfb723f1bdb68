//! What others have to tell a connection's task: that there are events, or that a link was stolen.
//!
//! Bounded by the links: a link is told of events only after it has asked, and stolen once.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// A link of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LinkKey {
    pub(super) channel: u16,
    pub(super) handle: u32,
    /// Never used again, as channel and handle are.
    pub(super) serial: u64,
}

#[derive(Debug)]
pub(super) enum Note {
    /// There are events for this link.
    Events(LinkKey),
    /// Another reader has taken this link's place: with the text for its owner.
    Stolen(LinkKey, String),
}

#[derive(Debug, Default)]
pub(super) struct Mailbox {
    notes: Mutex<Vec<Note>>,
    filled: Notify,
}

impl Mailbox {
    pub(super) fn put(&self, note: Note) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
        self.filled.notify_one();
    }

    pub(super) fn take(&self) -> Vec<Note> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until there may be something to take.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }
}
