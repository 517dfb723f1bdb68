//! CoAP for tests: programs of libcoap and aiocoap, and a bare UDP socket.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

use crate::process::{Cmd, Run};
use crate::wait::SHORT;

/// The port in the first line of a server of ours.
pub fn coap_port(serve: &Run) -> u16 {
    let line = serve.wait_stdout("://");
    let port: String =
        line.rsplit(':').next().unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
    port.parse().unwrap_or_else(|_| panic!("no port in {line:?}"))
}

/// libcoap's client, without security.
pub fn coap_client() -> Cmd {
    Cmd::peer("coap-client-notls")
}

/// A message with bare hands: version 1, token and options as given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoapMessage {
    /// 0 CON, 1 NON, 2 ACK, 3 RST.
    pub kind: u8,
    pub code: u8,
    pub id: u16,
    pub token: Vec<u8>,
    pub options: BTreeMap<u16, Vec<Vec<u8>>>,
    pub payload: Vec<u8>,
}

impl CoapMessage {
    /// A confirmable request for a path.
    pub fn request(code: u8, path: &str, id: u16, token: &[u8]) -> CoapMessage {
        let segments = path.split('/').filter(|segment| !segment.is_empty());
        let segments = segments.map(|segment| segment.as_bytes().to_vec()).collect();
        CoapMessage {
            code,
            id,
            token: token.to_vec(),
            options: BTreeMap::from([(11, segments)]),
            ..CoapMessage::default()
        }
    }

    pub fn option(mut self, number: u16, value: &[u8]) -> CoapMessage {
        self.options.entry(number).or_default().push(value.to_vec());
        self
    }

    pub fn payload(mut self, payload: &[u8]) -> CoapMessage {
        self.payload = payload.to_vec();
        self
    }

    pub fn encode(&self) -> Vec<u8> {
        let token = u8::try_from(self.token.len()).expect("a short token");
        let mut bytes = vec![0x40 | self.kind << 4 | token, self.code];
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(&self.token);
        let nibble = |value: usize| match value {
            0..13 => (value as u8, vec![]),
            13..269 => (13, vec![(value - 13) as u8]),
            _ => (14, ((value - 269) as u16).to_be_bytes().to_vec()),
        };
        let mut before = 0;
        for (number, value) in
            self.options.iter().flat_map(|(number, values)| values.iter().map(move |v| (*number, v)))
        {
            let (delta, delta_more) = nibble(usize::from(number - before));
            let (length, length_more) = nibble(value.len());
            bytes.push(delta << 4 | length);
            bytes.extend(delta_more.iter().chain(&length_more).chain(value));
            before = number;
        }
        if !self.payload.is_empty() {
            bytes.push(0xff);
            bytes.extend(&self.payload);
        }
        bytes
    }

    /// What a server sent. Panics when it is no message.
    pub fn decode(bytes: &[u8]) -> CoapMessage {
        let length = usize::from(bytes[0] & 15);
        let mut message = CoapMessage {
            kind: bytes[0] >> 4 & 3,
            code: bytes[1],
            id: u16::from_be_bytes([bytes[2], bytes[3]]),
            token: bytes[4..4 + length].to_vec(),
            ..CoapMessage::default()
        };
        let (mut at, mut number) = (4 + length, 0_usize);
        let more = |nibble: u8, at: &mut usize| match nibble {
            13 => {
                *at += 1;
                usize::from(bytes[*at - 1]) + 13
            }
            14 => {
                *at += 2;
                usize::from(u16::from_be_bytes([bytes[*at - 2], bytes[*at - 1]])) + 269
            }
            small => usize::from(small),
        };
        while at < bytes.len() {
            let first = bytes[at];
            at += 1;
            if first == 0xff {
                message.payload = bytes[at..].to_vec();
                break;
            }
            number += more(first >> 4, &mut at);
            let size = more(first & 15, &mut at);
            let values = message.options.entry(u16::try_from(number).expect("16 bits")).or_default();
            values.push(bytes[at..at + size].to_vec());
            at += size;
        }
        message
    }

    /// `4.04`.
    pub fn status(&self) -> String {
        format!("{}.{:02}", self.code >> 5, self.code & 31)
    }

    /// The first value of an option, as a number.
    pub fn number(&self, option: u16) -> Option<u64> {
        let value = self.options.get(&option)?.first()?;
        Some(value.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

/// A UDP socket that talks to a server.
#[derive(Debug)]
pub struct CoapSocket {
    socket: UdpSocket,
    server: SocketAddr,
}

impl CoapSocket {
    pub fn to(port: u16) -> CoapSocket {
        CoapSocket::from_address(("127.0.0.1", 0), port)
    }

    /// From an address of this machine, such as any of 127.0.0.0/8.
    pub fn from_address(address: impl ToSocketAddrs, port: u16) -> CoapSocket {
        let socket = UdpSocket::bind(address).expect("a free port");
        socket.set_read_timeout(Some(SHORT)).expect("a time-out");
        CoapSocket { socket, server: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    pub fn send(&self, message: &CoapMessage) {
        self.send_bytes(&message.encode());
    }

    pub fn send_bytes(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, self.server).expect("sending");
    }

    /// The next message within the time; with zero, one that is there.
    pub fn receive(&self, limit: Duration) -> Option<CoapMessage> {
        let mut buffer = [0; 65_536];
        self.socket.set_nonblocking(limit.is_zero()).expect("a socket's mode");
        if !limit.is_zero() {
            self.socket.set_read_timeout(Some(limit)).expect("a time-out");
        }
        match self.socket.recv_from(&mut buffer) {
            Ok((length, _)) => Some(CoapMessage::decode(&buffer[..length])),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => None,
            Err(error) => panic!("receiving: {error}"),
        }
    }

    /// Sends a request and waits for what comes with its token; it is sent again when nothing does.
    pub fn ask(&self, message: &CoapMessage) -> CoapMessage {
        let end = Instant::now() + SHORT;
        while Instant::now() < end {
            self.send(message);
            let again = Instant::now() + Duration::from_secs(2);
            while let Some(answer) = self.receive(again.saturating_duration_since(Instant::now())) {
                if answer.token == message.token && answer.code != 0 {
                    return answer;
                }
            }
        }
        panic!("no answer to {message:?}");
    }
}
