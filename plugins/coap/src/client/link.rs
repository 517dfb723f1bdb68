//! What carries requests and responses, whatever it is: the one place that knows the transports apart.
//!
//! Above it there are requests, responses and observations; below it, for datagrams, the message layer. What protects
//! single messages belongs in here, where blocks have been cut already and nothing has been numbered yet.

use std::net::SocketAddr;
use std::time::Instant;

use tracemq_plugin_api::prelude::*;

use super::udp::{self, Datagrams};
use crate::config::ConnectOptions;
use crate::endpoint::{Busy, Event, Handle, Incoming, Manner};
use crate::message::Packet;
use crate::target::{Target, Transport};

/// An open way to a server, or a group of them.
pub(crate) enum Link {
    Datagrams(Box<Datagrams>),
}

impl Link {
    /// # Errors
    /// The server can't be reached.
    pub(crate) async fn open(target: &Target, options: &ConnectOptions) -> Result<Link> {
        match target.transport {
            Transport::Udp => Ok(Link::Datagrams(Box::new(Datagrams::open(target, options).await?))),
            other => Err(Error::unsupported(format!("{}:// is not supported", other.scheme()))),
        }
    }

    /// The server or group at the other end.
    pub(crate) fn peer(&self) -> SocketAddr {
        match self {
            Link::Datagrams(datagrams) => datagrams.peer,
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
        match self {
            Link::Datagrams(datagrams) => datagrams.endpoint.request(Instant::now(), peer, packet, manner),
        }
    }

    /// Sends a request of which nothing is to be heard: it is not confirmable, and no answer is wanted.
    ///
    /// # Errors
    /// Too much is under way.
    pub(crate) fn send_off(&mut self, packet: Packet) -> std::result::Result<(), Busy> {
        match self {
            Link::Datagrams(datagrams) => {
                let peer = datagrams.peer;
                datagrams.endpoint.send(Instant::now(), peer, packet, false).map(drop)
            }
        }
    }

    /// Sends another request with the token of one that stays. `false`: the one before is not settled yet.
    pub(crate) fn renew(&mut self, handle: Handle, packet: &mut Packet) -> bool {
        match self {
            Link::Datagrams(datagrams) => datagrams.endpoint.renew(Instant::now(), handle, packet),
        }
    }

    /// Nothing more is to be heard of it.
    pub(crate) fn cancel(&mut self, handle: Handle) {
        match self {
            Link::Datagrams(datagrams) => datagrams.endpoint.cancel(Instant::now(), handle),
        }
    }

    /// Refuses a request of the server's: this is a client.
    pub(crate) fn reject(&mut self, request: Incoming) {
        match self {
            Link::Datagrams(datagrams) => datagrams.endpoint.reject(request),
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        match self {
            Link::Datagrams(datagrams) => datagrams.endpoint.poll_event(),
        }
    }

    /// Sends what is to be sent and waits until something has happened. May be given up at any time.
    ///
    /// # Errors
    /// The server can't be reached (any more): nothing that is under way will be answered.
    pub(crate) async fn turn(&mut self) -> Result<()> {
        match self {
            Link::Datagrams(datagrams) => {
                let turn = datagrams.turn().await;
                turn.map_err(|error| {
                    let text = format!("{}: {}", datagrams.peer, udp::reason(&error));
                    Error::new(ErrorKind::CONNECT, text).hint("check the host and the port").temporary()
                })
            }
        }
    }
}
