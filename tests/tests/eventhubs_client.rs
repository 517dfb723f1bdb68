//! `tracemq pub`, `sub` and `list` against the local Event Hubs, whose own tests have Microsoft's SDKs judge it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tracemq_tests::amqp::{ScriptedAmqp, rejected};
use tracemq_tests::{Certificates, Done, KEY, LONG, LocalHubs, Relay, RelayKind, Tracemq, json, until};

fn numbers(range: std::ops::Range<usize>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

#[track_caller]
fn events(done: Done) -> Vec<Value> {
    done.expect(0).lines().iter().map(|line| json(line)).collect()
}

#[test]
fn an_event_arrives_with_all_that_it_carries() {
    let tracemq = Tracemq::new();
    let hubs = LocalHubs::start(&tracemq, &["--hub", "h:2"]);
    let send = ["21.5", "-H", "unit=C", "--partition-key", "k", "--message-id", "m1", "--json"];
    let send = tracemq.hub("pub", &hubs.connection, &send).args(["--content-type", "text/plain"]);
    assert_eq!(json(&send.finish().expect(0).lines()[0])["status"], "acknowledged");
    let sub = ["-C", "1", "--position", "earliest", "--format", "json", "--lag"];
    let got = events(tracemq.hub("sub", &hubs.connection, &sub).finish()).remove(0);
    assert_eq!((&got["topic"], &got["payload"]), (&"h".into(), &"21.5".into()), "{got}");
    assert_eq!(got["headers"], serde_json::json!([["unit", "C"]]), "{got}");
    let meta = &got["meta"];
    for (name, value) in [
        ("sequence", 0.into()),
        ("partition_key", Value::from("k")),
        ("message_id", "m1".into()),
        ("content_type", "text/plain".into()),
        ("lag", 0.into()),
    ] {
        assert_eq!(meta[name], value, "{name}: {got}");
    }
    assert!(
        meta["offset"].is_string() && meta["enqueued"].as_str().is_some_and(|at| at.ends_with('Z')),
        "{got}"
    );
    assert!(matches!(meta["partition"].as_str(), Some("0" | "1")), "{got}");
}

#[test]
fn reading_begins_where_it_is_told_to() {
    let tracemq = Tracemq::new();
    let hubs = LocalHubs::start(&tracemq, &["--hub", "h:1"]);
    tracemq.send_lines(&hubs.connection, &numbers(0..5), &[]);
    // A time between the two halves, for events that are sent together have the same.
    let all = ["-C", "5", "--position", "earliest", "--format", "json"];
    let first = events(tracemq.hub("sub", &hubs.connection, &all).finish());
    tracemq.send_lines(&hubs.connection, &numbers(5..10), &[]);
    let all = ["-C", "10", "--position", "earliest", "--format", "json"];
    let second = events(tracemq.hub("sub", &hubs.connection, &all).finish());
    let at = |number: usize, name: &str| second[number]["meta"][name].as_str().expect("a text").to_owned();
    let (offset, time) = (at(6, "offset"), at(4, "enqueued"));
    assert_eq!(first.last().map(|event| &event["meta"]["enqueued"]), Some(&Value::from(time.clone())));
    // Times are written so that their texts have their order.
    let since = |least: &str| (0..10).find(|number| *at(*number, "enqueued") >= *least).expect("one");
    let after = (0..10).find(|number| at(*number, "enqueued") > time).expect("the second half is later");
    for (position, inclusive, expected) in [
        ("sequence:6".to_owned(), false, 7..10),
        ("sequence:6".to_owned(), true, 6..10),
        (format!("offset:{offset}"), false, 7..10),
        (format!("offset:{offset}"), true, 6..10),
        (format!("time:{time}"), false, after..10),
        (format!("time:{time}"), true, since(&time)..10),
    ] {
        let count = expected.len().to_string();
        let mut arguments = vec!["-C", &count, "--position", &position, "--format", "raw"];
        arguments.extend(inclusive.then_some("--inclusive"));
        let done = tracemq.hub("sub", &hubs.connection, &arguments).finish().expect(0);
        assert_eq!(done.text(), numbers(expected), "{position} {inclusive}");
    }
    let lag = ["-C", "1", "--position", "sequence:3", "--format", "json", "--lag"];
    let lag = events(tracemq.hub("sub", &hubs.connection, &lag).finish()).remove(0);
    assert_eq!((&lag["meta"]["lag"], &lag["meta"]["last_sequence"]), (&5.into(), &9.into()), "{lag}");
    let sub = tracemq.hub("sub", &hubs.connection, &["-C", "1", "--format", "raw"]).start();
    sub.wait_stderr("subscribed");
    tracemq.send_lines(&hubs.connection, "new\n", &[]);
    assert_eq!(sub.wait().expect(0).lines(), ["new"], "the latest is what comes from now on");
}

#[test]
fn all_partitions_are_read_in_order_and_some_if_asked() {
    let tracemq = Tracemq::new();
    let hubs = LocalHubs::start(&tracemq, &["--hub", "h:4"]);
    for partition in 0..4 {
        let lines: String = (0..500).map(|number| format!("{partition}-{number}\n")).collect();
        tracemq.send_lines(&hubs.connection, &lines, &["--partition", &partition.to_string()]);
    }
    let sub = ["-C", "2000", "--position", "earliest", "--format", "json"];
    let got = events(tracemq.hub("sub", &hubs.connection, &sub).limit(LONG).finish());
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    for event in &got {
        let partition = event["meta"]["partition"].as_str().expect("a partition").to_owned();
        let next = next.entry(partition.clone()).or_default();
        assert_eq!(event["payload"], format!("{partition}-{next}"), "{event}");
        assert_eq!(event["meta"]["sequence"], *next, "{event}");
        *next += 1;
    }
    assert!(next.len() == 4 && next.values().all(|count| *count == 500), "{next:?}");
    let some =
        ["-C", "1001", "--position", "earliest", "--partition", "1", "--partition", "3", "--format", "raw"];
    let some = tracemq.hub("sub", &hubs.connection, &some).limit(LONG).start();
    // A link each, on one connection: of this one, and of the one before.
    let links = || -> Option<Vec<(Value, Value)>> {
        let told = hubs.run.stderr();
        // Whole lines of links, and nothing else.
        let told =
            told.lines().filter(|line| line.contains("client-subscribed") && line.ends_with("}}")).map(json);
        let told = told.map(|event| (event["details"]["client"].clone(), event["details"]["topic"].clone()));
        Some(told.collect()).filter(|links: &Vec<_>| links.len() == 6)
    };
    let links = until(LONG, links).unwrap_or_else(|| panic!("six links: {:?}", hubs.run));
    let (four, two) = links.split_at(4);
    for links in [four, two] {
        assert!(links.iter().all(|(client, _)| *client == links[0].0), "{links:?}");
        assert_eq!(
            links.iter().map(|(_, topic)| topic.to_string()).collect::<BTreeSet<_>>().len(),
            links.len()
        );
    }
    assert_ne!(four[0].0, two[0].0);
    tracemq.hub("pub", &hubs.connection, &["1-last", "--partition", "1"]).finish().expect(0);
    let some = some.wait().expect(0);
    let seen: BTreeSet<_> = some.lines().iter().map(|line| line[..1].to_owned()).collect();
    assert_eq!(seen, BTreeSet::from(["1".to_owned(), "3".to_owned()]));

    let listed = tracemq.hub("list", &hubs.connection, &["partitions", "--json"]).finish().expect(0).text();
    let count = |last: &str| listed.matches(last).count();
    assert_eq!((count("\"last_sequence\":499,"), count("\"last_sequence\":500,")), (3, 1), "{listed}");
    let listed = tracemq.hub("list", &hubs.connection, &["hubs"]).finish().expect(0).text();
    assert!(listed.contains("0,1,2,3"), "{listed}");
}

#[test]
fn events_with_one_key_stay_together() {
    let tracemq = Tracemq::new();
    let hubs = LocalHubs::start(&tracemq, &["--hub", "h:4"]);
    for key in 0..8 {
        let lines: String = (0..20).map(|_| format!("{key}\n")).collect();
        tracemq.send_lines(&hubs.connection, &lines, &["--partition-key", &format!("key {key}")]);
    }
    let sub = ["-C", "160", "--position", "earliest", "--format", "json"];
    let got = events(tracemq.hub("sub", &hubs.connection, &sub).limit(LONG).finish());
    let mut places: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for event in &got {
        let (key, place) = (event["payload"].as_str(), event["meta"]["partition"].as_str());
        places.entry(key.expect("a payload")).or_default().insert(place.expect("a partition"));
        assert_eq!(event["meta"]["partition_key"], format!("key {}", key.expect("a payload")), "{event}");
    }
    assert!(places.len() == 8 && places.values().all(|places| places.len() == 1), "{places:?}");
    let used: BTreeSet<_> = places.values().flatten().collect();
    assert!(used.len() > 1, "eight keys do not all go to one partition: {places:?}");
}

#[test]
fn a_higher_owner_level_takes_over_and_no_level_disturbs_nobody() {
    let tracemq = Tracemq::new();
    let hubs = LocalHubs::start(&tracemq, &["--hub", "h:2", "--consumer-group", "other"]);
    let start = |arguments: &[&str]| {
        let sub = tracemq.hub("sub", &hubs.connection, &["--format", "raw"]).args(arguments).start();
        sub.wait_stderr("subscribed");
        sub
    };
    let send = |text: &str, partition| {
        tracemq.hub("pub", &hubs.connection, &[text, "--partition", partition]).finish().expect(0);
    };
    let plain = [start(&["-C", "1"]), start(&["-C", "1"])];
    send("for both", "0");
    for sub in plain {
        assert_eq!(sub.wait().expect(0).lines(), ["for both"]);
    }
    let one = start(&["--owner-level", "1", "--partition", "0"]);
    let both = start(&["--owner-level", "1", "--consumer-group", "other", "-C", "1"]);
    let two = start(&["--owner-level", "2", "--partition", "0", "-C", "1"]);
    one.wait().expect_failure(1, &["another reader", "amqp:link:stolen", "--owner-level"]);
    let shut_out = tracemq.hub("sub", &hubs.connection, &["--partition", "0"]);
    shut_out.finish().expect_failure(1, &["another reader"]);
    send("for two", "0");
    assert_eq!(two.wait().expect(0).lines(), ["for two"]);
    // Of the other group, who has lost one of his partitions and keeps the other.
    assert_eq!(both.wait().expect(0).lines(), ["for two"]);
    let both = start(&["--owner-level", "1", "--consumer-group", "other", "-C", "1"]);
    let thief = start(&["--owner-level", "5", "--consumer-group", "other", "--partition", "0"]);
    both.wait_stderr("another reader has taken it over");
    send("for the thief", "0");
    send("for whom it is", "1");
    assert_eq!(both.wait().expect(0).lines(), ["for whom it is"]);
    thief.wait_stdout("for the thief");
}

#[test]
fn what_the_service_does_not_know_is_told() {
    let tracemq = Tracemq::new();
    let hubs = LocalHubs::start(&tracemq, &["--hub", "h:2"]);
    let elsewhere = hubs.with("EntityPath=h", "EntityPath=nowhere");
    tracemq.hub("pub", &elsewhere, &["x"]).finish().expect_failure(1, &["nowhere", "amqp:not-found"]);
    tracemq.hub("sub", &elsewhere, &[]).finish().expect_failure(1, &["nowhere", "amqp:not-found"]);
    tracemq.hub("list", &elsewhere, &[]).finish().expect_failure(1, &["nowhere"]);
    let hub = &hubs.connection;
    tracemq.hub("sub", hub, &["--partition", "7"]).finish().expect_failure(1, &["no partition 7", "0, 1"]);
    tracemq.hub("pub", hub, &["x", "--partition", "7"]).finish().expect_failure(1, &["partition 7"]);
    let group = tracemq.hub("sub", hub, &["--consumer-group", "strangers"]);
    group.finish().expect_failure(1, &["strangers"]);
    tracemq.hub("list", hub, &["queues"]).finish().expect_failure(2, &["partitions"]);
    let namespace = hubs.with(";EntityPath=h", "");
    let nameless = tracemq.hub("list", &namespace, &[]).finish().expect_failure(2, &["no hub", "EntityPath"]);
    assert!(!nameless.stderr.contains("TOPIC"), "{nameless:?}");
    tracemq.hub("list", "sb:///h", &["--connection-string", &namespace]).finish().expect(0);
    let twice = tracemq.hub("pub", hub, &["x", "-H", "a=b", "-H", "a=c"]).finish();
    twice.expect_failure(1, &["\"a\" is given twice"]);
}

#[test]
fn who_has_no_right_is_refused_with_4() {
    let tracemq = Tracemq::new();
    let hubs = LocalHubs::start(&tracemq, &["--hub", "h:1", "--hub", "i:1"]);
    let resource = |hub: &str| format!("sb://127.0.0.1:{}/{hub}", hubs.port);
    for target in [
        hubs.with(KEY, "aHVudGVyMg=="),
        hubs.with("SharedAccessKeyName=test", "SharedAccessKeyName=nobody"),
        hubs.with_token(&resource("h"), -60),
        hubs.with_token(&resource("elsewhere"), 600),
    ] {
        let target = format!("{target};EntityPath=h");
        for (verb, arguments) in [("pub", &["h", "x"][..]), ("sub", &["h"]), ("list", &[])] {
            let done = tracemq.hub(verb, &target, arguments).finish().expect(4);
            assert!(!done.stderr.contains("aHVudGVyMg") && !done.stderr.contains("sig="), "{done:?}");
        }
    }
    let good = hubs.with_token(&resource("h"), 600);
    tracemq.hub("pub", &good, &["h", "x"]).finish().expect(0);
    let url = format!("sb://test@127.0.0.1:{}/h", hubs.port);
    let by_name = tracemq.cmd(["pub", &url, "x", "--emulator", "--password", "env:KEY"]).env("KEY", KEY);
    by_name.finish().expect(0);
}

/// Tokens live three seconds, the readers and the writer ten.
#[test]
fn a_token_is_renewed_before_it_ends() {
    let tracemq = Tracemq::new();
    let hubs = LocalHubs::start(&tracemq, &["--hub", "h:1"]);
    let short = ["--token-lifetime", "3s"];
    let sub = tracemq
        .hub("sub", &hubs.connection, &["-C", "10", "--format", "raw"])
        .args(short)
        .limit(LONG)
        .start();
    // To see that the server holds tokens to their word: this one can't be renewed.
    let token = hubs.with_token(&format!("sb://127.0.0.1:{}/h", hubs.port), 3);
    let ends = tracemq.hub("sub", &token, &["--no-reconnect"]).limit(LONG).start();
    sub.wait_stderr("subscribed");
    let send = tracemq.hub("pub", &hubs.connection, &["x", "--repeat", "10", "--interval", "1s"]).args(short);
    let sent = send.limit(LONG).finish().expect(0);
    let done = sub.wait().expect(0);
    assert_eq!(done.lines().len(), 10, "{done:?}");
    for told in [&sent.stderr, &done.stderr] {
        assert!(!told.contains("next attempt") && !told.contains("lost"), "{told}");
    }
    ends.wait().expect(4);
}

#[test]
fn events_go_in_batches_up_to_the_limit_and_a_larger_one_is_refused_by_name() {
    let tracemq = Tracemq::new();
    let hubs = LocalHubs::start(&tracemq, &["--hub", "h:1", "--max-message-size", "64KiB"]);
    let line = |number: usize| format!("{number} {}\n", "x".repeat(900));
    let mut lines: String = (0..600).map(line).collect();
    lines.push_str(&format!("large {}\n", "y".repeat(70_000)));
    lines.push_str(&line(600));
    let done = tracemq.hub("pub", &hubs.connection, &["--lines", "--json"]).stdin(lines).limit(LONG).finish();
    let outcomes: Vec<_> = done.expect(1).lines().iter().map(|line| json(line)).collect();
    assert_eq!(outcomes.len(), 602);
    for (number, outcome) in outcomes.iter().enumerate() {
        if number == 600 {
            assert_eq!(outcome["status"], "refused", "{outcome}");
            let reason = outcome["reason"].as_str().expect("a reason");
            assert!(reason.contains("70006 bytes") && reason.contains("65536"), "{reason}");
        } else {
            assert_eq!(outcome["status"], "acknowledged", "{outcome}");
        }
    }
    let sub = ["-C", "601", "--position", "earliest", "--format", "raw"];
    let got = tracemq.hub("sub", &hubs.connection, &sub).limit(LONG).finish().expect(0);
    let got: Vec<_> =
        got.lines().iter().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(got, (0..601).map(|number| number.to_string()).collect::<Vec<_>>());

    let usual = LocalHubs::start(&tracemq, &["--hub", "h:1"]);
    let file = tracemq.write("2 MiB", vec![b'z'; 2 << 20]);
    let large = tracemq.hub("pub", &usual.connection, &["--file"]).arg(file).finish();
    large.expect_failure(1, &["2097152 bytes", "1048576", "max-message-size"]);
    let file = tracemq.write("nearly 1 MiB", vec![b'z'; (1 << 20) - 100]);
    tracemq.hub("pub", &usual.connection, &["--file"]).arg(file).finish().expect(0);
}

#[test]
fn a_busy_server_is_left_alone_for_as_long_as_it_says() {
    let tracemq = Tracemq::new();
    let busy = || rejected("com.microsoft:server-busy", "please wait 2 seconds and try again");
    let server = ScriptedAmqp::answering(vec![vec![0x00, 0x53, 0x24, 0x45], busy(), busy()]);
    let began = std::time::Instant::now();
    let done =
        tracemq.cmd(["pub", &server.url("q"), "--lines", "--json"]).stdin("1\n2\n3\n").limit(LONG).finish();
    let done = done.expect(0);
    assert_eq!(done.text().matches("acknowledged").count(), 3, "{done:?}");
    assert!(done.stderr.contains("busy") && began.elapsed().as_millis() >= 2000, "{done:?}");
    let refusing = ScriptedAmqp::answering(vec![rejected("com.microsoft:entity-disabled", "it sleeps")]);
    let done = tracemq.cmd(["pub", &refusing.url("q"), "x"]).finish();
    done.expect_failure(1, &["it sleeps", "com.microsoft:entity-disabled"]);
}

#[test]
fn every_transport_leads_there() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let plain = LocalHubs::start(&tracemq, &["--hub", "h:1"]);
    let identity =
        [&certificates.server.cert, &certificates.server.key].map(|path| path.to_str().expect("a path"));
    let tls = ["--hub", "h:1", "--tls-cert", identity[0], "--tls-key", identity[1]];
    let secure = LocalHubs::start(&tracemq, &tls);
    let ca = ["--tls-ca", certificates.ca.to_str().expect("a path")];
    let relays = [RelayKind::Http, RelayKind::Socks5].map(Relay::start);
    let proxies = relays.iter().map(Relay::url).collect::<Vec<_>>();
    let mut sent = 0;
    for (hubs, extra) in [(&plain, &[][..]), (&secure, &ca)] {
        for transport in ["tcp", "websocket"] {
            for proxy in [None, Some(&proxies[0]), Some(&proxies[1])] {
                let text = format!("event {sent}");
                let mut arguments = vec![text.as_str(), "--transport", transport];
                arguments.extend(proxy.iter().flat_map(|proxy| ["--proxy", proxy.as_str()]));
                tracemq.hub("pub", &hubs.connection, &arguments).args(extra).finish().expect(0);
                sent += 1;
            }
        }
    }
    for (hubs, extra) in [(&plain, &[][..]), (&secure, &ca)] {
        let sub = ["-C", "6", "--position", "earliest", "--format", "raw", "--transport", "websocket"];
        let done = tracemq.hub("sub", &hubs.connection, &sub).args(extra).finish().expect(0);
        assert_eq!(done.lines().len(), 6, "{done:?}");
    }
    for relay in &relays {
        assert_eq!(relay.asked().len(), 4, "{:?}", relay.asked());
    }
    // The certificate is for another name than the namespace's; through a gateway it is that of the gateway.
    let untrusted = tracemq.hub("pub", &secure.connection, &["x"]).finish();
    untrusted.expect_failure(3, &["--tls-ca"]);
    let host = format!("127.0.0.1:{}", plain.port);
    let namespace = plain.with(&host, "namespace.example");
    tracemq.hub("pub", &namespace, &["x", "--endpoint", &host]).finish().expect(0);
}

/// A host that does not read, and events that would fill the memory.
#[test]
fn a_slow_reader_is_bounded() {
    let tracemq = Tracemq::new();
    let hubs = LocalHubs::start(&tracemq, &["--hub", "h:4", "--retention-bytes", "0"]);
    let file = tracemq.write("payload", vec![b'x'; 100_000]);
    for partition in 0..4 {
        let send = ["--repeat", "1000", "--partition", &partition.to_string(), "--file"];
        tracemq.hub("pub", &hubs.connection, &send).arg(&file).limit(LONG).finish().expect(0);
    }
    let arguments = ["--position", "earliest", "--format", "raw"];
    let mut sub = tracemq.hub("sub", &hubs.connection, &arguments).leave_stdout().limit(LONG).start();
    sub.wait_stderr("subscribed");
    let mut most = 0;
    for _ in 0..30 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        most = most.max(sub.resident_kib());
    }
    assert!(most < 250 * 1024, "{most} KiB of 400 MB");
    sub.read_stdout();
    sub.wait_stdout_lines(200, LONG);
    sub.interrupt().expect(130);
}
