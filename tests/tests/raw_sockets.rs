//! `tcp://` and `tls+tcp://`, as client and as server, against sockets of Python and of ours.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;
use tracemq_tests::{Certificates, Cmd, LONG, Run, Tracemq, json, until};

/// A server for one client: sends this, says that no more will come, reads all until the client is done, and gives it back.
fn server(send: impl Into<Vec<u8>>) -> (String, JoinHandle<Vec<u8>>) {
    start(send.into(), true)
}

/// Likewise, and it says nothing at all.
fn listener() -> (String, JoinHandle<Vec<u8>>) {
    start(Vec::new(), false)
}

fn start(send: Vec<u8>, half_closed: bool) -> (String, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("tcp://{}", listener.local_addr().expect("a bound socket"));
    let thread = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        client.write_all(&send).expect("the client reads");
        if half_closed {
            client.shutdown(Shutdown::Write).expect("the client is there");
        }
        let mut got = Vec::new();
        // A reset is an end too.
        drop(client.read_to_end(&mut got));
        got
    });
    (url, thread)
}

/// Every framing with three messages: what stands on the wire, and the payloads.
const FRAMINGS: [(&str, &[u8], [&str; 3]); 9] = [
    ("line", b"one\ntwo\r\nthree", ["one", "two", "three"]),
    ("crlf", b"one\r\ntwo\r\nthree\r\n", ["one", "two", "three"]),
    ("length1", b"\x03one\x03two\x05three", ["one", "two", "three"]),
    ("length2", b"\x00\x03one\x00\x03two\x00\x05three", ["one", "two", "three"]),
    ("length4", b"\0\0\0\x03one\0\0\0\x03two\0\0\0\x05three", ["one", "two", "three"]),
    ("length2-le", b"\x03\x00one\x03\x00two\x05\x00three", ["one", "two", "three"]),
    ("length4-le", b"\x03\0\0\0one\x03\0\0\0two\x05\0\0\0three", ["one", "two", "three"]),
    ("fixed:3", b"onetwo333", ["one", "two", "333"]),
    ("raw", b"all at once", ["all at once", "", ""]),
];

#[test]
fn every_framing_is_read() {
    let tracemq = Tracemq::new();
    for (framing, wire, payloads) in FRAMINGS {
        let (url, thread) = server(wire);
        let sub = tracemq.cmd(["sub", &url, "--framing", framing, "--no-reconnect"]).finish().expect(0);
        let wanted: Vec<_> = payloads.into_iter().filter(|payload| !payload.is_empty()).collect();
        assert_eq!(sub.lines(), wanted, "{framing}");
        assert!(thread.join().expect("the server").is_empty(), "{framing}");
    }
}

#[test]
fn every_framing_is_written() {
    let tracemq = Tracemq::new();
    for (framing, _, payloads) in FRAMINGS {
        let (url, thread) = listener();
        let lines =
            payloads.iter().filter(|payload| !payload.is_empty()).map(|payload| format!("{payload}\n"));
        let lines: String = lines.collect();
        let done = tracemq.cmd(["pub", &url, "--framing", framing, "--lines"]).stdin(lines).finish();
        done.expect(0);
        let expected: &[u8] = match framing {
            "line" => b"one\ntwo\nthree\n",
            _ => FRAMINGS.iter().find(|(name, ..)| *name == framing).expect("it is one of them").1,
        };
        assert_eq!(
            String::from_utf8_lossy(&thread.join().expect("the server")),
            String::from_utf8_lossy(expected)
        );
    }
}

/// As one that waits for more: half of a connection is at its end, and the other is not.
#[test]
fn a_server_that_sends_nothing_still_reads() {
    let tracemq = Tracemq::new();
    let (url, thread) = server("");
    tracemq.cmd(["pub", &url, "hello"]).finish().expect(0);
    assert_eq!(thread.join().expect("the server"), b"hello\n");
}

#[test]
fn what_can_not_be_one_message_is_refused() {
    let tracemq = Tracemq::new();
    for (framing, payload, part) in [
        ("line", "a\nb".to_owned(), "line feed"),
        ("length1", "x".repeat(256), "255"),
        ("fixed:3", "ab".to_owned(), "fixed:3"),
    ] {
        let (url, thread) = listener();
        let file = tracemq.write("payload", &payload);
        let done = tracemq.cmd(["pub", &url, "--framing", framing, "--file"]).arg(&file).finish();
        done.expect_failure(1, &[part]);
        assert!(thread.join().expect("the server").is_empty());
    }
}

#[test]
fn messages_over_the_limit_and_ends_within_one() {
    let tracemq = Tracemq::new();
    let sub = |wire: Vec<u8>, framing: &str| {
        let (url, _thread) = server(wire);
        tracemq.cmd(["sub", &url, "--framing", framing, "--max-message-size", "1000"]).finish()
    };
    let long = |prefix: &[u8]| [prefix, &vec![b'x'; 2000]].concat();
    let done = sub(long(b"short\n"), "line").expect_failure(1, &["1000", "--max-message-size"]);
    assert_eq!(done.lines(), ["short"]);
    // The prefix says four gigabytes: nothing is allocated for it.
    sub(long(b"\xff\xff\xff\xff"), "length4").expect_failure(1, &["4294967295", "1000"]);
    sub(b"\x00\x0aonly".to_vec(), "length2").expect_failure(1, &["6 of 12 bytes"]);
    sub(b"ab".to_vec(), "fixed:3").expect_failure(1, &["2 of 3 bytes"]);
}

#[test]
fn a_request_gets_the_next_message() {
    let tracemq = Tracemq::new();
    let python = "import socket, sys\n\
                  s = socket.create_server(('127.0.0.1', 0))\n\
                  print('port', s.getsockname()[1], flush=True)\n\
                  while True:\n    \
                      c, _ = s.accept()\n    \
                      line = c.makefile('rb').readline()\n    \
                      c.sendall(line.upper() + b'more\\n')\n    \
                      c.close()\n";
    let peer = Cmd::peer("python3").args(["-c", python]).start();
    let port = peer.wait_stdout("port ").replace("port ", "");
    let url = format!("tcp://127.0.0.1:{port}");
    assert_eq!(tracemq.cmd(["request", &url, "hello"]).finish().expect(0).lines(), ["HELLO"]);
    let two = tracemq.cmd(["request", &url, "hello", "--replies", "2"]).finish().expect(0);
    assert_eq!(two.lines(), ["HELLO", "more"]);
    tracemq.cmd(["request", &url, "hello", "--replies", "3"]).finish().expect(6);
}

#[test]
fn a_flood_waits_for_a_slow_reader_and_loses_nothing() {
    let (count, line) = (400_000, "x".repeat(99));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("tcp://{}", listener.local_addr().expect("a bound socket"));
    let flood = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let block = format!("{line}\n").repeat(1000);
        (0..count / 1000).try_for_each(|_| client.write_all(block.as_bytes()))
    });
    let tracemq = Tracemq::new();
    let sub = tracemq.cmd(["sub", &url, "--no-reconnect", "--format", "raw"]).leave_stdout().limit(LONG);
    let mut run = sub.start();
    run.wait_stderr("subscribed");
    // Nobody reads: TCP holds the server, and what we hold is bounded.
    let mut last = (0, 0);
    let settled = until(Duration::from_secs(60), || {
        let now = run.resident_kib();
        last = if now == last.0 { (now, last.1 + 1) } else { (now, 0) };
        (last.1 > 100).then_some(now)
    });
    let held = settled.expect("the memory settles");
    assert!(held < 64 * 1024, "{held} KiB are held while nobody reads");
    assert!(!flood.is_finished(), "the server got rid of all it had");
    run.read_stdout();
    let done = run.wait().expect(0);
    flood.join().expect("the server").expect("the client reads");
    assert_eq!(done.stdout.iter().filter(|byte| **byte == b'\n').count(), count);
}

/// `tracemq serve …`, and the address it tells.
fn serve(tracemq: &Tracemq, arguments: &[&str]) -> (Run, String) {
    let serve = tracemq.cmd(["serve"]).args(arguments).start();
    let address = serve.wait_stdout("://");
    (serve, address)
}

fn dial(url: &str) -> TcpStream {
    let stream = TcpStream::connect(url.rsplit('/').next().expect("a URL")).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    stream
}

fn exchange(stream: &mut TcpStream, send: &[u8], length: usize) -> Vec<u8> {
    stream.write_all(send).expect("the server reads");
    let mut got = vec![0; length];
    stream.read_exact(&mut got).expect("the server answers");
    got
}

#[test]
fn a_served_socket_echoes_and_shows_clients_come_and_go() {
    let tracemq = Tracemq::new();
    let (serve, url) = serve(&tracemq, &["tcp://127.0.0.1:0", "--framing", "length2"]);
    assert!(url.starts_with("tcp://127.0.0.1:"), "{url}");
    let mut client = dial(&url);
    assert_eq!(exchange(&mut client, b"\x00\x02hi\x00\x00", 6), b"\x00\x02hi\x00\x00");
    serve.wait_stderr("client 1 (127.0.0.1:");
    serve.wait_stdout("1 hi");
    drop(client);
    serve.wait_stderr("disconnected");
    serve.interrupt().expect(0);
}

#[test]
fn a_served_socket_broadcasts_and_answers_by_template() {
    let tracemq = Tracemq::new();
    let (_broadcast, url) = serve(&tracemq, &["tcp://127.0.0.1:0", "--mode", "broadcast"]);
    let (mut first, mut second) = (dial(&url), dial(&url));
    // Both are there once each has heard the other.
    let met = until(Duration::from_secs(20), || {
        first.write_all(b"anyone?\n").ok()?;
        second.set_read_timeout(Some(Duration::from_millis(200))).ok()?;
        let mut got = [0; 8];
        second.read_exact(&mut got).ok().filter(|()| &got == b"anyone?\n")
    });
    assert!(met.is_some(), "the second client hears nothing of the first");

    let file =
        tracemq.write("reply", "{% if payload != 'quiet' %}{{ number }}: {{ payload|upper }}{% endif %}\n");
    let file = file.to_str().expect("a path of ours");
    let (_reply, url) = serve(&tracemq, &["tcp://127.0.0.1:0", "--mode", "reply", "--reply-file", file]);
    assert_eq!(exchange(&mut dial(&url), b"one\nquiet\nthree\n", 16), b"1: ONE\n3: THREE\n");
}

#[test]
fn lines_go_to_all_clients_of_a_served_socket_or_to_one() {
    let tracemq = Tracemq::new();
    let start = |topic: &[&str]| {
        let flags = ["serve", "tcp://127.0.0.1:0", "--mode", "silent", "--framing", "length1", "--lines"];
        let serve = tracemq.cmd(flags).args(topic).keep_stdin().start();
        let url = serve.wait_stdout("://");
        let clients = ["client 1 ", "client 2 "].map(|number| {
            let client = dial(&url);
            serve.wait_stderr(number);
            client
        });
        (serve, clients)
    };
    let (mut all, mut clients) = start(&[]);
    all.write("to all\n");
    for client in &mut clients {
        assert_eq!(exchange(client, b"", 7), b"\x06to all");
    }
    let (mut one, [mut first, mut second]) = start(&["2"]);
    one.write("to one\n");
    assert_eq!(exchange(&mut second, b"", 7), b"\x06to one");
    first.set_read_timeout(Some(Duration::from_millis(500))).expect("a time-out");
    first.read_exact(&mut [0]).expect_err("nothing is for the first");
}

#[test]
fn a_client_that_says_nothing_is_given_up() {
    let tracemq = Tracemq::new();
    let (serve, url) = serve(&tracemq, &["tcp://127.0.0.1:0", "--idle-timeout", "2s"]);
    let (mut busy, mut idle) = (dial(&url), dial(&url));
    let gone = std::thread::spawn(move || idle.read(&mut [0; 9]).unwrap_or(0));
    while !gone.is_finished() {
        assert_eq!(exchange(&mut busy, b"here\n", 5), b"here\n");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(gone.join().expect("a reader"), 0);
    assert!(serve.wait_stderr("--idle-timeout").contains("nothing came for 2s"), "{serve:?}");
    assert_eq!(exchange(&mut busy, b"still\n", 6), b"still\n");
}

#[test]
fn a_line_over_the_limit_ends_its_client_and_no_other() {
    let tracemq = Tracemq::new();
    let (serve, url) =
        serve(&tracemq, &["tcp://127.0.0.1:0", "--max-message-size", "100", "--max-clients", "2"]);
    let (mut good, mut bad) = (dial(&url), dial(&url));
    assert_eq!(exchange(&mut good, b"hi\n", 3), b"hi\n");
    assert_eq!(exchange(&mut bad, b"ho\n", 3), b"ho\n");
    // A third is one too many.
    let mut third = dial(&url);
    assert_eq!(third.read(&mut [0; 9]).unwrap_or(0), 0);
    serve.wait_stderr("--max-clients");
    bad.write_all(&[b'x'; 1000]).expect("the server reads");
    drop(bad.read_to_end(&mut Vec::new()));
    serve.wait_stderr("over the limit of 100");
    assert_eq!(exchange(&mut good, b"still\n", 6), b"still\n");
}

#[test]
fn tls_both_ways() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let path = |path: &std::path::Path| path.to_str().expect("a path of ours").to_owned();
    let (cert, key) = (path(&certificates.server.cert), path(&certificates.server.key));
    let (serve, url) = serve(&tracemq, &["tls+tcp://127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &key]);
    assert!(url.starts_with("tls+tcp://"), "{url}");
    let request = || tracemq.cmd(["request", &url, "hello", "--format", "json"]);
    let done = request().arg("--tls-ca").arg(&certificates.ca).finish().expect(0);
    assert_eq!(json(&done.lines()[0])["payload"], "hello");
    request().arg("--tls-ca").arg(&certificates.other_ca).finish().expect_failure(3, &["trusted"]);
    serve.wait_stdout("hello");
    // A TLS client that this project did not write.
    let python = "import socket, ssl, sys\n\
                  context = ssl.create_default_context(cafile=sys.argv[2])\n\
                  s = context.wrap_socket(socket.create_connection(('127.0.0.1', int(sys.argv[1]))), server_hostname='localhost')\n\
                  s.sendall(b'from python\\n')\n\
                  print(s.recv(100).decode().strip())\n";
    let port = url.rsplit(':').next().expect("a port");
    let python = Cmd::peer("python3").args(["-c", python, port]).arg(&certificates.ca).finish().expect(0);
    assert_eq!(python.lines(), ["from python"]);
    tracemq.cmd(["serve", "tls+tcp://127.0.0.1:0"]).finish().expect_failure(2, &["--tls-cert"]);
}

/// `socat` that listens on a free port, and the port. It goes on with each client on its own.
fn socat_listening(kind: &str, options: &str, other: &str) -> (Run, String) {
    let listen = format!("{kind}:0,bind=127.0.0.1,reuseaddr,fork{options}");
    let run = Cmd::peer("socat").args(["-d", "-d", &listen, other]).start();
    let line = run.wait_stderr("listening on ");
    let port = line.rsplit(':').next().expect("a port").to_owned();
    (run, port)
}

#[test]
fn socat_serves_lines_to_us() {
    let tracemq = Tracemq::new();
    let (_echo, port) = socat_listening("TCP-LISTEN", "", "EXEC:cat");
    let url = format!("tcp://127.0.0.1:{port}");
    let two = tracemq.cmd(["request", &url, "what?", "--format", "raw"]).finish().expect(0);
    assert_eq!(two.lines(), ["what?"]);

    let (_source, port) = socat_listening("TCP-LISTEN", "", "SYSTEM:seq 5000");
    let url = format!("tcp://127.0.0.1:{port}");
    let read = tracemq.cmd(["sub", &url, "--no-reconnect", "--format", "raw"]).finish().expect(0);
    assert_eq!(read.text(), (1..=5000).map(|number| format!("{number}\n")).collect::<String>());
    // It comes again, and so do we.
    let read = tracemq.cmd(["sub", &url, "-C", "6000", "--format", "raw"]).finish().expect(0);
    assert_eq!(read.lines()[4999..5001], ["5000", "1"]);

    // One way only: what was published is all there is.
    let file = tracemq.home().join("published");
    let (_sink, port) = socat_listening("TCP-LISTEN", "", &format!("SYSTEM:cat >{}", file.display()));
    let url = format!("tcp://127.0.0.1:{port}");
    let lines: String = (0..5000).map(|number| format!("line {number}\n")).collect();
    tracemq.cmd(["pub", &url, "--lines"]).stdin(lines.clone()).finish().expect(0);
    let came = until(LONG, || std::fs::read_to_string(&file).ok().filter(|text| text.len() >= lines.len()));
    assert!(came.as_deref() == Some(&lines), "{came:?}");
}

#[test]
fn socat_is_a_client_of_lines() {
    let tracemq = Tracemq::new();
    let (serve, url) = serve(&tracemq, &["tcp://127.0.0.1:0"]);
    let address = url.replace("tcp://", "TCP:");
    let mut socat = Cmd::peer("socat").args(["-", &address]).keep_stdin().start();
    socat.write("hello\nagain\n");
    socat.wait_stdout("again");
    serve.wait_stdout("1 hello");
    // What it writes before it closes its side comes back before we close ours.
    socat.write("good");
    socat.write("bye\n");
    socat.close_stdin();
    assert_eq!(socat.wait().expect(0).lines(), ["hello", "again", "goodbye"]);
    serve.wait_stderr("disconnected");
    serve.interrupt().expect(0);
}

#[test]
fn socat_has_tls_both_ways() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let path = |path: &std::path::Path| path.to_str().expect("a path of ours").to_owned();
    let [server, client] = [&certificates.server, &certificates.client]
        .map(|identity| format!(",cert={},key={}", path(&identity.cert), path(&identity.key)));
    let ca = path(&certificates.ca);
    let trusting = |verify: u8| format!(",cafile={ca},verify={verify}");

    // Both show a certificate, and both check it.
    let options = format!("{server}{}", trusting(1));
    let (socat, port) = socat_listening("OPENSSL-LISTEN", &options, "EXEC:cat");
    let url = format!("tls+tcp://localhost:{port}");
    let request = tracemq.cmd(["request", &url, "by TLS", "--format", "raw", "--tls-ca", &ca]);
    let identity =
        ["--tls-cert", &path(&certificates.client.cert), "--tls-key", &path(&certificates.client.key)];
    assert_eq!(request.args(identity).finish().expect(0).lines(), ["by TLS"]);
    // In TLS 1.3 the refusal comes when we have sent: it is told all the same, and nobody comes again with nothing better.
    let refused = |verb: &str, more: &[&str]| {
        let done = tracemq.cmd([verb, &url]).args(more).args(["--tls-ca", &ca]).finish();
        done.expect_failure(3, &["client certificate", "--tls-cert"]);
    };
    refused("request", &["x"]);
    refused("pub", &["x"]);
    refused("sub", &[]);
    drop(socat);

    let (cert, key) = (path(&certificates.server.cert), path(&certificates.server.key));
    let tls = ["tls+tcp://127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &key, "--tls-ca", &ca];
    let (serve, url) = serve(&tracemq, &tls);
    let port = url.rsplit(':').next().expect("a port");
    let socat = |identity: &str| {
        let address = format!("OPENSSL:localhost:{port}{}{identity}", trusting(1));
        Cmd::peer("socat").args(["-", &address]).keep_stdin().start()
    };
    let mut known = socat(&client);
    known.write("through openssl\n");
    known.wait_stdout("through openssl");
    serve.wait_stdout("through openssl");
    known.close_stdin();
    known.wait().expect(0);
    let mut unknown = socat("");
    unknown.write("let me in\n");
    serve.wait_stderr("showed no certificate");
    assert!(!unknown.stdout().contains("let me in"), "{unknown:?}");
}
