//! `tracemq serve eventhubs` and what no SDK would send: bytes that are no AMQP, frames that break its rules, floods, and clients
//! that take nothing. It tells them why, lets them go, and goes on with a bounded amount of memory.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracemq_tests::{Cmd, LONG, Run, Tracemq, json, peer_script, until};

const AMQP: &[u8; 8] = b"AMQP\x00\x01\x00\x00";
const SASL: &[u8; 8] = b"AMQP\x03\x01\x00\x00";
const NULL: &[u8] = b"\x40";

struct Served {
    run: Run,
    port: u16,
    connection: String,
}

fn serve(tracemq: &Tracemq, arguments: &[&str]) -> Served {
    let command = tracemq.cmd(["serve", "eventhubs", "--bind", "127.0.0.1:0", "--json", "--hub", "h:1"]);
    let run = command.args(arguments).start();
    let first = json(&run.wait_stdout("\"urls\""));
    let url = first["url"].as_str().expect("a URL");
    let port = url.rsplit_once(':').expect("a port").1.parse().expect("a number");
    Served { run, port, connection: first["urls"][1].as_str().expect("a connection string").to_owned() }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
    stream.set_write_timeout(Some(Duration::from_secs(60))).expect("a time-out");
    stream
}

/// A described list, as a value.
fn list(code: u8, fields: &[&[u8]]) -> Vec<u8> {
    let data = fields.concat();
    let size = (data.len() as u32 + 4).to_be_bytes();
    [&[0, 0x53, code, 0xD0][..], &size, &(fields.len() as u32).to_be_bytes(), &data].concat()
}

fn frame(channel: u16, body: &[u8]) -> Vec<u8> {
    let size = (body.len() as u32 + 8).to_be_bytes();
    [&size[..], &[2, 0], &channel.to_be_bytes(), body].concat()
}

fn uint(value: u32) -> Vec<u8> {
    [&[0x70][..], &value.to_be_bytes()].concat()
}

fn text(value: &str) -> Vec<u8> {
    [&[0xB1][..], &(value.len() as u32).to_be_bytes(), value.as_bytes()].concat()
}

fn open() -> Vec<u8> {
    frame(0, &list(0x10, &[&text("raw")]))
}

fn begin(channel: u16) -> Vec<u8> {
    frame(channel, &list(0x11, &[NULL, &uint(0), &uint(1000), &uint(1000)]))
}

/// Attaches a sender to a node.
fn attach(channel: u16, handle: u32, address: &str) -> Vec<u8> {
    link(channel, handle, "me", address, b"\x42")
}

fn link(channel: u16, handle: u32, source: &str, target: &str, role: &[u8]) -> Vec<u8> {
    let name = text(&format!("link-{channel}-{handle}"));
    let source = list(0x28, &[&text(source)]);
    let target = list(0x29, &[&text(target)]);
    let fields: [&[u8]; 10] =
        [&name, &uint(handle), role, NULL, NULL, &source, &target, NULL, NULL, &uint(0)];
    frame(channel, &list(0x12, &fields))
}

fn transfer(handle: u32, delivery: u32, format: u32, more: bool, payload: &[u8]) -> Vec<u8> {
    let more: &[u8] = if more { b"\x41" } else { b"\x42" };
    let fields: [&[u8]; 6] = [&uint(handle), &uint(delivery), b"\xA0\x01x", &uint(format), b"\x42", more];
    frame(0, &[&list(0x14, &fields)[..], payload].concat())
}

/// A connection that has logged in by PLAIN, so that it needs no token, with a session on channel 0.
fn logged_in(port: u16) -> TcpStream {
    let mut stream = connect(port);
    let plain = b"\xA0\x28\0RootManageSharedAccessKey\0SAS_KEY_VALUE";
    let init = list(0x41, &[b"\xA3\x05PLAIN", plain]);
    let mut init = frame(0, &init);
    init[5] = 1;
    stream.write_all(&[&SASL[..], &init, AMQP, &open(), &begin(0)].concat()).expect("the server reads");
    stream
}

/// Reads until these bytes came. Panics with what came when they do not.
fn expect(stream: &mut TcpStream, wanted: &str) {
    expect_all(stream, &[wanted]);
}

/// Likewise all of these, in any order.
fn expect_all(stream: &mut TcpStream, wanted: &[&str]) {
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    let has = |got: &[u8], part: &str| got.windows(part.len()).any(|window| window == part.as_bytes());
    while !wanted.iter().all(|part| has(&got, part)) {
        match stream.read(&mut buffer) {
            Ok(0) => panic!("it ended before {wanted:?}: {:?}", String::from_utf8_lossy(&got)),
            Ok(count) => got.extend_from_slice(&buffer[..count]),
            Err(error) => panic!("{error} before {wanted:?}: {:?}", String::from_utf8_lossy(&got)),
        }
    }
}

/// Reads to the end of the connection.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    match stream.read_to_end(&mut got) {
        Ok(_) => {}
        // It was in the midst of sending.
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {}
        Err(error) => panic!("the connection does not end: {error}"),
    }
    got
}

/// The server goes on as if nothing had been.
fn still_serves(served: &Served) {
    let mut stream = connect(served.port);
    stream.write_all(&[&AMQP[..], &open()].concat()).expect("the server reads");
    expect(&mut stream, "TraceMQ");
}

#[test]
fn bytes_that_are_no_amqp() {
    let tracemq = Tracemq::new();
    let served = serve(&tracemq, &[]);
    for (sent, told) in [
        (&b"\x00\xff\x00\xffgarbage and more of it"[..], "does not speak AMQP 1.0"),
        (b"AMQP\x00\x00\x09\x01", "does not speak AMQP 1.0"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "--tls-cert"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "WebSocket"),
        (b"GET /$servicebus/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", "AMQPWSB10"),
        (b"AMQP\x03\x01\x00\x00\xff\xff\xff\xff\x02\x01\x00\x00", "over the negotiated size"),
    ] {
        let mut stream = connect(served.port);
        stream.write_all(sent).expect("the server reads");
        served.run.wait_stderr(told);
        rest(&mut stream);
    }
    still_serves(&served);
}

#[test]
fn frames_that_break_the_rules_end_the_connection_with_the_reason() {
    let tracemq = Tracemq::new();
    let served = serve(&tracemq, &[]);
    let opened = [&AMQP[..], &open()].concat();
    let in_session = [&opened[..], &begin(0)].concat();
    for (sent, told) in [
        ([&AMQP[..], &begin(0)].concat(), "a frame before the open"),
        ([&opened[..], &open()].concat(), "a second open"),
        // One byte more than the megabyte that was negotiated: the rest is not waited for.
        ([&opened[..], b"\x00\x10\x00\x01\x02\x00\x00\x00"].concat(), "over the negotiated size"),
        ([&opened[..], b"\x00\x00\x00\x07\x02\x00\x00\x00"].concat(), "shorter than its header"),
        ([&opened[..], &frame(0, b"\x00\x53\x99\x45")].concat(), "without a known performative"),
        ([&opened[..], &frame(0, b"\xd0\xff\xff\xff\xff\x00")].concat(), "end within a value"),
        ([&opened[..], &frame(0, b"\x00\x00\x00\x00\x00\x00")].concat(), "amqp:decode-error"),
        ([&opened[..], &attach(0, 0, "h")].concat(), "no session on channel 0"),
        ([&opened[..], &begin(9999)].concat(), "channel-max"),
        ([&in_session[..], &begin(0)].concat(), "already"),
        ([&in_session[..], &attach(0, 99_999, "h")].concat(), "handle-max"),
        ([&in_session[..], &transfer(5, 0, 0, false, b"")].concat(), "amqp:session:unattached-handle"),
        (
            [&in_session[..], &attach(0, 1, "$cbs"), &attach(0, 1, "$cbs")].concat(),
            "amqp:session:handle-in-use",
        ),
        ([&in_session[..], &attach(0, 1, "h")].concat(), "amqp:unauthorized-access"),
        ([&in_session[..], &attach(0, 1, "h/x/y/z")].concat(), "amqp:not-found"),
    ] {
        let mut stream = connect(served.port);
        stream.write_all(&sent).expect("the server reads");
        expect(&mut stream, told);
    }
    still_serves(&served);
}

#[test]
fn messages_that_can_not_be_read_are_rejected_and_the_link_goes_on() {
    let tracemq = Tracemq::new();
    let served = serve(&tracemq, &["--max-message-size", "2000"]);
    let mut stream = logged_in(served.port);
    let batch = 0x8001_3700;
    let good = b"\x00\x53\x75\xa0\x04good";
    let sent = [
        attach(0, 0, "h"),
        transfer(0, 0, 0, false, b"\xff\xff"),
        transfer(0, 1, batch, false, b"\x00\x53\x75\xa0\x02\xff\xff"),
        transfer(0, 2, batch, false, b""),
        // In two, and the one after it is given up in its middle.
        transfer(0, 3, 0, true, &good[..6]),
        transfer(0, 3, 0, false, &good[6..]),
    ];
    stream.write_all(&sent.concat()).expect("the server reads");
    served.run.wait_stderr("no event in the batch");
    let shown = json(&served.run.wait_stdout("\"payload\":\"good\""));
    assert_eq!(shown["meta"]["sequence"], 0, "what was rejected has no number");
    let large = [transfer(0, 4, 0, true, &[0; 1500]), transfer(0, 4, 0, false, &[0; 1500])].concat();
    stream.write_all(&large).expect("the server reads");
    expect(&mut stream, "amqp:link:message-size-exceeded");
    // The link is gone, the session is not.
    stream.write_all(&attach(0, 1, "h")).expect("the server reads");
    stream.write_all(&transfer(1, 5, 0, false, b"\x00\x53\x75\xa0\x05again")).expect("the server reads");
    served.run.wait_stdout("\"payload\":\"again\"");
}

#[test]
fn values_that_nest_for_ever_are_kept_and_shown_no_deeper_than_people_nest() {
    let tracemq = Tracemq::new();
    let served = serve(&tracemq, &[]);
    let mut stream = logged_in(served.port);
    let mut heads = Vec::new();
    let deep = 50_000;
    for level in 0..deep {
        let left = (deep - level - 1) * 9 + 1;
        heads.push(0xD0);
        heads.extend_from_slice(&(left as u32 + 4).to_be_bytes());
        heads.extend_from_slice(&1_u32.to_be_bytes());
    }
    let message = [b"\x00\x53\x77", &heads[..], NULL].concat();
    stream
        .write_all(&[attach(0, 0, "h"), transfer(0, 0, 0, false, &message)].concat())
        .expect("the server reads");
    let shown = json(&served.run.wait_stdout("\"body\":\"value\""));
    assert!(shown["payload"].as_str().is_some_and(|payload| payload.contains('…')), "{shown}");
    still_serves(&served);
    // Whoever reads it survives it, and what comes behind it.
    stream.write_all(&transfer(0, 1, 0, false, b"\x00\x53\x75\xa0\x05after")).expect("the server reads");
    served.run.wait_stdout("\"payload\":\"after\"");
    let read = ["sub", &served.connection, "h", "--position", "earliest", "-C", "2", "--format", "json"];
    let read = tracemq.cmd(read).finish().expect(0);
    let payloads: Vec<_> = read.lines().iter().map(|line| json(line)["payload"].clone()).collect();
    assert!(payloads[0].as_str().is_some_and(|payload| payload.starts_with("[[[[")), "{}", payloads[0]);
    assert_eq!(payloads[1], "after");
}

#[test]
fn floods_of_channels_and_links_end() {
    let tracemq = Tracemq::new();
    let served = serve(&tracemq, &[]);
    let before = served.run.resident_kib();
    let mut stream = connect(served.port);
    stream.write_all(&[&AMQP[..], &open()].concat()).expect("the server reads");
    let flood: Vec<u8> = (0..2000).flat_map(begin).collect();
    // What comes after the end may meet a closed door.
    drop(stream.write_all(&flood));
    let told = String::from_utf8_lossy(&rest(&mut stream)).into_owned();
    assert!(told.contains("channel-max"), "{told}");

    let mut stream = connect(served.port);
    stream.write_all(&[&AMQP[..], &open()].concat()).expect("the server reads");
    let sessions: Vec<u8> = (0..10).flat_map(begin).collect();
    let links =
        (0..10).flat_map(|channel| (0..1000).flat_map(move |handle| attach(channel, handle, "nowhere")));
    let flood: Vec<u8> = links.collect();
    let mut writer = stream.try_clone().expect("a second handle");
    let thread = std::thread::spawn(move || drop(writer.write_all(&[sessions, flood].concat())));
    let told = String::from_utf8_lossy(&rest(&mut stream)).into_owned();
    assert!(told.contains("amqp:resource-limit-exceeded"), "{}", told.len());
    thread.join().expect("the writer");

    let many: Vec<_> = (0..200).map(|_| connect(served.port)).collect();
    still_serves(&served);
    drop(many);
    let grown = served.run.resident_kib().saturating_sub(before);
    assert!(grown < 60_000, "{grown} KiB more than before");
}

#[test]
fn connections_that_never_open_are_given_up() {
    let tracemq = Tracemq::new();
    let served = serve(&tracemq, &["--max-clients", "4"]);
    let mut silent = connect(served.port);
    let mut half = connect(served.port);
    half.write_all(SASL).expect("the server reads");
    let mut unopened = connect(served.port);
    unopened.write_all(AMQP).expect("the server reads");
    let mut torn = connect(served.port);
    torn.write_all(&[&AMQP[..], &open()[..9]].concat()).expect("the server reads");
    let mut fifth = connect(served.port);
    served.run.wait_stderr("--max-clients");
    rest(&mut fifth);
    for stream in [&mut silent, &mut half, &mut unopened, &mut torn] {
        rest(stream);
    }
    served.run.wait_stderr("the handshake took too long");
    served.run.wait_stderr("no open came in time");
    still_serves(&served);
}

#[test]
fn a_reader_that_takes_nothing_costs_a_bounded_amount_and_holds_nobody_up() {
    let tracemq = Tracemq::new();
    let served = serve(&tracemq, &["--retention-bytes", "8MiB"]);
    let node = Cmd::node().arg(peer_script("eventhubs_client.js"));
    let stalled = node.args([served.connection.as_str(), "h", "stall"]).start();
    stalled.wait_stdout("stalled");
    let before = served.run.resident_kib();
    let mut stream = logged_in(served.port);
    stream.write_all(&attach(0, 0, "h")).expect("the server reads");
    let message = [&b"\x00\x53\x75\xb0\x00\x00\xea\x60"[..], &vec![b'x'; 60_000]].concat();
    for delivery in 0..1500 {
        stream.write_all(&transfer(0, delivery, 0, false, &message)).expect("the server reads");
    }
    let all = until(LONG, || served.run.stdout().contains("\"sequence\":1499").then_some(()));
    assert!(all.is_some(), "90 MB were taken in, kept and shown");
    let grown = served.run.resident_kib().saturating_sub(before);
    // What is kept, what waits to be shown, and the buffers of two connections.
    assert!(grown < 100_000, "{grown} KiB more than before");
}

/// A token for the hub `h`, signed with the key that a server without any has, good for so many seconds.
fn signature(key: &str, seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let expiry = now.checked_add_signed(seconds).expect("a time");
    let resource = "sb%3A%2F%2Flocalhost%2Fh";
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
    let signature = STANDARD.encode(ring::hmac::sign(&key, format!("{resource}\n{expiry}").as_bytes()));
    let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn=RootManageSharedAccessKey")
}

/// Puts a token, on a sender with handle 0.
fn put_token(delivery: u32, token: &str) -> Vec<u8> {
    let pairs = [
        ("operation", "put-token"),
        ("type", "servicebus.windows.net:sastoken"),
        ("name", "sb://localhost/h"),
    ];
    request(delivery, &pairs, &text(token))
}

/// Asks a node, on a sender with handle 0.
fn request(delivery: u32, pairs: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let pairs: Vec<_> = pairs.iter().flat_map(|(name, value)| [text(name), text(value)]).collect();
    let fields: Vec<&[u8]> = pairs.iter().map(Vec::as_slice).collect();
    let mut application = list(0x74, &fields);
    // Of the same form as a list.
    application[3] = 0xD1;
    let properties = list(0x73, &[&text("an id")]);
    let body = [&b"\0\x53\x77"[..], body].concat();
    transfer(0, delivery, 0, false, &[properties, application, body].concat())
}

/// A connection with a session, and links that put tokens and read the answers.
fn with_tokens(port: u16) -> TcpStream {
    asking(port, "$cbs")
}

/// Likewise for any node.
fn asking(port: u16, node: &str) -> TcpStream {
    let mut stream = connect(port);
    let credit = list(0x13, &[&uint(0), &uint(100), &uint(0), &uint(100), &uint(1), &uint(0), &uint(10)]);
    let answers = link(0, 1, node, "me", b"\x41");
    let sent = [&AMQP[..], &open(), &begin(0), &attach(0, 0, node), &answers, &frame(0, &credit)];
    stream.write_all(&sent.concat()).expect("the server reads");
    stream
}

#[test]
fn a_link_ends_with_its_token_unless_that_is_renewed() {
    let tracemq = Tracemq::new();
    let served = serve(&tracemq, &[]);
    for (token, told) in [
        (signature("wrong", 600), "invalid signature"),
        (signature("SAS_KEY_VALUE", -1), "expired"),
        ("nonsense".to_owned(), "InvalidSignature"),
    ] {
        let mut stream = with_tokens(served.port);
        stream.write_all(&[put_token(0, &token), attach(0, 2, "h")].concat()).expect("the server reads");
        expect_all(&mut stream, &[told, "amqp:unauthorized-access"]);
    }
    let start = |renewal: Option<i64>| {
        let mut stream = with_tokens(served.port);
        let renewal = renewal.map(|seconds| put_token(1, &signature("SAS_KEY_VALUE", seconds)));
        let sent =
            [put_token(0, &signature("SAS_KEY_VALUE", 4)), attach(0, 2, "h"), renewal.unwrap_or_default()];
        stream.write_all(&sent.concat()).expect("the server reads");
        stream
    };
    let (mut renewed, mut cut) = (start(Some(600)), start(None));
    expect(&mut cut, "ExpiredToken");
    let event = transfer(2, 7, 0, false, b"\x00\x53\x75\xa0\x05still");
    renewed.write_all(&event).expect("the server reads");
    served.run.wait_stdout("\"payload\":\"still\"");
}

#[test]
fn whoever_has_no_token_is_told_nothing_of_a_hub() {
    let tracemq = Tracemq::new();
    let served = serve(&tracemq, &[]);
    let read = |token: &str| {
        let mut stream = asking(served.port, "$management");
        let pairs = [
            ("operation", "READ"),
            ("type", "com.microsoft:eventhub"),
            ("name", "h"),
            ("security_token", token),
        ];
        stream.write_all(&request(0, &pairs, NULL)).expect("the server reads");
        stream
    };
    for token in ["", &signature("wrong", 600), &signature("SAS_KEY_VALUE", -1)] {
        expect(&mut read(token), "Unauthorized access");
    }
    expect(&mut read(&signature("SAS_KEY_VALUE", 600)), "partition_ids");
}
