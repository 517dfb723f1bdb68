//! Who is behind a connection that the broker library sees.
//!
//! The library listens on a loopback port of its own, to which only our front may connect. Each connection
//! is announced there (PROXY protocol) under a random 128-bit address instead of the client's: the address
//! is the proof that it came through the front, and with it through TLS and the limits. Another program on
//! this machine cannot guess one, and is refused at CONNECT. Here the addresses are turned into peers again.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;
use tokio::time::timeout;

/// How a client reaches the broker; the scheme of its URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// MQTT over TCP.
    Mqtt,
    /// MQTT over TLS.
    Mqtts,
    /// MQTT over WebSocket.
    Ws,
    /// MQTT over WebSocket over TLS.
    Wss,
}

impl Transport {
    /// The URL scheme.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Mqtts => "mqtts",
            Self::Ws => "mqtt+ws",
            Self::Wss => "mqtt+wss",
        }
    }
}

/// Where a connection is in its life. Only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No CONNECT was accepted yet.
    New,
    /// The library accepted the client, which speaks this protocol level.
    Accepted { level: u8 },
    /// The library let go of the client; `code` is the reason a 5.0 client has to be told.
    Left { code: Option<u8> },
}

/// One connection through the front.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: SocketAddr,
    pub(super) transport: Transport,
    stage: watch::Sender<Stage>,
    /// A reason code for DISCONNECT that our own checks found, more exact than the library's.
    fault: Mutex<Option<u8>>,
    client_closed: AtomicBool,
}

impl Link {
    /// The client's CONNECT was accepted.
    pub(super) fn accept(&self, level: u8) {
        self.stage.send_if_modified(|stage| {
            let new = *stage == Stage::New;
            if new {
                *stage = Stage::Accepted { level };
            }
            new
        });
    }

    pub(super) fn accepted(&self) -> bool {
        *self.stage.borrow() != Stage::New
    }

    /// The session let go of this connection.
    pub(super) fn leave(&self, code: Option<u8>) {
        // Below 5.0 a server cannot say why.
        let speaks = *self.stage.borrow() == Stage::Accepted { level: 5 };
        let code = code.filter(|_| speaks).map(|code| self.fault().unwrap_or(code));
        self.stage.send_replace(Stage::Left { code });
    }

    /// The client closed its side; its session is about to learn of it.
    pub(super) fn client_closed(&self) {
        self.client_closed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_client_closed(&self) -> bool {
        self.client_closed.load(Ordering::Relaxed)
    }

    /// The connection is about to be closed for a fault of the client.
    pub(super) fn blame(&self, code: u8) {
        *self.fault() = Some(code);
    }

    /// After the library closed its side: the reason code for DISCONNECT, if this is a 5.0 client and there
    /// is something to say. The library closes first and tells its reason a moment later.
    pub(super) async fn goodbye(&self, patience: Duration) -> Option<u8> {
        let mut stage = self.stage.subscribe();
        if !matches!(*stage.borrow_and_update(), Stage::Accepted { level: 5 } | Stage::Left { .. }) {
            return None;
        }
        match timeout(patience, stage.wait_for(|stage| matches!(stage, Stage::Left { .. }))).await {
            Ok(Ok(stage)) => match *stage {
                Stage::Left { code } => code,
                _ => None,
            },
            _ => None,
        }
    }

    /// Waits until the session let go of an accepted connection, so that what it reports can name the peer.
    pub(super) async fn left(&self, patience: Duration) {
        let mut stage = self.stage.subscribe();
        if self.accepted() {
            let _ = timeout(patience, stage.wait_for(|stage| matches!(stage, Stage::Left { .. }))).await;
        }
    }

    fn fault(&self) -> MutexGuard<'_, Option<u8>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All connections that came through the front, by their address towards the library.
#[derive(Debug)]
pub(super) struct Links {
    known: Mutex<HashMap<SocketAddr, Arc<Link>>>,
    random: SystemRandom,
}

impl Links {
    pub(super) fn new() -> Self {
        Self { known: Mutex::new(HashMap::new()), random: SystemRandom::new() }
    }

    /// Takes up a new connection. `None` if the system has no random numbers.
    pub(super) fn open(&self, peer: SocketAddr, transport: Transport) -> Option<(SocketAddr, Arc<Link>)> {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes).ok()?;
        // The client's own port is kept, so that a log line can still be matched to a client.
        let token = SocketAddr::new(IpAddr::V6(Ipv6Addr::from(bytes)), peer.port());
        let link = Arc::new(Link {
            peer,
            transport,
            stage: watch::Sender::new(Stage::New),
            fault: Mutex::new(None),
            client_closed: AtomicBool::new(false),
        });
        self.lock().insert(token, Arc::clone(&link));
        Some((token, link))
    }

    pub(super) fn find(&self, token: Option<SocketAddr>) -> Option<Arc<Link>> {
        self.lock().get(&token?).cloned()
    }

    /// Forgets a connection; its events name no peer from now on.
    pub(super) fn close(&self, token: SocketAddr) {
        self.lock().remove(&token);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Link>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The PROXY protocol (version 2) header that announces a connection under `token`.
pub(super) fn proxy_header(token: SocketAddr) -> Vec<u8> {
    const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
    let IpAddr::V6(address) = token.ip() else {
        unreachable!("tokens are made by Links::open, from 16 random bytes");
    };
    let mut header = Vec::with_capacity(52);
    header.extend_from_slice(&SIGNATURE);
    // Version 2, command PROXY; TCP over IPv6; 36 bytes follow.
    header.extend_from_slice(&[0x21, 0x21, 0, 36]);
    header.extend_from_slice(&address.octets());
    header.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
    header.extend_from_slice(&token.port().to_be_bytes());
    header.extend_from_slice(&0u16.to_be_bytes());
    header
}
