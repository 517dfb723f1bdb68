//! The message layer for datagrams: CON, NON, ACK and RST, retransmission, de-duplication, tokens (RFC 7252 sections 4 and 5).
//!
//! There is no I/O and no clock in here: whoever drives it hands in what came from the network and what time it is, sends
//! what [`Endpoint::poll_transmit`] gives, deals with what [`Endpoint::poll_event`] gives, and comes back when
//! [`Endpoint::next_timeout`] says. Client and server are the same thing, over UDP, DTLS or a simulated network:
//!
//! ```text
//! loop {
//!     wait for a datagram (endpoint.receive), a wish (request, respond, send), or next_timeout (handle_timeout)
//!     while let Some(event) = endpoint.poll_event() { … it may call respond, request, … }
//!     while let Some(transmit) = endpoint.poll_transmit() { socket.send_to(&transmit.bytes, transmit.peer) }
//! }
//! ```
//!
//! Everything that comes from the network is bounded: what is remembered of a peer, how many peers are, and what of all
//! of them together ([`Limits`]). What does not fit drives out the oldest that nothing is under way with.

mod incoming;
mod outgoing;
mod parameters;
mod peers;
mod random;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use parameters::{Limits, Parameters};

use crate::message::{Malformed, Packet, Token};
use outgoing::Exchanges;
pub(crate) use peers::FastMap;
use peers::Peers;
use random::Random;

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    pub peer: SocketAddr,
    pub bytes: Bytes,
}

/// Something that was sent and of which something is still to be heard: a request, a notification, a separate response.
/// It is never given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// A request that came in and may be answered: by what its answer finds its way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incoming {
    pub peer: SocketAddr,
    pub token: Token,
    pub message_id: u16,
    pub confirmable: bool,
    /// It went to a group of servers, and need not be answered at all (RFC 7252 section 8.2).
    pub to_group: bool,
}

/// How a request is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// CON, which is retransmitted until it is acknowledged, or NON.
    pub confirmable: bool,
    /// Several responses may come, from the one peer (observe) or from many ([`Manner::any_peer`]): the request stays until
    /// it is cancelled.
    pub stay: bool,
    /// It goes to a group: responses are taken from everybody, and it is not confirmable (RFC 7252 section 8.1).
    pub any_peer: bool,
}

impl Manner {
    pub const CONFIRMABLE: Manner = Manner { confirmable: true, stay: false, any_peer: false };
    pub const NON_CONFIRMABLE: Manner = Manner { confirmable: false, stay: false, any_peer: false };
}

/// What is known about a response beside its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Who sent it: the peer that was asked, or with [`Manner::any_peer`] anybody.
    pub peer: SocketAddr,
    /// From the first transmission of the request to this response.
    pub round_trip: Duration,
    /// How often the request was sent again.
    pub retransmissions: u32,
    /// It did not come with the acknowledgement, but by itself (RFC 7252 section 5.2.2).
    pub separate: bool,
}

/// Why nothing more will come of something that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing came for all retransmissions; of a NON request, for as long as an answer may take.
    TimedOut { retransmissions: u32 },
    /// It was acknowledged, but the response did not come within [`Parameters::response_timeout`].
    NoResponse,
    /// The peer can't make sense of it (RST).
    Reset,
    /// The peer was forgotten ([`Endpoint::forget`]).
    Forgotten,
    /// The response has a critical option that is not understood, the number of which this is.
    CriticalOption(u16),
    /// The message is longer than the peer takes: its length, and the limit. Only of a stream.
    TooLarge { length: usize, limit: usize },
    /// The response was not protected as the request was (OSCORE), so that anybody may have sent it.
    NotAuthentic,
}

/// What has happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A request came, for the first time: its retransmissions are answered in here. To be answered with
    /// [`Endpoint::respond`], soon or late; a confirmable one is acknowledged by itself when that takes long.
    Request { request: Incoming, packet: Packet },
    /// A response to a request came. Unless the request was to stay, its handle is gone.
    Response { handle: Handle, packet: Packet, arrival: Arrival },
    /// The message was acknowledged: of a request, the response will come by itself; of a response or notification, it has
    /// arrived, and the handle is gone.
    Acknowledged { handle: Handle, peer: SocketAddr, token: Token },
    /// Nothing more will come; the handle is gone. Of a notification, the observer is to be forgotten.
    Failed { handle: Handle, peer: SocketAddr, token: Token, why: Failure },
    /// A non-confirmable notification was rejected: its handle was gone already, and the observer is to be forgotten
    /// (RFC 7641 section 3.6).
    Rejected { peer: SocketAddr, token: Token },
    /// A ping was answered (an empty confirmable message, RFC 7252 section 4.3).
    Ping { peer: SocketAddr },
    /// A datagram was no message, and was rejected or ignored.
    Malformed { peer: SocketAddr, error: Malformed },
    /// A response that nobody asked that peer for was rejected or ignored: it is late, or forged.
    Stray { peer: SocketAddr, packet: Packet },
}

/// Why something can't be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// As much is under way or waiting as [`Limits`] allow.
    Full,
}

/// One end of many conversations: all that shares a socket.
pub struct Endpoint {
    parameters: Parameters,
    limits: Limits,
    random: Random,
    peers: Peers,
    exchanges: Exchanges,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    /// Confirmable requests that are not answered yet, by when they are to be acknowledged.
    unacknowledged: VecDeque<(Instant, Incoming)>,
}

impl Endpoint {
    pub fn new(parameters: Parameters, limits: Limits) -> Endpoint {
        Endpoint::with_random(parameters, limits, Random::of_system())
    }

    /// For simulations: the same seed makes the same tokens, message ids and time-outs. Whoever knows it can forge answers.
    pub fn seeded(parameters: Parameters, limits: Limits, seed: u64) -> Endpoint {
        Endpoint::with_random(parameters, limits, Random::seeded(seed))
    }

    fn with_random(parameters: Parameters, limits: Limits, random: Random) -> Endpoint {
        Endpoint {
            peers: Peers::new(limits),
            exchanges: Exchanges::default(),
            parameters,
            limits,
            random,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            unacknowledged: VecDeque::new(),
        }
    }

    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The next datagram to send. Ask until there is none, after every other call.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing that happened. Ask until there is none, after every other call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Endpoint::handle_timeout`] is to be called; it may be called at any time.
    pub fn next_timeout(&self) -> Option<Instant> {
        let unacknowledged = self.unacknowledged.front().map(|(when, _)| *when);
        [unacknowledged, self.exchanges.next_timeout()].into_iter().flatten().min()
    }

    /// A random part of this time.
    pub fn part_of(&mut self, time: Duration) -> Duration {
        time.mul_f64(self.random.fraction())
    }

    fn transmit(&mut self, peer: SocketAddr, bytes: impl Into<Bytes>) {
        self.transmits.push_back(Transmit { peer, bytes: bytes.into() });
    }
}
