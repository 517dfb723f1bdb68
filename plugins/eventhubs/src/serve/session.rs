//! Sessions and links: their state, without what is done with it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use super::hub::Hub;
use super::partition::{Partition, Seat};
use crate::wire::{Body, Outbox, Writer, code};

/// Transfers that a peer may send before it hears of us.
pub(super) const WINDOW: u32 = 5000;
/// Deliveries that a sender may send before it hears of us.
pub(super) const CREDIT: u32 = 2000;

/// A session. One that was ended by us only waits for the peer to say so, too.
#[derive(Default)]
pub(super) struct Session {
    pub(super) ended: bool,
    /// The transfer to come from the peer, and how many may.
    pub(super) next_incoming: u32,
    pub(super) window: u32,
    pub(super) flow: Flowing,
    pub(super) links: HashMap<u32, Link>,
}

/// What goes out on a session.
#[derive(Debug, Default)]
pub(super) struct Flowing {
    pub(super) channel: u16,
    /// The next transfer's number.
    pub(super) next: u32,
    /// How many transfers the peer takes.
    pub(super) window: u32,
}

/// A link, by the peer's role and what it is for.
pub(super) enum Link {
    /// Detached by us: what still comes for it is passed over, until the peer has detached it, too.
    Closing,
    /// The peer sends.
    Sink(Sink),
    /// The peer reads events.
    Source(Box<Source>),
    /// The peer reads answers.
    Replies(Replies),
}

/// A node that answers requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Cbs,
    Management,
}

/// Where what a peer sends goes.
#[derive(Clone)]
pub(super) enum To {
    Hub(Arc<Hub>),
    Partition(Arc<Partition>),
    Node(Node),
}

pub(super) struct Sink {
    pub(super) to: To,
    pub(super) access: Lease,
    pub(super) credit: u32,
    pub(super) delivery_count: u32,
    pub(super) partial: Option<Incoming>,
}

/// What a link is used by right of, and until when.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) address: String,
    /// Seconds since 1970-01-01 UTC.
    pub(super) until: u64,
}

/// A delivery that is coming in.
pub(super) struct Incoming {
    pub(super) delivery: u32,
    pub(super) format: u32,
    pub(super) settled: bool,
    /// When there are several transfers.
    bytes: BytesMut,
    pub(super) size: usize,
}

impl Incoming {
    pub(super) fn new(delivery: u32, format: u32) -> Incoming {
        Incoming { delivery, format, settled: false, bytes: BytesMut::new(), size: 0 }
    }

    /// Takes in a part that is not the last.
    pub(super) fn more(&mut self, part: &[u8]) {
        self.bytes.extend_from_slice(part);
        self.size = self.bytes.len();
    }

    /// The whole message. It is not copied when it came in one.
    pub(super) fn finish(&mut self, part: Bytes) -> Bytes {
        if self.bytes.is_empty() {
            return part;
        }
        self.bytes.extend_from_slice(&part);
        std::mem::take(&mut self.bytes).freeze()
    }
}

/// What sending on a link takes.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) handle: u32,
    pub(super) credit: u32,
    pub(super) delivery_count: u32,
    pub(super) drain: bool,
    /// Stands in line to send.
    pub(super) queued: bool,
    /// A message that did not fit into a frame, or into the window.
    partial: Option<(u32, Bytes)>,
}

pub(super) struct Source {
    pub(super) out: Outgoing,
    pub(super) access: Lease,
    pub(super) seat: Seat,
    /// The event to send next.
    pub(super) next: u64,
    /// Records that were read.
    pub(super) rest: Bytes,
    /// Whether each event tells of the newest there is.
    pub(super) metrics: bool,
}

pub(super) struct Replies {
    pub(super) out: Outgoing,
    pub(super) node: Node,
    /// The peer's own name for its end.
    pub(super) address: Option<String>,
    pub(super) waiting: VecDeque<Bytes>,
}

impl Outgoing {
    pub(super) fn new(handle: u32) -> Outgoing {
        Outgoing { handle, ..Outgoing::default() }
    }

    /// Whether there is something to send, or may be.
    pub(super) fn wants(&self) -> bool {
        self.credit > 0 || self.partial.is_some()
    }

    /// Whether another message may be sent now. What did not fit before is sent first.
    pub(super) fn ready(&mut self, out: &mut Outbox, flow: &mut Flowing, room: usize) -> bool {
        while let Some((delivery, mut bytes)) = self.partial.take() {
            if flow.window == 0 {
                self.partial = Some((delivery, bytes));
                return false;
            }
            let part = bytes.split_to(bytes.len().min(room));
            let more = bytes.has_remaining();
            self.transfer(out, flow, delivery, more, &[&part]);
            if more {
                self.partial = Some((delivery, bytes));
            }
        }
        self.credit > 0 && flow.window > 0
    }

    /// Sends a message. To be called only when [`Outgoing::ready`] said so.
    #[inline]
    pub(super) fn send(&mut self, out: &mut Outbox, flow: &mut Flowing, room: usize, parts: &[&[u8]]) {
        self.credit = self.credit.saturating_sub(1);
        self.delivery_count = self.delivery_count.wrapping_add(1);
        let size: usize = parts.iter().map(|part| part.len()).sum();
        let delivery = flow.next;
        if size <= room {
            self.transfer(out, flow, delivery, false, parts);
        } else {
            self.partial = Some((delivery, parts.concat().into()));
            self.ready(out, flow, room);
        }
    }

    fn transfer(&self, out: &mut Outbox, flow: &mut Flowing, delivery: u32, more: bool, parts: &[&[u8]]) {
        out.transfer(Body { channel: flow.channel, handle: self.handle, delivery, more }, parts);
        flow.next = flow.next.wrapping_add(1);
        flow.window = flow.window.saturating_sub(1);
    }
}

impl Session {
    /// Tells the peer how the session, and a link of it, stand.
    pub(super) fn write_flow(&mut self, out: &mut Outbox, handle: Option<u32>) {
        self.window = WINDOW;
        let counts = handle.and_then(|handle| match self.links.get(&handle)? {
            Link::Closing => None,
            Link::Sink(sink) => Some((sink.delivery_count, sink.credit, false)),
            Link::Source(source) => Some((source.out.delivery_count, source.out.credit, source.out.drain)),
            Link::Replies(replies) => {
                Some((replies.out.delivery_count, replies.out.credit, replies.out.drain))
            }
        });
        out.performative(self.flow.channel, code::FLOW, |w| {
            w.uint(self.next_incoming);
            w.uint(self.window);
            w.uint(self.flow.next);
            w.uint(u32::MAX);
            match handle.zip(counts) {
                Some((handle, (count, credit, drain))) => {
                    w.uint(handle);
                    w.uint(count);
                    w.uint(credit);
                    w.uint(0);
                    w.bool(drain);
                }
                None => {
                    (0..4).for_each(|_| w.null());
                    w.bool(false);
                }
            }
            w.bool(false);
            w.null();
        });
    }

    /// The links on which something may go out.
    pub(super) fn wanting(&self) -> impl Iterator<Item = u32> {
        self.links.iter().filter_map(|(handle, link)| {
            let wants = match link {
                Link::Source(source) => source.out.wants(),
                Link::Replies(replies) => replies.out.wants(),
                Link::Closing | Link::Sink(_) => false,
            };
            wants.then_some(*handle)
        })
    }
}

/// Says that a link is no more.
pub(super) fn write_detach(out: &mut Outbox, channel: u16, handle: u32, error: Option<(&str, &str)>) {
    out.performative(channel, code::DETACH, |w| {
        w.uint(handle);
        w.bool(true);
        write_error(w, error);
    });
}

/// An error, or that there is none.
pub(super) fn write_error(w: &mut Writer<'_>, error: Option<(&str, &str)>) {
    match error {
        Some((condition, text)) => w.error(condition, text),
        None => w.null(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Frame, Performative};

    /// The payloads of transfers, with whether more follows.
    fn transfers(out: &Outbox) -> Vec<(Vec<u8>, bool)> {
        let mut found = Vec::new();
        let mut bytes = out.unsent();
        while let Ok(Some(header)) = Frame::header(bytes, 1 << 20) {
            let body = &bytes[header.body..header.size];
            if let Ok((Performative::Transfer(transfer), payload)) = Performative::read(body) {
                found.push((payload.to_vec(), transfer.more));
            }
            bytes = &bytes[header.size..];
        }
        found
    }

    #[test]
    fn what_does_not_fit_goes_on_when_there_is_a_window() {
        let mut out = Outbox::default();
        let mut flow = Flowing { channel: 1, next: 10, window: 2 };
        let mut link = Outgoing { credit: 2, ..Outgoing::default() };
        assert!(link.ready(&mut out, &mut flow, 4));
        link.send(&mut out, &mut flow, 4, &[b"abc", b"defgh", b"ij"]);
        assert_eq!(transfers(&out), [(b"abcd".to_vec(), true), (b"efgh".to_vec(), true)]);
        assert_eq!((link.credit, link.delivery_count, flow.next), (1, 1, 12));
        assert!(!link.ready(&mut out, &mut flow, 4) && link.wants());
        flow.window = 5;
        assert!(link.ready(&mut out, &mut flow, 4));
        assert_eq!(transfers(&out).last(), Some(&(b"ij".to_vec(), false)));
        link.send(&mut out, &mut flow, 4, &[b"k"]);
        assert!(!link.ready(&mut out, &mut flow, 4) && !link.wants());
        assert_eq!(transfers(&out).len(), 4);
    }

    #[test]
    fn a_delivery_in_several_transfers_is_one_message() {
        let mut incoming = Incoming::new(1, 0);
        incoming.more(b"ab");
        incoming.more(b"cd");
        assert_eq!(incoming.size, 4);
        assert_eq!(incoming.finish(Bytes::from_static(b"e")), "abcde");
        assert_eq!(Incoming::new(1, 0).finish(Bytes::from_static(b"one")), "one");
    }
}
