//! Messages on their way from the server (5.0, sections 4.3, 4.6).
//!
//! Nothing is acknowledged when it is parsed. Each delivered message has an ordinal; its PUBACK or PUBREC is released
//! once the consumer says that it is done with everything up to that ordinal. At QoS 2 the identifier is remembered
//! from delivery until PUBREL, across connections, so a repetition is never delivered twice.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::store::{Change, Changes};
use crate::wire::publish::PublishView;
use crate::wire::request::{AckKind, put_ack};
use crate::wire::{Frame, Properties, QoS, Reason, Version, WireError};

/// Where a message's topic is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topic<'a> {
    /// In the message's own packet.
    In(Range<usize>),
    /// Sent earlier on this connection: an alias stands for it.
    Aliased(&'a Bytes),
}

/// A received message. The ranges refer to `buffer`, which many messages share.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// The read buffer.
    pub buffer: &'a Bytes,
    /// Topic name, valid UTF-8.
    pub topic: Topic<'a>,
    /// Payload.
    pub payload: Range<usize>,
    /// Quality of service.
    pub qos: QoS,
    /// Retained.
    pub retain: bool,
    /// The server says it sent it before.
    pub dup: bool,
    /// 5.0 properties.
    pub properties: Properties<'a>,
}

impl Message<'_> {
    /// The topic name. It was checked when the packet was read.
    pub fn topic(&self) -> &str {
        let bytes = match &self.topic {
            Topic::In(range) => &self.buffer[range.clone()],
            Topic::Aliased(topic) => topic,
        };
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

/// Takes received messages.
pub trait Deliver {
    /// Takes a message and returns true, or false when it cannot hold it: then it is not acknowledged, and the
    /// server sends it again on the next connection of the session.
    fn deliver(&mut self, message: &Message<'_>) -> bool;
}

struct Held {
    ordinal: u64,
    pid: u16,
    qos: QoS,
}

/// A QoS 2 message between delivery and PUBREL.
struct Open {
    ordinal: u64,
    consumed: bool,
    /// The server sent PUBLISH on this connection and has no PUBREC yet.
    awaits_pubrec: bool,
    /// Counts against our receive maximum on this connection.
    counted: bool,
}

pub(super) struct Incoming {
    version: Version,
    receive_maximum: usize,
    alias_maximum: u16,
    delivered: u64,
    held: VecDeque<Held>,
    open: HashMap<u16, Open>,
    aliases: HashMap<u16, Bytes>,
    unacknowledged: usize,
    /// The server has gone beyond the receive maximum, and that was told.
    exceeded: bool,
}

impl Incoming {
    pub(super) fn new(version: Version, receive_maximum: u16, alias_maximum: u16) -> Self {
        Self {
            version,
            receive_maximum: receive_maximum.into(),
            alias_maximum,
            delivered: 0,
            held: VecDeque::new(),
            open: HashMap::new(),
            aliases: HashMap::new(),
            unacknowledged: 0,
            exceeded: false,
        }
    }

    /// The ordinal of the message delivered last; the first has 1.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Puts back a QoS 2 identifier that an earlier process had received.
    pub(super) fn restore(&mut self, pid: u16) {
        let open = Open { ordinal: 0, consumed: true, awaits_pubrec: false, counted: false };
        self.open.insert(pid, open);
    }

    pub(super) fn connection_lost(&mut self) {
        // The server repeats what QoS 1 was not acknowledged; an old PUBACK could hit another message.
        self.held.retain(|held| held.qos == QoS::ExactlyOnce);
        for open in self.open.values_mut() {
            open.awaits_pubrec = false;
            open.counted = false;
        }
        self.unacknowledged = 0;
        self.aliases.clear();
    }

    pub(super) fn session_lost(&mut self, changes: &mut Changes) {
        self.held.clear();
        for pid in self.open.drain().filter(|(_, open)| open.consumed).map(|(pid, _)| pid) {
            changes.add(|| Change::Forgotten { pid });
        }
    }

    pub(super) fn snapshot(&self, into: &mut Vec<Change>) {
        let consumed = self.open.iter().filter(|(_, open)| open.consumed);
        into.extend(consumed.map(|(pid, _)| Change::Received { pid: *pid }));
    }

    pub(super) fn on_publish(
        &mut self,
        frame: &Frame<'_>,
        sink: &mut impl Deliver,
        out: &mut BytesMut,
    ) -> Result<(), WireError> {
        let view = PublishView::read(frame, self.version)?;
        if view.topic.is_empty() || view.alias.is_some() {
            self.learn_alias(frame.buffer, &view)?;
        }
        if view.qos == QoS::ExactlyOnce && self.is_repeated(view.pid, out) {
            return Ok(());
        }
        let topic = match view.alias {
            Some(alias) if view.topic.is_empty() => Topic::Aliased(&self.aliases[&alias]),
            _ => Topic::In(view.topic),
        };
        let message = Message {
            buffer: frame.buffer,
            topic,
            payload: view.payload,
            qos: view.qos,
            retain: view.retain,
            dup: view.dup,
            properties: Properties::new(&frame.buffer[view.properties]),
        };
        let taken = sink.deliver(&message);
        if taken {
            self.delivered += 1;
        }
        if view.qos == QoS::AtMostOnce {
            return Ok(());
        }
        self.count();
        if !taken {
            return Ok(());
        }
        let ordinal = self.delivered;
        self.held.push_back(Held { ordinal, pid: view.pid, qos: view.qos });
        if view.qos == QoS::ExactlyOnce {
            let open = Open { ordinal, consumed: false, awaits_pubrec: true, counted: true };
            self.open.insert(view.pid, open);
        }
        Ok(())
    }

    /// A server that sends more than it may is told of and borne: 5.0 would have us disconnect (section 3.3.4), but
    /// mosquitto 2.0 does this to a slow reader, and a clean session would lose what it had queued. Packet identifiers
    /// bound it at 65,535 all the same.
    fn count(&mut self) {
        self.unacknowledged += 1;
        if self.version.is_v5() && self.unacknowledged > self.receive_maximum && !self.exceeded {
            self.exceeded = true;
            log::warn!(
                "the server sends more unacknowledged messages than the receive maximum of {}",
                self.receive_maximum
            );
        }
    }

    /// A QoS 2 message that was delivered before: answered again if the first answer was due, and left out.
    fn is_repeated(&mut self, pid: u16, out: &mut BytesMut) -> bool {
        let Some(open) = self.open.get_mut(&pid) else { return false };
        let counted = std::mem::replace(&mut open.counted, true);
        if open.consumed {
            put_ack(AckKind::PubRec, pid, Reason::SUCCESS, self.version, out);
        } else {
            open.awaits_pubrec = true;
        }
        if !counted {
            self.count();
        }
        true
    }

    fn learn_alias(&mut self, buffer: &Bytes, view: &PublishView) -> Result<(), WireError> {
        let Some(alias) = view.alias else {
            return Err(WireError::protocol("PUBLISH has neither a topic nor a topic alias"));
        };
        if alias == 0 || alias > self.alias_maximum {
            let what = format!("topic alias {alias}, we allowed 1 to {}", self.alias_maximum);
            return Err(WireError::with(Reason::TOPIC_ALIAS_INVALID, what));
        }
        if !view.topic.is_empty() {
            // A copy: the alias lives as long as the connection and must not pin a read buffer.
            self.aliases.insert(alias, Bytes::copy_from_slice(&buffer[view.topic.clone()]));
        } else if !self.aliases.contains_key(&alias) {
            return Err(WireError::protocol(format!("topic alias {alias} stands for nothing yet")));
        }
        Ok(())
    }

    /// The consumer is done with all messages up to this ordinal: their answers are due.
    pub(super) fn consumed(&mut self, up_to: u64, changes: &mut Changes, out: &mut BytesMut) {
        while let Some(held) = self.held.pop_front_if(|held| held.ordinal <= up_to) {
            if held.qos == QoS::AtLeastOnce {
                put_ack(AckKind::PubAck, held.pid, Reason::SUCCESS, self.version, out);
                self.unacknowledged = self.unacknowledged.saturating_sub(1);
                continue;
            }
            // The identifier may have been released and taken anew in the meantime.
            let open = self.open.get_mut(&held.pid).filter(|open| open.ordinal == held.ordinal);
            let Some(open) = open else { continue };
            open.consumed = true;
            changes.add(|| Change::Received { pid: held.pid });
            if std::mem::take(&mut open.awaits_pubrec) {
                put_ack(AckKind::PubRec, held.pid, Reason::SUCCESS, self.version, out);
            }
        }
    }

    /// PUBREL: the exchange is over. One that is not known is answered too: it was over before.
    pub(super) fn on_pubrel(&mut self, pid: u16, changes: &mut Changes, out: &mut BytesMut) {
        let reason = match self.open.remove(&pid) {
            Some(open) => {
                self.unacknowledged -= usize::from(open.counted && self.unacknowledged > 0);
                if open.consumed {
                    changes.add(|| Change::Forgotten { pid });
                }
                Reason::SUCCESS
            }
            None => Reason::PACKET_ID_NOT_FOUND,
        };
        put_ack(AckKind::PubComp, pid, reason, self.version, out);
    }
}
