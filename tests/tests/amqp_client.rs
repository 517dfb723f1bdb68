//! `tracemq pub` and `sub` against brokers of AMQP 1.0 that this project did not write: Qpid Proton and RabbitMQ.

use std::collections::BTreeSet;

use tracemq_tests::amqp::ProtonBroker;
use tracemq_tests::{Certificates, LONG, RabbitMq, Tracemq, json, until};

#[test]
fn a_message_arrives_with_all_that_it_carries() {
    let (tracemq, proton, rabbit) = (Tracemq::new(), ProtonBroker::new(), RabbitMq::new());
    for url in [proton.url("q"), rabbit.url("q")] {
        let done = tracemq
            .cmd(["pub", &url, "21.5", "-H", "unit=C", "--json", "--durable", "--message-id", "m1"])
            .args([
                "--content-type",
                "text/plain",
                "--subject",
                "s",
                "--reply-to",
                "r",
                "--correlation-id",
                "c",
            ])
            .finish()
            .expect(0);
        assert_eq!(json(&done.lines()[0])["status"], "acknowledged", "{url}");
        let done = tracemq.cmd(["sub", &url, "-C", "1", "--format", "json", "-W", "60"]).finish().expect(0);
        let got = json(&done.lines()[0]);
        assert_eq!((&got["topic"], &got["payload"]), (&"q".into(), &"21.5".into()), "{got}");
        assert_eq!(got["headers"], serde_json::json!([["unit", "C"]]), "{got}");
        for (name, value) in
            [("message_id", "m1"), ("content_type", "text/plain"), ("subject", "s"), ("correlation_id", "c")]
        {
            assert_eq!(got["meta"][name], value, "{name}: {got}");
        }
        assert_eq!(got["meta"]["durable"], true, "{got}");
    }
}

#[test]
fn a_flood_arrives_whole_and_in_order() {
    let (tracemq, proton, rabbit) = (Tracemq::new(), ProtonBroker::new(), RabbitMq::new());
    let lines: String = (0..5000).map(|number| format!("line {number}\n")).collect();
    for url in [proton.url("flood"), rabbit.url("flood")] {
        tracemq.cmd(["pub", &url, "--lines"]).stdin(lines.as_str()).limit(LONG).finish().expect(0);
        let sub =
            tracemq.cmd(["sub", &url, "-C", "5000", "--format", "raw", "--prefetch", "300"]).limit(LONG);
        assert_eq!(sub.finish().expect(0).text(), lines, "{url}");
    }
}

#[test]
fn a_topic_is_another_queue_than_that_of_the_url() {
    let (tracemq, proton) = (Tracemq::new(), ProtonBroker::new());
    let url = proton.url("one");
    tracemq.cmd(["pub", &url, "two", "to two"]).finish().expect(0);
    tracemq.cmd(["pub", &url, "to one"]).finish().expect(0);
    let both = tracemq.cmd(["sub", &url, "one", "two", "-C", "2", "--format", "{{topic}} {{payload}}"]);
    let both: BTreeSet<String> = both.finish().expect(0).lines().into_iter().collect();
    assert_eq!(both, BTreeSet::from(["one to one".to_owned(), "two to two".to_owned()]));
    let none = format!("amqp://127.0.0.1:{}", proton.port());
    tracemq.cmd(["pub", &none, "x"]).finish().expect_failure(2, &["no queue is named"]);
    tracemq.cmd(["sub", &none]).finish().expect_failure(2, &["no queue is named"]);
}

/// Links that are closed while transfers are on their way must neither lose a message nor take one twice; and the broker must
/// see the links closed, not the connection lost.
#[test]
fn a_hundred_readers_come_and_go_and_no_message_is_lost() {
    const READERS: usize = 100;
    const EACH: usize = 5;
    let (tracemq, proton, rabbit) = (Tracemq::new(), ProtonBroker::new(), RabbitMq::new());
    let lines: String = (0..2 * READERS * EACH).map(|number| format!("{number}\n")).collect();
    for url in [proton.url("turns"), rabbit.url("turns")] {
        tracemq.cmd(["pub", &url, "--lines"]).stdin(lines.as_str()).limit(LONG).finish().expect(0);
        let mut seen = BTreeSet::new();
        for _ in 0..READERS {
            let sub = tracemq.cmd(["sub", &url, "-C", &EACH.to_string(), "--format", "raw", "-W", "60"]);
            let done = sub.finish().expect(0);
            for line in done.lines() {
                assert!(seen.insert(line.parse::<usize>().expect("a number")), "{line} came twice: {done:?}");
            }
        }
        let rest = (READERS * EACH).to_string();
        let rest = tracemq.cmd(["sub", &url, "-C", &rest, "--format", "raw"]).limit(LONG).finish().expect(0);
        seen.extend(rest.lines().iter().map(|line| line.parse::<usize>().expect("a number")));
        assert_eq!(seen.len(), 2 * READERS * EACH, "{url}");
    }
    let said = proton.run().stdout();
    assert!(said.matches("link closed").count() > READERS, "{said}");
    assert!(!said.contains("disconnected"), "{said}");
}

/// One that takes a message and stops leaves all others to the next.
#[test]
fn no_more_is_fetched_than_asked_for() {
    let (tracemq, proton, rabbit) = (Tracemq::new(), ProtonBroker::new(), RabbitMq::new());
    for url in [proton.url("shared"), rabbit.url("shared")] {
        let stopped = tracemq.cmd(["sub", &url, "--prefetch", "1"]).start();
        stopped.wait_stderr("subscribed");
        stopped.signal(libc::SIGSTOP);
        let other = tracemq.cmd(["sub", &url, "-C", "9", "--format", "raw"]).limit(LONG).start();
        other.wait_stderr("subscribed");
        let lines: String = (0..10).map(|number| format!("{number}\n")).collect();
        tracemq.cmd(["pub", &url, "--lines"]).stdin(lines.as_str()).limit(LONG).finish().expect(0);
        other.wait().expect(0);
        stopped.signal(libc::SIGKILL);
    }
}

/// What was not shown stays in the queue.
#[test]
fn a_message_is_accepted_when_it_was_shown_and_not_before() {
    let (tracemq, rabbit) = (Tracemq::new(), RabbitMq::new());
    let url = rabbit.url("kept");
    let lines: String = (0..3000).map(|number| format!("{number} {}\n", "x".repeat(1000))).collect();
    tracemq.cmd(["pub", &url, "--lines"]).stdin(lines.as_str()).limit(LONG).finish().expect(0);
    // Nobody reads its output: when the pipe is full, nothing more is shown.
    let mut stuck = tracemq.cmd(["sub", &url, "--format", "raw"]).leave_stdout().start();
    stuck.wait_stderr("subscribed");
    // Most of the 64 KiB that a pipe holds.
    until(LONG, || (stuck.unread_stdout() > 48 << 10).then_some(())).expect("the pipe fills");
    stuck.signal(libc::SIGKILL);
    stuck.read_stdout();
    let shown = stuck.wait().lines().len();
    assert!(shown < 3000, "the pipe took all");
    let sub = tracemq.cmd(["sub", &url, "-W", "5", "--format", "raw"]).limit(LONG).finish();
    let left: BTreeSet<usize> = sub
        .lines()
        .iter()
        .map(|line| line.split(' ').next().and_then(|number| number.parse().ok()).expect("a number"))
        .collect();
    let unshown: BTreeSet<usize> = (shown..3000).collect();
    assert!(unshown.is_subset(&left), "{shown} were shown, {} are left", left.len());
}

#[test]
fn who_is_refused_is_told_and_ends_with_4() {
    let (tracemq, rabbit) = (Tracemq::new(), RabbitMq::new());
    let url = format!("amqp://127.0.0.1:{}/q", rabbit.port());
    let wrong = tracemq.cmd(["pub", &url, "x", "--username", "guest", "--password", "hunter2"]);
    let done = wrong.finish().expect_failure(4, &["refused the login", "--password"]);
    assert!(!done.stderr.contains("hunter2"), "{done:?}");
    let stranger = tracemq.cmd(["sub", &url, "--username", "stranger", "--password", "guest"]);
    stranger.finish().expect_failure(4, &["refused the login"]);
    let external = tracemq.cmd(["pub", &url, "x", "--sasl", "external"]);
    external.finish().expect_failure(2, &["amqps"]);
    let unknown = tracemq.cmd(["pub", &rabbit.url(""), "/exchange/none", "x"]);
    unknown.finish().expect_failure(1, &["/exchange/none"]);
    let unknown = tracemq.cmd(["sub", &rabbit.url(""), "/amq/queue/none"]);
    unknown.finish().expect_failure(1, &["/amq/queue/none"]);
}

#[test]
fn by_tls_with_a_password_or_a_certificate() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let rabbit = RabbitMq::secure(&certificates);
    let url = format!("amqps://127.0.0.1:{}/q", rabbit.port());
    let ca = certificates.ca.to_str().expect("a path of ours");
    let path = |path: &std::path::Path| path.to_str().expect("a path of ours").to_owned();
    let client = [&certificates.client.cert, &certificates.client.key].map(|file| path(file));
    let command = |words: &[&str]| tracemq.cmd(words).args(["--tls-ca", ca]);
    let plain = ["--username", "test-client", "--password", "guest"];
    command(&["pub", &url, "by password"]).args(plain).finish().expect(0);
    let external = ["--sasl", "external", "--tls-cert", &client[0], "--tls-key", &client[1]];
    command(&["pub", &url, "by certificate"]).args(external).finish().expect(0);
    let sub = command(&["sub", &url, "-C", "2", "--format", "raw"]).args(external).finish().expect(0);
    assert_eq!(sub.lines(), ["by password", "by certificate"]);
    let nameless = command(&["pub", &url, "x", "--sasl", "external"]);
    nameless.finish().expect_failure(4, &["SASL"]);
    command(&["pub", &url, "x", "--username", "test-client", "--password", "no"]).finish().expect(4);
    tracemq.cmd(["pub", &url, "x"]).args(plain).finish().expect_failure(3, &["--tls-ca"]);
}

#[test]
fn tls_that_the_server_does_not_speak_is_told() {
    let (tracemq, proton, certificates) = (Tracemq::new(), ProtonBroker::new(), Certificates::new());
    let url = format!("amqps://127.0.0.1:{}/q", proton.port());
    let done = tracemq.cmd(["pub", &url, "x", "--tls-ca"]).arg(&certificates.ca);
    done.finish().expect_failure(3, &["TLS"]);
}

#[test]
fn a_reader_goes_on_when_the_broker_comes_back() {
    let tracemq = Tracemq::new();
    let broker = ProtonBroker::new();
    let (port, url) = (broker.port(), broker.url("again"));
    let sub = tracemq.cmd(["sub", &url, "-C", "2", "--format", "raw"]).limit(LONG).start();
    sub.wait_stderr("subscribed");
    tracemq.cmd(["pub", &url, "before"]).finish().expect(0);
    sub.wait_stdout("before");
    drop(broker);
    sub.wait_stderr("next attempt");
    let broker = ProtonBroker::on(port);
    tracemq.cmd(["pub", &broker.url("again"), "after"]).finish().expect(0);
    assert_eq!(sub.wait().expect(0).lines(), ["before", "after"]);

    let sub = tracemq.cmd(["sub", &url, "--no-reconnect"]).start();
    sub.wait_stderr("subscribed");
    drop(broker);
    sub.wait().expect_failure(1, &["queue"]);
}
