//! OSCORE (RFC 8613) against aiocoap in both directions, and against whoever replays, forges or kills.

use std::collections::{HashMap, HashSet};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracemq_tests::{
    Cmd, CoapMessage, CoapSocket, LONG, Run, SHORT, Tracemq, UdpTap, coap_port, json, peer_script, until,
};

const SECRET: &str = "0102030405060708090a0b0c0d0e0f10";
const SALT: &str = "9e7ca92223786340";
/// The OSCORE option.
const OSCORE: u16 = 9;

/// The options of one side: it has the first id, the other the second.
fn keys(own: &str, other: &str) -> Vec<String> {
    let pairs = [
        ("--oscore-master-secret", SECRET),
        ("--oscore-master-salt", SALT),
        ("--oscore-sender-id", own),
        ("--oscore-recipient-id", other),
    ];
    pairs.iter().flat_map(|(option, value)| [(*option).to_owned(), (*value).to_owned()]).collect()
}

/// A folder of aiocoap's with the keys and what it counts, and the file that names it.
fn credentials(tracemq: &Tracemq, name: &str, own: &str, other: &str, url: &str) -> PathBuf {
    let folder = tracemq.home().join(name);
    std::fs::create_dir(&folder).expect("a folder");
    let settings = serde_json::json!({
        "secret_hex": SECRET, "salt_hex": SALT, "sender-id_hex": own, "recipient-id_hex": other,
    });
    std::fs::write(folder.join("settings.json"), settings.to_string()).expect("a file");
    let named = serde_json::json!({ url: { "oscore": { "basedir": format!("{}/", folder.display()) } } });
    tracemq.write(&format!("{name}.json"), named.to_string())
}

fn aiocoap_server(credentials: &std::path::Path) -> (Run, u16) {
    let run = Cmd::python().arg(peer_script("coap_oscore_server.py")).arg(credentials).start();
    let port = run.wait_stdout("port ").trim_start_matches("port ").trim().parse().expect("a port");
    (run, port)
}

fn serve(tracemq: &Tracemq, arguments: &[&str]) -> (Run, u16) {
    let serve = tracemq
        .cmd(["serve", "coap://127.0.0.1:0", "--json", "--resource", "/hello=world"])
        .args(keys("01", "02"))
        .args(arguments)
        .start();
    let port = coap_port(&serve);
    (serve, port)
}

fn protected(datagrams: &[Vec<u8>]) -> Vec<CoapMessage> {
    let messages = datagrams.iter().map(|datagram| CoapMessage::decode(datagram));
    messages.filter(|message| message.options.contains_key(&OSCORE)).collect()
}

/// The partial IV in a request's option.
fn partial_iv(message: &CoapMessage) -> Vec<u8> {
    let value = &message.options[&OSCORE][0];
    let length = usize::from(value[0] & 7);
    value[1..1 + length].to_vec()
}

#[test]
fn our_client_talks_to_aiocoap() {
    let tracemq = Tracemq::new();
    let file = credentials(&tracemq, "server", "01", "", ":client");
    let (server, port) = aiocoap_server(&file);
    let url = format!("coap://127.0.0.1:{port}");
    let request = |path: &str| {
        let done =
            tracemq.cmd(["request", &url, path, "--format", "json"]).args(keys("", "01")).finish().expect(0);
        json(&done.text())
    };
    assert_eq!(request("/hello")["payload"], "hello over oscore");
    let big = request("/big");
    assert_eq!(big["payload"].as_str().map(str::len), Some(10_000));
    assert!(big["meta"]["blocks"].as_u64().is_some_and(|blocks| blocks > 1), "{}", big["meta"]);
    let body = tracemq.write("body", "x".repeat(100_000));
    tracemq
        .cmd(["pub", &url, "/hello", "--file"])
        .arg(&body)
        .args(keys("", "01"))
        .limit(LONG)
        .finish()
        .expect(0);
    server.wait_stdout("PUT 100000");
    let ticks = tracemq
        .cmd(["sub", &url, "/tick", "-C", "4", "--format", "json"])
        .args(keys("", "01"))
        .finish()
        .expect(0);
    let ticks: Vec<String> = ticks.lines().iter().map(|line| json(line)["payload"].to_string()).collect();
    assert_eq!(ticks.iter().collect::<HashSet<_>>().len(), 4, "{ticks:?}");
}

/// An id context is part of the keys, and travels with requests.
#[test]
fn both_sides_of_aiocoap_share_an_id_context_with_us() {
    const CONTEXT: &str = "37cbf3210017a2d3";
    let tracemq = Tracemq::new();
    let with_context = |name: &str, own: &str, other: &str, url: &str| {
        let file = credentials(&tracemq, name, own, other, url);
        let settings = tracemq.home().join(name).join("settings.json");
        let mut text = json(&std::fs::read_to_string(&settings).expect("a file"));
        text["id-context_hex"] = CONTEXT.into();
        std::fs::write(&settings, text.to_string()).expect("a file");
        file
    };
    let file = with_context("server", "01", "", ":client");
    let (_server, port) = aiocoap_server(&file);
    let tap = UdpTap::to(port);
    let url = format!("coap://127.0.0.1:{}", tap.port());
    let mut arguments = keys("", "01");
    arguments.extend(["--oscore-id-context".to_owned(), CONTEXT.to_owned()]);
    let ask = |arguments: &[String]| tracemq.cmd(["request", &url, "/hello"]).args(arguments).finish();
    assert!(ask(&arguments).expect(0).text().contains("hello over oscore"));
    let option = &protected(&tap.sent())[0].options[&OSCORE][0];
    assert_eq!(option[0] & 0x10, 0x10, "the option has the context: {option:02x?}");
    *arguments.last_mut().expect("a context") = "ffff".to_owned();
    assert_ne!(ask(&arguments).code(), 0, "another context, other keys");

    let (_serve, port) = serve(&tracemq, &["--oscore-id-context", CONTEXT]);
    let url = format!("coap://127.0.0.1:{port}");
    let file = with_context("client", "02", "01", &format!("{url}/*"));
    let client = Cmd::python().arg(peer_script("coap_oscore_client.py")).arg(&file);
    let done = client.args(["get", &format!("{url}/hello")]).limit(LONG).finish().expect(0);
    assert_eq!(done.text().trim(), "2.05 Content 5 world");
}

/// aiocoap asks for Echo when it was killed and has lost its replay window.
#[test]
fn our_client_proves_that_it_is_new() {
    let tracemq = Tracemq::new();
    let file = credentials(&tracemq, "server", "01", "", ":client");
    let ask = |port: u16| {
        let url = format!("coap://127.0.0.1:{port}");
        let done = tracemq.cmd(["request", &url, "/hello"]).args(keys("", "01")).finish().expect(0);
        assert!(done.text().contains("hello over oscore"), "{done:?}");
    };
    let (mut server, port) = aiocoap_server(&file);
    ask(port);
    server.signal(9);
    until(SHORT, || (!server.alive()).then_some(())).expect("it is killed");
    let (_server, port) = aiocoap_server(&file);
    let tap = UdpTap::to(port);
    ask(tap.port());
    let requests = protected(&tap.sent());
    assert_eq!(requests.len(), 2, "a request, and one with Echo");
    assert_ne!(partial_iv(&requests[0]), partial_iv(&requests[1]));
    let again = tap.sent().len();
    ask(tap.port());
    assert_eq!(tap.sent().len(), again + 1, "it is known by now");
}

#[test]
fn aiocoap_talks_to_our_server() {
    let tracemq = Tracemq::new();
    let mut serve = tracemq
        .cmd(["serve", "coap://127.0.0.1:0", "hello", "--json", "--lines"])
        .args(keys("01", "02"))
        .keep_stdin()
        .start();
    let tap = UdpTap::to(coap_port(&serve));
    serve.write("world\n");
    let url = format!("coap://127.0.0.1:{}", tap.port());
    let file = credentials(&tracemq, "client", "02", "01", &format!("{url}/*"));
    let client = |arguments: &[&str]| {
        Cmd::python().arg(peer_script("coap_oscore_client.py")).arg(&file).args(arguments).limit(LONG)
    };
    let done = client(&["get", &format!("{url}/hello")]).finish().expect(0);
    assert_eq!(done.text().trim(), "2.05 Content 5 world");
    assert_eq!(protected(&tap.sent()).len(), 2, "the first contact is asked whether it is new");
    let request = json(&serve.wait_stdout("\"/hello\""));
    assert_eq!(request["meta"]["identity"], "oscore:02", "{request}");

    client(&["put", &format!("{url}/big"), "x*100000"]).finish().expect(0);
    let done = client(&["get", &format!("{url}/big")]).finish().expect(0);
    assert!(done.text().starts_with("2.05 Content 100000 xxx"), "{done:?}");

    let observer = client(&["observe", &format!("{url}/hello"), "3"]).start();
    observer.wait_stdout("world");
    for value in ["one", "two", "three"] {
        serve.write(&format!("{value}\n"));
        observer.wait_stdout(value);
    }
    observer.wait().expect(0);
    // Nothing of it was readable on the way.
    for datagram in tap.sent() {
        let text = String::from_utf8_lossy(&datagram);
        assert!(!text.contains("hello") && !text.contains("xxxx"), "{text}");
    }
}

#[test]
fn what_is_replayed_forged_or_not_protected_is_refused() {
    let tracemq = Tracemq::new();
    let (server, port) = serve(&tracemq, &[]);
    let tap = UdpTap::to(port);
    let url = format!("coap://127.0.0.1:{}", tap.port());
    let ask = |arguments: &[String]| tracemq.cmd(["request", &url, "/hello"]).args(arguments).finish();
    ask(&keys("02", "01")).expect(0);
    let mut replayed = protected(&tap.sent()).pop().expect("a request");
    let socket = CoapSocket::to(port);
    // The same with another message id, so that the message layer takes it for another message.
    replayed.id ^= 0x5555;
    let answer = socket.ask(&replayed);
    assert_eq!((answer.status().as_str(), &answer.payload[..]), ("4.01", &b"Replay detected"[..]));
    assert!(!answer.options.contains_key(&OSCORE));
    server.wait_stderr("its OSCORE sequence number was used before");

    let mut forged = replayed.clone();
    forged.id ^= 0x0F0F;
    *forged.options.get_mut(&OSCORE).expect("an option") = vec![vec![0x09, 0x70, 0x02]];
    let answer = socket.ask(&forged);
    assert_eq!((answer.status().as_str(), &answer.payload[..]), ("4.00", &b"Decryption failed"[..]));
    let mut malformed = replayed.clone();
    malformed.id ^= 0x00FF;
    *malformed.options.get_mut(&OSCORE).expect("an option") = vec![vec![0x80]];
    assert_eq!(socket.ask(&malformed).status(), "4.02");

    ask(&keys("03", "01")).expect_failure(4, &["4.01", "Security context not found"]);
    ask(&[]).expect_failure(4, &["4.01", "OSCORE required"]);

    let (_fresh, port) = serve(&tracemq, &[]);
    let mut stranger = keys("02", "01");
    stranger[1] = "ff".repeat(16);
    let url = format!("coap://127.0.0.1:{port}");
    let done = tracemq.cmd(["request", &url, "/hello"]).args(stranger).finish();
    done.expect_failure(1, &["4.00", "Decryption failed"]);

    let plain = tracemq.cmd(["serve", "coap://127.0.0.1:0", "--resource", "/hello=world"]).start();
    let url = format!("coap://127.0.0.1:{}", coap_port(&plain));
    tracemq.cmd(["request", &url, "/hello"]).args(keys("02", "01")).finish().expect_failure(1, &["4.02"]);
}

/// A server that is started again, however it ended, takes nothing that was recorded before, and what is new at once.
#[test]
fn a_server_that_was_started_again_takes_nothing_old() {
    let tracemq = Tracemq::new();
    let mut recorded: Vec<CoapMessage> = Vec::new();
    for (round, signal) in [9, 15, 9].into_iter().enumerate() {
        let (mut server, port) = serve(&tracemq, &[]);
        let socket = CoapSocket::to(port);
        for old in &mut recorded {
            old.id ^= 0x5555;
            let answer = socket.ask(old);
            assert_eq!((answer.status().as_str(), &answer.payload[..]), ("4.01", &b"Replay detected"[..]));
        }
        assert!(!server.stdout().contains("\"/x\""), "it was acted on: {server:?}");
        let tap = UdpTap::to(port);
        let url = format!("coap://127.0.0.1:{}", tap.port());
        tracemq.cmd(["pub", &url, "/x", "recorded"]).args(keys("02", "01")).finish().expect(0);
        server.wait_stdout("\"/x\"");
        let sent = protected(&tap.sent());
        // Only the first contact of all is asked whether it is new.
        assert_eq!(sent.len(), if round == 0 { 2 } else { 1 }, "{sent:?}");
        recorded.extend(sent);
        server.signal(signal);
        until(SHORT, || (!server.alive()).then_some(())).expect("it ends");
    }
}

/// Where the window is lost, with the computer or by hand, nothing is read that could be old.
#[test]
fn a_server_that_has_lost_its_window_wants_a_proof() {
    let tracemq = Tracemq::new();
    let put =
        |url: &str| tracemq.cmd(["pub", url, "/x", "recorded"]).args(keys("02", "01")).finish().expect(0);
    let (mut first, port) = serve(&tracemq, &[]);
    let tap = UdpTap::to(port);
    put(&format!("coap://127.0.0.1:{}", tap.port()));
    let mut recorded = protected(&tap.sent()).pop().expect("a request");
    first.signal(9);
    until(SHORT, || (!first.alive()).then_some(())).expect("it is killed");
    // The file that is not forced to the disk; the limit is still there.
    let kept = find(&tracemq, |path| path.extension().is_some_and(|end| end == "seen" || end == "edge"));
    assert_eq!(kept.len(), 2, "{kept:?}");
    for file in kept.iter().filter(|path| path.extension().is_some_and(|end| end == "seen")) {
        std::fs::remove_file(file).expect("a file");
    }
    let (second, port) = serve(&tracemq, &[]);
    let socket = CoapSocket::to(port);
    recorded.id ^= 0x5555;
    let answer = socket.ask(&recorded);
    // It is asked whether it is new, which whoever has recorded it can't prove, and not even read.
    assert!(answer.options.contains_key(&OSCORE), "{answer:?}");
    assert!(!second.stdout().contains("\"/x\""), "it was acted on: {second:?}");
    put(&format!("coap://127.0.0.1:{port}"));
    second.wait_stdout("\"/x\"");
    recorded.id ^= 0x0F0F;
    assert_eq!(socket.ask(&recorded).payload, b"Replay detected");
}

/// All files in the user's folders of which this is true.
fn find(tracemq: &Tracemq, wanted: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![tracemq.home().to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path())
        {
            if entry.is_dir() {
                folders.push(entry);
            } else if wanted(&entry) {
                found.push(entry);
            }
        }
    }
    found
}

/// However a client ends, no number is ever used for two messages.
#[test]
fn a_client_that_is_killed_never_repeats_a_number() {
    let tracemq = Tracemq::new();
    let recorder = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    recorder.set_read_timeout(Some(Duration::from_millis(5))).expect("a time-out");
    let url = format!("coap://127.0.0.1:{}", recorder.local_addr().expect("a port").port());
    let lines = "message\n".repeat(2000);
    let mut seen: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    let mut buffer = vec![0; 65_535];
    let mut take = |seen: &mut HashMap<Vec<u8>, Vec<u8>>| {
        let Ok(length) = recorder.recv(&mut buffer) else { return false };
        let message = CoapMessage::decode(&buffer[..length]);
        let before = seen.insert(partial_iv(&message), message.payload.clone());
        // The same message may come again, but not the same number with another.
        assert!(before.is_none_or(|payload| payload == message.payload), "a number came twice");
        true
    };
    for round in 0..100_usize {
        let mut client = tracemq
            .cmd(["pub", &url, "/x", "--lines", "--nstart", "64", "--ack-timeout", "100ms"])
            .args(keys("", "01"))
            .stdin(lines.as_str())
            .start();
        // Some are killed before they have sent anything, others in the middle of it.
        let wanted = [0, 1, 2, 10, 63][round % 5];
        let mut count = 0;
        let end = std::time::Instant::now() + SHORT;
        while count < wanted {
            count += usize::from(take(&mut seen));
            assert!(std::time::Instant::now() < end, "{count} of {wanted} messages came: {client:?}");
        }
        client.signal(9);
        until(SHORT, || (!client.alive()).then_some(())).expect("it is killed");
        while take(&mut seen) {}
    }
    assert!(seen.len() >= 20 * (1 + 2 + 10 + 63), "{} numbers", seen.len());
}

#[test]
fn two_processes_share_the_numbers() {
    let tracemq = Tracemq::new();
    let (_serve, port) = serve(&tracemq, &[]);
    let url = format!("coap://127.0.0.1:{port}");
    // Its registration is the first contact, of which the server wants to know whether it is new.
    let observer =
        tracemq.cmd(["sub", &url, "/hello", "-C", "4", "--format", "json"]).args(keys("02", "01")).start();
    observer.wait_stdout("world");
    for value in ["one", "two", "three"] {
        tracemq.cmd(["pub", &url, "/hello", value]).args(keys("02", "01")).finish().expect(0);
        observer.wait_stdout(value);
    }
    observer.wait().expect(0);
}

#[test]
fn keys_and_numbers_are_no_part_of_a_profile() {
    let tracemq = Tracemq::new();
    let (_serve, port) = serve(&tracemq, &[]);
    let url = format!("coap://127.0.0.1:{port}");
    let mut add = vec!["profile".to_owned(), "add".to_owned(), "device".to_owned(), url];
    add.extend(keys("02", "01"));
    (add[5], add[7]) = ("env:OSCORE_SECRET".to_owned(), "env:OSCORE_SALT".to_owned());
    tracemq.cmd(add).finish().expect(0);
    tracemq
        .cmd(["request", "device", "/hello"])
        .env("OSCORE_SECRET", SECRET)
        .env("OSCORE_SALT", SALT)
        .finish()
        .expect(0);
    let shown = tracemq.cmd(["profile", "show", "device"]).finish().expect(0).text();
    assert!(!shown.contains(SECRET) && !shown.contains("oscore-sequence"), "{shown}");
    let exported = tracemq.cmd(["profile", "export", "device", "-o", "-"]).finish().expect(0).text();
    assert!(exported.contains("oscore") && !exported.contains("oscore-sequence"), "{exported}");
    assert!(!exported.contains(SECRET) && !exported.contains("oscore-window"), "{exported}");
    let counting = find(&tracemq, |path| {
        let text = String::from_utf8_lossy(&std::fs::read(path).expect("a file")).into_owned();
        assert!(!text.contains(SECRET), "{}: {text}", path.display());
        text.contains("oscore-sequence") || text.contains("oscore-window")
    });
    assert!(counting.len() >= 4, "{counting:?} count");
    let state = tracemq.home().join("state");
    assert!(counting.iter().all(|path| path.starts_with(&state)), "{counting:?}");
}
