//! Key-value buckets against nats-server 2.9, with nats-py as another client of them.

use serde_json::{Value, json as object};
use std::time::Duration;
use tracemq_tests::{Cmd, NatsServer, Tracemq, json};

fn lines(output: &[String]) -> Vec<Value> {
    output.iter().map(|line| json(line)).collect()
}

#[test]
fn keys_are_put_updated_read_and_deleted() {
    let (tracemq, server) = (Tracemq::new(), NatsServer::with_jetstream());
    let url = server.url();
    let put = |arguments: &[&str]| {
        tracemq.cmd(["pub", &url]).args(arguments).args(["--bucket", "conf", "--json"]).finish()
    };
    let get = |key: &str, more: &[&str]| {
        tracemq.cmd(["request", &url, key, "--bucket", "conf"]).args(more).finish()
    };

    put(&["a.b", "1"]).expect_failure(1, &["no bucket conf", "--create-bucket"]);
    get("a.b", &[]).expect_failure(1, &["no bucket \"conf\""]);
    let first = put(&["a.b", "1", "--create-bucket"]).expect(0);
    assert_eq!(json(&first.lines()[0])["details"], object!({"bucket": "conf", "revision": 1}));
    put(&["a.b", "2", "--create-bucket"]).expect(0);
    let shown = json(&get("a.b", &["--format", "json"]).expect(0).lines()[0]);
    assert_eq!((&shown["topic"], &shown["payload"]), (&"a.b".into(), &"2".into()));
    assert_eq!(
        (&shown["meta"]["bucket"], &shown["meta"]["revision"], &shown["meta"]["operation"]),
        (&"conf".into(), &2.into(), &"PUT".into())
    );

    put(&["a.b", "3", "--create"]).expect_failure(1, &["a.b", "already", "revision 2"]);
    put(&["a.b", "3", "--expect-last-sequence", "1"]).expect_failure(1, &["wrong last sequence: 2"]);
    put(&["a.b", "3", "--expect-last-sequence", "2"]).expect(0);
    assert_eq!(get("a.b", &["--format", "raw"]).expect(0).lines(), ["3"]);
    get("none", &[]).expect_failure(6, &["no key \"none\""]);

    put(&["a.b", "--empty", "--delete"]).expect(0);
    get("a.b", &[]).expect_failure(6, &["deleted at revision 4"]);
    let anew = json(&put(&["a.b", "4", "--create"]).expect(0).lines()[0]);
    assert_eq!(anew["details"]["revision"], 5, "a deleted key can be created");
    put(&["a.b", "--empty", "--purge"]).expect(0);
    get("a.b", &[]).expect_failure(6, &["deleted"]);

    put(&["a b", "1"]).expect_failure(2, &["a b", "space"]);
    put(&["a.*", "1"]).expect_failure(2, &["a.*"]);
    put(&["a", "1", "--delete", "--purge"]).expect_failure(2, &["--delete and --purge"]);
    tracemq.cmd(["pub", &url, "a", "1", "--bucket", "b.c"]).finish().expect_failure(2, &["--bucket", "b.c"]);
    tracemq.cmd(["pub", &url, "a", "1", "--create"]).finish().expect_failure(2, &["--create", "--bucket"]);
    get("a.b", &["a value"]).expect_failure(2, &["PAYLOAD", "pub"]);
    get("a", &["--delete"]).expect_failure(2, &["--delete", "pub"]);
}

#[test]
fn a_watch_shows_what_there_is_and_then_what_changes() {
    let (tracemq, server) = (Tracemq::new(), NatsServer::with_jetstream());
    let url = server.url();
    let put = |key: &str, value: &str, more: &[&str]| {
        tracemq
            .cmd(["pub", &url, key, value, "--bucket", "w", "--create-bucket"])
            .args(more)
            .finish()
            .expect(0)
    };
    let watch =
        |arguments: &[&str]| tracemq.cmd(["sub", &url, "--bucket", "w", "--format", "json"]).args(arguments);
    tracemq
        .cmd(["sub", &url, "--bucket", "w"])
        .finish()
        .expect_failure(1, &["no bucket \"w\"", "--create-bucket"]);
    put("a.x", "1", &[]);
    put("a.x", "2", &[]);
    put("b", "3", &[]);
    let all = lines(&watch(&["--to-end"]).finish().expect(0).lines());
    let shown: Vec<_> =
        all.iter().map(|line| (&line["topic"], &line["payload"], &line["meta"]["revision"])).collect();
    assert_eq!(shown, [(&"a.x".into(), &"2".into(), &2.into()), (&"b".into(), &"3".into(), &3.into())]);
    assert_eq!(watch(&["c.>", "--to-end"]).finish().expect(0).text(), "");

    let run = watch(&["a.*"]).start();
    run.wait_stdout_lines(1, Duration::from_secs(20));
    put("a.y", "4", &[]);
    put("b", "5", &[]);
    tracemq.cmd(["pub", &url, "a.x", "--empty", "--bucket", "w", "--delete"]).finish().expect(0);
    run.wait_stdout_lines(3, Duration::from_secs(20));
    let lines = lines(&run.interrupt().lines());
    let shown: Vec<_> = lines.iter().map(|line| (&line["topic"], &line["meta"]["operation"])).collect();
    assert_eq!(
        shown,
        [(&"a.x".into(), &"PUT".into()), (&"a.y".into(), &"PUT".into()), (&"a.x".into(), &"DEL".into())]
    );
}

#[test]
fn buckets_are_listed() {
    let (tracemq, server) = (Tracemq::new(), NatsServer::with_jetstream());
    let url = server.url();
    for bucket in ["one", "two"] {
        tracemq.cmd(["pub", &url, "k", "v", "--bucket", bucket, "--create-bucket"]).finish().expect(0);
    }
    let buckets = lines(&tracemq.cmd(["list", &url, "buckets", "--json"]).finish().expect(0).lines());
    let shown: Vec<_> =
        buckets.iter().map(|bucket| (&bucket["bucket"], &bucket["values"], &bucket["history"])).collect();
    assert_eq!(shown, [(&"one".into(), &1.into(), &1.into()), (&"two".into(), &1.into(), &1.into())]);
    tracemq.cmd(["sub", &url, "--bucket", "three"]).finish().expect_failure(1, &["three", "one, two"]);
}

#[test]
fn nats_py_and_we_have_the_same_buckets() {
    let (tracemq, server) = (Tracemq::new(), NatsServer::with_jetstream());
    let url = server.url();
    let script = |text: &str| {
        let text = format!(
            "import asyncio, nats\nasync def main():\n    nc = await nats.connect('{url}')\n    js = nc.jetstream()\n{text}\n    await nc.close()\nasyncio.run(main())\n"
        );
        Cmd::python().arg("-c").arg(text).finish().expect(0)
    };
    script(
        "    kv = await js.create_key_value(bucket='py', history=5)\n    for i in range(3): await kv.put('k', b'v%d' % i)\n    await kv.delete('gone')",
    );
    let get = tracemq.cmd(["request", &url, "k", "--bucket", "py", "--format", "raw"]);
    assert_eq!(get.finish().expect(0).lines(), ["v2"]);
    tracemq.cmd(["request", &url, "gone", "--bucket", "py"]).finish().expect_failure(6, &["deleted"]);
    let history =
        tracemq.cmd(["sub", &url, "k", "--bucket", "py", "--deliver", "all", "--to-end", "--format", "raw"]);
    assert_eq!(history.finish().expect(0).lines(), ["v0", "v1", "v2"]);

    tracemq.cmd(["pub", &url, "k", "ours", "--bucket", "rs", "--create-bucket"]).finish().expect(0);
    tracemq.cmd(["pub", &url, "d", "x", "--bucket", "rs"]).finish().expect(0);
    tracemq.cmd(["pub", &url, "d", "--empty", "--bucket", "rs", "--delete"]).finish().expect(0);
    let read = script(
        "    kv = await js.key_value('rs')\n    e = await kv.get('k')\n    print(e.value.decode(), e.revision, await kv.keys())\n    await kv.put('p', b'theirs')",
    );
    assert_eq!(read.lines(), ["ours 1 ['k']"]);
    let get = tracemq.cmd(["request", &url, "p", "--bucket", "rs", "--format", "raw"]);
    assert_eq!(get.finish().expect(0).lines(), ["theirs"]);
}
