//! How much each message took on the wire, for whoever shows it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The sizes of one text or binary message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageSize {
    /// Bytes of payload as sent, without frame headers; `None` when the message was not compressed.
    pub compressed: Option<u64>,
    /// Bytes of payload before compression.
    pub plain: u64,
}

#[derive(Debug, Default)]
struct Lists {
    received: VecDeque<MessageSize>,
    sent: VecDeque<MessageSize>,
}

/// The other end of a [`super::Stream`]'s count: one entry for every message, in order.
///
/// Take one for each message that tungstenite gives ([`Sizes::take_received`]) or has flushed ([`Sizes::take_sent`]), or
/// drop it: the stream counts only while somebody holds it.
#[derive(Clone, Debug, Default)]
pub struct Sizes(Arc<Mutex<Lists>>);

impl Sizes {
    /// The size of the oldest received message not yet taken. A message is counted before tungstenite has read its end.
    pub fn take_received(&self) -> Option<MessageSize> {
        self.lists().received.pop_front()
    }

    /// The size of the oldest sent message not yet taken. A message is counted when tungstenite has written it.
    pub fn take_sent(&self) -> Option<MessageSize> {
        self.lists().sent.pop_front()
    }

    pub(super) fn add_received(&self, sizes: &mut Vec<MessageSize>) {
        self.add(sizes, |lists| &mut lists.received);
    }

    pub(super) fn add_sent(&self, sizes: &mut Vec<MessageSize>) {
        self.add(sizes, |lists| &mut lists.sent);
    }

    fn add(&self, sizes: &mut Vec<MessageSize>, list: fn(&mut Lists) -> &mut VecDeque<MessageSize>) {
        if !sizes.is_empty() && Arc::strong_count(&self.0) > 1 {
            list(&mut self.lists()).extend(sizes.iter());
        }
        sizes.clear();
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
