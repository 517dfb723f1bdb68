//! `tracemq pub`, `request` and `list` against CoAP servers that this project did not write.

use serde_json::Value;
use tracemq_tests::{CoapServer, LONG, ScriptedCoap, Tracemq, coap_answer, json};

fn body(length: usize) -> String {
    (0..length).map(|at| char::from(97 + (at % 26) as u8)).collect()
}

/// The answer to a request, as JSON.
fn request(tracemq: &Tracemq, url: &str, arguments: &[&str]) -> Value {
    let done = tracemq.cmd(["request", url, "--format", "json"]).args(arguments).limit(LONG).finish();
    json(&done.expect(0).lines()[0])
}

#[test]
fn a_get_shows_the_payload_and_all_about_its_message() {
    let (tracemq, server) = (Tracemq::new(), CoapServer::aiocoap());
    tracemq.cmd(["request", &server.url("/hello")]).finish().expect(0);
    let answer = request(&tracemq, &server.url(""), &["/hello", "--empty"]);
    assert_eq!((&answer["payload"], &answer["topic"]), (&"hello".into(), &"/hello".into()));
    let meta = &answer["meta"];
    assert_eq!((&meta["code"], &meta["code_name"]), (&"2.05".into(), &"Content".into()));
    assert_eq!((&meta["type"], &meta["separate"]), (&"ACK".into(), &false.into()));
    assert_eq!(meta["token"].as_str().map(str::len), Some(16), "{meta}");
    assert_eq!((&meta["retransmissions"], &meta["blocks"]), (&0.into(), &1.into()));
    assert!(meta["round_trip_ms"].as_f64().is_some_and(|took| took > 0.0), "{meta}");
    assert!(meta["message_id"].is_u64(), "{meta}");
    assert_eq!(meta["content_format"], "text/plain; charset=utf-8");
    assert_eq!(meta["peer"], format!("127.0.0.1:{}", server.port()));
    let etag = serde_json::json!(["ETag", "0x0102"]);
    assert!(meta["options"].as_array().is_some_and(|options| options.contains(&etag)), "{meta}");
}

#[test]
fn all_seven_methods() {
    let (tracemq, server) = (Tracemq::new(), CoapServer::aiocoap());
    let url = server.url("/store");
    tracemq
        .cmd(["request", &url])
        .finish()
        .expect_failure(1, &["4.04 Not Found", "nothing was put here", "list"]);
    let created = tracemq.cmd(["pub", &url, "one", "--json", "--content-format", "json"]).finish().expect(0);
    let outcome = json(&created.lines()[0]);
    assert_eq!((&outcome["status"], &outcome["details"]["code"]), (&"acknowledged".into(), &"2.01".into()));
    server.run().wait_stdout("PUT 3 50");
    assert_eq!(request(&tracemq, &url, &[])["payload"], "one");
    tracemq.cmd(["pub", &url, "+two", "--method", "patch"]).finish().expect(0);
    assert_eq!(request(&tracemq, &url, &[])["payload"], "one+two");
    tracemq.cmd(["pub", &url, "three", "--method", "ipatch", "--query", "a=1"]).finish().expect(0);
    server.run().wait_stdout("iPATCH 5 None a=1");
    assert_eq!(request(&tracemq, &url, &["which", "--method", "fetch"])["payload"], "fetched which");
    // A payload is posted.
    let posted = request(&tracemq, &url, &["four"]);
    assert_eq!((&posted["payload"], &posted["meta"]["code"]), (&"four".into(), &"2.01".into()));
    let location = serde_json::json!(["Location-Path", "store"]);
    assert!(posted["meta"]["options"].as_array().is_some_and(|all| all.contains(&location)), "{posted}");
    tracemq.cmd(["pub", &url, "--empty", "--method", "delete"]).finish().expect(0);
    tracemq.cmd(["request", &url]).finish().expect_failure(1, &["4.04"]);
}

#[test]
fn options_by_name_and_the_codes_they_lead_to() {
    let (tracemq, server) = (Tracemq::new(), CoapServer::aiocoap());
    // An ETag that is known: 2.03, without a payload.
    let valid = request(&tracemq, &server.url("/hello"), &["--option", "etag=0x0102"]);
    assert_eq!((&valid["payload"], &valid["meta"]["code"]), (&"".into(), &"2.03".into()));
    let store = server.url("/store");
    let put = |arguments: &[&str]| tracemq.cmd(["pub", &store, "x"]).args(arguments).finish();
    put(&["--option", "if-none-match"]).expect(0);
    put(&["-H", "if-none-match="]).expect_failure(1, &["4.12 Precondition Failed"]);
    let code = |code: &str| tracemq.cmd(["request", &server.url(&format!("/code?{code}"))]).finish();
    code("4.01").expect_failure(4, &["4.01 Unauthorized", "because"]);
    code("4.03").expect_failure(4, &["4.03 Forbidden"]);
    code("4.29").expect_failure(1, &["4.29 Too Many Requests"]);
    code("5.03").expect_failure(1, &["5.03 Service Unavailable"]);
    tracemq.cmd(["pub", &server.url("/hello"), "x"]).finish().expect_failure(1, &["4.05 Method Not Allowed"]);
    tracemq
        .cmd(["pub", &server.url("/code"), "--empty", "--method", "get", "--query", "4.03"])
        .finish()
        .expect(4);
}

/// The bytes of a request, as they must be: options by name and by number, in the order of their numbers.
#[test]
fn options_are_sent_as_they_are_given() {
    let tracemq = Tracemq::new();
    let server = ScriptedCoap::start(Box::new(|socket, from, request, _| {
        let answer = coap_answer(request, 2, 0x45, None, b"");
        socket.send_to(&answer, from).expect("it can be sent");
    }));
    let flags = ["--accept", "cbor", "--content-format", "json", "--query", "a=1"];
    let options = ["--option", "if-match=0x1f2e", "--option", "14=60", "--option", "65000=text"];
    let request = ["request", &server.url("/x"), "{}", "--method", "fetch"];
    tracemq.cmd(request).args(flags).args(options).finish().expect(0);
    let request = server.next();
    assert_eq!(request[1], 5, "FETCH");
    let rest = &request[4 + usize::from(request[0] & 15)..];
    let wanted = [
        // If-Match (1), Uri-Path (11), Content-Format (12), Max-Age (14), Uri-Query (15), Accept (17), 65000.
        &b"\x12\x1f\x2e"[..],
        b"\xa1x",
        b"\x11\x32",
        b"\x21\x3c",
        b"\x13a=1",
        b"\x21\x3c",
        b"\xe4\xfc\xcatext",
        b"\xff{}",
    ];
    assert_eq!(rest, wanted.concat());
}

#[test]
fn what_can_not_be_is_refused_before_anything_is_sent() {
    let tracemq = Tracemq::new();
    let refused = |arguments: &[&str], parts: &[&str]| {
        tracemq.cmd(["request", "coap://127.0.0.1:9/a"]).args(arguments).finish().expect_failure(2, parts);
    };
    refused(&["--method", "head"], &["--method", "get", "fetch"]);
    refused(&["--option", "colour=red"], &["colour"]);
    refused(&["--content-format", "nothing/like-it"], &["--content-format"]);
    refused(&["--block-size", "100"], &["--block-size", "1024"]);
    tracemq.cmd(["request", "coap://127.0.0.1"]).finish().expect_failure(2, &["TOPIC"]);
    tracemq.cmd(["sub", "coap://224.0.1.187/a"]).finish().expect_failure(2, &["group", "--replies"]);
}

#[test]
fn a_hundred_thousand_bytes_both_ways() {
    let tracemq = Tracemq::new();
    let file = tracemq.write("body", body(100_000));
    let put = |url: &str, arguments: &[&str]| {
        let done =
            tracemq.cmd(["pub", url, "--json", "--file"]).arg(&file).args(arguments).limit(LONG).finish();
        json(&done.expect(0).lines()[0])["details"]["request_blocks"].as_u64()
    };
    let server = CoapServer::aiocoap();
    assert_eq!(put(&server.url("/store"), &[]), Some(98));
    server.run().wait_stdout("PUT 100000");
    for (path, arguments, blocks) in [("/store", &[][..], 98), ("/big", &["--block-size", "256"], 391)] {
        let answer = request(&tracemq, &server.url(path), arguments);
        assert_eq!(answer["payload"].as_str(), Some(body(100_000).as_str()), "{path}");
        assert_eq!(answer["meta"]["blocks"], blocks, "{path}");
    }
    // Both ways in one: Block1 and Block2.
    let done = tracemq.cmd(["request", &server.url("/echo"), "--format", "raw", "--no-newline", "--file"]);
    assert_eq!(done.arg(&file).limit(LONG).finish().expect(0).text(), body(100_000));

    let server = CoapServer::libcoap(&[]);
    assert_eq!(put(&server.url("/large"), &["--block-size", "512"]), Some(196));
    let answer = request(&tracemq, &server.url("/large"), &[]);
    assert_eq!(answer["payload"].as_str(), Some(body(100_000).as_str()));
    tracemq
        .cmd(["request", &server.url("/large"), "--max-body-size", "50000"])
        .finish()
        .expect_failure(1, &["longer than is allowed"]);
}

#[test]
fn an_answer_that_takes_its_time_comes_by_itself() {
    let tracemq = Tracemq::new();
    let server = CoapServer::aiocoap();
    let answer = request(&tracemq, &server.url("/slow"), &[]);
    assert_eq!((&answer["payload"], &answer["meta"]["separate"]), (&"at last".into(), &true.into()));
    assert_eq!(answer["meta"]["type"], "CON");
    let server = CoapServer::libcoap(&[]);
    let answer = request(&tracemq, &server.url("/async?1"), &[]);
    assert_eq!(answer["meta"]["separate"], true);
}

#[test]
fn messages_that_are_not_confirmed() {
    let (tracemq, server) = (Tracemq::new(), CoapServer::aiocoap());
    let answer = request(&tracemq, &server.url("/hello"), &["--non-confirmable"]);
    assert_eq!((&answer["payload"], &answer["meta"]["type"]), (&"hello".into(), &"NON".into()));
    // Nobody is to answer: then it is sent, and no more is known.
    let url = server.url("/store");
    let silent = tracemq.cmd(["pub", &url, "x", "--json", "--non-confirmable", "--option", "no-response=26"]);
    assert_eq!(json(&silent.finish().expect(0).lines()[0])["status"], "sent");
    server.run().wait_stdout("PUT 1");
}

#[test]
fn lines_are_put_one_after_the_other_or_many_at_once() {
    let (tracemq, server) = (Tracemq::new(), CoapServer::libcoap(&[]));
    let url = server.url("/lines");
    let lines: String = (0..3000).map(|number| format!("{number}\n")).collect();
    for arguments in [&[][..], &["--nstart", "64"]] {
        let put = tracemq.cmd(["pub", &url, "--lines"]).args(arguments).stdin(lines.clone());
        put.limit(LONG).finish().expect(0);
        let last = request(&tracemq, &url, &[]);
        if arguments.is_empty() {
            assert_eq!(last["payload"], "2999");
        }
    }
}

#[test]
fn resources_are_listed_with_their_attributes() {
    let (tracemq, server) = (Tracemq::new(), CoapServer::libcoap(&[]));
    let list = |arguments: &[&str]| {
        tracemq.cmd(["list", &server.url("")]).args(arguments).arg("--json").finish().expect(0).lines()
    };
    let all: Vec<Value> = list(&[]).iter().map(|line| json(line)).collect();
    let time = all.iter().find(|row| row["path"] == "/time").expect("libcoap's server has /time");
    assert_eq!((&time["obs"], &time["ct"]), (&true.into(), &"text/plain; charset=utf-8".into()));
    assert_eq!(time["title"], "Internal Clock");
    let some: Vec<Value> = list(&["rt=ticks"]).iter().map(|line| json(line)).collect();
    assert_eq!(some.len(), 1, "{some:?}");
    tracemq.cmd(["list", &server.url(""), "streams"]).finish().expect_failure(2, &["streams", "resources"]);
}

#[test]
fn a_name_is_told_to_the_server() {
    let (tracemq, server) = (Tracemq::new(), CoapServer::libcoap(&[]));
    let url = format!("coap://localhost:{}/time", server.port());
    tracemq.cmd(["request", &url]).finish().expect(0);
    tracemq
        .cmd(["request", "coap://no-such-host.invalid/a"])
        .finish()
        .expect_failure(3, &["no-such-host.invalid"]);
}
