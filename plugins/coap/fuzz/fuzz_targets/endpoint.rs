//! Any datagrams from a few peers, with requests, answers and time in between.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/endpoint/hostile.rs"]
mod hostile;

fuzz_target!(|bytes: &[u8]| hostile::drive(bytes));
