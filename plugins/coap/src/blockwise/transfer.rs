//! The client's side: a request in as many messages as it takes, and its response put together.

use std::fmt;

use bytes::Bytes;

use super::Room;
use crate::message::{self, Block, CoapOption, MessageClass, Packet};

/// How large messages and bodies may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preferences {
    /// For bodies of our own; and of the server no larger blocks are asked for.
    pub room: Room,
    /// Ask for blocks of that size before the server has shown that it sends any (early negotiation, RFC 7959 section 2.3).
    pub early: bool,
    /// The longest response that is put together, in bytes.
    pub longest: usize,
}

/// Why no response can be made of what came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The request has more than 2^20 blocks.
    RequestTooLong,
    /// The response is longer than [`Preferences::longest`], by its Size2 or by what came.
    ResponseTooLong,
    /// A block option with a reserved size or too many bytes.
    BadBlock,
    /// A block that was not asked for: its number was expected to be the first of these, and is the second.
    OutOfOrder { expected: u32, came: u32 },
    /// A block that is not full, and not the last.
    ShortBlock,
    /// The body changed while it was fetched, more often than it was begun again.
    Changed,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::RequestTooLong => f.write_str("the request takes more than 2^20 blocks"),
            Problem::ResponseTooLong => f.write_str("the response is longer than is allowed here"),
            Problem::BadBlock => f.write_str("the server sent a block option that is none"),
            Problem::OutOfOrder { expected, came } => {
                write!(f, "the server sent block {came} where {expected} was asked for")
            }
            Problem::ShortBlock => f.write_str("the server sent a block that is not full, and not the last"),
            Problem::Changed => f.write_str("the resource changed each time while it was fetched"),
        }
    }
}

impl std::error::Error for Problem {}

/// What is to be done with a transfer.
#[derive(Debug)]
pub enum Step {
    /// The next message of it. It is a request of its own: with another token and message id.
    Send(Packet),
    /// The response is whole.
    Done(Answer),
    Failed(Problem),
}

/// A whole response: the last message's code and options, and the body of all.
#[derive(Debug)]
pub struct Answer {
    pub packet: Packet,
    /// Messages it took to send the request's body and to fetch the response's.
    pub request_blocks: u32,
    pub response_blocks: u32,
}

/// A changed body is fetched anew so often.
const RESTARTS: u32 = 3;

/// One request and its response.
pub struct Transfer {
    /// Without payload and block options.
    request: Packet,
    body: Bytes,
    preferences: Preferences,
    phase: Phase,
    request_blocks: u32,
    response_blocks: u32,
    restarts: u32,
    echoed: bool,
}

enum Phase {
    /// The request's bytes from `offset` on are to be sent, in blocks of this exponent.
    Sending { offset: usize, exponent: u8, blocks: bool },
    /// Blocks of the response are fetched.
    Fetching { packet: Box<Packet>, exponent: u8, etag: Option<Vec<u8>> },
}

impl Transfer {
    /// The transfer and its first message. Of the request, options that are not about blocks, code and payload are used.
    ///
    /// # Errors
    /// [`Problem::RequestTooLong`].
    pub fn start(mut request: Packet, preferences: Preferences) -> Result<(Transfer, Packet), Problem> {
        let body = Bytes::from(std::mem::take(&mut request.payload));
        let exponent = preferences.room.exponent;
        let blocks = body.len() > preferences.room.whole;
        if body.len().div_ceil(Room::unit(exponent)) > Block::LAST as usize {
            return Err(Problem::RequestTooLong);
        }
        let mut transfer = Transfer {
            request,
            body,
            preferences,
            phase: Phase::Sending { offset: 0, exponent, blocks },
            request_blocks: 0,
            response_blocks: 0,
            restarts: 0,
            echoed: false,
        };
        let first = transfer.next_of_request();
        Ok((transfer, first))
    }

    /// A transfer whose first response came by itself, as a notification does: what is missing of it is fetched
    /// (RFC 7959 section 2.6).
    pub fn resume(request: &Packet, response: Packet, preferences: Preferences) -> (Transfer, Step) {
        let mut request = request.clone();
        request.payload = Vec::new();
        // Only the first block is part of the observation.
        message::without(&mut request, CoapOption::Observe);
        let exponent = preferences.room.exponent;
        let mut transfer = Transfer {
            request,
            body: Bytes::new(),
            preferences,
            phase: Phase::Sending { offset: 0, exponent, blocks: false },
            request_blocks: 1,
            response_blocks: 0,
            restarts: 0,
            echoed: false,
        };
        let step = transfer.first_of_response(response);
        (transfer, step)
    }

    /// Whether a response is not all there is to it: more blocks are to be fetched, smaller ones to be sent, or the request
    /// is to be sent again with what the server gave to be repeated (Echo, RFC 9175 section 2.3).
    pub fn goes_on(response: &Packet) -> bool {
        let code = u8::from(response.header.code);
        code == TOO_LARGE
            || is_challenge(response)
            || message::first(response, CoapOption::Block2).is_some()
            || message::first(response, CoapOption::Block1).is_some()
    }

    /// Takes the response to the message sent last.
    pub fn receive(&mut self, response: Packet) -> Step {
        if is_challenge(&response) && !self.echoed {
            return self.again(&response);
        }
        match &self.phase {
            Phase::Sending { .. } => self.sent(response),
            Phase::Fetching { .. } => self.fetched(response),
        }
    }

    /// The message sent last, with what the server wants to see again.
    fn again(&mut self, challenge: &Packet) -> Step {
        self.echoed = true;
        let step = match &self.phase {
            Phase::Sending { .. } => Step::Send(self.next_of_request()),
            Phase::Fetching { .. } => self.ask_for_next(),
        };
        match (step, message::first(challenge, ECHO)) {
            (Step::Send(mut packet), Some(value)) => {
                message::replace(&mut packet, ECHO, value);
                Step::Send(packet)
            }
            (step, _) => step,
        }
    }

    fn next_of_request(&mut self) -> Packet {
        let Phase::Sending { offset, exponent, blocks } = self.phase else { return self.request.clone() };
        self.request_blocks += 1;
        let mut packet = self.request.clone();
        if blocks {
            let end = offset + self.preferences.room.of_blocks(exponent);
            let number = (offset / Room::unit(exponent)) as u32;
            let block = Block { number, more: self.body.len() > end, exponent };
            block.put(&mut packet, CoapOption::Block1);
            if offset == 0 {
                let size = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
                message::set_uint(&mut packet, CoapOption::Size1, size);
            }
            packet.payload = self.body[offset..self.body.len().min(end)].to_vec();
        } else {
            packet.payload = self.body.to_vec();
        }
        if self.preferences.early {
            let exponent = self.preferences.room.exponent;
            Block { number: 0, more: false, exponent }.put(&mut packet, CoapOption::Block2);
        }
        packet
    }

    /// A response came to a part of the request, or to all of it.
    fn sent(&mut self, response: Packet) -> Step {
        let Phase::Sending { offset, exponent, blocks } = &mut self.phase else {
            return Step::Failed(Problem::BadBlock);
        };
        let hint = Block::of(&response, CoapOption::Block1);
        let code = u8::from(response.header.code);
        if code == TOO_LARGE && self.body.len() > 16 {
            // Smaller blocks may do: the server says of what size (RFC 7959 section 2.9.3).
            let smaller = match hint {
                Some(hint) if !*blocks || hint.exponent < *exponent => Some(hint.exponent.min(*exponent)),
                _ => None,
            };
            if let Some(smaller) = smaller {
                (*offset, *exponent, *blocks) = (0, smaller, true);
                return Step::Send(self.next_of_request());
            }
        }
        if !*blocks {
            return self.first_of_response(response);
        }
        if Block::is_bad(&response, CoapOption::Block1) {
            return Step::Failed(Problem::BadBlock);
        }
        if message::class(response.header.code) != 2 {
            return self.first_of_response(response);
        }
        let sent = self.preferences.room.of_blocks(*exponent);
        let number = (*offset / Room::unit(*exponent)) as u32;
        if let Some(hint) = hint {
            if hint.number != number {
                return Step::Failed(Problem::OutOfOrder { expected: number, came: hint.number });
            }
            // Only the first answer may ask for smaller blocks, but a later one is no reason to fail.
            *offset += sent;
            *exponent = hint.exponent.min(*exponent);
        } else {
            *offset += sent;
        }
        if *offset >= self.body.len() || code != CONTINUE {
            return self.first_of_response(response);
        }
        Step::Send(self.next_of_request())
    }

    /// The response has begun: it is whole, or the rest of it is fetched.
    fn first_of_response(&mut self, response: Packet) -> Step {
        self.response_blocks = 1;
        if Block::is_bad(&response, CoapOption::Block2) {
            return Step::Failed(Problem::BadBlock);
        }
        let Some(block) = Block::of(&response, CoapOption::Block2) else { return self.done(response) };
        if block.number != 0 {
            return Step::Failed(Problem::OutOfOrder { expected: 0, came: block.number });
        }
        if !block.more {
            return self.done(response);
        }
        if !block.holds(response.payload.len()) {
            return Step::Failed(Problem::ShortBlock);
        }
        let announced = message::uint(&response, CoapOption::Size2).unwrap_or(0);
        if announced as usize > self.preferences.longest || response.payload.len() > self.preferences.longest
        {
            return Step::Failed(Problem::ResponseTooLong);
        }
        let etag = message::etag(&response).map(<[u8]>::to_vec);
        let exponent = block.exponent.min(self.preferences.room.exponent);
        self.phase = Phase::Fetching { packet: Box::new(response), exponent, etag };
        self.ask_for_next()
    }

    fn ask_for_next(&mut self) -> Step {
        let Phase::Fetching { packet, exponent, .. } = &self.phase else {
            return Step::Failed(Problem::BadBlock);
        };
        let number = packet.payload.len() / Room::unit(*exponent);
        let Some(number) = u32::try_from(number).ok().filter(|number| *number <= Block::LAST) else {
            return Step::Failed(Problem::ResponseTooLong);
        };
        let mut request = self.request.clone();
        // A payload of the request is not repeated (RFC 7959 section 3.3), except where it says what is asked for, and fits.
        if self.request_blocks == 1 && request.header.code == message::Method::Fetch.class() {
            request.payload = self.body.to_vec();
        }
        Block { number, more: false, exponent: *exponent }.put(&mut request, CoapOption::Block2);
        Step::Send(request)
    }

    /// A further block of the response.
    fn fetched(&mut self, response: Packet) -> Step {
        let Phase::Fetching { packet, exponent, etag } = &mut self.phase else {
            return Step::Failed(Problem::BadBlock);
        };
        self.response_blocks = self.response_blocks.saturating_add(1);
        if message::class(response.header.code) != 2 {
            return self.done(response);
        }
        let Some(block) = Block::of(&response, CoapOption::Block2) else {
            return Step::Failed(Problem::BadBlock);
        };
        let changed = message::etag(&response) != etag.as_deref();
        if changed {
            return self.restart();
        }
        let offset = packet.payload.len();
        if block.offset() != offset {
            let expected = (offset / block.size()) as u32;
            return Step::Failed(Problem::OutOfOrder { expected, came: block.number });
        }
        if !block.holds(response.payload.len()) {
            return Step::Failed(Problem::ShortBlock);
        }
        if offset + response.payload.len() > self.preferences.longest {
            return Step::Failed(Problem::ResponseTooLong);
        }
        packet.payload.extend_from_slice(&response.payload);
        *exponent = block.exponent.min(*exponent);
        if block.more {
            return self.ask_for_next();
        }
        // The first message's options count, but for the observe option's place in the order of notifications they are alike.
        let whole = std::mem::take(&mut **packet);
        self.done(whole)
    }

    /// The body is another than it was: it is fetched from the start.
    fn restart(&mut self) -> Step {
        self.restarts += 1;
        let safe = matches!(
            message::Method::of(self.request.header.code),
            Some(message::Method::Get | message::Method::Fetch)
        );
        if !safe || self.restarts > RESTARTS {
            return Step::Failed(Problem::Changed);
        }
        let Room { exponent, whole } = self.preferences.room;
        self.phase = Phase::Sending { offset: 0, exponent, blocks: self.body.len() > whole };
        Step::Send(self.next_of_request())
    }

    fn done(&mut self, packet: Packet) -> Step {
        Step::Done(Answer {
            packet,
            request_blocks: self.request_blocks,
            response_blocks: self.response_blocks,
        })
    }
}

const UNAUTHORIZED: u8 = 0x81;
const ECHO: CoapOption = CoapOption::Unknown(252);

fn is_challenge(response: &Packet) -> bool {
    u8::from(response.header.code) == UNAUTHORIZED && message::first(response, ECHO).is_some()
}

const CONTINUE: u8 = 0x5f;
const TOO_LARGE: u8 = 0x8d;

impl Answer {
    pub fn code(&self) -> MessageClass {
        self.packet.header.code
    }
}
