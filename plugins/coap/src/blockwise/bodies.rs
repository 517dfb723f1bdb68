//! The server's side: requests put together out of their blocks, responses taken apart.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Room;
use crate::message::{self, Block, CoapOption, MessageClass, Packet};

/// How much is kept of requests that are not whole yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// The longest body, in bytes.
    pub longest: usize,
    /// Bodies under way, and the bytes of all of them.
    pub count: usize,
    pub bytes: usize,
    /// Bodies under way from one peer.
    pub per_peer: usize,
    /// A body of which no block came for so long is forgotten.
    pub patience: Duration,
    /// The largest block that is taken: 0 (16 bytes) to 6 (1024 bytes), or [`Block::BERT`] where that may come.
    pub exponent: u8,
}

impl Default for BodyLimits {
    fn default() -> BodyLimits {
        BodyLimits {
            longest: 8 << 20,
            count: 1024,
            bytes: 64 << 20,
            per_peer: 8,
            // EXCHANGE_LIFETIME with the parameters of RFC 7252.
            patience: Duration::from_secs(247),
            exponent: Block::BERT,
        }
    }
}

/// What became of a request.
#[derive(Debug)]
pub enum Assembled {
    /// It is whole: without block, or with its last. The packet has the whole body; the last block's option, which is to be
    /// repeated in the response, comes with it, and how many messages it took.
    Whole { packet: Packet, block: Option<Block>, messages: u32 },
    /// To be answered with this, and is not seen by the application: 2.31, 4.00, 4.08 or 4.13.
    Answer(Packet),
}

/// Which body a block belongs to: the peer's, and all options that are part of the cache key or name the operation
/// (RFC 7959 section 2.5, with Request-Tag of RFC 9175 section 3).
#[derive(PartialEq, Eq, Hash)]
struct Key {
    peer: SocketAddr,
    code: u8,
    options: Vec<u8>,
}

struct Body {
    bytes: Vec<u8>,
    messages: u32,
    touched: Instant,
}

/// Requests that are not whole yet.
pub struct Bodies {
    limits: BodyLimits,
    bodies: HashMap<Key, Body>,
    bytes: usize,
}

impl Bodies {
    pub fn new(limits: BodyLimits) -> Bodies {
        Bodies { limits, bodies: HashMap::new(), bytes: 0 }
    }

    /// Takes a request. One without Block1 is whole.
    pub fn receive(&mut self, now: Instant, peer: SocketAddr, mut packet: Packet) -> Assembled {
        if Block::is_bad(&packet, CoapOption::Block1) {
            return answer(0x80, "the size of Block1 is reserved", None);
        }
        let Some(block) = Block::of(&packet, CoapOption::Block1) else {
            return Assembled::Whole { packet, block: None, messages: 1 };
        };
        if !block.holds(packet.payload.len()) {
            return answer(0x80, "the block's length is not what Block1 says", None);
        }
        let key = Key::of(peer, &packet);
        let announced = message::uint(&packet, CoapOption::Size1).unwrap_or(0) as usize;
        if announced > self.limits.longest || block.offset() + packet.payload.len() > self.limits.longest {
            self.remove(&key);
            return self.too_large();
        }
        if block.number == 0 {
            // It begins, or begins again.
            self.remove(&key);
            if block.more && !self.make_room(now, peer, packet.payload.len()) {
                return self.too_large();
            }
        }
        let known = self.bodies.get(&key).map_or(0, |body| body.bytes.len());
        if known != block.offset() {
            return self.out_of_order(now, &key, known, block, &packet);
        }
        if block.more && self.bytes + packet.payload.len() > self.limits.bytes {
            self.remove(&key);
            return self.too_large();
        }
        if block.more {
            let length = packet.payload.len();
            let begin = || Body { bytes: Vec::new(), messages: 0, touched: now };
            let body = self.bodies.entry(key).or_insert_with(begin);
            body.bytes.append(&mut packet.payload);
            body.messages += 1;
            body.touched = now;
            self.bytes += length;
            // Smaller blocks, where ours are to be smaller: the offset stays a multiple of them.
            let accepted = Block { exponent: block.exponent.min(self.limits.exponent), ..block };
            return answer(0x5f, "", Some(accepted));
        }
        let mut messages = 1;
        if let Some(mut body) = self.remove(&key) {
            body.bytes.append(&mut packet.payload);
            packet.payload = body.bytes;
            messages += body.messages;
        }
        Assembled::Whole { packet, block: Some(block), messages }
    }

    /// A block that came again in another message is confirmed again; else some are missing (4.08).
    fn out_of_order(
        &mut self,
        now: Instant,
        key: &Key,
        known: usize,
        block: Block,
        packet: &Packet,
    ) -> Assembled {
        let range = block.offset()..block.offset() + packet.payload.len();
        if let Some(body) = self.bodies.get_mut(key)
            && block.more
            && range.end <= known
            && body.bytes[range] == packet.payload
        {
            body.touched = now;
            return answer(0x5f, "", Some(block));
        }
        let text = format!("block {} came where byte {known} was to follow", block.number);
        answer(0x88, &text, Some(Block { more: false, ..block }))
    }

    fn too_large(&self) -> Assembled {
        let Assembled::Answer(mut packet) = answer(0x8d, "the body is longer than is taken here", None)
        else {
            unreachable!("an answer is one")
        };
        let longest = u32::try_from(self.limits.longest).unwrap_or(u32::MAX);
        message::set_uint(&mut packet, CoapOption::Size1, longest);
        Assembled::Answer(packet)
    }

    /// Forgets what nobody goes on with, and of one peer's bodies the oldest.
    fn make_room(&mut self, now: Instant, peer: SocketAddr, length: usize) -> bool {
        let patience = self.limits.patience;
        let count = self.bodies.keys().filter(|key| key.peer == peer).count();
        if self.bodies.len() >= self.limits.count || self.bytes + length > self.limits.bytes {
            self.retain(|_, body| now.saturating_duration_since(body.touched) < patience);
        }
        if count >= self.limits.per_peer {
            let of_peer = self.bodies.iter().filter(|(key, _)| key.peer == peer);
            let oldest = of_peer.map(|(_, body)| body.touched).min();
            self.retain(|key, body| key.peer != peer || Some(body.touched) != oldest);
        }
        // Of a flood of first blocks, the flood itself is driven out: what has come furthest stays.
        while self.bodies.len() >= self.limits.count || self.bytes + length > self.limits.bytes {
            let progress = |body: &Body| (body.bytes.len(), body.touched);
            let Some(least) = self.bodies.values().map(progress).min() else { break };
            if least.0 > length {
                break;
            }
            self.retain(|_, body| progress(body) != least);
        }
        self.bodies.len() < self.limits.count && self.bytes + length <= self.limits.bytes
    }

    fn retain(&mut self, keep: impl Fn(&Key, &Body) -> bool) {
        let bytes = &mut self.bytes;
        self.bodies.retain(|key, body| {
            let kept = keep(key, body);
            if !kept {
                *bytes -= body.bytes.len();
            }
            kept
        });
    }

    fn remove(&mut self, key: &Key) -> Option<Body> {
        let body = self.bodies.remove(key)?;
        self.bytes -= body.bytes.len();
        Some(body)
    }

    /// Forgets what a peer had begun.
    pub fn forget(&mut self, peer: SocketAddr) {
        self.retain(|key, _| key.peer != peer);
    }
}

impl Key {
    fn of(peer: SocketAddr, packet: &Packet) -> Key {
        // Block options tell the blocks apart, the sizes may stand in one of them only, and what does not belong to the
        // cache key (RFC 7252 section 5.4.2) may differ.
        let apart =
            [CoapOption::Block1, CoapOption::Block2, CoapOption::Size1, CoapOption::Size2].map(u16::from);
        let mut options = Vec::new();
        for (number, values) in packet.options() {
            if apart.contains(number) || number & 0x1e == 0x1c {
                continue;
            }
            for value in values {
                options.extend_from_slice(&number.to_be_bytes());
                options.extend_from_slice(&(value.len() as u16).to_be_bytes());
                options.extend_from_slice(value);
            }
        }
        Key { peer, code: packet.header.code.into(), options }
    }
}

fn answer(code: u8, text: &str, block: Option<Block>) -> Assembled {
    Assembled::Answer(packet(code, text, block))
}

fn packet(code: u8, text: &str, block: Option<Block>) -> Packet {
    let mut packet = Packet::new();
    packet.header.code = MessageClass::from(code);
    packet.payload = text.as_bytes().to_vec();
    if let Some(block) = block {
        block.put(&mut packet, CoapOption::Block1);
    }
    packet
}

/// Puts a body into a response: the block of it that the request's Block2 asks for, or the first one if it is longer than
/// there is room for. The packet then has Block2, and Size2 with the first block. A body that fits stays whole, unless
/// blocks were asked for.
///
/// # Errors
/// The answer to a request for a block behind the end, or with a bad option: 4.00 with a reason.
pub fn slice(request: &Packet, mut response: Packet, body: &[u8], room: Room) -> Result<Packet, Packet> {
    let bad = |text: &str| packet(0x80, text, None);
    if Block::is_bad(request, CoapOption::Block2) {
        return Err(bad("the size of Block2 is reserved"));
    }
    let asked = Block::of(request, CoapOption::Block2);
    let exponent = asked.map_or(room.exponent, |asked| asked.exponent.min(room.exponent));
    if asked.is_none() && body.len() <= room.whole {
        response.payload = body.to_vec();
        return Ok(response);
    }
    // Smaller blocks than were asked for: the same byte is another number.
    let offset = asked.map_or(0, Block::offset);
    if offset > 0 && offset >= body.len() {
        return Err(bad("the block is behind the end"));
    }
    let end = body.len().min(offset + room.of_blocks(exponent));
    let block = Block { number: (offset / Room::unit(exponent)) as u32, more: end < body.len(), exponent };
    response.payload = body[offset..end].to_vec();
    block.put(&mut response, CoapOption::Block2);
    if offset == 0 {
        message::set_uint(&mut response, CoapOption::Size2, u32::try_from(body.len()).unwrap_or(u32::MAX));
    }
    Ok(response)
}
