//! The conformance cases of `tests/suites/coap` against `tracemq serve coap`.

use std::path::Path;
use std::time::Duration;
use tracemq_tests::{Cmd, Tracemq, coap_port};

#[test]
fn every_case_passes() {
    let tracemq = Tracemq::new();
    let serve = |arguments: &[&str]| {
        let server = tracemq.cmd(["serve", "coap", "--bind", "127.0.0.1:0"]).args(arguments).start();
        let port = coap_port(&server);
        (server, port)
    };
    let (_server, port) = serve(&[]);
    let (_slow, slow) = serve(&["--resource", "slow=at last", "--delay", "2s"]);
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/coap");
    let run = Cmd::peer("python3")
        .arg(suite.join("run.py"))
        .args(["-v", "--port", &port.to_string(), "--slow", &format!("{slow}/slow")])
        .limit(Duration::from_secs(300))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .finish()
        .expect(0);
    assert!(run.text().contains(" passed, 0 failed, 0 skipped"), "{run:?}");
}
