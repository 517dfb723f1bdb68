//! The loop: what the host wants goes out, what comes in finds its way back.
//!
//! One request under way is a [`Work`], found by the handle of its message. Bodies in blocks are transfers that make one
//! message after the other; what fits into a message needs none.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tracemq_plugin_api::prelude::*;

use super::asking::{Asks, Sink};
use super::calls::{Calls, Place, wants_no_answer};
use super::link::Link;
use super::observing::Observations;
use super::reply::{Reply, Tally, failed, failed_outcome};
use super::stream::Stream;
use super::{Command, GOODBYE};
use crate::blockwise::{Answer, Preferences, Step, Transfer};
use crate::config::ConnectOptions;
use crate::endpoint::{Arrival, Busy, Event, Failure, FastMap, Handle, Manner};
use crate::message::{MessageType, Packet};
use crate::target::Target;

/// What a message under way is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    Publish(Place),
    Ask(u64),
    /// An observation's registration, and all its notifications.
    Observe(u64),
    /// The rest of a notification that did not fit into one message.
    Rest(u64, u32),
    /// An observation that is being ended.
    Goodbye,
}

/// A message under way.
struct Work {
    job: Job,
    manner: Manner,
    tally: Tally,
    /// A body takes several messages, each of which is a work of its own with the same transfer.
    transfer: Option<Box<Transfer>>,
}

pub(super) struct Driver {
    pub(super) link: Link,
    pub(super) target: Target,
    pub(super) events: tracemq_plugin_api::sdk::Events,
    pub(super) reconnect: bool,
    pub(super) observations: Observations,
    pub(super) preferences: Preferences,
    nstart: usize,
    works: FastMap<Handle, Work>,
    calls: Calls,
    /// Messages of calls that are under way, and the one of them that sends its body in blocks: two such might be mixed up
    /// by the server (RFC 7959 section 2.5).
    publishing: usize,
    in_blocks: Option<Place>,
    /// Answers to messages of calls, to be told when what comes after them has left.
    answered: Vec<(Place, Reply)>,
    asks: Asks,
    commands: mpsc::WeakSender<Command>,
    last_id: u64,
    closing: Option<(Instant, oneshot::Sender<()>)>,
}

impl Driver {
    pub(super) fn new(
        link: Link,
        target: Target,
        options: &ConnectOptions,
        context: &Context,
        commands: mpsc::WeakSender<Command>,
    ) -> Result<Driver> {
        Ok(Driver {
            link,
            target,
            events: context.events().clone(),
            reconnect: context.reconnect(),
            observations: Observations::default(),
            preferences: options.preferences()?,
            nstart: usize::from(options.nstart).max(1),
            works: FastMap::default(),
            calls: Calls::default(),
            publishing: 0,
            in_blocks: None,
            answered: Vec::new(),
            asks: Asks::default(),
            commands,
            last_id: 0,
            closing: None,
        })
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        enum Woken {
            Link(Result<()>),
            Command(Option<Command>),
            Alarm,
        }
        loop {
            self.advance();
            if self.has_ended() {
                return self.leave().await;
            }
            let alarm = self.alarm();
            let woken = {
                let alarm = async {
                    match alarm {
                        Some(alarm) => tokio::time::sleep_until(alarm.into()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    command = commands.recv() => Woken::Command(command),
                    turned = self.link.turn() => Woken::Link(turned),
                    () = alarm => Woken::Alarm,
                }
            };
            // A link on which there is always something must not keep the thread to itself.
            tokio::task::consume_budget().await;
            match woken {
                Woken::Link(Ok(())) | Woken::Alarm => {}
                Woken::Link(Err(error)) => self.lost(&error),
                Woken::Command(Some(command)) => self.command(command),
                Woken::Command(None) => return,
            }
        }
    }

    /// All that can be done without waiting.
    fn advance(&mut self) {
        loop {
            while let Some(event) = self.link.poll_event() {
                self.event(event);
            }
            self.observations_due(Instant::now());
            if !self.publish_more() {
                break;
            }
        }
        if self.answered.is_empty() {
            return;
        }
        // The server is to have the next messages while the outcomes of those before are made.
        let sent = self.link.send();
        for (place, reply) in self.answered.drain(..) {
            self.calls.settle(place, reply.outcome());
        }
        if let Err(error) = sent {
            self.lost(&error);
        }
    }

    fn alarm(&self) -> Option<Instant> {
        let closing = self.closing.as_ref().map(|(until, _)| *until);
        [closing, self.observations.alarm()].into_iter().flatten().min()
    }

    /// All goodbyes are said, or it took too long.
    fn has_ended(&self) -> bool {
        let open = || self.works.values().any(|work| work.job == Job::Goodbye);
        self.closing.as_ref().is_some_and(|(until, _)| !open() || Instant::now() >= *until)
    }

    /// Sends what is left, such as the acknowledgement of the last answer, without waiting for anything.
    async fn leave(mut self) {
        let _ = tokio::time::timeout(Duration::ZERO, self.link.turn()).await;
        if let Some((_, done)) = self.closing.take() {
            let _ = done.send(());
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Publish { batch, options, done } => self.calls.begin(batch, options, done),
            Command::Request { packet, confirmable, topic, sink } => {
                let id = self.id();
                if self.link.peer().ip().is_multicast() {
                    let stream = Stream::open(id, sink, self.commands.clone());
                    self.ask_group(id, packet, stream, topic.into());
                } else {
                    self.ask(id, packet, confirmable, Sink::One { sender: sink, topic });
                }
            }
            Command::Fetch { packet, done } => {
                let id = self.id();
                self.ask(id, packet, true, Sink::Caller(done));
            }
            Command::Observe { requests, confirmable, sink, done } => {
                let id = self.id();
                let stream = Stream::open(id, sink, self.commands.clone());
                self.observe(id, requests, confirmable, stream, done);
            }
            Command::Gone(id) => {
                if self.asks.gone(id) {
                    self.cancel(|job| job == Job::Ask(id));
                }
                self.unobserve(Some(id));
            }
            Command::Close { done } => {
                self.unobserve(None);
                self.closing = Some((Instant::now() + GOODBYE, done));
            }
        }
    }

    pub(super) fn id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn cancel(&mut self, which: impl Fn(Job) -> bool) {
        let handles: Vec<Handle> =
            self.works.iter().filter(|(_, work)| which(work.job)).map(|(handle, _)| *handle).collect();
        for handle in handles {
            self.works.remove(&handle);
            self.link.cancel(handle);
        }
    }

    /// Sends a message that something is to be heard of.
    pub(super) fn submit(
        &mut self,
        job: Job,
        peer: SocketAddr,
        packet: &mut Packet,
        manner: Manner,
    ) -> std::result::Result<Handle, Busy> {
        self.begin(Work { job, manner, tally: Tally::default(), transfer: None }, peer, packet)
    }

    fn begin(
        &mut self,
        work: Work,
        peer: SocketAddr,
        packet: &mut Packet,
    ) -> std::result::Result<Handle, Busy> {
        let handle = self.link.request(peer, packet, work.manner)?;
        self.works.insert(handle, work);
        Ok(handle)
    }

    /// Says goodbye by a message with the token of the observation.
    pub(super) fn becomes_goodbye(&mut self, handle: Handle) {
        if let Some(work) = self.works.get_mut(&handle) {
            work.job = Job::Goodbye;
        }
    }

    pub(super) fn forget(&mut self, handle: Handle) {
        self.works.remove(&handle);
        self.link.cancel(handle);
    }

    // Publishing.

    /// Sends messages of calls, as many as may be under way. Whether any was dealt with.
    fn publish_more(&mut self) -> bool {
        let mut any = false;
        let preferences = self.link.preferences(self.preferences);
        while self.publishing < self.nstart && self.calls.is_waiting() {
            let Some(next) = self.calls.next(&self.target) else { return any };
            let (place, job) = (next.place, Job::Publish(next.place));
            let manner = if next.confirmable { Manner::CONFIRMABLE } else { Manner::NON_CONFIRMABLE };
            let peer = self.link.peer();
            let silent = peer.ip().is_multicast() || !next.confirmable && wants_no_answer(next.packet);
            let long = next.packet.payload.len() > preferences.room.whole;
            let sent = if silent {
                self.link.send_off(next.packet.clone()).map(|()| self.calls.settle(place, Outcome::sent()))
            } else if long && self.in_blocks.is_some() {
                Err(Busy::Full)
            } else if long || preferences.early {
                match Transfer::start(next.packet.clone(), preferences) {
                    Ok((transfer, mut first)) => {
                        let transfer = Some(Box::new(transfer));
                        let work = Work { job, manner, tally: Tally::default(), transfer };
                        self.begin(work, peer, &mut first).map(|_| {
                            self.publishing += 1;
                            self.in_blocks = if long { Some(place) } else { self.in_blocks };
                        })
                    }
                    Err(problem) => {
                        self.calls.settle(place, Outcome::refused(problem.to_string()));
                        Ok(())
                    }
                }
            } else {
                // The way of nearly all messages: nothing is copied but into the datagram.
                self.link.request(peer, next.packet, manner).map(|handle| {
                    let work = Work { job, manner, tally: Tally::default(), transfer: None };
                    self.works.insert(handle, work);
                    self.publishing += 1;
                })
            };
            if let Err(Busy::Full) = sent {
                self.calls.put_back(place);
                return any;
            }
            any = true;
        }
        any
    }

    fn ask(&mut self, id: u64, packet: Packet, confirmable: bool, sink: Sink) {
        self.asks.begin(id, packet.clone(), sink);
        let peer = self.link.peer();
        let manner = if confirmable { Manner::CONFIRMABLE } else { Manner::NON_CONFIRMABLE };
        match Transfer::start(packet, self.link.preferences(self.preferences)) {
            Ok((transfer, mut first)) => {
                let transfer = Some(Box::new(transfer));
                let work = Work { job: Job::Ask(id), manner, tally: Tally::default(), transfer };
                if self.begin(work, peer, &mut first).is_err() {
                    self.asks.failed(id, peer, busy());
                }
            }
            Err(problem) => self.asks.failed(id, peer, Error::config(problem.to_string())),
        }
    }

    fn ask_group(&mut self, id: u64, mut packet: Packet, stream: Stream, topic: std::sync::Arc<str>) {
        self.asks.begin(id, packet.clone(), Sink::Group { stream, topic });
        let manner = Manner { confirmable: false, stay: true, any_peer: true };
        if self.submit(Job::Ask(id), self.link.peer(), &mut packet, manner).is_err() {
            self.asks.refused(id, busy());
        }
    }

    // What comes in.

    fn event(&mut self, event: Event) {
        match event {
            Event::Response { handle, packet, arrival } => self.response(handle, packet, &arrival),
            Event::Failed { handle, peer, why, .. } => self.failed(handle, peer, why),
            Event::Acknowledged { .. } => log::debug!("acknowledged: the answer will come by itself"),
            Event::Malformed { peer, error } => {
                log::warn!("{peer} sent something that is no message: {error}")
            }
            Event::Stray { peer, packet } => {
                log::info!("{peer} sent an answer ({}) to nothing that it was asked", packet.header.code);
            }
            Event::Ping { peer } => log::debug!("{peer} pings"),
            // Nobody asks a client for anything.
            Event::Request { request, packet } => {
                log::info!("{} asks for {}: this is a client", request.peer, packet.header.code);
                self.link.reject(request);
            }
            Event::Rejected { .. } => {}
        }
    }

    fn response(&mut self, handle: Handle, packet: Packet, arrival: &Arrival) {
        let Some(work) = self.works.get(&handle) else { return self.link.cancel(handle) };
        match work.job {
            Job::Observe(id) => self.notified(id, handle, packet, arrival),
            Job::Goodbye => self.forget(handle),
            Job::Ask(id) if work.transfer.is_none() => self.one_of_group(id, packet, arrival),
            _ => {
                if let Some(work) = self.works.remove(&handle) {
                    self.step(work, packet, arrival);
                }
            }
        }
    }

    /// A response to a message that is answered once.
    fn step(&mut self, mut work: Work, packet: Packet, arrival: &Arrival) {
        work.tally.add(arrival);
        if work.transfer.is_none() {
            let whole = !Transfer::goes_on(&packet);
            let request = match work.job {
                Job::Publish(place) if !whole => self.calls.request(place, &self.target),
                _ => None,
            };
            let transfer = request
                .and_then(|request| Transfer::start(request, self.link.preferences(self.preferences)).ok());
            match transfer {
                // It was the first message of a transfer all the same.
                Some((transfer, _)) => work.transfer = Some(Box::new(transfer)),
                None => {
                    let answer = Answer { packet, request_blocks: 1, response_blocks: 1 };
                    return self.done(&work, answer, arrival);
                }
            }
        }
        let Some(transfer) = &mut work.transfer else { return };
        let step = transfer.receive(packet);
        self.take(work, step, arrival);
    }

    fn take(&mut self, work: Work, step: Step, arrival: &Arrival) {
        match step {
            Step::Done(answer) => self.done(&work, answer, arrival),
            Step::Failed(problem) => {
                let error = Error::new(ErrorKind::PROTOCOL, problem.to_string());
                self.gave_up(work.job, arrival.peer, error, Outcome::refused(problem.to_string()));
            }
            Step::Send(mut packet) => {
                let job = work.job;
                if self.begin(work, arrival.peer, &mut packet).is_err() {
                    self.gave_up(job, arrival.peer, busy(), Outcome::unconfirmed("too much is under way"));
                }
            }
        }
    }

    fn done(&mut self, work: &Work, answer: Answer, arrival: &Arrival) {
        let reply = Reply { answer, tally: work.tally, peer: arrival.peer, separate: arrival.separate };
        match work.job {
            Job::Publish(place) => {
                self.published(place);
                self.answered.push((place, reply));
            }
            Job::Ask(id) => self.asks.answered(id, reply),
            Job::Rest(id, number) => self.whole_notification(id, number, reply),
            Job::Observe(_) | Job::Goodbye => {}
        }
    }

    fn published(&mut self, place: Place) {
        self.publishing -= 1;
        self.in_blocks.take_if(|long| *long == place);
    }

    /// A server of a group has answered. What does not fit into its message is fetched from itself.
    fn one_of_group(&mut self, id: u64, packet: Packet, arrival: &Arrival) {
        let Some(ask) = self.asks.get(id) else { return };
        let mut tally = Tally::default();
        tally.add(arrival);
        let preferences = self.link.preferences(self.preferences);
        let (transfer, step) = Transfer::resume(&ask.request, packet, preferences);
        let manner = Manner::CONFIRMABLE;
        let work = Work { job: Job::Ask(id), manner, tally, transfer: Some(Box::new(transfer)) };
        self.take(work, step, arrival);
    }

    /// Fetches what is missing of a notification.
    pub(super) fn fetch_rest(
        &mut self,
        id: u64,
        number: u32,
        request: &Packet,
        packet: Packet,
        arrival: &Arrival,
    ) {
        self.cancel(|job| matches!(job, Job::Rest(other, _) if other == id));
        let preferences = self.link.preferences(self.preferences);
        let (transfer, step) = Transfer::resume(request, packet, preferences);
        let mut tally = Tally::default();
        tally.add(arrival);
        let manner = Manner::CONFIRMABLE;
        let work = Work { job: Job::Rest(id, number), manner, tally, transfer: Some(Box::new(transfer)) };
        self.take(work, step, arrival);
    }

    // What goes wrong.

    fn failed(&mut self, handle: Handle, peer: SocketAddr, why: Failure) {
        let Some(work) = self.works.remove(&handle) else { return };
        self.gave_up(work.job, peer, failed(why), failed_outcome(why));
    }

    fn gave_up(&mut self, job: Job, peer: SocketAddr, error: Error, outcome: Outcome) {
        match job {
            Job::Publish(place) => {
                self.published(place);
                // The failure of the only message is the call's, so that its kind decides the exit status.
                match self.calls.is_single(place) {
                    true => self.calls.fail(place, error),
                    false => self.calls.settle(place, outcome),
                }
            }
            Job::Ask(id) => self.asks.failed(id, peer, error),
            Job::Observe(id) => self.observation_failed(id, error),
            Job::Rest(id, _) => log::warn!("{peer}: a notification is not whole ({error}), observation {id}"),
            Job::Goodbye => {}
        }
    }

    /// The server can't be reached: it is told at once, to everybody.
    fn lost(&mut self, error: &Error) {
        self.cancel(|_| true);
        (self.publishing, self.in_blocks) = (0, None);
        self.calls.fail_all(error);
        self.asks.fail_all(error);
        self.observations_lost(error);
    }
}

fn busy() -> Error {
    Error::new(ErrorKind::OTHER, "too much is under way").temporary()
}

/// Whether a response came as a notification, and not with the acknowledgement of a registration.
pub(super) fn is_notification(packet: &Packet, arrival: &Arrival) -> bool {
    arrival.separate && packet.header.get_type() != MessageType::Acknowledgement
}
