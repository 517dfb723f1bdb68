//! Reading and writing messages, and what things are called.

use proptest::prelude::*;
use tracemq_coap::message::{
    self, CoapOption, MalformedKind, MessageType, Method, Packet, content_format_number, decode, encode,
    parse_code, parse_option, show_value,
};

fn written(packet: &Packet) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(packet, &mut bytes);
    bytes
}

proptest! {
    #[test]
    fn what_is_written_can_be_read(
        code in 1_u8..8,
        id in any::<u16>(),
        token in prop::collection::vec(any::<u8>(), 0..=8),
        options in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..400)), 0..12),
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut packet = Packet::new();
        packet.header.set_type(MessageType::NonConfirmable);
        packet.header.code = message::MessageClass::from(code);
        packet.header.message_id = id;
        packet.set_token(token);
        for (number, value) in options {
            packet.add_option(CoapOption::from(number), value);
        }
        packet.payload = payload;
        let bytes = written(&packet);
        // coap-lite writes the same.
        prop_assert_eq!(&bytes, &packet.to_bytes_unlimited().unwrap());
        prop_assert_eq!(decode(&bytes).unwrap(), packet);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(packet) = decode(&bytes) {
            prop_assert_eq!(decode(&written(&packet)).unwrap(), packet);
        }
    }

    #[test]
    fn paths_survive(segments in prop::collection::vec("\\PC{1,20}", 0..6)) {
        let mut packet = Packet::new();
        for segment in &segments {
            message::add(&mut packet, CoapOption::UriPath, segment.as_str());
        }
        let path = message::path_of(&packet);
        if !segments.iter().any(|segment| segment == "." || segment == "..") {
            let mut again = Packet::new();
            message::add_uri(&mut again, &path).unwrap();
            prop_assert_eq!(again, packet);
        }
    }
}

#[test]
fn options_beyond_the_last_number_are_refused() {
    // 65535 is a number, one more is none.
    assert!(decode(b"\x40\x01\x12\x34\xe0\xfe\xf2").is_ok());
    for bytes in [&b"\x40\x01\x12\x34\xe0\xfe\xf3"[..], b"\x40\x01\x12\x34\xe0\xfe\xf2\x10"] {
        assert_eq!(decode(bytes).unwrap_err().kind, MalformedKind::OptionNumber, "{bytes:02x?}");
    }
    let many = [&b"\x40\x01\x12\x34"[..], &[0; 600]].concat();
    assert_eq!(decode(&many).unwrap_err().kind, MalformedKind::TooManyOptions);
}

#[test]
fn codes_by_name_and_number() {
    for (text, number) in
        [("4.04", 0x84), ("404", 0x84), ("not-found", 0x84), ("Content", 0x45), ("5.03", 0xa3)]
    {
        assert_eq!(parse_code(text).map(u8::from), Some(number), "{text}");
    }
    for text in ["", "4", "4.4", "4.32", "8.00", "404.", "-1.", "found"] {
        assert_eq!(parse_code(text), None, "{text}");
    }
    assert_eq!(message::code_text(Method::Ipatch.class()), "iPATCH");
    assert_eq!(message::code_text(parse_code("4.15").unwrap()), "4.15 Unsupported Content-Format");
    assert_eq!(message::code_text(parse_code("4.31").unwrap()), "4.31");
}

#[test]
fn content_formats_by_name_and_number() {
    for (text, number) in [
        ("json", 50),
        ("application/json", 50),
        ("Application/CBOR", 60),
        ("text/plain", 0),
        ("text/plain;charset=utf-8", 0),
        ("text", 0),
        ("11542", 11542),
        ("4711", 4711),
    ] {
        assert_eq!(content_format_number(text), Some(number), "{text}");
    }
    for text in ["", "65536", "application/unheard-of"] {
        assert_eq!(content_format_number(text), None, "{text}");
    }
    assert_eq!(message::content_format_name(40), Some("application/link-format"));
}

#[test]
fn values_of_options_as_text() {
    for (text, value, shown) in [
        ("max-age=3600", &[0x0e, 0x10][..], "3600"),
        ("Max-Age=0", &[], "0"),
        ("etag=0x1f2E", &[0x1f, 0x2e], "0x1f2e"),
        ("uri-query=a=b", b"a=b", "a=b"),
        ("content-format=json", &[50], "application/json"),
        ("accept=4711", &[0x12, 0x67], "4711"),
        ("if-none-match", &[], ""),
        ("size1=0x000001", &[0, 0, 1], "1"),
        ("2050=hello", b"hello", "0x68656c6c6f"),
    ] {
        let (option, bytes) = parse_option(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(bytes, value, "{text}");
        assert_eq!(show_value(option.into(), &bytes), shown, "{text}");
    }
    for text in
        ["if-none-match=1", "max-age=x", "etag=0x1", "etag=0x123456789012345678", "nonsense=1", "70000=x"]
    {
        assert!(parse_option(text).is_err(), "{text}");
    }
}

#[test]
fn what_is_critical_and_not_understood() {
    let with = |number: u16, values: &[&[u8]]| {
        let mut packet = Packet::new();
        for value in values {
            packet.add_option(CoapOption::from(number), value.to_vec());
        }
        message::not_understood(&packet)
    };
    assert_eq!(with(65001, &[b""]), Some(65001));
    assert_eq!(with(65000, &[b""]), None, "it is elective");
    assert_eq!(with(11, &[b"a", b"b"]), None);
    assert_eq!(with(17, &[b"\x32", b"\x3c"]), Some(17), "it may stand there once");
    assert_eq!(with(17, &[b"abc"]), Some(17), "it is too long");
    assert_eq!(with(19, &[b"\x06"]), Some(19), "Q-Block is not for us");
}
