//! Any bytes on a raw socket, under every framing and however they are cut: no panic, nothing outside of the buffer, and the
//! same messages whether they come at once or in pieces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracemq_websocket::framing::{Framing, FramingError, Splitter};

const MAX: usize = 1000;

fuzz_target!(|data: &[u8]| {
    let [which, cut, data @ ..] = data else { return };
    let names = ["line", "crlf", "length1", "length2", "length4", "length2-le", "length4-le", "fixed:7", "raw"];
    let name = names[usize::from(*which) % names.len()];
    let framing: Framing = name.parse().expect("a framing");
    let whole = split(framing, data, data.len());
    let pieces = split(framing, data, usize::from(*cut).max(1));
    if framing == Framing::Raw {
        assert_eq!(whole.0.concat(), pieces.0.concat());
    } else {
        assert_eq!(whole.0, pieces.0);
        assert_eq!(whole.1.is_err(), pieces.1.is_err());
    }
});

fn split(framing: Framing, data: &[u8], step: usize) -> (Vec<Vec<u8>>, Result<(), FramingError>) {
    let mut splitter = Splitter::new(framing, MAX);
    let (mut buffer, mut messages) = (Vec::new(), Vec::new());
    for piece in data.chunks(step.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            let mut found = Vec::new();
            let taken = match splitter.split(&buffer, 3, &mut found) {
                Ok(taken) => taken,
                Err(error) => return (messages, Err(error)),
            };
            assert!(taken <= buffer.len() && found.len() <= 3);
            let mut end = 0;
            for range in found {
                assert!(end <= range.start && range.start <= range.end && range.end <= taken);
                assert!(range.len() <= MAX);
                end = range.end;
                messages.push(buffer[range].to_vec());
            }
            if taken == 0 {
                break;
            }
            buffer.drain(..taken);
        }
    }
    match splitter.rest(&buffer) {
        Ok(Some(rest)) => messages.push(buffer[rest].to_vec()),
        Ok(None) => {}
        Err(error) => return (messages, Err(error)),
    }
    (messages, Ok(()))
}
