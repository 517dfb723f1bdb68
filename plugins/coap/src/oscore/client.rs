//! A client's side: between what makes requests and what carries them.
//!
//! A response that asks for it (4.01 with Echo) is answered in here, by sending the request again with what is to be brought
//! back. So the handle that a requester knows may stand for another one below.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::context::Context;
use super::echo;
use super::error::{OscoreError, Refusal};
use super::protect::Exchange;
use crate::endpoint::{Busy, Event, Failure, Handle, Manner};
use crate::message::{self, Packet};

/// What carries messages, as they are.
pub trait Carrier {
    /// # Errors
    /// Too much is under way.
    fn request(&mut self, peer: SocketAddr, packet: &mut Packet, manner: Manner) -> Result<Handle, Busy>;
    /// `false`: it can't be sent now, or there is no such request.
    fn renew(&mut self, handle: Handle, packet: &mut Packet) -> bool;
    fn cancel(&mut self, handle: Handle);
}

/// A request that is under way.
struct Request {
    /// By what the requester knows it.
    known_as: Handle,
    exchange: Exchange,
    /// To be sent again, until an Echo was brought back.
    plain: Option<Packet>,
    peer: SocketAddr,
    manner: Manner,
}

/// The security context, and the requests that are not answered yet.
pub struct Client {
    context: Context,
    /// By the handles of what carries them.
    requests: HashMap<Handle, Request>,
    /// Requests whose handle below is not the one that is known.
    moved: HashMap<Handle, Handle>,
}

impl Client {
    pub fn new(context: Context) -> Client {
        Client { context, requests: HashMap::new(), moved: HashMap::new() }
    }

    /// Protects a request and sends it.
    ///
    /// # Errors
    /// It can't be protected: nothing was sent, and for all but [`OscoreError::Unfit`] nothing will be. Inside: too much is
    /// under way.
    pub fn request(
        &mut self,
        carrier: &mut impl Carrier,
        peer: SocketAddr,
        packet: &Packet,
        manner: Manner,
    ) -> Result<Result<Handle, Busy>, OscoreError> {
        let (mut protected, exchange) = self.context.protect_request(packet)?;
        Ok(carrier.request(peer, &mut protected, manner).inspect(|&handle| {
            let plain = Some(packet.clone());
            self.requests.insert(handle, Request { known_as: handle, exchange, plain, peer, manner });
        }))
    }

    /// Protects a request of which nothing is to be heard.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn protect(&mut self, packet: &Packet) -> Result<Packet, OscoreError> {
        self.context.protect_request(packet).map(|(protected, _)| protected)
    }

    /// Sends another request in the place of one that stays. `false` as [`Carrier::renew`].
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn renew(
        &mut self,
        carrier: &mut impl Carrier,
        handle: Handle,
        packet: &Packet,
    ) -> Result<bool, OscoreError> {
        let below = self.below(handle);
        let Some(request) = self.requests.get_mut(&below) else { return Ok(false) };
        let (mut protected, exchange) = self.context.protect_request(packet)?;
        let sent = carrier.renew(below, &mut protected);
        if sent {
            request.exchange = exchange;
            request.plain = Some(packet.clone());
        }
        Ok(sent)
    }

    /// Nothing more is to be heard of it.
    pub fn cancel(&mut self, carrier: &mut impl Carrier, handle: Handle) {
        let below = self.below(handle);
        self.forget(below);
        carrier.cancel(below);
    }

    /// What an event of the carrier means to the requester. `None`: nothing.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn event(&mut self, carrier: &mut impl Carrier, event: Event) -> Result<Option<Event>, OscoreError> {
        Ok(match event {
            Event::Response { handle, packet, arrival } => match self.response(carrier, handle, &packet)? {
                Taken::Answer(packet, handle) => Some(Event::Response { handle, packet, arrival }),
                Taken::Nothing => None,
                Taken::Failed(handle, why) => {
                    let (peer, token) = (arrival.peer, message::Token::of(&packet));
                    Some(Event::Failed { handle, peer, token, why })
                }
            },
            Event::Failed { handle, peer, token, why } => {
                let known_as = self.forget(handle).unwrap_or(handle);
                Some(Event::Failed { handle: known_as, peer, token, why })
            }
            Event::Acknowledged { handle, peer, token } => {
                let handle = self.requests.get(&handle).map_or(handle, |request| request.known_as);
                Some(Event::Acknowledged { handle, peer, token })
            }
            other => Some(other),
        })
    }

    fn response(
        &mut self,
        carrier: &mut impl Carrier,
        below: Handle,
        packet: &Packet,
    ) -> Result<Taken, OscoreError> {
        let Some(request) = self.requests.get_mut(&below) else { return Ok(Taken::Nothing) };
        let stays = request.manner.stay || request.manner.any_peer;
        let known_as = request.known_as;
        let plain = match self.context.unprotect_response(&mut request.exchange, packet) {
            Ok(plain) => plain,
            // The server could not make anything of the request, and said so without protection (RFC 8613 section 8.2).
            Err(Refusal::Unprotected) if matches!(message::class(packet.header.code), 4 | 5) => {
                log::warn!(
                    "the answer is not protected by OSCORE, so that anybody may have sent it; an error means that the \
                     server has other keys: check --oscore-master-secret, the salt and the ids"
                );
                self.forget(below);
                if stays {
                    carrier.cancel(below);
                }
                return Ok(Taken::Answer(packet.clone(), known_as));
            }
            Err(refusal) => {
                log::warn!("a response is not accepted: {refusal}");
                if stays {
                    return Ok(Taken::Nothing);
                }
                self.forget(below);
                return Ok(Taken::Failed(known_as, Failure::NotAuthentic));
            }
        };
        if let (Some(value), Some(again)) = (echo::question(&plain), request.plain.take()) {
            let mut again = again;
            echo::bring_back(&mut again, value);
            return self.again(carrier, below, &again, stays);
        }
        if let Some(number) = message::not_understood(&plain) {
            self.forget(below);
            if stays {
                carrier.cancel(below);
            }
            return Ok(Taken::Failed(known_as, Failure::CriticalOption(number)));
        }
        match stays {
            true => request.plain = None,
            false => drop(self.forget(below)),
        }
        Ok(Taken::Answer(plain, known_as))
    }

    /// Sends a request again, under another handle below.
    fn again(
        &mut self,
        carrier: &mut impl Carrier,
        below: Handle,
        packet: &Packet,
        stays: bool,
    ) -> Result<Taken, OscoreError> {
        let Some(before) = self.requests.remove(&below) else { return Ok(Taken::Nothing) };
        let known_as = before.known_as;
        self.moved.remove(&known_as);
        if stays {
            carrier.cancel(below);
        }
        let (mut protected, exchange) = self.context.protect_request(packet)?;
        let Ok(handle) = carrier.request(before.peer, &mut protected, before.manner) else {
            return Ok(Taken::Failed(known_as, Failure::NoResponse));
        };
        self.requests.insert(handle, Request { exchange, plain: None, ..before });
        self.moved.insert(known_as, handle);
        Ok(Taken::Nothing)
    }

    fn below(&self, handle: Handle) -> Handle {
        self.moved.get(&handle).copied().unwrap_or(handle)
    }

    fn forget(&mut self, below: Handle) -> Option<Handle> {
        let request = self.requests.remove(&below)?;
        self.moved.remove(&request.known_as);
        Some(request.known_as)
    }
}

/// What became of a response.
enum Taken {
    Answer(Packet, Handle),
    Nothing,
    Failed(Handle, Failure),
}
