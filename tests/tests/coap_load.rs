//! `tracemq serve coap` under loss, floods and with many observers: bounded, and nothing done twice.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use tracemq_tests::{CoapMessage, CoapSocket, LONG, SHORT, Tracemq, coap_port, json};

const GET: u8 = 1;
const PUT: u8 = 3;
const OBSERVE: u16 = 6;
const BLOCK1: u16 = 27;

/// 20 % of all datagrams are lost in each direction, so that a third of all exchanges fail at first.
#[test]
fn a_thousand_confirmable_requests_complete_under_loss_and_none_is_done_twice() {
    const COUNT: usize = 1000;
    let tracemq = Tracemq::new();
    let command = ["serve", "coap", "--bind", "127.0.0.1:0", "--loss", "20%", "--json"];
    let server = tracemq.cmd(command).start();
    let url = format!("coap://127.0.0.1:{}", coap_port(&server));
    let lines: String = (0..COUNT).map(|number| format!("request-{number}\n")).collect();
    let flags = ["--nstart", "64", "--ack-timeout", "100ms", "--max-retransmit", "15", "--method", "post"];
    let publishing = tracemq.cmd(["pub", &url, "count", "--lines"]).args(flags).stdin(lines).limit(LONG);
    publishing.finish().expect(0);
    server.wait_stdout_lines(COUNT + 1, SHORT);
    let done = server.interrupt().expect(0);
    let mut seen: HashMap<String, usize> = HashMap::new();
    for line in done.lines().iter().skip(1) {
        *seen.entry(json(line)["payload"].as_str().expect("text").to_owned()).or_default() += 1;
    }
    assert_eq!(seen.len(), COUNT, "each was done");
    let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "done twice: {twice:?}");
    let lost = done.stderr.lines().filter(|line| line.contains("lost on purpose")).count();
    assert!(lost > COUNT / 4, "{lost} datagrams were lost");
}

/// From as many addresses as there are, everything that makes a server remember something; nobody reads what it shows.
#[test]
fn a_spoofed_flood_takes_no_more_than_some_memory() {
    const ADDRESSES: u32 = 20_000;
    let tracemq = Tracemq::new();
    let command = ["serve", "coap", "--bind", "127.0.0.1:0", "--resource", "a=1", "--quiet"];
    let port = {
        // The port is asked for by a first server, since nobody reads this one's output.
        let probe = tracemq.cmd(command).start();
        coap_port(&probe)
    };
    let bind = format!("127.0.0.1:{port}");
    let command = ["serve", "coap", "--bind", &bind, "--resource", "a=1", "--quiet"];
    let server = tracemq.cmd(command).leave_stdout().start();
    let good = CoapSocket::to(port);
    assert_eq!(good.ask(&CoapMessage::request(GET, "a", 1, b"g")).payload, b"1");
    let before = server.resident_kib();
    for number in 1..=ADDRESSES {
        let address = Ipv4Addr::from(0x7f01_0000 + number);
        let socket = CoapSocket::from_address((address, 0), port);
        let token = number.to_be_bytes();
        let id = number as u16;
        socket.send(&CoapMessage::request(GET, "a", id, &token).option(OBSERVE, b""));
        let part = CoapMessage::request(PUT, "upload", id.wrapping_add(1), &token);
        // Block 0 of 1024 bytes, and more to come.
        socket.send(&part.option(BLOCK1, &[0x0e]).payload(&[b'x'; 1024]));
        let name = format!("made/{number}");
        socket.send(&CoapMessage::request(PUT, &name, id.wrapping_add(2), &token).payload(&[b'x'; 300]));
        socket.send_bytes(&[0x4f, 1, 2, 3, 4]);
        // A server that is slower than the flood loses most of it; that would prove nothing.
        if number % 50 == 0 {
            let id = (number / 50) as u16;
            good.ask(&CoapMessage::request(GET, "a", id.wrapping_add(2), &token));
        }
    }
    // Still there for others, and a change is told to observers that are none.
    let answer = good.ask(&CoapMessage::request(PUT, "a", 60_000, b"p").payload(b"2"));
    assert_eq!(answer.status(), "2.04");
    assert_eq!(good.ask(&CoapMessage::request(GET, "a", 60_001, b"g")).payload, b"2");
    let after = server.resident_kib();
    assert!(after < 96 * 1024, "{before} KiB before, {after} KiB after");
}

#[test]
fn ten_thousand_observers_are_told_and_cost_little() {
    const SOCKETS: usize = 200;
    const TOKENS: usize = 50;
    let tracemq = Tracemq::new();
    let command =
        ["serve", "coap", "--bind", "127.0.0.1:0", "--resource", "a=start", "--quiet", "--format", "raw"];
    let server = tracemq.cmd(command).start();
    let port = coap_port(&server);
    let sockets: Vec<CoapSocket> = (0..SOCKETS).map(|_| CoapSocket::to(port)).collect();
    for socket in &sockets {
        for number in 0..TOKENS {
            let token = (number as u16).to_be_bytes();
            let answer =
                socket.ask(&CoapMessage::request(GET, "a", number as u16, &token).option(OBSERVE, b""));
            assert!(answer.options.contains_key(&OBSERVE), "{answer:?}");
        }
    }
    let other = CoapSocket::to(port);
    for (round, state) in ["first", "second", "third"].iter().enumerate() {
        let started = Instant::now();
        let put = CoapMessage::request(PUT, "a", round as u16, b"p").payload(state.as_bytes());
        assert_eq!(other.ask(&put).status(), "2.04");
        let mut told = vec![[false; TOKENS]; SOCKETS];
        let mut left = SOCKETS * TOKENS;
        while left > 0 {
            assert!(started.elapsed() < LONG, "{left} were not told of {state:?}");
            for (socket, told) in sockets.iter().zip(&mut told) {
                while let Some(message) = socket.receive(Duration::ZERO) {
                    if message.kind == 0 {
                        socket.send(&CoapMessage { kind: 2, id: message.id, ..CoapMessage::default() });
                    }
                    let number = usize::from(u16::from_be_bytes([message.token[0], message.token[1]]));
                    if message.payload == state.as_bytes() && !told[number] {
                        told[number] = true;
                        left -= 1;
                    }
                }
            }
        }
    }
    let resident = server.resident_kib();
    assert!(resident < 64 * 1024, "{resident} KiB for {} observers", SOCKETS * TOKENS);
}
