//! A server's side: requests become plain before they are looked at, answers and notifications are protected after they are
//! made. It is shared by all that the server listens on, since sequence numbers and replay window are one.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};
use tracemq_plugin_api::prelude::{Error, ErrorKind, Result};

use super::context::Context;
use super::error::Refusal;
use super::protect::{Exchange, Received, refuse};
use crate::message::{Packet, Token};

/// Requests and observations that may be answered yet. An exchange takes about 100 bytes.
const MOST: usize = 65_536;

type Key = (SocketAddr, Token);

/// What is to be done with a request.
#[derive(Debug)]
pub enum Opened {
    /// To be answered, by way of [`Server::protect`]. `client` is who has proved to have sent it.
    Plain { request: Packet, client: Arc<str> },
    /// To be sent as it is; the request is not to be acted on. With why, where that is the client's fault.
    Answer(Packet, Option<Refusal>),
}

/// The security context, and the requests that are not answered yet.
#[derive(Debug)]
pub struct Server {
    context: Context,
    /// The client's id.
    client: Arc<str>,
    exchanges: HashMap<Key, (u64, Exchange)>,
    /// In the order in which they came, with some that are gone.
    order: VecDeque<(u64, Key)>,
    last: u64,
}

impl Server {
    /// Where the window of the context can't tell whether a request is new, the client must prove it.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(mut context: Context) -> Result<Server> {
        let mut random = [0; 8];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| Error::new(ErrorKind::CONNECT, "the system has no random numbers"))?;
        context.challenge_with(random);
        let id: String = context.recipient_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let client = Arc::from(format!("oscore:{id}"));
        Ok(Server { context, client, exchanges: HashMap::new(), order: VecDeque::new(), last: 0 })
    }

    /// Takes a request as it came.
    pub fn open(&mut self, peer: SocketAddr, request: &Packet) -> Opened {
        match self.context.unprotect_request(request) {
            Ok(Received::Request(plain, exchange)) => {
                self.remember((peer, Token::of(request)), exchange);
                Opened::Plain { request: *plain, client: Arc::clone(&self.client) }
            }
            Ok(Received::Challenge(question)) => Opened::Answer(*question, None),
            Err(refusal) => Opened::Answer(refuse(request, refusal), Some(refusal)),
        }
    }

    /// Protects an answer or notification for the last request of this peer with this token. `None`: there was none, or it is
    /// too long ago, or it can't be protected; then nothing is to be sent.
    pub fn protect(&mut self, peer: SocketAddr, token: Token, response: &Packet) -> Option<Packet> {
        let key = (peer, token);
        let (_, exchange) = self.exchanges.get_mut(&key)?;
        let protected = self.context.protect_response(exchange, response);
        let stays = exchange.observes();
        if !stays {
            self.exchanges.remove(&key);
        }
        match protected {
            Ok(protected) => Some(protected),
            Err(error) => {
                log::error!("an answer to {peer} is not sent: {error}");
                None
            }
        }
    }

    fn remember(&mut self, key: Key, exchange: Exchange) {
        self.last += 1;
        self.exchanges.insert(key, (self.last, exchange));
        self.order.push_back((self.last, key));
        while self.order.len() > 2 * MOST || self.exchanges.len() > MOST {
            let Some((number, key)) = self.order.pop_front() else { return };
            if self.exchanges.get(&key).is_some_and(|(known, _)| *known == number) {
                self.exchanges.remove(&key);
            }
        }
    }
}
