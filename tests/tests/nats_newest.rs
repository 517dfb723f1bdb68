//! The newest nats-server: what Debian's 2.9 does not have, and what it does otherwise.

use serde_json::json as object;
use tracemq_tests::{Certificates, NatsServer, NatsWire, Tracemq, json};

fn with_jetstream() -> (Tracemq, NatsServer) {
    let server = NatsServer::builder().newest().jetstream().start();
    let info = NatsWire::connect(server.port()).info;
    assert!(info.contains("\"version\":\"2.15."), "{info}");
    (Tracemq::new(), server)
}

#[test]
fn core_messages_and_requests() {
    let (tracemq, server) = (Tracemq::new(), NatsServer::builder().newest().start());
    let url = server.url();
    let sub = tracemq.subscribed(tracemq.cmd(["sub", &url, "a.>", "-C", "1", "--format", "json"]));
    tracemq.cmd(["pub", &url, "a.b", "x", "-H", "k=v"]).finish().expect(0);
    let got = json(&sub.wait().expect(0).lines()[0]);
    assert_eq!((&got["payload"], &got["headers"]), (&"x".into(), &object!([["k", "v"]])));
    tracemq.cmd(["request", &url, "nobody", "x"]).finish().expect_failure(6, &["503"]);
    let stored = tracemq.cmd(["pub", &url, "a", "x", "--jetstream"]).finish();
    stored.expect_failure(1, &["JetStream is not enabled"]);
}

#[test]
fn one_consumer_has_several_filters() {
    let (tracemq, server) = with_jetstream();
    let mut wire = NatsWire::connect(server.port());
    wire.make_stream("ORDERS", &["orders.>"]);
    for (subject, payload) in [("orders.a", "1"), ("orders.b", "2"), ("orders.c", "3"), ("orders.a", "4")] {
        wire.publish(subject, payload);
    }
    let read = |arguments: &[&str]| {
        let flags = ["sub", &server.url(), "--stream", "ORDERS", "--to-end", "--format", "raw"];
        tracemq.cmd(flags).args(arguments).finish().expect(0).lines()
    };
    assert_eq!(read(&["--filter", "orders.a", "--filter", "orders.c"]), ["1", "3", "4"]);
    assert_eq!(read(&["orders.b", "orders.c"]), ["2", "3"]);
    assert_eq!(read(&["orders.b", "orders.c", "--durable", "d"]), ["2", "3"]);
    let listed = tracemq.cmd(["list", &server.url(), "consumers", "--json"]).finish().expect(0);
    let filter = json(&listed.lines()[0])["filter"].as_str().map(str::to_owned);
    assert!(
        filter.is_some_and(|filter| filter.contains("orders.b") && filter.contains("orders.c")),
        "{listed:?}"
    );
}

#[test]
fn what_was_not_shown_comes_first_in_the_next_run() {
    let (tracemq, server) = with_jetstream();
    NatsWire::connect(server.port()).make_stream("ORDERS", &["orders.>"]);
    let publish = tracemq.cmd(["pub", &server.url(), "orders.n", "--jetstream", "--lines"]);
    publish.stdin("1\n2\n3\n4\n5\n6\n").finish().expect(0);
    let read = |arguments: &[&str]| {
        let flags = ["sub", &server.url(), "--stream", "ORDERS", "--durable", "d", "--format", "raw"];
        tracemq.cmd(flags).args(arguments).finish().expect(0).lines()
    };
    assert_eq!(read(&["-C", "2"]), ["1", "2"]);
    assert_eq!(read(&["--to-end"]), ["3", "4", "5", "6"]);
    assert_eq!(read(&["--to-end"]), [""; 0]);
}

#[test]
fn keys_are_put_read_and_deleted() {
    let (tracemq, server) = with_jetstream();
    let url = server.url();
    let put = |arguments: &[&str]| {
        tracemq.cmd(["pub", &url]).args(arguments).args(["--bucket", "conf", "--create-bucket"]).finish()
    };
    let get = |key: &str| tracemq.cmd(["request", &url, key, "--bucket", "conf", "--format", "raw"]).finish();
    put(&["a", "1"]).expect(0);
    put(&["a", "2"]).expect(0);
    put(&["b", "3"]).expect(0);
    assert_eq!(get("a").expect(0).lines(), ["2"]);
    put(&["a", "4", "--create"]).expect_failure(1, &["already"]);
    put(&["b", "--empty", "--delete"]).expect(0);
    get("b").expect_failure(6, &["deleted"]);
    put(&["b", "5", "--create"]).expect(0);
    let watch = tracemq.cmd(["sub", &url, "--bucket", "conf", "--to-end", "--format", "raw"]);
    assert_eq!(watch.finish().expect(0).lines(), ["2", "5"]);
    let buckets = tracemq.cmd(["list", &url, "buckets", "--json"]).finish().expect(0);
    assert_eq!(json(&buckets.lines()[0])["bucket"], "conf");
}

#[test]
fn tls_before_the_first_word() {
    let (tracemq, certificates) = (Tracemq::new(), Certificates::new());
    let (cert, key) = (certificates.server.cert.display(), certificates.server.key.display());
    let tls = format!("tls {{ cert_file: \"{cert}\", key_file: \"{key}\", handshake_first: true }}");
    let server = NatsServer::builder().newest().jetstream().setting(&tls).start();
    let url = format!("tls://localhost:{}", server.port());
    let run = |arguments: &[&str]| {
        let (verb, rest) = arguments.split_first().expect("a verb");
        tracemq.cmd([verb, url.as_str()]).args(rest).arg("--tls-ca").arg(&certificates.ca).finish()
    };
    run(&["pub", "a", "x", "--tls-first"]).expect(0);
    run(&["pub", "k", "v", "--bucket", "b", "--create-bucket", "--tls-first"]).expect(0);
    run(&["list", "buckets", "--tls-first"]).expect(0);
    run(&["pub", "a", "x"]).expect_failure(3, &["--tls-first"]);
}
