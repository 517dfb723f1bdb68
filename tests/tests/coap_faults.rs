//! Servers of libcoap that are killed or frozen while `tracemq` talks to them, over each transport: nothing hangs, and nothing
//! is lost without a word.

use tracemq_tests::{LIBCOAP, LONG, LibcoapServer, Run, SHORT, Tracemq, json, until};

const SCHEMES: [&str; 4] = ["coap", "coaps", "coap+tcp", "coaps+tcp"];

/// A server of libcoap on OpenSSL that has a key.
fn server() -> LibcoapServer {
    LibcoapServer::start(LIBCOAP[0], &["-k", "secret", "-h", "hint"])
}

/// The key where there is one, and patience of some seconds.
fn flags(scheme: &str) -> Vec<&'static str> {
    let mut flags = vec!["--answer-timeout", "6s", "--connect-timeout", "20s"];
    if scheme.starts_with("coaps") {
        flags.extend(["--psk-identity", "ann", "--psk-key", "secret"]);
    }
    if !scheme.ends_with("+tcp") {
        flags.extend(["--ack-timeout", "1.5", "--max-retransmit", "1"]);
    }
    flags
}

/// `pub --lines` of which the first line has been answered.
fn publishing(tracemq: &Tracemq, server: &LibcoapServer, scheme: &str) -> Run {
    let url = server.url(scheme);
    let command = tracemq.cmd(["pub", &url, "/x", "--lines", "--json"]).args(flags(scheme));
    let mut run = command.keep_stdin().limit(LONG).start();
    run.write("one\n");
    run.wait_stdout("\"number\":1");
    run
}

/// The second line was not confirmed, which is told of it and in the end.
fn was_told(run: Run, scheme: &str, codes: &[i32]) {
    let done = run.wait();
    assert!(codes.contains(&done.code()), "{scheme}: {done:?}");
    let outcomes: Vec<_> = done.lines().iter().map(|line| json(line)["status"].clone()).collect();
    assert_eq!(outcomes, ["acknowledged", "unconfirmed"], "{scheme}: {done:?}");
    assert!(done.stderr.contains("1 of 2 lines failed"), "{scheme}: {done:?}");
}

#[test]
fn a_server_that_was_killed_before_a_line_is_told_of() {
    let tracemq = Tracemq::new();
    for scheme in SCHEMES {
        let server = server();
        let mut run = publishing(&tracemq, &server, scheme);
        drop(server);
        run.write("two\n");
        run.close_stdin();
        was_told(run, scheme, &[3]);
    }
}

/// The line and the end of the server come to the client in the same moment.
#[test]
fn a_line_in_the_moment_of_the_loss_is_told_of() {
    let tracemq = Tracemq::new();
    for scheme in SCHEMES {
        let server = server();
        let mut run = publishing(&tracemq, &server, scheme);
        run.signal(libc::SIGSTOP);
        server.run().signal(libc::SIGKILL);
        drop(server);
        run.write("two\n");
        run.signal(libc::SIGCONT);
        run.close_stdin();
        was_told(run, scheme, &[3]);
    }
}

/// Whether datagrams wait for whoever has this UDP port.
fn datagrams_wait(port: u16) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/udp").expect("Linux tells of its sockets");
    let port = format!(":{port:04X}");
    sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|fields| {
        let queues = fields.get(4).copied().unwrap_or_default();
        fields.get(1).is_some_and(|local| local.ends_with(&port)) && !queues.ends_with(":00000000")
    })
}

/// The datagram that it did not take vanishes with it, and the system refuses the next one.
#[test]
fn a_server_that_dies_with_a_datagram_is_found_out_by_the_next() {
    let tracemq = Tracemq::new();
    for (scheme, above) in [("coap", 0), ("coaps", 1)] {
        let server = server();
        let mut run = publishing(&tracemq, &server, scheme);
        server.run().signal(libc::SIGSTOP);
        run.write("two\n");
        run.close_stdin();
        let port = server.port() + above;
        assert!(until(SHORT, || datagrams_wait(port).then_some(())).is_some(), "{scheme}: {run:?}");
        server.run().signal(libc::SIGKILL);
        drop(server);
        was_told(run, scheme, &[3]);
    }
}

#[test]
fn a_server_that_is_frozen_is_waited_for_but_not_for_ever() {
    let tracemq = Tracemq::new();
    for scheme in SCHEMES {
        let server = server();
        let mut run = publishing(&tracemq, &server, scheme);
        server.run().signal(libc::SIGSTOP);
        run.write("two\n");
        run.close_stdin();
        was_told(run, scheme, &[6]);
        // What it finds when it goes on are a request that nobody waits for and another one.
        server.run().signal(libc::SIGCONT);
        let last = tracemq.cmd(["request", &server.url(scheme), "/x"]).args(flags(scheme)).finish();
        last.expect(0);
    }
}

#[test]
fn an_observer_of_a_frozen_server_ends_when_it_is_asked_to() {
    let tracemq = Tracemq::new();
    for scheme in SCHEMES {
        let server = server();
        let observer = tracemq.cmd(["sub", &server.url(scheme), "/time"]).args(flags(scheme)).start();
        observer.wait_stdout("/time");
        server.run().signal(libc::SIGSTOP);
        let done = observer.interrupt();
        assert_eq!(done.code(), 130, "{scheme}: {done:?}");
        server.run().signal(libc::SIGCONT);
    }
}

/// A body of a thousand blocks and more, in the middle of which the server is gone.
#[test]
fn a_body_that_breaks_off_is_told_of() {
    let tracemq = Tracemq::new();
    let file = tracemq.write("body", "0123456789".repeat(400_000));
    let file = file.to_str().expect("a path of letters");
    for scheme in SCHEMES {
        // It tells of each message.
        let server = LibcoapServer::start(LIBCOAP[0], &["-k", "secret", "-h", "hint", "-v", "7"]);
        let url = server.url(scheme);
        let put = ["pub", &url, "/x", "--file", file, "--block-size", "16"];
        let run = tracemq.cmd(put).args(flags(scheme)).limit(LONG).start();
        let begun =
            || [server.run().stdout(), server.run().stderr()].iter().any(|text| text.contains("Block1"));
        assert!(until(SHORT, || begun().then_some(())).is_some(), "{scheme}: {server:?}");
        drop(server);
        let done = run.wait();
        assert_eq!(done.code(), 3, "{scheme}: {done:?}");
    }
}
