//! OSCORE against the vectors of RFC 8613, and against itself. Keys and nonces (C.1 to C.3) are tested beside their code.

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType, ResponseType};
use tracemq_coap::oscore::{
    Context, Exchange, OscoreError, OscoreValue, Parameters, Received, Refusal, refuse,
};

const ECHO: CoapOption = CoapOption::Unknown(252);

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn parameters(salt: &str, sender: &str, id_context: Option<&str>) -> Parameters {
    Parameters {
        master_secret: hex("0102030405060708090a0b0c0d0e0f10"),
        master_salt: hex(salt),
        sender_id: hex(sender),
        recipient_id: hex("01"),
        id_context: id_context.map(hex),
    }
}

fn reversed(parameters: &Parameters) -> Parameters {
    Parameters {
        sender_id: parameters.recipient_id.clone(),
        recipient_id: parameters.sender_id.clone(),
        ..parameters.clone()
    }
}

fn counting_from(parameters: &Parameters, first: u64) -> Context {
    Context::new(parameters.clone(), |_| Ok::<_, OscoreError>(Box::new(first..))).unwrap()
}

/// Client and server.
fn pair() -> (Context, Context) {
    let parameters = parameters("9e7ca92223786340", "", None);
    (counting_from(&parameters, 0), counting_from(&reversed(&parameters), 0))
}

fn packet(bytes: &str) -> Packet {
    Packet::from_bytes(&hex(bytes)).unwrap()
}

fn bytes(packet: &Packet) -> Vec<u8> {
    packet.to_bytes().unwrap()
}

fn request(options: &[(CoapOption, &[u8])]) -> Packet {
    let mut request = Packet::new();
    request.header.code = MessageClass::Request(RequestType::Get);
    request.set_token(vec![1, 2]);
    request.add_option(CoapOption::UriPath, b"tv1".to_vec());
    for (option, value) in options {
        request.add_option(*option, value.to_vec());
    }
    request
}

fn response(observe: Option<u8>, payload: &[u8]) -> Packet {
    let mut response = Packet::new();
    response.header.set_type(MessageType::Acknowledgement);
    response.header.code = MessageClass::Response(ResponseType::Content);
    response.set_token(vec![1, 2]);
    if let Some(observe) = observe {
        response.add_option(CoapOption::Observe, vec![observe]);
    }
    response.payload = payload.to_vec();
    response
}

fn accept(server: &mut Context, request: &Packet) -> Result<(Packet, Exchange), Refusal> {
    match server.unprotect_request(request)? {
        Received::Request(request, exchange) => Ok((*request, exchange)),
        Received::Challenge(_) => panic!("no challenge was asked for"),
    }
}

#[test]
fn requests_are_those_of_appendix_c_4_to_c_6() {
    let salt = "9e7ca92223786340";
    for (parameters, plain, protected) in [
        (
            parameters(salt, "", None),
            "44015d1f00003974396c6f63616c686f737483747631",
            "44025d1f00003974396c6f63616c686f7374620914ff612f1092f1776f1c1668b3825e",
        ),
        (
            parameters("", "00", None),
            "440171c30000b932396c6f63616c686f737483747631",
            "440271c30000b932396c6f63616c686f737463091400ff4ed339a5a379b0b8bc731fffb0",
        ),
        (
            parameters(salt, "", Some("37cbf3210017a2d3")),
            "44012f8eef9bbf7a396c6f63616c686f737483747631",
            "44022f8eef9bbf7a396c6f63616c686f73746b19140837cbf3210017a2d3ff72cd7273fd331ac45cffbe55c3",
        ),
    ] {
        let (made, _) = counting_from(&parameters, 20).protect_request(&packet(plain)).unwrap();
        assert_eq!(bytes(&made), hex(protected));
        let mut server = counting_from(&reversed(&parameters), 0);
        let (read, _) = accept(&mut server, &packet(protected)).unwrap();
        assert_eq!(bytes(&read), hex(plain));
    }
}

#[test]
fn responses_are_those_of_appendix_c_7_and_c_8() {
    let plain = "64455d1f00003974ff48656c6c6f20576f726c6421";
    let parameters = parameters("9e7ca92223786340", "", None);
    let mut client = counting_from(&parameters, 20);
    let mut server = counting_from(&reversed(&parameters), 0);
    let request = packet("44015d1f00003974396c6f63616c686f737483747631");
    let (protected, mut asked) = client.protect_request(&request).unwrap();
    let (_, mut answered) = accept(&mut server, &protected).unwrap();
    // The first goes under the request's nonce, the second under its own.
    for expected in [
        "64445d1f0000397490ffdbaad1e9a7e7b2a813d3c31524378303cdafae119106",
        "64445d1f00003974920100ff4d4c13669384b67354b2b6175ff4b8658c666a6cf88e",
    ] {
        let made = server.protect_response(&mut answered, &packet(plain)).unwrap();
        assert_eq!(bytes(&made), hex(expected));
        let read = client.unprotect_response(&mut asked, &packet(expected)).unwrap();
        assert_eq!(bytes(&read), hex(plain));
    }
}

#[test]
fn only_what_proxies_need_stays_readable() {
    let (mut client, mut server) = pair();
    let plain = request(&[
        (CoapOption::UriHost, b"h"),
        (CoapOption::Unknown(16), &[5]),
        (CoapOption::Observe, &[]),
        (CoapOption::UriQuery, b"secret"),
        (CoapOption::Block2, &[6]),
        (CoapOption::Unknown(65_001), b"x"),
    ]);
    let (mut protected, _) = client.protect_request(&plain).unwrap();
    let numbers: Vec<u16> = protected.options().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [3, 6, 9, 16]);
    assert_eq!(protected.header.code, MessageClass::Request(RequestType::Fetch));
    // What was put in on the way does not count.
    protected.add_option(CoapOption::UriPath, b"elsewhere".to_vec());
    let (read, _) = accept(&mut server, &protected).unwrap();
    assert_eq!(read, plain);
    for (option, value) in [(CoapOption::ProxyUri, &b"coap://h/secret"[..]), (CoapOption::Oscore, &[])] {
        assert!(matches!(client.protect_request(&request(&[(option, value)])), Err(OscoreError::Unfit(_))));
    }
}

#[test]
fn a_proxy_may_take_the_observation_away() {
    let (mut client, mut server) = pair();
    let (mut protected, _) = client.protect_request(&request(&[(CoapOption::Observe, &[])])).unwrap();
    protected.clear_option(CoapOption::Observe);
    let (read, _) = accept(&mut server, &protected).unwrap();
    assert!(read.get_first_option(CoapOption::Observe).is_none());
}

#[test]
fn what_is_replayed_changed_or_foreign_is_refused() {
    let (mut client, mut server) = pair();
    let mut requests: Vec<Packet> =
        (0..40).map(|_| client.protect_request(&request(&[])).unwrap().0).collect();
    for number in [5, 3, 39] {
        assert!(accept(&mut server, &requests[number]).is_ok());
    }
    for number in [5, 3, 39, 7] {
        assert_eq!(accept(&mut server, &requests[number]).unwrap_err(), Refusal::Replayed);
    }
    let changed = &mut requests[20];
    changed.payload[0] ^= 1;
    assert_eq!(accept(&mut server, changed).unwrap_err(), Refusal::NotAuthentic);
    // What was not authentic has not used the number up.
    changed.payload[0] ^= 1;
    assert!(accept(&mut server, &requests[20]).is_ok());

    let mut stranger = counting_from(&parameters("", "", None), 100);
    let (protected, _) = stranger.protect_request(&request(&[])).unwrap();
    assert_eq!(accept(&mut server, &protected).unwrap_err(), Refusal::NotAuthentic);
    let mut other_id = counting_from(&parameters("9e7ca92223786340", "07", None), 100);
    let (protected, _) = other_id.protect_request(&request(&[])).unwrap();
    let refusal = accept(&mut server, &protected).unwrap_err();
    assert_eq!(refusal, Refusal::UnknownContext);
    let answer = refuse(&protected, refusal);
    assert_eq!(answer.header.code, MessageClass::Response(ResponseType::Unauthorized));
    assert_eq!(answer.get_token(), [1, 2]);
    assert_eq!(answer.get_first_option(CoapOption::MaxAge), Some(&vec![]));
    assert_eq!(accept(&mut server, &request(&[])).unwrap_err(), Refusal::Unprotected);
}

#[test]
fn malformed_messages_are_refused() {
    let (mut client, mut server) = pair();
    let (protected, _) = client.protect_request(&request(&[])).unwrap();
    let with = |value: Option<OscoreValue>| {
        let mut message = protected.clone();
        message.clear_option(CoapOption::Oscore);
        if let Some(value) = value {
            message.add_option(CoapOption::Oscore, value.encode());
        }
        message
    };
    let no_kid = OscoreValue { partial_iv: Some(vec![0]), ..OscoreValue::default() };
    let no_number = OscoreValue { kid: Some(vec![]), ..OscoreValue::default() };
    for message in [with(Some(no_kid)), with(Some(no_number)), with(Some(OscoreValue::default()))] {
        assert_eq!(accept(&mut server, &message).unwrap_err(), Refusal::Malformed);
    }
    let mut twice = protected.clone();
    twice.add_option(CoapOption::Oscore, vec![]);
    let mut empty = protected.clone();
    empty.payload.clear();
    for message in [twice, empty] {
        assert_eq!(accept(&mut server, &message).unwrap_err(), Refusal::Malformed);
    }
    // A response where a request should be.
    let (protected, _) = client.protect_request(&response(None, b"x")).unwrap();
    assert_eq!(accept(&mut server, &protected).unwrap_err(), Refusal::Malformed);
}

#[test]
fn notifications_come_in_order_and_once() {
    let (mut client, mut server) = pair();
    let (registration, mut asked) = client.protect_request(&request(&[(CoapOption::Observe, &[])])).unwrap();
    let (_, mut answered) = accept(&mut server, &registration).unwrap();
    let mut notify = |payload: &[u8]| {
        let made = server.protect_response(&mut answered, &response(Some(77), payload)).unwrap();
        assert_eq!(made.header.code, MessageClass::Response(ResponseType::Content));
        assert_eq!(made.get_first_option(CoapOption::Observe), Some(&vec![77]), "for proxies");
        made
    };
    let (first, second, third) = (notify(b"1"), notify(b"2"), notify(b"3"));
    let mut take = |message: &Packet| client.unprotect_response(&mut asked, message);
    let observed = |message: Packet| (message.get_observe_value().unwrap().unwrap(), message.payload);
    assert_eq!(observed(take(&first).unwrap()), (0, b"1".to_vec()));
    assert_eq!(observed(take(&third).unwrap()), (1, b"3".to_vec()));
    for old in [&first, &second, &third] {
        assert_eq!(take(old).unwrap_err(), Refusal::Stale);
    }
    // A response to another request, though it is of the same context.
    let (_, mut other) = client.protect_request(&request(&[])).unwrap();
    assert_eq!(client.unprotect_response(&mut other, &second).unwrap_err(), Refusal::NotAuthentic);
}

#[test]
fn after_a_start_a_request_must_be_new() {
    let (mut client, mut server) = pair();
    let (recorded, _) = client.protect_request(&request(&[])).unwrap();
    accept(&mut server, &recorded).unwrap();
    // The server has been started again; it counts on, but the window is lost.
    let mut server = counting_from(&reversed(&parameters("9e7ca92223786340", "", None)), 10);
    server.challenge_first([9; 8]);
    assert!(matches!(server.unprotect_request(&recorded), Ok(Received::Challenge(_))));

    let (first, mut asked) = client.protect_request(&request(&[])).unwrap();
    let Ok(Received::Challenge(question)) = server.unprotect_request(&first) else { panic!("a challenge") };
    let question = client.unprotect_response(&mut asked, &question).unwrap();
    assert_eq!(question.header.code, MessageClass::Response(ResponseType::Unauthorized));
    let echo = question.get_first_option(ECHO).unwrap().clone();
    assert_eq!(echo, [9; 8]);

    let (wrong, _) = client.protect_request(&request(&[(ECHO, &[8; 8])])).unwrap();
    assert!(matches!(server.unprotect_request(&wrong), Ok(Received::Challenge(_))));
    let (again, _) = client.protect_request(&request(&[(ECHO, &echo)])).unwrap();
    assert!(accept(&mut server, &again).is_ok());
    for old in [&recorded, &first, &again] {
        assert_eq!(accept(&mut server, old).unwrap_err(), Refusal::Replayed);
    }
    let (next, _) = client.protect_request(&request(&[])).unwrap();
    assert!(accept(&mut server, &next).is_ok());
}

#[test]
fn the_numbers_have_an_end() {
    let mut client = counting_from(&parameters("", "", None), (1 << 40) - 1);
    assert!(client.protect_request(&request(&[])).is_ok());
    assert!(matches!(client.protect_request(&request(&[])), Err(OscoreError::Exhausted)));
}
