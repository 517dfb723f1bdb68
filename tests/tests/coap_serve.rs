//! `tracemq serve coap` with clients that this project did not write: libcoap's coap-client, aiocoap, and bare sockets.

use std::fs;
use std::time::{Duration, Instant};
use tracemq_tests::{
    Cmd, CoapMessage, CoapSocket, Run, SHORT, Tracemq, coap_client, coap_port, json, peer_script, until,
};

/// `tracemq serve coap …` on a free port.
fn serve(tracemq: &Tracemq, arguments: &[&str]) -> (Run, u16) {
    let server = tracemq.cmd(["serve", "coap", "--bind", "127.0.0.1:0", "--json"]).args(arguments).start();
    let port = coap_port(&server);
    (server, port)
}

/// What coap-client says to a request.
fn ask(port: u16, path: &str, arguments: &[&str]) -> String {
    let client = coap_client().args(arguments).arg(format!("coap://127.0.0.1:{port}/{path}"));
    let done = client.finish().expect(0);
    format!("{}{}", done.text(), done.stderr)
}

/// The message that a server has shown, with this topic and method.
fn shown(server: &Run, topic: &str, method: &str) -> serde_json::Value {
    let wanted = |line: &str| {
        line.contains("\"topic\"") && json(line)["topic"] == topic && json(line)["meta"]["method"] == method
    };
    json(&server.wait_stdout_by(SHORT, &format!("{method} {topic}"), &wanted))
}

fn aiocoap(arguments: &[&str]) -> Cmd {
    Cmd::python().arg(peer_script("coap_client.py")).args(arguments)
}

#[test]
fn every_method_of_coap_client_is_answered_and_shown() {
    let tracemq = Tracemq::new();
    let (server, port) = serve(&tracemq, &["--resource", "hello=world"]);
    assert!(server.stdout().starts_with(&format!("{{\"url\":\"coap://127.0.0.1:{port}\"")), "{server:?}");
    assert_eq!(ask(port, "hello", &["-m", "get"]).trim(), "world");
    let message = shown(&server, "/hello", "GET");
    let meta = &message["meta"];
    assert_eq!((&meta["type"], &meta["code"]), (&"CON".into(), &"2.05".into()), "{message}");
    assert!(meta["message_id"].is_u64() && meta["token"].is_string(), "{message}");
    assert!(meta["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{message}");

    assert_eq!(ask(port, "new/one", &["-m", "put", "-e", "first", "-t", "text/plain"]).trim(), "");
    let message = shown(&server, "/new/one", "PUT");
    assert_eq!((&message["payload"], &message["meta"]["code"]), (&"first".into(), &"2.01".into()));
    assert_eq!(message["meta"]["content_format"], "text/plain; charset=utf-8");
    assert_eq!(ask(port, "new/one", &["-m", "put", "-e", "second"]).trim(), "");
    assert_eq!(ask(port, "new/one", &[]).trim(), "second");

    ask(port, "new", &["-m", "post", "-e", "child"]);
    assert_eq!(shown(&server, "/new", "POST")["meta"]["code"], "2.01");
    assert_eq!(ask(port, "new/1", &[]).trim(), "child");

    ask(port, "doc", &["-m", "put", "-e", r#"{"a":1}"#, "-t", "application/json"]);
    ask(port, "doc", &["-m", "ipatch", "-e", r#"{"b":2}"#, "-t", "52"]);
    assert_eq!(shown(&server, "/doc", "iPATCH")["meta"]["code"], "2.04");
    assert_eq!(ask(port, "doc", &["-A", "application/json"]).trim(), r#"{"a":1,"b":2}"#);
    assert!(ask(port, "doc", &["-A", "text/plain"]).contains("4.06"));
    assert!(ask(port, "doc", &["-m", "fetch", "-e", "x", "-t", "text/plain"]).contains("4.15"));

    ask(port, "new/one", &["-m", "delete"]);
    assert!(ask(port, "new/one", &["-N"]).contains("4.04"));
    let non = server.wait_stdout("\"NON\"");
    assert_eq!(json(&non)["meta"]["code"], "4.04");
    server.interrupt().expect(0);
}

#[test]
fn coap_client_sends_and_fetches_100_kb_in_blocks() {
    let tracemq = Tracemq::new();
    let (server, port) = serve(&tracemq, &[]);
    let body: String = (0..12_500).map(|number| format!("{number:07}\n")).collect();
    assert_eq!(body.len(), 100_000);
    let file = tracemq.write("body", &body);
    for size in ["1024", "128"] {
        ask(port, "large", &["-m", "put", "-b", size, "-f", file.to_str().expect("a path of ours")]);
        let blocks = 100_000_u64.div_ceil(size.parse().expect("a number"));
        let wanted = format!("\"blocks\":{blocks}");
        let message = json(&server.wait_stdout(&wanted));
        assert_eq!(message["payload"].as_str().map(str::len), Some(100_000));
        let got = tracemq.home().join("got");
        ask(port, "large", &["-b", size, "-o", got.to_str().expect("a path of ours")]);
        assert!(fs::read_to_string(&got).expect("coap-client wrote it") == body, "in blocks of {size}");
    }
    // Each of the two PUTs and two GETs is one message, in however many blocks.
    assert_eq!(server.stdout_lines(), 5, "{}", server.stdout_lines());
    assert!(ask(port, ".well-known/core", &[]).contains("</large>"), "discovery");
}

#[test]
fn coap_client_discovers_and_observes() {
    let tracemq = Tracemq::new();
    let (server, port) = serve(&tracemq, &["--resource", "a=1", "--resource", "b={}"]);
    assert_eq!(ask(port, ".well-known/core", &[]).trim(), "</a>;ct=0;obs,</b>;ct=50;obs");
    assert_eq!(ask(port, ".well-known/core?href=/b", &[]).trim(), "</b>;ct=50;obs");

    let url = format!("coap://127.0.0.1:{port}/a");
    let client = coap_client().args(["-s", "60", &url]).start();
    let event = json(&server.wait_stderr("client-subscribed"));
    assert_eq!(event["details"]["topic"], "/a", "{event}");
    assert_eq!(shown(&server, "/a", "GET")["meta"]["observe"], 0);
    // Its output has no line ends: each state is waited for before the next one.
    for number in 2..9 {
        let value = format!("value-{number}");
        ask(port, "a", &["-m", "put", "-e", &value]);
        assert!(until(SHORT, || client.stdout().contains(&value).then_some(())).is_some(), "{client:?}");
    }
    // When it is interrupted it cancels.
    drop(client.interrupt());
    let event = json(&server.wait_stderr("client-disconnected"));
    assert_eq!(
        (&event["details"]["topic"], &event["details"]["observers"]),
        (&"/a".into(), &0.into()),
        "{event}"
    );
}

#[test]
fn lines_of_the_user_are_told_to_observers() {
    let tracemq = Tracemq::new();
    let command = ["serve", "coap", "--bind", "127.0.0.1:0", "--lines", "sensors/temp"];
    let mut server = tracemq.cmd(command).keep_stdin().start();
    let port = coap_port(&server);
    server.write("20.0\n");
    assert!(until(SHORT, || ask(port, "sensors/temp", &[]).contains("20.0").then_some(())).is_some());
    let client = aiocoap(&["observe", &format!("coap://127.0.0.1:{port}/sensors/temp")]).keep_stdin().start();
    client.wait_stdout("\"20.0\"");
    for value in ["20.5", "21.0", "21.5"] {
        server.write(&format!("{value}\n"));
        client.wait_stdout(&format!("\"{value}\""));
    }
    server.interrupt().expect(0);
}

#[test]
fn aiocoap_puts_gets_observes_and_sees_the_end() {
    let tracemq = Tracemq::new();
    let (server, port) = serve(&tracemq, &[]);
    let done = aiocoap(&["everything", &format!("coap://127.0.0.1:{port}")]).finish().expect(0);
    assert!(done.text().contains("all well"), "{done:?}");
    let message = shown(&server, "/aiocoap/large", "PUT");
    assert_eq!(message["payload"].as_str().map(str::len), Some(100_000));
    server.wait_stderr("told that the resource is gone");
    let client = Cmd::python().args(["-m", "aiocoap.cli.client", "--quiet"]);
    let listed = client.arg(format!("coap://127.0.0.1:{port}/.well-known/core")).finish().expect(0);
    assert!(listed.text().contains("/aiocoap/large"), "{listed:?}");
}

#[test]
fn files_of_a_folder_are_resources_and_their_changes_are_told() {
    let tracemq = Tracemq::new();
    let folder = tracemq.home().join("folder");
    fs::create_dir_all(folder.join("nested")).expect("a folder");
    fs::write(folder.join("nested/a.json"), r#"{"t":1}"#).expect("a file");
    tracemq.write("secret.txt", "secret");
    std::os::unix::fs::symlink(tracemq.home().join("secret.txt"), folder.join("link.txt")).expect("a link");
    let (server, port) = serve(&tracemq, &["--folder", folder.to_str().expect("a path of ours")]);
    assert_eq!(ask(port, ".well-known/core", &[]).trim(), "</nested/a.json>;ct=50;obs");
    assert_eq!(ask(port, "nested/a.json", &["-A", "application/json"]).trim(), r#"{"t":1}"#);
    for path in ["link.txt", "%2e%2e/secret.txt", "nested%2f..%2f..%2fsecret.txt"] {
        assert!(ask(port, path, &[]).contains("4.04"), "{path}");
    }
    let put = ask(port, "nested/a.json", &["-m", "put", "-e", "x"]);
    assert!(put.contains("4.05") && put.contains("file"), "{put}");

    let url = format!("coap://127.0.0.1:{port}/nested/a.json");
    let client = aiocoap(&["observe", &url]).keep_stdin().start();
    client.wait_stdout(r#"{\"t\":1}"#);
    fs::write(folder.join("nested/a.json"), r#"{"t":2}"#).expect("a file");
    client.wait_stdout(r#"{\"t\":2}"#);
    fs::write(folder.join("new.txt"), "later").expect("a file");
    assert!(until(SHORT, || ask(port, "new.txt", &[]).contains("later").then_some(())).is_some());
    fs::remove_file(folder.join("nested/a.json")).expect("it is there");
    client.wait_stdout("4.04");
    drop(server);

    let wrong = tracemq.cmd(["serve", "coap", "--folder", "/nonexistent"]).finish();
    wrong.expect_failure(2, &["--folder /nonexistent"]);
}

#[test]
fn fixed_answers_delays_and_losses_try_a_client_out() {
    let tracemq = Tracemq::new();
    let (_server, port) = serve(&tracemq, &["--reply", "5.03"]);
    assert!(ask(port, "anything", &["-m", "put", "-e", "x"]).contains("5.03"));
    let (server, port) = serve(&tracemq, &["--reply", "2.05", "--resource", "a=there"]);
    assert_eq!(ask(port, "any/thing", &["-m", "post", "-e", "back"]).trim(), "back");
    assert_eq!(ask(port, "a", &[]).trim(), "there");
    assert!(shown(&server, "/any/thing", "POST")["meta"]["code"] == "2.05");

    let (_server, port) = serve(&tracemq, &["--delay", "1s", "--resource", "a=late"]);
    let (socket, started) = (CoapSocket::to(port), Instant::now());
    socket.send(&CoapMessage::request(1, "a", 7, b"t"));
    let ack = socket.receive(SHORT).expect("an acknowledgement");
    assert_eq!((ack.kind, ack.code, ack.id), (2, 0, 7), "{ack:?}");
    let answer = socket.receive(SHORT).expect("the response");
    assert_eq!(
        (answer.kind, answer.token.as_slice(), answer.payload.as_slice()),
        (0, &b"t"[..], &b"late"[..])
    );
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(ask(port, "a", &[]).trim(), "late");

    let (server, port) = serve(&tracemq, &["--loss", "100%"]);
    let socket = CoapSocket::to(port);
    socket.send(&CoapMessage::request(1, "a", 7, b"t"));
    let event = json(&server.wait_stderr("lost on purpose"));
    assert_eq!((&event["details"]["lost"], &event["details"]["message"]), (&1.into(), &"CON GET 7".into()));

    for (flag, value) in
        [("--loss", "120%"), ("--reply", "hello"), ("--delay", "soon"), ("--resource", "no-value")]
    {
        let wrong = tracemq.cmd(["serve", "coap", "--bind", "127.0.0.1:0", flag, value]).finish();
        wrong.expect_failure(2, &[flag]);
    }
    let taken = tracemq.cmd(["serve", "coap", "--bind", &format!("127.0.0.1:{port}")]).finish();
    taken.expect_failure(3, &["already in use"]);
}

#[test]
fn a_profile_holds_a_server() {
    let tracemq = Tracemq::new();
    let profile = "protocol = \"coap\"\nurl = \"coap://127.0.0.1:0\"\n\n[serve]\nresource = [\"lamp=on\", \"temp=21.5\"]\n";
    fs::create_dir_all(tracemq.home().join("profiles")).expect("a folder");
    tracemq.write("profiles/device.toml", profile);
    let server = tracemq.cmd(["serve", "device"]).start();
    let port = coap_port(&server);
    assert_eq!(ask(port, "lamp", &[]).trim(), "on");
}

/// Every address of 127.0.0.0/8 is this machine, and who has asked one of them takes no answer from another.
#[test]
fn an_answer_comes_from_the_address_that_was_asked() {
    let tracemq = Tracemq::new();
    for bind in ["0.0.0.0:0", "[::]:0"] {
        let serve =
            tracemq.cmd(["serve", "coap", "--bind", bind, "--json", "--resource", "/hello=world"]).start();
        let port = coap_port(&serve);
        let addresses =
            if bind.starts_with('[') { ["127.0.0.7", "[::1]"] } else { ["127.0.0.7", "127.0.0.1"] };
        for address in addresses {
            let asked = coap_client().arg(format!("coap://{address}:{port}/hello")).finish().expect(0);
            assert_eq!(asked.text().trim(), "world", "{bind} {address}");
            // What comes later comes from there too.
            let url = format!("coap://{address}:{port}");
            let observer = tracemq.cmd(["sub", &url, "/hello", "-C", "2"]).start();
            observer.wait_stdout("world");
            tracemq.cmd(["pub", &url, "/hello", "changed"]).finish().expect(0);
            observer.wait_stdout("changed");
            observer.wait().expect(0);
            tracemq.cmd(["pub", &url, "/hello", "world"]).finish().expect(0);
        }
    }
}
