//! Any bytes on a connection, however they are cut: no panic, the same messages whether they come at once or in pieces, and
//! no more is held than one message.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracemq_coap::tcp::{Deframer, FrameError, Stream, write_frame};

const LIMIT: usize = 2000;

fuzz_target!(|data: &[u8]| {
    let [cut, data @ ..] = data else { return };
    let step = usize::from(*cut).max(1);
    assert_eq!(messages(data, data.len().max(1)), messages(data, step));
    let mut stream = Stream::new(LIMIT);
    for piece in data.chunks(step) {
        stream.receive(piece);
        while stream.poll_event().is_some() {}
        stream.take_outgoing();
    }
    stream.ended();
});

fn messages(data: &[u8], step: usize) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let (mut deframer, mut messages) = (Deframer::new(LIMIT), Vec::new());
    for piece in data.chunks(step) {
        deframer.add(piece);
        loop {
            match deframer.next_message() {
                Ok(Some(message)) => {
                    let mut frame = Vec::new();
                    assert!(write_frame(&message, &mut frame) <= LIMIT);
                    messages.push(frame);
                }
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}
