//! Messages on their way to the server: a bounded queue, and those in flight at QoS 1 and 2 (5.0, sections 4.3, 4.4).
//!
//! In-flight messages stay in the order they were first sent, in a ring indexed by a running number, and are sent
//! again in that order after a reconnect. The encoded packet is kept until the exchange is over; packet identifier,
//! DUP and topic alias are put in as it is written.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::ids::PacketIds;
use super::limits::Limits;
use super::notice::{Notice, Outcome};
use super::store::{Change, Changes};
use crate::wire::control::Ack;
use crate::wire::publish::{Layout, Naming};
use crate::wire::request::{AckKind, put_ack};
use crate::wire::{MAX_REMAINING, QoS, Reason, Version, WireError};

/// Aliases we define at most on a connection, whatever the server would allow: each costs memory on both sides.
const MAX_ALIASES: u16 = 64;

/// A message that has not been sent yet.
pub(super) struct Queued {
    pub(super) token: u64,
    pub(super) wire: Bytes,
    pub(super) layout: Layout,
    pub(super) expires: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// PUBLISH goes out or is out, PUBACK or PUBREC is awaited.
    Sent,
    /// QoS 2: PUBREC came, PUBREL goes out or is out, PUBCOMP is awaited.
    Released,
}

struct Flight {
    pid: u16,
    /// None: restored from disk, nobody waits for the outcome.
    token: Option<u64>,
    wire: Bytes,
    layout: Layout,
    state: State,
    /// From PUBREC, for the outcome.
    reason: Reason,
    /// The server may know it from an earlier connection of this session.
    dup: bool,
    /// Written on this connection: takes a place in the window.
    on_wire: bool,
}

pub(super) struct Outgoing {
    version: Version,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    flights: VecDeque<Option<Flight>>,
    /// Running number of the first in `flights`.
    first: u64,
    by_pid: HashMap<u16, u64>,
    /// Running number of the next flight to be written again after a reconnect.
    again: u64,
    window_used: usize,
    aliases: HashMap<Bytes, u16>,
    use_aliases: bool,
    /// QoS 0 tokens written to the output but not yet confirmed as flushed by the owner.
    unflushed: Vec<u64>,
}

impl Outgoing {
    pub(super) fn new(version: Version, use_aliases: bool) -> Self {
        Self {
            version,
            queue: VecDeque::new(),
            queued_bytes: 0,
            flights: VecDeque::new(),
            first: 0,
            by_pid: HashMap::new(),
            again: 0,
            window_used: 0,
            aliases: HashMap::new(),
            use_aliases: use_aliases && version.is_v5(),
            unflushed: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, queued: Queued) {
        self.queued_bytes += queued.wire.len();
        self.queue.push_back(queued);
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// In flight at QoS 1 and 2.
    pub(super) fn in_flight(&self) -> usize {
        self.by_pid.len()
    }

    /// Puts back what was in flight when an earlier process ended. False when the identifier is taken.
    pub(super) fn restore(&mut self, pid: u16, released: bool, wire: Bytes, ids: &mut PacketIds) -> bool {
        let Ok(layout) = Layout::of(&wire) else { return false };
        if layout.qos == QoS::AtMostOnce || (released && layout.qos != QoS::ExactlyOnce) || !ids.claim(pid) {
            return false;
        }
        ids.continue_after(pid);
        let state = if released { State::Released } else { State::Sent };
        let reason = Reason::SUCCESS;
        let flight = Flight { pid, token: None, wire, layout, state, reason, dup: true, on_wire: false };
        self.by_pid.insert(pid, self.first + self.flights.len() as u64);
        self.flights.push_back(Some(flight));
        true
    }

    /// The connection is gone: all that is in flight has to be written again on the next.
    pub(super) fn connection_lost(&mut self, notices: &mut Vec<Notice>) {
        for token in self.unflushed.drain(..) {
            notices.push(Notice::Published { token, outcome: Outcome::Unconfirmed });
        }
        for flight in self.flights.iter_mut().flatten() {
            flight.on_wire = false;
            flight.dup = true;
        }
        self.window_used = 0;
        self.again = self.first;
        self.aliases.clear();
    }

    /// The server has no session: everything in flight is new to it.
    pub(super) fn session_lost(&mut self, changes: &mut Changes) {
        for flight in self.flights.iter_mut().flatten() {
            flight.dup = false;
            if flight.state == State::Released {
                flight.state = State::Sent;
                changes.add(|| Change::Sent { pid: flight.pid, wire: flight.wire.clone() });
            }
        }
    }

    /// Tokens of QoS 0 messages whose bytes have all been written.
    pub(super) fn flushed(&mut self, notices: &mut Vec<Notice>) {
        for token in self.unflushed.drain(..) {
            notices.push(Notice::Published { token, outcome: Outcome::Sent });
        }
    }

    /// All tokens nobody will hear of any more: given up when the owner closes.
    pub(super) fn abandon(&mut self) -> Vec<u64> {
        let flights = self.flights.iter_mut().flatten().filter_map(|flight| flight.token.take());
        let mut tokens: Vec<u64> = flights.collect();
        tokens.append(&mut self.unflushed);
        tokens.extend(self.queue.drain(..).map(|queued| queued.token));
        self.queued_bytes = 0;
        tokens
    }

    /// Everything in flight, as the changes that lead to it from nothing.
    pub(super) fn snapshot(&self, into: &mut Vec<Change>) {
        for flight in self.flights.iter().flatten() {
            into.push(Change::Sent { pid: flight.pid, wire: flight.wire.clone() });
            if flight.state == State::Released {
                into.push(Change::Released { pid: flight.pid });
            }
        }
    }

    /// Writes what the window allows until `out` holds `room` bytes: first what has to be repeated, then the queue.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn poll(
        &mut self,
        now: Instant,
        limits: &Limits,
        window: usize,
        room: usize,
        ids: &mut PacketIds,
        changes: &mut Changes,
        notices: &mut Vec<Notice>,
        out: &mut BytesMut,
    ) {
        while out.len() < room && self.again < self.first + self.flights.len() as u64 {
            if !self.poll_again(limits, window, ids, changes, notices, out) {
                return;
            }
        }
        while out.len() < room {
            let Some(next) = self.queue.front() else { return };
            if next.layout.qos != QoS::AtMostOnce && self.window_used >= window {
                return;
            }
            let refusal = match limits.check_publish(&next.wire, &next.layout) {
                Err(error) => Some(Outcome::NotAllowed(error)),
                Ok(()) if next.expires.is_some_and(|at| at <= now) => Some(Outcome::Expired),
                Ok(()) => None,
            };
            let mut pid = 0;
            if refusal.is_none() && next.layout.qos != QoS::AtMostOnce {
                match ids.take() {
                    Some(free) => pid = free,
                    None => return,
                }
            }
            let Some(next) = self.queue.pop_front() else { return };
            self.queued_bytes -= next.wire.len();
            if let Some(outcome) = refusal {
                notices.push(Notice::Published { token: next.token, outcome });
                continue;
            }
            let naming = self.naming(&next.wire, &next.layout, limits);
            next.layout.write(&next.wire, pid, false, naming, out);
            if pid == 0 {
                self.unflushed.push(next.token);
                continue;
            }
            changes.add(|| Change::Sent { pid, wire: next.wire.clone() });
            self.by_pid.insert(pid, self.first + self.flights.len() as u64);
            self.flights.push_back(Some(Flight {
                pid,
                token: Some(next.token),
                wire: next.wire,
                layout: next.layout,
                state: State::Sent,
                reason: Reason::SUCCESS,
                dup: false,
                on_wire: true,
            }));
            self.again += 1;
            self.window_used += 1;
        }
    }

    /// Writes the next flight again. False when the window is full.
    fn poll_again(
        &mut self,
        limits: &Limits,
        window: usize,
        ids: &mut PacketIds,
        changes: &mut Changes,
        notices: &mut Vec<Notice>,
        out: &mut BytesMut,
    ) -> bool {
        let at = (self.again - self.first) as usize;
        let Some(flight) = self.flights[at].as_mut() else {
            self.again += 1;
            return true;
        };
        // Answered before its turn came: a server may repeat its PUBREC by itself.
        if flight.on_wire {
            self.again += 1;
            return true;
        }
        // A PUBREL always goes: the server waits for it, and it takes no new place in the server's own window.
        if flight.state == State::Sent && self.window_used >= window {
            return false;
        }
        self.again += 1;
        flight.on_wire = true;
        self.window_used += 1;
        match flight.state {
            State::Released => put_ack(AckKind::PubRel, flight.pid, Reason::SUCCESS, self.version, out),
            State::Sent => match limits.check_publish(&flight.wire, &flight.layout) {
                Ok(()) => flight.layout.write(&flight.wire, flight.pid, flight.dup, Naming::Topic, out),
                // The server came back with tighter limits than it had.
                Err(error) => {
                    let pid = flight.pid;
                    self.finish(pid, Outcome::NotAllowed(error), ids, changes, notices);
                }
            },
        }
        true
    }

    fn naming(&mut self, wire: &Bytes, layout: &Layout, limits: &Limits) -> Naming {
        let allowed = limits.topic_alias_maximum.min(MAX_ALIASES);
        let room = (limits.maximum_packet_size as usize).min(MAX_REMAINING);
        // An alias that costs more than it saves, or that would push the packet over a limit, is not used.
        if !self.use_aliases || allowed == 0 || wire.len() + 8 > room {
            return Naming::Topic;
        }
        let topic = layout.topic(wire);
        if topic.len() <= 4 {
            return Naming::Topic;
        }
        if let Some(alias) = self.aliases.get(topic) {
            return Naming::Alias(*alias);
        }
        if self.aliases.len() >= usize::from(allowed) {
            return Naming::Topic;
        }
        let alias = self.aliases.len() as u16 + 1;
        self.aliases.insert(Bytes::copy_from_slice(topic), alias);
        Naming::Define(alias)
    }

    pub(super) fn on_puback(
        &mut self,
        ack: Ack,
        ids: &mut PacketIds,
        changes: &mut Changes,
        notices: &mut Vec<Notice>,
    ) -> Result<(), WireError> {
        match self.flight(ack.pid) {
            // An answer to something that was settled already: harmless.
            None => Ok(()),
            Some(flight) if flight.layout.qos != QoS::AtLeastOnce => {
                Err(WireError::protocol("PUBACK for a message of QoS 2"))
            }
            Some(_) => {
                self.finish(ack.pid, outcome(ack.reason, ack.text), ids, changes, notices);
                Ok(())
            }
        }
    }

    pub(super) fn on_pubrec(
        &mut self,
        ack: Ack,
        ids: &mut PacketIds,
        changes: &mut Changes,
        notices: &mut Vec<Notice>,
        out: &mut BytesMut,
    ) -> Result<(), WireError> {
        let version = self.version;
        let Some(flight) = self.flight(ack.pid) else {
            // Not ours any more: PUBREL lets the server finish.
            if !ack.reason.is_failure() {
                put_ack(AckKind::PubRel, ack.pid, Reason::PACKET_ID_NOT_FOUND, version, out);
            }
            return Ok(());
        };
        if flight.layout.qos != QoS::ExactlyOnce {
            return Err(WireError::protocol("PUBREC for a message of QoS 1"));
        }
        // 0x91 answers a repeated PUBLISH: the server has it, so the exchange goes on.
        if ack.reason.is_failure() && ack.reason != Reason::PACKET_ID_IN_USE {
            self.finish(ack.pid, Outcome::Refused(ack.reason, ack.text), ids, changes, notices);
            return Ok(());
        }
        if flight.state == State::Sent {
            flight.state = State::Released;
            flight.reason = if ack.reason.is_failure() { Reason::SUCCESS } else { ack.reason };
            changes.add(|| Change::Released { pid: ack.pid });
        }
        let first_time = !std::mem::replace(&mut flight.on_wire, true);
        self.window_used += usize::from(first_time);
        put_ack(AckKind::PubRel, ack.pid, Reason::SUCCESS, version, out);
        Ok(())
    }

    pub(super) fn on_pubcomp(
        &mut self,
        ack: Ack,
        ids: &mut PacketIds,
        changes: &mut Changes,
        notices: &mut Vec<Notice>,
    ) -> Result<(), WireError> {
        match self.flight(ack.pid) {
            None => Ok(()),
            Some(flight) if flight.state != State::Released => {
                Err(WireError::protocol("PUBCOMP for a message that was not released"))
            }
            Some(flight) => {
                let reason = flight.reason;
                self.finish(ack.pid, Outcome::Acknowledged(reason), ids, changes, notices);
                Ok(())
            }
        }
    }

    fn flight(&mut self, pid: u16) -> Option<&mut Flight> {
        let at = (self.by_pid.get(&pid)? - self.first) as usize;
        self.flights.get_mut(at)?.as_mut()
    }

    fn finish(
        &mut self,
        pid: u16,
        outcome: Outcome,
        ids: &mut PacketIds,
        changes: &mut Changes,
        notices: &mut Vec<Notice>,
    ) {
        let Some(number) = self.by_pid.remove(&pid) else { return };
        let Some(flight) = self.flights[(number - self.first) as usize].take() else { return };
        while let Some(None) = self.flights.front() {
            self.flights.pop_front();
            self.first += 1;
        }
        self.again = self.again.max(self.first);
        ids.release(pid);
        self.window_used -= usize::from(flight.on_wire);
        changes.add(|| Change::Done { pid });
        if let Some(token) = flight.token {
            notices.push(Notice::Published { token, outcome });
        }
    }
}

fn outcome(reason: Reason, text: Option<String>) -> Outcome {
    if reason.is_failure() { Outcome::Refused(reason, text) } else { Outcome::Acknowledged(reason) }
}
