//! Lost connections: nothing is lost with a persistent session, and nothing doubled at QoS 2.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;
use tracemq_tests::{
    Cmd, CuttingProxy, LONG, Mosquitto, Packet, Run, SHORT, ScriptedBroker, Tracemq, VERSIONS, Version, until,
};

/// Numbered lines of about a hundred bytes.
fn numbered(count: usize) -> String {
    (0..count).map(|number| format!("{number:0>8} {}\n", "x".repeat(90))).collect()
}

/// The numbers of the lines that have come.
fn numbers(subscriber: &Run) -> Vec<usize> {
    let text = subscriber.stdout();
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().filter_map(|line| line.get(..8)?.parse().ok()).collect()
}

fn publisher(tracemq: &Tracemq, url: &str, version: Version, qos: &str, lines: String) -> Cmd {
    let flags = ["t", "--lines", "--qos", qos, "--client-id", "writer"];
    tracemq.publish(url).args(flags).persistent(version).stdin(lines).limit(LONG)
}

fn subscriber(tracemq: &Tracemq, url: &str, version: Version, qos: &str) -> Cmd {
    let flags = ["t", "--qos", qos, "--format", "raw"];
    tracemq.sub(url, "reader").args(flags).persistent(version).limit(LONG)
}

/// When all has been published: waits for all, and, since messages keep their order, for one more after them. Then there is
/// nothing under way any more.
///
/// `excused` is how many messages the broker itself may have doubled.
fn assert_complete(
    broker: &Mosquitto,
    subscriber: &Run,
    count: usize,
    qos: &str,
    excused: impl Fn() -> usize,
) {
    broker.publisher("t").args(["-q", qos, "-m", "99999999 end"]).limit(LONG).finish().expect(0);
    subscriber.wait_stdout_by(LONG, "the last message", &|line| line.starts_with("99999999"));
    let came = numbers(subscriber);
    let distinct: HashSet<usize> = came.iter().copied().collect();
    let missing = (0..count).filter(|number| !distinct.contains(number)).count();
    assert_eq!(missing, 0, "lost of {count}\n{}", subscriber.stderr());
    if qos == "2" {
        let (doubled, excused) = (came.len() - distinct.len(), excused());
        assert!(
            doubled <= excused,
            "{doubled} doubled at QoS 2, {excused} by the broker\n{}",
            subscriber.stderr()
        );
    }
}

/// A proxy cuts every connection of publisher and subscriber after a few kilobytes.
///
/// The publisher is never more than two blocks ahead of the subscriber: mosquitto 2.0.11 gives a resumed session all it has
/// kept in one go, whatever its max_inflight_messages, and what is more than a connection may carry would never get through.
fn cut(version: Version, qos: &str) {
    const COUNT: usize = 20_000;
    const BLOCK: usize = 250;
    let tracemq = Tracemq::new();
    let broker = Mosquitto::builder().quiet().start();
    let (to_reader, to_writer) =
        (CuttingProxy::start(broker.port(), 1), CuttingProxy::start(broker.port(), 2));
    let reading = subscriber(&tracemq, &to_reader.url(), version, qos).start();
    reading.wait_stderr("subscribed");
    let flags = ["t", "--lines", "--qos", qos, "--client-id", "writer"];
    let writing = tracemq.publish(&to_writer.url()).args(flags).persistent(version).keep_stdin().limit(LONG);
    let mut writing = writing.start();
    let lines: Vec<String> = numbered(COUNT).lines().map(|line| format!("{line}\n")).collect();
    for (block, lines) in lines.chunks(BLOCK).enumerate() {
        writing.write(&lines.concat());
        if let Some(behind) = block.checked_sub(1) {
            // A line may come again, but no line comes before the one that was published before it has come once.
            let last = format!("{:0>8}", behind * BLOCK + BLOCK - 1);
            reading.wait_stdout_by(LONG, &last, &|line| line.starts_with(&last));
        }
    }
    writing.wait().expect(0);
    assert_complete(&broker, &reading, COUNT, qos, || 0);
    assert!(to_reader.cuts() > 10 && to_writer.cuts() > 10, "{to_reader:?} {to_writer:?}");
    assert!(reading.stderr().contains("reconnect"), "it says so\n{}", reading.stderr());
}

#[test]
fn cut_connections_lose_nothing_at_qos_1_with_mqtt_31() {
    cut(VERSIONS[0], "1");
}

#[test]
fn cut_connections_lose_nothing_at_qos_1_with_mqtt_311() {
    cut(VERSIONS[1], "1");
}

#[test]
fn cut_connections_lose_nothing_at_qos_1_with_mqtt_5() {
    cut(VERSIONS[2], "1");
}

#[test]
fn cut_connections_lose_and_double_nothing_at_qos_2_with_mqtt_31() {
    cut(VERSIONS[0], "2");
}

#[test]
fn cut_connections_lose_and_double_nothing_at_qos_2_with_mqtt_311() {
    cut(VERSIONS[1], "2");
}

#[test]
fn cut_connections_lose_and_double_nothing_at_qos_2_with_mqtt_5() {
    cut(VERSIONS[2], "2");
}

/// The broker is restarted again and again while messages go through it.
fn restart(version: Version, qos: &str) {
    const COUNT: usize = 150_000;
    let tracemq = Tracemq::new();
    let broker = Mosquitto::builder().persistent();
    let mut broker = if qos == "2" { broker.start() } else { broker.quiet().start() };
    let reading = subscriber(&tracemq, &broker.url(), version, qos).start();
    reading.wait_stderr("subscribed");
    let mut writing = publisher(&tracemq, &broker.url(), version, qos, numbered(COUNT)).start();
    let mut restarts = 0;
    while writing.alive() {
        // Not a wait for anything: it is the time for which the broker stays up.
        thread::sleep(Duration::from_millis(400));
        broker.stop();
        broker.start();
        restarts += 1;
    }
    writing.wait().expect(0);
    assert!(restarts >= 3, "only {restarts} restarts");
    assert_complete(&broker, &reading, COUNT, qos, || published_after_release(&broker.log()));
}

/// How often mosquitto published a message again although it had released it (PUBREL), which the protocol forbids (5.0,
/// section 4.3.3: "MUST NOT re-send the PUBLISH once it has sent the corresponding PUBREL packet"). 2.0.11 does it after some
/// restarts, and no subscriber can tell such a message from a new one.
fn published_after_release(log: &str) -> usize {
    let id = |line: &str, before: &str| {
        let rest = &line[line.find(before)? + before.len()..];
        rest[..rest.find(|c: char| !c.is_ascii_digit())?].parse::<u16>().ok()
    };
    let mut released = HashSet::new();
    let mut count = 0;
    for line in log.lines() {
        if let Some(id) = id(line, "Sending PUBREL to reader (m") {
            released.insert(id);
        } else if let Some(id) = id(line, "Received PUBCOMP from reader (Mid: ") {
            released.remove(&id);
        } else if let Some(id) = id(line, "Sending PUBLISH to reader (d1, q2, r0, m") {
            count += usize::from(released.contains(&id));
        }
    }
    count
}

#[test]
fn a_broker_restarted_again_and_again_loses_nothing_at_qos_1_with_mqtt_31() {
    restart(VERSIONS[0], "1");
}

#[test]
fn a_broker_restarted_again_and_again_loses_nothing_at_qos_1_with_mqtt_311() {
    restart(VERSIONS[1], "1");
}

#[test]
fn a_broker_restarted_again_and_again_loses_nothing_at_qos_1_with_mqtt_5() {
    restart(VERSIONS[2], "1");
}

#[test]
fn a_broker_restarted_again_and_again_loses_and_doubles_nothing_at_qos_2_with_mqtt_31() {
    restart(VERSIONS[0], "2");
}

#[test]
fn a_broker_restarted_again_and_again_loses_and_doubles_nothing_at_qos_2_with_mqtt_311() {
    restart(VERSIONS[1], "2");
}

#[test]
fn a_broker_restarted_again_and_again_loses_and_doubles_nothing_at_qos_2_with_mqtt_5() {
    restart(VERSIONS[2], "2");
}

#[test]
fn sub_says_that_it_reconnects_and_goes_on() {
    let tracemq = Tracemq::new();
    let mut broker = Mosquitto::plain();
    // Also without a persistent session: then the subscription has to be made again.
    let sub = broker.subscribed(tracemq.sub(&broker.url(), "reader").args(["t", "-C", "2"]), "reader");
    broker.publish("t", "before");
    sub.wait_stdout("before");
    broker.stop();
    sub.wait_stderr("reconnect");
    broker.start();
    let subscriptions = || broker.log().matches("Sending SUBACK to reader").count();
    assert!(until(SHORT, || (subscriptions() == 2).then_some(())).is_some(), "{}", broker.log());
    broker.publish("t", "after");
    assert_eq!(sub.wait().expect(0).lines(), ["t before", "t after"]);
}

#[test]
fn without_reconnecting_a_drop_is_final() {
    let tracemq = Tracemq::new();
    let mut broker = Mosquitto::plain();
    let sub = tracemq.sub(&broker.url(), "reader").args(["t", "--no-reconnect"]);
    let sub = broker.subscribed(sub, "reader");
    broker.publish("t", "before");
    sub.wait_stdout("before");
    let port = broker.port().to_string();
    broker.stop();
    let ended = sub.wait().expect_failure(1, &[&port]);
    assert_eq!(ended.lines(), ["t before"]);
}

#[test]
fn a_broker_that_dies_under_pub_gets_the_unacknowledged_lines_again() {
    let tracemq = Tracemq::new();
    let mut broker = Mosquitto::builder().persistent().start();
    let keeper = |flags: &[&str]| broker_keeper(&broker, flags);
    keeper(&["-E"]).finish().expect(0);
    let flags = ["t", "--lines", "--qos", "1", "--client-id", "writer"];
    let mut writing = tracemq.publish(&broker.url()).args(flags).keep_stdin().limit(LONG).start();
    writing.write(&numbered(50));
    broker.wait_log("Sending PUBACK to writer (m50");
    broker.stop();
    writing.write(&numbered(100)[numbered(50).len()..]);
    writing.wait_stderr("reconnect");
    broker.start();
    writing.wait().expect(0);
    let came = broker_keeper(&broker, &["-C", "100"]).finish().expect(0).lines();
    let came: Vec<usize> = came.iter().map(|line| line[..8].parse().expect("a number")).collect();
    assert_eq!(came, (0..100).collect::<Vec<_>>());
}

/// A session that keeps what is published on `t`.
fn broker_keeper(broker: &Mosquitto, flags: &[&str]) -> Cmd {
    broker.subscriber("t").args(["-c", "-i", "keeper", "-q", "1"]).args(flags)
}

#[test]
fn lines_that_were_never_acknowledged_are_reported_one_by_one() {
    let (tracemq, broker) = (Tracemq::new(), ScriptedBroker::new());
    let flags = ["t", "--lines", "--qos", "1", "--no-reconnect"];
    let writing = tracemq.publish(&broker.url()).args(flags).stdin("one\ntwo\nthree\nfour\n").start();
    let mut client = broker.accept(false);
    let received: Vec<Packet> = (0..4).map(|_| client.expect(3)).collect();
    // Only the second is acknowledged before the connection is gone.
    client.send(0x40, &packet_id(&received[1]));
    // 5.0's DISCONNECT, so that the acknowledgement has been read before the end of the stream.
    client.send(0xE0, &[0x8B, 0]);
    drop(client);
    let ended = writing.wait().expect(1);
    for line in ["line 1", "line 3", "line 4"] {
        assert!(ended.stderr.contains(line), "it does not tell of {line}\n{ended:?}");
    }
    assert!(!ended.stderr.contains("line 2"), "it was acknowledged\n{ended:?}");
}

/// The identifier in a PUBLISH to the topic `t`: after the topic and its length.
fn packet_id(publish: &Packet) -> [u8; 2] {
    [publish.body[3], publish.body[4]]
}

#[test]
fn what_a_killed_publisher_had_not_confirmed_is_sent_by_the_next_one() {
    let (tracemq, broker) = (Tracemq::new(), ScriptedBroker::new());
    let publish = || {
        let flags = ["t", "--lines", "--qos", "2", "--client-id", "writer"];
        tracemq.publish(&broker.url()).args(flags).persistent(VERSIONS[2])
    };
    let mut writing = publish().keep_stdin().start();
    writing.write("one\ntwo\nthree\n");
    let mut client = broker.accept(false);
    let first: Vec<Packet> = (0..3).map(|_| client.expect(3)).collect();
    // The first one is delivered, the second one received but not released, the third one neither.
    client.send(0x50, &packet_id(&first[0]));
    client.expect(6);
    client.send(0x70, &packet_id(&first[0]));
    client.send(0x50, &packet_id(&first[1]));
    client.expect(6);
    writing.signal(libc::SIGKILL);
    drop(writing.wait());
    drop(client);

    let next = publish().stdin("four\n").start();
    let mut client = broker.accept(true);
    let mut packets = vec![];
    for _ in 0..3 {
        packets.push(client.receive().expect("a packet").expect("a packet, not the end"));
    }
    let released: Vec<&Packet> = packets.iter().filter(|packet| packet.kind() == 6).collect();
    assert_eq!(released.len(), 1, "PUBREL of the second\n{packets:?}");
    assert_eq!(released[0].body[..2], packet_id(&first[1]));
    let published: Vec<&Packet> = packets.iter().filter(|packet| packet.kind() == 3).collect();
    assert_eq!(published[0].first & 8, 8, "the third is a repetition\n{packets:?}");
    assert_eq!(packet_id(published[0]), packet_id(&first[2]));
    assert!(published[1].body.ends_with(b"four"), "{packets:?}");
    for publish in published {
        client.send(0x50, &packet_id(publish));
    }
    for _ in 0..2 {
        let released = client.expect(6);
        client.send(0x70, &released.body[..2]);
    }
    client.send(0x70, &packet_id(&first[1]));
    next.wait().expect(0);
}

#[test]
fn a_subscriber_killed_again_and_again_gets_everything() {
    const COUNT: usize = 3_000;
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::builder().quiet().start());
    let start = || subscriber(&tracemq, &broker.url(), VERSIONS[2], "1").start();
    let mut came = HashSet::new();
    let reading = start();
    reading.wait_stderr("subscribed");
    let writing = broker.publisher("t").args(["-l", "-q", "1"]).stdin(numbered(COUNT)).limit(LONG).start();
    reading.wait_stdout_lines(1, SHORT);
    let mut reading = Some(reading);
    for _ in 0..5 {
        let run = reading.take().expect("one is running");
        run.signal(libc::SIGKILL);
        let killed = run.wait();
        came.extend(killed.lines().iter().filter_map(|line| line.get(..8)?.parse::<usize>().ok()));
        let run = start();
        run.wait_stderr("subscribed");
        reading = Some(run);
    }
    writing.wait().expect(0);
    let reading = reading.expect("one is running");
    let all = || {
        let mut all = came.clone();
        all.extend(numbers(&reading));
        all.len()
    };
    assert!(until(LONG, || (all() == COUNT).then_some(())).is_some(), "{} of {COUNT}\n{reading:?}", all());
}

#[test]
fn a_subscriber_ended_and_started_again_gets_each_message_once_at_qos_2() {
    const COUNT: usize = 5_000;
    let (tracemq, broker) = (Tracemq::new(), Mosquitto::builder().quiet().start());
    let start = || subscriber(&tracemq, &broker.url(), VERSIONS[2], "2").start();
    let reading = start();
    reading.wait_stderr("subscribed");
    let writing = broker.publisher("t").args(["-l", "-q", "2"]).stdin(numbered(COUNT)).limit(LONG).start();
    reading.wait_stdout_lines(10, SHORT);
    let mut came = reading.interrupt().expect(130).lines();
    for _ in 0..3 {
        let reading = start();
        reading.wait_stderr("subscribed");
        came.extend(reading.interrupt().expect(130).lines());
    }
    writing.wait().expect(0);
    let left = COUNT - came.len();
    let last = subscriber(&tracemq, &broker.url(), VERSIONS[2], "2").args(["-C", &left.to_string()]);
    came.extend(last.finish().expect(0).lines());
    let expected: Vec<String> = numbered(COUNT).lines().map(str::to_owned).collect();
    assert!(came == expected, "lost, doubled or out of order");
}

/// More than is kept for a subscription to come, before it has come.
#[test]
fn a_backlog_that_comes_before_the_subscription_comes_whole() {
    const COUNT: u16 = 5_000;
    for (qos, first) in [("1", 0x32), ("2", 0x34)] {
        let (tracemq, broker) = (Tracemq::new(), ScriptedBroker::new());
        let count = COUNT.to_string();
        let reading = subscriber(&tracemq, &broker.url(), VERSIONS[2], qos).args(["-C", &count]).start();
        let mut client = broker.accept(true);
        let numbered =
            |pid: u16| [b"\0\x01t", &pid.to_be_bytes()[..], b"\0", format!("{pid:0>8}").as_bytes()].concat();
        client.send_all(first, (1..=COUNT).map(numbered));
        let subscribe = client.expect(8);
        client.send(0x90, &[subscribe.body[0], subscribe.body[1], 0, qos.as_bytes()[0] - b'0']);
        let expected: Vec<String> = (1..=COUNT).map(|pid| format!("{pid:0>8}")).collect();
        assert_eq!(reading.wait().expect(0).lines(), expected, "QoS {qos}");
    }
}
