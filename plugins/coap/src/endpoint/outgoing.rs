//! What was sent and of which something is still to be heard: requests, and confirmable responses and notifications.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::peers::FastMap;
use super::{Busy, Endpoint, Event, Failure, Handle, Incoming, Manner};
use crate::message::{self, MessageType, Packet, Token};

/// Deadlines are looked through at most so often: there may be many of them.
const GRAIN: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Request(Manner),
    /// A separate response, or a notification.
    Response,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    /// Too much is under way with the peer.
    Waiting,
    /// Confirmable, and sent.
    Unacknowledged { timeout: Duration, due: Instant },
    /// Not confirmable or acknowledged: a response may come.
    Open { until: Option<Instant>, counts: bool },
}

pub(super) struct Exchange {
    pub(super) peer: SocketAddr,
    pub(super) token: Token,
    pub(super) message_id: u16,
    pub(super) kind: Kind,
    pub(super) state: State,
    pub(super) confirmable: bool,
    bytes: Bytes,
    pub(super) started: Instant,
    pub(super) retransmissions: u32,
}

impl Exchange {
    /// Whether it counts for NSTART.
    fn is_under_way(&self) -> bool {
        match self.state {
            State::Waiting => false,
            State::Unacknowledged { .. } => true,
            State::Open { counts, .. } => counts,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Waiting => None,
            State::Unacknowledged { due, .. } => Some(due),
            State::Open { until, .. } => until,
        }
    }
}

/// All exchanges, in slots that are used again.
#[derive(Default)]
pub(super) struct Exchanges {
    slots: Vec<(u32, Option<Exchange>)>,
    free: Vec<u32>,
    /// Requests by their token, which is ours.
    tokens: FastMap<Token, u32>,
    /// No deadline is before it.
    wake: Option<Instant>,
}

impl Exchanges {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.wake
    }

    fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn insert(&mut self, exchange: Exchange) -> Handle {
        let is_request = matches!(exchange.kind, Kind::Request(_));
        let token = exchange.token;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            (self.slots.len() - 1) as u32
        });
        let entry = &mut self.slots[slot as usize];
        entry.1 = Some(exchange);
        if is_request {
            self.tokens.insert(token, slot);
        }
        Handle { slot, generation: entry.0 }
    }

    pub(super) fn at(&mut self, slot: u32) -> Option<&mut Exchange> {
        self.slots.get_mut(slot as usize)?.1.as_mut()
    }

    pub(super) fn slot_of(&self, handle: Handle) -> Option<u32> {
        let (generation, exchange) = self.slots.get(handle.slot as usize)?;
        (*generation == handle.generation && exchange.is_some()).then_some(handle.slot)
    }

    pub(super) fn handle(&self, slot: u32) -> Handle {
        let generation = self.slots.get(slot as usize).map_or(0, |(generation, _)| *generation);
        Handle { slot, generation }
    }

    pub(super) fn by_token(&self, token: Token) -> Option<u32> {
        self.tokens.get(&token).copied()
    }

    pub(super) fn of_peer(&self, peer: SocketAddr) -> Vec<u32> {
        let of_peer = |(slot, (_, exchange)): (usize, &(u32, Option<Exchange>))| {
            exchange.as_ref().is_some_and(|exchange| exchange.peer == peer).then_some(slot as u32)
        };
        self.slots.iter().enumerate().filter_map(of_peer).collect()
    }

    fn take(&mut self, slot: u32) -> Option<Exchange> {
        let entry = self.slots.get_mut(slot as usize)?;
        let exchange = entry.1.take()?;
        entry.0 = entry.0.wrapping_add(1);
        if matches!(exchange.kind, Kind::Request(_)) {
            self.tokens.remove(&exchange.token);
        }
        self.free.push(slot);
        Some(exchange)
    }

    fn wake_at(&mut self, when: Option<Instant>) {
        self.wake = [self.wake, when].into_iter().flatten().min();
    }
}

impl Endpoint {
    /// Sends a request, at once or when its turn comes. Type, message id and token of the packet are set in here; it is the
    /// caller's again afterwards, for the next request.
    ///
    /// # Errors
    /// Too much is under way or waiting.
    pub fn request(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        packet: &mut Packet,
        manner: Manner,
    ) -> Result<Handle, Busy> {
        let mut token = Token::from_bits(self.random.bits());
        while self.exchanges.by_token(token).is_some() {
            token = Token::from_bits(self.random.bits());
        }
        packet.set_token(token.as_bytes().to_vec());
        let confirmable = manner.confirmable && !manner.any_peer;
        self.submit(now, peer, packet, token, Kind::Request(manner), confirmable)
    }

    /// Sends another request with the token of one that is to stay: the registration of an observer is renewed so
    /// (RFC 7641 section 3.3.1). `false`, and nothing is sent, when the one before was not acknowledged yet.
    pub fn renew(&mut self, now: Instant, handle: Handle, packet: &mut Packet) -> bool {
        let Some(slot) = self.exchanges.slot_of(handle) else { return false };
        let Some(exchange) = self.exchanges.at(slot) else { return false };
        if !matches!(exchange.state, State::Open { .. }) {
            return false;
        }
        let (address, token, before) = (exchange.peer, exchange.token, exchange.message_id);
        let was_under_way = exchange.is_under_way();
        let random = &mut self.random;
        let Some(peer) = self.peers.make(address, now, || random.bits()) else { return false };
        peer.sent.remove(&before);
        peer.under_way -= usize::from(was_under_way);
        let message_id = peer.message_id();
        packet.set_token(token.as_bytes().to_vec());
        packet.header.message_id = message_id;
        let confirmable = exchange.confirmable;
        exchange.bytes = encoded(packet, type_of(confirmable));
        exchange.message_id = message_id;
        exchange.retransmissions = 0;
        exchange.state = State::Waiting;
        self.start_or_wait(now, slot);
        true
    }

    /// Sends a response or notification of its own, with the packet's token: the message id and type are set in here. A
    /// confirmable one is heard of again ([`Event::Acknowledged`], [`Event::Failed`]); of one that is not, only
    /// [`Event::Rejected`] may be heard.
    ///
    /// # Errors
    /// Too much is under way or waiting.
    pub fn send(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        mut packet: Packet,
        confirmable: bool,
    ) -> Result<Option<Handle>, Busy> {
        let token = Token::of(&packet);
        if confirmable {
            return self.submit(now, peer, &mut packet, token, Kind::Response, true).map(Some);
        }
        let random = &mut self.random;
        let known = self.peers.make(peer, now, || random.bits()).ok_or(Busy::Full)?;
        packet.header.message_id = known.message_id();
        known.may_be_rejected(packet.header.message_id, token);
        let bytes = encoded(&mut packet, MessageType::NonConfirmable);
        self.transmit(peer, bytes);
        Ok(None)
    }

    /// Answers a request: with its acknowledgement if that has not been sent yet, else by itself, confirmably if the request
    /// was (RFC 7252 sections 5.2.1 to 5.2.3). `None` unless something is to be heard of it.
    pub fn respond(&mut self, now: Instant, request: Incoming, mut packet: Packet) -> Option<Handle> {
        packet.set_token(request.token.as_bytes().to_vec());
        if request.confirmable && self.settle(request) {
            packet.header.message_id = request.message_id;
            let bytes = encoded(&mut packet, MessageType::Acknowledgement);
            self.keep_reply(request, &bytes);
            self.transmit(request.peer, bytes);
            return None;
        }
        // When there is no room for it the peer asks again.
        self.send(now, request.peer, packet, request.confirmable).ok().flatten()
    }

    fn submit(
        &mut self,
        now: Instant,
        address: SocketAddr,
        packet: &mut Packet,
        token: Token,
        kind: Kind,
        confirmable: bool,
    ) -> Result<Handle, Busy> {
        if self.exchanges.len() >= self.limits.outgoing {
            return Err(Busy::Full);
        }
        let random = &mut self.random;
        let peer = self.peers.make(address, now, || random.bits()).ok_or(Busy::Full)?;
        if peer.exchanges >= self.limits.outgoing_per_peer {
            return Err(Busy::Full);
        }
        let message_id = peer.message_id();
        peer.exchanges += 1;
        packet.header.message_id = message_id;
        let bytes = encoded(packet, type_of(confirmable));
        let handle = self.exchanges.insert(Exchange {
            peer: address,
            token,
            message_id,
            kind,
            state: State::Waiting,
            confirmable,
            bytes,
            started: now,
            retransmissions: 0,
        });
        self.start_or_wait(now, handle.slot);
        Ok(handle)
    }

    fn start_or_wait(&mut self, now: Instant, slot: u32) {
        let Some(exchange) = self.exchanges.at(slot) else { return };
        let address = exchange.peer;
        let Some(peer) = self.peers.get(address) else { return };
        if peer.under_way >= self.parameters.nstart.max(1) {
            peer.waiting.push_back(slot);
            return;
        }
        self.start(now, slot);
    }

    fn start(&mut self, now: Instant, slot: u32) {
        let Some(exchange) = self.exchanges.at(slot) else { return };
        let Some(peer) = self.peers.get(exchange.peer) else { return };
        exchange.started = now;
        peer.sent.insert(exchange.message_id, slot);
        let (address, bytes) = (exchange.peer, exchange.bytes.clone());
        if exchange.confirmable {
            let spread = 1.0 + (self.parameters.ack_random_factor - 1.0).max(0.0) * self.random.fraction();
            let timeout = self.parameters.ack_timeout.mul_f64(spread);
            exchange.state = State::Unacknowledged { timeout, due: now + timeout };
            peer.under_way += 1;
        } else {
            // A request to a group never fails: whoever made it knows how long to listen.
            let group = matches!(exchange.kind, Kind::Request(manner) if manner.any_peer);
            let patience = match exchange.kind {
                Kind::Request(_) => self.parameters.response_timeout,
                Kind::Response => None,
            };
            let until = patience.filter(|_| !group).map(|patience| now + patience);
            exchange.state = State::Open { until, counts: !group };
            peer.under_way += usize::from(!group);
            exchange.bytes = Bytes::new();
        }
        let deadline = exchange.deadline();
        self.exchanges.wake_at(deadline);
        self.transmit(address, bytes);
    }

    /// No more is to be heard of it. A response that comes all the same is rejected, which ends an observation at the server
    /// too (RFC 7641 section 3.6).
    pub fn cancel(&mut self, now: Instant, handle: Handle) {
        if let Some(slot) = self.exchanges.slot_of(handle) {
            self.finish(now, slot);
        }
    }

    /// Takes an exchange out, and lets the next one begin.
    pub(super) fn finish(&mut self, now: Instant, slot: u32) -> Option<Exchange> {
        let exchange = self.exchanges.take(slot)?;
        if let Some(peer) = self.peers.get(exchange.peer) {
            peer.exchanges -= 1;
            if peer.sent.get(&exchange.message_id) == Some(&slot) {
                peer.sent.remove(&exchange.message_id);
            }
            match exchange.state {
                State::Waiting => peer.waiting.retain(|waiting| *waiting != slot),
                _ if exchange.is_under_way() => peer.under_way -= 1,
                _ => {}
            }
        }
        self.start_waiting(now, exchange.peer);
        Some(exchange)
    }

    /// It is settled for NSTART, but something may still come.
    pub(super) fn open(&mut self, now: Instant, slot: u32, until: Option<Instant>) {
        let Some(exchange) = self.exchanges.at(slot) else { return };
        let address = exchange.peer;
        let was_under_way = exchange.is_under_way();
        exchange.state = State::Open { until, counts: false };
        exchange.bytes = Bytes::new();
        self.exchanges.wake_at(until);
        if let Some(peer) = self.peers.get(address) {
            peer.under_way -= usize::from(was_under_way);
        }
        self.start_waiting(now, address);
    }

    fn start_waiting(&mut self, now: Instant, address: SocketAddr) {
        while let Some(peer) = self.peers.get(address) {
            if peer.under_way >= self.parameters.nstart.max(1) {
                return;
            }
            let Some(slot) = peer.waiting.pop_front() else { return };
            self.start(now, slot);
        }
    }

    /// Retransmits, gives up, acknowledges what was not answered in time.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.acknowledge_late(now);
        if self.exchanges.wake.is_none_or(|wake| wake > now) {
            return;
        }
        self.exchanges.wake = None;
        let mut wake = None::<Instant>;
        for slot in 0..self.exchanges.slots.len() as u32 {
            let Some(exchange) = self.exchanges.at(slot) else { continue };
            let Some(deadline) = exchange.deadline() else { continue };
            let next = if deadline <= now { self.expired(now, slot) } else { Some(deadline) };
            wake = [wake, next].into_iter().flatten().min();
        }
        // What began meanwhile has told its deadline.
        self.exchanges.wake_at(wake);
        self.exchanges.wake = self.exchanges.wake.map(|wake| wake.max(now + GRAIN));
    }

    /// A deadline has passed: the next one, if there is any.
    fn expired(&mut self, now: Instant, slot: u32) -> Option<Instant> {
        let exchange = self.exchanges.at(slot)?;
        let why = match exchange.state {
            State::Waiting => return None,
            State::Unacknowledged { timeout, .. }
                if exchange.retransmissions < self.parameters.max_retransmit =>
            {
                exchange.retransmissions += 1;
                let timeout = timeout * 2;
                // From now: after a pause of the process there is no burst of all that was missed.
                exchange.state = State::Unacknowledged { timeout, due: now + timeout };
                let (peer, bytes) = (exchange.peer, exchange.bytes.clone());
                self.transmit(peer, bytes);
                return Some(now + timeout);
            }
            State::Unacknowledged { .. } => Failure::TimedOut { retransmissions: exchange.retransmissions },
            State::Open { counts: true, .. } => Failure::TimedOut { retransmissions: 0 },
            State::Open { .. } => Failure::NoResponse,
        };
        self.fail(now, slot, why);
        None
    }

    pub(super) fn fail(&mut self, now: Instant, slot: u32, why: Failure) {
        let handle = self.exchanges.handle(slot);
        if let Some(exchange) = self.finish(now, slot) {
            let (peer, token) = (exchange.peer, exchange.token);
            self.events.push_back(Event::Failed { handle, peer, token, why });
        }
    }

    /// Whether nothing is under way or waiting, so that nothing is to be expected.
    pub fn is_idle(&self) -> bool {
        self.exchanges.len() == 0
    }

    /// How many more requests to this peer would be taken, under way or waiting.
    pub fn room(&mut self, peer: SocketAddr) -> usize {
        let used = self.peers.get(peer).map_or(0, |peer| peer.exchanges);
        let all = self.limits.outgoing.saturating_sub(self.exchanges.len());
        self.limits.outgoing_per_peer.saturating_sub(used).min(all)
    }
}

fn type_of(confirmable: bool) -> MessageType {
    if confirmable { MessageType::Confirmable } else { MessageType::NonConfirmable }
}

fn encoded(packet: &mut Packet, message_type: MessageType) -> Bytes {
    packet.header.set_type(message_type);
    let mut bytes = Vec::new();
    message::encode(packet, &mut bytes);
    bytes.into()
}
