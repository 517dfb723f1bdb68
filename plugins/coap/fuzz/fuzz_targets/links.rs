//! Any text as what a device announces (RFC 6690): what is read is written so that it is read the same again, and filters, of
//! which the first line is one, let through a part of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracemq_coap::links::{Filter, parse, write};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (query, text) = text.split_once('\n').unwrap_or(("rt=*", text));
    let links = match parse(text) {
        Ok(links) => links,
        Err(error) => {
            assert!(text.is_char_boundary(error.offset), "{error}");
            return;
        }
    };
    assert!(links.len() <= text.len() / 2, "a link takes two letters at least");
    let written = write(&links);
    assert_eq!(parse(&written).expect("what was written can be read"), links, "{written}");

    let filter = Filter::parse(query);
    let every = Filter::parse("href=*");
    for link in &links {
        let _ = filter.matches(link);
        assert!(every.matches(link));
    }
});
