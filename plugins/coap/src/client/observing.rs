//! Observations: registering, notifications, registering again, ending (RFC 7641).
//!
//! A registration is renewed, with its token, when the last notification has become stale and none has come since: the
//! server may have forgotten it. One that fails is tried again with growing pauses. It is ended by a GET with Observe 1;
//! should the server not hear that, its next notification is rejected.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::oneshot;
use tracemq_plugin_api::prelude::*;

use super::driver::{Driver, Job, is_notification};
use super::order::Order;
use super::reply::{Reply, Tally};
use super::stream::{Shown, Stream};
use crate::blockwise::Answer;
use crate::endpoint::{Arrival, Handle, Manner};
use crate::message::{self, Block, CoapOption, Packet, Token};

/// What a notification without Max-Age has (RFC 7252 section 5.10.5).
const MAX_AGE: u32 = 60;
/// After Max-Age, 5 s to 15 s are let go by before registering again (RFC 7641 section 3.3.1).
const SLACK: Duration = Duration::from_secs(5);
const SPREAD: u64 = 10_000;
/// Between attempts to register again after a failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

const ECHO: CoapOption = CoapOption::Unknown(252);
const DEREGISTER: u32 = 1;

struct Observation {
    subscription: u64,
    topic: Arc<str>,
    request: Packet,
    confirmable: bool,
    handle: Option<Handle>,
    order: Order,
    /// The first registration was answered, well or not, or failed.
    answered: bool,
    /// The server has taken a registration.
    registered: bool,
    echoed: bool,
    /// When to register again: because the last notification is stale, or after a failure.
    due: Option<Instant>,
    failures: u32,
}

struct Subscription {
    stream: Stream,
    alive: usize,
    /// Until all first registrations have been answered.
    opening: Option<Opening>,
}

struct Opening {
    done: oneshot::Sender<Result<()>>,
    open: usize,
    taken: usize,
    refused: Vec<(Arc<str>, Error)>,
}

/// All observations of a connection.
#[derive(Default)]
pub(super) struct Observations {
    observations: HashMap<u64, Observation>,
    subscriptions: HashMap<u64, Subscription>,
}

impl Observations {
    pub(super) fn alarm(&self) -> Option<Instant> {
        self.observations.values().filter_map(|observation| observation.due).min()
    }
}

impl Driver {
    pub(super) fn observe(
        &mut self,
        subscription: u64,
        requests: Vec<Packet>,
        confirmable: bool,
        stream: Stream,
        done: oneshot::Sender<Result<()>>,
    ) {
        let open = requests.len();
        let opening = Some(Opening { done, open, taken: 0, refused: Vec::new() });
        let entry = Subscription { stream, alive: open, opening };
        self.observations.subscriptions.insert(subscription, entry);
        for request in requests {
            let id = self.id();
            let topic = message::uri_of(&request).into();
            let observation = Observation {
                subscription,
                topic,
                request,
                confirmable,
                handle: None,
                order: Order::default(),
                answered: false,
                registered: false,
                echoed: false,
                due: None,
                failures: 0,
            };
            self.observations.observations.insert(id, observation);
            self.register(id);
        }
    }

    /// Registers for the first time, or anew after a failure.
    fn register(&mut self, id: u64) {
        let Some(observation) = self.observations.observations.get_mut(&id) else { return };
        observation.due = None;
        let mut packet = observation.request.clone();
        if self.preferences.early {
            let exponent = self.preferences.room.exponent;
            Block { number: 0, more: false, exponent }.put(&mut packet, CoapOption::Block2);
        }
        let manner = Manner { confirmable: observation.confirmable, stay: true, any_peer: false };
        let peer = self.link.peer();
        match self.submit(Job::Observe(id), peer, &mut packet, manner) {
            Ok(handle) => {
                if let Some(observation) = self.observations.observations.get_mut(&id) {
                    observation.handle = Some(handle);
                }
            }
            Err(_) => self.observation_failed(id, Error::new(ErrorKind::OTHER, "too much is under way")),
        }
    }

    /// Registers again where it is time.
    pub(super) fn observations_due(&mut self, now: Instant) {
        let due = |(id, observation): (&u64, &Observation)| {
            observation.due.is_some_and(|due| due <= now).then_some((*id, observation.handle))
        };
        let due: Vec<_> = self.observations.observations.iter().filter_map(due).collect();
        for (id, handle) in due {
            match handle {
                Some(handle) => {
                    log::info!("observation {id}: the last notification is stale, registering again");
                    let Some(observation) = self.observations.observations.get_mut(&id) else { continue };
                    observation.due = None;
                    let mut packet = observation.request.clone();
                    if !self.link.renew(handle, &mut packet) {
                        self.forget(handle);
                        self.register(id);
                    }
                }
                None => self.register(id),
            }
        }
    }

    /// A response to a registration came, or a notification.
    pub(super) fn notified(&mut self, id: u64, handle: Handle, packet: Packet, arrival: &Arrival) {
        let now = Instant::now();
        let Some(observation) = self.observations.observations.get_mut(&id) else {
            return self.forget(handle);
        };
        if message::class(packet.header.code) != 2 {
            if let Some(echo) = message::first(&packet, ECHO)
                && !observation.echoed
            {
                observation.echoed = true;
                let mut request = observation.request.clone();
                message::replace(&mut request, ECHO, echo);
                self.link.renew(handle, &mut request);
                return;
            }
            // An error ends the observation at the server too (RFC 7641 section 4.2).
            self.forget(handle);
            let error = whole(packet, arrival).error();
            return self.observation_ended(id, error);
        }
        let Some(number) = message::observe(&packet) else {
            return self.not_observed(id, handle, packet, arrival);
        };
        if !is_notification(&packet, arrival) {
            // A server that was started again begins to count anew.
            observation.order = Order::default();
        }
        if !observation.order.accept(number, now) {
            log::info!("{}: notification {number} is older than what came before it", observation.topic);
            return;
        }
        observation.due = stale_at(now, &packet);
        let again = observation.failures > 0;
        (observation.registered, observation.failures) = (true, 0);
        if again {
            let topic = Arc::clone(&observation.topic);
            self.events.emit(Event::new(EventKind::CONNECTED, format!("observing {topic} again")));
        }
        self.taken(id);
        let more = Block::of(&packet, CoapOption::Block2).is_some_and(|block| block.more);
        let Some(observation) = self.observations.observations.get(&id) else { return };
        if more {
            let request = observation.request.clone();
            self.fetch_rest(id, number, &request, packet, arrival);
        } else {
            self.show(id, whole(packet, arrival), Some(number));
        }
    }

    /// All blocks of a notification are there.
    pub(super) fn whole_notification(&mut self, id: u64, number: u32, reply: Reply) {
        if reply.is_success() {
            self.show(id, reply, Some(number));
        } else {
            log::warn!("a notification could not be fetched whole: {}", reply.error());
        }
    }

    fn show(&mut self, id: u64, reply: Reply, observed: Option<u32>) {
        let Some(observation) = self.observations.observations.get(&id) else { return };
        let Some(subscription) = self.observations.subscriptions.get(&observation.subscription) else {
            return;
        };
        let topic = Arc::clone(&observation.topic);
        subscription.stream.push(Shown { reply, topic, observed });
    }

    /// The server answered as to any GET, and will say no more (RFC 7641 section 3.1).
    fn not_observed(&mut self, id: u64, handle: Handle, packet: Packet, arrival: &Arrival) {
        self.taken(id);
        let Some(observation) = self.observations.observations.get(&id) else { return };
        let text = match observation.registered {
            false => {
                format!("the server does not let {} be observed: this was its only answer", observation.topic)
            }
            true => format!("the server lets {} be observed no longer", observation.topic),
        };
        self.forget(handle);
        self.show(id, whole(packet, arrival), None);
        let error = Error::new(ErrorKind::PROTOCOL, text).hint("request gets it once");
        self.observation_ended(id, error);
    }

    /// A registration was answered well, which the caller waits for if it was the first.
    fn taken(&mut self, id: u64) {
        let Some(observation) = self.observations.observations.get_mut(&id) else { return };
        let key = observation.subscription;
        if std::mem::replace(&mut observation.answered, true) {
            return;
        }
        let subscription = self.observations.subscriptions.get_mut(&key);
        if let Some(opening) = subscription.and_then(|subscription| subscription.opening.as_mut()) {
            opening.taken += 1;
            opening.open -= 1;
            self.opened(key);
        }
    }

    /// Tells the caller when all first registrations have been answered.
    fn opened(&mut self, key: u64) {
        let Some(subscription) = self.observations.subscriptions.get_mut(&key) else { return };
        let Some(opening) = subscription.opening.take_if(|opening| opening.open == 0) else { return };
        if opening.taken == 0 {
            let mut refused = opening.refused.into_iter();
            let first = refused.next().map(|(topic, error)| error.while_doing(format!("observe {topic}")));
            let error = first.unwrap_or_else(|| Error::config("there is nothing to observe"));
            self.observations.subscriptions.remove(&key);
            // The caller may be gone.
            let _ = opening.done.send(Err(error));
            return;
        }
        // What is told here for the first time is no news to the user; after a failure it is.
        self.events.emit(Event::new(EventKind::CONNECTED, format!("observing on {}", self.target.shown())));
        for (topic, error) in opening.refused {
            self.refused(&topic, &error);
        }
        let _ = opening.done.send(Ok(()));
    }

    fn refused(&self, topic: &str, error: &Error) {
        let event = Event::new(EventKind::SUBSCRIPTION_REFUSED, format!("{topic}: {error}"));
        self.events.emit(event.details(json!({ "topic": topic })));
    }

    /// There is no observation any more: the server has refused or ended it.
    fn observation_ended(&mut self, id: u64, error: Error) {
        let Some(observation) = self.observations.observations.remove(&id) else { return };
        let key = observation.subscription;
        self.cancel(|job| matches!(job, Job::Rest(other, _) if other == id));
        let Some(subscription) = self.observations.subscriptions.get_mut(&key) else { return };
        subscription.alive -= 1;
        let alive = subscription.alive;
        match &mut subscription.opening {
            Some(opening) if !observation.answered => {
                opening.open -= 1;
                opening.refused.push((Arc::clone(&observation.topic), error.clone()));
                self.opened(key);
            }
            _ if alive > 0 => self.refused(&observation.topic, &error),
            _ => {}
        }
        if alive == 0
            && let Some(subscription) = self.observations.subscriptions.remove(&key)
        {
            subscription.stream.end(Some(error.while_doing(format!("observe {}", observation.topic))));
        }
    }

    /// A registration got no answer, or its server can't be reached.
    pub(super) fn observation_failed(&mut self, id: u64, error: Error) {
        let Some(observation) = self.observations.observations.get_mut(&id) else { return };
        observation.handle = None;
        if !observation.registered || !self.reconnect {
            return self.observation_ended(id, error);
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << observation.failures.min(10)).min(LONGEST_PAUSE);
        observation.failures += 1;
        observation.due = Some(Instant::now() + pause);
        let topic = Arc::clone(&observation.topic);
        let text = format!("{topic}: {error}; registering again in {} s", pause.as_secs());
        self.events.emit(Event::new(EventKind::RECONNECTING, text).details(json!({ "topic": &*topic })));
    }

    pub(super) fn observations_lost(&mut self, error: &Error) {
        let ids: Vec<u64> = self.observations.observations.keys().copied().collect();
        for id in ids {
            let waits = self
                .observations
                .observations
                .get(&id)
                .is_some_and(|observation| observation.handle.is_none());
            if !waits {
                self.observation_failed(id, error.clone());
            }
        }
    }

    /// Ends the observations of a subscription, or all.
    pub(super) fn unobserve(&mut self, subscription: Option<u64>) {
        let of = |(id, observation): (&u64, &Observation)| {
            subscription.is_none_or(|wanted| wanted == observation.subscription).then_some(*id)
        };
        let ids: Vec<u64> = self.observations.observations.iter().filter_map(of).collect();
        for id in ids {
            let Some(observation) = self.observations.observations.remove(&id) else { continue };
            self.cancel(|job| matches!(job, Job::Rest(other, _) if other == id));
            let Some(handle) = observation.handle else { continue };
            let mut packet = observation.request;
            message::set_uint(&mut packet, CoapOption::Observe, DEREGISTER);
            match observation.registered && self.link.renew(handle, &mut packet) {
                true => self.becomes_goodbye(handle),
                // What it did not hear of yet it may send: that is rejected.
                false => self.forget(handle),
            }
        }
        self.observations.subscriptions.retain(|id, _| subscription.is_some_and(|wanted| wanted != *id));
    }
}

fn whole(packet: Packet, arrival: &Arrival) -> Reply {
    let mut tally = Tally::default();
    tally.add(arrival);
    let answer = Answer { packet, request_blocks: 1, response_blocks: 1 };
    Reply { answer, tally, peer: arrival.peer, separate: arrival.separate }
}

/// When the registration is to be renewed unless another notification comes.
fn stale_at(now: Instant, packet: &Packet) -> Option<Instant> {
    let age = message::uint(packet, CoapOption::MaxAge).unwrap_or(MAX_AGE);
    // Not all clients at the same time, and not predictably.
    let spread = RandomState::new().hash_one(Token::of(packet)) % SPREAD;
    now.checked_add(Duration::from_secs(u64::from(age)) + SLACK + Duration::from_millis(spread))
}
