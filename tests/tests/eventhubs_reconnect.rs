//! `tracemq pub` and `sub` when the connection to the local Event Hubs is lost: whoever reads goes on behind the last event, and
//! of what was sent everything is told.

use std::collections::BTreeMap;

use tracemq_tests::{CuttingProxy, LONG, LocalHubs, Tracemq, json};

fn numbers(range: std::ops::Range<usize>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

/// By a proxy, which cuts every connection.
fn by(proxy: &CuttingProxy) -> [String; 2] {
    ["--endpoint".to_owned(), format!("127.0.0.1:{}", proxy.port())]
}

#[test]
fn a_reader_goes_on_behind_the_last_event_when_the_server_comes_back() {
    let tracemq = Tracemq::new();
    let folder = tracemq.home().join("events");
    let folder = folder.to_str().expect("a path of ours");
    let arguments = ["--hub", "h:2", "--data-dir", folder];
    let hubs = LocalHubs::start(&tracemq, &arguments);
    let (port, connection) = (hubs.port, hubs.connection.clone());
    let early = tracemq.hub("sub", &connection, &["-C", "400", "--format", "raw"]).limit(LONG).start();
    early.wait_stderr("subscribed");
    let idle = tracemq
        .hub("sub", &connection, &["-C", "1", "--format", "raw", "--partition", "1"])
        .limit(LONG)
        .start();
    idle.wait_stderr("subscribed");
    tracemq.send_lines(&connection, &numbers(0..200), &["--partition", "0"]);
    early.wait_stdout_lines(200, LONG);
    hubs.run.signal(libc::SIGKILL);
    drop(hubs);
    early.wait_stderr("next attempt");
    let _hubs = LocalHubs::on(&tracemq, port, &arguments);
    tracemq.send_lines(&connection, &numbers(200..400), &["--partition", "0"]);
    // What had not seen an event yet, misses none that comes while it is away.
    tracemq.send_lines(&connection, "waited for\n", &["--partition", "1"]);
    assert_eq!(idle.wait().expect(0).lines(), ["waited for"]);
    let seen = early.wait().expect(0);
    let in_partition: Vec<_> = seen.lines().into_iter().filter(|line| line != "waited for").collect();
    let expected: Vec<_> = (0..in_partition.len()).map(|number| number.to_string()).collect();
    assert_eq!(in_partition, expected, "each once, in order");
    assert!(in_partition.len() >= 399, "{}", in_partition.len());
}

#[test]
fn a_writer_goes_on_when_the_server_comes_back() {
    let tracemq = Tracemq::new();
    let folder = tracemq.home().join("events");
    let arguments = ["--hub", "h:1", "--data-dir", folder.to_str().expect("a path of ours")];
    let hubs = LocalHubs::start(&tracemq, &arguments);
    let (port, connection) = (hubs.port, hubs.connection.clone());
    let writer = tracemq.hub("pub", &connection, &["--lines", "--json"]).keep_stdin().limit(LONG);
    let mut writer = writer.start();
    writer.write("before\n");
    writer.wait_stdout("acknowledged");
    hubs.run.signal(libc::SIGKILL);
    drop(hubs);
    // It is told without anything to send.
    writer.wait_stderr("the connection is lost");
    writer.write("meanwhile\n");
    writer.wait_stderr("next attempt");
    let _hubs = LocalHubs::on(&tracemq, port, &arguments);
    writer.wait_stdout_lines(2, LONG);
    writer.write("after\n");
    writer.close_stdin();
    let done = writer.wait().expect(0);
    assert_eq!(done.text().matches("acknowledged").count(), 3, "{done:?}");
    let sub = ["-C", "3", "--position", "earliest", "--format", "raw"];
    let got = tracemq.hub("sub", &connection, &sub).finish().expect(0);
    assert_eq!(got.lines(), ["before", "meanwhile", "after"]);
}

#[test]
fn what_is_sent_in_the_moment_of_the_loss_is_told_as_unconfirmed_or_sent_again() {
    let tracemq = Tracemq::new();
    for _ in 0..8 {
        let hubs = LocalHubs::start(&tracemq, &["--hub", "h:1"]);
        let (port, connection) = (hubs.port, hubs.connection.clone());
        let writer = tracemq.hub("pub", &connection, &["--lines", "--json"]).keep_stdin().limit(LONG);
        let mut writer = writer.start();
        writer.write("before\n");
        writer.wait_stdout("acknowledged");
        // It will find both at once: the end of the connection, and something to send.
        writer.signal(libc::SIGSTOP);
        hubs.run.signal(libc::SIGKILL);
        drop(hubs);
        writer.write("meanwhile\n");
        writer.signal(libc::SIGCONT);
        writer.wait_stderr("the connection is lost");
        let _hubs = LocalHubs::on(&tracemq, port, &["--hub", "h:1"]);
        writer.wait_stdout_lines(2, LONG);
        writer.close_stdin();
        let done = writer.wait();
        let outcome = json(&done.lines()[1]);
        match outcome["status"].as_str() {
            Some("acknowledged") => drop(done.expect(0)),
            Some("unconfirmed") => {
                let reason = outcome["reason"].as_str().expect("a reason");
                assert!(reason.contains("may or may not have arrived"), "{reason}");
                done.expect(1);
            }
            status => panic!("{status:?} {done:?}"),
        }
    }
}

#[test]
fn a_writer_that_must_not_reconnect_ends_with_its_connection() {
    let tracemq = Tracemq::new();
    let hubs = LocalHubs::start(&tracemq, &["--hub", "h:1"]);
    let (port, connection) = (hubs.port, hubs.connection.clone());
    let writer = tracemq.hub("pub", &connection, &["--lines", "--no-reconnect"]).keep_stdin().limit(LONG);
    let mut writer = writer.start();
    writer.write("before\n");
    hubs.run.wait_stdout("before");
    hubs.run.signal(libc::SIGKILL);
    drop(hubs);
    // Noticed while there is nothing to send.
    writer.wait_stderr("the connection is lost");
    let hubs = LocalHubs::on(&tracemq, port, &["--hub", "h:1"]);
    writer.write("after\n");
    writer.wait().expect_failure(1, &["the connection is lost"]);
    let listed = tracemq.hub("list", &hubs.connection, &["--json"]).finish().expect(0);
    assert_eq!(json(&listed.lines()[0])["last_sequence"], -1, "{listed:?}");
}

/// Events that were sent together share their time: only by their numbers does a reader find its place among them.
#[test]
fn a_reader_whose_connections_are_cut_sees_each_event_once_and_in_order() {
    const EACH: u64 = 1500;
    let tracemq = Tracemq::new();
    let hubs = LocalHubs::start(&tracemq, &["--hub", "h:2"]);
    let lines: String = (0..EACH).map(|number| format!("{number} {}\n", "x".repeat(200))).collect();
    for partition in ["0", "1"] {
        tracemq.send_lines(&hubs.connection, &lines, &["--partition", partition]);
    }
    let proxy = CuttingProxy::start(hubs.port, 1);
    let count = (2 * EACH).to_string();
    let sub = ["-C", count.as_str(), "--position", "earliest", "--format", "json"];
    let done = tracemq.hub("sub", &hubs.connection, &sub).args(by(&proxy)).limit(LONG).finish().expect(0);
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    for line in done.lines() {
        let event = json(&line);
        let next = next.entry(event["meta"]["partition"].to_string()).or_default();
        assert_eq!(event["meta"]["sequence"], *next, "{event}");
        *next += 1;
    }
    assert!(next.len() == 2 && next.values().all(|count| *count == EACH), "{next:?}");
    assert!(proxy.cuts() >= 3, "{} cuts", proxy.cuts());
}

#[test]
fn of_a_writer_whose_connections_are_cut_nothing_that_was_confirmed_is_lost_or_there_twice() {
    const ROUNDS: usize = 20;
    const EACH: usize = 200;
    const LINES: usize = ROUNDS * EACH;
    let tracemq = Tracemq::new();
    let hubs = LocalHubs::start(&tracemq, &["--hub", "h:1"]);
    let proxy = CuttingProxy::start(hubs.port, 3);
    let send = tracemq.hub("pub", &hubs.connection, &["--lines", "--json"]).args(by(&proxy));
    let mut writer = send.keep_stdin().limit(LONG).start();
    // One after the other, so that there is something to send behind each cut.
    for round in 0..ROUNDS {
        let lines =
            (round * EACH..(round + 1) * EACH).map(|number| format!("{number} {}\n", "x".repeat(100)));
        writer.write(&lines.collect::<String>());
        writer.wait_stdout_lines((round + 1) * EACH, LONG);
    }
    writer.close_stdin();
    let sent = writer.wait();
    assert!(proxy.cuts() >= 2, "{} cuts", proxy.cuts());
    let statuses: Vec<String> =
        sent.lines().iter().map(|line| json(line)["status"].as_str().expect("a status").to_owned()).collect();
    assert_eq!(statuses.len(), LINES, "each is told: {:?}", sent.stderr);
    assert!(statuses.iter().all(|status| status == "acknowledged" || status == "unconfirmed"));
    let listed = tracemq.hub("list", &hubs.connection, &["--json"]).finish().expect(0);
    let kept = json(&listed.lines()[0])["last_sequence"].as_i64().expect("a number") + 1;
    let read = ["-C", &kept.to_string(), "--position", "earliest", "--format", "raw"];
    let read = tracemq.hub("sub", &hubs.connection, &read).limit(LONG).finish().expect(0);
    let mut arrived = vec![0; LINES];
    let mut last = None;
    for line in read.lines() {
        let number: usize = line.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
        assert!(last < Some(number), "in order: {number} behind {last:?}");
        last = Some(number);
        arrived[number] += 1;
    }
    for (number, status) in statuses.iter().enumerate() {
        assert!(
            arrived[number] <= 1 && (arrived[number] == 1 || status == "unconfirmed"),
            "{number} {status}"
        );
    }
}
