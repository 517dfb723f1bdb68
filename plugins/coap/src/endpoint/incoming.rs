//! What comes from the network.

use std::hash::Hasher;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::outgoing::{Kind, State};
use super::peers::{Multiply, Reply};
use super::{Arrival, Endpoint, Event, Failure, Handle, Incoming};
use crate::message::{self, Malformed, MessageClass, MessageType, Method, Packet, Token};

const ACK: u8 = 2;
const RST: u8 = 3;

impl Endpoint {
    /// Takes a datagram that came from `peer`.
    pub fn receive(&mut self, now: Instant, peer: SocketAddr, bytes: &[u8]) {
        let packet = match message::decode(bytes) {
            Ok(packet) => packet,
            Err(error) => return self.malformed(peer, error),
        };
        let id = packet.header.message_id;
        let code = packet.header.code;
        match packet.header.get_type() {
            MessageType::Acknowledgement if code == MessageClass::Empty => self.acknowledged(now, peer, id),
            MessageType::Acknowledgement if message::is_response(code) => self.piggybacked(now, peer, packet),
            MessageType::Reset if code == MessageClass::Empty => self.reset(now, peer, id),
            // Neither has any other content (RFC 7252 section 4.2).
            MessageType::Acknowledgement | MessageType::Reset => {}
            MessageType::Confirmable if code == MessageClass::Empty => {
                self.empty(peer, RST, id);
                self.events.push_back(Event::Ping { peer });
            }
            MessageType::NonConfirmable if code == MessageClass::Empty => {}
            _ if message::is_request(code) => self.requested(now, peer, bytes, packet, false),
            _ => self.separate(now, peer, bytes, packet),
        }
    }

    /// Takes a datagram that came to a group: all but requests that are not confirmable is ignored, and nothing is rejected
    /// (RFC 7252 section 8.1).
    pub fn receive_of_group(&mut self, now: Instant, peer: SocketAddr, bytes: &[u8]) {
        match message::decode(bytes) {
            Ok(packet)
                if packet.header.get_type() == MessageType::NonConfirmable
                    && message::is_request(packet.header.code) =>
            {
                self.requested(now, peer, bytes, packet, true);
            }
            Ok(_) => {}
            Err(error) => self.events.push_back(Event::Malformed { peer, error }),
        }
    }

    /// Of what is no message, a confirmable one is rejected, all else ignored (RFC 7252 sections 3 and 4.2).
    fn malformed(&mut self, peer: SocketAddr, error: Malformed) {
        if let Some((MessageType::Confirmable, id)) = error.head {
            self.empty(peer, RST, id);
        }
        self.events.push_back(Event::Malformed { peer, error });
    }

    /// Sends an empty message.
    fn empty(&mut self, peer: SocketAddr, message_type: u8, message_id: u16) {
        let [high, low] = message_id.to_be_bytes();
        self.transmit(peer, Bytes::copy_from_slice(&[1 << 6 | message_type << 4, 0, high, low]));
    }

    fn requested(&mut self, now: Instant, address: SocketAddr, bytes: &[u8], packet: Packet, to_group: bool) {
        let confirmable = packet.header.get_type() == MessageType::Confirmable;
        let message_id = packet.header.message_id;
        let request =
            Incoming { peer: address, token: Token::of(&packet), message_id, confirmable, to_group };
        let hash = hash(bytes);
        let random = &mut self.random;
        // With no room for another peer it is dropped: if it matters it comes again.
        let Some(peer) = self.peers.make(address, now, || random.bits()) else { return };
        let again = peer.seen(message_id, hash, now).map(|seen| seen.reply.clone());
        match again {
            None => {}
            Some(Reply::Nothing) => return,
            Some(Reply::Pending) => {
                self.peers.answered(address, message_id, Reply::Acknowledged);
                return self.empty(address, ACK, message_id);
            }
            Some(Reply::Acknowledged) => return self.empty(address, ACK, message_id),
            Some(Reply::Rejected) => return self.empty(address, RST, message_id),
            Some(Reply::Response(bytes)) => return self.transmit(address, bytes),
            // Doing it again makes no difference, and gives the answer again (RFC 7252 section 4.5).
            Some(Reply::Forgotten) if is_idempotent(&packet) => {}
            Some(Reply::Forgotten) => return self.empty(address, ACK, message_id),
        }
        let (reply, lifetime) = match confirmable {
            true => (Reply::Pending, self.parameters.exchange_lifetime()),
            false => (Reply::Nothing, self.parameters.non_lifetime()),
        };
        self.peers.remember(address, message_id, hash, reply, now, lifetime);
        if confirmable {
            self.unacknowledged.push_back((now + self.parameters.ack_delay, request));
        }
        self.events.push_back(Event::Request { request, packet });
    }

    /// Whether the request's acknowledgement is still to be sent: from now on it is not.
    pub(super) fn settle(&mut self, request: Incoming) -> bool {
        // Most requests are answered at once.
        if self.unacknowledged.back().is_some_and(|(_, last)| *last == request) {
            self.unacknowledged.pop_back();
        }
        let Some(peer) = self.peers.get(request.peer) else { return false };
        match peer.seen_mut(request.message_id).map(|seen| &mut seen.reply) {
            Some(reply @ Reply::Pending) => {
                *reply = Reply::Acknowledged;
                true
            }
            _ => false,
        }
    }

    /// Keeps the response for when the request comes again.
    pub(super) fn keep_reply(&mut self, request: Incoming, bytes: &Bytes) {
        self.peers.answered(request.peer, request.message_id, Reply::Response(bytes.clone()));
    }

    /// Acknowledges a request to which there is no response, or not yet.
    pub fn acknowledge(&mut self, request: Incoming) {
        if request.confirmable && self.settle(request) {
            self.empty(request.peer, ACK, request.message_id);
        }
    }

    /// Rejects a request that can't be processed, and leaves one that is not confirmable without an answer (RFC 7252
    /// sections 4.2 and 4.3).
    pub fn reject(&mut self, request: Incoming) {
        if request.confirmable && self.settle(request) {
            self.peers.answered(request.peer, request.message_id, Reply::Rejected);
            self.empty(request.peer, RST, request.message_id);
        }
    }

    /// Acknowledges the requests that were not answered soon.
    pub(super) fn acknowledge_late(&mut self, now: Instant) {
        while let Some((when, request)) = self.unacknowledged.front().copied() {
            if when > now {
                return;
            }
            self.unacknowledged.pop_front();
            self.acknowledge(request);
        }
    }

    /// Forgets a peer: it has begun anew, as after another DTLS handshake. What was under way with it fails.
    pub fn forget(&mut self, now: Instant, address: SocketAddr) {
        let slots: Vec<u32> = self.exchanges.of_peer(address);
        for slot in slots {
            self.fail(now, slot, Failure::Forgotten);
        }
        self.peers.remove(address);
    }

    /// How many peers are remembered.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    fn acknowledged(&mut self, now: Instant, address: SocketAddr, message_id: u16) {
        let Some(slot) = self.sent(address, message_id) else { return };
        let Some(exchange) = self.exchanges.at(slot) else { return };
        if !matches!(exchange.state, State::Unacknowledged { .. }) {
            return;
        }
        let (token, kind) = (exchange.token, exchange.kind);
        let handle = self.exchanges.handle(slot);
        match kind {
            Kind::Request(_) => {
                let until = self.parameters.response_timeout.map(|timeout| now + timeout);
                self.open(now, slot, until);
            }
            Kind::Response => drop(self.finish(now, slot)),
        }
        self.events.push_back(Event::Acknowledged { handle, peer: address, token });
    }

    fn reset(&mut self, now: Instant, address: SocketAddr, message_id: u16) {
        if let Some(slot) = self.sent(address, message_id) {
            return self.fail(now, slot, Failure::Reset);
        }
        if let Some(token) = self.peers.get(address).and_then(|peer| peer.rejected(message_id)) {
            self.events.push_back(Event::Rejected { peer: address, token });
        }
    }

    fn sent(&mut self, address: SocketAddr, message_id: u16) -> Option<u32> {
        self.peers.get(address)?.sent.get(&message_id).copied()
    }

    /// The request that a response is for: its token is known, and it was sent to this peer.
    fn asked(&mut self, address: SocketAddr, packet: &Packet) -> Option<u32> {
        let slot = self.exchanges.by_token(Token::of(packet))?;
        let exchange = self.exchanges.at(slot)?;
        match exchange.kind {
            Kind::Request(manner) if manner.any_peer || exchange.peer == address => Some(slot),
            _ => None,
        }
    }

    /// A response within an acknowledgement: both must be of the same request (RFC 7252 section 5.3.2).
    fn piggybacked(&mut self, now: Instant, address: SocketAddr, packet: Packet) {
        let matches = |exchange: &mut super::outgoing::Exchange| {
            exchange.message_id == packet.header.message_id && exchange.confirmable
        };
        match self.asked(address, &packet) {
            Some(slot) if self.exchanges.at(slot).is_some_and(matches) => {
                self.answered(now, slot, address, packet, false);
            }
            _ => self.events.push_back(Event::Stray { peer: address, packet }),
        }
    }

    fn separate(&mut self, now: Instant, address: SocketAddr, bytes: &[u8], packet: Packet) {
        let message_id = packet.header.message_id;
        let confirmable = packet.header.get_type() == MessageType::Confirmable;
        let slot = self.asked(address, &packet);
        let stays = slot.and_then(|slot| self.exchanges.at(slot)).is_some_and(
            |exchange| matches!(exchange.kind, Kind::Request(manner) if manner.stay || manner.any_peer),
        );
        // One that is not confirmable ends its request, unless that stays: then there is nothing to tell it from.
        if confirmable || stays {
            let hash = hash(bytes);
            let random = &mut self.random;
            let Some(peer) = self.peers.make(address, now, || random.bits()) else { return };
            match peer.seen(message_id, hash, now).map(|seen| seen.reply.clone()) {
                None => {}
                Some(Reply::Acknowledged) => return self.empty(address, ACK, message_id),
                Some(Reply::Rejected) => return self.empty(address, RST, message_id),
                Some(_) => return,
            }
            let understood = slot.is_some() && message::not_understood(&packet).is_none();
            let reply = match (confirmable, understood) {
                (false, _) => Reply::Nothing,
                (true, true) => Reply::Acknowledged,
                (true, false) => Reply::Rejected,
            };
            let lifetime = self.parameters.exchange_lifetime();
            self.peers.remember(address, message_id, hash, reply, now, lifetime);
            if confirmable {
                self.empty(address, if understood { ACK } else { RST }, message_id);
            }
        } else if slot.is_none() {
            // An observation that was forgotten ends so (RFC 7641 section 3.6).
            self.empty(address, RST, message_id);
        }
        match slot {
            Some(slot) => self.answered(now, slot, address, packet, true),
            None => self.events.push_back(Event::Stray { peer: address, packet }),
        }
    }

    fn answered(&mut self, now: Instant, slot: u32, peer: SocketAddr, packet: Packet, separate: bool) {
        if let Some(number) = message::not_understood(&packet) {
            return self.fail(now, slot, Failure::CriticalOption(number));
        }
        let handle: Handle = self.exchanges.handle(slot);
        let Some(exchange) = self.exchanges.at(slot) else { return };
        let arrival = Arrival {
            peer,
            round_trip: now.saturating_duration_since(exchange.started),
            retransmissions: exchange.retransmissions,
            separate,
        };
        let stays = matches!(exchange.kind, Kind::Request(manner) if manner.stay || manner.any_peer);
        match stays {
            // A separate response says that the request has arrived, as an acknowledgement would.
            true => self.open(now, slot, None),
            false => drop(self.finish(now, slot)),
        }
        self.events.push_back(Event::Response { handle, packet, arrival });
    }
}

/// Methods that may be done twice (RFC 7252 section 5.8, RFC 8132 sections 2 and 3).
fn is_idempotent(packet: &Packet) -> bool {
    !matches!(Method::of(packet.header.code), Some(Method::Post | Method::Patch) | None)
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = Multiply::default();
    hasher.write(bytes);
    hasher.write_u64(bytes.len() as u64);
    hasher.finish()
}
