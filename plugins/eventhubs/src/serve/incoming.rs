//! Transfers that come in: events to be kept, and requests to be answered.

use bytes::Bytes;
use serde_json::json;
use tracemq_plugin_api::prelude::{Event as Told, EventKind};
use tracemq_plugin_api::serde_json;

use super::engine::{Engine, Fault};
use super::feed::Shown;
use super::log::{Event, Record};
use super::session::{CREDIT, Incoming, Link, Sink, To, WINDOW};
use crate::wire::{BATCH_FORMAT, Malformed, Message, Transfer, batch};

/// How long whoever was refused as by a busy service is asked to wait, in seconds.
const PAUSE: u32 = 2;

/// What became of a message.
pub(super) enum Verdict {
    Accepted,
    Rejected(&'static str, String),
}

impl From<Malformed> for Verdict {
    fn from(error: Malformed) -> Verdict {
        Verdict::Rejected("amqp:decode-error", error.to_string())
    }
}

/// What a transfer makes of a link.
enum Step {
    /// More is to come.
    Wait,
    Whole(Incoming, Bytes),
    /// The delivery is refused, and the link with it.
    Refuse(u32, &'static str, String),
}

impl Sink {
    fn take(&mut self, transfer: Transfer, payload: Bytes, most: usize) -> Result<Step, Fault> {
        let mut incoming = match self.partial.take() {
            Some(partial) => {
                if transfer.delivery_id.is_some_and(|id| id != partial.delivery) {
                    return Err(Malformed::Unexpected("a transfer within another delivery").into());
                }
                partial
            }
            None => {
                let delivery = transfer.delivery_id.ok_or(Malformed::Field("delivery-id"))?;
                let Some(credit) = self.credit.checked_sub(1) else {
                    let text = "there was no credit left".to_owned();
                    return Ok(Step::Refuse(delivery, "amqp:link:transfer-limit-exceeded", text));
                };
                self.credit = credit;
                self.delivery_count = self.delivery_count.wrapping_add(1);
                Incoming::new(delivery, transfer.message_format.unwrap_or(0))
            }
        };
        incoming.settled |= transfer.settled;
        if transfer.aborted {
            return Ok(Step::Wait);
        }
        let size = incoming.size + payload.len();
        if size > most {
            let text = format!(
                "The received message (delivery-id:{}, size:{size} bytes or more) exceeds the limit ({most} bytes) currently \
                 allowed on the link.",
                incoming.delivery
            );
            return Ok(Step::Refuse(incoming.delivery, "amqp:link:message-size-exceeded", text));
        }
        if transfer.more {
            incoming.more(&payload);
            self.partial = Some(incoming);
            return Ok(Step::Wait);
        }
        Ok(Step::Whole(incoming, payload))
    }
}

impl Engine {
    /// Takes in a transfer.
    ///
    /// # Errors
    /// It ends the connection.
    pub(super) fn transfer(&mut self, channel: u16, transfer: Transfer, payload: Bytes) -> Result<(), Fault> {
        let most = self.service.max_message;
        let Some(session) = self.sessions.get_mut(&channel) else { return Ok(()) };
        session.next_incoming = session.next_incoming.wrapping_add(1);
        let Some(window) = session.window.checked_sub(1) else {
            self.end(channel, "amqp:session:window-violation", "there was no window left");
            return Ok(());
        };
        session.window = window;
        let handle = transfer.handle;
        let step = match session.links.get_mut(&handle) {
            Some(Link::Sink(sink)) => sink.take(transfer, payload, most)?,
            Some(Link::Closing) => Step::Wait,
            Some(Link::Source(_) | Link::Replies(_)) | None => {
                let text = format!("handle {handle} is no link that can be sent on");
                self.end(channel, "amqp:session:unattached-handle", &text);
                return Ok(());
            }
        };
        match step {
            Step::Wait => {}
            // As in Azure the link goes; that the delivery is refused, too, is how Python's users get to know why.
            Step::Refuse(delivery, condition, text) => {
                self.write_rejected(channel, delivery, condition, &text);
                self.detach(channel, handle, condition, &text);
            }
            Step::Whole(mut incoming, last) => {
                let bytes = incoming.finish(last);
                self.deliver(channel, handle, &incoming, bytes);
            }
        }
        self.grant(channel, handle);
        Ok(())
    }

    /// Gives new credit, and a new window, when half of it is used.
    fn grant(&mut self, channel: u16, handle: u32) {
        let Some(session) = self.sessions.get_mut(&channel).filter(|session| !session.ended) else { return };
        let mut of = None;
        if let Some(Link::Sink(sink)) = session.links.get_mut(&handle)
            && sink.credit <= CREDIT / 2
        {
            sink.credit = CREDIT;
            of = Some(handle);
        }
        if of.is_some() || session.window <= WINDOW / 2 {
            session.write_flow(&mut self.out, of);
        }
    }

    fn deliver(&mut self, channel: u16, handle: u32, incoming: &Incoming, bytes: Bytes) {
        let session = self.sessions.get(&channel);
        let Some(Link::Sink(sink)) = session.and_then(|session| session.links.get(&handle)) else { return };
        let verdict = match &sink.to {
            To::Node(node) => {
                let node = *node;
                self.request(channel, node, &bytes)
            }
            // What was sent settled can't be refused.
            _ if !incoming.settled && self.service.busy.refuses() => Verdict::Rejected(
                "com.microsoft:server-busy",
                format!(
                    "The server is busy, as it was told to be. Please wait {PAUSE} seconds and try again."
                ),
            ),
            to => self.publish(to, incoming.format, &bytes),
        };
        match verdict {
            _ if incoming.settled => {}
            Verdict::Accepted => self.accept(channel, incoming.delivery),
            Verdict::Rejected(condition, text) => {
                self.write_rejected(channel, incoming.delivery, condition, &text);
                self.service.refused(&self.client, "a message", condition, &text);
            }
        }
    }

    /// Keeps an event or a batch of events.
    fn publish(&self, to: &To, format: u32, bytes: &[u8]) -> Verdict {
        let outer = match Message::read(bytes) {
            Ok(outer) => outer,
            Err(error) => return error.into(),
        };
        let several;
        let one;
        let events: Result<&[Event<'_>], Malformed> = if format == BATCH_FORMAT {
            let key = Record::key(outer.annotations);
            several = batch(&outer).and_then(|inner| {
                inner.into_iter().map(|message| Event::new(message, key)).collect::<Result<Vec<_>, _>>()
            });
            several.as_ref().map(Vec::as_slice).map_err(|error| *error)
        } else {
            one = Event::new(outer, None);
            one.as_ref().map(std::slice::from_ref).map_err(|error| *error)
        };
        let events = match events {
            Ok(events) => events,
            Err(error) => return error.into(),
        };
        let Some(first) = events.first() else {
            return Verdict::Rejected(
                "com.microsoft:argument-error",
                "there is no event in the batch".to_owned(),
            );
        };
        let partition = match to {
            To::Hub(hub) => hub.choose(first.key()),
            To::Partition(partition) => partition,
            To::Node(_) => {
                return Verdict::Rejected("amqp:not-allowed", "no events can be sent here".to_owned());
            }
        };
        match partition.append(events) {
            Ok(appended) => {
                let client = self.client.number;
                self.service.feed.push(Shown::new(partition, appended, client));
                Verdict::Accepted
            }
            Err(error) => {
                let text = format!(
                    "hub {}, partition {}: events can't be kept: {error}",
                    partition.hub, partition.id
                );
                let details = json!({ "hub": &*partition.hub, "partition": partition.id });
                self.service.events.emit(Told::new(EventKind::WARNING, text.clone()).details(details));
                Verdict::Rejected("amqp:internal-error", text)
            }
        }
    }
}
