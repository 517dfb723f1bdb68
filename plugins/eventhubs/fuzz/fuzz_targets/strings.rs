//! Any text as a connection string, a token, an address and a selector: nothing panics, what is read is written as it was
//! read, and an error repeats no secret.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracemq_eventhubs::address::Address;
use tracemq_eventhubs::connection_string::ConnectionString;
use tracemq_eventhubs::hostile::client;
use tracemq_eventhubs::sas::Token;

const SECRET: &str = "aSecretOfOurs";

fuzz_target!(|bytes: &[u8]| {
    client::select(bytes);
    let text = String::from_utf8_lossy(bytes);
    if let Ok(read) = ConnectionString::parse(&text) {
        let again = ConnectionString::parse(&read.in_clear()).expect("what was written can be read");
        assert!(again == read, "and is the same");
    }
    let others = if text.contains(SECRET) { "" } else { &text };
    for text in [
        format!("Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey={SECRET};{others}"),
        format!("{others};SharedAccessKey={SECRET}"),
        format!("SharedAccessKey={SECRET}{others}"),
    ] {
        match ConnectionString::parse(&text) {
            Ok(read) => assert!(!format!("{read:?}").contains(SECRET)),
            Err(error) => assert!(!error.to_string().contains(SECRET), "{error}"),
        }
    }
    if let Ok(token) = Token::parse(&text) {
        let _ = (
            token.resource(),
            token.covers("h/Partitions/0"),
            token.is_expired(0),
            token.is_signed_by("key"),
        );
    }
    if let Some(address) = Address::parse(&text) {
        let _ = (address.to_string(), address.hub());
    }
});
