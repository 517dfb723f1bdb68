//! Session state on disk, so that a restarted process resumes where the last one ended (5.0, section 4.1).
//!
//! Kept are the messages in flight at QoS 1 and 2 and the QoS 2 identifiers received, as a journal of changes:
//! one `write` for all changes of a turn of the loop, *before* the packets that follow from them leave. So a message
//! counts as sent, and a PUBREC goes out, only once a restart would know of it. What is still queued is not kept:
//! nobody was told that it was sent.
//!
//! A `write` outlives the process, however it ends, but not a power cut. An `fdatasync` in each turn would make it so
//! and costs most of the throughput (20,000 messages: 0.4 s without a journal, 7 s with it), where the servers at the
//! other end, as a rule, do not do it either.
//!
//! The journal is written anew when it has grown well beyond what it holds. A torn tail (power cut in the middle of
//! a write) is cut off; a file that is damaged elsewhere is moved aside and said so.

mod file;
mod record;

pub use file::{Opened, Store, StoreError};
pub use record::Change;
#[doc(hidden)]
pub use record::{Loaded, load, put};

use bytes::Bytes;

/// The changes since the owner last took them. Costs nothing when the session is not kept.
#[derive(Debug, Default)]
pub(super) struct Changes(Option<Vec<Change>>);

impl Changes {
    /// Starts recording.
    pub(super) fn record(&mut self) {
        self.0.get_or_insert_default();
    }

    #[inline]
    pub(super) fn add(&mut self, change: impl FnOnce() -> Change) {
        if let Some(changes) = &mut self.0 {
            changes.push(change());
        }
    }

    pub(super) fn take(&mut self) -> Vec<Change> {
        self.0.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// A session as it was when the last process ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// In flight towards the server, oldest first: packet identifier, PUBREC received, encoded PUBLISH.
    pub sent: Vec<(u16, bool, Bytes)>,
    /// QoS 2 identifiers received and not yet released.
    pub received: Vec<u16>,
}

impl Restored {
    /// The state that a journal leads to.
    pub fn from_changes(changes: impl IntoIterator<Item = Change>) -> Self {
        let mut sent: std::collections::BTreeMap<u64, (u16, bool, Bytes)> = Default::default();
        let mut order: std::collections::HashMap<u16, u64> = Default::default();
        let mut received = std::collections::BTreeSet::new();
        for (number, change) in (0u64..).zip(changes) {
            match change {
                Change::Sent { pid, wire } => {
                    // A second one for the same identifier starts the message again, in its old place.
                    let number = *order.entry(pid).or_insert(number);
                    sent.insert(number, (pid, false, wire));
                }
                Change::Released { pid } => {
                    if let Some(entry) = order.get(&pid).and_then(|number| sent.get_mut(number)) {
                        entry.1 = true;
                    }
                }
                Change::Done { pid } => {
                    if let Some(number) = order.remove(&pid) {
                        sent.remove(&number);
                    }
                }
                Change::Received { pid } => drop(received.insert(pid)),
                Change::Forgotten { pid } => drop(received.remove(&pid)),
            }
        }
        Self { sent: sent.into_values().collect(), received: received.into_iter().collect() }
    }

    /// True when there is nothing to resume.
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.received.is_empty()
    }
}
