//! What goes out: events to readers, answers to those who asked. Each link has its turn, and all stop while the outbox is full:
//! so a slow reader holds a bounded amount, and a fast one does not hold up the others of its connection.

use bytes::{Buf, Bytes};

use super::engine::Engine;
use super::log::{Mark, Record};
use super::retention::now_ms;
use super::session::{Flowing, Link, Replies, Source};
use crate::wire::{Outbox, Writer, code};

/// What may wait for the socket before no more is added, in bytes.
pub(super) const FULL: usize = 256 * 1024;
/// What a link adds in its turn.
const TURN: usize = 64 * 1024;

/// How a link's turn ended.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// There is nothing to send, or no credit, or no window.
    Done,
    /// Another turn, please.
    More,
    /// As done, and the peer wants to hear that there is nothing.
    Drained,
    Failed(String),
}

impl Engine {
    /// Sends what there is, while there is room in the outbox.
    pub(super) fn pump(&mut self) {
        self.settle();
        while self.out.len() < FULL {
            let Some(key) = self.ready.pop_front() else { return };
            let (channel, handle) = (key.channel, key.handle);
            let Some(session) = self.sessions.get_mut(&channel) else { continue };
            let (out, flow, room) = (&mut self.out, &mut session.flow, self.room);
            let turn = match session.links.get_mut(&handle) {
                Some(Link::Source(source)) => {
                    source.out.queued = false;
                    source.turn(out, flow, room)
                }
                Some(Link::Replies(replies)) => {
                    replies.out.queued = false;
                    replies.turn(out, flow, room)
                }
                Some(Link::Closing | Link::Sink(_)) | None => continue,
            };
            match turn {
                Turn::Done => {}
                Turn::More => self.enqueue(channel, handle),
                Turn::Drained => session.write_flow(&mut self.out, Some(handle)),
                Turn::Failed(text) => self.detach(channel, handle, "amqp:internal-error", &text),
            }
        }
    }
}

impl Source {
    fn turn(&mut self, out: &mut Outbox, flow: &mut Flowing, room: usize) -> Turn {
        let start = out.len();
        let mut newest = Vec::new();
        while self.out.ready(out, flow, room) {
            if out.len() - start >= TURN {
                return Turn::More;
            }
            let Some(record) = Record::read(&self.rest) else {
                match self.seat.partition().read(self.next) {
                    Ok(Some(records)) => self.rest = records,
                    Ok(None) if !self.seat.wait(self.next) => {}
                    Ok(None) if self.out.drain => {
                        self.out.delivery_count = self.out.delivery_count.wrapping_add(self.out.credit);
                        self.out.credit = 0;
                        return Turn::Drained;
                    }
                    Ok(None) => return Turn::Done,
                    Err(error) => return Turn::Failed(format!("the events can't be read: {error}")),
                }
                continue;
            };
            if record.mark.sequence >= self.next {
                self.next = record.mark.sequence + 1;
                if self.metrics {
                    if newest.is_empty() {
                        let last = self.seat.partition().info().last.unwrap_or(record.mark);
                        write_metrics(&mut newest, last);
                    }
                    self.out.send(out, flow, room, &[record.header, &newest, record.rest]);
                } else {
                    self.out.send(out, flow, room, &[record.header, record.rest]);
                }
            }
            let length = record.length;
            self.rest.advance(length);
        }
        if self.rest.is_empty() {
            // A piece of the log is not held for nothing.
            self.rest = Bytes::new();
        }
        Turn::Done
    }
}

/// The delivery annotations that tell of the newest event.
fn write_metrics(out: &mut Vec<u8>, last: Mark) {
    Writer::new(out).describe(code::DELIVERY_ANNOTATIONS).map(|w| {
        w.symbol("last_enqueued_sequence_number");
        w.long(last.sequence as i64);
        w.symbol("last_enqueued_offset");
        w.string(&last.offset.to_string());
        w.symbol("last_enqueued_time_utc");
        w.timestamp(last.time);
        w.symbol("runtime_info_retrieval_time_utc");
        w.timestamp(now_ms());
    });
}

impl Replies {
    fn turn(&mut self, out: &mut Outbox, flow: &mut Flowing, room: usize) -> Turn {
        while self.out.ready(out, flow, room) {
            let Some(message) = self.waiting.pop_front() else {
                if self.out.drain {
                    self.out.delivery_count = self.out.delivery_count.wrapping_add(self.out.credit);
                    self.out.credit = 0;
                    return Turn::Drained;
                }
                return Turn::Done;
            };
            self.out.send(out, flow, room, &[&message]);
        }
        Turn::Done
    }
}
