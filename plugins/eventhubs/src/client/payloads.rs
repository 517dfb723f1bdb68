//! What transfers carry, on a way of its own around fe2o3-amqp.
//!
//! fe2o3-amqp keeps the books of the protocol: windows, credit, what is settled. But a message costs it a search through all
//! of its bytes, several copies, and a general decoder that recurses. So the guard takes the payloads out of the transfers, as
//! parts of the buffer into which they were read, and leaves a number in their place; the link gets the number with the
//! delivery, and by it the payload.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use bytes::{BufMut, Bytes, BytesMut};
use fe2o3_amqp_types::messaging::{Batch as Sections, Data};
use tokio::sync::Notify;

/// Bytes that may wait on a connection before it is read on.
const MOST: usize = 64 << 20;
/// What stands in a payload's place: a data section, which holds its number.
const STAND_IN: [u8; 5] = [0, 0x53, 0x75, 0xA0, 8];

/// The payloads on a connection.
#[derive(Clone, Default)]
pub(super) struct Payloads(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Links that the peer has not attached yet, by name.
    awaited: Mutex<HashMap<String, Arc<Shelf>>>,
    /// Bytes on all shelves.
    held: AtomicUsize,
    /// Payloads on all shelves with which a delivery is complete: somebody will come for them.
    complete: AtomicUsize,
    /// The connection's, while it is not read.
    paused: Mutex<Option<Waker>>,
}

/// The payloads of a link that nobody has taken yet.
pub(super) struct Shelf {
    shared: Arc<Shared>,
    waiting: Mutex<Waiting>,
    /// The largest message, in bytes.
    most: usize,
    /// Told when the peer has drained the link.
    drained: Notify,
}

#[derive(Default)]
struct Waiting {
    payloads: VecDeque<Payload>,
    /// The number of the next one.
    next: u64,
    /// Bytes of the delivery that is not complete.
    begun: usize,
    /// Nobody will take anything.
    left: bool,
    /// The peer has said that nothing more comes.
    drained: bool,
}

struct Payload {
    number: u64,
    /// `None`: with them the message were larger than the link takes.
    bytes: Option<Bytes>,
    last: bool,
}

/// Why there is no message for a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    TooLarge,
    /// Nothing belongs to what came with it, which the guard never lets happen.
    Unknown,
}

/// The link's end: where it takes its payloads.
pub(super) struct Inbox(Arc<Shelf>);

impl Payloads {
    /// For a link that is about to be attached by this name. `most`: the largest message that it takes, in bytes.
    pub(super) fn link(&self, name: &str, most: usize) -> Inbox {
        let shelf = Arc::new(Shelf {
            shared: Arc::clone(&self.0),
            waiting: Mutex::default(),
            most,
            drained: Notify::new(),
        });
        lock(&self.0.awaited).insert(name.to_owned(), Arc::clone(&shelf));
        Inbox(shelf)
    }

    /// The peer has attached a link of this name: where its payloads belong.
    pub(super) fn attached(&self, name: &str) -> Option<Arc<Shelf>> {
        lock(&self.0.awaited).remove(name)
    }

    /// Whether so much waits that the connection is not to be read for now. It is woken when that has changed.
    pub(super) fn is_full(&self, context: &Context<'_>) -> bool {
        let full =
            || self.0.held.load(Ordering::Acquire) > MOST && self.0.complete.load(Ordering::Acquire) > 0;
        if !full() {
            return false;
        }
        *lock(&self.0.paused) = Some(context.waker().clone());
        // Something may have been taken before the waker was there.
        full()
    }
}

impl Shelf {
    /// Keeps a payload, and writes what is to stand in its place. `more`: the delivery goes on with another one.
    ///
    /// # Errors
    /// More was begun on all links, and not completed, than is kept: in words.
    pub(super) fn put(&self, bytes: Bytes, more: bool, output: &mut BytesMut) -> Result<(), &'static str> {
        let mut waiting = lock(&self.waiting);
        let number = waiting.next;
        waiting.next += 1;
        output.extend_from_slice(&STAND_IN);
        output.put_u64(number);
        if waiting.left {
            return Ok(());
        }
        waiting.begun = waiting.begun.saturating_add(bytes.len());
        let bytes = (waiting.begun <= self.most).then_some(bytes);
        if !more {
            waiting.begun = 0;
        } else if bytes.is_none() {
            // That it is too large is told by its end.
            return Ok(());
        }
        let size = bytes.as_ref().map_or(0, Bytes::len);
        let held = self.shared.held.fetch_add(size, Ordering::AcqRel) + size;
        let complete =
            self.shared.complete.fetch_add(usize::from(!more), Ordering::AcqRel) + usize::from(!more);
        waiting.payloads.push_back(Payload { number, bytes, last: !more });
        // A single message may be as large as that; many halves of messages may not.
        if held > MOST.max(self.most) && complete == 0 {
            return Err("more messages begun than can be");
        }
        Ok(())
    }

    /// The delivery that was begun was given up.
    pub(super) fn abort(&self) {
        lock(&self.waiting).begun = 0;
    }

    /// The peer has sent all that it may: a drain is over.
    pub(super) fn drained(&self) {
        lock(&self.waiting).drained = true;
        self.drained.notify_one();
    }

    fn taken(&self, payload: &Payload) {
        let size = payload.bytes.as_ref().map_or(0, Bytes::len);
        self.shared.held.fetch_sub(size, Ordering::AcqRel);
        self.shared.complete.fetch_sub(usize::from(payload.last), Ordering::AcqRel);
    }

    fn wake(&self) {
        // So much as to be worth it is seldom there.
        if let Some(waker) = lock(&self.shared.paused).take() {
            waker.wake();
        }
    }
}

impl Inbox {
    /// Whether the peer has said that nothing more comes, and everything before it was taken.
    pub(super) fn is_drained(&self) -> bool {
        let waiting = lock(&self.0.waiting);
        waiting.drained && waiting.payloads.is_empty()
    }

    /// Waits until the peer says so.
    pub(super) async fn drained(&self) {
        self.0.drained.notified().await;
    }

    /// The message of a delivery, by what came with it.
    pub(super) fn take(&self, delivered: &Sections<Data>) -> Result<Bytes, Missing> {
        let (mut first, mut joined) = (None, None::<BytesMut>);
        let mut unknown = delivered.is_empty();
        for data in delivered.iter() {
            let number = <[u8; 8]>::try_from(data.0.as_slice()).map_err(|_| Missing::Unknown)?;
            // Of a message that is too large only the end is sure to be there.
            let Some(part) = self.part(u64::from_be_bytes(number)) else {
                unknown = true;
                continue;
            };
            let part = part.ok_or(Missing::TooLarge)?;
            match (&mut joined, first.take()) {
                (Some(joined), _) => joined.extend_from_slice(&part),
                (None, None) => first = Some(part),
                (None, Some(begin)) => joined = Some(BytesMut::from([begin, part].concat().as_slice())),
            }
        }
        joined.map(BytesMut::freeze).or(first).filter(|_| !unknown).ok_or(Missing::Unknown)
    }

    /// Numbers grow: what came before is of deliveries that were given up.
    fn part(&self, number: u64) -> Option<Option<Bytes>> {
        let mut waiting = lock(&self.0.waiting);
        let mut found = None;
        while waiting.payloads.front().is_some_and(|payload| payload.number <= number) && found.is_none() {
            let payload = waiting.payloads.pop_front()?;
            self.0.taken(&payload);
            found = (payload.number == number).then_some(payload.bytes);
        }
        drop(waiting);
        self.0.wake();
        found
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut waiting = lock(&self.0.waiting);
        waiting.left = true;
        for payload in std::mem::take(&mut waiting.payloads) {
            self.0.taken(&payload);
        }
        drop(waiting);
        lock(&self.0.shared.awaited).retain(|_, shelf| !Arc::ptr_eq(shelf, &self.0));
        self.0.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_amqp::primitives::Binary;

    fn stand_in(output: &mut BytesMut) -> Data {
        let number = output.split().split_off(STAND_IN.len());
        Data(Binary::from(number.to_vec()))
    }

    fn put(shelf: &Shelf, bytes: &'static [u8], more: bool) -> Data {
        let mut output = BytesMut::new();
        shelf.put(Bytes::from_static(bytes), more, &mut output).expect("there is room");
        stand_in(&mut output)
    }

    #[test]
    fn each_delivery_gets_its_own() {
        let payloads = Payloads::default();
        let inbox = payloads.link("a", 100);
        assert!(payloads.attached("b").is_none());
        let shelf = payloads.attached("a").expect("it is awaited");
        assert!(payloads.attached("a").is_none(), "a peer attaches a link once");
        let (one, given_up) = (put(&shelf, b"one", false), put(&shelf, b"given up", true));
        shelf.abort();
        let (two, three) = (put(&shelf, b"tw", true), put(&shelf, b"o", false));
        let take = |all: Vec<Data>| inbox.take(&Sections::new(all));
        assert_eq!(take(vec![one.clone()]).as_deref(), Ok(&b"one"[..]));
        assert_eq!(take(vec![two, three]).as_deref(), Ok(&b"two"[..]));
        for gone in [vec![one], vec![given_up], vec![], vec![Data(Binary::from(vec![1]))]] {
            assert_eq!(take(gone), Err(Missing::Unknown));
        }
        let (begin, end) = (put(&shelf, &[0; 90], true), put(&shelf, &[0; 11], false));
        assert_eq!(take(vec![begin, end]), Err(Missing::TooLarge));
        let parts = [
            put(&shelf, b"", true),
            put(&shelf, b"a", true),
            put(&shelf, b"b", true),
            put(&shelf, b"c", false),
        ];
        assert_eq!(take(parts.into()).as_deref(), Ok(&b"abc"[..]));
        let empty = put(&shelf, b"", false);
        assert_eq!(take(vec![empty]).as_deref(), Ok(&b""[..]));
        assert_eq!(payloads.0.held.load(Ordering::Relaxed), 0);
        drop(inbox);
        put(&shelf, b"for nobody", false);
        assert_eq!(payloads.0.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_waits_is_bounded() {
        let payloads = Payloads::default();
        let inbox = payloads.link("a", MOST + 10);
        let shelf = payloads.attached("a").expect("it is awaited");
        let context = Context::from_waker(Waker::noop());
        let large = Bytes::from(vec![0; MOST]);
        let mut output = BytesMut::new();
        shelf.put(large.clone(), false, &mut output).expect("there is room");
        let first = stand_in(&mut output);
        assert!(!payloads.is_full(&context));
        put(&shelf, b"a little more", false);
        assert!(payloads.is_full(&context));
        assert!(inbox.take(&Sections::new(vec![first])).is_ok());
        assert!(!payloads.is_full(&context));
        shelf.put(large.clone(), true, &mut output).expect("there is room");
        shelf.put(large.clone(), true, &mut output).expect("what is too large is not kept");
        drop(inbox);
        // Halves on many links, for which nobody can come.
        let inboxes: Vec<_> = (0..2).map(|link| payloads.link(&link.to_string(), MOST)).collect();
        let mut halves = (0..2).map(|link| {
            let shelf = payloads.attached(&link.to_string()).expect("it is awaited");
            shelf.put(large.clone(), true, &mut BytesMut::new())
        });
        assert_eq!(
            (halves.next().map(|half| half.is_ok()), halves.next().map(|half| half.is_ok())),
            (Some(true), Some(false))
        );
        drop(inboxes);
    }
}
