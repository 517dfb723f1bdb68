//! Protecting and verifying messages (RFC 8613 section 8).

use coap_lite::{RequestType, ResponseType};

use super::context::{Context, aad};
use super::echo::Challenge;
use super::error::{OscoreError, Refusal};
use super::parts::{self, Parts};
use super::replay::{Noted, ReplayWindow};
use super::value::{OscoreValue, number, partial_iv};
use crate::message::{self, CoapOption, MessageClass, Packet};

/// The largest sequence number: partial IVs have 40 bits.
const LARGEST_NUMBER: u64 = (1 << 40) - 1;
/// Observe values have 24 bits.
const OBSERVE_MASK: u32 = 0x00FF_FFFF;

/// What ties responses to their request. A client keeps it while it waits, a server while it may answer or notify.
#[derive(Clone, Debug)]
pub struct Exchange {
    kid: Vec<u8>,
    partial_iv: Vec<u8>,
    observes: bool,
    /// Server: the request's nonce is still free for a response. Client: a response may still come under that nonce.
    nonce_is_free: bool,
    /// Client: the number of the last notification.
    newest: Option<u64>,
}

impl Exchange {
    /// Whether the request is about an observation, so that more than one response may come.
    pub(super) fn observes(&self) -> bool {
        self.observes
    }
}

/// A request that was authentic.
#[derive(Debug)]
pub enum Received {
    /// To be answered.
    Request(Box<Packet>, Exchange),
    /// Authentic, but maybe old: it is to be answered with this, and not to be acted on (RFC 8613 appendix B.1.2).
    Challenge(Box<Packet>),
}

impl Context {
    /// The replay window is lost: before it takes any request, one must prove to be new. `random` is not to be guessed.
    pub fn challenge_first(&mut self, random: [u8; 8]) {
        self.window = Box::new(ReplayWindow::lost());
        self.challenge_with(random);
    }

    /// Whoever sends what may be old is asked to bring this back.
    pub(super) fn challenge_with(&mut self, random: [u8; 8]) {
        self.challenge = Some(Challenge::new(random));
    }

    /// A client's request, and what its responses are held against.
    ///
    /// # Errors
    /// A message that can't be protected, or a number that could not be had.
    pub fn protect_request(&mut self, request: &Packet) -> Result<(Packet, Exchange), OscoreError> {
        let Parts { mut outer, plaintext } = parts::take_apart(request)?;
        let partial_iv = self.number()?;
        let ciphertext = self.seal(
            self.nonce(&self.sender_id, &partial_iv),
            &aad(&self.sender_id, &partial_iv),
            &plaintext,
        )?;
        let observes = request.get_first_option(CoapOption::Observe).is_some();
        outer.header.code =
            MessageClass::Request(if observes { RequestType::Fetch } else { RequestType::Post });
        let value = OscoreValue {
            partial_iv: Some(partial_iv.clone()),
            kid: Some(self.sender_id.clone()),
            kid_context: self.id_context.clone(),
        };
        outer.add_option(CoapOption::Oscore, value.encode());
        outer.payload = ciphertext;
        let kid = self.sender_id.clone();
        Ok((outer, Exchange { kid, partial_iv, observes, nonce_is_free: true, newest: None }))
    }

    /// A response to a request of ours. The Observe value of a notification is this context's count of them, so that the
    /// order that was checked here holds for the layers above.
    ///
    /// # Errors
    /// [`Refusal`]: it is to be treated as if it had not come. `exchange` is as before then.
    pub fn unprotect_response(
        &mut self,
        exchange: &mut Exchange,
        response: &Packet,
    ) -> Result<Packet, Refusal> {
        let value = option(response)?.ok_or(Refusal::Unprotected)?;
        let nonce = match &value.partial_iv {
            Some(partial_iv) => self.nonce(&self.recipient_id, partial_iv),
            None => self.nonce(&exchange.kid, &exchange.partial_iv),
        };
        let plaintext = self.open(nonce, &aad(&exchange.kid, &exchange.partial_iv), &response.payload)?;
        let mut message = parts::put_together(response, &plaintext)?;
        if !message::is_response(message.header.code) {
            return Err(Refusal::Malformed);
        }
        let notifies = message.get_first_option(CoapOption::Observe).is_some();
        match value.partial_iv.as_deref().map(number) {
            Some(number) if exchange.observes => {
                if exchange.newest.is_some_and(|newest| number <= newest) {
                    return Err(Refusal::Stale);
                }
                exchange.newest = Some(number);
            }
            Some(_) => {}
            None if !exchange.nonce_is_free || exchange.newest.is_some() => return Err(Refusal::Stale),
            None => {}
        }
        exchange.nonce_is_free &= value.partial_iv.is_some();
        message.clear_option(CoapOption::Observe);
        if notifies && exchange.observes {
            message.set_observe_value(self.notifications);
            self.notifications = (self.notifications + 1) & OBSERVE_MASK;
        }
        Ok(message)
    }

    /// A request that came to a server.
    ///
    /// # Errors
    /// [`Refusal`], to be answered with [`refuse`].
    pub fn unprotect_request(&mut self, request: &Packet) -> Result<Received, Refusal> {
        let value = option(request)?.ok_or(Refusal::Unprotected)?;
        let (Some(kid), Some(partial_iv)) = (value.kid, value.partial_iv) else {
            return Err(Refusal::Malformed);
        };
        let elsewhere = value.kid_context.is_some() && value.kid_context != self.id_context;
        if kid != self.recipient_id || elsewhere {
            return Err(Refusal::UnknownContext);
        }
        let number = number(&partial_iv);
        let plaintext =
            self.open(self.nonce(&kid, &partial_iv), &aad(&kid, &partial_iv), &request.payload)?;
        let message = parts::put_together(request, &plaintext)?;
        if !message::is_request(message.header.code) {
            return Err(Refusal::Malformed);
        }
        let observes = request.get_first_option(CoapOption::Observe).is_some();
        let mut exchange = Exchange { kid, partial_iv, observes, nonce_is_free: true, newest: None };
        let proven = self.challenge.is_some_and(|challenge| challenge.is_answered_by(&message));
        let noted = if proven { self.window.note_proven(number) } else { self.window.note(number) };
        let noted = noted.map_err(|error| {
            log::error!("a request is not accepted: {error}");
            Refusal::NotKept
        })?;
        match (noted, self.challenge) {
            (Noted::New, _) => {}
            (Noted::InDoubt, Some(challenge)) => {
                let mut question = parts::like(request, request.header.code);
                challenge.put_into(&mut question);
                // The request may be an old one whose nonce was used then.
                exchange.nonce_is_free = false;
                // Without a number there is no question either, and the client is told what it would be told without us.
                let question =
                    self.protect_response(&mut exchange, &question).map_err(|_| Refusal::Replayed)?;
                return Ok(Received::Challenge(Box::new(question)));
            }
            (Noted::Used | Noted::InDoubt, _) => return Err(Refusal::Replayed),
        }
        Ok(Received::Request(Box::new(message), exchange))
    }

    /// A server's response or notification. The first goes under the request's nonce, all others under their own.
    ///
    /// # Errors
    /// As [`Context::protect_request`].
    pub fn protect_response(
        &mut self,
        exchange: &mut Exchange,
        response: &Packet,
    ) -> Result<Packet, OscoreError> {
        let Parts { mut outer, plaintext } = parts::take_apart(response)?;
        let own = match exchange.nonce_is_free {
            true => None,
            false => Some(self.number()?),
        };
        let nonce = match &own {
            Some(own) => self.nonce(&self.sender_id, own),
            None => self.nonce(&exchange.kid, &exchange.partial_iv),
        };
        exchange.nonce_is_free = false;
        outer.payload = self.seal(nonce, &aad(&exchange.kid, &exchange.partial_iv), &plaintext)?;
        outer.header.code = MessageClass::Response(if exchange.observes {
            ResponseType::Content
        } else {
            ResponseType::Changed
        });
        let value = OscoreValue { partial_iv: own, ..OscoreValue::default() };
        outer.add_option(CoapOption::Oscore, value.encode());
        Ok(outer)
    }

    fn number(&mut self) -> Result<Vec<u8>, OscoreError> {
        match self.counting.next_number()? {
            number if number <= LARGEST_NUMBER => Ok(partial_iv(number)),
            _ => Err(OscoreError::Exhausted),
        }
    }
}

/// The answer to a request that is not accepted: not protected, since there may be nothing to protect it with, and not to
/// be cached.
pub fn refuse(request: &Packet, refusal: Refusal) -> Packet {
    let mut answer = parts::like(request, refusal.code());
    answer.add_option(CoapOption::MaxAge, Vec::new());
    answer.payload = refusal.diagnostic().as_bytes().to_vec();
    answer
}

/// The OSCORE option of a message. One that stands twice, or in front of no ciphertext, is malformed.
fn option(message: &Packet) -> Result<Option<OscoreValue>, Refusal> {
    let Some(values) = message.get_option(CoapOption::Oscore) else { return Ok(None) };
    match (values.len(), values.front()) {
        (1, Some(value)) if !message.payload.is_empty() => OscoreValue::parse(value).map(Some),
        (0, _) => Ok(None),
        _ => Err(Refusal::Malformed),
    }
}
