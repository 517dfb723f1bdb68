//! Any bytes: what is taken for a message is written as it was read, and nothing panics on the way through all that looks at it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracemq_coap::blockwise::{Preferences, Room, Step, Transfer, slice};
use tracemq_coap::message::{self, Method, Packet};

fuzz_target!(|bytes: &[u8]| {
    let Ok(packet) = message::decode(bytes) else { return };
    let mut written = Vec::new();
    message::encode(&packet, &mut written);
    let again = message::decode(&written).expect("what was written can be read");
    assert_eq!(packet, again);
    assert!(written.len() <= bytes.len(), "the shortest form is written");

    let _ =
        (message::uri_of(&packet), message::not_understood(&packet), message::code_text(packet.header.code));
    for (number, values) in packet.options() {
        for value in values {
            let _ = message::show_value(*number, value);
        }
    }
    let _ = slice(&packet, Packet::new(), &[1; 3000], Room::of_datagram(6));

    // As the response to a request: what a transfer asks for next is bounded by what came.
    let mut request = Packet::new();
    request.header.code = Method::Get.class();
    request.payload = vec![2; 300];
    let preferences = Preferences { room: Room::of_datagram(2), early: false, longest: 1 << 20 };
    let Ok((mut transfer, _)) = Transfer::start(request, preferences) else { return };
    for _ in 0..8 {
        match transfer.receive(packet.clone()) {
            Step::Send(next) => assert!(next.payload.len() <= 64),
            Step::Done(_) | Step::Failed(_) => break,
        }
    }
});
