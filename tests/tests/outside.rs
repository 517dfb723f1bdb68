//! A stranger's plugin, built in a workspace of its own on the plugin API alone: dropped into the folder, it is a full citizen.

use tracemq_tests::{SHORT, Tracemq, outside_plugin, until};

fn with_ticker() -> Tracemq {
    let tracemq = Tracemq::new();
    tracemq.add_plugin(&outside_plugin());
    tracemq
}

#[test]
fn it_is_listed_and_described() {
    let tracemq = with_ticker();
    let done = tracemq.cmd(["plugin", "list"]).finish().expect(0);
    let line =
        done.lines().into_iter().find(|line| line.starts_with("ticker ")).expect("a line of the ticker");
    for part in ["0.3.0", "1.1.0", "publish,subscribe,serve", "trusted", "libtracemq_plugin_ticker.so"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    let done = tracemq.cmd(["plugin", "info", "ticker"]).finish().expect(0);
    for part in
        ["A clock, and a place to hand lines in", "--every", "--loud", "--bind", "What to call the clock"]
    {
        assert!(done.text().contains(part), "{part}\n{done:?}");
    }
}

#[test]
fn its_flags_are_flags() {
    let tracemq = with_ticker();
    let done = tracemq.cmd(["sub", "ticker://", "--help"]).finish().expect(0);
    assert!(done.text().contains("--every") && done.text().contains("Time between two ticks"), "{done:?}");
    tracemq
        .cmd(["sub", "ticker://", "tick", "--every", "often"])
        .finish()
        .expect_failure(2, &["--every", "often"]);
    tracemq.cmd(["sub", "ticker://", "tick", "--evry", "1s"]).finish().expect_failure(2, &["--evry"]);
}

#[test]
fn it_is_subscribed_to() {
    let tracemq = with_ticker();
    let done = tracemq
        .cmd([
            "sub",
            "ticker://",
            "wall/clock",
            "--label",
            "tock",
            "--every",
            "2ms",
            "-C",
            "3",
            "--format",
            "json",
        ])
        .finish()
        .expect(0);
    let first: serde_json::Value = serde_json::from_str(&done.lines()[0]).expect("JSON");
    assert_eq!(
        (&first["protocol"], &first["topic"], &first["payload"], &first["meta"]["tick"]),
        (&"ticker".into(), &"wall/clock".into(), &"tock 1".into(), &1.into()),
    );
    assert_eq!(first["headers"], serde_json::json!([["clock", "tock"]]));
    assert_eq!(done.lines().len(), 3);
}

#[test]
fn it_serves_what_it_publishes() {
    let tracemq = with_ticker();
    let server = tracemq
        .cmd(["serve", "ticker", "--bind", "127.0.0.1:0", "--key", "env:TICKER_KEY"])
        .env("TICKER_KEY", "open-up")
        .start();
    let url = server.wait_stdout("ticker://");
    let url = url.split_whitespace().find(|word| word.starts_with("ticker://")).expect("its address");
    tracemq
        .cmd(["pub", url, "wall/clock", "wind it", "--loud", "--key", "env:TICKER_KEY"])
        .env("TICKER_KEY", "open-up")
        .finish()
        .expect(0);
    server.wait_stdout("WIND IT");
    tracemq
        .cmd(["pub", url, "wall/clock", "let me in", "--key", "env:TICKER_KEY"])
        .env("TICKER_KEY", "let-me-in")
        .finish()
        .expect_failure(4, &["wrong key"]);
    assert!(!server.stdout().contains("let me in"));
    let done = server.interrupt().expect(0);
    assert!(!format!("{done:?}").contains("open-up"), "a secret was shown");
    let gone = until(SHORT, || {
        let done = tracemq.cmd(["pub", url, "wall/clock", "x"]).finish();
        (done.code() == 3).then_some(())
    });
    assert!(gone.is_some(), "it still answers after its end");
}

/// A profile is the same plugin's options in a file.
#[test]
fn its_options_stand_in_a_profile() {
    let tracemq = with_ticker();
    tracemq.cmd(["profile", "add", "clock", "ticker://", "--label", "cuckoo"]).finish().expect(0);
    let done =
        tracemq.cmd(["sub", "clock", "t", "--every", "1ms", "-C", "1", "--format", "raw"]).finish().expect(0);
    assert_eq!(done.text(), "cuckoo 1\n");
}
