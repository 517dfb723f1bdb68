//! All associations of a server's socket, without I/O.
//!
//! A client that is not known costs nothing until it has brought its cookie back: one spare object of OpenSSL asks them all,
//! and becomes the client's own when it did. A ClientHello from a client that is known is a client that was started again on
//! the same port; it goes the same way, and the old association makes room when the new client has brought its cookie back
//! (RFC 6347 section 4.2.8). An association takes about 44 KiB, so that there are only so many, and the one that was quiet
//! for longest goes first.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracemq_plugin_api::prelude::Result;

use super::association::{Association, Happened};
use super::ffi::Listened;
use super::judge::Verdict;
use super::settings::{ServerSettings, cipher, identity};

/// Clients at once.
const MOST_PEERS: usize = 1024;
/// How long a handshake may take, for which OpenSSL's own patience of several minutes is too long.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// How long an association lasts that nothing is heard of. RFC 7252 section 9.1 wants them kept as long as possible.
const QUIET: Duration = Duration::from_secs(24 * 3600);
/// How often it is looked for handshakes and associations that have had their time.
const SWEEP: Duration = Duration::from_secs(10);

/// What has happened.
#[derive(Debug)]
pub enum ServerEvent {
    /// A client has come in. `identity` is its PSK identity or the common name in its certificate, if it has either.
    Opened { peer: SocketAddr, identity: Option<String>, cipher: String },
    /// What a client sent, decrypted.
    Received { peer: SocketAddr, bytes: Bytes },
    /// A client that was in is gone: what is kept for it is to be forgotten.
    Closed { peer: SocketAddr, why: String },
    /// A client did not come in.
    Refused { peer: SocketAddr, why: String },
}

struct Peer {
    association: Association,
    verdict: Verdict,
    heard: Instant,
    /// The hello that brought the cookie back: when it comes again, it was doubled or recorded on the way.
    hello: Bytes,
}

/// The associations of a socket.
pub struct Server {
    settings: ServerSettings,
    spare: (Association, Verdict),
    peers: HashMap<SocketAddr, Peer>,
    /// Those whose handshake is under way, which alone have timers.
    handshaking: HashSet<SocketAddr>,
    transmits: VecDeque<(SocketAddr, Bytes)>,
    events: VecDeque<ServerEvent>,
    /// When a timer may have run out; never too late.
    wake: Option<Instant>,
    swept: Instant,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("peers", &self.peers.len()).finish_non_exhaustive()
    }
}

impl Server {
    /// # Errors
    /// OpenSSL can't be used.
    pub fn new(settings: ServerSettings) -> Result<Server> {
        Ok(Server {
            spare: settings.associate()?,
            settings,
            peers: HashMap::new(),
            handshaking: HashSet::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            wake: None,
            swept: Instant::now(),
        })
    }

    /// Takes a datagram that came from this address.
    pub fn receive(&mut self, now: Instant, peer: SocketAddr, datagram: Bytes) {
        let hello = hello(&datagram);
        match self.peers.get_mut(&peer) {
            // Of a handshake that is under way, only its very first hello is another client's.
            Some(known) if hello.is_none_or(|again| again && known.association.is_handshaking()) => {
                known.heard = now;
                self.act(now, peer, |association, happened| association.receive(datagram, happened));
            }
            Some(known) if known.hello == datagram => {}
            _ if hello.is_some() => self.listen(now, peer, datagram),
            // Whoever is not known and has nothing to introduce itself with gets no answer: the address may be forged.
            _ => {}
        }
    }

    /// Sends, encrypted. `false`: there is no association with this peer.
    pub fn send(&mut self, now: Instant, peer: SocketAddr, plaintext: &[u8]) -> bool {
        let Some(known) = self.peers.get_mut(&peer) else { return false };
        known.heard = now;
        let sent = known.association.send(plaintext);
        self.collect(peer);
        sent
    }

    /// The next datagram for the network. Ask until there is none, after every other call.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Bytes)> {
        self.transmits.pop_front()
    }

    /// What happened next. Ask until there is nothing, after every other call.
    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        self.events.pop_front()
    }

    /// When [`Server::handle_timeout`] is to be called; it may be called at any time.
    pub fn next_timeout(&self) -> Option<Instant> {
        let sweep = (!self.peers.is_empty()).then_some(self.swept + SWEEP);
        [self.wake, sweep].into_iter().flatten().min()
    }

    /// Sends again what was not answered, and forgets whom nothing was heard of.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.wake.is_some_and(|wake| wake <= now) {
            self.wake = None;
            for peer in self.handshaking.iter().copied().collect::<Vec<_>>() {
                self.act(now, peer, |association, happened| {
                    if association.timeout().is_some_and(|left| left.is_zero()) {
                        association.handle_timeout(happened);
                    }
                });
            }
        }
        if self.swept + SWEEP <= now {
            self.swept = now;
            let outdated = |(peer, known): (&SocketAddr, &Peer)| {
                let patience = if known.association.is_handshaking() { HANDSHAKE } else { QUIET };
                (now.duration_since(known.heard) >= patience).then_some(*peer)
            };
            for peer in self.peers.iter().filter_map(outdated).collect::<Vec<_>>() {
                self.forget(peer, "nothing was heard of it");
            }
        }
    }

    /// Says goodbye to all.
    pub fn close(&mut self) {
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            self.forget(peer, "the server stops");
        }
    }

    /// A hello of somebody who is not known, or not known to be the same.
    fn listen(&mut self, now: Instant, peer: SocketAddr, datagram: Bytes) {
        self.settings.ask(peer);
        let listened = self.spare.0.listen(datagram.clone());
        while let Some(bytes) = self.spare.0.outgoing() {
            self.transmits.push_back((peer, bytes));
        }
        if listened == Listened::Asked {
            return;
        }
        // Without another spare, which takes memory alone, nobody new can come in.
        let spare = match self.settings.associate() {
            Ok(spare) => spare,
            Err(error) => return log::error!("{error}"),
        };
        let (association, verdict) = std::mem::replace(&mut self.spare, spare);
        if listened == Listened::Broken {
            return;
        }
        self.forget(peer, "it has begun anew");
        self.make_room();
        self.peers.insert(peer, Peer { association, verdict, heard: now, hello: datagram });
        self.handshaking.insert(peer);
        self.act(now, peer, |association, happened| association.drive(happened));
    }

    fn make_room(&mut self) {
        if self.peers.len() < MOST_PEERS {
            return;
        }
        let quietest = self
            .peers
            .iter()
            .min_by_key(|(_, known)| (!known.association.is_handshaking(), known.heard))
            .map(|(peer, _)| *peer);
        if let Some(peer) = quietest {
            self.forget(peer, "it had to make room for another client");
        }
    }

    /// Ends an association, if there is one.
    fn forget(&mut self, peer: SocketAddr, why: &str) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        let was_in = !known.association.is_handshaking();
        known.association.close();
        self.collect(peer);
        self.remove(peer, was_in, why.to_owned());
    }

    fn remove(&mut self, peer: SocketAddr, was_in: bool, why: String) {
        self.peers.remove(&peer);
        self.handshaking.remove(&peer);
        self.events.push_back(match was_in {
            true => ServerEvent::Closed { peer, why },
            false => ServerEvent::Refused { peer, why },
        });
    }

    /// Lets an association do something, and sees what came of it.
    fn act(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        act: impl FnOnce(&mut Association, &mut Vec<Happened>),
    ) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        let mut was_in = !known.association.is_handshaking();
        let mut happened = Vec::new();
        act(&mut known.association, &mut happened);
        let timeout = known.association.timeout();
        if let Some(timeout) = timeout.filter(|_| self.handshaking.contains(&peer)) {
            self.wake = Some(self.wake.map_or(now + timeout, |wake| wake.min(now + timeout)));
        }
        self.collect(peer);
        for happened in happened {
            match happened {
                Happened::Established => {
                    was_in = true;
                    self.handshaking.remove(&peer);
                    self.welcome(peer);
                }
                Happened::Received(bytes) => self.events.push_back(ServerEvent::Received { peer, bytes }),
                Happened::Closed => self.remove(peer, was_in, "it said goodbye".to_owned()),
                Happened::Failed(failure) => {
                    let Some(known) = self.peers.get(&peer) else { continue };
                    let why = self.settings.explain(known.association.ssl(), &known.verdict, &failure);
                    self.remove(peer, was_in, why);
                }
            }
        }
    }

    fn welcome(&mut self, peer: SocketAddr) {
        let Some(known) = self.peers.get(&peer) else { return };
        let ssl = known.association.ssl();
        let (identity, cipher) = (identity(ssl), cipher(ssl));
        self.events.push_back(ServerEvent::Opened { peer, identity, cipher });
    }

    fn collect(&mut self, peer: SocketAddr) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        while let Some(bytes) = known.association.outgoing() {
            self.transmits.push_back((peer, bytes));
        }
    }
}

/// Whether a datagram is a ClientHello in the clear, and if so whether it is not the first of its handshake (RFC 6347
/// sections 4.1 and 4.2.2): a record of type 22 in epoch 0, with a handshake message of type 1 and a number.
fn hello(datagram: &[u8]) -> Option<bool> {
    const HANDSHAKE_RECORD: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    let clear = datagram.first() == Some(&HANDSHAKE_RECORD) && datagram.get(3..5) == Some(&[0, 0]);
    if !clear || datagram.get(13) != Some(&CLIENT_HELLO) {
        return None;
    }
    datagram.get(17..19).map(|number| number != [0, 0])
}
