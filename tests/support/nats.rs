//! nats-server, configured by the test and started on free ports; and a client that says exactly what a test writes.

use crate::certificates::Certificates;
use crate::installation::Tracemq;
use crate::ports::free_port;
use crate::process::{Cmd, Run};
use crate::wait::{SHORT, until};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A configuration to be started.
#[derive(Debug, Default)]
pub struct NatsBuilder {
    settings: String,
    authorization: String,
    websocket: Option<String>,
    cluster: Option<(u16, Vec<u16>)>,
    jetstream: bool,
    newest: bool,
}

impl NatsBuilder {
    /// The newest nats-server, which comes from PyPI, instead of Debian's.
    pub fn newest(mut self) -> Self {
        self.newest = true;
        self
    }

    /// Lines of nats-server's configuration.
    pub fn setting(mut self, text: &str) -> Self {
        writeln!(self.settings, "{text}").expect("writing to a string");
        self
    }

    /// Who may come in: what stands in the block `authorization`.
    pub fn authorization(mut self, text: &str) -> Self {
        self.authorization = text.to_owned();
        self
    }

    pub fn jetstream(mut self) -> Self {
        self.jetstream = true;
        self
    }

    pub fn tls(self, certificates: &Certificates) -> Self {
        self.tls_with(&files(certificates))
    }

    /// Clients must show a certificate.
    pub fn mutual_tls(self, certificates: &Certificates) -> Self {
        self.tls_with(&format!("{} verify: true", files(certificates)))
    }

    /// What stands in the block `tls`.
    pub fn tls_with(self, text: &str) -> Self {
        self.setting(&format!("tls {{ timeout: 60, {text} }}"))
    }

    pub fn websocket(self) -> Self {
        self.websocket_with("no_tls: true")
    }

    pub fn secure_websocket(self, certificates: &Certificates) -> Self {
        self.websocket_with(&format!("tls {{ {} }}", files(certificates)))
    }

    /// A WebSocket listener with these settings.
    pub fn websocket_with(mut self, settings: &str) -> Self {
        self.websocket = Some(settings.to_owned());
        self
    }

    /// A member of a cluster: its own port for routes, and those of all.
    pub fn cluster(mut self, port: u16, all: &[u16]) -> Self {
        self.cluster = Some((port, all.to_vec()));
        self
    }

    pub fn start(self) -> NatsServer {
        let folder = tempfile::Builder::new().prefix("tracemq-nats-").tempdir().expect("a temporary folder");
        let (port, web) = (free_port(), self.websocket.as_ref().map(|_| free_port()));
        let mut server = NatsServer { folder, port, web, newest: self.newest, run: None };
        let mut text = format!(
            "listen: \"127.0.0.1:{port}\"\nserver_name: \"n{port}\"\nlogfile: \"{}\"\n",
            server.path("log").display()
        );
        if self.jetstream {
            let store = server.path("store");
            writeln!(
                text,
                "jetstream: {{ store_dir: \"{}\", max_mem: 64MB, max_file: 1GB }}",
                store.display()
            )
            .expect("writing to a string");
        }
        if let (Some(web), Some(settings)) = (web, &self.websocket) {
            writeln!(
                text,
                "websocket {{ listen: \"127.0.0.1:{web}\", handshake_timeout: \"60s\", {settings} }}"
            )
            .expect("writing to a string");
        }
        if let Some((own, all)) = &self.cluster {
            let routes: Vec<_> = all
                .iter()
                .filter(|port| *port != own)
                .map(|port| format!("nats://127.0.0.1:{port}"))
                .collect();
            writeln!(
                text,
                "cluster {{ name: test, listen: \"127.0.0.1:{own}\", routes: [{}] }}",
                routes.join(", ")
            )
            .expect("writing to a string");
        }
        // By itself the server waits for a login no longer than a second or three, and here are more processes than processors.
        writeln!(text, "authorization {{ timeout: 60, {} }}", self.authorization)
            .expect("writing to a string");
        text.push_str(&self.settings);
        std::fs::write(server.path("nats.conf"), text).expect("a file in a temporary folder");
        server.start();
        server
    }
}

fn files(certificates: &Certificates) -> String {
    format!(
        "cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\",",
        certificates.server.cert.display(),
        certificates.server.key.display(),
        certificates.ca.display()
    )
}

/// A running nats-server. Dropping it ends it.
#[derive(Debug)]
pub struct NatsServer {
    folder: TempDir,
    port: u16,
    web: Option<u16>,
    newest: bool,
    run: Option<Run>,
}

impl NatsServer {
    pub fn builder() -> NatsBuilder {
        NatsBuilder::default()
    }

    /// Nobody is refused.
    pub fn plain() -> NatsServer {
        NatsServer::builder().start()
    }

    /// Three servers that know of each other.
    pub fn cluster_of_3(configure: impl Fn(NatsBuilder) -> NatsBuilder) -> [NatsServer; 3] {
        let routes = [free_port(), free_port(), free_port()];
        let nodes = routes.map(|port| configure(NatsServer::builder()).cluster(port, &routes).start());
        for node in &nodes {
            let complete = until(SHORT, || {
                let mut client = NatsWire::connect(node.port);
                (client.info.matches("127.0.0.1:").count() >= 3).then(|| client.close())
            });
            assert!(complete.is_some(), "the cluster did not form\n{}", node.log());
        }
        nodes
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn web_port(&self) -> u16 {
        self.web.expect("websocket() was asked for")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }

    pub fn signal(&self, signal: i32) {
        self.run.as_ref().expect("it is running").signal(signal);
    }

    /// Ends it without a word, as a crash would.
    pub fn kill(&mut self) {
        if let Some(run) = self.run.take() {
            run.signal(libc::SIGKILL);
            run.wait();
        }
    }

    /// Starts it again, on the same ports.
    pub fn start(&mut self) {
        let program = if self.newest { Cmd::of_python("nats-server") } else { Cmd::peer("nats-server") };
        self.run = Some(program.arg("-c").arg(self.path("nats.conf")).start());
        let started = until(SHORT, || TcpStream::connect(("127.0.0.1", self.port)).ok());
        assert!(started.is_some(), "nats-server does not accept connections\n{:?}\n{}", self.run, self.log());
    }
}

impl Tracemq {
    /// Starts `tracemq sub URL …` and returns when the server has taken the subscription.
    #[track_caller]
    pub fn subscribed(&self, command: Cmd) -> Run {
        let run = command.start();
        run.wait_stderr("subscribed to");
        run
    }
}

/// A client of NATS without a library.
#[derive(Debug)]
pub struct NatsWire {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    /// The first line of the server.
    pub info: String,
}

impl NatsWire {
    #[track_caller]
    pub fn connect(port: u16) -> NatsWire {
        NatsWire::connect_with(port, r#"{"verbose":false,"headers":true,"no_responders":true}"#)
    }

    /// With these fields in CONNECT.
    #[track_caller]
    pub fn connect_with(port: u16, connect: &str) -> NatsWire {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream.set_read_timeout(Some(SHORT)).expect("a time-out can be set");
        let reader = BufReader::new(stream.try_clone().expect("a socket can be cloned"));
        let mut client = NatsWire { stream, reader, info: String::new() };
        client.info = client.line();
        client.send(format!("CONNECT {connect}\r\n"));
        client.round_trip();
        client
    }

    pub fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).expect("the server reads");
    }

    pub fn publish(&mut self, subject: &str, payload: &str) {
        self.send(format!("PUB {subject} {}\r\n{payload}\r\n", payload.len()));
        self.round_trip();
    }

    /// Waits until the server has dealt with everything sent. Lines that come before its answer are passed over.
    #[track_caller]
    pub fn round_trip(&mut self) {
        self.send("PING\r\n");
        while self.line() != "PONG" {}
    }

    /// The next line, without its end. PINGs are answered.
    #[track_caller]
    pub fn line(&mut self) -> String {
        loop {
            let mut line = String::new();
            let count = self.reader.read_line(&mut line).expect("a line of the server");
            assert!(count > 0, "the server closed the connection");
            match line.trim_end() {
                "PING" => self.send("PONG\r\n"),
                line => return line.to_owned(),
            }
        }
    }

    /// The next message: subject, reply, and headers and payload together.
    #[track_caller]
    pub fn message(&mut self) -> (String, Option<String>, String) {
        let line = self.line();
        let mut words: Vec<_> = line.split(' ').collect();
        assert!(matches!(words[0], "MSG" | "HMSG"), "{line}");
        let size = words.pop().and_then(|size| size.parse::<usize>().ok()).expect("a size");
        if words[0] == "HMSG" {
            words.pop();
        }
        let mut body = vec![0; size + 2];
        self.reader.read_exact(&mut body).expect("a payload");
        body.truncate(size);
        let reply = words.get(3).map(|reply| (*reply).to_owned());
        (words[1].to_owned(), reply, String::from_utf8_lossy(&body).into_owned())
    }

    pub fn close(&mut self) {
        drop(self.stream.shutdown(std::net::Shutdown::Both));
    }
}

/// A server of NATS whose every word the test decides.
#[derive(Debug)]
pub struct ScriptedNats(TcpListener);

impl ScriptedNats {
    #[allow(clippy::new_without_default, reason = "it opens a port")]
    pub fn new() -> ScriptedNats {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        ScriptedNats(listener)
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.0.local_addr().expect("a bound socket"))
    }

    /// Waits for the next client and greets it with these bytes.
    #[track_caller]
    pub fn greet(&self, greeting: &[u8]) -> NatsWire {
        let stream = until(SHORT, || self.0.accept().ok()).expect("no client came").0;
        stream.set_nonblocking(false).expect("a socket can be made blocking");
        stream.set_read_timeout(Some(SHORT)).expect("a time-out can be set");
        let reader = BufReader::new(stream.try_clone().expect("a socket can be cloned"));
        let mut client = NatsWire { stream, reader, info: String::new() };
        // A client that has had enough may have gone.
        drop(client.stream.write_all(greeting));
        client
    }

    /// Waits for the next client, and answers as a server does until the ping of its subscription, which is answered too.
    #[track_caller]
    pub fn accept_subscriber(&self) -> NatsWire {
        let mut client = self.accept();
        while !client.raw_line().starts_with("SUB ") {}
        while client.raw_line() != "PING" {}
        client.send("PONG\r\n");
        client
    }

    /// As [`ScriptedNats::accept_subscriber`], for one that may have subscribed before: then it does not wait for an answer.
    #[track_caller]
    pub fn accept_subscriber_again(&self) -> NatsWire {
        let mut client = self.accept();
        while !client.raw_line().starts_with("SUB ") {}
        client.send("PONG\r\n");
        client
    }

    /// Waits for the next client and lets it log in.
    #[track_caller]
    pub fn accept(&self) -> NatsWire {
        let mut client = self.greet(
            b"INFO {\"server_id\":\"S\",\"version\":\"2.9.0\",\"headers\":true,\"max_payload\":1048576}\r\n",
        );
        assert!(client.raw_line().starts_with("CONNECT "));
        assert_eq!(client.raw_line(), "PING");
        client.send("PONG\r\n");
        client
    }
}

impl NatsWire {
    /// The next line of a client, PINGs too.
    #[track_caller]
    pub fn raw_line(&mut self) -> String {
        let mut line = String::new();
        let count = self.reader.read_line(&mut line).expect("a line of the client");
        assert!(count > 0, "the client closed the connection");
        line.trim_end().to_owned()
    }
}
