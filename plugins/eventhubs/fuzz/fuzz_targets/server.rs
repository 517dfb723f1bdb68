//! Any bytes from a client, as frames and as requests to the nodes that answer: see `hostile::client`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracemq_eventhubs::hostile::client;

fuzz_target!(|bytes: &[u8]| {
    client::send(bytes);
    client::ask(bytes);
});
