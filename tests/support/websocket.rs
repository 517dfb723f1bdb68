//! Peers for the WebSocket plugin: servers of the Python package `websockets` and of npm's `ws`, and servers that send the
//! bytes they are told.

use crate::certificates::Identity;
use crate::process::{Cmd, Run};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

/// A script of `tests/peers`.
pub fn peer_script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}

/// A running WebSocket server that is not ours.
#[derive(Debug)]
pub struct WebSocketPeer {
    run: Run,
    port: u16,
    scheme: &'static str,
}

impl WebSocketPeer {
    /// `tests/peers/websocket_server.py`.
    pub fn python(arguments: &[&str]) -> WebSocketPeer {
        Self::start(Cmd::python().arg(peer_script("websocket_server.py")).args(arguments), "ws")
    }

    /// The same with TLS.
    pub fn python_tls(identity: &Identity) -> WebSocketPeer {
        let command = Cmd::python().arg(peer_script("websocket_server.py"));
        Self::start(command.arg("--tls").arg(&identity.cert).arg(&identity.key), "wss")
    }

    /// `tests/peers/websocket_server.js`.
    pub fn node() -> WebSocketPeer {
        Self::start(Cmd::node().arg(peer_script("websocket_server.js")), "ws")
    }

    fn start(command: Cmd, scheme: &'static str) -> WebSocketPeer {
        let run = command.start();
        let line = run.wait_stdout("port ");
        let port = line.trim_start_matches("port ").trim().parse().expect("the server tells its port");
        WebSocketPeer { run, port, scheme }
    }

    /// `path` begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it says.
    pub fn run(&self) -> &Run {
        &self.run
    }
}

/// A server that does the WebSocket handshake, and then sends bytes that no library would.
#[derive(Debug)]
pub struct HostileWebSocket {
    port: u16,
    seen: std::sync::mpsc::Receiver<Vec<u8>>,
}

impl HostileWebSocket {
    /// Sends this after the handshake, then reads until the client is gone.
    pub fn sending(frames: Vec<u8>) -> HostileWebSocket {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound socket").port();
        let (told, seen) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (frames, told) = (frames.clone(), told.clone());
                std::thread::spawn(move || drop(serve(client, &frames).map(|answer| told.send(answer))));
            }
        });
        HostileWebSocket { port, seen }
    }

    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// The code of the close frame that the client sent.
    pub fn close_code(&self) -> Option<u16> {
        let bytes = self.seen.recv_timeout(crate::wait::SHORT).expect("the client leaves");
        // Frames of a client: two bytes, a mask of four, the payload (RFC 6455 section 5.2).
        let mut at = 0;
        while bytes.len() >= at + 6 {
            let length = usize::from(bytes[at + 1] & 0x7f);
            let (mask, payload) = (&bytes[at + 2..at + 6], bytes.get(at + 6..at + 6 + length)?);
            if bytes[at] & 0x0f == 8 && length >= 2 {
                return Some(u16::from_be_bytes([payload[0] ^ mask[0], payload[1] ^ mask[1]]));
            }
            at += 6 + length;
        }
        None
    }
}

fn serve(mut client: TcpStream, frames: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut reader = BufReader::new(client.try_clone()?);
    let (mut key, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.strip_prefix("Sec-WebSocket-Key: ") {
            key = value.trim().to_owned();
        }
        line.clear();
    }
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()));
    write!(
        client,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    // The client may leave before it has read all.
    let _ = client.write_all(frames);
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    // A reset is an end like any other.
    while let Ok(count @ 1..) = std::io::Read::read(&mut reader, &mut buffer) {
        seen.extend_from_slice(&buffer[..count]);
    }
    Ok(seen)
}
