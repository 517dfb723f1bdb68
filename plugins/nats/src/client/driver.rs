//! The task of a connection: it serves the link while there is one, and makes a new one when it is lost.
//!
//! It never waits for the host: messages go into rings, and a ping is answered whatever the host does. Only `--lossless`, and a
//! host that is a moment late, stop it from reading.

mod notices;
mod start;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tracemq_plugin_api::net::{Buffered, Moved};
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{MAX_BATCH, now};

use super::dial::{Dial, lost};
use super::pool::Pool;
use super::publishing::Publishing;
use super::ring::Room;
use super::sinks::Sinks;
use super::{Command, GOODBYE};
use crate::endpoint::Server;
use crate::session::{Mark, Refusal, Session};
use crate::wire::{Limits, Op, Scan, ServerInfo, WireError, scan};

/// A connection that lived so long was a good one. One that is accepted and closed at once is not asked again and again
/// without a pause.
const GOOD_LIFE: Duration = Duration::from_secs(5);
/// When the server has confirmed nothing for so long, it is told.
const STANDSTILL: Duration = Duration::from_secs(10);
/// An end that comes so soon after reading had stopped was our own fault.
const CUT_OFF: Duration = Duration::from_secs(2);

pub(super) struct Driver {
    dial: Dial,
    pool: Pool,
    server: Server,
    info: ServerInfo,
    session: Session,
    sinks: Sinks,
    publishing: Publishing,
    asked: Vec<Asked>,
    groups: u64,
    events: Events,
    reconnect: bool,
    link: Option<Buffered>,
    limits: Limits,
    heard: Instant,
    next_ping: Instant,
    /// What the server said before it closed the connection.
    complaint: Option<Refusal>,
    /// When reading was last stopped for a host that is too slow.
    stalled: Option<Instant>,
    warned: bool,
    /// The ping of which was told that no answer comes.
    told: Option<Instant>,
    /// Leaving a server that is about to go, once this ping is answered.
    leaving: Option<Mark>,
    /// Subscribed again once this ping is answered, after so long without a connection.
    resumed: Option<(Mark, Duration)>,
    connections: watch::Sender<u64>,
}

/// A subscription whose caller waits for the server.
struct Asked {
    group: u64,
    mark: Mark,
    done: oneshot::Sender<Result<()>>,
    refused: Vec<(String, String)>,
}

/// Why serving a link ended.
enum End {
    /// The link is lost; another may do better.
    Lost(Error),
    /// Nothing more can be done.
    Final(Error),
    Closed(oneshot::Sender<()>),
    /// The handle is gone.
    Dropped,
}

impl Driver {
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            let end = match self.link.take() {
                Some(mut link) => {
                    let since = Instant::now();
                    let end = self.serve(&mut link, &mut commands).await;
                    self.session.connection_lost();
                    self.publishing.connection_lost();
                    if since.elapsed() >= GOOD_LIFE {
                        self.pool.good();
                    }
                    end
                }
                None => match self.reconnect(&mut commands).await {
                    Ok(()) => continue,
                    Err(end) => end,
                },
            };
            match end {
                End::Lost(error) if self.reconnect => {
                    self.events.emit(Event::new(EventKind::RECONNECTING, format!("{error}; reconnecting")));
                }
                End::Lost(error) | End::Final(error) => return self.end(error).await,
                End::Closed(done) => {
                    // Whoever asked to close may not wait for it.
                    let _ = done.send(());
                    return;
                }
                End::Dropped => return,
            }
        }
    }

    /// Serves one connection until it ends.
    async fn serve(&mut self, link: &mut Buffered, commands: &mut mpsc::Receiver<Command>) -> End {
        loop {
            match self.turn(link, commands).await {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(End::Closed(done))) => {
                    self.drain(link).await;
                    return End::Closed(done);
                }
                Ok(ControlFlow::Break(end)) | Err(end) => return end,
            }
        }
    }

    async fn turn(
        &mut self,
        link: &mut Buffered,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Result<ControlFlow<End>, End> {
        let now = Instant::now();
        // A server that never stops sending must keep neither pings nor commands from their turn: the select below
        // prefers the link.
        if self.publishing.has_room()
            && let Ok(command) = commands.try_recv()
            && let ControlFlow::Break(end) = self.obey(command, link)
        {
            return Ok(ControlFlow::Break(end));
        }
        self.drop_closed(link);
        let room = self.sinks.has_room(now);
        let reading = room == Room::Some;
        if reading && self.parse(link)? {
            return Ok(ControlFlow::Continue(()));
        }
        self.ping(link, now, reading)?;
        let settings = &self.dial.settings;
        self.publishing.feed(&mut self.session, &self.info, &settings.prefix, now, &mut link.output);
        if !reading {
            self.stall(now, room);
        }
        let alarm = match room {
            Room::None { until: Some(until) } => until.min(self.next_ping),
            _ => self.standstill(now, reading).map_or(self.next_ping, |due| due.min(self.next_ping)),
        };
        tokio::select! {
            biased;
            moved = link.moved(reading) => match moved {
                Ok(Moved::Written) => {}
                Ok(Moved::Read) => self.heard = Instant::now(),
                Err(error) => return Err(self.lost(&error)),
            },
            () = self.sinks.changed() => self.sinks.flush(),
            command = commands.recv(), if self.publishing.has_room() => {
                return Ok(match command {
                    Some(command) => self.obey(command, link),
                    None => ControlFlow::Break(End::Dropped),
                });
            }
            // The turn that follows asks what is due.
            () = tokio::time::sleep_until(alarm.into()) => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Handles operations that have been read, up to a batch of messages. True when there were any.
    fn parse(&mut self, link: &mut Buffered) -> Result<bool, End> {
        let mut end = 0;
        let mut other = None;
        let mut broken = None;
        for _ in 0..MAX_BATCH {
            match scan(&link.input[end..], &self.limits) {
                Ok(Scan::Op(Op::Message(mut at), length)) => {
                    at.shift(end as u32);
                    end += length;
                    if let Some(route) = self.session.route(at.sid) {
                        self.sinks.note(route, at);
                    }
                }
                Ok(Scan::Op(op, length)) => {
                    other = Some((op, end));
                    end += length;
                    break;
                }
                Ok(Scan::More(size)) => {
                    if end == 0 {
                        link.expect(size);
                    }
                    break;
                }
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        let block = link.input.split_to(end).freeze();
        if end > 0 {
            self.sinks.deliver(&block, now());
        }
        if let Some((op, start)) = other {
            let notice = self.session.handle(&op, &block[start..], Instant::now(), &mut link.output);
            match notice {
                Ok(None) => {}
                Ok(Some(notice)) => self.notice(notice, link)?,
                Err(error) => broken = Some(error),
            }
        }
        match broken {
            Some(error) => Err(self.broken(&error)),
            None => Ok(end > 0),
        }
    }

    /// Nothing that follows can be understood; another connection may do better.
    fn broken(&self, error: &WireError) -> End {
        let text = format!("{} sent {error}", self.server.shown());
        End::Lost(Error::new(ErrorKind::PROTOCOL, text).temporary())
    }

    /// Pings when it is time, and gives up a server that has not answered for as long again. While nothing is read, no answer
    /// can be seen.
    fn ping(&mut self, link: &mut Buffered, now: Instant, reading: bool) -> Result<(), End> {
        if now < self.next_ping {
            return Ok(());
        }
        let interval = self.dial.settings.ping_interval.duration();
        self.next_ping = now + interval;
        if !reading {
            return Ok(());
        }
        let silent = now.saturating_duration_since(self.heard) >= interval;
        if silent
            && self.session.unanswered().is_some_and(|since| now.saturating_duration_since(since) >= interval)
        {
            let text = format!("{} does not answer pings", self.server.shown());
            return Err(End::Lost(Error::new(ErrorKind::CLOSED, text).temporary()));
        }
        self.session.ping(now, &mut link.output);
        Ok(())
    }

    /// What was published waits for a server that says nothing: it is told once, and before the server is given up. Returns when
    /// that will be due.
    fn standstill(&mut self, now: Instant, reading: bool) -> Option<Instant> {
        let since = self.session.unanswered().filter(|_| reading && !self.publishing.is_idle())?;
        if self.told == Some(since) {
            return None;
        }
        let due = since + STANDSTILL;
        if now < due {
            return Some(due);
        }
        self.told = Some(since);
        let (shown, limit) = (self.server.shown(), STANDSTILL.as_secs());
        let text = format!("{shown} has confirmed nothing for {limit} s; what was published waits for it");
        self.events.emit(Event::new(EventKind::WARNING, text));
        None
    }

    /// Reading has stopped for a host that is too slow.
    fn stall(&mut self, now: Instant, room: Room) {
        // Whoever waits for the server's answer to a subscription is the one who would have to take messages.
        self.let_pull();
        // Nothing can be heard, which is not the server's fault.
        self.heard = now;
        if room == (Room::None { until: None }) {
            self.stalled = Some(now);
            if !std::mem::replace(&mut self.warned, true) {
                // As a log and not as an event: a host that stands still shows no events.
                log::warn!(
                    "messages come faster than they are taken, and with --lossless nothing more is read: the server slows \
                     publishers down, and cuts this connection off after its write deadline (10 s unless changed) or 64 MB"
                );
            }
        }
    }

    fn lost(&mut self, error: &std::io::Error) -> End {
        let shown = self.server.shown();
        let cut_off = matches!(self.complaint, Some(Refusal::SlowConsumer(_)))
            || self.stalled.is_some_and(|at| at.elapsed() < CUT_OFF);
        let crossing = match self.complaint.take() {
            Some(Refusal::Login(text)) => {
                let text = format!("{shown} ended the connection: -ERR '{text}'");
                return End::Final(Error::new(ErrorKind::AUTH, text).hint(self.dial.settings.auth.hint()));
            }
            Some(refusal) => {
                Error::new(ErrorKind::CLOSED, format!("{shown} closed the connection: {refusal}")).temporary()
            }
            None => lost(&self.server, error),
        };
        if cut_off && self.stalled.is_some() {
            return End::Final(
                Error::new(
                    ErrorKind::CLOSED,
                    format!("{}: cut off as a slow consumer; messages were lost", crossing.message()),
                )
                .hint("leave --lossless out, make what reads the output faster, or raise the server's write_deadline"),
            );
        }
        End::Lost(crossing)
    }

    /// Ends what was subscribed, waits until all that was published is written and confirmed, and closes.
    async fn drain(&mut self, link: &mut Buffered) {
        self.session.unsubscribe_all(&mut link.output);
        let drained = async {
            while !self.publishing.is_idle() {
                let settings = &self.dial.settings;
                let now = Instant::now();
                self.publishing.feed(&mut self.session, &self.info, &settings.prefix, now, &mut link.output);
                // Errors of the protocol end it as well: there is nothing to come back for.
                match self.parse(link) {
                    Ok(true) => continue,
                    Ok(false) => drop(link.moved(true).await?),
                    Err(_) => return Ok(()),
                }
            }
            link.flush().await?;
            link.shutdown().await
        };
        // A server that does not take part will notice the end of the connection.
        let _ = tokio::time::timeout(GOODBYE, drained).await;
    }

    fn obey(&mut self, command: Command, link: &mut Buffered) -> ControlFlow<End> {
        match command {
            Command::Close { done } => return ControlFlow::Break(End::Closed(done)),
            Command::Publish { batch, reply, subjects, done } => {
                self.publishing.add(batch, reply, subjects, done);
            }
            Command::Subscribe { patterns, service, sink, done } => {
                self.groups += 1;
                let group = self.groups;
                self.session.subscribe(group, patterns, &mut link.output);
                self.sinks.add(group, sink, service);
                let mark = self.session.ping(Instant::now(), &mut link.output);
                self.asked.push(Asked { group, mark, done, refused: Vec::new() });
            }
        }
        ControlFlow::Continue(())
    }

    /// Subscriptions that the host has dropped.
    fn drop_closed(&mut self, link: &mut Buffered) {
        for group in self.sinks.closed() {
            self.sinks.remove(group);
            self.session.unsubscribe(group, &mut link.output);
        }
    }

    /// Nothing more can be done: everybody who waits is told.
    async fn end(mut self, error: Error) {
        self.events.emit(Event::new(EventKind::DISCONNECTED, error.to_string()));
        self.publishing.give_up(error.message());
        for asked in self.asked.drain(..) {
            // Whoever asked may be gone.
            let _ = asked.done.send(Err(error.clone()));
        }
        self.sinks.fail(&error).await;
    }
}
