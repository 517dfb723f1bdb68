//! The task of a connection: it serves the link while there is one, and makes a new one when it is lost.
//!
//! What is in flight lives in the session, so a lost connection costs nothing but time. Reading stops while the host has no
//! room for messages; writing, pings and acknowledgements go on.

mod notices;
mod start;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tracemq_plugin_api::net::Moved;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::MAX_BATCH;

use super::dial::{Dial, Refused, lost};
use super::link::Link;
use super::publishing::Publishing;
use super::sinks::Sinks;
use super::{Command, Facts, GOODBYE};
use crate::auth::Scram;
use crate::session::store::Store;
use crate::session::{Accepted, Due, KeepAlive, Session, SessionError};
use crate::wire::{Frames, Reason};

/// The wait before the second attempt to reconnect, doubled from there on up to the longest. The first follows a good
/// connection at once: what the server has to repeat grows with every moment.
const SECOND_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// What had to be waited for no longer than this belongs to a stream, which is gathered a little; a lone message, and the
/// answer to a question, goes on at once.
const BUSY: Duration = Duration::from_micros(50);
/// A connection that lived so long, or brought so many packets, was a good one. Packets, not messages: a server that goes
/// through what it had sent before brings nothing new for a while. One that accepts and closes at once brings none, and is
/// not asked again and again without a pause.
const GOOD_LIFE: Duration = Duration::from_secs(5);
const GOOD_PACKETS: usize = 10;

pub(in crate::client) struct Driver {
    dial: Dial,
    session: Session,
    store: Option<Store>,
    auth: Option<Scram>,
    sinks: Sinks,
    publishing: Publishing,
    asked: Vec<(u64, oneshot::Sender<Result<()>>)>,
    token: u64,
    events: Events,
    reconnect: bool,
    link: Option<Link>,
    keep_alive: KeepAlive,
    paused: bool,
    wait: Duration,
    /// Packets that this connection has brought.
    packets: usize,
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
    pub(in crate::client) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        known: Arc<Mutex<Facts>>,
    ) {
        loop {
            let end = match self.link.take() {
                Some(mut link) => {
                    let since = Instant::now();
                    self.packets = 0;
                    let end = self.serve(&mut link, &mut commands).await;
                    self.session.connection_lost();
                    self.settle_notices();
                    if self.packets >= GOOD_PACKETS || since.elapsed() >= GOOD_LIFE {
                        self.wait = Duration::ZERO;
                    }
                    end
                }
                None => match self.reconnect(&mut commands).await {
                    Ok(accepted) => {
                        *known.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                            facts(&self.session, &accepted);
                        continue;
                    }
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
    async fn serve(&mut self, link: &mut Link, commands: &mut mpsc::Receiver<Command>) -> End {
        loop {
            match self.turn(link, commands).await {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(End::Closed(done))) => {
                    self.say_goodbye(link, Reason::SUCCESS).await;
                    return End::Closed(done);
                }
                Ok(ControlFlow::Break(end)) => return end,
                Err(end) => {
                    if let End::Lost(error) | End::Final(error) = &end {
                        log::debug!("{error}");
                    }
                    return end;
                }
            }
        }
    }

    async fn turn(
        &mut self,
        link: &mut Link,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Result<ControlFlow<End>, End> {
        let now = Instant::now();
        // A server that never stops sending must keep neither pings nor commands from their turn: the select below
        // prefers the link.
        if self.keep_alive.next(self.paused).is_some_and(|alarm| alarm <= now) {
            self.ping(link, now)?;
        }
        if self.publishing.has_room()
            && let Ok(command) = commands.try_recv()
            && let ControlFlow::Break(end) = self.obey(Some(command))
        {
            return Ok(ControlFlow::Break(end));
        }
        self.prepare_output(link, now)?;
        let reading = self.has_room();
        if reading && self.parse(link).await? {
            // There may be more in the buffer, and acknowledgements to write.
            return Ok(ControlFlow::Continue(()));
        }
        let reading = self.has_room();
        if !reading {
            self.let_pull();
        }
        if std::mem::replace(&mut self.paused, !reading) && reading {
            self.keep_alive.resumed(now);
        }
        let alarm = self.keep_alive.next(self.paused).map(tokio::time::Instant::from_std);
        tokio::select! {
            biased;
            moved = link.moved(reading) => match moved {
                Ok(Moved::Written) => {
                    self.keep_alive.sent(Instant::now());
                    self.session.flushed();
                    self.settle_notices();
                }
                Ok(Moved::Read) => {
                    let read = Instant::now();
                    self.keep_alive.heard(read);
                    // A publisher waits for what comes: its next messages are held back by it.
                    if read - now < BUSY && !self.publishing.is_waiting() {
                        link.gather().await;
                    }
                }
                Err(error) => return Err(End::Lost(lost(&self.dial.endpoint, &error))),
            },
            () = self.sinks.changed() => {
                self.sinks.flush();
                self.drop_closed();
            }
            command = commands.recv(), if self.publishing.has_room() => return Ok(self.obey(command)),
            // The turn that follows asks what is due.
            () = sleep_until(alarm) => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    fn has_room(&mut self) -> bool {
        self.sinks.has_room(self.publishing.is_waiting())
    }

    /// Asks whether the server is to be pinged, or given up.
    fn ping(&mut self, link: &mut Link, now: Instant) -> Result<(), End> {
        match self.keep_alive.due(now, self.paused) {
            Due::Nothing => {}
            Due::Ping => self.session.ping(&mut link.output),
            Due::Dead => {
                let text = format!("{} does not answer pings", self.dial.endpoint.shown());
                return Err(End::Lost(Error::new(ErrorKind::CLOSED, text).temporary()));
            }
        }
        Ok(())
    }

    /// Fills the write buffer with all that may leave now, after it was made durable.
    fn prepare_output(&mut self, link: &mut Link, now: Instant) -> Result<(), End> {
        self.session.consumed(self.sinks.consumed());
        self.publishing.feed(&mut self.session, now);
        self.session.poll_output(now, &mut link.output);
        self.commit()?;
        self.settle_notices();
        Ok(())
    }

    fn commit(&mut self) -> Result<(), End> {
        let changes = self.session.take_changes();
        if let (Some(store), false) = (&mut self.store, changes.is_empty()) {
            let session = &self.session;
            store.commit(&changes, || session.snapshot()).map_err(|error| {
                End::Final(
                    Error::new(ErrorKind::OTHER, format!("{error}"))
                        .hint("nothing was sent that is not kept"),
                )
            })?;
        }
        Ok(())
    }

    /// Handles packets that have been read, at most a batch. True when there were any.
    async fn parse(&mut self, link: &mut Link) -> Result<bool, End> {
        let taken = match link.take(MAX_BATCH) {
            Ok(Some(taken)) => taken,
            Ok(None) => return Ok(false),
            Err(error) => return Err(self.reject(link, SessionError::Wire(error)).await),
        };
        let (buffer, count) = taken;
        self.packets = self.packets.saturating_add(count);
        let mut collector = self.sinks.collect(&buffer, count);
        let mut result = Ok(());
        for frame in Frames::new(&buffer) {
            result = self.session.handle(&frame, &mut collector);
            if result.is_err() {
                break;
            }
        }
        // What came before a bad packet is not lost.
        collector.finish(self.session.delivered());
        let dropped = self.sinks.take_dropped();
        if dropped > 0 {
            let text = format!("{dropped} messages came while there was no subscription and were dropped");
            self.events.emit(
                Event::new(EventKind::DROPPED, text).details(serde_json::json!({ "dropped": dropped })),
            );
        }
        if let Err(error) = result {
            return Err(self.reject(link, error).await);
        }
        self.settle_notices();
        Ok(true)
    }

    /// The server broke the protocol, or said goodbye.
    async fn reject(&mut self, link: &mut Link, error: SessionError) -> End {
        let shown = self.dial.endpoint.shown();
        let crossing = Error::new(ErrorKind::PROTOCOL, format!("{shown}: {error}"));
        match error {
            SessionError::Wire(error) => {
                self.say_goodbye(link, error.reason).await;
                End::Lost(crossing.temporary())
            }
            // Another client has our name: coming back would take it away again, and so on for ever.
            SessionError::Disconnected(disconnect) if disconnect.reason.0 == 0x8E => {
                End::Final(crossing.hint("another client uses the same --client-id"))
            }
            SessionError::Disconnected(disconnect) if matches!(disconnect.reason.0, 0x87 | 0x9C | 0x9D) => {
                End::Final(crossing)
            }
            SessionError::Disconnected(_) => End::Lost(crossing.temporary()),
        }
    }

    /// Acknowledges what was dealt with and says DISCONNECT, within [`GOODBYE`].
    async fn say_goodbye(&mut self, link: &mut Link, reason: Reason) {
        self.session.consumed(self.sinks.consumed());
        self.session.poll_output(Instant::now(), &mut link.output);
        if self.commit().is_err() {
            return;
        }
        self.session.disconnect(reason, None, &mut link.output);
        // A server that sends nothing is not waited for.
        let is_sending = self.session.delivered() > 0;
        let goodbye = async {
            link.flush().await?;
            link.shutdown().await?;
            if is_sending {
                link.drain().await;
            }
            std::io::Result::Ok(())
        };
        // A server that does not take it will notice the end of the connection.
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }

    fn obey(&mut self, command: Option<Command>) -> ControlFlow<End> {
        match command {
            None => return ControlFlow::Break(End::Dropped),
            Some(Command::Close { done }) => return ControlFlow::Break(End::Closed(done)),
            Some(Command::Publish { batch, options, done }) => self.publishing.add(batch, options, done),
            Some(Command::Subscribe { subscribe, sink, done }) => {
                self.token += 1;
                let filters = subscribe.filters.iter().map(|filter| filter.filter.clone()).collect();
                match self.session.subscribe(self.token, subscribe) {
                    Ok(()) => {
                        self.sinks.add(self.token, filters, sink);
                        self.sinks.flush();
                        self.asked.push((self.token, done));
                        return self.ask_again();
                    }
                    // Whoever asked may be gone.
                    Err(error) => drop(done.send(Err(Error::config(error.to_string())))),
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// What was passed over before there was a subscription comes with a new connection only.
    fn ask_again(&mut self) -> ControlFlow<End> {
        let refused = self.sinks.take_refused();
        if refused == 0 || !self.reconnect {
            return ControlFlow::Continue(());
        }
        let text = format!("{refused} messages came before the subscription and were left with the server");
        ControlFlow::Break(End::Lost(Error::new(ErrorKind::CLOSED, text).temporary()))
    }

    /// Subscriptions that the host has dropped. A persistent session keeps them: what comes meanwhile is what it is for.
    fn drop_closed(&mut self) {
        for token in self.sinks.closed() {
            let filters = self.sinks.remove(token);
            if !filters.is_empty() && !self.session.is_persistent() {
                self.token += 1;
                if let Err(error) = self.session.unsubscribe(self.token, filters) {
                    log::debug!("unsubscribe: {error}");
                }
            }
        }
    }

    /// Waits and connects until it succeeds.
    async fn reconnect(&mut self, commands: &mut mpsc::Receiver<Command>) -> Result<Accepted, End> {
        loop {
            self.wait(jittered(self.wait), commands).await?;
            self.wait = (self.wait * 2).clamp(SECOND_WAIT, LONGEST_WAIT);
            let auth = self.auth.as_mut().filter(|_| self.session.version().is_v5());
            match self.dial.connect(&mut self.session, auth).await {
                Ok((link, accepted)) => {
                    self.commit()?;
                    self.keep_alive = KeepAlive::new(accepted.keep_alive, Instant::now());
                    self.link = Some(link);
                    self.say_connected(&accepted);
                    return Ok(accepted);
                }
                Err(Refused { error, temporary: false, .. }) => return Err(End::Final(error)),
                Err(Refused { error, .. }) => {
                    let text = format!("{error}; next attempt in {:.1} s", self.wait.as_secs_f32());
                    self.events.emit(Event::new(EventKind::RECONNECTING, text));
                }
            }
        }
    }

    /// Lets time pass between two attempts; what can be done without a connection is done.
    async fn wait(&mut self, wait: Duration, commands: &mut mpsc::Receiver<Command>) -> Result<(), End> {
        let until = tokio::time::Instant::now() + wait;
        loop {
            self.session.consumed(self.sinks.consumed());
            self.publishing.feed(&mut self.session, Instant::now());
            self.commit()?;
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Ok(()),
                () = self.sinks.changed() => {
                    self.sinks.flush();
                    self.drop_closed();
                }
                command = commands.recv(), if self.publishing.has_room() => {
                    if let ControlFlow::Break(end) = self.obey(command) {
                        return Err(end);
                    }
                }
            }
        }
    }

    fn say_connected(&self, accepted: &Accepted) {
        let resumed = if accepted.session_present { ", session resumed" } else { "" };
        let version = self.session.version();
        let details = serde_json::json!({
            "server": self.dial.endpoint.shown(),
            "version": version.to_string(),
            "client_id": accepted.client_id,
            "session_present": accepted.session_present,
            "keep_alive": accepted.keep_alive,
            "session_expiry": accepted.session_expiry,
            "reason": accepted.text,
            "user_properties": accepted.user_properties,
        });
        let text = format!("connected to {} (MQTT {version}{resumed})", self.dial.endpoint.shown());
        self.events.emit(Event::new(EventKind::CONNECTED, text).details(details));
    }

    /// Nothing more can be done: everybody who waits is told.
    async fn end(mut self, error: Error) {
        self.events.emit(Event::new(EventKind::DISCONNECTED, error.to_string()));
        self.publishing.give_up(error.message());
        for (_, done) in self.asked.drain(..) {
            // Whoever asked may be gone.
            let _ = done.send(Err(error.clone()));
        }
        self.sinks.fail(&error).await;
    }
}

fn facts(session: &Session, accepted: &Accepted) -> Facts {
    Facts {
        version: session.version(),
        client_id: accepted.client_id.clone(),
        response_information: accepted.response_information.clone(),
    }
}

/// Up to a fifth more or less, so that many clients of a server that comes back do not come at once.
fn jittered(wait: Duration) -> Duration {
    let random = u32::from(start::made_up_id().bytes().fold(0_u8, u8::wrapping_add));
    wait * (80 + random * 40 / 255) / 100
}

async fn sleep_until(alarm: Option<tokio::time::Instant>) {
    match alarm {
        Some(alarm) => tokio::time::sleep_until(alarm).await,
        None => std::future::pending().await,
    }
}
