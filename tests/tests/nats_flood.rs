//! More messages than the reader takes: each is shown or counted, the server and its publishers are not held up.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};
use tracemq_tests::{LONG, NatsServer, NatsWire, SHORT, Tracemq, until};

/// Publishes so many messages of 100 bytes, as fast as the server takes them, and returns how long that took.
fn flood(port: u16, subject: &str, count: usize) -> Duration {
    let mut client = NatsWire::connect(port);
    let started = Instant::now();
    let mut block = String::new();
    for number in 0..count {
        write!(block, "PUB {subject} 100\r\n{number:0>100}\r\n").expect("writing to a string");
        if block.len() > 256 * 1024 || number + 1 == count {
            client.send(&block);
            block.clear();
        }
    }
    client.round_trip();
    started.elapsed()
}

#[test]
fn two_million_messages_at_a_slow_reader_are_all_accounted_for() {
    const COUNT: usize = 2_000_000;
    let (tracemq, server) = (Tracemq::new(), NatsServer::plain());
    let flags = ["sub", &server.url(), "flood", "--format", "raw", "--buffer", "4MiB"];
    // Nobody reads: the pipe fills, and the host stands still.
    let mut sub = tracemq.subscribed(tracemq.cmd(flags).leave_stdout().limit(LONG));
    flood(server.port(), "flood", COUNT);
    let peak = sub.resident_kib();
    assert!(peak < 160 * 1024, "{peak} KiB for a buffer of 4 MiB");
    assert!(!server.log().contains("Slow Consumer"), "{}", server.log());
    // The newest are kept: so this one comes at the end.
    NatsWire::connect(server.port()).publish("flood", "end");
    sub.read_stdout();
    sub.wait_stdout_by(LONG, "end", &|line| line == "end");
    let done = sub.interrupt();
    let shown = done.lines().len() - 1;
    let told = |line: &str| line.split(' ').find_map(|word| word.parse::<usize>().ok()).expect("a number");
    let lost: usize = done.stderr.lines().filter(|line| line.contains("were lost here")).map(told).sum();
    let in_all = done.stderr.lines().find(|line| line.contains("were lost in all")).map(told);
    assert_eq!((shown + lost, in_all), (COUNT, Some(lost)), "{shown} shown, {lost} lost: {}", done.stderr);
    assert!(lost > COUNT / 2, "{lost}");
    let numbers =
        done.lines().into_iter().take(shown).map(|line| line.trim_start_matches('0').parse().unwrap_or(0));
    assert!(numbers.collect::<Vec<usize>>().is_sorted_by(|a, b| a < b), "in order, and none twice");
}

#[test]
fn a_reader_that_keeps_up_loses_nothing() {
    const COUNT: usize = 200_000;
    let (tracemq, server) = (Tracemq::new(), NatsServer::plain());
    let flags = ["sub", &server.url(), "flood", "--format", "raw", "-C", &COUNT.to_string()];
    let sub = tracemq.subscribed(tracemq.cmd(flags).limit(LONG));
    flood(server.port(), "flood", COUNT);
    let done = sub.wait().expect(0);
    let expected: String = (0..COUNT).map(|number| format!("{number:0>100}\n")).collect();
    assert!(done.stdout == expected.as_bytes(), "lost, doubled or out of order: {}", done.stderr);
}

#[test]
fn lossless_stalls_says_so_and_tells_when_it_was_cut_off() {
    let tracemq = Tracemq::new();
    let server = NatsServer::builder().setting("write_deadline: \"1s\"").start();
    let flags = ["sub", &server.url(), "flood", "--format", "raw", "--lossless", "--buffer", "64KiB"];
    let mut sub = tracemq.subscribed(tracemq.cmd(flags).leave_stdout().limit(LONG));
    let (port, url) = (server.port(), server.url());
    let publishing = thread::spawn(move || flood(port, "flood", 1_000_000));
    sub.wait_stderr("nothing more is read");
    assert!(
        until(SHORT, || server.log().contains("Slow Consumer").then_some(())).is_some(),
        "{}",
        server.log()
    );
    publishing.join().expect("a publisher");
    sub.read_stdout();
    sub.wait().expect_failure(1, &["slow consumer", "--lossless"]);

    // One that pauses only for a moment loses nothing.
    let flags = ["sub", &url, "calm", "--format", "raw", "--lossless", "--buffer", "64KiB", "-C", "20000"];
    let mut sub = tracemq.subscribed(tracemq.cmd(flags).leave_stdout().limit(LONG));
    flood(port, "calm", 20_000);
    sub.read_stdout();
    assert_eq!(sub.wait().expect(0).lines().len(), 20_000);
}

#[test]
fn a_hundred_thousand_lines_are_published_and_confirmed() {
    const COUNT: usize = 100_000;
    let (tracemq, server) = (Tracemq::new(), NatsServer::plain());
    let flags = ["sub", &server.url(), "lines", "--format", "raw", "-C", &COUNT.to_string()];
    let sub = tracemq.subscribed(tracemq.cmd(flags).limit(LONG));
    let lines: String = (0..COUNT).map(|number| format!("{number:0>100}\n")).collect();
    let publishing = tracemq.cmd(["pub", &server.url(), "lines", "--lines"]).stdin(lines.clone()).limit(LONG);
    publishing.finish().expect(0);
    assert!(sub.wait().expect(0).stdout == lines.as_bytes(), "lost, doubled or out of order");
}

/// A server that never stops sending must not keep us from answering it, or from ending.
#[test]
fn a_flood_without_end_can_be_interrupted() {
    let (tracemq, server) =
        (Tracemq::new(), NatsServer::builder().setting("ping_interval: \"200ms\"\nping_max: 2").start());
    let sub =
        tracemq.subscribed(tracemq.cmd(["sub", &server.url(), "flood", "--format", "raw"]).leave_stdout());
    let mut publisher = TcpStream::connect(("127.0.0.1", server.port())).expect("the server listens");
    publisher.write_all(b"CONNECT {\"verbose\":false}\r\n").expect("the server reads");
    let ended = Instant::now() + Duration::from_secs(3);
    // The PONG is for the server's pings, which nobody reads here.
    let block = format!("PONG\r\n{}", format!("PUB flood 100\r\n{:0>100}\r\n", 7).repeat(1000));
    while Instant::now() < ended {
        publisher.write_all(block.as_bytes()).expect("the server reads");
    }
    assert!(!sub.stderr().contains("reconnecting"), "{sub:?}");
    sub.interrupt().expect(130);
}
