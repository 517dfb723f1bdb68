//! A client's requests on one connection: what the message layer is for datagrams, with the same events, but nothing is sent
//! again and nothing is acknowledged.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::stream::{Stream, StreamEvent};
use crate::blockwise::Room;
use crate::endpoint::{Arrival, Busy, Event, Failure, Handle, Manner};
use crate::message::{self, Packet, Token};

/// Requests under way, of which one takes little, and what waits to be sent.
const MOST_REQUESTS: usize = 4096;
const MOST_WAITING: usize = 4 << 20;

struct Request {
    handle: Handle,
    stays: bool,
    started: Instant,
    /// `None` once something has come of a request that stays.
    until: Option<Instant>,
}

/// Requests, responses and observations over a stream.
pub struct Client {
    stream: Stream,
    peer: SocketAddr,
    response_timeout: Option<Duration>,
    /// Tokens need not be random here: nobody else can send on this connection.
    requests: HashMap<Token, Request>,
    tokens: HashMap<Handle, Token>,
    last: u64,
    events: VecDeque<Event>,
    ready: bool,
    over: Option<String>,
}

impl Client {
    /// `limit` is the longest message that is taken, `response_timeout` how long a response is waited for.
    pub fn new(peer: SocketAddr, limit: usize, response_timeout: Option<Duration>) -> Client {
        Client {
            stream: Stream::new(limit),
            peer,
            response_timeout,
            requests: HashMap::new(),
            tokens: HashMap::new(),
            last: 0,
            events: VecDeque::new(),
            ready: false,
            over: None,
        }
    }

    /// The server has told its limits: it speaks CoAP.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// What goes into one message to the server.
    pub fn room(&self) -> Room {
        self.stream.room(usize::MAX)
    }

    /// Why there is no connection any more.
    pub fn over(&self) -> Option<&str> {
        self.over.as_deref()
    }

    /// Sends a request. Its token is set in here.
    ///
    /// # Errors
    /// Too much is under way.
    pub fn request(&mut self, now: Instant, packet: &mut Packet, manner: Manner) -> Result<Handle, Busy> {
        if self.requests.len() >= MOST_REQUESTS || self.stream.waiting() >= MOST_WAITING {
            return Err(Busy::Full);
        }
        self.last += 1;
        let handle = Handle { slot: self.last as u32, generation: (self.last >> 32) as u32 };
        let token = token(self.last);
        let until = self.response_timeout.map(|timeout| now + timeout);
        let request = Request { handle, stays: manner.stay, started: now, until };
        self.requests.insert(token, request);
        self.tokens.insert(handle, token);
        self.send(token, packet);
        Ok(handle)
    }

    /// Sends another request with the token of one that stays. `false`: there is none.
    pub fn renew(&mut self, now: Instant, handle: Handle, packet: &mut Packet) -> bool {
        let Some(token) = self.tokens.get(&handle).copied() else { return false };
        if let Some(request) = self.requests.get_mut(&token) {
            request.started = now;
            request.until = self.response_timeout.map(|timeout| now + timeout);
        }
        self.send(token, packet);
        true
    }

    /// Sends a request of which nothing is to be heard.
    ///
    /// # Errors
    /// Too much waits to be sent.
    pub fn send_off(&mut self, mut packet: Packet) -> Result<(), Busy> {
        if self.stream.waiting() >= MOST_WAITING {
            return Err(Busy::Full);
        }
        self.last += 1;
        packet.set_token(token(self.last).as_bytes().to_vec());
        if let Err(error) = self.stream.send(&packet) {
            log::warn!("a request is not sent: {error}");
        }
        Ok(())
    }

    /// Nothing more is to be heard of it: what comes all the same is ignored.
    pub fn cancel(&mut self, handle: Handle) {
        if let Some(token) = self.tokens.remove(&handle) {
            self.requests.remove(&token);
        }
    }

    /// Takes what came.
    pub fn receive(&mut self, now: Instant, bytes: &[u8]) {
        self.stream.receive(bytes);
        self.happenings(now);
    }

    /// The server has closed.
    pub fn ended(&mut self, now: Instant) {
        self.stream.ended();
        self.happenings(now);
    }

    /// Says that this end is about to close.
    pub fn release(&mut self) {
        self.stream.release();
    }

    /// What happened next. Ask until there is nothing, after every other call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What is to be sent. Ask after every other call.
    pub fn take_outgoing(&mut self) -> Bytes {
        self.stream.take_outgoing()
    }

    /// When [`Client::handle_timeout`] is to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.requests.values().filter_map(|request| request.until).min()
    }

    /// Gives up what was not answered in time.
    pub fn handle_timeout(&mut self, now: Instant) {
        let late = |(token, request): (&Token, &Request)| {
            request.until.is_some_and(|until| until <= now).then_some(*token)
        };
        for token in self.requests.iter().filter_map(late).collect::<Vec<_>>() {
            self.fail(token, Failure::NoResponse);
        }
    }

    fn send(&mut self, token: Token, packet: &mut Packet) {
        packet.set_token(token.as_bytes().to_vec());
        if let Err(error) = self.stream.send(packet) {
            self.fail(token, Failure::TooLarge { length: error.length, limit: error.limit });
        }
    }

    fn happenings(&mut self, now: Instant) {
        while let Some(event) = self.stream.poll_event() {
            match event {
                StreamEvent::Ready => self.ready = true,
                StreamEvent::Response(packet) => self.response(now, packet),
                // Both ends may ask (RFC 8323 section 2.2), but there is nothing to be had here.
                StreamEvent::Request(request) => self.not_found(&request),
                StreamEvent::Pong | StreamEvent::Released => {}
                StreamEvent::Over(why) => self.over = Some(why),
            }
        }
    }

    fn response(&mut self, now: Instant, packet: Packet) {
        let token = Token::of(&packet);
        let peer = self.peer;
        let Some(request) = self.requests.get_mut(&token) else {
            return self.events.push_back(Event::Stray { peer, packet });
        };
        if let Some(number) = message::not_understood(&packet) {
            return self.fail(token, Failure::CriticalOption(number));
        }
        let handle = request.handle;
        let round_trip = now.saturating_duration_since(request.started);
        request.until = None;
        if !request.stays {
            self.requests.remove(&token);
            self.tokens.remove(&handle);
        }
        let arrival = Arrival { peer, round_trip, retransmissions: 0, separate: false };
        self.events.push_back(Event::Response { handle, packet, arrival });
    }

    fn not_found(&mut self, request: &Packet) {
        let mut answer = Packet::new();
        answer.header.code = message::parse_code("4.04").unwrap_or(answer.header.code);
        answer.set_token(request.get_token().to_vec());
        // It is short enough for everybody.
        let _ = self.stream.send(&answer);
    }

    fn fail(&mut self, token: Token, why: Failure) {
        if let Some(request) = self.requests.remove(&token) {
            self.tokens.remove(&request.handle);
            let (handle, peer) = (request.handle, self.peer);
            self.events.push_back(Event::Failed { handle, peer, token, why });
        }
    }
}

/// The shortest token for a number.
fn token(number: u64) -> Token {
    let zeros = number.leading_zeros() as usize / 8;
    Token::new(&number.to_be_bytes()[zeros..]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{CoapOption, Method};

    const PATIENCE: Duration = Duration::from_secs(5);

    fn connected(now: Instant) -> (Client, Stream) {
        let mut client = Client::new("127.0.0.1:5683".parse().unwrap(), 5000, Some(PATIENCE));
        let mut server = Stream::new(2000);
        server.receive(&client.take_outgoing());
        assert!(matches!(server.poll_event(), Some(StreamEvent::Ready)));
        client.receive(now, &server.take_outgoing());
        assert!(client.is_ready());
        (client, server)
    }

    fn get() -> Packet {
        let mut packet = Packet::new();
        packet.header.code = Method::Get.class();
        packet
    }

    fn asked(client: &mut Client, server: &mut Stream) -> Packet {
        server.receive(&client.take_outgoing());
        match server.poll_event() {
            Some(StreamEvent::Request(packet)) => packet,
            other => panic!("a request, not {other:?}"),
        }
    }

    fn answer(server: &mut Stream, request: &Packet, payload: &[u8]) -> Bytes {
        let mut packet = Packet::new();
        packet.header.code = message::parse_code("2.05").unwrap();
        packet.set_token(request.get_token().to_vec());
        packet.payload = payload.to_vec();
        server.send(&packet).unwrap();
        server.take_outgoing()
    }

    #[test]
    fn answers_find_their_requests_in_any_order() {
        let now = Instant::now();
        let (mut client, mut server) = connected(now);
        let first = client.request(now, &mut get(), Manner::CONFIRMABLE).unwrap();
        let one = asked(&mut client, &mut server);
        let second = client.request(now, &mut get(), Manner::CONFIRMABLE).unwrap();
        let two = asked(&mut client, &mut server);
        client.receive(now, &answer(&mut server, &two, b"2"));
        client.receive(now, &answer(&mut server, &one, b"1"));
        for (handle, payload) in [(second, b"2"), (first, b"1")] {
            match client.poll_event() {
                Some(Event::Response { handle: came, packet, .. }) => {
                    assert_eq!((came, &packet.payload[..]), (handle, &payload[..]));
                }
                other => panic!("a response, not {other:?}"),
            }
        }
        // One answer each.
        client.receive(now, &answer(&mut server, &one, b"1"));
        assert!(matches!(client.poll_event(), Some(Event::Stray { .. })));
    }

    #[test]
    fn an_observation_stays_until_it_is_cancelled() {
        let now = Instant::now();
        let (mut client, mut server) = connected(now);
        let mut request = get();
        message::set_uint(&mut request, CoapOption::Observe, 0);
        let manner = Manner { stay: true, ..Manner::CONFIRMABLE };
        let handle = client.request(now, &mut request, manner).unwrap();
        let registration = asked(&mut client, &mut server);
        for payload in [b"1", b"2"] {
            client.receive(now, &answer(&mut server, &registration, payload));
            assert!(matches!(client.poll_event(), Some(Event::Response { .. })));
        }
        assert_eq!(client.next_timeout(), None);
        assert!(client.renew(now, handle, &mut get()));
        assert_eq!(asked(&mut client, &mut server).get_token(), registration.get_token());
        client.cancel(handle);
        client.receive(now, &answer(&mut server, &registration, b"3"));
        assert!(matches!(client.poll_event(), Some(Event::Stray { .. })));
    }

    #[test]
    fn what_is_not_answered_or_too_long_fails() {
        let now = Instant::now();
        let (mut client, mut server) = connected(now);
        client.request(now, &mut get(), Manner::CONFIRMABLE).unwrap();
        asked(&mut client, &mut server);
        assert_eq!(client.next_timeout(), Some(now + PATIENCE));
        client.handle_timeout(now + PATIENCE);
        assert!(matches!(client.poll_event(), Some(Event::Failed { why: Failure::NoResponse, .. })));
        let mut long = get();
        long.payload = vec![0; 2000];
        client.request(now, &mut long, Manner::CONFIRMABLE).unwrap();
        assert!(matches!(client.poll_event(), Some(Event::Failed { why: Failure::TooLarge { .. }, .. })));
        client.ended(now);
        assert_eq!(client.over(), Some("the connection was closed"));
    }
}
