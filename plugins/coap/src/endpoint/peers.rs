//! What is remembered of each peer: message ids given out, messages seen, how much is under way.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::parameters::Limits;
use crate::message::Token;

/// For keys that are short and either random or few: one multiplication.
#[derive(Default)]
pub(crate) struct Multiply(u64);

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_ne_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<Multiply>>;

/// What a message that comes again gets.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// Nothing: it was not confirmable.
    Nothing,
    /// A confirmable request whose answer is still to come: an acknowledgement, from then on without the response.
    Pending,
    Acknowledged,
    Rejected,
    /// The response that went with the acknowledgement.
    Response(Bytes),
    /// There was no room for the response.
    Forgotten,
}

impl Reply {
    fn size(&self) -> usize {
        if let Reply::Response(bytes) = self { bytes.len() } else { 0 }
    }
}

#[derive(Debug)]
pub(super) struct Seen {
    /// Of the datagram: a peer that has used up its message ids within a lifetime means another message.
    hash: u64,
    until: Instant,
    pub(super) reply: Reply,
}

/// Non-confirmable notifications that may still be rejected, by message id.
const REJECTABLE: usize = 4;

pub(super) struct Peer {
    next_id: u16,
    /// Interactions that count for NSTART (RFC 7252 section 4.7).
    pub(super) under_way: usize,
    /// Slots of what waits for its turn.
    pub(super) waiting: VecDeque<u32>,
    /// Slots by the message id that an ACK or RST would name.
    pub(super) sent: FastMap<u16, u32>,
    /// All exchanges with the peer.
    pub(super) exchanges: usize,
    seen: FastMap<u16, Seen>,
    /// Of what was seen, and of the replies to it, the oldest first. An id that was used again stands there twice.
    order: VecDeque<(u16, Instant)>,
    replied: VecDeque<(u16, Instant)>,
    reply_bytes: usize,
    rejectable: VecDeque<(u16, Token)>,
    last: Instant,
}

impl Peer {
    fn new(first_id: u16, now: Instant) -> Peer {
        Peer {
            next_id: first_id,
            under_way: 0,
            waiting: VecDeque::new(),
            sent: FastMap::default(),
            exchanges: 0,
            seen: FastMap::default(),
            order: VecDeque::new(),
            replied: VecDeque::new(),
            reply_bytes: 0,
            rejectable: VecDeque::new(),
            last: now,
        }
    }

    /// An id that nothing under way has. That none is used twice within EXCHANGE_LIFETIME (RFC 7252 section 4.4) can't be
    /// kept by whoever sends more than 265 messages a second: 65536 ids have to last for 247 s.
    pub(super) fn message_id(&mut self) -> u16 {
        while self.sent.contains_key(&self.next_id) && self.sent.len() < usize::from(u16::MAX) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        id
    }

    pub(super) fn may_be_rejected(&mut self, message_id: u16, token: Token) {
        if self.rejectable.len() == REJECTABLE {
            self.rejectable.pop_front();
        }
        self.rejectable.push_back((message_id, token));
    }

    pub(super) fn rejected(&mut self, message_id: u16) -> Option<Token> {
        let at = self.rejectable.iter().position(|(id, _)| *id == message_id)?;
        self.rejectable.remove(at).map(|(_, token)| token)
    }

    /// What the same datagram got when it came before.
    pub(super) fn seen(&self, message_id: u16, hash: u64, now: Instant) -> Option<&Seen> {
        self.seen.get(&message_id).filter(|seen| seen.hash == hash && seen.until > now)
    }

    pub(super) fn seen_mut(&mut self, message_id: u16) -> Option<&mut Seen> {
        self.seen.get_mut(&message_id)
    }

    /// Forgets the message seen longest ago. How many bytes its reply had.
    fn forget_oldest(&mut self) -> Option<usize> {
        let (id, until) = self.order.pop_front()?;
        let is_it = self.seen.get(&id).is_some_and(|seen| seen.until == until);
        let seen = if is_it { self.seen.remove(&id) } else { None };
        let freed = seen.map_or(0, |seen| seen.reply.size());
        self.reply_bytes -= freed;
        while self.replied.front().is_some_and(|(_, replied)| *replied <= until) {
            self.replied.pop_front();
        }
        Some(freed)
    }

    /// Forgets the oldest reply, but not its message. How many bytes it had.
    fn forget_oldest_reply(&mut self) -> Option<usize> {
        let (id, until) = self.replied.pop_front()?;
        let Some(seen) = self.seen.get_mut(&id).filter(|seen| seen.until == until) else { return Some(0) };
        let freed = seen.reply.size();
        if freed > 0 {
            seen.reply = Reply::Forgotten;
            self.reply_bytes -= freed;
        }
        Some(freed)
    }

    fn is_idle(&self) -> bool {
        self.exchanges == 0
    }
}

pub(super) struct Peers {
    limits: Limits,
    slots: Vec<(SocketAddr, Peer)>,
    index: HashMap<SocketAddr, u32>,
    /// The peer that was asked for last: a client has only the one.
    recent: Option<(SocketAddr, u32)>,
    /// Where the next look for what may be forgotten begins.
    hand: usize,
    /// Of all peers.
    seen: usize,
    reply_bytes: usize,
}

impl Peers {
    pub(super) fn new(limits: Limits) -> Peers {
        Peers {
            limits,
            slots: Vec::new(),
            index: HashMap::new(),
            recent: None,
            hand: 0,
            seen: 0,
            reply_bytes: 0,
        }
    }

    fn position(&mut self, address: SocketAddr) -> Option<usize> {
        if let Some((known, at)) = self.recent
            && known == address
        {
            return Some(at as usize);
        }
        let at = *self.index.get(&address)?;
        self.recent = Some((address, at));
        Some(at as usize)
    }

    pub(super) fn get(&mut self, address: SocketAddr) -> Option<&mut Peer> {
        let at = self.position(address)?;
        Some(&mut self.slots[at].1)
    }

    /// The peer, made if need be. `None` when there are too many with which something is under way.
    pub(super) fn make(
        &mut self,
        address: SocketAddr,
        now: Instant,
        bits: impl FnOnce() -> u64,
    ) -> Option<&mut Peer> {
        if let Some(at) = self.position(address) {
            self.slots[at].1.last = now;
            return Some(&mut self.slots[at].1);
        }
        if self.slots.len() >= self.limits.peers && !self.evict() {
            return None;
        }
        let at = self.slots.len();
        self.slots.push((address, Peer::new(bits() as u16, now)));
        self.index.insert(address, at as u32);
        self.recent = Some((address, at as u32));
        Some(&mut self.slots[at].1)
    }

    /// Forgets the peer that was not heard of for longest among some with which nothing is under way.
    fn evict(&mut self) -> bool {
        const LOOKED_AT: usize = 16;
        let count = self.slots.len();
        let candidates = (0..count).map(|step| (self.hand + step) % count);
        let idle = candidates.filter(|at| self.slots[*at].1.is_idle()).take(LOOKED_AT);
        let oldest = idle.min_by_key(|at| self.slots[*at].1.last);
        self.hand = (self.hand + LOOKED_AT) % count.max(1);
        match oldest {
            Some(at) => {
                self.remove_at(at);
                true
            }
            None => false,
        }
    }

    fn remove_at(&mut self, at: usize) {
        self.recent = None;
        let (address, peer) = self.slots.swap_remove(at);
        self.reply_bytes -= peer.reply_bytes;
        self.seen -= peer.order.len();
        self.index.remove(&address);
        if let Some((moved, _)) = self.slots.get(at) {
            self.index.insert(*moved, at as u32);
        }
    }

    pub(super) fn remove(&mut self, address: SocketAddr) {
        if let Some(at) = self.position(address) {
            self.remove_at(at);
        }
    }

    /// Remembers a message, so that it is recognised when it comes again.
    pub(super) fn remember(
        &mut self,
        address: SocketAddr,
        message_id: u16,
        hash: u64,
        reply: Reply,
        now: Instant,
        lifetime: Duration,
    ) {
        let Some(at) = self.position(address) else { return };
        while let Some((_, until)) = self.slots[at].1.order.front()
            && (*until <= now || self.slots[at].1.order.len() >= self.limits.recent_per_peer)
        {
            self.forget_oldest(at);
        }
        if self.seen >= self.limits.recent {
            self.forget_some(at);
        }
        let until = now + lifetime;
        let peer = &mut self.slots[at].1;
        peer.order.push_back((message_id, until));
        self.seen += 1;
        if let Some(before) = peer.seen.insert(message_id, Seen { hash, until, reply }) {
            peer.reply_bytes -= before.reply.size();
            self.reply_bytes -= before.reply.size();
        }
    }

    fn forget_oldest(&mut self, at: usize) {
        if let Some(freed) = self.slots[at].1.forget_oldest() {
            self.seen -= 1;
            self.reply_bytes -= freed;
        }
    }

    /// There are too many of all peers: whoever has more than its share gives one.
    fn forget_some(&mut self, at: usize) {
        let share = self.seen / self.slots.len().max(1);
        let count = self.slots.len();
        let others = (0..count.min(16)).map(|step| (self.hand + step) % count);
        let greedy = std::iter::once(at).chain(others).find(|at| self.slots[*at].1.order.len() > share);
        self.hand = (self.hand + 1) % count.max(1);
        self.forget_oldest(greedy.unwrap_or(at));
    }

    /// Keeps what a message that is remembered got. Older replies make room for it.
    pub(super) fn answered(&mut self, address: SocketAddr, message_id: u16, reply: Reply) {
        let Some(at) = self.position(address) else { return };
        let size = reply.size();
        while self.slots[at].1.reply_bytes + size > self.limits.replies_per_peer
            && let Some(freed) = self.slots[at].1.forget_oldest_reply()
        {
            self.reply_bytes -= freed;
        }
        for _ in 0..16 {
            if self.reply_bytes + size <= self.limits.replies {
                break;
            }
            self.hand = (self.hand + 1) % self.slots.len();
            while let Some(freed) = self.slots[self.hand].1.forget_oldest_reply() {
                self.reply_bytes -= freed;
            }
        }
        let peer = &mut self.slots[at].1;
        let Some(seen) = peer.seen.get_mut(&message_id) else { return };
        let fits = peer.reply_bytes + size <= self.limits.replies_per_peer
            && self.reply_bytes + size <= self.limits.replies;
        let reply = if fits { reply } else { Reply::Forgotten };
        let (before, after) = (seen.reply.size(), reply.size());
        if after > 0 {
            peer.replied.push_back((message_id, seen.until));
        }
        seen.reply = reply;
        peer.reply_bytes = peer.reply_bytes - before + after;
        self.reply_bytes = self.reply_bytes - before + after;
    }

    /// How many peers are remembered.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}
