//! The table: for each protocol a server that this project did not write, and a command that needs the connection.

use std::any::Any;

use tracemq_tests::{
    Certificates, Cmd, Identity, LONG, LibcoapServer, Listener, Mosquitto, NatsServer, Tracemq,
    WebSocketPeer, amqp::ProtonBroker,
};

use crate::text;

/// How a protocol's cases are run.
pub struct Row {
    pub plugin: &'static str,
    pub scheme: &'static str,
    /// A server with this identity; `demands`: clients must show a certificate of the authority.
    start: fn(&Certificates, &Identity, bool) -> Peer,
    /// From the verb on; `URL` stands for the server's.
    command: &'static [&'static str],
    /// Flags without which TLS would not begin at once.
    pub first: &'static [&'static str],
    /// No TCP, and so no proxies and no other version than DTLS 1.2.
    pub datagrams: bool,
}

/// A running server. Dropping it ends it.
pub struct Peer {
    pub port: u16,
    _server: Box<dyn Any>,
}

impl Peer {
    fn new(port: u16, server: impl Any) -> Peer {
        Peer { port, _server: Box::new(server) }
    }
}

pub const ROWS: [Row; 6] = [
    Row {
        plugin: "mqtt",
        scheme: "mqtts",
        start: mosquitto,
        command: &["pub", "URL", "t", "x", "--qos", "1"],
        first: &[],
        datagrams: false,
    },
    Row {
        plugin: "nats",
        scheme: "tls",
        start: nats_server,
        command: &["pub", "URL", "t", "x"],
        first: &["--tls-first"],
        datagrams: false,
    },
    Row {
        plugin: "websocket",
        scheme: "wss",
        start: python_websockets,
        command: &["pub", "URL", "x"],
        first: &[],
        datagrams: false,
    },
    Row {
        plugin: "eventhubs",
        scheme: "amqps",
        start: proton,
        command: &["pub", "URL/queue", "x"],
        first: &[],
        datagrams: false,
    },
    Row {
        plugin: "coap",
        scheme: "coaps+tcp",
        start: libcoap,
        command: &["request", "URL", "/"],
        first: &[],
        datagrams: false,
    },
    Row {
        plugin: "coap",
        scheme: "coaps",
        start: libcoap,
        command: &["request", "URL", "/"],
        first: &[],
        datagrams: true,
    },
];

impl Row {
    /// A server that shows this identity to everybody.
    pub fn start(&self, certificates: &Certificates, identity: &Identity) -> Peer {
        (self.start)(certificates, identity, false)
    }

    /// A server for clients with a certificate.
    pub fn start_demanding(&self, certificates: &Certificates) -> Peer {
        (self.start)(certificates, &certificates.server, true)
    }

    /// The command, towards a server of this machine.
    pub fn command(&self, tracemq: &Tracemq, peer: &Peer) -> Cmd {
        self.command_to(tracemq, "localhost", peer.port)
    }

    pub fn command_to(&self, tracemq: &Tracemq, host: &str, port: u16) -> Cmd {
        // coaps is one port above coap, and so is coaps+tcp.
        let url = format!("{}://{host}:{port}", self.scheme);
        let words = self.command.iter().map(|word| word.replace("URL", &url));
        tracemq.cmd(words).args(["--connect-timeout", "20s"]).limit(LONG)
    }
}

fn mosquitto(certificates: &Certificates, identity: &Identity, demands: bool) -> Peer {
    let listener = if demands { Listener::MutualTls } else { Listener::Tls };
    let broker = Mosquitto::builder().listener(listener).identity(certificates, identity.clone()).start();
    Peer::new(broker.port(), broker)
}

fn nats_server(certificates: &Certificates, identity: &Identity, demands: bool) -> Peer {
    let (cert, key, ca) = (identity.cert.display(), identity.key.display(), certificates.ca.display());
    let tls = format!("cert_file: \"{cert}\", key_file: \"{key}\", ca_file: \"{ca}\", verify: {demands}");
    let server = NatsServer::builder().tls_with(&tls).start();
    Peer::new(server.port(), server)
}

fn python_websockets(certificates: &Certificates, identity: &Identity, demands: bool) -> Peer {
    let mut arguments = vec!["--tls", text(&identity.cert), text(&identity.key)];
    if demands {
        arguments.extend(["--client-ca", text(&certificates.ca)]);
    }
    let server = WebSocketPeer::python(&arguments);
    Peer::new(server.port(), server)
}

fn proton(certificates: &Certificates, identity: &Identity, demands: bool) -> Peer {
    let broker = ProtonBroker::secure(identity, demands.then_some(certificates.ca.as_path()));
    Peer::new(broker.port(), broker)
}

fn libcoap(certificates: &Certificates, identity: &Identity, demands: bool) -> Peer {
    let mut arguments =
        vec!["-c", text(&identity.cert), "-j", text(&identity.key), "-C", text(&certificates.ca)];
    if !demands {
        arguments.push("-n");
    }
    let server = LibcoapServer::start("openssl", &arguments);
    Peer::new(server.port() + 1, server)
}
