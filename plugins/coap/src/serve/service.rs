//! What the server is, whichever transport a request comes by: resources, who observes them, and what the user sees.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tokio::sync::Notify;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::Feed;
use tracemq_plugin_api::serde_json;

use super::handler::{self, Answer, Change, Handled};
use super::observers::{Due, Gone, Key, Link, Observers, Registered, Settled, Wish};
use super::resources::{Refused, Representation, Resources, Written};
use super::show::{self, Sender, Shown};
use crate::message::{self, Block, CoapOption, MessageClass, Method, Packet, Token, path_of};

/// What a server does beside the ordinary.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// What everything is answered with.
    pub reply: Option<MessageClass>,
    /// Before each answer.
    pub delay: Duration,
    /// Seconds for which a response may be taken for fresh.
    pub max_age: u32,
}

/// Max-Age when the option is left out (RFC 7252 section 5.10.5).
pub const MAX_AGE: u32 = 60;

pub struct Service {
    state: Mutex<State>,
    manners: Manners,
    feed: Arc<Feed<Shown>>,
    events: Events,
}

struct State {
    resources: Resources,
    observers: Observers,
}

/// An answer, and its place in the order of notifications if the client observes from now on.
#[derive(Debug)]
pub struct Response {
    pub answer: Answer,
    pub observe: Option<u32>,
}

/// A notification without its place in an exchange.
#[derive(Debug)]
pub struct Notification {
    pub key: Key,
    pub answer: Answer,
    /// `None`: it is the last one.
    pub observe: Option<u32>,
    pub wish: Wish,
    pub confirmable: bool,
}

impl Service {
    pub fn new(resources: Resources, observers: Observers, manners: Manners, events: Events) -> Service {
        let state = Mutex::new(State { resources, observers });
        Service { state, manners, feed: Arc::new(show::feed()), events }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn feed(&self) -> Arc<Feed<Shown>> {
        Arc::clone(&self.feed)
    }

    pub fn manners(&self) -> &Manners {
        &self.manners
    }

    pub fn events(&self) -> &Events {
        &self.events
    }

    /// A socket of ours by which notifications may leave, and what tells that there are some.
    pub fn attach(&self) -> (Link, Arc<Notify>) {
        self.lock().observers.attach()
    }

    /// The socket is closed.
    pub fn detach(&self, link: Link, now: Instant) {
        let gone = self.lock().observers.detach(link, now);
        for gone in gone {
            self.tell_gone(&gone, "its connection is closed");
        }
    }

    /// A peer is gone that may not be told anything any more.
    pub fn gone(&self, link: Link, peer: SocketAddr, now: Instant) {
        let gone = self.lock().observers.gone(link, peer, now);
        for gone in gone {
            self.tell_gone(&gone, "its association is closed");
        }
    }

    /// Carries out a request whose body is whole. `blocks` is in how many it came.
    pub fn request(
        &self,
        now: Instant,
        link: Link,
        sender: &Sender,
        mut request: Packet,
        blocks: u32,
    ) -> Response {
        let body = Bytes::from(std::mem::take(&mut request.payload));
        let mut state = self.lock();
        let handled = match self.manners.reply {
            Some(code) => Handled::from(handler::fixed(code, &state.resources, &request, body.clone())),
            None => handler::handle(&mut state.resources, &request, body.clone()),
        };
        let observing = observe(&mut state, now, link, sender.peer, &request, &handled.answer);
        if let Some(Change::Written(path) | Change::Removed(path)) = &handled.change {
            state.observers.changed(path);
        }
        drop(state);
        let Observing { sequence, events } = observing;
        for event in events {
            self.events.emit(event);
        }
        show::show(&self.feed, Shown::new(request, body, blocks, sender, handled.answer.code));
        Response { answer: handled.answer, observe: sequence }
    }

    /// A further block of an answer to a GET is asked for: nothing that is to be shown.
    pub fn further(&self, request: &Packet) -> Answer {
        let mut state = self.lock();
        match self.manners.reply {
            Some(code) => handler::fixed(code, &state.resources, request, Bytes::new()),
            None => handler::handle(&mut state.resources, request, Bytes::new()).answer,
        }
    }

    /// Shows a request that was answered before it was carried out.
    pub fn refused(&self, sender: &Sender, mut request: Packet, code: MessageClass) {
        let body = Bytes::from(std::mem::take(&mut request.payload));
        show::show(&self.feed, Shown::new(request, body, 1, sender, code));
    }

    /// The next notification that is to leave by this socket, with the resource as it is now.
    pub fn notification(&self, now: Instant, link: Link) -> Option<Notification> {
        let mut state = self.lock();
        let Due { key, path, wish, confirmable, sequence } = state.observers.next(link, now)?;
        let answer = match state.resources.get(&path) {
            Some(resource) => {
                let mut request = Packet::new();
                if let Some(accept) = wish.accept {
                    message::set_uint(&mut request, CoapOption::Accept, accept.into());
                }
                handler::read(resource, &request)
            }
            None => handler::not_found(&path),
        };
        // RFC 7641 section 4.2: what is no success is the last that is told.
        let observe = answer.is_success().then_some(sequence);
        if observe.is_none()
            && let Some(gone) = state.observers.remove(&key, now)
        {
            let count = state.observers.len();
            drop(state);
            self.events.emit(left(&gone, "told that the resource is gone", count));
        }
        Some(Notification { key, answer, observe, wish, confirmable })
    }

    /// Whether somebody is to be told by this socket.
    pub fn has_notifications(&self, link: Link) -> bool {
        self.lock().observers.has_due(link)
    }

    /// It could not be sent now.
    pub fn postpone(&self, key: &Key) {
        self.lock().observers.postpone(key);
    }

    /// What became of a notification.
    pub fn settled(&self, now: Instant, key: &Key, outcome: Settled) {
        let mut state = self.lock();
        if let Some(gone) = state.observers.settled(key, outcome, now) {
            drop(state);
            let why = match outcome {
                Settled::Acknowledged => return,
                Settled::Rejected => "it rejected a notification",
                Settled::GaveUp => "it did not acknowledge a notification",
            };
            self.tell_gone(&gone, why);
        }
    }

    /// Sees to what takes hours; to be called every few minutes or more often.
    pub fn check(&self, now: Instant) {
        self.lock().observers.check(now);
    }

    /// The content format that a resource has now.
    pub fn format(&self, path: &str) -> Option<u16> {
        self.lock().resources.get(path)?.format
    }

    /// Writes what the user has published. Returns how many observers will be told.
    ///
    /// # Errors
    /// Why it was not taken.
    pub fn publish(&self, path: &str, state: Representation) -> Result<(Written, usize), String> {
        let mut all = self.lock();
        match all.resources.put(path, state) {
            Ok(written) => Ok((written, all.observers.changed(path))),
            Err(Refused::TooLarge) => {
                Err(format!("it is longer than {} bytes (--max-size)", all.resources.largest()))
            }
            Err(Refused::Full) => Err("there is no room for more resources (--max-resources)".to_owned()),
            Err(Refused::ReadOnly) => Err(format!("{path} is a file of --folder: change the file")),
        }
    }

    /// A file has appeared or changed, or (without a state) is gone.
    pub fn file(&self, path: &str, state: Option<Representation>) {
        let mut all = self.lock();
        let changed = match state {
            Some(state) => all.resources.put_file(path, state),
            None => all.resources.remove_file(path),
        };
        if changed {
            all.observers.changed(path);
        }
    }

    /// A warning for the user.
    pub fn warn(&self, text: String) {
        self.events.emit(Event::new(EventKind::WARNING, text));
    }

    fn tell_gone(&self, gone: &Gone, why: &str) {
        let count = self.lock().observers.len();
        self.events.emit(left(gone, why, count));
    }
}

/// What a request says about observing, done.
#[derive(Default)]
struct Observing {
    sequence: Option<u32>,
    events: Vec<Event>,
}

/// RFC 7641 section 4.1.
fn observe(
    state: &mut State,
    now: Instant,
    link: Link,
    peer: SocketAddr,
    request: &Packet,
    answer: &Answer,
) -> Observing {
    let mut observing = Observing::default();
    let wanted = match message::observe(request) {
        Some(wanted) if request.header.code == Method::Get.class() => wanted,
        _ => return observing,
    };
    let key = Key { link, peer, token: Token::of(request) };
    if wanted == 1 {
        if let Some(gone) = state.observers.remove(&key, now) {
            observing.events.push(left(&gone, "cancelled", state.observers.len()));
        }
        return observing;
    }
    let path = path_of(request);
    if wanted != 0 || !answer.is_success() || state.resources.get(&path).is_none() {
        return observing;
    }
    let wish = Wish {
        accept: message::uint(request, CoapOption::Accept).and_then(|accept| u16::try_from(accept).ok()),
        exponent: Block::of(request, CoapOption::Block2).map(|block| block.exponent),
    };
    let (registered, evicted) = state.observers.register(key, &path, wish, now);
    observing.sequence = (registered != Registered::Full).then(|| state.observers.sequence());
    let count = state.observers.len();
    if let Some(gone) = evicted {
        let why = "made room for another, having acknowledged nothing";
        observing.events.push(left(&gone, why, count));
    }
    match registered {
        Registered::Again => {}
        Registered::New => {
            let details = json!({
                "peer": peer.to_string(), "topic": path, "token": key.token.to_string(), "observers": count,
            });
            let text = format!("{peer} observes {path}");
            observing.events.push(Event::new(EventKind::CLIENT_SUBSCRIBED, text).details(details));
        }
        Registered::Full => {
            let details = json!({ "what": "observe", "peer": peer.to_string(), "topic": path });
            let text = format!("{peer} can't observe {path}: there are {count} observers (--max-observers)");
            observing.events.push(Event::new(EventKind::CLIENT_REFUSED, text).details(details));
        }
    }
    observing
}

fn left(gone: &Gone, why: &str, observers: usize) -> Event {
    let Gone { key, path, after } = gone;
    let details = json!({
        "peer": key.peer.to_string(), "topic": &**path, "token": key.token.to_string(),
        "reason": why, "seconds": after.as_secs_f64(), "observers": observers,
    });
    let text = format!("{} does not observe {path} any more: {why}", key.peer);
    Event::new(EventKind::CLIENT_DISCONNECTED, text).details(details)
}
