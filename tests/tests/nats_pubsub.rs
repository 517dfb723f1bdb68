//! Publish, subscribe and request with core NATS, against nats-server.

use std::time::Duration;
use tracemq_tests::{NatsServer, NatsWire, Tracemq, json};

#[test]
fn headers_replies_and_any_payload_arrive_as_they_were_sent() {
    let (tracemq, server) = (Tracemq::new(), NatsServer::plain());
    let mut witness = NatsWire::connect(server.port());
    witness.send("SUB a.> 1\r\n");
    witness.round_trip();
    let flags =
        ["pub", &server.url(), "a.b", "hällo", "-H", "k=v", "-H", "k=w: x", "-H", "empty=", "--reply", "r.s"];
    tracemq.cmd(flags).finish().expect(0);
    let (subject, reply, body) = witness.message();
    assert_eq!((subject.as_str(), reply.as_deref()), ("a.b", Some("r.s")));
    assert_eq!(body, "NATS/1.0\r\nk: v\r\nk: w: x\r\nempty: \r\n\r\nhällo");
    tracemq.cmd(["pub", &server.url(), "a.c", "--empty"]).finish().expect(0);
    assert_eq!(witness.message(), ("a.c".into(), None, String::new()));

    let flags = ["sub", &server.url(), "b.*", "c.>", "-C", "4", "--format", "json"];
    let sub = tracemq.subscribed(tracemq.cmd(flags));
    witness.publish("b.1", "one");
    witness.send("PUB c.x.y r 2\r\n\r\n\r\n");
    witness.send(b"HPUB c.z 19 19\r\nNATS/1.0\r\nna: \xe9\r\n\r\n\r\n");
    witness.publish("b.1.2", "not subscribed to");
    witness.send("HPUB b.2 12 13\r\nNATS/1.0\r\n\r\nx\r\n");
    let lines: Vec<_> = sub.wait().expect(0).lines().iter().map(|line| json(line)).collect();
    let topics: Vec<_> = lines.iter().map(|line| line["topic"].as_str().expect("a text")).collect();
    assert_eq!(topics, ["b.1", "c.x.y", "c.z", "b.2"]);
    assert_eq!((&lines[1]["payload"], &lines[1]["meta"]["reply"]), (&"\r\n".into(), &"r".into()));
    assert_eq!(lines[3]["payload"], "x");
}

#[test]
fn the_prefix_is_added_and_taken_off_everywhere() {
    let (tracemq, server) = (Tracemq::new(), NatsServer::plain());
    let mut witness = NatsWire::connect(server.port());
    witness.send("SUB > 1\r\n");
    witness.round_trip();
    let prefix = ["--subject-prefix", "team.x"];
    tracemq.cmd(["pub", &server.url(), "a", "1", "--reply", "back"]).args(prefix).finish().expect(0);
    assert_eq!(witness.message(), ("team.x.a".into(), Some("team.x.back".into()), "1".into()));

    let flags = ["sub", &server.url(), "a.*", "-C", "2", "--format", "json"];
    let sub = tracemq.subscribed(tracemq.cmd(flags).args(prefix));
    witness.send("PUB team.x.a.b team.x.r 1\r\n2\r\nPUB team.x.a.c elsewhere 1\r\n3\r\n");
    let lines: Vec<_> = sub.wait().expect(0).lines().iter().map(|line| json(line)).collect();
    let shown: Vec<_> = lines.iter().map(|line| (&line["topic"], &line["meta"]["reply"])).collect();
    assert_eq!(shown, [(&"a.b".into(), &"r".into()), (&"a.c".into(), &"elsewhere".into())]);

    let mut service = NatsWire::connect(server.port());
    service.send("SUB team.x.ask 1\r\n");
    service.round_trip();
    let request =
        tracemq.cmd(["request", &server.url(), "ask", "?", "--format", "json"]).args(prefix).start();
    let (_, reply, _) = service.message();
    let reply = reply.expect("a subject for the answer");
    assert!(reply.starts_with("team.x._INBOX."), "{reply}");
    service.publish(&reply, "!");
    let answer = json(&request.wait().expect(0).lines()[0]);
    assert_eq!(answer["payload"], "!");
    assert!(answer["topic"].as_str().is_some_and(|topic| topic.starts_with("_INBOX.")), "{answer}");
}

#[test]
fn a_queue_group_shares_and_a_maximum_takes_no_more_than_it_says() {
    const COUNT: usize = 200;
    let (tracemq, server) = (Tracemq::new(), NatsServer::plain());
    let member = |more: &[&str]| {
        let flags = ["sub", &server.url(), "work", "--queue-group", "g", "--format", "raw"];
        tracemq.subscribed(tracemq.cmd(flags).args(more))
    };
    let (all, few) = (member(&[]), member(&["--unsubscribe-after", "5"]));
    let lines: String = (0..COUNT).map(|number| format!("{number}\n")).collect();
    tracemq.cmd(["pub", &server.url(), "work", "--lines"]).stdin(lines).finish().expect(0);
    let few = few.wait().expect(0).lines();
    assert_eq!(few.len(), 5);
    all.wait_stdout_lines(COUNT - 5, Duration::from_secs(20));
    let mut seen: Vec<usize> =
        all.interrupt().lines().iter().chain(&few).map(|line| line.parse().expect("a number")).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..COUNT).collect::<Vec<_>>(), "each message at one member");
}

#[test]
fn a_request_is_answered_by_one_by_several_by_nobody_and_too_late() {
    let (tracemq, server) = (Tracemq::new(), NatsServer::plain());
    let request =
        |more: &[&str]| tracemq.cmd(["request", &server.url(), "ask", "?", "--format", "raw"]).args(more);
    request(&[]).finish().expect_failure(6, &["nobody", "ask", "503"]);

    let mut services = [NatsWire::connect(server.port()), NatsWire::connect(server.port())];
    for service in &mut services {
        service.send("SUB ask 1\r\n");
        service.round_trip();
    }
    let asked = request(&["--replies", "2", "-H", "k=v"]).start();
    for (index, service) in services.iter_mut().enumerate() {
        let (_, reply, body) = service.message();
        assert_eq!(body, "NATS/1.0\r\nk: v\r\n\r\n?");
        service.publish(&reply.expect("a subject for the answer"), &index.to_string());
    }
    let mut answers = asked.wait().expect(0).lines();
    answers.sort();
    assert_eq!(answers, ["0", "1"]);
    request(&["-W", "300ms"]).finish().expect_failure(5, &["no answer"]);
}

#[test]
fn what_can_not_be_published_is_refused_with_a_reason() {
    let (tracemq, server) = (Tracemq::new(), NatsServer::builder().setting("max_payload: 1000").start());
    let url = server.url();
    let publish = |arguments: &[&str]| tracemq.cmd(["pub", &url]).args(arguments);
    for (subject, why) in
        [("a..b", "empty token"), ("a b", "space"), ("a.*", "wildcard"), ("", "empty"), (".a", "empty token")]
    {
        publish(&[subject, "x"]).finish().expect_failure(2, &["TOPIC", why]);
    }
    publish(&["a", "x", "--reply", "r r"]).finish().expect_failure(2, &["--reply", "space"]);
    tracemq.cmd(["sub", &url, "a.>.b"]).finish().expect_failure(2, &["TOPIC", "last token"]);
    tracemq.cmd(["sub", &url, "a", "--queue-group", "a b"]).finish().expect_failure(2, &["--queue-group"]);
    // A longer line than a server takes would end the connection.
    let long = "s".repeat(3000);
    publish(&[&"s".repeat(3801), "x"]).finish().expect_failure(2, &["TOPIC", "3800"]);
    publish(&[&long, "x"]).finish().expect(0);
    publish(&[&long, "x", "--reply", &long]).finish().expect_failure(1, &["reply", "4000"]);
    publish(&[&long, "x", "--subject-prefix", &long]).finish().expect_failure(1, &["prefix", "4000"]);
    tracemq.cmd(["sub", &url, "a", "--queue-group", &"g".repeat(4000)]).finish().expect_failure(2, &["4000"]);
    publish(&["a", &"x".repeat(1001)]).finish().expect_failure(1, &["max_payload", "1000", "1001"]);
    publish(&["a", &"x".repeat(990), "-H", "k=v"]).finish().expect_failure(1, &["max_payload"]);
    publish(&["a", &"x".repeat(1000)]).finish().expect(0);
    publish(&["a", "x", "-H", "a b=c"]).finish().expect_failure(1, &["header name"]);
}

#[test]
fn own_messages_come_back_unless_told_not_to() {
    let (tracemq, server) = (Tracemq::new(), NatsServer::plain());
    let mut client = NatsWire::connect(server.port());
    let flags = ["request", &server.url(), "_INBOX.own", "echo", "--reply", "_INBOX.own", "--format", "raw"];
    // The question goes to the subject on which answers are awaited.
    let answer = tracemq.cmd(flags).finish().expect(0);
    assert_eq!(answer.lines(), ["echo"]);
    client.send("SUB _INBOX.own 1\r\n");
    client.round_trip();
    tracemq.cmd(flags).args(["--no-echo", "-W", "500ms"]).finish().expect_failure(5, &["no answer"]);
    assert_eq!(client.message().2, "echo");
}
