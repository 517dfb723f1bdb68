//! Connections that are lost: what is known of the messages then, and where the client goes.

use std::collections::BTreeSet;
use tracemq_tests::{LONG, NatsServer, NatsWire, SHORT, ScriptedNats, Tracemq, json, until};

#[test]
fn a_reconnect_shows_a_gap_and_subscribes_again() {
    let (tracemq, mut server) = (Tracemq::new(), NatsServer::plain());
    let flags = ["sub", &server.url(), "a", "-C", "2", "--format", "json"];
    let sub = tracemq.subscribed(tracemq.cmd(flags));
    NatsWire::connect(server.port()).publish("a", "before");
    sub.wait_stdout("before");
    server.kill();
    sub.wait_stderr("reconnecting");
    server.start();
    sub.wait_stderr("gap:");
    NatsWire::connect(server.port()).publish("a", "after");
    let done = sub.wait().expect(0);
    let lines: Vec<_> = done.lines().iter().map(|line| json(line)).collect();
    assert!(lines[0]["meta"]["gap"].is_null() && lines[1]["meta"]["gap"] == true, "{done:?}");
}

#[test]
fn without_reconnect_a_drop_is_final() {
    let (tracemq, mut server) = (Tracemq::new(), NatsServer::plain());
    let sub = tracemq.subscribed(tracemq.cmd(["sub", &server.url(), "a", "--no-reconnect"]));
    server.kill();
    sub.wait().expect(1);
}

#[test]
fn what_is_left_of_a_maximum_is_asked_for_again() {
    let tracemq = Tracemq::new();
    let server = ScriptedNats::new();
    let flags = ["sub", &server.url(), "a", "--unsubscribe-after", "3", "--format", "raw"];
    let sub = tracemq.cmd(flags).start();
    let mut client = server.accept();
    assert_eq!([client.raw_line(), client.raw_line(), client.raw_line()], ["SUB a 1", "UNSUB 1 3", "PING"]);
    client.send("PONG\r\nMSG a 1 1\r\n1\r\n");
    sub.wait_stdout("1");
    client.close();
    let mut client = server.accept();
    assert_eq!([client.raw_line(), client.raw_line()], ["SUB a 1", "UNSUB 1 2"]);
    client.send("MSG a 1 1\r\n2\r\nMSG a 1 1\r\n3\r\n");
    assert_eq!(sub.wait().expect(0).lines(), ["1", "2", "3"]);
}

#[test]
fn others_of_the_cluster_are_learnt_even_later_and_a_server_that_goes_is_left() {
    let tracemq = Tracemq::new();
    let (first, second) = (ScriptedNats::new(), ScriptedNats::new());
    let sub = tracemq.cmd(["sub", &first.url(), "a", "-C", "1", "--format", "raw"]).start();
    let mut client = first.accept_subscriber();
    let other = second.url().replace("nats://", "");
    client.send(format!("INFO {{\"server_id\":\"S\",\"headers\":true,\"connect_urls\":[\"{other}\"]}}\r\n"));
    client.send(format!(
        "INFO {{\"server_id\":\"S\",\"headers\":true,\"ldm\":true,\"connect_urls\":[\"{other}\"]}}\r\n"
    ));
    // What is on its way is waited for.
    assert_eq!(client.raw_line(), "PING");
    client.send("PONG\r\n");
    sub.wait_stderr("lame duck");
    let mut client = second.accept();
    assert_eq!(client.raw_line(), "SUB a 1");
    client.send("MSG a 1 2\r\nok\r\n");
    assert_eq!(sub.wait().expect(0).lines(), ["ok"]);
}

#[test]
fn a_real_server_in_lame_duck_mode_is_left_for_another() {
    let tracemq = Tracemq::new();
    let nodes = NatsServer::cluster_of_3(|node| node);
    let flags = ["sub", &nodes[0].url(), "a", "-C", "1", "--format", "raw"];
    let sub = tracemq.subscribed(tracemq.cmd(flags));
    nodes[0].signal(libc::SIGUSR2);
    sub.wait_stderr("lame duck");
    sub.wait_stderr("gap:");
    let mut publisher = NatsWire::connect(nodes[1].port());
    let came = until(SHORT, || {
        publisher.publish("a", "x");
        (sub.stdout_lines() > 0).then_some(())
    });
    assert!(came.is_some(), "{sub:?}");
    assert_eq!(sub.wait().expect(0).lines(), ["x"]);
}

/// Subscriber and publisher have their connections at the node that is killed, and are told of the others by it alone.
#[test]
fn a_node_of_three_dies_while_there_is_traffic() {
    const BEFORE: usize = 20_000;
    let tracemq = Tracemq::new();
    let mut nodes = NatsServer::cluster_of_3(|node| node);
    let url = nodes[0].url();
    let sub = tracemq.subscribed(tracemq.cmd(["sub", &url, "t.>", "--format", "raw"]).limit(LONG));
    let steady =
        tracemq.subscribed(tracemq.cmd(["sub", &nodes[1].url(), "t.>", "--format", "raw"]).limit(LONG));
    let mut publishing =
        tracemq.cmd(["pub", &url, "t.x", "--lines", "--json"]).keep_stdin().limit(LONG).start();
    let lines = |from: usize, to: usize| (from..to).map(|number| format!("{number}\n")).collect::<String>();
    publishing.write(&lines(0, BEFORE));
    sub.wait_stdout_lines(BEFORE / 2, LONG);
    nodes[0].kill();
    publishing.write(&lines(BEFORE, 2 * BEFORE));
    sub.wait_stderr("gap:");
    publishing.write("last\n");
    publishing.close_stdin();
    let published = publishing.wait();
    assert!(published.stderr.contains("reconnecting"), "{published:?}");
    sub.wait_stdout_by(LONG, "last", &|line| line == "last");
    steady.wait_stdout_by(LONG, "last", &|line| line == "last");
    let outcomes: Vec<_> = published.lines().iter().map(|line| json(line)).collect();
    assert_eq!(outcomes.len(), 2 * BEFORE + 1, "an outcome for each");
    let received: BTreeSet<_> = steady.interrupt().lines().into_iter().collect();
    let mut unknown = 0;
    for (index, outcome) in outcomes.iter().enumerate().take(2 * BEFORE) {
        match outcome["status"].as_str() {
            // The node that took it may have died before it passed it on: only what comes after is certain.
            Some("sent") => {}
            Some("unconfirmed") => unknown += 1,
            other => panic!("{index}: {other:?}"),
        }
    }
    // At most what the host had on its way: 16 batches, and those that wait in the task.
    assert!(unknown <= 32 * 256, "{unknown} of unknown fate");
    assert!(received.len() + unknown >= BEFORE, "{} received, {unknown} unknown", received.len());
    assert_eq!(published.code(), if unknown > 0 { 1 } else { 0 }, "{published:?}");
    sub.interrupt();
}

#[test]
fn a_server_that_stands_still_is_given_up() {
    let (tracemq, server) = (Tracemq::new(), NatsServer::plain());
    let flags = ["sub", &server.url(), "a", "--ping-interval", "500ms", "--connect-timeout", "1s"];
    let sub = tracemq.subscribed(tracemq.cmd(flags));
    server.signal(libc::SIGSTOP);
    sub.wait_stderr("does not answer pings");
    server.signal(libc::SIGCONT);
    sub.wait_stderr("gap:");
    sub.interrupt().expect(130);
}

#[test]
fn what_is_published_in_the_moment_of_the_loss_is_sent_again_or_told_of() {
    let (tracemq, mut server) = (Tracemq::new(), NatsServer::with_jetstream());
    let url = server.url();
    for flags in
        [&["a"][..], &["k", "--bucket", "b", "--create-bucket"], &["k", "--bucket", "b", "--msg-id", "auto"]]
    {
        let publishing = tracemq.cmd(["pub", &url, "--lines", "--json"]).args(flags).keep_stdin().limit(LONG);
        let mut publishing = publishing.start();
        publishing.write("before\n");
        publishing.wait_stdout_lines(1, LONG);
        // It will find both at once: the end of the connection, and something to send.
        publishing.signal(libc::SIGSTOP);
        server.kill();
        publishing.write("meanwhile\n");
        publishing.signal(libc::SIGCONT);
        publishing.wait_stderr("reconnecting");
        server.start();
        publishing.wait_stdout_lines(2, LONG);
        publishing.close_stdin();
        let done = publishing.wait();
        let outcome = json(&done.lines()[1]);
        match outcome["status"].as_str() {
            Some("sent" | "acknowledged") => drop(done.expect(0)),
            Some("unconfirmed") => {
                let reason = outcome["reason"].as_str().expect("a reason");
                assert!(reason.contains("may or may not"), "{reason}");
                done.expect(1);
            }
            status => panic!("{status:?} {done:?}"),
        }
    }
}

/// A publisher waits for it, and says so.
#[test]
fn a_server_that_confirms_nothing_is_told_of() {
    let (tracemq, server) = (Tracemq::new(), NatsServer::plain());
    let flags = ["pub", &server.url(), "a", "--lines", "--json"];
    let mut publishing = tracemq.cmd(flags).keep_stdin().limit(LONG).start();
    publishing.write("before\n");
    publishing.wait_stdout("sent");
    server.signal(libc::SIGSTOP);
    publishing.write("meanwhile\n");
    publishing.wait_stderr("has confirmed nothing for 10 s");
    server.signal(libc::SIGCONT);
    publishing.wait_stdout_lines(2, LONG);
    publishing.close_stdin();
    let outcomes = publishing.wait().expect(0).lines();
    assert!(outcomes.iter().all(|line| json(line)["status"] == "sent"), "{outcomes:?}");
}

#[test]
fn an_idle_connection_stays() {
    let (tracemq, server) =
        (Tracemq::new(), NatsServer::builder().setting("ping_interval: \"200ms\"\nping_max: 2").start());
    let flags = ["sub", &server.url(), "a", "-W", "3s", "--ping-interval", "300ms"];
    let done = tracemq.cmd(flags).finish().expect(5);
    assert!(!done.stderr.contains("reconnecting"), "{done:?}");
}
