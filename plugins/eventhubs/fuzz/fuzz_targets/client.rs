//! Any bytes from a server: see `hostile::server`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracemq_eventhubs::hostile::server;

fuzz_target!(|bytes: &[u8]| {
    server::receive(bytes);
    server::read(bytes);
});
