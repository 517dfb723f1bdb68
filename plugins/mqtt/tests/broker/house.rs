//! A broker under test, and mosquitto's tools.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tracemq_mqtt::serve::{Broker, BrokerEvent, BrokerMessage, BrokerOptions};

/// Longest wait for anything; a pass takes a small part of it.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The versions as mosquitto's tools name them.
pub(crate) const VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv5"];

pub(crate) struct House {
    pub(crate) broker: Broker,
    runtime: Runtime,
}

impl House {
    /// Starts a broker on a free port.
    pub(crate) fn start(options: BrokerOptions) -> Self {
        let bind = Some(options.bind.clone().unwrap_or_else(|| "127.0.0.1:0".to_owned()));
        let broker = Broker::start(BrokerOptions { bind, ..options }).expect("the broker starts");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { broker, runtime }
    }

    /// `ADDR:PORT` of the listener with this URL scheme.
    pub(crate) fn address(&self, scheme: &str) -> String {
        let prefix = format!("{scheme}://");
        let address = self.broker.addresses().iter().find_map(|url| url.strip_prefix(&prefix));
        address.unwrap_or_else(|| panic!("no {scheme} listener in {:?}", self.broker.addresses())).to_owned()
    }

    pub(crate) fn port(&self) -> String {
        let url = &self.broker.addresses()[0];
        url.rsplit(':').next().expect("a port").to_owned()
    }

    pub(crate) fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(async { timeout(LIMIT, future).await.expect("in time") })
    }

    /// Reads events until one is wanted.
    pub(crate) fn event<T>(&self, mut wanted: impl FnMut(&BrokerEvent) -> Option<T>) -> T {
        let events = self.broker.events();
        self.wait(async {
            loop {
                let batch = events.next(1).await.expect("the broker runs");
                if let Some(found) = wanted(&batch.items[0]) {
                    return found;
                }
            }
        })
    }

    pub(crate) fn subscribed(&self) {
        self.event(|event| matches!(event, BrokerEvent::Subscribed { .. }).then_some(()));
    }

    /// Reads events until a refusal of `kind`, and returns its reason.
    pub(crate) fn refusal(&self, kind: &str) -> String {
        self.event(|event| match event {
            BrokerEvent::Refused { what, reason, .. } if *what == kind => Some(reason.clone()),
            _ => None,
        })
    }

    /// The next message that the broker shows.
    pub(crate) fn message(&self) -> BrokerMessage {
        let messages = self.broker.messages();
        self.wait(async { messages.next(1).await.expect("the broker runs").items.remove(0) })
    }

    /// mosquitto_pub with this broker's address.
    pub(crate) fn publish(&self, arguments: &[&str]) -> Output {
        let child = tool("mosquitto_pub", &self.port(), arguments);
        output(child)
    }

    /// mosquitto_sub; returns when it has subscribed.
    pub(crate) fn subscribe(&self, arguments: &[&str]) -> Subscriber {
        let subscriber = self.subscriber(arguments);
        self.subscribed();
        subscriber
    }

    pub(crate) fn subscriber(&self, arguments: &[&str]) -> Subscriber {
        let mut child = tool("mosquitto_sub", &self.port(), arguments);
        let stdout = child.stdout.take().expect("piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                if sender.send(line.expect("text")).is_err() {
                    return;
                }
            }
        });
        Subscriber { child: Some(child), lines }
    }
}

fn tool(name: &str, port: &str, arguments: &[&str]) -> Child {
    Command::new(name)
        .args(["-h", "127.0.0.1", "-p", port])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name} (package mosquitto-clients): {error}"))
}

/// Waits for the end of a process that writes little.
pub(crate) fn output(mut child: Child) -> Output {
    let deadline = Instant::now() + LIMIT;
    while child.try_wait().expect("a child").is_none() {
        if Instant::now() > deadline {
            child.kill().expect("a child");
            panic!("a tool did not end in {LIMIT:?}: {:?}", child.wait_with_output());
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("its output")
}

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A running mosquitto_sub; killed when dropped.
pub(crate) struct Subscriber {
    child: Option<Child>,
    lines: Receiver<String>,
}

impl Subscriber {
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(LIMIT).expect("a line in time")
    }

    /// Waits for its own end.
    pub(crate) fn end(mut self) -> Output {
        output(self.child.take().expect("not ended yet"))
    }

    /// SIGKILL: no DISCONNECT is sent.
    pub(crate) fn kill(mut self) {
        let mut child = self.child.take().expect("not ended yet");
        child.kill().expect("a child");
        child.wait().expect("a child");
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
