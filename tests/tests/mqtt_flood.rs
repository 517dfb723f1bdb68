//! A reader that stands still under a flood: memory stays flat, the connection stays up, nothing that was taken is lost.

use std::thread;
use std::time::{Duration, Instant};
use tracemq_tests::{Feeder, LONG, Mosquitto, Tracemq, resident_kib, until};

/// The promise: 64 MiB.
const MOST_KIB: u64 = 64 * 1024;

/// Looks at the memory for so long, and returns the most that was seen.
fn peak_kib(pid: u32, time: Duration) -> u64 {
    let end = Instant::now() + time;
    let mut peak = 0;
    while Instant::now() < end {
        peak = peak.max(resident_kib(pid));
        thread::sleep(Duration::from_millis(100));
    }
    peak
}

#[test]
fn a_stopped_reader_holds_the_flood_back() {
    let tracemq = Tracemq::new();
    let feeder = Feeder::start(u64::MAX, 100);
    let sub = tracemq.sub(&feeder.url(), "stopped").args(["#", "--format", "raw"]).leave_stdout();
    let mut sub = sub.start();
    sub.wait_stderr("subscribed");
    assert!(
        until(tracemq_tests::SHORT, || (feeder.sent() > 10_000).then_some(())).is_some(),
        "the flood has begun"
    );
    let peak = peak_kib(sub.pid(), Duration::from_secs(10));
    assert!(peak < MOST_KIB, "{peak} KiB");
    let sent = feeder.sent();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(feeder.sent(), sent, "it is not read, so it can't be sent");

    sub.read_stdout();
    sub.wait_stdout_lines(usize::try_from(sent).expect("a small number"), LONG);
    let running = peak_kib(sub.pid(), Duration::from_secs(1));
    assert!(running < MOST_KIB, "{running} KiB when read again");
    sub.interrupt().expect(130);
}

#[test]
fn a_stopped_reader_of_qos_1_keeps_its_connection_and_gets_everything() {
    const COUNT: usize = 30_000;
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::plain());
    let flags = ["t", "--qos", "1", "--format", "raw", "--keep-alive", "1s"];
    let sub = tracemq.sub(&broker.url(), "stopped").args(flags).args(["-C", &COUNT.to_string()]);
    let mut sub = broker.subscribed(sub.leave_stdout().limit(LONG), "stopped");
    let lines: String = (0..COUNT).map(|number| format!("{number:0>1000}\n")).collect();
    broker.publisher("t").args(["-l", "-q", "1"]).stdin(lines.clone()).limit(LONG).finish().expect(0);
    // Several times the keep alive: the broker would have cut it off without pings.
    let pings = || broker.log().matches("Received PINGREQ from stopped").count();
    let before = pings();
    let peak = peak_kib(sub.pid(), Duration::from_secs(5));
    assert!(peak < MOST_KIB, "{peak} KiB");
    assert!(pings() >= before + 3, "pings go out while nothing is read");
    sub.read_stdout();
    let done = sub.wait().expect(0);
    assert!(done.stdout == lines.as_bytes(), "lost, doubled or out of order");
    assert_eq!(broker.log().matches(" as stopped (").count(), 1, "one connection only");
}

#[test]
fn a_publisher_that_is_faster_than_the_broker_reads_no_more_than_it_can_send() {
    let tracemq = Tracemq::new();
    let broker = Mosquitto::plain();
    let flags = ["t", "--lines", "--qos", "1"];
    let mut publishing = tracemq.publish(&broker.url()).args(flags).keep_stdin().limit(LONG).start();
    publishing.write("first\n");
    broker.wait_log("Sending PUBACK to ");
    broker.freeze();
    let pid = publishing.pid();
    let writer = thread::spawn(move || {
        let block = format!("{}\n", "x".repeat(1_000)).repeat(1_000);
        for _ in 0..100 {
            publishing.write(&block);
        }
        publishing
    });
    let peak = peak_kib(pid, Duration::from_secs(4));
    broker.thaw();
    let publishing = writer.join().expect("the writer");
    publishing.wait().expect(0);
    assert!(peak < MOST_KIB, "{peak} KiB of 100 MB");
}
