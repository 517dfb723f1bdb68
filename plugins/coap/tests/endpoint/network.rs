//! What the tests share: endpoints, raw messages, and a network that loses, doubles and delays.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tracemq_coap::endpoint::{Endpoint, Event, Limits, Parameters, Transmit};
use tracemq_coap::message::{self, CoapOption, MessageClass, MessageType, Method, Packet};

pub fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

pub fn client(parameters: Parameters) -> Endpoint {
    Endpoint::seeded(parameters, Limits::CLIENT, 7)
}

pub fn server() -> Endpoint {
    Endpoint::seeded(Parameters::default(), Limits::SERVER, 8)
}

pub fn get(path: &str) -> Packet {
    let mut packet = Packet::new();
    packet.header.code = Method::Get.class();
    message::add_uri(&mut packet, path).unwrap();
    packet
}

pub fn response(code: &str, payload: &str) -> Packet {
    let mut packet = Packet::new();
    packet.header.code = message::parse_code(code).unwrap();
    packet.payload = payload.as_bytes().to_vec();
    packet
}

/// A message as it travels.
pub fn raw(kind: MessageType, code: MessageClass, id: u16, token: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut packet = Packet::new();
    packet.header.set_type(kind);
    packet.header.code = code;
    packet.header.message_id = id;
    packet.set_token(token.to_vec());
    packet.payload = payload.to_vec();
    let mut bytes = Vec::new();
    message::encode(&packet, &mut bytes);
    bytes
}

pub fn sent(endpoint: &mut Endpoint) -> Vec<Transmit> {
    std::iter::from_fn(|| endpoint.poll_transmit()).collect()
}

/// The only datagram that is to be sent, read.
pub fn one(endpoint: &mut Endpoint) -> Packet {
    let all = sent(endpoint);
    assert_eq!(all.len(), 1, "{all:?}");
    message::decode(&all[0].bytes).unwrap()
}

pub fn events(endpoint: &mut Endpoint) -> Vec<Event> {
    std::iter::from_fn(|| endpoint.poll_event()).collect()
}

pub fn with_observe(mut packet: Packet, number: u32) -> Packet {
    message::set_uint(&mut packet, CoapOption::Observe, number);
    packet
}

/// Datagrams on their way.
pub struct Network {
    flying: VecDeque<(Instant, SocketAddr, Transmit)>,
    random: u64,
    loss: u64,
    doubled: u64,
}

impl Network {
    /// Loss and doubling in percent.
    pub fn new(seed: u64, loss: u64, doubled: u64) -> Network {
        Network { flying: VecDeque::new(), random: seed | 1, loss, doubled }
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }

    pub fn send(&mut self, now: Instant, from: SocketAddr, transmit: &Transmit) {
        let copies = 1 + usize::from(self.random() % 100 < self.doubled);
        for _ in 0..copies {
            if self.random() % 100 < self.loss {
                continue;
            }
            let delay = Duration::from_millis(1 + self.random() % 40);
            self.flying.push_back((now + delay, from, transmit.clone()));
        }
    }

    pub fn next(&self) -> Option<Instant> {
        self.flying.iter().map(|(when, ..)| *when).min()
    }

    /// What has arrived: from whom, and the datagram.
    pub fn arrived(&mut self, now: Instant) -> Vec<(SocketAddr, Transmit)> {
        let (here, flying) = self.flying.drain(..).partition::<Vec<_>, _>(|(when, ..)| *when <= now);
        self.flying = flying.into();
        here.into_iter().map(|(_, from, transmit)| (from, transmit)).collect()
    }
}
