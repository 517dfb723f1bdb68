//! `tracemq serve nats` with nats-py, the npm client, our own client, and clients that misbehave.

use serde_json::json as value;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;
use tracemq_tests::{
    Certificates, Cmd, LONG, NatsRaw, NatsServer, Run, SHORT, Tracemq, json, resident_kib, until,
};

/// A server of ours, and its address.
struct Served {
    tracemq: Tracemq,
    run: Run,
    url: String,
    port: u16,
}

impl Served {
    fn start(flags: &[&str]) -> Served {
        Served::of(|command| command.args(flags))
    }

    fn of(change: impl FnOnce(Cmd) -> Cmd) -> Served {
        let tracemq = Tracemq::new();
        let run = change(tracemq.cmd(["serve", "nats", "--bind", "127.0.0.1:0"])).start();
        let line = run.wait_stdout("://127.0.0.1:");
        let url =
            if line.starts_with('{') { json(&line)["url"].as_str().expect("a URL").to_owned() } else { line };
        let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("no port in {url:?}"));
        Served { tracemq, run, url, port }
    }
}

/// A case of the nats-py script.
fn nats_py(case: &str, url: &str, options: &[&str]) -> Cmd {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/nats/core.py");
    Cmd::python().arg(script).args([case, url]).args(options).limit(LONG)
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn nats_py_s_core_cases() {
    // Against nats-server too: what fails there is the script's fault.
    let theirs = NatsServer::plain();
    nats_py("core", &theirs.url(), &[]).finish().expect(0);
    let served = Served::start(&[]);
    let done = nats_py("core", &served.url, &[]).finish().expect(0);
    assert_eq!(done.lines().len(), 9, "{done:?}");
}

#[test]
fn the_npm_client() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/nats/core.js");
    let run = |url: &str| {
        let done = Cmd::node().arg(&script).arg(url).limit(LONG).finish().expect(0);
        assert_eq!(done.text(), "passed\n", "{done:?}");
    };
    run(&NatsServer::plain().url());
    run(&Served::start(&[]).url);
}

#[test]
fn our_own_client() {
    let served = Served::start(&[]);
    let sub = served.tracemq.cmd(["sub", &served.url, "a.*", "-C", "2", "--format", "raw"]).start();
    served.run.wait_stderr("subscribed to a.*");
    served.tracemq.cmd(["pub", &served.url, "a.b", "one"]).finish().expect(0);
    served.tracemq.cmd(["pub", &served.url, "a.c", "two", "-H", "k=v"]).finish().expect(0);
    assert_eq!(sub.wait().expect(0).lines(), ["one", "two"]);
    let nobody = served.tracemq.cmd(["request", &served.url, "nobody", "x", "-W", "20s"]);
    nobody.finish().expect_failure(6, &["503"]);
}

#[test]
fn what_clients_do_is_shown() {
    let served = Served::start(&["--json"]);
    let mut client = NatsRaw::connect(served.port, &value!({"name": "their-client"}));
    client.send("SUB a.> workers 1\r\nPUB a.b inbox 5\r\nhello\r\n");
    client.send("HPUB c 31 32\r\nNATS/1.0\r\nName: v\r\nno colon\r\n\r\nx\r\n");
    client.expect("MSG a.b 1 inbox 5\r\nhello\r\n");
    let message = json(&served.run.wait_stdout("\"hello\""));
    assert_eq!((&message["topic"], &message["payload"]), (&value!("a.b"), &value!("hello")));
    assert!(message["meta"]["client"].is_u64(), "{message}");
    let message = json(&served.run.wait_stdout("\"c\""));
    assert_eq!(message["headers"], value!([["Name", "v"]]));
    assert!(message["meta"]["malformed_headers"].to_string().contains("no colon"), "{message}");
    client.send("SUB a..b 2\r\n");
    client.expect("-ERR 'Invalid Subject'\r\n");
    drop(client);
    for told in
        ["\"client-connected\"", "\"client-subscribed\"", "\"client-refused\"", "\"client-disconnected\""]
    {
        let line = served.run.wait_stderr(told);
        assert!(line.contains("their-client"), "{line}");
        json(&line);
    }
    let done = served.run.interrupt().expect(0);
    for line in done.lines() {
        json(&line);
    }
}

#[test]
fn lines_of_stdin_go_to_subscribers() {
    let mut served = Served::of(|command| command.args(["--lines", "from.host"]).keep_stdin());
    let mut client = NatsRaw::connect(served.port, &value!({}));
    client.send("SUB from.* 1\r\n");
    client.sync();
    served.run.write("one\ntwo\n\n");
    client.expect("MSG from.host 1 3\r\none\r\nMSG from.host 1 3\r\ntwo\r\nMSG from.host 1 0\r\n\r\n");
    served.run.close_stdin();
    client.sync();
    let mut served = Served::of(|command| command.args(["--lines", "a.*"]).keep_stdin());
    served.run.write("one\n");
    served.run.wait_stderr("line 1: ");
}

#[test]
fn ctrl_c_and_sigterm_end_it_and_free_the_port() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let served = Served::start(&[]);
        let mut client = NatsRaw::connect(served.port, &value!({}));
        served.run.signal(signal);
        assert_eq!(client.rest(), "", "the connection is closed");
        let Served { run, port, .. } = served;
        run.wait().expect(0);
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "nothing listens any more");
    }
}

#[test]
fn users_and_token() {
    let served = Served::start(&["--user", "ann=s3cret", "--token", "t0ken"]);
    nats_py("publish_subscribe", &served.url, &["user=ann", "password=s3cret"]).finish().expect(0);
    nats_py("publish_subscribe", &served.url, &["token=t0ken"]).finish().expect(0);
    for wrong in [&["user=ann", "password=wrong"][..], &["user=eve", "password=s3cret"], &["token=t0k"], &[]]
    {
        nats_py("refused", &served.url, wrong).finish().expect(0);
    }
    let publish = |secret: &str| {
        let flags = ["--username", "ann", "--password", secret];
        served.tracemq.cmd(["pub", &served.url, "a", "x"]).args(flags).finish()
    };
    publish("s3cret").expect(0);
    publish("wrong").expect_failure(4, &["Authorization Violation"]);
    served.run.wait_stderr("refused login");
    let all = served.run.interrupt();
    assert!(!all.stderr.contains("s3cret") && !all.stderr.contains("t0ken"), "{all:?}");
}

#[test]
fn tls_with_and_without_client_certificates() {
    let certificates = Certificates::new();
    let (cert, key) = (text(&certificates.server.cert), text(&certificates.server.key));
    let ca = text(&certificates.ca);
    let trust = format!("tls_ca={ca}");
    let served = Served::start(&["--tls-cert", &cert, "--tls-key", &key]);
    assert!(served.url.starts_with("tls://"), "{}", served.url);
    nats_py("core", &served.url, &[&trust]).finish().expect(0);
    served.tracemq.cmd(["pub", &served.url, "a", "x", "--tls-ca", &ca]).finish().expect(0);
    let mut plain = NatsRaw::open(served.port);
    assert_eq!(plain.info["tls_required"], true);
    plain.send("CONNECT {}\r\n");
    assert_eq!(plain.rest(), "-ERR 'Secure Connection - TLS Required'\r\n");

    let mutual = Served::start(&["--tls-cert", &cert, "--tls-key", &key, "--tls-ca", &ca]);
    nats_py("refused", &mutual.url, &[&trust]).finish().expect(0);
    let client = &certificates.client;
    let own = [format!("tls_cert={}", text(&client.cert)), format!("tls_key={}", text(&client.key))];
    nats_py("publish_subscribe", &mutual.url, &[&trust, &own[0], &own[1]]).finish().expect(0);
}

/// Publishes until `enough` says so; the bytes that were sent.
fn flood(port: u16, subject: &str, mut enough: impl FnMut() -> bool) -> usize {
    let mut publisher = NatsRaw::connect(port, &value!({}));
    let message = format!("PUB {subject} 10000\r\n{}\r\n", "x".repeat(10_000));
    let burst = message.repeat(20);
    let mut sent = 0;
    let ended = until(LONG, || {
        publisher.send(&burst);
        sent += burst.len();
        enough().then_some(())
    });
    assert!(ended.is_some(), "after {sent} bytes it goes on as before");
    publisher.sync();
    sent
}

#[test]
fn a_slow_consumer_is_cut_off_and_others_are_served() {
    let served = Served::start(&["--max-pending", "4194304", "--format", "{{ topic }}"]);
    let mut healthy = NatsRaw::connect(served.port, &value!({}));
    healthy.send("SUB other 1\r\n");
    healthy.sync();
    let mut stuck = NatsRaw::connect(served.port, &value!({}));
    stuck.send("SUB flood 1\r\n");
    stuck.sync();
    let before = resident_kib(served.run.pid());
    // It never reads: kernel buffers fill, then 4 MiB wait, then it is cut off.
    let gone = || served.run.stderr().contains("slow consumer");
    flood(served.port, "flood", gone);
    let grown = resident_kib(served.run.pid()).saturating_sub(before);
    assert!(grown < 256 * 1024, "{grown} KiB more than before");
    // What it had not read is lost, and the connection is closed.
    let mut rest = Vec::new();
    let mut socket = stuck.socket();
    while let Ok(count @ 1..) = socket.read(&mut [0; 65536]) {
        rest.push(count);
    }
    let mut publisher = NatsRaw::connect(served.port, &value!({}));
    publisher.send("PUB other 2\r\nok\r\n");
    healthy.expect("MSG other 1 2\r\nok\r\n");
}

#[test]
fn a_client_that_reads_nothing_is_cut_off_after_the_write_deadline() {
    let served = Served::start(&[
        "--write-deadline",
        "200ms",
        "--max-pending",
        "1073741824",
        "--format",
        "{{ topic }}",
    ]);
    let mut stuck = NatsRaw::connect(served.port, &value!({}));
    stuck.send("SUB flood 1\r\n");
    stuck.sync();
    flood(served.port, "flood", || served.run.stderr().contains("slow consumer: it read nothing for 200ms"));
}

#[test]
fn a_quick_publisher_does_not_overrun_a_reader() {
    let served = Served::start(&["--quiet"]);
    let mut reader = NatsRaw::connect(served.port, &value!({}));
    reader.send("SUB flow 1\r\n");
    reader.sync();
    let port = served.port;
    let publisher = std::thread::spawn(move || {
        let mut publisher = NatsRaw::connect(port, &value!({}));
        for number in 0..100_000 {
            publisher.send(&format!("PUB flow 100\r\n{number:0100}\r\n"));
        }
        publisher.sync();
    });
    for number in 0..100_000 {
        reader.expect(&format!("MSG flow 1 100\r\n{number:0100}\r\n"));
    }
    publisher.join().expect("it published all");
    reader.sync();
}

#[test]
fn garbage_does_no_harm() {
    let served = Served::start(&[]);
    let mut state = 12345_u64;
    for _ in 0..50 {
        let stream = NatsRaw::open(served.port);
        let bytes: Vec<u8> = (0..2000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        drop(stream.socket().write_all(&bytes));
        drop(stream.socket().write_all(b"\r\n"));
        let mut stream = stream;
        assert!(stream.rest().contains("-ERR"));
    }
    NatsRaw::connect(served.port, &value!({})).sync();
}

#[test]
fn jetstream_by_a_nats_server_from_path() {
    let served = Served::start(&["--jetstream"]);
    nats_py("jetstream", &served.url, &[]).finish().expect(0);
    nats_py("publish_subscribe", &served.url, &[]).finish().expect(0);
    let children = children_of(served.run.pid());
    let [server] = children[..] else { panic!("one child, not {children:?}") };
    let store = command_line(server).split('\0').find(|word| word.contains("nats.conf")).map(str::to_owned);
    let store = store.expect("its configuration's path");
    assert!(Path::new(&store).is_file());
    let Served { run, .. } = served;
    run.interrupt().expect(0);
    assert!(!Path::new(&format!("/proc/{server}")).exists(), "it is stopped");
    assert!(!Path::new(&store).exists(), "its folder is removed");
}

#[test]
fn jetstream_with_a_login_and_tls() {
    let served = Served::start(&["--jetstream", "--user", "ann=s3 \"cret"]);
    nats_py("jetstream", &served.url, &["user=ann", "password=s3 \"cret"]).finish().expect(0);
    nats_py("refused", &served.url, &["user=ann", "password=wrong"]).finish().expect(0);
    let served = Served::start(&["--jetstream", "--token", "t0ken"]);
    nats_py("jetstream", &served.url, &["token=t0ken"]).finish().expect(0);
    let certificates = Certificates::new();
    let (cert, key) = (text(&certificates.server.cert), text(&certificates.server.key));
    let served = Served::start(&["--jetstream", "--tls-cert", &cert, "--tls-key", &key]);
    assert!(served.url.starts_with("tls://"), "{}", served.url);
    let trust = format!("tls_ca={}", text(&certificates.ca));
    nats_py("jetstream", &served.url, &[&trust]).finish().expect(0);
}

#[test]
fn jetstream_with_a_certificate_made_here() {
    let served = Served::start(&["--jetstream", "--tls-self-signed"]);
    assert!(served.url.starts_with("tls://"), "{}", served.url);
    let told = served.run.wait_stderr("clients trust it with --tls-ca ");
    let path = |line: &str| {
        let pasted = line.split_once("--tls-ca ").and_then(|(_, rest)| rest.split_once(" (good until"));
        pasted.map(|(path, _)| path.to_owned()).expect("a path")
    };
    let ca = path(&told);
    let trust = format!("tls_ca={ca}");
    nats_py("jetstream", &served.url, &[&trust]).finish().expect(0);
    let list = |flags: &[&str]| served.tracemq.cmd(["list", &served.url, "streams"]).args(flags).finish();
    assert!(list(&["--tls-ca", &ca]).expect(0).text().contains("orders"));
    list(&[]).expect_failure(3, &["certificate", "--tls-ca"]);
    // The key lies in the folder of that server, for nobody else to read, and goes with it.
    let [server] = children_of(served.run.pid())[..] else { panic!("one child") };
    let config = command_line(server).split('\0').find(|word| word.contains("nats.conf")).map(str::to_owned);
    let key = Path::new(&config.expect("its configuration's path")).with_file_name("server.key");
    let mode = std::os::unix::fs::PermissionsExt::mode(&key.metadata().expect("a key").permissions());
    assert_eq!(mode & 0o777, 0o600);
    served.run.interrupt().expect(0);
    assert!(!key.exists());

    // And clients that have to show one.
    let certificates = Certificates::new();
    let served = Served::start(&["--jetstream", "--tls-self-signed", "--tls-ca", &text(&certificates.ca)]);
    let trust = format!("tls_ca={}", path(&served.run.wait_stderr("clients trust it with --tls-ca ")));
    nats_py("refused", &served.url, &[&trust]).finish().expect(0);
    let client = &certificates.client;
    let own = [format!("tls_cert={}", text(&client.cert)), format!("tls_key={}", text(&client.key))];
    nats_py("jetstream", &served.url, &[&trust, &own[0], &own[1]]).finish().expect(0);
}

#[test]
fn a_nats_server_that_dies_is_started_again_with_its_store() {
    let served = Served::start(&["--jetstream"]);
    nats_py("jetstream", &served.url, &[]).finish().expect(0);
    let children = children_of(served.run.pid());
    let child = i32::try_from(children[0]).expect("a pid");
    // SAFETY: a child of the process that we started, which watches it.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0);
    served.run.wait_stderr("is started again");
    let again = until(SHORT, || std::net::TcpStream::connect(("127.0.0.1", served.port)).ok());
    assert!(again.is_some(), "nothing listens on {}", served.port);
    let mut client = NatsRaw::connect(served.port, &value!({}));
    client.send("SUB in 1\r\nPUB $JS.API.STREAM.NAMES in 2\r\n{}\r\n");
    client.line();
    let names = client.line();
    assert!(names.contains("orders") && names.contains("KV_settings"), "{names}");
}

#[test]
fn jetstream_without_a_nats_server() {
    let tracemq = Tracemq::new();
    let empty = tracemq.home().to_owned();
    let started = tracemq.cmd(["serve", "nats", "--jetstream", "--bind", "127.0.0.1:0"]).env("PATH", &empty);
    let done = started.finish();
    assert_ne!(done.code(), 0);
    assert!(done.stderr.contains("no nats-server was found on PATH"), "{done:?}");
    // A program of that name that fails is told with its own words.
    let fake = tracemq.write("nats-server", "#!/bin/sh\necho '[1] [FTL] the disk is on fire' >&2\nexit 1\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&fake, mode).expect("it can be made executable");
    let started = tracemq.cmd(["serve", "nats", "--jetstream", "--bind", "127.0.0.1:0"]).env("PATH", &empty);
    started.finish().expect_failure(3, &["the disk is on fire"]);
}

#[test]
fn what_can_not_work_is_refused_before_anything_is_opened() {
    let tracemq = Tracemq::new();
    let pem = text(&tracemq.write("some.pem", ""));
    for (flags, parts) in [
        (&["--user", "hunter2"][..], &["--user", "NAME=VALUE"][..]),
        (&["--token", ""], &["--token"]),
        (&["--max-pending", "65536"], &["--max-pending"]),
        (&["--bind", "127.0.0.1"], &["ADDR:PORT"]),
        (&["--tls-cert", "/nowhere.pem"], &["/nowhere.pem"]),
        (&["--jetstream", "--token", "a", "--user", "b=c"], &["exclude each other"]),
        (
            &["--jetstream", "--tls-cert", &pem, "--tls-key", &pem, "--tls-key-password", "hunter2"],
            &["encrypted"],
        ),
    ] {
        let done = tracemq.cmd(["serve", "nats"]).args(flags).limit(Duration::from_secs(30)).finish();
        let done = done.expect_failure(2, parts);
        assert!(!done.stderr.contains("hunter2"), "{done:?}");
    }
}

/// The processes that this one started.
fn children_of(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it is running");
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn command_line(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("it is running")
}
