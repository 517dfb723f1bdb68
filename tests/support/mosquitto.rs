//! mosquitto, configured by the test and started on free ports.
//!
//! Its log goes to a file: with the version of each CONNECT (`p1`, `p2`, `p5`) and each SUBSCRIBE in it, it is the witness of
//! what really went over the wire.

use crate::certificates::{Certificates, Identity};
use crate::ports::free_port;
use crate::process::{Cmd, Run};
use crate::wait::{SHORT, until};
use std::fmt::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A way into the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    Plain,
    Tls,
    /// Clients must show a certificate.
    MutualTls,
    WebSocket,
    SecureWebSocket,
    /// Likewise: with a certificate.
    MutualWebSocket,
}

impl Listener {
    fn has_tls(self) -> bool {
        !matches!(self, Listener::Plain | Listener::WebSocket)
    }

    fn is_web(self) -> bool {
        matches!(self, Listener::WebSocket | Listener::SecureWebSocket | Listener::MutualWebSocket)
    }

    fn demands_certificates(self) -> bool {
        matches!(self, Listener::MutualTls | Listener::MutualWebSocket)
    }
}

/// A configuration to be started.
#[derive(Debug, Default)]
pub struct MosquittoBuilder {
    listeners: Vec<Listener>,
    users: Vec<(String, String)>,
    acl: Option<String>,
    tls: Option<(PathBuf, Identity)>,
    quiet: bool,
    settings: String,
}

impl MosquittoBuilder {
    pub fn listener(mut self, listener: Listener) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Whoever comes without a known user and password is refused.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push((name.to_owned(), password.to_owned()));
        self
    }

    /// The text of an ACL file.
    pub fn acl(mut self, acl: &str) -> Self {
        self.acl = Some(acl.to_owned());
        self
    }

    /// The certificates of the TLS listeners.
    pub fn certificates(self, certificates: &Certificates) -> Self {
        self.identity(certificates, certificates.server.clone())
    }

    /// Likewise, but the server shows this one.
    pub fn identity(mut self, certificates: &Certificates, server: Identity) -> Self {
        self.tls = Some((certificates.ca.clone(), server));
        self
    }

    /// Sessions and their messages outlive a restart.
    pub fn persistent(self) -> Self {
        self.setting("persistence true")
    }

    /// Without a line in the log for each packet: for tens of thousands of messages.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// A line of mosquitto.conf.
    pub fn setting(mut self, line: &str) -> Self {
        writeln!(self.settings, "{line}").expect("writing to a string");
        self
    }

    pub fn start(mut self) -> Mosquitto {
        if self.listeners.is_empty() {
            self.listeners.push(Listener::Plain);
        }
        let folder =
            tempfile::Builder::new().prefix("tracemq-mosquitto-").tempdir().expect("a temporary folder");
        let ports = self.listeners.iter().map(|listener| (*listener, free_port())).collect();
        let mut broker = Mosquitto { folder, ports, run: None };
        let configuration = self.configuration(&broker);
        std::fs::write(broker.path("mosquitto.conf"), configuration).expect("a file in a temporary folder");
        broker.start();
        broker
    }

    fn configuration(&self, broker: &Mosquitto) -> String {
        let mut text = String::from("user root\nper_listener_settings false\nmax_queued_messages 0\n");
        let kinds =
            if self.quiet { &["error", "warning", "notice", "information"][..] } else { &["all"][..] };
        for kind in kinds {
            line(&mut text, "log_type", kind);
        }
        line(&mut text, "log_dest file", &broker.path("log").display().to_string());
        line(&mut text, "persistence_location", &format!("{}/", broker.folder.path().display()));
        text.push_str(&self.settings);
        line(&mut text, "allow_anonymous", if self.users.is_empty() { "true" } else { "false" });
        if !self.users.is_empty() {
            let file = broker.path("passwords");
            std::fs::write(&file, "").expect("a file in a temporary folder");
            for (name, password) in &self.users {
                Cmd::peer("mosquitto_passwd").arg("-b").arg(&file).args([name, password]).finish().expect(0);
            }
            line(&mut text, "password_file", &file.display().to_string());
        }
        if let Some(acl) = &self.acl {
            let file = broker.path("acl");
            std::fs::write(&file, acl).expect("a file in a temporary folder");
            line(&mut text, "acl_file", &file.display().to_string());
        }
        for (listener, port) in &broker.ports {
            line(&mut text, "listener", &format!("{port} 127.0.0.1"));
            if listener.is_web() {
                text.push_str("protocol websockets\n");
            }
            if listener.has_tls() {
                let (ca, server) = self.tls.as_ref().expect("certificates() for a TLS listener");
                line(&mut text, "cafile", &ca.display().to_string());
                line(&mut text, "certfile", &server.cert.display().to_string());
                line(&mut text, "keyfile", &server.key.display().to_string());
                line(&mut text, "require_certificate", &listener.demands_certificates().to_string());
            }
        }
        text
    }
}

fn line(text: &mut String, name: &str, value: &str) {
    writeln!(text, "{name} {value}").expect("writing to a string");
}

/// A running mosquitto. Dropping it ends it.
#[derive(Debug)]
pub struct Mosquitto {
    folder: TempDir,
    ports: Vec<(Listener, u16)>,
    run: Option<Run>,
}

impl Mosquitto {
    pub fn builder() -> MosquittoBuilder {
        MosquittoBuilder::default()
    }

    /// One plain listener, nobody refused, every packet in the log.
    pub fn plain() -> Mosquitto {
        Mosquitto::builder().start()
    }

    /// The port of the first listener.
    pub fn port(&self) -> u16 {
        self.ports[0].1
    }

    pub fn port_of(&self, listener: Listener) -> u16 {
        let found = self.ports.iter().find(|(kind, _)| *kind == listener);
        found.unwrap_or_else(|| panic!("no listener {listener:?}")).1
    }

    /// `mqtt://127.0.0.1:PORT` of the first listener.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port())
    }

    /// `mosquitto_sub` towards the first listener.
    pub fn subscriber(&self, topic: &str) -> Cmd {
        Cmd::peer("mosquitto_sub").args(["-p", &self.port().to_string(), "-t", topic])
    }

    /// `mosquitto_pub` towards the first listener.
    pub fn publisher(&self, topic: &str) -> Cmd {
        Cmd::peer("mosquitto_pub").args(["-p", &self.port().to_string(), "-t", topic])
    }

    /// Publishes one message with `mosquitto_pub` at QoS 1.
    #[track_caller]
    pub fn publish(&self, topic: &str, payload: &str) {
        self.publisher(topic).args(["-q", "1", "-m", payload]).finish().expect(0);
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits for a line in the log that contains `part`, and returns it.
    #[track_caller]
    pub fn wait_log(&self, part: &str) -> String {
        let found = until(SHORT, || self.log().lines().find(|line| line.contains(part)).map(str::to_owned));
        found.unwrap_or_else(|| panic!("{part:?} did not come into mosquitto's log:\n{}", self.log()))
    }

    /// Waits until a client has subscribed and been answered.
    #[track_caller]
    pub fn wait_subscribed(&self, client: &str) {
        self.wait_log(&format!("Sending SUBACK to {client}"));
    }

    /// Ends it as an administrator would: sessions and retained messages are saved, if they are persistent.
    pub fn stop(&mut self) {
        if let Some(run) = self.run.take() {
            run.signal(libc::SIGTERM);
            run.wait();
        }
    }

    /// Starts it again, on the same ports.
    pub fn start(&mut self) {
        let run = Cmd::peer("mosquitto").arg("-c").arg(self.path("mosquitto.conf")).start();
        self.run = Some(run);
        let accepts = || self.ports.iter().all(|(_, port)| TcpStream::connect(("127.0.0.1", *port)).is_ok());
        let started = until(SHORT, || accepts().then_some(()));
        assert!(started.is_some(), "mosquitto does not accept connections\n{:?}\n{}", self.run, self.log());
    }

    /// It stands still, with its connections open, until [`Mosquitto::thaw`].
    pub fn freeze(&self) {
        self.run.as_ref().expect("it is running").signal(libc::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.run.as_ref().expect("it is running").signal(libc::SIGCONT);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }
}
