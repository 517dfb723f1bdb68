//! Any bytes as a header block: reading them must not panic, and what is a block reads the same when it is written again.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use tracemq_nats::wire::{Block, Line, encode_headers, size_of_headers, subject};

fuzz_target!(|data: &[u8]| {
    let block = Block::read(data);
    let _ = block.description();
    for line in block.clone() {
        match line {
            Line::Field { name, value } => {
                assert!(name.start < name.end && name.end < value.start && value.start <= value.end);
                assert!(value.end <= data.len());
            }
            Line::Malformed(at) => assert!(at.start < at.end && at.end <= data.len()),
        }
    }
    let fields: Vec<_> = block.fields().collect();
    let mut out = BytesMut::new();
    encode_headers(fields.iter().copied(), &mut out);
    assert_eq!(out.len(), size_of_headers(fields.iter().copied()));
    let again: Vec<_> = Block::read(&out).fields().collect();
    assert_eq!(again, fields);

    // A subject matches itself, and what begins like it with a tail.
    if subject::is_valid(data, false) {
        assert!(subject::matches(data, data) && subject::matches(b">", data));
    }
    if let Ok(text) = std::str::from_utf8(data)
        && subject::check_subject(text).is_ok()
    {
        assert!(subject::is_valid(data, false));
    }
});
