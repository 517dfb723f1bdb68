//! `tracemq serve eventhubs` for the tests of its client.

use crate::installation::Tracemq;
use crate::mqtt::json;
use crate::process::{Cmd, Done, Run};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use std::time::{SystemTime, UNIX_EPOCH};

/// A running local Event Hubs.
#[derive(Debug)]
pub struct LocalHubs {
    pub run: Run,
    pub port: u16,
    /// What it prints to be pasted: of its one hub.
    pub connection: String,
}

/// What [`LocalHubs::start`] gives it for a key.
pub const KEY: &str = "dGVzdCBrZXk=";

impl LocalHubs {
    /// On a free port, with the key `test`.
    pub fn start(tracemq: &Tracemq, arguments: &[&str]) -> LocalHubs {
        LocalHubs::on(tracemq, 0, arguments)
    }

    /// For one that comes back.
    pub fn on(tracemq: &Tracemq, port: u16, arguments: &[&str]) -> LocalHubs {
        let bind = format!("127.0.0.1:{port}");
        let key = format!("test={KEY}");
        let command =
            tracemq.cmd(["serve", "eventhubs", "--json", "--bind", &bind, "--shared-access-key", &key]);
        let run = command.args(arguments).keep_stdin().start();
        let first = json(&run.wait_stdout("\"urls\""));
        let url = first["url"].as_str().expect("a URL");
        let port = url.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port");
        let urls = first["urls"].as_array().expect("URLs");
        let strings = urls.iter().filter_map(|url| url.as_str().filter(|url| url.starts_with("Endpoint=")));
        // It shows no key that it was given.
        let connection = strings.into_iter().next().expect("a connection string").replace("***", KEY);
        LocalHubs { run, port, connection }
    }

    /// The connection string with another part in place of one of its own.
    pub fn with(&self, part: &str, other: &str) -> String {
        assert!(self.connection.contains(part), "{part} in {}", self.connection);
        self.connection.replace(part, other)
    }

    /// The connection string with a token in place of the key. The token ends in so many seconds.
    pub fn with_token(&self, resource: &str, seconds: i64) -> String {
        let key = format!("SharedAccessKeyName=test;SharedAccessKey={KEY}");
        self.with(&key, &format!("SharedAccessSignature={}", token(resource, seconds)))
    }
}

fn token(resource: &str, seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let expiry = now.saturating_add_signed(seconds);
    let resource = encoded(resource);
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
    let signature = encoded(&STANDARD.encode(hmac::sign(&key, format!("{resource}\n{expiry}").as_bytes())));
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn=test")
}

fn encoded(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
    text.chars().map(|c| if plain(c) { c.to_string() } else { format!("%{:02X}", u32::from(c)) }).collect()
}

impl Tracemq {
    /// `tracemq VERB TARGET ARGUMENTS`, with the target in a variable, as one who has a key in it would write it.
    pub fn hub(&self, verb: &str, target: &str, arguments: &[&str]) -> Cmd {
        self.cmd([verb, "env:HUB"]).args(arguments).env("HUB", target)
    }

    /// Publishes lines, and expects them all to be confirmed.
    #[track_caller]
    pub fn send_lines(&self, target: &str, lines: &str, arguments: &[&str]) -> Done {
        let command = self.hub("pub", target, arguments).arg("--lines").stdin(lines);
        command.limit(crate::wait::LONG).finish().expect(0)
    }
}
