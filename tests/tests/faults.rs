//! What becomes of the host when a plugin fails in the middle of its work: it lives, says what happened, and ends with the
//! status that scripts rely on.

use std::time::{Duration, Instant};
use tracemq_tests::{Cmd, SHORT, Tracemq, fixture, resident_kib, until};

fn with_faulty() -> Tracemq {
    let tracemq = Tracemq::new();
    tracemq.add_plugin(&fixture("faulty"));
    tracemq
}

/// A command that makes the call in which the fault is.
fn command(tracemq: &Tracemq, manner: &str, call: &str) -> Cmd {
    let url = format!("faulty://{manner}/{call}");
    let fault = format!("{manner}/{call}");
    match call {
        "publish" => tracemq.cmd(["pub", &url, "t", "x"]),
        "request" => tracemq.cmd(["request", &url, "t", "x"]),
        "list" => tracemq.cmd(["list", &url]),
        "serve" | "addresses" | "messages" => tracemq.cmd(["serve", "faulty", "--fault", &fault]),
        _ => tracemq.cmd(["sub", &url, "t"]),
    }
}

#[test]
fn a_panic_is_an_error_with_its_text() {
    let tracemq = with_faulty();
    for call in ["check", "connect", "publish", "subscribe", "next", "request", "list", "serve", "messages"] {
        let done = command(&tracemq, "panic", call).finish();
        let text = format!("the plugin panicked: the fault of {call}");
        let done = done.expect_failure(7, &[&text]);
        assert!(!done.stderr.contains("stack backtrace"), "{done:?}");
        // A server has an address before its messages fail.
        assert_eq!(done.text(), if call == "messages" { "faulty://nowhere\n" } else { "" }, "{done:?}");
    }
}

/// By then the work is done, and it is not undone by the fault; but the fault is told.
#[test]
fn a_panic_at_the_end_is_told() {
    let tracemq = with_faulty();
    for call in ["close", "drop"] {
        let url = format!("faulty://panic/{call}");
        for arguments in [&["pub", &url, "t", "x", "-v"][..], &["sub", &url, "t", "-C", "1", "-v"]] {
            let done = tracemq.cmd(arguments).finish().expect(0);
            assert!(done.stderr.contains(&format!("the fault of {call}")), "{done:?}");
        }
    }
}

#[test]
fn a_call_that_never_answers_ends_with_ctrl_c() {
    let tracemq = with_faulty();
    for call in ["connect", "publish", "subscribe", "next", "request", "list", "serve"] {
        let run = command(&tracemq, "hang", call).arg("-v").start();
        // A signal before that ends the process as the system does it; the plugin is loaded by then.
        let watches = || catches(run.pid(), libc::SIGTERM).then_some(());
        assert!(until(SHORT, watches).is_some(), "it does not watch for signals\n{run:?}");
        let done = run.interrupt();
        // Ctrl-C is how a server is ended, whatever it was at.
        assert_eq!(done.code(), if call == "serve" { 0 } else { 130 }, "{call}\n{done:?}");
    }
}

/// Whether a process has a handler for a signal.
fn catches(pid: u32, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[test]
fn a_close_that_never_answers_does_not_hold_the_command() {
    let tracemq = with_faulty();
    let started = Instant::now();
    tracemq.cmd(["pub", "faulty://hang/close", "t", "x"]).finish().expect(0);
    let done =
        tracemq.cmd(["sub", "faulty://hang/close", "t", "-C", "1", "--format", "raw"]).finish().expect(0);
    assert_eq!(done.lines().len(), 1);
    assert!(started.elapsed() < SHORT);
}

#[test]
fn w_ends_what_never_answers() {
    let tracemq = with_faulty();
    for (verb, manner, call) in [
        ("sub", "hang", "connect"),
        ("sub", "hang", "subscribe"),
        ("sub", "hang", "next"),
        ("sub", "empty", "next"),
        ("request", "hang", "connect"),
        ("request", "hang", "request"),
        ("request", "hang", "next"),
        ("list", "hang", "list"),
    ] {
        let url = format!("faulty://{manner}/{call}");
        let arguments: &[&str] = match verb {
            "request" => &["t", "x"],
            "list" => &[],
            _ => &["t"],
        };
        tracemq.cmd([verb, &url]).args(arguments).args(["-W", "300ms"]).finish().expect(5);
    }
}

#[test]
fn a_server_that_fails_at_its_end_ends() {
    let tracemq = with_faulty();
    for fault in ["panic/close", "panic/drop", "hang/close", "panic/addresses"] {
        let server = tracemq.cmd(["serve", "faulty", "--fault", fault, "-v"]).start();
        server.wait_stdout("xxx");
        let done = server.interrupt().expect(0);
        if let Some(call) = fault.strip_prefix("panic/").filter(|call| *call != "addresses") {
            assert!(done.stderr.contains(&format!("the fault of {call}")), "{done:?}");
        }
    }
}

#[test]
fn a_slow_plugin_is_waited_for() {
    let tracemq = with_faulty();
    for call in ["connect", "publish"] {
        tracemq.cmd(["pub", &format!("faulty://slow/{call}"), "t", "x"]).finish().expect(0);
    }
}

#[test]
fn a_wrong_number_of_outcomes_is_a_fault_of_the_plugin() {
    let tracemq = with_faulty();
    tracemq
        .cmd(["pub", "faulty://miscount/publish", "t", "x"])
        .finish()
        .expect_failure(7, &["told of 2 messages, not of the 1"]);
}

#[test]
fn a_message_that_points_outside_of_its_buffers_is_empty() {
    let tracemq = with_faulty();
    let done =
        tracemq.cmd(["sub", "faulty://garbage/next", "t", "-C", "2", "--format", "json"]).finish().expect(0);
    let message: serde_json::Value = serde_json::from_str(&done.lines()[0]).expect("JSON");
    assert_eq!((&message["topic"], &message["payload"]), (&"".into(), &"".into()));
    assert_eq!(message["headers"], serde_json::json!([["", ""]]));
}

#[test]
fn a_listing_that_is_none_is_a_fault_of_the_plugin() {
    let done = with_faulty().cmd(["list", "faulty://garbage/list"]).finish();
    assert!([1, 7].contains(&done.code()), "{done:?}");
    assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
}

#[test]
fn a_flood_of_events_is_bounded_and_told() {
    let done = with_faulty()
        .cmd(["sub", "faulty://flood/events", "t", "-C", "200", "--format", "raw"])
        .finish()
        .expect(0);
    assert_eq!(done.lines().len(), 200);
}

/// The promise: 64 MiB.
const MOST_KIB: u64 = 64 * 1024;

/// Floods a reader that does not read, for so long, and looks at the memory.
fn flood(arguments: &[&str], time: Duration) {
    let tracemq = with_faulty();
    let url = "faulty://flood/next";
    let run = tracemq.cmd(["sub", url, "t", "--format", "raw"]).args(arguments).leave_stdout().start();
    run.wait_stderr("subscribed");
    let end = Instant::now() + time;
    let mut peak = 0;
    while Instant::now() < end {
        peak = peak.max(resident_kib(run.pid()));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(peak < MOST_KIB, "{peak} KiB\n{run:?}");
    let mut run = run;
    // And what was held back comes as soon as somebody reads.
    run.read_stdout();
    run.wait_stdout_lines(2, SHORT);
    let done = run.interrupt();
    assert!([0, 130].contains(&done.code()), "{:?}", done.status);
}

#[test]
fn a_flood_into_a_stopped_reader_keeps_the_memory_flat() {
    flood(&[], Duration::from_secs(3));
}

#[test]
fn so_does_a_flood_of_mebibytes() {
    flood(&["--size", "1048576", "--batch", "1"], Duration::from_secs(3));
}
