//! A broker whose every packet the test decides: for what no real broker can be made to do.

use crate::packet::{self, Packet};
use crate::wait::{SHORT, until};
use std::io::{self, BufReader, Write};
use std::net::{TcpListener, TcpStream};

/// Listens on 127.0.0.1.
#[derive(Debug)]
pub struct ScriptedBroker {
    listener: TcpListener,
}

impl ScriptedBroker {
    #[allow(clippy::new_without_default, reason = "it opens a port")]
    pub fn new() -> ScriptedBroker {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        ScriptedBroker { listener }
    }

    pub fn url(&self) -> String {
        format!("mqtt://{}", self.listener.local_addr().expect("a bound socket"))
    }

    /// Waits for the next client and answers its CONNECT: 5.0, all well, with this session-present flag.
    #[track_caller]
    pub fn accept(&self, session_present: bool) -> ScriptedClient {
        self.accept_with(session_present, &[])
    }

    /// As [`ScriptedBroker::accept`], with CONNACK's properties as they are sent; fewer than 128 bytes.
    #[track_caller]
    pub fn accept_with(&self, session_present: bool, properties: &[u8]) -> ScriptedClient {
        let client = until(SHORT, || self.listener.accept().ok()).expect("no client came").0;
        client.set_nonblocking(false).expect("a socket can be made blocking");
        client.set_read_timeout(Some(SHORT)).expect("a time-out can be set");
        let reader = BufReader::new(client.try_clone().expect("a socket can be cloned"));
        let mut client = ScriptedClient { client, reader };
        client.expect(packet::CONNECT_TYPE);
        let mut body = vec![u8::from(session_present), 0, properties.len() as u8];
        body.extend_from_slice(properties);
        client.send(packet::CONNACK, &body);
        client
    }
}

/// A client's connection, until dropped.
#[derive(Debug)]
pub struct ScriptedClient {
    client: TcpStream,
    reader: BufReader<TcpStream>,
}

impl ScriptedClient {
    /// The next packet other than a PINGREQ, which is answered. `None` at the end of the stream.
    pub fn receive(&mut self) -> io::Result<Option<Packet>> {
        loop {
            match Packet::read(&mut self.reader)? {
                Some(packet) if packet.kind() == packet::PINGREQ_TYPE => {
                    self.client.write_all(&[packet::PINGRESP, 0])?
                }
                other => return Ok(other),
            }
        }
    }

    /// The next packet, which must be of this type.
    #[track_caller]
    pub fn expect(&mut self, kind: u8) -> Packet {
        let packet = self.receive().expect("a packet").expect("a packet, not the end");
        assert_eq!(packet.kind(), kind, "{packet:?}");
        packet
    }

    pub fn send(&mut self, first: u8, body: &[u8]) {
        self.send_all(first, [body]);
    }

    /// Many packets in one write.
    pub fn send_all(&mut self, first: u8, bodies: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        let mut out = Vec::new();
        for body in bodies {
            packet::write(&mut out, first, &[body.as_ref()]);
        }
        self.client.write_all(&out).expect("the client reads");
    }
}
