//! DTLS between the message layer and the socket.
//!
//! An association that is gone is made again when there is something to send, and what is to be sent waits for it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracemq_plugin_api::prelude::*;

use crate::config::ConnectOptions;
use crate::dtls::{Client, ClientEvent, ClientSettings, Over};
use crate::endpoint::{Endpoint, Transmit};
use crate::target::Target;

enum State {
    Down,
    Handshaking { association: Box<Client>, until: Instant },
    Open(Box<Client>),
}

/// A client's association, now or when it is wanted.
pub(crate) struct Secure {
    settings: ClientSettings,
    host: String,
    port: u16,
    target: String,
    patience: Duration,
    state: State,
    /// Taken from the message layer, and sent when there is an association.
    waiting: Option<Transmit>,
    /// The alert of an association that has failed.
    last_words: Vec<Bytes>,
}

impl Secure {
    /// Reads the files that the options name. Nothing is sent.
    ///
    /// # Errors
    /// An option or a file that can't be.
    pub(crate) fn new(target: &Target, options: &ConnectOptions) -> Result<Secure> {
        Ok(Secure {
            settings: ClientSettings::new(&options.psk, &options.net.tls, Over::Datagrams)?,
            host: target.host.clone(),
            port: target.port,
            target: target.shown(),
            patience: options.net.timeout.connect_timeout.duration(),
            state: State::Down,
            waiting: None,
            last_words: Vec::new(),
        })
    }

    /// Begins a handshake.
    ///
    /// # Errors
    /// A host that no certificate can name.
    pub(crate) fn begin(&mut self) -> Result<()> {
        for warning in self.settings.warnings() {
            log::warn!("{warning}");
        }
        let association = Client::new(&self.settings, &self.host, self.port, &self.target)?;
        let until = Instant::now() + self.patience;
        self.state = State::Handshaking { association: Box::new(association), until };
        Ok(())
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    fn association(&mut self) -> Option<&mut Client> {
        match &mut self.state {
            State::Down => None,
            State::Handshaking { association, .. } | State::Open(association) => Some(association),
        }
    }

    /// The next datagram for the socket.
    ///
    /// # Errors
    /// As [`Secure::begin`].
    pub(crate) fn poll_transmit(&mut self, endpoint: &mut Endpoint) -> Result<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.association().and_then(Client::poll_transmit) {
                return Ok(Some(bytes));
            }
            if self.waiting.is_none() {
                self.waiting = endpoint.poll_transmit();
            }
            let Some(transmit) = &self.waiting else { return Ok(None) };
            match &mut self.state {
                State::Down => self.begin()?,
                State::Handshaking { .. } => return Ok(None),
                State::Open(association) => {
                    // One that can't be sent is as good as lost on the way.
                    association.send(&transmit.bytes);
                    self.waiting = None;
                }
            }
        }
    }

    /// Takes a datagram from the socket.
    ///
    /// # Errors
    /// The association did not come up, or is gone: what was under way will not be answered.
    pub(crate) fn receive(
        &mut self,
        endpoint: &mut Endpoint,
        peer: SocketAddr,
        datagram: &[u8],
    ) -> Result<()> {
        let Some(association) = self.association() else { return Ok(()) };
        association.receive(Bytes::copy_from_slice(datagram));
        self.happenings(endpoint, peer)
    }

    /// What tells the server why it was left, once. It need not arrive.
    pub(crate) fn take_last_words(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.last_words)
    }

    pub(crate) fn next_timeout(&mut self) -> Option<Instant> {
        match &mut self.state {
            State::Down => None,
            State::Handshaking { association, until } => {
                Some(association.next_timeout().map_or(*until, |timeout| timeout.min(*until)))
            }
            State::Open(association) => association.next_timeout(),
        }
    }

    /// # Errors
    /// The server did not answer the handshake in time.
    pub(crate) fn handle_timeout(&mut self, endpoint: &mut Endpoint, peer: SocketAddr) -> Result<()> {
        let now = Instant::now();
        if let State::Handshaking { association, until } = &self.state
            && *until <= now
        {
            let error = association.too_slow();
            self.down(endpoint, peer);
            return Err(error);
        }
        let Some(association) = self.association() else { return Ok(()) };
        if association.next_timeout().is_some_and(|timeout| timeout <= Instant::now()) {
            association.handle_timeout();
        }
        self.happenings(endpoint, peer)
    }

    fn happenings(&mut self, endpoint: &mut Endpoint, peer: SocketAddr) -> Result<()> {
        while let Some(event) = self.association().and_then(Client::poll_event) {
            match event {
                ClientEvent::Established { cipher } => {
                    log::info!("DTLS with {}: {cipher}", self.target);
                    self.state = match std::mem::replace(&mut self.state, State::Down) {
                        State::Handshaking { association, .. } => State::Open(association),
                        other => other,
                    };
                }
                ClientEvent::Received(bytes) => endpoint.receive(Instant::now(), peer, &bytes),
                ClientEvent::Closed => {
                    self.down(endpoint, peer);
                    let text = format!("{} has closed the DTLS association", self.target);
                    return Err(Error::new(ErrorKind::CLOSED, text).temporary());
                }
                ClientEvent::Failed(error) => {
                    if let Some(association) = self.association() {
                        self.last_words = std::iter::from_fn(|| association.poll_transmit()).collect();
                    }
                    self.down(endpoint, peer);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// What was under way is forgotten: the driver fails it with the error that says why. A server that was started again
    /// knows nothing of the association, and says nothing either (RFC 6347 section 4.1.2.7): that is why it is made anew
    /// whenever something was not answered.
    pub(crate) fn down(&mut self, endpoint: &mut Endpoint, peer: SocketAddr) {
        self.state = State::Down;
        self.waiting = None;
        while endpoint.poll_transmit().is_some() {}
        endpoint.forget(Instant::now(), peer);
    }

    /// The datagrams of a goodbye.
    pub(crate) fn close(&mut self) -> Vec<Bytes> {
        let Some(association) = self.association() else { return Vec::new() };
        association.close();
        std::iter::from_fn(|| association.poll_transmit()).collect()
    }
}
