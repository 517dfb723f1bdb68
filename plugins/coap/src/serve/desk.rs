//! Between messages and what they are about: requests are put together of their blocks, answers taken apart (RFC 7959), and
//! both get the options that go with it. One desk serves all peers of one socket, or one connection; whether datagrams or a
//! stream carry its messages, it does not know.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use coap_lite::ResponseType;
use serde_json::json;
use tokio::sync::Notify;
use tracemq_plugin_api::prelude::{Event, EventKind};
use tracemq_plugin_api::serde_json;

use super::handler::{self, Answer};
use super::observers::{Key, Link, Settled};
use super::service::{MAX_AGE, Response, Service};
use super::show::Sender;
use crate::blockwise::{Assembled, Bodies, BodyLimits, Room, slice};
use crate::message::{self, Block, CoapOption, MessageClass, Method, Packet, Token, uri_of};
use crate::oscore::{self, Opened, Refusal};

/// Answers that can't be made a second time, and may still be fetched in blocks.
const KEPT: usize = 64;
const KEPT_BYTES: usize = 16 << 20;

/// A response to be sent, without type and message id.
#[derive(Debug)]
pub struct Reply {
    pub packet: Packet,
    /// Not before.
    pub after: Duration,
}

/// A notification to be sent, with its token.
#[derive(Debug)]
pub struct Notice {
    pub key: Key,
    pub packet: Packet,
    pub confirmable: bool,
}

/// See the module.
pub struct Desk {
    service: Arc<Service>,
    link: Link,
    oscore: Option<Arc<Mutex<oscore::Server>>>,
    wake: Arc<Notify>,
    bodies: Bodies,
    kept: Kept,
    room: Room,
}

impl Desk {
    /// With `oscore` nothing is answered that is not protected.
    pub fn new(
        service: Arc<Service>,
        limits: BodyLimits,
        oscore: Option<Arc<Mutex<oscore::Server>>>,
    ) -> Desk {
        let (link, wake) = service.attach();
        let bodies = Bodies::new(limits);
        Desk {
            service,
            link,
            oscore,
            wake,
            bodies,
            kept: Kept::default(),
            room: Room::of_datagram(Block::LARGEST),
        }
    }

    /// Over a stream the client has told what it takes. What OSCORE protects is no longer than 64 KiB, with any transport.
    pub fn has_room(&mut self, room: Room) {
        if self.oscore.is_none() {
            self.room = room;
        }
    }

    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Rings when there are notifications to be sent.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Takes a request and answers it. `None`: the client wants no answer (RFC 7967).
    pub fn request(&mut self, now: Instant, sender: &Sender, packet: Packet) -> Option<Reply> {
        let Some(oscore) = self.oscore.clone() else { return self.plain(now, sender, packet) };
        let token = Token::of(&packet);
        let opened = oscore.lock().unwrap_or_else(PoisonError::into_inner).open(sender.peer, &packet);
        match opened {
            Opened::Answer(answer, refusal) => {
                if let Some(refusal) = refusal {
                    self.refused(sender.peer, refusal);
                }
                Some(self.at_once(answer))
            }
            Opened::Plain { request, client } => {
                let sender = Sender { identity: Some(client), ..sender.clone() };
                let mut reply = self.plain(now, &sender, request)?;
                let mut oscore = oscore.lock().unwrap_or_else(PoisonError::into_inner);
                reply.packet = oscore.protect(sender.peer, token, &reply.packet)?;
                Some(reply)
            }
        }
    }

    fn refused(&self, peer: SocketAddr, refusal: Refusal) {
        let text = format!("a request of {peer} was refused: {refusal}");
        let details = json!({ "what": "message", "peer": peer.to_string(), "reason": refusal.to_string() });
        self.service.events().emit(Event::new(EventKind::CLIENT_REFUSED, text).details(details));
    }

    fn plain(&mut self, now: Instant, sender: &Sender, packet: Packet) -> Option<Reply> {
        let unwanted = message::uint(&packet, CoapOption::NoResponse).unwrap_or(0);
        let reply = self.answer(now, sender, packet);
        let class = message::class(reply.packet.header.code);
        (unwanted >> (class - 1) & 1 == 0).then_some(reply)
    }

    fn answer(&mut self, now: Instant, sender: &Sender, packet: Packet) -> Reply {
        if let Some(answer) = self.not_for_us(&packet).or_else(|| handler::refuse(&packet)) {
            self.service.refused(sender, packet, answer.code);
            return self.at_once(with_body(&answer));
        }
        // What can't be answered yet has to be shown if it never will be.
        let seen = message::first(&packet, CoapOption::Block1).is_some().then(|| packet.clone());
        let (packet, block, blocks) = match self.bodies.receive(now, sender.peer, packet) {
            Assembled::Whole { packet, block, messages } => (packet, block, messages),
            Assembled::Answer(answer) => {
                let code = answer.header.code;
                if let Some(packet) = seen.filter(|_| message::class(code) != 2) {
                    self.service.refused(sender, packet, code);
                }
                return Reply { packet: answer, after: Duration::ZERO };
            }
        };
        let mut reply = self.whole(now, sender, packet, blocks);
        if let Some(block) = block {
            Block { more: false, ..block }.put(&mut reply.packet, CoapOption::Block1);
        }
        reply
    }

    /// A protected message, and no keys.
    fn not_for_us(&self, packet: &Packet) -> Option<Answer> {
        let protected = self.oscore.is_none() && message::first(packet, CoapOption::Oscore).is_some();
        protected.then(|| Answer::because(ResponseType::BadOption, "this server does not speak OSCORE"))
    }

    /// Answers a request whose body is whole, with the block of the answer that is asked for.
    fn whole(&mut self, now: Instant, sender: &Sender, request: Packet, blocks: u32) -> Reply {
        let asked = Block::of(&request, CoapOption::Block2);
        // What slicing needs of the request.
        let mut block_option = Packet::new();
        if message::is_of_stream(&request) {
            message::mark_of_stream(&mut block_option);
        }
        if let Some(value) = message::first(&request, CoapOption::Block2) {
            message::replace(&mut block_option, CoapOption::Block2, value);
        }
        let is_get = request.header.code == Method::Get.class();
        if asked.is_some_and(|asked| asked.number > 0) {
            let answer = match is_get {
                true => self.service.further(&request),
                false => match self.kept.get(&Operation::of(sender.peer, &request)) {
                    Some(answer) => answer.clone(),
                    None => Answer::because(
                        ResponseType::RequestEntityIncomplete,
                        "the answer of which this is a block is not kept any more",
                    ),
                },
            };
            return self.at_once(self.part(&block_option, &answer, None));
        }
        let operation = (!is_get).then(|| Operation::of(sender.peer, &request));
        let Response { answer, observe } = self.service.request(now, self.link, sender, request, blocks);
        let packet = self.part(&block_option, &answer, observe);
        if let Some(operation) = operation {
            match packet.payload.len() < answer.body.len() {
                true => self.kept.put(operation, answer),
                false => self.kept.remove(&operation),
            }
        }
        Reply { packet, after: self.service.manners().delay }
    }

    fn at_once(&self, packet: Packet) -> Reply {
        Reply { packet, after: Duration::ZERO }
    }

    /// The part of an answer that fits into a message, or that was asked for.
    fn part(&self, request: &Packet, answer: &Answer, observe: Option<u32>) -> Packet {
        let mut head = answer.head();
        if let Some(sequence) = observe {
            message::set_uint(&mut head, CoapOption::Observe, sequence);
        }
        let max_age = self.service.manners().max_age;
        if max_age != MAX_AGE && answer.code == MessageClass::Response(ResponseType::Content) {
            message::set_uint(&mut head, CoapOption::MaxAge, max_age);
        }
        slice(request, head, &answer.body, self.room).unwrap_or_else(|refusal| refusal)
    }

    /// The next notification that is to be sent.
    pub fn notice(&mut self, now: Instant) -> Option<Notice> {
        let notification = self.service.notification(now, self.link)?;
        let mut request = Packet::new();
        if let Some(exponent) = notification.wish.exponent {
            if exponent == Block::BERT {
                message::mark_of_stream(&mut request);
            }
            Block { number: 0, more: false, exponent }.put(&mut request, CoapOption::Block2);
        }
        let mut packet = self.part(&request, &notification.answer, notification.observe);
        packet.set_token(notification.key.token.as_bytes().to_vec());
        if let Some(oscore) = &self.oscore {
            let Key { peer, token, .. } = notification.key;
            let mut oscore = oscore.lock().unwrap_or_else(PoisonError::into_inner);
            packet = oscore.protect(peer, token, &packet)?;
        }
        Some(Notice { key: notification.key, packet, confirmable: notification.confirmable })
    }

    /// A peer is gone that may not be told anything any more.
    pub fn gone(&self, now: Instant, peer: SocketAddr) {
        self.service.gone(self.link, peer, now);
    }

    pub fn has_notices(&self) -> bool {
        self.service.has_notifications(self.link)
    }

    /// There is no room for it now.
    pub fn postpone(&self, key: &Key) {
        self.service.postpone(key);
    }

    /// What became of a notification to this peer.
    pub fn settled(&self, now: Instant, peer: SocketAddr, token: Token, outcome: Settled) {
        self.service.settled(now, &Key { link: self.link, peer, token }, outcome);
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.service.detach(self.link, Instant::now());
    }
}

fn with_body(answer: &Answer) -> Packet {
    let mut packet = answer.head();
    packet.payload = answer.body.to_vec();
    packet
}

/// The same request, but for its blocks.
#[derive(PartialEq, Eq, Hash)]
struct Operation {
    peer: SocketAddr,
    method: u8,
    uri: String,
}

impl Operation {
    fn of(peer: SocketAddr, request: &Packet) -> Operation {
        Operation { peer, method: request.header.code.into(), uri: uri_of(request) }
    }
}

/// Answers that are kept, and the order in which they came.
#[derive(Default)]
struct Kept {
    answers: HashMap<Operation, (u64, Answer)>,
    last: u64,
    bytes: usize,
}

impl Kept {
    fn get(&self, operation: &Operation) -> Option<&Answer> {
        self.answers.get(operation).map(|(_, answer)| answer)
    }

    fn put(&mut self, operation: Operation, answer: Answer) {
        self.remove(&operation);
        while self.answers.len() >= KEPT || self.bytes + answer.body.len() > KEPT_BYTES {
            let Some(first) = self.answers.values().map(|(number, _)| *number).min() else { return };
            let bytes = &mut self.bytes;
            self.answers.retain(|_, (number, answer)| {
                let kept = *number != first;
                *bytes -= if kept { 0 } else { answer.body.len() };
                kept
            });
        }
        self.last += 1;
        self.bytes += answer.body.len();
        self.answers.insert(operation, (self.last, answer));
    }

    fn remove(&mut self, operation: &Operation) {
        if let Some((_, answer)) = self.answers.remove(operation) {
            self.bytes -= answer.body.len();
        }
    }
}
