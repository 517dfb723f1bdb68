//! What tests of the MQTT plugin share.

use crate::installation::Tracemq;
use crate::mosquitto::Mosquitto;
use crate::process::{Cmd, Run};
use serde_json::Value;

/// A version of the protocol, and what others call it.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    /// The value of `--protocol-version`.
    pub name: &'static str,
    /// As mosquitto's log has it.
    pub logged: &'static str,
    /// The value of `-V` of mosquitto's clients.
    pub mosquitto: &'static str,
}

/// All that MQTT has.
pub const VERSIONS: [Version; 3] = [
    Version { name: "3.1", logged: "p1", mosquitto: "mqttv31" },
    Version { name: "3.1.1", logged: "p2", mosquitto: "mqttv311" },
    Version { name: "5.0", logged: "p5", mosquitto: "mqttv5" },
];

impl Tracemq {
    /// `tracemq sub URL --client-id ID …`.
    pub fn sub(&self, url: &str, client: &str) -> Cmd {
        self.cmd(["sub", url, "--client-id", client])
    }

    /// `tracemq pub URL …`.
    pub fn publish(&self, url: &str) -> Cmd {
        self.cmd(["pub", url])
    }
}

impl Cmd {
    /// Adds the flags of a session that outlives the connection.
    pub fn persistent(self, version: Version) -> Cmd {
        let cmd = self.args(["--protocol-version", version.name, "--clean-session=false"]);
        if version.name == "5.0" { cmd.args(["--session-expiry", "1h"]) } else { cmd }
    }
}

impl Mosquitto {
    /// Starts a subscriber and returns when the broker has answered its SUBSCRIBE.
    #[track_caller]
    pub fn subscribed(&self, command: Cmd, client: &str) -> Run {
        let run = command.start();
        self.wait_subscribed(client);
        run
    }
}

/// A line of `--format json`.
#[track_caller]
pub fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?} is not JSON: {error}"))
}
