//! The plugin `loopback` of `tests/fixtures`: for what the host does whatever the protocol.

use crate::installation::Tracemq;
use crate::libraries::fixture;
use crate::process::{Done, Run};

/// A URL of the plugin where nobody listens.
pub const NOWHERE: &str = "loopback://127.0.0.1:1";

impl Tracemq {
    /// An installation that has the plugin as well.
    pub fn with_loopback() -> Tracemq {
        let tracemq = Tracemq::new();
        tracemq.add_plugin(&fixture("loopback"));
        tracemq
    }

    /// A server of the plugin and its URL.
    pub fn serve_loopback(&self, arguments: &[&str]) -> (Run, String) {
        let server = self.cmd(["serve", "loopback", "--bind", "127.0.0.1:0"]).args(arguments).start();
        let line = server.wait_stdout("loopback://");
        let url = line.split_whitespace().find(|word| word.starts_with("loopback://")).expect("a URL");
        (server, url.to_owned())
    }

    /// `tracemq profile LINE`, run to its end.
    pub fn profile(&self, line: &str) -> Done {
        self.cmd(["profile"]).args(line.split_whitespace()).finish()
    }
}
