//! A stream means the same however it is cut into reads, whether it is well-formed or not.

use std::time::Instant;

use bytes::BytesMut;
use proptest::prelude::*;
use tracemq_nats::session::{Notice, Pattern, Session};
use tracemq_nats::wire::{Limits, Op, Scan, scan};

const LIMITS: Limits = Limits { line: 256, info: 512, message: 1024 };

#[derive(Debug, Default, PartialEq)]
struct Read {
    messages: Vec<(u64, Vec<u8>, Vec<u8>)>,
    notices: Vec<String>,
    answers: Vec<u8>,
    broken: bool,
}

/// Reads the stream, so many bytes at a time.
fn read(data: &[u8], step: usize) -> Read {
    let (mut session, mut out, now) = (Session::default(), BytesMut::new(), Instant::now());
    let pattern = |subject: &str, max| Pattern { subject: subject.into(), queue: None, max };
    session.subscribe(1, vec![pattern("a", Some(3)), pattern("b", None)], &mut out);
    session.ping(now, &mut out);
    out.clear();
    let (mut read, mut input, mut rest) = (Read::default(), BytesMut::new(), data);
    while !read.broken {
        match scan(&input, &LIMITS) {
            Ok(Scan::Op(op, size)) => {
                if let Op::Message(at) = &op {
                    if session.route(at.sid).is_some() {
                        let part = |range: std::ops::Range<usize>| input[range].to_vec();
                        read.messages.push((at.sid, part(at.headers()), part(at.payload())));
                    }
                } else {
                    match session.handle(&op, &input, now, &mut out) {
                        Ok(Some(Notice::Pong { mark, .. })) => read.notices.push(format!("{mark:?}")),
                        Ok(Some(notice)) => read.notices.push(format!("{notice:?}")),
                        Ok(None) => {}
                        Err(_) => read.broken = true,
                    }
                }
                drop(input.split_to(size));
            }
            Ok(Scan::More(needed)) => {
                assert!(needed > input.len());
                if rest.is_empty() {
                    break;
                }
                let (head, tail) = rest.split_at(step.min(rest.len()));
                input.extend_from_slice(head);
                rest = tail;
            }
            Err(_) => read.broken = true,
        }
    }
    read.answers = out.to_vec();
    read
}

fn operation() -> impl Strategy<Value = Vec<u8>> {
    let message =
        (0_u64..4, proptest::option::of("[a-c]{1,4}"), proptest::collection::vec(any::<u8>(), 0..60));
    let message = message.prop_map(|(sid, reply, payload)| {
        let reply = reply.map_or_else(String::new, |reply| format!("{reply} "));
        let line = format!("MSG a {sid} {reply}{}\r\n", payload.len());
        [line.as_bytes(), &payload, b"\r\n"].concat()
    });
    let with_headers = ("[a-c: \r\n]{0,20}", "[a-c]{0,9}").prop_map(|(headers, payload)| {
        let block = format!("NATS/1.0\r\n{headers}\r\n\r\n");
        format!("HMSG b 2 {} {}\r\n{block}{payload}\r\n", block.len(), block.len() + payload.len())
            .into_bytes()
    });
    let others = prop::sample::select(vec![
        "PING\r\n",
        "PONG\r\n",
        "+OK\r\n",
        "-ERR 'Permissions Violation for Subscription to \"b\"'\r\n",
        "-ERR 'x'\r\n",
        "INFO {\"server_id\":\"S\"}\r\n",
    ]);
    prop_oneof![4 => message, 2 => with_headers, 2 => others.prop_map(|text| text.as_bytes().to_vec())]
}

proptest! {
    #[test]
    fn a_good_stream_is_read_whole(operations in proptest::collection::vec(operation(), 0..20), step in 1_usize..50) {
        let stream = operations.concat();
        let whole = read(&stream, stream.len().max(1));
        prop_assert!(!whole.broken);
        prop_assert!(whole.messages.iter().filter(|(sid, ..)| *sid == 1).count() <= 3);
        prop_assert_eq!(read(&stream, step), whole);
    }

    #[test]
    fn a_damaged_stream_is_read_up_to_the_damage(
        operations in proptest::collection::vec(operation(), 1..12),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        step in 1_usize..50,
    ) {
        let mut stream = operations.concat();
        let at = at.index(stream.len());
        stream[at] = byte;
        prop_assert_eq!(read(&stream, step), read(&stream, stream.len()));
    }

    #[test]
    fn rubbish_is_survived(stream in proptest::collection::vec(any::<u8>(), 0..600), step in 1_usize..50) {
        prop_assert_eq!(read(&stream, step), read(&stream, stream.len().max(1)));
    }
}
