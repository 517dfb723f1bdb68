//! `tracemq serve eventhubs` with Microsoft's own SDKs: azure-eventhub of PyPI and @azure/event-hubs of npm.

use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};
use tracemq_tests::{Certificates, Cmd, Done, LONG, Run, Tracemq, json, peer_script, until};

/// A server on a free port.
struct Served {
    run: Run,
    port: String,
    /// What it prints to be pasted.
    connection: String,
}

fn serve(tracemq: &Tracemq, arguments: &[&str]) -> Served {
    let command = tracemq.cmd(["serve", "eventhubs", "--bind", "127.0.0.1:0", "--json"]).args(arguments);
    let run = command.keep_stdin().start();
    let first = json(&run.wait_stdout("\"urls\""));
    let url = first["url"].as_str().expect("a URL");
    let port = url.rsplit_once(':').expect("a port").1.to_owned();
    let connection = first["urls"][1].as_str().expect("a connection string").to_owned();
    assert!(url.starts_with("sb://127.0.0.1:"), "{url}");
    Served { run, port, connection }
}

fn path(path: &Path) -> String {
    path.to_str().expect("a path of ours").to_owned()
}

fn python(connection: &str, arguments: &[&str]) -> Cmd {
    let command = Cmd::python().arg(peer_script("eventhubs_client.py")).arg(connection).args(arguments);
    command.limit(LONG)
}

fn node(connection: &str, hub: &str, command: &str) -> Cmd {
    Cmd::node().arg(peer_script("eventhubs_client.js")).args([connection, hub, command]).limit(LONG)
}

/// What a peer told, which ended well.
#[track_caller]
fn told(done: Done) -> Vec<Value> {
    done.expect(0).lines().iter().map(|line| json(line)).collect()
}

#[track_caller]
fn run(connection: &str, arguments: &[&str]) -> Vec<Value> {
    told(python(connection, arguments).finish())
}

/// The bodies of the events that were told.
fn bodies(told: &[Value]) -> Vec<&str> {
    told.iter().filter_map(|line| line["body"].as_str()).collect()
}

#[test]
fn the_python_sdk_asks_sends_and_reads_from_anywhere() {
    let tracemq = Tracemq::new();
    let served = serve(&tracemq, &["--hub", "h:2"]);
    let connection = &served.connection;
    let about = run(connection, &["properties"]);
    assert_eq!(
        (&about[0]["hub"], about[0]["partitions"].to_string()),
        (&"h".into(), r#"["0","1"]"#.to_owned())
    );
    assert_eq!(
        (&about[1]["last"], &about[1]["offset"], &about[1]["empty"]),
        (&(-1).into(), &"-1".into(), &true.into())
    );

    assert_eq!(run(connection, &["send", "a", "b", "c", "--partition", "0"])[0]["sent"], 3);
    let keyed = run(connection, &["send", "k1", "k2", "--key", "a key"]);
    assert_eq!(keyed[0]["sent"], 2);
    run(connection, &["send", "any"]);
    run(connection, &["single", "alone", "--partition", "0"]);

    let all = run(connection, &["receive", "earliest", "7", "--track"]);
    let events: Vec<_> = all.iter().filter(|line| line["body"].is_string()).collect();
    assert_eq!(events.len(), 7, "{all:?}");
    let of = |body: &str| {
        *events.iter().find(|event| event["body"] == body).unwrap_or_else(|| panic!("{body}: {all:?}"))
    };
    for (number, body) in ["a", "b", "c"].into_iter().enumerate() {
        assert_eq!((&of(body)["sequence"], &of(body)["partition"]), (&number.into(), &"0".into()));
        assert_eq!((&of(body)["key"], &of(body)["properties"]["number"]), (&Value::Null, &7.into()));
        assert!(of(body)["newest"].as_u64().is_some_and(|newest| newest >= 3), "{}", of(body));
    }
    assert_eq!((&of("k1")["key"], &of("k1")["partition"]), (&"a key".into(), &of("k2")["partition"]));
    let second = of("b");
    let offset = format!("offset:{}", second["offset"].as_str().expect("an offset"));
    // Between the times of two batches, which the SDK gives in milliseconds.
    let time = format!("time:{}", of("c")["enqueued"].as_f64().expect("a time"));
    for (place, inclusive, first) in [
        (offset.as_str(), false, "c"),
        (&offset, true, "b"),
        ("sequence:0", false, "b"),
        ("sequence:0", true, "a"),
        ("time:0", false, "a"),
        (
            &time,
            false,
            events.iter().find(|e| e["partition"] == "0" && e["sequence"] == 3).expect("a fourth")["body"]
                .as_str()
                .expect("a text"),
        ),
    ] {
        let mut arguments = vec!["receive", place, "1", "--partition", "0"];
        arguments.extend(inclusive.then_some("--inclusive"));
        let got = run(connection, &arguments);
        assert_eq!(bodies(&got), [first], "{place} {inclusive} {got:?}");
    }

    // What was sent is shown, too.
    let shown = json(&served.run.wait_stdout("\"payload\":\"k1\""));
    assert_eq!((&shown["topic"], &shown["meta"]["partition_key"]), (&"h".into(), &"a key".into()));
    assert_eq!(shown["headers"].to_string(), r#"[["text","x"],["number","7"]]"#);
    served.run.interrupt().expect(0);
}

#[test]
fn events_that_come_later_reach_whoever_waits() {
    let tracemq = Tracemq::new();
    let served = serve(&tracemq, &["--hub", "h:1"]);
    run(&served.connection, &["send", "before"]);
    let reader = python(&served.connection, &["receive", "latest", "2"]).start();
    served.run.wait_stderr("client-subscribed");
    run(&served.connection, &["single", "one", "--partition", "0"]);
    run(&served.connection, &["send", "two"]);
    assert_eq!(bodies(&told(reader.wait())), ["one", "two"]);
}

#[test]
fn several_writers_to_a_partition_keep_their_orders_and_leave_no_gaps() {
    const EACH: usize = 500;
    let tracemq = Tracemq::new();
    let served = serve(&tracemq, &["--hub", "h:2"]);
    let writers: Vec<Run> = ["a", "b", "c", "d"]
        .into_iter()
        .map(|name| {
            let lines: String = (0..EACH).map(|number| format!("{name}{number:04}\n")).collect();
            let send = tracemq.cmd(["pub", &served.connection, "--lines", "--partition", "1"]);
            send.stdin(lines).limit(LONG).start()
        })
        .collect();
    for writer in writers {
        writer.wait().expect(0);
    }
    let count = (4 * EACH).to_string();
    let read = ["sub", &served.connection, "--position", "earliest", "-C", &count, "--format", "json"];
    let read = told(tracemq.cmd(read).limit(LONG).finish());
    for (number, event) in read.iter().enumerate() {
        assert_eq!((&event["meta"]["sequence"], &event["meta"]["partition"]), (&number.into(), &"1".into()));
    }
    for name in ["a", "b", "c", "d"] {
        let of = read.iter().filter_map(|event| event["payload"].as_str());
        let of: Vec<_> = of.filter(|payload| payload.starts_with(name)).collect();
        assert!(of.len() == EACH && of.is_sorted(), "{name}: {of:?}");
    }
}

#[test]
fn a_profile_holds_a_server() {
    let tracemq = Tracemq::new();
    let profile = "protocol = \"eventhubs\"\nurl = \"sb://127.0.0.1:0\"\n\n[serve]\nhub = [\"h:3\"]\nconsumer_group = [\"g\"]\n\
                   shared_access_key = [\"app=env:HUB_KEY\"]\nretention_events = 2\n";
    std::fs::create_dir_all(tracemq.home().join("profiles")).expect("a folder");
    tracemq.write("profiles/hubs.toml", profile);
    let run_of = tracemq.cmd(["serve", "hubs", "--json"]).env("HUB_KEY", "s3cret").start();
    let first = json(&run_of.wait_stdout("\"urls\""));
    let shown = first["urls"][1].as_str().expect("a connection string");
    assert!(shown.contains("SharedAccessKeyName=app;SharedAccessKey=***"), "{shown}");
    let good = shown.replace("***", "s3cret");
    run(&good, &["send", "a", "b", "c", "--partition", "2"]);
    assert_eq!(run(&good, &["properties"])[0]["partitions"], serde_json::json!(["0", "1", "2"]));
    let got = run(&good, &["receive", "earliest", "2", "--partition", "2", "--group", "g"]);
    assert_eq!(bodies(&got), ["b", "c"]);
}

#[test]
fn lines_are_published() {
    let tracemq = Tracemq::new();
    let mut served = serve(&tracemq, &["--hub", "h:1", "--lines", "h"]);
    served.run.write("from the host\nand another\n");
    let got = run(&served.connection, &["receive", "earliest", "2"]);
    assert_eq!(bodies(&got), ["from the host", "and another"]);
    let mut several = serve(&tracemq, &["--hub", "a", "--hub", "b", "--lines"]);
    several.run.write("whither?\n");
    several.run.wait_stderr("the topic has to be one");
}

#[test]
fn batches_are_filled_to_the_limit_and_no_further() {
    let tracemq = Tracemq::new();
    let served = serve(&tracemq, &["--hub", "h:1", "--max-message-size", "100000"]);
    let filled = &run(&served.connection, &["fill", "100", "--partition", "0"])[0];
    assert_eq!(filled["limit"], 100_000);
    let count = filled["sent"].as_u64().expect("a number");
    assert!(filled["bytes"].as_u64().is_some_and(|bytes| bytes > 99_000) && count > 500, "{filled}");
    let about = run(&served.connection, &["properties"]);
    assert_eq!(about[1]["last"], count - 1);
    let refused = python(&served.connection, &["large", "100000", "--partition", "0"]).finish().expect(1);
    assert!(refused.text().contains("exceeds the limit (100000 bytes)"), "{refused:?}");
    served.run.wait_stderr("message-size-exceeded");
    let node = told(node(&served.connection, "h", "large").finish());
    assert_eq!((&node[0]["limit"], &node[1]["tooLarge"]), (&100_000.into(), &"MessageTooLargeError".into()));
}

#[test]
fn the_javascript_sdk() {
    let tracemq = Tracemq::new();
    let served = serve(&tracemq, &["--hub", "h:2"]);
    let round = told(node(&served.connection, "h", "round").finish());
    assert_eq!(round[0]["partitions"].to_string(), r#"["0","1"]"#);
    assert_eq!(round[1]["limit"], 1 << 20);
    let all: Vec<_> =
        round[3]["all"].as_array().expect("events").iter().map(|event| &event["body"]).collect();
    assert_eq!(all, ["one", "two", "three"]);
    assert!(round[3]["all"][0]["newest"].as_u64().is_some_and(|newest| newest >= 2), "{round:?}");
    for (how, expected) in [
        ("bySequence", r#"["two","three"]"#),
        ("bySequenceInclusive", r#"["one","two"]"#),
        ("byOffset", r#"["two","three"]"#),
        ("byTime", r#"["one","two"]"#),
    ] {
        assert_eq!(round[4][how].to_string(), expected, "{how}");
    }
    assert_eq!(round[5]["latest"], "new");
    let buffered = &told(node(&served.connection, "h", "buffered").finish())[0];
    assert_eq!((&buffered["accepted"], buffered["failed"].to_string()), (&200.into(), "[]".to_owned()));
}

#[test]
fn both_by_websocket_on_the_same_port() {
    let tracemq = Tracemq::new();
    let served = serve(&tracemq, &["--hub", "h:2"]);
    let address = format!("http://127.0.0.1:{}", served.port);
    let by_websocket =
        |arguments: &[&str]| run(&served.connection, &[arguments, &["--ws", "--address", &address]].concat());
    assert_eq!(by_websocket(&["properties"])[0]["hub"], "h");
    by_websocket(&["send", "one", "two", "--partition", "1"]);
    by_websocket(&["send", "three", "--key", "k"]);
    assert_eq!(by_websocket(&["fill", "1000", "--partition", "0"])[0]["limit"], 1 << 20);
    assert_eq!(bodies(&by_websocket(&["receive", "earliest", "2", "--partition", "1"])), ["one", "two"]);
    served.run.wait_stderr("connected by WebSocket");
}

#[test]
fn tls_for_clients_that_check_it_on_both_transports() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let (cert, key) = (path(&certificates.server.cert), path(&certificates.server.key));
    let served = serve(&tracemq, &["--hub", "h:2", "--tls-cert", &cert, "--tls-key", &key]);
    assert!(!served.connection.contains("Emulator"), "{}", served.connection);
    let ca = path(&certificates.ca);
    let address = format!("sb://127.0.0.1:{}", served.port);
    let secure = ["--address", &address, "--ca", &ca];
    for more in [&[][..], &["--ws"]] {
        run(&served.connection, &[&["send", "safe", "--partition", "1"], &secure[..], more].concat());
    }
    let got =
        run(&served.connection, &[&["receive", "earliest", "2", "--partition", "1"], &secure[..]].concat());
    assert_eq!(bodies(&got), ["safe", "safe"]);
    let localhost = served.connection.replace("127.0.0.1", "localhost");
    for flags in [&[][..], &["--ws"]] {
        let command = node(&localhost, "h", "round").args(flags).env("NODE_EXTRA_CA_CERTS", &certificates.ca);
        assert_eq!(told(command.finish())[0]["hub"], "h");
    }
    let other = path(&certificates.other_ca);
    let stranger = python(&served.connection, &["send", "x", "--address", &address, "--ca", &other]).finish();
    stranger.expect(1);
    served.run.wait_stderr("TLS: ");
}

#[test]
fn a_higher_owner_level_takes_a_partition_and_a_lower_is_refused() {
    let tracemq = Tracemq::new();
    let served = serve(&tracemq, &["--hub", "h:1"]);
    let own = |level: &str| {
        python(&served.connection, &["receive", "latest", "1", "--partition", "0", "--owner-level", level])
    };
    let first = own("1").start();
    served.run.wait_stderr("owner level 1");
    let second = own("2").start();
    let stolen = json(&first.wait_stdout("\"error\""));
    assert!(stolen["text"].as_str().is_some_and(|text| text.contains("amqp:link:stolen")), "{stolen}");
    let third = own("1").start();
    let refused = json(&third.wait_stdout("\"error\""));
    assert!(refused["text"].as_str().is_some_and(|text| text.contains("higher epoch")), "{refused}");
    run(&served.connection, &["send", "for the owner"]);
    assert_eq!(bodies(&told(second.wait())), ["for the owner"]);
    let node = told(node(&served.connection, "h", "steal").finish());
    assert!(node.iter().any(|line| line["reads"] == 2), "{node:?}");
    let lost =
        node.iter().filter(|line| line["level"] == 1 && line["code"] == "ReceiverDisconnectedError").count();
    assert!(lost >= 2, "one that was stolen, and one that was refused: {node:?}");
}

#[test]
fn wrong_keys_hubs_groups_and_partitions_are_refused_as_what_they_are() {
    let tracemq = Tracemq::new();
    let arguments = ["--hub", "h:2", "--consumer-group", "g", "--shared-access-key", "app=s3cret"];
    let served = serve(&tracemq, &arguments);
    assert!(
        served.connection.contains("SharedAccessKeyName=app;SharedAccessKey=***"),
        "{}",
        served.connection
    );
    let good = served.connection.replace("***", "s3cret");
    assert_eq!(run(&good, &["properties"])[0]["hub"], "h");
    run(&good, &["send", "x", "--partition", "0"]);
    assert_eq!(bodies(&run(&good, &["receive", "earliest", "1", "--group", "g", "--partition", "0"])), ["x"]);

    let wrong_key = served.connection.replace("***", "wr0ng");
    let wrong_name = good.replace("KeyName=app", "KeyName=other");
    let no_hub = good.replace("EntityPath=h", "EntityPath=nope");
    for (connection, arguments, parts) in [
        (&wrong_key, &["send", "x", "--partition", "0"][..], ["AuthenticationError", "401"]),
        (&wrong_key, &["properties"], ["AuthenticationError", "401"]),
        (&wrong_name, &["properties"], ["AuthenticationError", "401"]),
        (&no_hub, &["properties"], ["NotFound", "404"]),
        (&good, &["partition", "7"], ["NotFound", "404"]),
    ] {
        let refused = python(connection, arguments).finish().expect(1);
        for part in parts {
            assert!(refused.text().contains(part), "{arguments:?} {refused:?}");
        }
    }
    for (arguments, part) in [
        (["receive", "earliest", "1", "--partition", "0", "--group", "nope"], "could not be found"),
        (["receive", "sequence:9999", "1", "--partition", "0", "--group", "g"], "is invalid"),
    ] {
        let reader = python(&good, &arguments).start();
        let error = json(&reader.wait_stdout("\"error\""));
        assert!(error["text"].as_str().is_some_and(|text| text.contains(part)), "{error}");
    }
    let other = good.replace("UseDevelopmentEmulator=true", "UseDevelopmentEmulator=true;");
    let node = told(node(&other.replace(";EntityPath=h", ""), "nope", "wrong").finish());
    assert_eq!(node[0]["send"], "MessagingEntityNotFoundError", "{node:?}");
    let (out, err) = (served.run.stdout(), served.run.stderr());
    for secret in ["s3cret", "wr0ng"] {
        assert!(!out.contains(secret) && !err.contains(secret), "{out}\n{err}");
    }
}

/// The key of one's own is shown to whoever asks for it, and then what is printed can be pasted as it is.
#[test]
fn a_key_of_ones_own_is_printed_when_asked_for() {
    let tracemq = Tracemq::new();
    let served = serve(&tracemq, &["--hub", "h:1", "--shared-access-key", "app=s3cret=", "--print-key"]);
    assert!(served.connection.contains("app;SharedAccessKey=s3cret=;"), "{}", served.connection);
    run(&served.connection, &["send", "pasted"]);
    let sub = ["sub", &served.connection, "--position", "earliest", "-C", "1", "--format", "raw"];
    assert_eq!(tracemq.cmd(sub).finish().expect(0).lines(), ["pasted"]);
    assert!(!served.run.stderr().contains("s3cret"), "{:?}", served.run);
}

#[test]
fn a_token_of_entra_id_is_refused_as_what_it_is() {
    let tracemq = Tracemq::new();
    let served = serve(&tracemq, &["--hub", "h:1"]);
    let refused = python(&served.connection, &["entra"]).finish().expect(1);
    assert!(refused.text().contains("401"), "{refused:?}");
    served.run.wait_stderr("Entra ID (jwt) can't be verified here");
}

/// Clients wait and send again, and nothing is lost or there twice.
#[test]
fn a_server_that_is_told_to_be_busy_refuses_what_clients_then_send_again() {
    let tracemq = Tracemq::new();
    let served = serve(&tracemq, &["--hub", "h:1", "--busy-every", "2"]);
    // Of each pair of sends the second is refused, and is the third then.
    run(&served.connection, &["send", "one"]);
    assert_eq!(run(&served.connection, &["send", "two", "--retries", "5"])[0]["sent"], 1);
    served.run.wait_stderr("com.microsoft:server-busy");
    let began = Instant::now();
    let done = tracemq.cmd(["pub", &served.connection, "three", "--json"]).limit(LONG).finish().expect(0);
    assert!(done.stderr.contains("busy") && began.elapsed() >= Duration::from_secs(2), "{done:?}");
    assert_eq!(bodies(&run(&served.connection, &["receive", "earliest", "3"])), ["one", "two", "three"]);
}

#[test]
fn a_buffering_producer_and_processors_that_share_the_partitions() {
    let tracemq = Tracemq::new();
    let served = serve(&tracemq, &["--hub", "h:4"]);
    let share = run(&served.connection, &["share", "--patience", "120"]);
    let shared = &share[0]["shared"];
    let count = |name: &str| shared[name].as_array().map_or(0, Vec::len);
    assert!(count("one") > 0 && count("two") > 0 && count("one") + count("two") == 4, "{share:?}");
    assert_eq!(share[1]["events"], 80, "{share:?}");
    let buffered = &run(&served.connection, &["buffered", "300"])[0];
    assert_eq!((&buffered["accepted"], buffered["failed"].to_string()), (&300.into(), "[]".to_owned()));
}

/// The events of partition 0, in order.
fn all_of_partition(connection: &str, count: u64) -> Vec<Value> {
    let count = count.to_string();
    let got = run(connection, &["receive", "earliest", &count, "--partition", "0", "--prefetch", "2000"]);
    got.into_iter().filter(|line| line["body"].is_string()).collect()
}

#[test]
fn what_was_accepted_outlives_a_kill_once_and_in_order() {
    let tracemq = Tracemq::new();
    let folder = tempfile::tempdir().expect("a folder");
    let data = path(folder.path());
    let arguments = ["--hub", "h:1", "--data-dir", &data];
    let served = serve(&tracemq, &arguments);
    let sender = python(&served.connection, &["flood", "50", "--partition", "0"]).start();
    sender.wait_stdout_by(LONG, "some batches", &|line| {
        json(line)["accepted"].as_u64().is_some_and(|accepted| accepted >= 1000)
    });
    served.run.signal(libc::SIGKILL);
    let sent = sender.wait().expect(1);
    let accepted =
        sent.lines().iter().filter_map(|line| json(line)["accepted"].as_u64()).max().expect("some");
    let again = serve(&tracemq, &arguments);
    let about = run(&again.connection, &["properties"]);
    let kept = about[1]["last"].as_u64().expect("a number") + 1;
    // The batch of which the answer was under way may be there, and then it is there whole.
    assert!(kept == accepted || kept == accepted + 50, "{kept} are kept, {accepted} were accepted");
    let events = all_of_partition(&again.connection, kept);
    assert_eq!(events.len() as u64, kept);
    for (number, event) in events.iter().enumerate() {
        assert_eq!((&event["body"], &event["sequence"]), (&number.to_string().into(), &number.into()));
    }
    run(&again.connection, &["send", "after", "--partition", "0"]);
    assert_eq!(run(&again.connection, &["properties"])[1]["last"], kept);
}

#[test]
fn a_folder_keeps_what_retention_leaves_and_has_one_server() {
    let tracemq = Tracemq::new();
    let folder = tempfile::tempdir().expect("a folder");
    let data = path(folder.path());
    let arguments = ["--hub", "h:1", "--data-dir", &data, "--retention-events", "3"];
    let served = serve(&tracemq, &arguments);
    run(&served.connection, &["send", "a", "b", "c", "d", "e"]);
    let second = tracemq.cmd(["serve", "eventhubs", "--bind", "127.0.0.1:0"]).args(arguments).finish();
    second.expect_failure(2, &["--data-dir", "another server"]);
    served.run.interrupt().expect(0);
    let again = serve(&tracemq, &arguments);
    let about = run(&again.connection, &["properties"]);
    assert_eq!((&about[1]["begin"], &about[1]["last"]), (&2.into(), &4.into()));
    let events = all_of_partition(&again.connection, 3);
    assert_eq!(bodies(&events), ["c", "d", "e"]);
    again.run.interrupt().expect(0);
    let fewer =
        tracemq.cmd(["serve", "eventhubs", "--hub", "H:1", "--bind", "127.0.0.1:0", "--data-dir", &data]);
    let fewer = fewer.args(["--retention-age", "1ms", "--json"]).start();
    fewer.wait_stdout("urls");
    let connection = json(&fewer.stdout())["urls"][1].as_str().expect("a connection string").to_owned();
    let emptied = until(LONG, || {
        let about = run(&connection, &["properties"]);
        (about[1]["empty"] == true).then(|| about[1]["last"].clone())
    });
    assert_eq!(emptied, Some(4.into()), "too old, and its numbers go on");
}

#[test]
fn options_that_can_not_work_are_refused_before_anything_is_opened() {
    let tracemq = Tracemq::new();
    for (arguments, parts) in [
        (&["--hub", "a:0"][..], &["--hub a:0", "1 to 1024"][..]),
        (&["--hub", "a", "--hub", "A"], &["twice"]),
        (&["--hub", "../x"], &["--hub"]),
        (&["--consumer-group", "a/b"], &["--consumer-group"]),
        (&["--shared-access-key", "app="], &["is empty"]),
        (&["--data-dir", "/proc/no"], &["--data-dir", "/proc/no"]),
        (&["--max-message-size", "1"], &["--max-message-size"]),
        (&["--busy-every", "0"], &["--busy-every"]),
    ] {
        let done = tracemq.cmd(["serve", "eventhubs", "--bind", "127.0.0.1:0"]).args(arguments).finish();
        let done = done.expect_failure(2, parts);
        assert!(!done.text().contains("sb://"), "{done:?}");
    }
    let named = tracemq.cmd(["serve", "sb://127.0.0.1:0/hub"]).finish();
    named.expect_failure(2, &["--hub"]);
    let slow = Duration::from_secs(20);
    let by_url = tracemq.cmd(["serve", "sb://127.0.0.1:0"]).start();
    by_url.wait_stdout_by(slow, "a URL", &|line| line.starts_with("sb://127.0.0.1:"));
    by_url.wait_stderr("Endpoint=sb://127.0.0.1:");
}
