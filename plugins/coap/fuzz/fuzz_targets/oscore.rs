//! Any bytes as an OSCORE option and as a protected message: no panic, an option that is read is written the same, and
//! nothing is taken for authentic. And any bytes as what was protected: what its owner has encrypted is read or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracemq_coap::message::{CoapOption, decode};
use tracemq_coap::oscore::{Context, OscoreError, OscoreValue, Parameters, Received, refuse};

fn context(sender: u8, recipient: u8) -> Context {
    let parameters = Parameters {
        master_secret: vec![1; 16],
        master_salt: Vec::new(),
        sender_id: vec![sender],
        recipient_id: vec![recipient],
        id_context: None,
    };
    Context::new(parameters, |_| Ok::<_, OscoreError>(Box::new(0..))).expect("a context")
}

fuzz_target!(|data: &[u8]| {
    if let Ok(value) = OscoreValue::parse(data) {
        assert_eq!(value.encode(), data);
    }
    let Ok(packet) = decode(data) else { return };
    let (mut client, mut server) = (context(1, 2), context(2, 1));
    if let Err(refusal) = server.unprotect_request(&packet) {
        refuse(&packet, refusal);
    } else {
        panic!("nobody has the key");
    }
    if let Ok((_, mut exchange)) = client.protect_request(&packet) {
        assert!(client.unprotect_response(&mut exchange, &packet).is_err());
    }
    // With the key, whatever was protected comes back as it was, or is refused for what it is.
    let Ok((protected, _)) = client.protect_request(&packet) else { return };
    if let Ok(Received::Request(plain, mut exchange)) = server.unprotect_request(&protected) {
        assert_eq!(plain.header.code, packet.header.code);
        assert_eq!(plain.payload, packet.payload);
        assert_eq!(plain.get_option(CoapOption::UriPath), packet.get_option(CoapOption::UriPath));
        let _ = server.protect_response(&mut exchange, &packet);
    }
    assert!(server.unprotect_request(&protected).is_err(), "a number counts once");
});
