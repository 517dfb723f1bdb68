//! JetStream against nats-server 2.9, with nats-py as another client of it.

use serde_json::{Value, json as object};
use std::collections::HashSet;
use std::time::Duration;
use tracemq_tests::{Certificates, Cmd, LONG, NatsServer, NatsWire, Tracemq, json, nkey, until};

fn lines(output: &[String]) -> Vec<Value> {
    output.iter().map(|line| json(line)).collect()
}

/// A server with a stream ORDERS of `orders.>`.
fn orders() -> (Tracemq, NatsServer, NatsWire) {
    let (tracemq, server) = (Tracemq::new(), NatsServer::with_jetstream());
    let mut wire = NatsWire::connect(server.port());
    wire.make_stream("ORDERS", &["orders.>"]);
    (tracemq, server, wire)
}

fn numbers(from: usize, to: usize) -> String {
    (from..=to).map(|number| format!("{number}\n")).collect()
}

#[test]
fn a_publish_tells_stream_and_sequence_and_an_id_is_stored_once() {
    let (tracemq, server, mut wire) = orders();
    let publish = |arguments: &[&str]| {
        tracemq.cmd(["pub", &server.url(), "orders.a", "--jetstream", "--json"]).args(arguments)
    };
    let outcome = |arguments: &[&str]| json(&publish(arguments).finish().expect(0).lines()[0]);
    let first = outcome(&["one", "-H", "k=v"]);
    assert_eq!(first["status"], "acknowledged");
    assert_eq!(first["details"], object!({"stream": "ORDERS", "sequence": 1}));
    assert_eq!(wire.stored("ORDERS", 1)["subject"], "orders.a");

    let id = ["two", "--msg-id", "x1"];
    assert_eq!(outcome(&id)["details"], object!({"stream": "ORDERS", "sequence": 2, "msg_id": "x1"}));
    let again = outcome(&id);
    assert_eq!(
        (&again["details"]["sequence"], &again["details"]["duplicate"]),
        (&object!(2), &object!(true))
    );

    // Of several messages each expects the one before it.
    let expecting = publish(&["--lines", "--expect-last-sequence", "2", "--expect-stream", "ORDERS"]);
    let outcomes = lines(&expecting.stdin("a\nb\nc\n").finish().expect(0).lines());
    let sequences: Vec<_> = outcomes.iter().map(|outcome| &outcome["details"]["sequence"]).collect();
    assert_eq!(sequences, [3, 4, 5]);
    publish(&["late", "--expect-last-sequence", "2"])
        .finish()
        .expect_failure(1, &["wrong last sequence: 5", "10071"]);
    publish(&["x", "--expect-stream", "OTHER"]).finish().expect_failure(1, &["expected stream", "10060"]);
}

#[test]
fn many_lines_are_confirmed_in_their_order() {
    const COUNT: usize = 20_000;
    let (tracemq, server, mut wire) = orders();
    let publish = tracemq.cmd(["pub", &server.url(), "orders.n", "--jetstream", "--lines", "--json"]);
    let done =
        publish.args(["--msg-id", "run7-{number}"]).stdin(numbers(1, COUNT)).limit(LONG).finish().expect(0);
    let outcomes = lines(&done.lines());
    assert_eq!(outcomes.len(), COUNT);
    for (index, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome["details"]["sequence"], index + 1, "{outcome}");
    }
    assert_eq!(outcomes[9]["details"]["msg_id"], "run7-10");
    let last = wire.stored("ORDERS", COUNT as u64);
    assert_eq!(last["data"], "MjAwMDA=", "the payload of the last line in base64");

    let read = tracemq.cmd(["sub", &server.url(), "--stream", "ORDERS", "--to-end", "--format", "raw"]);
    assert_eq!(read.limit(LONG).finish().expect(0).text(), numbers(1, COUNT));
}

#[test]
fn a_stream_is_read_from_wherever_it_is_asked_to() {
    let (tracemq, server, mut wire) = orders();
    for (subject, payload) in [("orders.a", "1"), ("orders.b", "2"), ("orders.a", "3"), ("orders.c.d", "4")] {
        wire.publish(subject, payload);
    }
    let read = |arguments: &[&str]| {
        let command =
            tracemq.cmd(["sub", &server.url(), "--stream", "ORDERS", "--to-end", "--format", "raw"]);
        command.args(arguments).finish().expect(0).lines()
    };
    assert_eq!(read(&[]), ["1", "2", "3", "4"]);
    assert_eq!(read(&["--deliver", "all"]), ["1", "2", "3", "4"]);
    assert_eq!(read(&["--deliver", "last"]), ["4"]);
    assert_eq!(read(&["--deliver", "last-per-subject"]), ["2", "3", "4"]);
    assert_eq!(read(&["--deliver", "sequence:3"]), ["3", "4"]);
    assert_eq!(read(&["--deliver", "since:10m"]), ["1", "2", "3", "4"]);
    // All was stored before this was started.
    assert_eq!(read(&["--deliver", "since:1ms"]), [""; 0]);
    assert_eq!(read(&["--deliver", "new"]), [""; 0]);
    assert_eq!(read(&["--deliver", "sequence:9"]), [""; 0]);
    assert_eq!(read(&["--filter", "orders.a"]), ["1", "3"]);
    assert_eq!(read(&["orders.*", "--deliver", "sequence:2"]), ["2", "3"]);
    assert_eq!(read(&["--ack", "explicit"]), ["1", "2", "3", "4"]);
    assert_eq!(read(&["--ack", "none"]), ["1", "2", "3", "4"]);
    assert_eq!(read(&["--subject-prefix", "orders", "a"]), ["1", "3"]);

    let flags = [
        "sub",
        &server.url(),
        "--stream",
        "ORDERS",
        "--deliver",
        "sequence:3",
        "--format",
        "json",
        "-C",
        "1",
    ];
    let shown = json(&tracemq.cmd(flags).finish().expect(0).lines()[0]);
    let meta = &shown["meta"];
    assert_eq!(
        (&shown["topic"], &meta["stream"], &meta["sequence"]),
        (&"orders.a".into(), &"ORDERS".into(), &3.into())
    );
    assert_eq!((&meta["pending"], &meta["delivered"]), (&1.into(), &1.into()));
    assert!(meta["consumer"].as_str().is_some_and(|name| !name.is_empty()), "{shown}");
    let stored = wire.stored("ORDERS", 3)["time"].as_str().expect("a time").trim_end_matches('Z').to_owned();
    let time = meta["timestamp"].as_str().expect("a time");
    assert!(time.starts_with(&stored) && time.ends_with('Z'), "{time} {stored}");
    assert!(meta.get("reply").is_none(), "{shown}");
}

#[test]
fn only_what_was_shown_is_acknowledged_and_the_next_run_goes_on_behind_it() {
    let (tracemq, server, mut wire) = orders();
    let publish = tracemq.cmd(["pub", &server.url(), "orders.n", "--jetstream", "--lines"]);
    publish.stdin(numbers(1, 1000)).finish().expect(0);
    let flags = ["sub", &server.url(), "--stream", "ORDERS", "--durable", "d", "--format", "raw"];
    let read = |arguments: &[&str]| tracemq.cmd(flags).args(arguments);
    assert_eq!(read(&["-C", "7"]).finish().expect(0).text(), numbers(1, 7));
    let info = wire.jetstream("CONSUMER.INFO.ORDERS.d", &object!({}));
    assert_eq!(info["ack_floor"]["stream_seq"], 7, "{info}");
    assert_eq!(read(&["-C", "500"]).finish().expect(0).text(), numbers(8, 507));
    let done = read(&["--to-end", "--deliver", "all"]).finish().expect(0);
    assert_eq!(done.text(), numbers(508, 1000));
    assert!(done.stderr.contains("goes on after"), "{done:?}");
    assert_eq!(read(&["--to-end"]).finish().expect(0).text(), "");
    let info = wire.jetstream("CONSUMER.INFO.ORDERS.d", &object!({}));
    assert_eq!((&info["num_ack_pending"], &info["num_pending"]), (&0.into(), &0.into()), "{info}");

    // Of fewer messages than are asked for at once, too: the server still has a request then.
    let few = |from: usize, to: usize, more: &[&str]| {
        let flags = ["sub", &server.url(), "--stream", "ORDERS", "--durable", "e", "--format", "raw"];
        let done = tracemq.cmd(flags).args(["--deliver", "sequence:990"]).args(more).finish().expect(0);
        assert_eq!(done.text(), numbers(from, to), "{done:?}");
        let told = format!("goes on after message {}, whatever", from - 1);
        assert!(from == 990 || done.stderr.contains(&told), "{done:?}");
    };
    few(990, 993, &["-C", "4"]);
    few(994, 994, &["-C", "1"]);
    few(995, 1000, &["--to-end"]);

    read(&["--filter", "orders.x"]).finish().expect_failure(2, &["consumer d", "filter"]);
    read(&["--ack", "none"]).finish().expect_failure(2, &["consumer d", "acknowledgements"]);
}

#[test]
fn reading_goes_on_after_the_server_was_gone() {
    let (tracemq, mut server, mut wire) = orders();
    wire.make_stream("OTHER", &["other.>"]);
    let read = |stream: &str, more: &[&str]| {
        let flags = ["sub", &server.url(), "--stream", stream, "--format", "raw"];
        let run = tracemq.cmd(flags).args(more).start();
        run.wait_stderr("subscribed");
        run
    };
    let runs =
        [read("ORDERS", &["--durable", "d"]), read("ORDERS", &[]), read("ORDERS", &["--deliver", "new"])];
    wire.publish("orders.n", "1");
    runs.iter().for_each(|run| run.wait_stdout_lines(1, Duration::from_secs(20)));
    wire.close();
    server.kill();
    runs.iter().for_each(|run| drop(run.wait_stderr("reconnecting")));
    server.start();
    let mut wire = until(Duration::from_secs(20), || {
        let mut wire = NatsWire::connect(server.port());
        let answer = wire.ask("$JS.API.STREAM.INFO.ORDERS", &object!({}));
        answer.get("error").is_none().then_some(wire)
    })
    .expect("the stream is there again");
    for number in 2..=50 {
        wire.publish("orders.n", &number.to_string());
    }
    for run in runs {
        run.wait_stdout_lines(50, Duration::from_secs(60));
        let done = run.interrupt();
        // A library's cries over each attempt are not ours.
        assert!(!done.stderr.contains("error:"), "{done:?}");
        let lines = done.lines();
        let distinct: HashSet<_> = lines.iter().collect();
        assert_eq!(distinct.len(), 50, "nothing is lost: {lines:?}");
    }
}

#[test]
fn what_is_deleted_while_it_is_read_ends_the_command() {
    let (tracemq, server, mut wire) = orders();
    let start = |more: &[&str]| {
        let run = tracemq.cmd(["sub", &server.url(), "--stream", "ORDERS"]).args(more).start();
        run.wait_stderr("subscribed");
        run
    };
    let waiting = |wire: &mut NatsWire, name: &str| {
        let there = until(Duration::from_secs(20), || {
            let info = wire.jetstream(&format!("CONSUMER.INFO.ORDERS.{name}"), &object!({}));
            (info["num_waiting"] != 0).then_some(())
        });
        assert!(there.is_some(), "{name} asks for messages");
    };
    let durable = start(&["--durable", "d"]);
    waiting(&mut wire, "d");
    wire.jetstream("CONSUMER.DELETE.ORDERS.d", &object!({}));
    durable.wait().expect_failure(1, &["consumer d", "deleted"]);

    let reader = start(&["--durable", "e"]);
    waiting(&mut wire, "e");
    wire.jetstream("STREAM.DELETE.ORDERS", &object!({}));
    reader.wait().expect_failure(1, &["stream ORDERS", "deleted"]);
}

#[test]
fn what_is_not_there_is_told_with_what_there_is() {
    let (tracemq, server, mut wire) = orders();
    wire.make_stream("EVENTS", &["events.>"]);
    let url = server.url();
    let sub = |more: &[&str]| tracemq.cmd(["sub", &url]).args(more).finish();
    sub(&["--stream", "NONE"]).expect_failure(1, &["no stream \"NONE\"", "EVENTS", "ORDERS"]);
    sub(&["--stream", "a.b"]).expect_failure(2, &["--stream", "a.b"]);
    sub(&["--stream", "ORDERS", "--deliver", "yesterday"])
        .expect_failure(2, &["--deliver", "yesterday", "since:10m"]);
    sub(&["--stream", "ORDERS", "--durable", "a b"]).expect_failure(2, &["--durable"]);
    sub(&["--stream", "ORDERS", "--queue-group", "q"]).expect_failure(2, &["--queue-group"]);
    sub(&["--stream", "ORDERS", "orders.a", "orders.b"]).expect_failure(2, &["2.9", "2.10"]);
    sub(&["orders.a", "--to-end"]).expect_failure(2, &["--to-end", "--stream"]);
    sub(&[]).expect_failure(2, &["TOPIC"]);
    let publish = |more: &[&str]| tracemq.cmd(["pub", &url]).args(more).finish();
    publish(&["nowhere", "x", "--jetstream"]).expect_failure(1, &["no stream", "nowhere"]);
    publish(&["orders.a", "x", "--msg-id", "1"]).expect_failure(2, &["--msg-id", "--jetstream"]);
    publish(&["orders.a", "x", "--jetstream", "--reply", "r"]).expect_failure(2, &["--reply"]);
    let large = tracemq.cmd(["pub", &url, "orders.a", "--stdin", "--jetstream"]).stdin("x".repeat(1_100_000));
    large.finish().expect_failure(1, &["max_payload", "1100000"]);

    let plain = NatsServer::plain();
    let url = plain.url();
    let enabled = ["JetStream is not enabled"];
    tracemq.cmd(["pub", &url, "a", "x", "--jetstream"]).finish().expect_failure(1, &enabled);
    tracemq.cmd(["sub", &url, "--stream", "S"]).finish().expect_failure(1, &enabled);
    tracemq.cmd(["list", &url]).finish().expect_failure(1, &enabled);
}

#[test]
fn what_is_not_allowed_ends_with_status_4() {
    let tracemq = Tracemq::new();
    let users = r#"
        authorization: { users: [
            { user: all, password: p }
            { user: some, password: p, permissions: {
                publish: { deny: ["orders.secret", "$JS.API.STREAM.INFO.HIDDEN", "$JS.API.CONSUMER.MSG.NEXT.CLOSED.>"] }
            } }
        ] }"#;
    let server = NatsServer::builder().jetstream().setting(users).start();
    let mut wire = NatsWire::connect_with(
        server.port(),
        r#"{"verbose":false,"headers":true,"no_responders":true,"user":"all","pass":"p"}"#,
    );
    for (name, subject) in [("ORDERS", "orders.>"), ("HIDDEN", "hidden"), ("CLOSED", "closed")] {
        wire.make_stream(name, &[subject]);
    }
    let run = |arguments: &[&str]| {
        let url = server.url();
        let (verb, rest) = arguments.split_first().expect("a verb");
        tracemq.cmd([verb, url.as_str()]).args(rest).args(["--username", "some", "--password", "p"]).finish()
    };
    run(&["pub", "orders.ok", "x", "--jetstream"]).expect(0);
    run(&["pub", "orders.secret", "x", "--jetstream"])
        .expect_failure(4, &["orders.secret", "permissions violation"]);
    run(&["sub", "--stream", "HIDDEN"]).expect_failure(4, &["permissions violation"]);
    run(&["sub", "--stream", "CLOSED"]).expect_failure(4, &["not allow", "permissions violation"]);
}

#[test]
fn streams_and_consumers_are_listed_with_their_state() {
    let (tracemq, server, mut wire) = orders();
    wire.make_stream("EVENTS", &["events.>", "more"]);
    for number in 0..5 {
        wire.publish("orders.n", &number.to_string());
    }
    let list = |what: &[&str]| {
        lines(&tracemq.cmd(["list", &server.url(), "--json"]).args(what).finish().expect(0).lines())
    };
    let flags = ["sub", &server.url(), "--stream", "ORDERS", "--durable", "d", "orders.*", "-C", "2"];
    tracemq.cmd(flags).finish().expect(0);
    let streams = list(&[]);
    assert_eq!(streams, list(&["streams"]));
    assert_eq!((&streams[0]["stream"], &streams[0]["subjects"]), (&"EVENTS".into(), &"events.>,more".into()));
    assert_eq!(
        (&streams[1]["messages"], &streams[1]["last_sequence"], &streams[1]["consumers"]),
        (&5.into(), &5.into(), &1.into())
    );
    let consumers = list(&["consumers"]);
    assert_eq!(consumers.len(), 1);
    let expected = object!({"stream": "ORDERS", "consumer": "d", "durable": true, "filter": "orders.*", "ack": "explicit", "ack_floor": 2});
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&consumers[0][name], value, "{name}");
    }
    let text = tracemq.cmd(["list", &server.url()]).finish().expect(0).text();
    assert!(text.starts_with("STREAM ") && text.contains("ORDERS"), "{text}");
    tracemq.cmd(["list", &server.url(), "queues"]).finish().expect_failure(2, &["queues", "consumers"]);
}

#[test]
fn nats_py_reads_what_we_publish_and_we_read_what_it_publishes() {
    let (tracemq, server, _wire) = orders();
    let script = |text: &str| {
        let text = format!(
            "import asyncio, nats\nasync def main():\n    nc = await nats.connect('{}')\n    js = nc.jetstream()\n{text}\n    await nc.close()\nasyncio.run(main())\n",
            server.url()
        );
        Cmd::python().arg("-c").arg(text).finish().expect(0)
    };
    script("    for i in range(300): await js.publish('orders.py', b'py%d' % i, headers={'n': str(i)})");
    let flags = ["sub", &server.url(), "--stream", "ORDERS", "--to-end", "--format", "json"];
    let read = lines(&tracemq.cmd(flags).finish().expect(0).lines());
    assert_eq!(read.len(), 300);
    for (index, message) in read.iter().enumerate() {
        assert_eq!(message["payload"], format!("py{index}"));
        assert_eq!(message["headers"], object!([["n", index.to_string()]]));
    }
    let publish = tracemq.cmd([
        "pub",
        &server.url(),
        "orders.rs",
        "--jetstream",
        "--lines",
        "--msg-id",
        "auto",
        "-H",
        "k=v",
    ]);
    publish.stdin(numbers(1, 300)).finish().expect(0);
    let read = script(
        "    sub = await js.pull_subscribe('orders.rs', 'py')\n    got = []\n    while len(got) < 300:\n        for m in await sub.fetch(100, timeout=10):\n            assert m.headers['k'] == 'v' and 'Nats-Msg-Id' in m.headers\n            got.append(m.data.decode()); await m.ack()\n    print('\\n'.join(got))",
    );
    assert_eq!(read.text(), numbers(1, 300));
    // It goes on where nats-py stopped.
    tracemq.cmd(["pub", &server.url(), "orders.rs", "last", "--jetstream"]).finish().expect(0);
    let flags =
        ["sub", &server.url(), "--stream", "ORDERS", "--durable", "py", "--to-end", "--format", "raw"];
    assert_eq!(tracemq.cmd(flags).finish().expect(0).lines(), ["last"]);
}

#[test]
fn a_stored_message_that_can_not_be_read_is_shown() {
    let (tracemq, server, mut wire) = orders();
    wire.send(b"HPUB orders.bad 23 24\r\nNATS/1.0\r\nno colon\xe9\r\n\r\nx\r\n");
    wire.publish("orders.good", "after");
    let flags = ["sub", &server.url(), "--stream", "ORDERS", "--to-end", "--format", "json"];
    let read = lines(&tracemq.cmd(flags).finish().expect(0).lines());
    assert_eq!((&read[0]["payload"], &read[1]["payload"]), (&"x".into(), &"after".into()));
    assert!(read[0]["meta"].get("malformed_header_lines").is_some(), "{}", read[0]);
}

#[test]
fn nothing_acknowledged_is_missing_or_doubled_when_a_server_is_killed() {
    const COUNT: usize = 100_000;
    let tracemq = Tracemq::new();
    let mut nodes = NatsServer::cluster_of_3(tracemq_tests::NatsBuilder::jetstream);
    let elected = until(Duration::from_secs(60), || {
        nodes.iter().any(|node| node.log().contains("new metadata leader")).then_some(())
    });
    assert!(elected.is_some(), "the cluster elects no leader\n{}", nodes[0].log());
    let made = until(Duration::from_secs(60), || {
        let config = object!({ "name": "R3", "subjects": ["r3"], "num_replicas": 3, "storage": "file" });
        let answer = NatsWire::connect(nodes[0].port()).ask("$JS.API.STREAM.CREATE.R3", &config);
        answer.get("error").is_none().then_some(answer)
    })
    .expect("the cluster elects a leader");
    let leader = made["cluster"]["leader"].as_str().expect("a leader").to_owned();
    let urls: Vec<String> = nodes.iter().map(NatsServer::url).collect();
    // The connection is to the one that is killed, too.
    let target = nodes.iter().position(|node| format!("n{}", node.port()) == leader).expect("one of ours");
    let mut publish = tracemq
        .cmd(["pub", &urls[target], "r3", "--jetstream", "--lines", "--json", "--msg-id", "auto"])
        .args(urls.iter().flat_map(|url| ["--server", url]))
        .keep_stdin()
        .limit(LONG)
        .start();
    let half = numbers(1, COUNT / 2);
    publish.write(&half);
    publish.wait_stdout_lines(COUNT / 4, LONG);
    nodes[target].kill();
    publish.write(&numbers(COUNT / 2 + 1, COUNT));
    publish.close_stdin();
    let outcomes = lines(&publish.wait().expect(0).lines());
    assert_eq!(outcomes.len(), COUNT);
    let acknowledged: HashSet<u64> =
        outcomes.iter().map(|outcome| outcome["details"]["sequence"].as_u64().expect("a sequence")).collect();
    assert_eq!(acknowledged.len(), COUNT, "each has a sequence of its own");

    let left = urls.iter().enumerate().find(|(index, _)| *index != target).expect("two are left").1;
    let read = tracemq.cmd(["sub", left, "--stream", "R3", "--to-end", "--format", "raw"]).limit(LONG);
    let mut stored: Vec<usize> =
        read.finish().expect(0).lines().iter().map(|line| line.parse().expect("a number")).collect();
    assert_eq!(stored.len(), COUNT, "nothing is missing, nothing is doubled");
    stored.sort_unstable();
    assert!(stored.iter().copied().eq(1..=COUNT), "each is there once");
}

#[test]
fn every_way_to_connect_and_log_in_leads_to_jetstream() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let ca = certificates.ca.to_str().expect("a readable path");
    let (seed, public) = nkey();
    let file = tracemq.write("seed", &seed);
    let file = file.to_str().expect("a readable path");
    let users = format!("users: [ {{ nkey: {public} }} ]");
    let server = NatsServer::builder()
        .jetstream()
        .tls(&certificates)
        .secure_websocket(&certificates)
        .authorization(&users)
        .start();
    for url in
        [format!("tls://localhost:{}", server.port()), format!("nats+wss://localhost:{}", server.web_port())]
    {
        let run = |arguments: &[&str]| {
            let (verb, rest) = arguments.split_first().expect("a verb");
            let login = ["--tls-ca", ca, "--nkey-file", file];
            tracemq.cmd([verb, url.as_str()]).args(rest).args(login).finish().expect(0).text()
        };
        run(&["pub", "k", "v", "--bucket", "b", "--create-bucket"]);
        assert_eq!(run(&["sub", "--bucket", "b", "--to-end", "--format", "raw"]), "v\n");
        assert!(run(&["list", "buckets"]).contains("b "));
    }
}

#[test]
fn messages_larger_than_a_request_may_fetch_come_too() {
    let (tracemq, server, _wire) = orders();
    let line = "x".repeat(100_000);
    let text: String = (0..20).map(|number| format!("{number}{line}\n")).collect();
    let publish = tracemq.cmd(["pub", &server.url(), "orders.large", "--jetstream", "--lines"]);
    publish.stdin(text.clone()).finish().expect(0);
    let flags =
        ["sub", &server.url(), "--stream", "ORDERS", "--to-end", "--format", "raw", "--buffer", "64KiB"];
    assert!(tracemq.cmd(flags).limit(LONG).finish().expect(0).text() == text, "all, and in order");
}
