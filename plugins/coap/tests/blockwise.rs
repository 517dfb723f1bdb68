//! Bodies in blocks: a client's transfers against a server's assembly, and against servers that do as they like.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use tracemq_coap::blockwise::{
    Answer, Assembled, Bodies, BodyLimits, Preferences, Problem, Room, Step, Transfer, slice,
};
use tracemq_coap::message::{self, Block, CoapOption, MessageClass, Method, Packet};

const LONGEST: usize = 1 << 20;

fn preferences(exponent: u8) -> Preferences {
    Preferences { room: Room::of_datagram(exponent), early: false, longest: LONGEST }
}

fn request(method: Method, body: &[u8]) -> Packet {
    let mut packet = Packet::new();
    packet.header.code = method.class();
    message::add_uri(&mut packet, "a/b").unwrap();
    packet.payload = body.to_vec();
    packet
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// A server that answers a PUT or POST with the body that it got, and a GET with `resource`.
struct Server {
    bodies: Bodies,
    resource: Vec<u8>,
    etag: Vec<u8>,
    room: Room,
    answers: u32,
}

impl Server {
    fn new(limits: BodyLimits, exponent: u8) -> Server {
        let room = Room::of_datagram(exponent);
        Server { bodies: Bodies::new(limits), resource: Vec::new(), etag: vec![1], room, answers: 0 }
    }

    fn answer(&mut self, packet: Packet) -> Packet {
        self.answers += 1;
        let peer = "127.0.0.1:1".parse().unwrap();
        let (request, block) = match self.bodies.receive(Instant::now(), peer, packet) {
            Assembled::Answer(answer) => return answer,
            Assembled::Whole { packet, block, .. } => (packet, block),
        };
        let mut response = Packet::new();
        response.header.code = MessageClass::from(0x45);
        message::add(&mut response, CoapOption::ETag, self.etag.clone());
        if let Some(block) = block {
            block.put(&mut response, CoapOption::Block1);
            self.resource.clone_from(&request.payload);
        }
        slice(&request, response, &self.resource, self.room).unwrap_or_else(|error| error)
    }
}

fn run(server: &mut Server, request: Packet, preferences: Preferences) -> Result<Answer, Problem> {
    let (mut transfer, mut packet) = Transfer::start(request, preferences)?;
    for _ in 0..10_000 {
        match transfer.receive(server.answer(packet)) {
            Step::Send(next) => packet = next,
            Step::Done(answer) => return Ok(answer),
            Step::Failed(problem) => return Err(problem),
        }
    }
    panic!("it does not end")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn bodies_arrive_whole(
        length in 0_usize..6000,
        ours in 0_u8..=6,
        theirs in 0_u8..=6,
        taken in 0_u8..=6,
        early in any::<bool>(),
    ) {
        let limits = BodyLimits { exponent: taken, ..BodyLimits::default() };
        let mut server = Server::new(limits, theirs);
        let sent = body(length);
        let preferences = Preferences { early, ..preferences(ours) };
        let answer = run(&mut server, request(Method::Put, &sent), preferences).unwrap();
        if length > 16 << ours {
            prop_assert_eq!(&server.resource, &sent);
            prop_assert_eq!(&answer.packet.payload, &sent, "the answer holds it again");
            prop_assert!(answer.request_blocks > 1);
        }
        server.resource.clone_from(&sent);
        let answer = run(&mut server, request(Method::Get, b""), preferences).unwrap();
        prop_assert_eq!(answer.packet.payload, sent);
    }
}

/// As [`run`], over a stream, with the messages that it took. None has more than there is room for.
fn run_over_stream(
    server: &mut Server,
    request: Packet,
    preferences: Preferences,
) -> Result<(Answer, u32), Problem> {
    let (mut transfer, mut packet) = Transfer::start(request, preferences)?;
    for count in 1..10_000 {
        assert!(packet.payload.len() <= preferences.room.whole.max(16));
        message::mark_of_stream(&mut packet);
        let mut response = server.answer(packet);
        assert!(response.payload.len() <= server.room.whole.max(16));
        message::mark_of_stream(&mut response);
        match transfer.receive(response) {
            Step::Send(next) => packet = next,
            Step::Done(answer) => return Ok((answer, count)),
            Step::Failed(problem) => return Err(problem),
        }
    }
    panic!("it does not end")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the two ends take, and whether both know BERT, one or none.
    #[test]
    fn bodies_arrive_whole_over_a_stream(
        length in 0_usize..60_000,
        (ours, theirs) in (300_usize..20_000, 300_usize..20_000),
        (we, they) in any::<(bool, bool)>(),
    ) {
        let mut server = Server::new(BodyLimits::default(), 6);
        server.room = Room::of_stream(ours, we);
        let preferences = Preferences { room: Room::of_stream(theirs, they), ..preferences(6) };
        let sent = body(length);
        let (answer, _) = run_over_stream(&mut server, request(Method::Put, &sent), preferences).unwrap();
        if answer.request_blocks > 1 {
            prop_assert_eq!(&server.resource, &sent);
        }
        server.resource.clone_from(&sent);
        let (answer, _) = run_over_stream(&mut server, request(Method::Get, b""), preferences).unwrap();
        prop_assert_eq!(answer.packet.payload, sent);
    }
}

/// RFC 8323 section 6: numbers count blocks of 1024 bytes, of which a message holds many.
#[test]
fn large_messages_hold_many_blocks() {
    let room = Room::of_stream(5000, true);
    let preferences = Preferences { room, ..preferences(6) };
    let mut server = Server::new(BodyLimits::default(), 6);
    server.room = room;
    let sent = body(10_000);
    let (mut transfer, first) = Transfer::start(request(Method::Put, &sent), preferences).unwrap();
    let mut seen = Vec::new();
    let mut packet = first;
    let answer = loop {
        message::mark_of_stream(&mut packet);
        seen.extend(Block::of(&packet, CoapOption::Block1).map(|block| (block, packet.payload.len())));
        let mut response = server.answer(packet);
        message::mark_of_stream(&mut response);
        seen.extend(Block::of(&response, CoapOption::Block2).map(|block| (block, response.payload.len())));
        match transfer.receive(response) {
            Step::Send(next) => packet = next,
            Step::Done(answer) => break answer,
            Step::Failed(problem) => panic!("{problem}"),
        }
    };
    assert_eq!((server.resource, answer.packet.payload), (sent.clone(), sent));
    let block = |number, more, length| (Block { number, more, exponent: Block::BERT }, length);
    let way = [block(0, true, 4096), block(4, true, 4096), block(8, false, 1808)];
    assert_eq!(seen, [&way[..], &way[..]].concat());
    // Without BERT, and in datagrams, the size is reserved.
    let mut reserved = Packet::new();
    block(0, false, 0).0.put(&mut reserved, CoapOption::Block1);
    assert!(Block::is_bad(&reserved, CoapOption::Block1));
    message::mark_of_stream(&mut reserved);
    assert!(!Block::is_bad(&reserved, CoapOption::Block1));
}

/// What is not the last message of a body holds whole blocks.
#[test]
fn large_messages_of_broken_blocks_are_refused() {
    let mut bodies = Bodies::new(BodyLimits::default());
    for (length, code) in [(0, 0x80), (1000, 0x80), (1025, 0x80), (2048, 0x5f)] {
        let mut packet = request(Method::Put, &body(length));
        Block { number: 0, more: true, exponent: Block::BERT }.put(&mut packet, CoapOption::Block1);
        message::mark_of_stream(&mut packet);
        match bodies.receive(Instant::now(), "127.0.0.1:1".parse().unwrap(), packet) {
            Assembled::Answer(answer) => assert_eq!(u8::from(answer.header.code), code, "{length}"),
            Assembled::Whole { .. } => panic!("{length} bytes are not all"),
        }
    }
}

#[test]
fn early_negotiation_asks_for_its_size_in_the_first_message() {
    let wanted = Preferences { early: true, ..preferences(2) };
    let (_, first) = Transfer::start(request(Method::Get, b""), wanted).unwrap();
    let block = Block::of(&first, CoapOption::Block2).unwrap();
    assert_eq!((block.number, block.size()), (0, 64));
    let (_, first) = Transfer::start(request(Method::Get, b""), preferences(2)).unwrap();
    assert!(message::first(&first, CoapOption::Block2).is_none());
}

#[test]
fn the_first_messages_say_how_long_the_bodies_are() {
    let (_, first) = Transfer::start(request(Method::Put, &body(3000)), preferences(6)).unwrap();
    assert_eq!(message::uint(&first, CoapOption::Size1), Some(3000));
    let response =
        slice(&request(Method::Get, b""), Packet::new(), &body(3000), Room::of_datagram(6)).unwrap();
    assert_eq!(message::uint(&response, CoapOption::Size2), Some(3000));
}

#[test]
fn a_body_that_changes_is_fetched_anew_but_not_for_ever() {
    let mut server = Server::new(BodyLimits::default(), 4);
    server.resource = body(2000);
    let (mut transfer, mut packet) = Transfer::start(request(Method::Get, b""), preferences(6)).unwrap();
    let mut changes = 1;
    let answer = loop {
        if server.answers == 3 && changes > 0 {
            changes -= 1;
            server.resource = body(3000);
            server.etag = vec![2];
        }
        match transfer.receive(server.answer(packet)) {
            Step::Send(next) => packet = next,
            Step::Done(answer) => break answer,
            Step::Failed(problem) => panic!("{problem}"),
        }
    };
    assert_eq!(answer.packet.payload, body(3000));

    let (mut transfer, mut packet) = Transfer::start(request(Method::Get, b""), preferences(6)).unwrap();
    let problem = loop {
        server.etag = vec![server.etag[0].wrapping_add(1)];
        match transfer.receive(server.answer(packet)) {
            Step::Send(next) => packet = next,
            Step::Done(_) => panic!("it changed with each block"),
            Step::Failed(problem) => break problem,
        }
    };
    assert_eq!(problem, Problem::Changed);
}

/// A response of 2.05 with this Block2.
fn block2(number: u32, more: bool, exponent: u8, payload: &[u8]) -> Packet {
    let mut packet = Packet::new();
    packet.header.code = MessageClass::from(0x45);
    Block { number, more, exponent }.put(&mut packet, CoapOption::Block2);
    packet.payload = payload.to_vec();
    packet
}

#[test]
fn servers_that_break_the_rules_are_not_believed() {
    let failed = |responses: Vec<Packet>| {
        let (mut transfer, _) = Transfer::start(request(Method::Get, b""), preferences(6)).unwrap();
        for response in responses {
            match transfer.receive(response) {
                Step::Send(_) => {}
                Step::Done(_) => panic!("it was taken"),
                Step::Failed(problem) => return problem,
            }
        }
        panic!("it goes on")
    };
    let full = [0; 16];
    assert_eq!(failed(vec![block2(3, true, 0, &full)]), Problem::OutOfOrder { expected: 0, came: 3 });
    assert_eq!(
        failed(vec![block2(0, true, 0, &full), block2(2, true, 0, &full)]),
        Problem::OutOfOrder { expected: 1, came: 2 }
    );
    assert_eq!(failed(vec![block2(0, true, 0, &full[..5])]), Problem::ShortBlock);
    assert_eq!(failed(vec![block2(0, true, 0, &full), block2(1, false, 0, &[0; 17])]), Problem::ShortBlock);
    assert_eq!(failed(vec![block2(0, true, 7, &full)]), Problem::BadBlock);
    let mut announced = block2(0, true, 0, &full);
    message::set_uint(&mut announced, CoapOption::Size2, u32::MAX);
    assert_eq!(failed(vec![announced]), Problem::ResponseTooLong);
    // One that never ends.
    let endless = (0..).map(|number| block2(number, true, 6, &[0; 1024])).take(LONGEST / 1024 + 2);
    assert_eq!(failed(endless.collect()), Problem::ResponseTooLong);
}

#[test]
fn smaller_blocks_are_sent_where_the_server_wants_them() {
    let (mut transfer, first) = Transfer::start(request(Method::Put, &body(3000)), preferences(6)).unwrap();
    assert_eq!(first.payload.len(), 1024);
    let mut refusal = Packet::new();
    refusal.header.code = MessageClass::from(0x8d);
    Block { number: 0, more: true, exponent: 2 }.put(&mut refusal, CoapOption::Block1);
    let Step::Send(second) = transfer.receive(refusal.clone()) else { panic!("4.13 is no end yet") };
    assert_eq!(second.payload.len(), 64);
    // Refused again at that size, it is refused.
    assert!(matches!(transfer.receive(refusal), Step::Done(_)));
}

#[test]
fn an_echo_is_repeated_once() {
    let echo = CoapOption::Unknown(252);
    let mut challenge = Packet::new();
    challenge.header.code = MessageClass::from(0x81);
    message::add(&mut challenge, echo, b"fresh".to_vec());
    assert!(Transfer::goes_on(&challenge));
    let (mut transfer, _) = Transfer::start(request(Method::Put, b"x"), preferences(6)).unwrap();
    let Step::Send(again) = transfer.receive(challenge.clone()) else { panic!("it is not sent again") };
    assert_eq!((message::first(&again, echo), &again.payload[..]), (Some(&b"fresh"[..]), &b"x"[..]));
    assert!(matches!(transfer.receive(challenge), Step::Done(_)));
}

fn block1(number: u32, more: bool, payload: &[u8]) -> Packet {
    let mut packet = request(Method::Put, payload);
    Block { number, more, exponent: 0 }.put(&mut packet, CoapOption::Block1);
    packet
}

fn code(assembled: &Assembled) -> u8 {
    match assembled {
        Assembled::Answer(packet) => packet.header.code.into(),
        Assembled::Whole { .. } => 0,
    }
}

#[test]
fn gaps_lengths_and_floods_are_refused() {
    let limits = BodyLimits { longest: 64, count: 4, bytes: 64, per_peer: 2, ..BodyLimits::default() };
    let mut bodies = Bodies::new(limits);
    let now = Instant::now();
    let peer = |port: u16| ([127, 0, 0, 1], port).into();
    let full = [7; 16];
    assert_eq!(code(&bodies.receive(now, peer(1), block1(1, true, &full))), 0x88, "there is no block 0");
    assert_eq!(code(&bodies.receive(now, peer(1), block1(0, true, &full))), 0x5f);
    assert_eq!(code(&bodies.receive(now, peer(2), block1(1, false, &full))), 0x88, "that is another's");
    assert_eq!(code(&bodies.receive(now, peer(1), block1(2, true, &full))), 0x88, "block 1 is missing");
    assert_eq!(code(&bodies.receive(now, peer(1), block1(0, true, &full))), 0x5f, "it begins again");
    assert_eq!(code(&bodies.receive(now, peer(1), block1(1, true, &full[..9]))), 0x80, "it is not full");
    assert_eq!(code(&bodies.receive(now, peer(1), block1(1, true, &full))), 0x5f);
    assert_eq!(code(&bodies.receive(now, peer(1), block1(1, true, &full))), 0x5f, "it comes again");
    let Assembled::Whole { packet, .. } = bodies.receive(now, peer(1), block1(2, false, &full[..3])) else {
        panic!("it is not whole")
    };
    assert_eq!(packet.payload, [7; 35]);
    assert_eq!(code(&bodies.receive(now, peer(1), block1(4, false, &full))), 0x8d, "it is too long");
    // All bytes are in use: what has only begun makes room, what has come further stays until it is forgotten.
    for port in 1..=5 {
        assert_eq!(code(&bodies.receive(now, peer(port), block1(0, true, &full))), 0x5f);
    }
    assert_eq!(code(&bodies.receive(now, peer(5), block1(1, false, &full))), 0, "it is whole");
    for (port, number) in [(6, 0), (6, 1), (7, 0), (7, 1)] {
        assert_eq!(code(&bodies.receive(now, peer(port), block1(number, true, &full))), 0x5f);
    }
    assert_eq!(code(&bodies.receive(now, peer(8), block1(0, true, &full))), 0x8d);
    let later = now + Duration::from_secs(300);
    assert_eq!(code(&bodies.receive(later, peer(8), block1(0, true, &full))), 0x5f);
}

#[test]
fn a_block_behind_the_end_is_refused() {
    let mut request = request(Method::Get, b"");
    Block { number: 3, more: false, exponent: 0 }.put(&mut request, CoapOption::Block2);
    let response = slice(&request, Packet::new(), &body(40), Room::of_datagram(6)).unwrap_err();
    assert_eq!(u8::from(response.header.code), 0x80);
}
