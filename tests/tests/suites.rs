//! Conformance suites: the cases of `tests/suites/mqtt` against `tracemq serve mqtt`, and Autobahn's against both sides of
//! WebSocket.
//!
//! The cases of MQTT wait for time-outs most of the time, so each class of them runs beside the others with a broker of its
//! own.

use std::path::Path;
use std::time::Duration;
use tracemq_tests::{Cmd, Tracemq};

fn cases(class: &str) {
    let tracemq = Tracemq::new();
    let broker = tracemq
        .cmd(["serve", "mqtt", "--bind", "127.0.0.1:0"])
        .args(["--deny-subscribe", "test/nosubscribe=0x80", "--max-keep-alive", "60"])
        .start();
    let line = broker.wait_stdout("mqtt://");
    let port = line.split(':').nth(2).expect("a port in the URL");
    let port: String = port.chars().take_while(char::is_ascii_digit).collect();
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/mqtt");
    let known = suite.join("known-deviations.txt");
    let run = Cmd::peer("python3")
        .arg(suite.join("run.py"))
        .args(["--port", &port, "-k", class, "--known"])
        .arg(known)
        .limit(Duration::from_secs(300))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .finish()
        .expect(0);
    assert!(run.text().contains(" passed, 0 failed"), "{}", run.text());
}

#[test]
fn mqtt_3_1_1_and_what_both_versions_share() {
    cases("Mqtt311");
}

#[test]
fn mqtt_5_0_and_what_both_versions_share() {
    cases("Mqtt5");
}

#[test]
fn what_only_mqtt_5_0_has() {
    cases("Only5");
}

/// Its 247 base cases; those of limits and compression take up to an hour: `tests/suites/websocket/autobahn all`.
#[test]
fn autobahn_passes_server_and_client_of_websocket() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/websocket/autobahn");
    let run = Cmd::peer(&script.to_string_lossy()).limit(Duration::from_secs(600)).finish().expect(0);
    assert!(run.text().contains("494 passed, 0 failed"), "{}", run.text());
}
