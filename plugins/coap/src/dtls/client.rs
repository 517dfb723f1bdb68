//! A client's one association, without I/O.

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use bytes::Bytes;
use tracemq_plugin_api::prelude::{Error, ErrorKind, Result};

use super::association::{Association, Happened};
use super::failure::{Failure, silence_hint};
use super::judge::Verdict;
use super::settings::{ClientSettings, Over, cipher};

/// What has happened.
#[derive(Debug)]
pub enum ClientEvent {
    /// The handshake is over, with this cipher suite: [`Client::send`] works from now on.
    Established { cipher: String },
    /// What the server sent, decrypted.
    Received(Bytes),
    /// The server has ended the association; nothing more will come.
    Closed,
    /// The association did not come up, or broke; nothing more will come.
    Failed(Error),
}

/// An association with a server. Its handshake begins at once: ask for datagrams with [`Client::poll_transmit`].
pub struct Client {
    association: Association,
    verdict: Verdict,
    target: String,
    psk: bool,
    has_certificate: bool,
    events: VecDeque<ClientEvent>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("target", &self.target).field("psk", &self.psk).finish_non_exhaustive()
    }
}

impl Client {
    /// `host` is what the certificate must name; `target` stands for the server in errors.
    ///
    /// # Errors
    /// A host that no certificate can name; OpenSSL can't be used.
    pub fn new(settings: &ClientSettings, host: &str, port: u16, target: &str) -> Result<Client> {
        let (association, verdict) = settings.associate(host, port)?;
        let mut client = Client {
            association,
            verdict,
            target: target.to_owned(),
            psk: settings.psk(),
            has_certificate: settings.has_certificate(),
            events: VecDeque::new(),
        };
        client.act(|association, happened| association.drive(happened));
        Ok(client)
    }

    /// Takes a datagram that came from the server's address.
    pub fn receive(&mut self, datagram: Bytes) {
        self.act(|association, happened| association.receive(datagram, happened));
    }

    /// Sends, encrypted. `false`: there is no association, or none any more.
    pub fn send(&mut self, plaintext: &[u8]) -> bool {
        self.association.send(plaintext)
    }

    /// Says goodbye, which is one more datagram.
    pub fn close(&mut self) {
        self.association.close();
    }

    /// The next datagram for the server. Ask until there is none, after every other call.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.association.outgoing()
    }

    /// What happened next. Ask until there is nothing, after every other call.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// When [`Client::handle_timeout`] is to be called.
    pub fn next_timeout(&mut self) -> Option<Instant> {
        self.association.timeout().map(|left| Instant::now() + left)
    }

    /// Sends again what was not answered.
    pub fn handle_timeout(&mut self) {
        self.act(Association::handle_timeout);
    }

    /// The error for a handshake that is given up.
    pub fn too_slow(&self) -> Error {
        Error::new(ErrorKind::TIMEOUT, format!("{} did not finish the DTLS handshake in time", self.target))
            .hint(silence_hint(self.psk))
            .temporary()
    }

    fn act(&mut self, act: impl FnOnce(&mut Association, &mut Vec<Happened>)) {
        let mut happened = Vec::new();
        act(&mut self.association, &mut happened);
        for happened in happened {
            let event = match happened {
                Happened::Established => ClientEvent::Established { cipher: cipher(self.association.ssl()) },
                Happened::Received(bytes) => ClientEvent::Received(bytes),
                Happened::Closed => ClientEvent::Closed,
                Happened::Failed(failure) => ClientEvent::Failed(self.explain(&failure)),
            };
            self.events.push_back(event);
        }
    }

    fn explain(&self, failure: &Failure) -> Error {
        // What was decided here comes before what OpenSSL made of it.
        let refusal = self.verdict.refusal();
        refusal
            .unwrap_or_else(|| failure.explain(Over::Datagrams, &self.target, self.psk, self.has_certificate))
    }
}
