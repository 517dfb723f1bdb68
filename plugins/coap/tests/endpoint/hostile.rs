//! A few peers that send anything, with requests, answers and time in between: nothing panics, and nothing grows. Driven by
//! random bytes here and by the fuzzer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tracemq_coap::blockwise::{Assembled, Bodies, BodyLimits};
use tracemq_coap::endpoint::{Endpoint, Event, Limits, Manner, Parameters};
use tracemq_coap::message::{Method, Packet};

pub fn drive(bytes: &[u8]) {
    let limits = Limits {
        peers: 3,
        recent_per_peer: 4,
        recent: 8,
        replies_per_peer: 256,
        replies: 512,
        outgoing_per_peer: 3,
        outgoing: 6,
    };
    let mut endpoint = Endpoint::seeded(Parameters::default(), limits, 1);
    let mut bodies = Bodies::new(BodyLimits { longest: 512, count: 3, bytes: 1024, ..BodyLimits::default() });
    let mut now = Instant::now();
    let mut rest = bytes;
    let mut last = None;
    while let [action, length, after @ ..] = rest {
        let (chunk, after) = after.split_at(after.len().min(usize::from(*length)));
        rest = after;
        let peer = SocketAddr::from(([127, 0, 0, 1], 1000 + u16::from(action >> 3 & 7)));
        let mut packet = Packet::new();
        packet.header.code = Method::Get.class();
        match action & 7 {
            0..=2 => endpoint.receive(now, peer, chunk),
            3 => {
                let manner =
                    Manner { confirmable: action & 64 != 0, stay: action & 128 != 0, any_peer: false };
                last = endpoint.request(now, peer, &mut packet, manner).ok().or(last);
            }
            4 => {
                now += Duration::from_millis(u64::from(*length) * 40);
                endpoint.handle_timeout(now);
            }
            5 => {
                // What was sent comes back, which is how answers get past the check of their token.
                if let Some(transmit) = endpoint.poll_transmit() {
                    let mut answer = transmit.bytes.to_vec();
                    answer[1] = *length;
                    answer[0] = answer[0] & 0xcf | action & 0x30;
                    answer.extend_from_slice(chunk);
                    endpoint.receive(now, transmit.peer, &answer);
                }
            }
            6 => {
                if let Some(handle) = last {
                    match action & 64 {
                        0 => endpoint.cancel(now, handle),
                        _ => drop(endpoint.renew(now, handle, &mut packet)),
                    }
                }
            }
            _ => endpoint.forget(now, peer),
        }
        while let Some(event) = endpoint.poll_event() {
            let Event::Request { request, packet } = event else { continue };
            match bodies.receive(now, request.peer, packet) {
                Assembled::Whole { packet, .. } => {
                    assert!(packet.payload.len() <= 512 + 1024);
                    if action & 64 == 0 {
                        endpoint.respond(now, request, packet);
                    }
                }
                Assembled::Answer(answer) => drop(endpoint.respond(now, request, answer)),
            }
        }
        if action & 128 == 0 {
            while endpoint.poll_transmit().is_some() {}
        }
        assert!(endpoint.peers() <= limits.peers);
    }
}
