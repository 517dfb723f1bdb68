//! The table: for each protocol and transport a server that this project did not write, and a command that needs the connection.

use std::any::Any;

use tracemq_tests::{
    Certificates, Cmd, Identity, KEY, LONG, LibcoapServer, Listener, LocalHubs, Mosquitto, NatsServer,
    Tracemq, WebSocketPeer, amqp::ProtonBroker,
};

use crate::text;

/// How a protocol's cases are run.
pub struct Row {
    pub plugin: &'static str,
    pub scheme: &'static str,
    /// A server with this identity; `demands`: clients must show a certificate of the authority.
    start: fn(&Certificates, &Identity, bool) -> Peer,
    /// From the verb on; `URL` stands for the server's, `env:HUB` for a connection string with it.
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

pub const ROWS: [Row; 9] = [
    Row {
        plugin: "mqtt",
        scheme: "mqtts",
        start: mosquitto,
        command: &["pub", "URL", "t", "x", "--qos", "1"],
        first: &[],
        datagrams: false,
    },
    Row {
        plugin: "mqtt",
        scheme: "mqtt+wss",
        start: mosquitto_web,
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
        plugin: "nats",
        scheme: "nats+wss",
        start: nats_web,
        command: &["pub", "URL", "t", "x"],
        first: &[],
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
        plugin: "eventhubs",
        scheme: "sb",
        start: hubs_web,
        command: &["pub", "env:HUB", "x", "--transport", "websocket"],
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
        let hub = format!("Endpoint={url}/;SharedAccessKeyName=test;SharedAccessKey={KEY};EntityPath=h");
        tracemq.cmd(words).args(["--connect-timeout", "20s"]).env("HUB", hub).limit(LONG)
    }
}

fn mosquitto(certificates: &Certificates, identity: &Identity, demands: bool) -> Peer {
    broker(if demands { Listener::MutualTls } else { Listener::Tls }, certificates, identity)
}

fn mosquitto_web(certificates: &Certificates, identity: &Identity, demands: bool) -> Peer {
    broker(
        if demands { Listener::MutualWebSocket } else { Listener::SecureWebSocket },
        certificates,
        identity,
    )
}

fn broker(listener: Listener, certificates: &Certificates, identity: &Identity) -> Peer {
    // mosquitto 2.0.11 does not start without a listener that is no WebSocket.
    let builder = Mosquitto::builder().listener(listener).listener(Listener::Plain);
    let broker = builder.identity(certificates, identity.clone()).start();
    Peer::new(broker.port(), broker)
}

fn nats_server(certificates: &Certificates, identity: &Identity, demands: bool) -> Peer {
    let server = NatsServer::builder().tls_with(&nats_tls(certificates, identity, demands)).start();
    Peer::new(server.port(), server)
}

fn nats_web(certificates: &Certificates, identity: &Identity, demands: bool) -> Peer {
    let tls = format!("tls {{ {} }}", nats_tls(certificates, identity, demands));
    let server = NatsServer::builder().websocket_with(&tls).start();
    Peer::new(server.web_port(), server)
}

fn nats_tls(certificates: &Certificates, identity: &Identity, demands: bool) -> String {
    let (cert, key, ca) = (identity.cert.display(), identity.key.display(), certificates.ca.display());
    format!("cert_file: \"{cert}\", key_file: \"{key}\", ca_file: \"{ca}\", verify: {demands}")
}

fn python_websockets(certificates: &Certificates, identity: &Identity, demands: bool) -> Peer {
    let server = websocket_server(certificates, identity, demands, &[]);
    Peer::new(server.port(), server)
}

/// No server of others that can be had here speaks Event Hubs' WebSocket: TLS and WebSocket are Python's, what is in them goes
/// on to ours.
fn hubs_web(certificates: &Certificates, identity: &Identity, demands: bool) -> Peer {
    let tracemq = Tracemq::new();
    let hubs = LocalHubs::start(&tracemq, &["--hub", "h:1"]);
    let relay = ["--relay", &hubs.port.to_string(), "--subprotocol", "AMQPWSB10"];
    let server = websocket_server(certificates, identity, demands, &relay);
    Peer::new(server.port(), (server, hubs, tracemq))
}

fn websocket_server(
    certificates: &Certificates,
    identity: &Identity,
    demands: bool,
    more: &[&str],
) -> WebSocketPeer {
    let mut arguments = vec!["--tls", text(&identity.cert), text(&identity.key)];
    if demands {
        arguments.extend(["--client-ca", text(&certificates.ca)]);
    }
    arguments.extend(more);
    WebSocketPeer::python(&arguments)
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
