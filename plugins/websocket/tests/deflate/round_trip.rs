//! What one end sends, the other receives: any roles, parameters, fragments and cuts.

use proptest::collection::vec;
use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::Role;
use tracemq_websocket::deflate::{Incoming, MessageSize, Outgoing, Params};

use crate::frames::{Frame, read_all};

/// A message in fragments, with a ping after some of them.
#[derive(Clone, Debug)]
struct Sent {
    text: bool,
    fragments: Vec<Vec<u8>>,
    ping_after: Option<usize>,
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..300),
        // Repeats itself within and between messages, also from further away than a small window reaches.
        (vec(b'a'..b'd', 1..40), 0..3000_usize).prop_map(|(word, count)| word
            .iter()
            .copied()
            .cycle()
            .take(word.len() * count / 4)
            .collect()),
        (any::<u8>(), 0..200_000_usize).prop_map(|(byte, count)| vec![byte; count]),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    (any::<bool>(), vec(payload(), 1..4), proptest::option::of(0..3_usize))
        .prop_map(|(text, fragments, ping_after)| Sent { text, fragments, ping_after })
}

fn params() -> impl Strategy<Value = Params> {
    (any::<bool>(), any::<bool>(), 8..=15_u8, 8..=15_u8).prop_map(
        |(client, server, client_bits, server_bits)| Params {
            client_no_context_takeover: client,
            server_no_context_takeover: server,
            client_max_window_bits: client_bits,
            server_max_window_bits: server_bits,
        },
    )
}

fn frames(messages: &[Sent], masked: bool) -> Vec<Frame> {
    let mut frames = Vec::new();
    for message in messages {
        let last = message.fragments.len() - 1;
        for (number, fragment) in message.fragments.iter().enumerate() {
            let opcode = if number > 0 { 0 } else { 2 - u8::from(message.text) };
            let fin = if number == last { 0x80 } else { 0 };
            frames.push(Frame::new(fin | opcode, fragment.clone()));
            if message.ping_after == Some(number) {
                frames.push(Frame::new(0x89, format!("ping {number}")));
            }
        }
    }
    frames.into_iter().map(|frame| if masked { frame.masked() } else { frame }).collect()
}

/// Pings where they stood, and messages put together again.
fn joined(frames: &[Frame]) -> Vec<(u8, Vec<u8>)> {
    let (mut all, mut open) = (Vec::new(), None);
    for frame in frames {
        if frame.first & 0x08 != 0 {
            all.push((frame.first, frame.payload.clone()));
            continue;
        }
        let (opcode, payload) = open.get_or_insert((frame.first & 0x0f, Vec::new()));
        payload.extend(&frame.payload);
        if frame.first & 0x80 != 0 {
            all.push((0x80 | *opcode, std::mem::take(payload)));
            open = None;
        }
    }
    assert!(open.is_none(), "all messages end");
    all
}

fn cut<'a>(bytes: &'a [u8], at: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for step in at.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at(rest.len().min(*step));
        pieces.push(now);
        rest = later;
    }
    pieces
}

fn sends(role: Role, params: &Params, bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<MessageSize>) {
    let mut outgoing = Outgoing::new(role, params);
    let mut wire = Vec::new();
    for piece in cut(bytes, cuts) {
        outgoing.translate(piece, &mut wire);
    }
    let sizes = std::mem::take(outgoing.finished());
    (wire, sizes)
}

fn receives(role: Role, params: &Params, bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<MessageSize>) {
    let mut incoming = Incoming::new(role, params, 1 << 20);
    let mut plain = Vec::new();
    for mut piece in cut(bytes, cuts) {
        loop {
            let before = (piece.len(), plain.len());
            incoming.translate(&mut piece, &mut plain).expect("good data");
            if before == (piece.len(), plain.len()) {
                break;
            }
        }
        assert!(piece.is_empty(), "nothing is left unread");
    }
    let sizes = std::mem::take(incoming.finished());
    (plain, sizes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn what_is_sent_arrives(
        messages in vec(sent(), 1..6),
        params in params(),
        to_server in any::<bool>(),
        written in vec(1..70_000_usize, 1..4),
        read in vec(1..70_000_usize, 1..4),
    ) {
        let (from, to) = if to_server { (Role::Client, Role::Server) } else { (Role::Server, Role::Client) };
        let frames = frames(&messages, to_server);
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::write).collect();

        let (wire, sent_sizes) = sends(from, &params, &bytes, &written);
        let on_wire = read_all(&wire);
        prop_assert_eq!(on_wire.len(), frames.len(), "frame for frame");
        let bits = if to_server { params.client_max_window_bits } else { params.server_max_window_bits };
        for (wire, plain) in on_wire.iter().zip(&frames) {
            let compressed = bits > 8 && matches!(plain.first & 0x0f, 1 | 2);
            prop_assert_eq!(wire.first, plain.first | if compressed { 0x40 } else { 0 });
            prop_assert_eq!(wire.masked, to_server);
        }

        let (plain, received_sizes) = receives(to, &params, &wire, &read);
        let arrived = read_all(&plain);
        prop_assert!(arrived.iter().all(|frame| frame.masked == to_server && frame.first & 0x70 == 0));
        prop_assert_eq!(joined(&arrived), joined(&frames));

        prop_assert_eq!(&received_sizes, &sent_sizes);
        let lengths: Vec<u64> =
            messages.iter().map(|message| message.fragments.iter().map(|part| part.len() as u64).sum()).collect();
        prop_assert_eq!(sent_sizes.iter().map(|size| size.plain).collect::<Vec<_>>(), lengths);
        prop_assert!(sent_sizes.iter().all(|size| size.compressed.is_some() == (bits > 8)));
    }

    #[test]
    fn cut_into_single_bytes_it_arrives_too(message in sent(), params in params(), to_server in any::<bool>()) {
        let (from, to) = if to_server { (Role::Client, Role::Server) } else { (Role::Server, Role::Client) };
        let mut message = message;
        message.fragments.iter_mut().for_each(|fragment| fragment.truncate(2000));
        let frames = frames(&[message.clone(), message], to_server);
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::write).collect();
        let (wire, _) = sends(from, &params, &bytes, &[1]);
        let (plain, _) = receives(to, &params, &wire, &[1]);
        prop_assert_eq!(joined(&read_all(&plain)), joined(&frames));
    }
}
