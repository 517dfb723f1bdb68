//! Any bytes from a server: reading them must not panic, what is found must lie in what was read, a session survives it, and
//! the same is found however the bytes are cut into reads.

#![no_main]

use std::time::Instant;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use tracemq_nats::session::{Pattern, Session};
use tracemq_nats::wire::{Limits, Op, Scan, scan};

const LIMITS: Limits = Limits { line: 256, info: 512, message: 1024 };

/// What a client does with the bytes: the operations' sizes and the answers, until the end or an error.
fn read(data: &[u8], step: usize) -> (Vec<usize>, BytesMut, bool) {
    let (mut session, mut out, now) = (Session::default(), BytesMut::new(), Instant::now());
    let pattern = |subject: &str, max| Pattern { subject: subject.into(), queue: None, max };
    session.subscribe(1, vec![pattern("a", Some(3)), pattern("b.>", None)], &mut out);
    session.ping(now, &mut out);
    let (mut input, mut sizes, mut fed) = (BytesMut::new(), Vec::new(), 0);
    loop {
        match scan(&input, &LIMITS) {
            Err(_) => return (sizes, out, true),
            Ok(Scan::Op(op, size)) => {
                assert!(size > 0 && size <= input.len());
                if let Op::Message(at) = &op {
                    for part in [at.subject(), at.headers(), at.payload(), at.reply().unwrap_or(0..0)] {
                        assert!(part.start <= part.end && part.end <= size);
                    }
                    let route = session.route(at.sid);
                    assert!(route.is_none_or(|route| route.group == 1));
                } else if session.handle(&op, &input, now, &mut out).is_err() {
                    return (sizes, out, true);
                }
                sizes.push(size);
                let _ = input.split_to(size);
            }
            Ok(Scan::More(needed)) => {
                assert!(needed > input.len() && needed <= 4096);
                if fed == data.len() {
                    session.connection_lost();
                    session.resume(&mut out);
                    return (sizes, out, false);
                }
                let end = data.len().min(fed + step);
                input.extend_from_slice(&data[fed..end]);
                fed = end;
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let whole = read(data, data.len().max(1));
    for step in [1, 7] {
        let (sizes, out, _) = read(data, step);
        // What follows an error may be found a little sooner or later; what was complete before it is the same.
        assert_eq!(sizes, whole.0);
        assert_eq!(out, whole.1);
    }
});
