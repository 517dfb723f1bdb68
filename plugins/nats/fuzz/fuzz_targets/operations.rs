//! Any bytes from a client of the embedded server: reading them must not panic, every position must lie in its operation, and
//! an operation is found as soon as it is complete, not before.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracemq_nats::serve::parse::{Op, Step, parse};

const MAX_PAYLOAD: usize = 1 << 16;

fuzz_target!(|data: &[u8]| {
    let mut at = 0;
    while let Ok(Step::Op(op, next)) = parse(data, at, MAX_PAYLOAD) {
        assert!(at < next && next <= data.len());
        if let Op::Publish(publish) = op {
            assert!(at < publish.subject.start as usize && publish.subject.length() > 0);
            assert!(publish.subject.end < publish.tail && publish.tail < publish.body.start);
            assert!(publish.payload().start <= publish.payload().end && publish.end() == next);
            if let Some(reply) = publish.reply {
                assert!(publish.tail == reply.start && reply.end < publish.body.start);
            }
        }
        assert!(matches!(parse(&data[..next], at, MAX_PAYLOAD), Ok(Step::Op(_, end)) if end == next));
        assert!(matches!(parse(&data[..next - 1], at, MAX_PAYLOAD), Ok(Step::More(wanted)) if wanted >= next));
        at = next;
    }
});
