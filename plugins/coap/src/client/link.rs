//! What carries requests and responses, whatever it is: the one place that knows the transports apart.
//!
//! Above it there are requests, responses and observations; below it, for datagrams, the message layer. What protects
//! single messages (OSCORE) is done in here, where blocks have been cut already and nothing has been numbered yet.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tracemq_plugin_api::prelude::*;

use super::connection::Connection;
use super::udp::Datagrams;
use crate::blockwise::Preferences;
use crate::config::ConnectOptions;
use crate::endpoint::{Busy, Event, Handle, Incoming, Manner};
use crate::message::Packet;
use crate::oscore::{self, Carrier as _, OscoreError};
use crate::target::{Target, Transport};

/// Stands for a request that could not be protected, until the driver hears of that.
const UNSENT: Handle = Handle { slot: u32::MAX, generation: u32::MAX };

/// What carries messages as they are.
enum Carrier {
    Datagrams(Box<Datagrams>),
    Connection(Box<Connection>),
}

impl oscore::Carrier for Carrier {
    fn request(
        &mut self,
        peer: SocketAddr,
        packet: &mut Packet,
        manner: Manner,
    ) -> std::result::Result<Handle, Busy> {
        match self {
            Carrier::Datagrams(datagrams) => datagrams.endpoint.request(Instant::now(), peer, packet, manner),
            Carrier::Connection(connection) => connection.request(packet, manner),
        }
    }

    fn renew(&mut self, handle: Handle, packet: &mut Packet) -> bool {
        match self {
            Carrier::Datagrams(datagrams) => datagrams.endpoint.renew(Instant::now(), handle, packet),
            Carrier::Connection(connection) => connection.renew(handle, packet),
        }
    }

    fn cancel(&mut self, handle: Handle) {
        match self {
            Carrier::Datagrams(datagrams) => datagrams.endpoint.cancel(Instant::now(), handle),
            Carrier::Connection(connection) => connection.cancel(handle),
        }
    }
}

impl Carrier {
    fn send_off(&mut self, packet: Packet) -> std::result::Result<(), Busy> {
        match self {
            Carrier::Datagrams(datagrams) => {
                let peer = datagrams.peer;
                datagrams.endpoint.send(Instant::now(), peer, packet, false).map(drop)
            }
            Carrier::Connection(connection) => connection.send_off(packet),
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        match self {
            Carrier::Datagrams(datagrams) => datagrams.poll_event(),
            Carrier::Connection(connection) => connection.poll_event(),
        }
    }
}

/// An open way to a server, or a group of them.
pub(crate) struct Link {
    carrier: Carrier,
    oscore: Option<Box<oscore::Client>>,
    /// Nothing can be protected any more, and nothing will go out without.
    broken: Option<Error>,
}

impl Link {
    /// # Errors
    /// The server can't be reached; it is not who it should be; there is no folder for what OSCORE must remember.
    pub(crate) async fn open(target: &Target, options: &ConnectOptions, context: &Context) -> Result<Link> {
        let oscore = match context.probing() {
            // A ping is not protected (RFC 8613 section 4.2), and uses up no sequence number.
            true => None,
            false => options.oscore.open(context.state_dir())?.map(oscore::Client::new).map(Box::new),
        };
        let carrier = match target.transport {
            Transport::Udp | Transport::Dtls => {
                Carrier::Datagrams(Box::new(Datagrams::open(target, options).await?))
            }
            Transport::Tcp | Transport::Tls => {
                Carrier::Connection(Box::new(Connection::open(target, options).await?))
            }
        };
        Ok(Link { carrier, oscore, broken: None })
    }

    /// Waits for a sign of life, where opening brought none.
    ///
    /// # Errors
    /// As [`Datagrams::ping`].
    pub(crate) async fn ping(&mut self, patience: Duration) -> Result<()> {
        match &mut self.carrier {
            Carrier::Datagrams(datagrams) => datagrams.ping(patience).await,
            // The server has told its limits.
            Carrier::Connection(_) => Ok(()),
        }
    }

    /// What the user wants, and what the server takes on top of it: over a stream bodies go whole, or in large messages of
    /// many blocks, unless a size of blocks was asked for. What OSCORE protects is no longer than 64 KiB, with any transport.
    pub(crate) fn preferences(&self, wanted: Preferences) -> Preferences {
        match &self.carrier {
            Carrier::Connection(connection) if !wanted.early && self.oscore.is_none() => {
                Preferences { room: connection.room(), ..wanted }
            }
            _ => wanted,
        }
    }

    /// The server or group at the other end.
    pub(crate) fn peer(&self) -> SocketAddr {
        match &self.carrier {
            Carrier::Datagrams(datagrams) => datagrams.peer,
            Carrier::Connection(connection) => connection.peer,
        }
    }

    /// Sends a request, at once or when its turn comes. The packet is the caller's again afterwards.
    ///
    /// # Errors
    /// Too much is under way.
    pub(crate) fn request(
        &mut self,
        peer: SocketAddr,
        packet: &mut Packet,
        manner: Manner,
    ) -> std::result::Result<Handle, Busy> {
        let Some(oscore) = &mut self.oscore else {
            return self.carrier.request(peer, packet, manner);
        };
        match oscore.request(&mut self.carrier, peer, packet, manner) {
            Ok(sent) => sent,
            Err(error) => {
                self.fail(error);
                Ok(UNSENT)
            }
        }
    }

    /// Sends a request of which nothing is to be heard: it is not confirmable, and no answer is wanted.
    ///
    /// # Errors
    /// Too much is under way.
    pub(crate) fn send_off(&mut self, packet: Packet) -> std::result::Result<(), Busy> {
        let Some(oscore) = &mut self.oscore else { return self.carrier.send_off(packet) };
        match oscore.protect(&packet) {
            Ok(protected) => self.carrier.send_off(protected),
            Err(error) => {
                self.fail(error);
                Err(Busy::Full)
            }
        }
    }

    /// Sends another request with the token of one that stays. `false`: the one before is not settled yet.
    pub(crate) fn renew(&mut self, handle: Handle, packet: &mut Packet) -> bool {
        let Some(oscore) = &mut self.oscore else { return self.carrier.renew(handle, packet) };
        match oscore.renew(&mut self.carrier, handle, packet) {
            Ok(sent) => sent,
            Err(error) => {
                self.fail(error);
                false
            }
        }
    }

    /// Nothing more is to be heard of it.
    pub(crate) fn cancel(&mut self, handle: Handle) {
        match &mut self.oscore {
            None => self.carrier.cancel(handle),
            Some(oscore) => oscore.cancel(&mut self.carrier, handle),
        }
    }

    /// Refuses a request of the server's: this is a client.
    pub(crate) fn reject(&mut self, request: Incoming) {
        match &mut self.carrier {
            Carrier::Datagrams(datagrams) => datagrams.endpoint.reject(request),
            // Over a stream it has been answered.
            Carrier::Connection(_) => {}
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        loop {
            let event = self.carrier.poll_event()?;
            let Some(oscore) = &mut self.oscore else { return Some(event) };
            match oscore.event(&mut self.carrier, event) {
                Ok(Some(event)) => return Some(event),
                Ok(None) => {}
                Err(error) => self.fail(error),
            }
        }
    }

    fn fail(&mut self, error: OscoreError) {
        self.broken = Some(error.into());
    }

    /// Sends what is to be sent and can be sent at once.
    ///
    /// # Errors
    /// As [`Link::turn`].
    pub(crate) fn send(&mut self) -> Result<()> {
        match &mut self.carrier {
            Carrier::Datagrams(datagrams) => datagrams.flush(),
            // What goes into a stream is gathered, to leave in one piece.
            Carrier::Connection(_) => Ok(()),
        }
    }

    /// Sends what is to be sent and waits until something has happened. May be given up at any time.
    ///
    /// # Errors
    /// The server can't be reached (any more): nothing that is under way will be answered.
    pub(crate) async fn turn(&mut self) -> Result<()> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        match &mut self.carrier {
            Carrier::Datagrams(datagrams) => datagrams.turn().await,
            Carrier::Connection(connection) => connection.turn().await,
        }
    }
}
