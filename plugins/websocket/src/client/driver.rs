//! The task of a connection: it serves the link while there is one, and makes a new one when it is lost.
//!
//! Reading stops while the host has no room for messages, and TCP holds the server: nothing is lost and memory is bounded.
//! Writing goes on meanwhile. A loss that another connection would not cure (we broke the rules, or the server did) is final.

use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::serde_json;

use super::dial::{Connected, Dial};
use super::publishing::Publishing;
use super::sinks::Sinks;
use super::{Command, GOODBYE};
use crate::config::ConnectOptions;
use crate::endpoint::Endpoint;
use crate::link::{Broken, Clock, Due, Link, Moved, Taken, until};

/// The wait before the second attempt to reconnect, doubled from there on up to the longest. The first follows a good
/// connection at once.
const SECOND_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long the end of a connection waits for the first thing that is asked of it.
const FIRST_COMMAND: Duration = Duration::from_secs(1);
/// A connection that lived so long, or brought so many messages, was a good one.
const GOOD_LIFE: Duration = Duration::from_secs(5);
const GOOD_MESSAGES: usize = 10;

pub(super) struct Driver {
    dial: Dial,
    link: Option<Link>,
    sinks: Sinks,
    publishing: Publishing,
    events: Events,
    reconnect: bool,
    close: (u16, String),
    clock: Clock,
    wait: Duration,
    /// Messages that this connection has brought.
    messages: usize,
    /// Whether anything was ever asked of us.
    asked: bool,
}

/// Why serving a link ended.
enum End {
    /// The link is lost; another may do better. `clean`: the server ended it in good order.
    Lost { error: Error, details: serde_json::Value, clean: bool },
    /// Nothing more can be done.
    Final { error: Error, details: serde_json::Value },
    /// As asked. With what the server said to that, unless it agreed.
    Closed(Option<Error>),
    /// The handle is gone.
    Dropped,
}

impl Driver {
    /// Makes the first connection.
    pub(super) async fn connect(options: ConnectOptions, context: Context) -> Result<Driver> {
        let endpoint = Endpoint::of_peer(context.url().unwrap_or_default())?;
        options.check(endpoint.transport)?;
        let raw = endpoint.transport.is_raw();
        let mut driver = Driver {
            clock: Clock::new(options.ping_interval, options.idle_timeout, raw),
            dial: Dial::new(endpoint, &options)?,
            link: None,
            sinks: Sinks::default(),
            publishing: Publishing::new(!options.ping_interval.is_zero() && !raw),
            events: context.events().clone(),
            reconnect: context.reconnect(),
            close: options.close()?,
            wait: Duration::ZERO,
            messages: 0,
            asked: false,
        };
        driver.open().await?;
        Ok(driver)
    }

    async fn open(&mut self) -> Result<()> {
        let Connected { link, subprotocol, compressed } = self.dial.connect().await?;
        self.link = Some(link);
        self.clock.start();
        self.messages = 0;
        let server = self.dial.endpoint.shown();
        let agreed = match (&subprotocol, compressed) {
            (None, false) => String::new(),
            (None, true) => " (compression)".to_owned(),
            (Some(name), false) => format!(" (subprotocol {name})"),
            (Some(name), true) => format!(" (subprotocol {name}, compression)"),
        };
        let details = json!({ "server": server, "subprotocol": subprotocol, "compression": compressed });
        let text = format!("connected to {server}{agreed}");
        self.events.emit(Event::new(EventKind::CONNECTED, text).details(details));
        Ok(())
    }

    /// # Errors
    /// The server took no more, and said why.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Result<()> {
        loop {
            let end = match self.link.take() {
                Some(mut link) => {
                    let since = Instant::now();
                    let end = self.serve(&mut link, &mut commands).await;
                    if self.messages >= GOOD_MESSAGES || since.elapsed() >= GOOD_LIFE {
                        self.wait = Duration::ZERO;
                    }
                    end
                }
                None => match self.reopen(&mut commands).await {
                    Ok(()) => continue,
                    Err(end) => end,
                },
            };
            match end {
                End::Lost { error, details, clean } if self.reconnect => {
                    let text = format!("{}; reconnecting", error.message());
                    self.events.emit(Event::new(EventKind::RECONNECTING, text).details(details));
                    self.publishing.lost(error.message());
                    self.sinks.fail_requests(&unanswered(&error, clean)).await;
                }
                End::Lost { error, details, clean } => {
                    let failure = (!clean).then_some(&error);
                    self.sinks.fail_requests(&unanswered(&error, clean)).await;
                    self.end(&error, details, failure).await;
                    return Ok(());
                }
                End::Final { error, details } => {
                    self.end(&error, details, Some(&error)).await;
                    return Err(error);
                }
                End::Closed(Some(error)) => return Err(error),
                End::Closed(None) | End::Dropped => return Ok(()),
            }
        }
    }

    /// Nothing more can be done: everybody who waits is told.
    async fn end(&mut self, error: &Error, details: serde_json::Value, failure: Option<&Error>) {
        // Where nobody is left who could be told otherwise, it must not pass for the end that the host brings about.
        let kind = match failure.is_some() && self.sinks.is_empty() && self.publishing.is_empty() {
            true => EventKind::WARNING,
            false => EventKind::DISCONNECTED,
        };
        self.events.emit(Event::new(kind, error.message()).details(details));
        self.publishing.give_up(error.message());
        self.sinks.end(failure).await;
    }

    /// Serves one connection until it ends.
    async fn serve(&mut self, link: &mut Link, commands: &mut mpsc::Receiver<Command>) -> End {
        let mut taken = Taken::default();
        loop {
            if let Err(end) = self.on_time(link) {
                return end;
            }
            self.sinks.flush();
            if let Err(broken) = self.publishing.feed(link) {
                return self.broken(link, broken, commands).await;
            }
            let reading = self.sinks.has_room();
            self.clock.reading(reading);
            let alarm = [self.clock.next(), self.publishing.alarm()].into_iter().flatten().min();
            let command = tokio::select! {
                // A server that never stops sending must keep no command from its turn: the order is left to chance.
                moved = link.moved(reading, &mut taken) => {
                    match moved {
                        Ok(moved) => self.moved(moved, link, &mut taken),
                        Err(broken) => return self.broken(link, broken, commands).await,
                    }
                    continue;
                }
                command = commands.recv(), if self.publishing.has_room() => command,
                () = self.sinks.changed() => continue,
                () = until(alarm) => continue,
            };
            match command {
                None => return End::Dropped,
                Some(Command::Close) => return End::Closed(self.goodbye(link).await),
                Some(command) => self.obey(command),
            }
        }
    }

    fn moved(&mut self, moved: Moved, link: &mut Link, taken: &mut Taken) {
        if moved.flushed {
            self.publishing.flushed(link);
        }
        if moved.read {
            self.clock.heard();
            self.messages += taken.len();
            self.publishing.received(taken);
            taken.forget_own_pongs();
            if !taken.is_empty() {
                self.sinks.deliver(taken);
            }
            taken.clear();
        }
    }

    fn obey(&mut self, command: Command) {
        self.asked = true;
        match command {
            Command::Publish { batch, options, done } => {
                self.sinks.published();
                self.publishing.add(batch, &options, done);
            }
            Command::Subscribe { sink, pings, done } => {
                self.sinks.subscribe(sink, pings);
                // Whoever asked may be gone.
                let _ = done.send(());
            }
            Command::Request { batch, options, sink, done } => {
                self.sinks.request(sink);
                self.publishing.add(batch, &options, done);
            }
            // Dealt with where there is a link to say goodbye on, or none.
            Command::Close => {}
        }
    }

    /// What is due by the clock.
    fn on_time(&mut self, link: &mut Link) -> std::result::Result<(), End> {
        match self.clock.due() {
            Due::Nothing => {}
            Due::Ping => link.ping(),
            Due::Silent(what) => {
                let text = format!("{}: {what}", self.dial.endpoint.shown());
                let error = Error::new(ErrorKind::CLOSED, text).temporary();
                return Err(End::Lost { error, details: json!({}), clean: false });
            }
        }
        Ok(())
    }

    /// What the end of a link means. A server that broke the rules is told so.
    async fn broken(
        &mut self,
        link: &mut Link,
        broken: Broken,
        commands: &mut mpsc::Receiver<Command>,
    ) -> End {
        let raw = self.dial.endpoint.transport.is_raw();
        if !self.asked {
            // What the connection was made for is still on its way to us, and is to learn of the end.
            match timeout(FIRST_COMMAND, commands.recv()).await {
                Ok(None) => return End::Dropped,
                Ok(Some(Command::Close)) => return End::Closed(None),
                Ok(Some(command)) => self.obey(command),
                Err(_) => {}
            }
        }
        if raw && matches!(broken, Broken::Ended) {
            // It sends no more, but may well go on reading.
            let _ = timeout(GOODBYE, self.send_rest(link)).await;
        }
        let text = format!("{} {}", self.dial.endpoint.shown(), said(&broken, raw));
        let (code, reason) = broken.close_frame();
        let details = json!({ "code": code, "reason": reason });
        let lost = |clean| {
            let error = Error::new(ErrorKind::CLOSED, text.clone()).temporary();
            End::Lost { error, details: details.clone(), clean }
        };
        if let Some((kind, hint)) = code.and_then(refusal) {
            let error = Error::new(kind, text).hint(hint);
            return End::Final { error, details };
        }
        if let Some(error) = broken.refused_by_tls() {
            return End::Final { error, details };
        }
        match broken {
            Broken::Closed { code, .. } => lost(matches!(code, None | Some(1000 | 1001))),
            Broken::Ended => lost(raw),
            Broken::Io(_) => lost(false),
            Broken::Violation { code, .. } => {
                if !raw {
                    // Bounded, and whatever comes of it: we are leaving.
                    let _ = timeout(GOODBYE, link.close(code, "")).await;
                }
                let error = Error::new(ErrorKind::PROTOCOL, text);
                let error = if raw { error } else { error.code(format!("closed with {code}")) };
                End::Final { error, details: json!({ "code": code }) }
            }
        }
    }

    /// Sends what is waiting, as far as that goes.
    async fn send_rest(&mut self, link: &mut Link) {
        while self.publishing.feed(link).is_ok() && link.queued() > 0 && link.flush().await.is_ok() {
            self.publishing.flushed(link);
        }
    }

    /// Sends what is waiting and says goodbye. Returns what the server said instead of goodbye.
    async fn goodbye(&mut self, link: &mut Link) -> Option<Error> {
        let work = async {
            // A link that is broken has nothing more to say either.
            self.send_rest(link).await;
            link.close(self.close.0, &self.close.1).await
        };
        let answer = timeout(GOODBYE, work).await;
        self.publishing.give_up("the connection was closed");
        let server = self.dial.endpoint.shown();
        match answer {
            Ok(broken @ Broken::Closed { code: Some(code), .. })
                if code != self.close.0 && !matches!(code, 1000 | 1001) =>
            {
                let text = format!("{server} {}", broken.describe());
                let (kind, hint) = refusal(code).unwrap_or((ErrorKind::CLOSED, ""));
                Some(Error::new(kind, text).hint(hint))
            }
            Ok(broken @ Broken::Io(_)) => {
                if let Some(error) = broken.refused_by_tls() {
                    return Some(error);
                }
                let text = format!("{server} gave trouble: {}", broken.describe());
                let text = format!("{text}; what was sent last may not have arrived");
                self.events.emit(Event::new(EventKind::WARNING, text));
                None
            }
            Ok(_) => None,
            Err(_) => {
                log::info!("{server} does not answer the goodbye");
                None
            }
        }
    }

    /// Waits until it succeeds.
    async fn reopen(&mut self, commands: &mut mpsc::Receiver<Command>) -> std::result::Result<(), End> {
        loop {
            self.pause(jittered(self.wait), commands).await?;
            self.wait = (self.wait * 2).clamp(SECOND_WAIT, LONGEST_WAIT);
            match self.open().await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_temporary() => {
                    let text = format!("{error}; next attempt in {:.1} s", self.wait.as_secs_f32());
                    self.events.emit(Event::new(EventKind::RECONNECTING, text));
                }
                Err(error) => return Err(End::Final { error, details: json!({}) }),
            }
        }
    }

    /// Lets time pass between two attempts; what can be done without a connection is done.
    async fn pause(
        &mut self,
        wait: Duration,
        commands: &mut mpsc::Receiver<Command>,
    ) -> std::result::Result<(), End> {
        let end = Instant::now() + wait;
        loop {
            tokio::select! {
                () = sleep_until(end) => return Ok(()),
                () = self.sinks.changed() => self.sinks.flush(),
                command = commands.recv(), if self.publishing.has_room() => match command {
                    None => return Err(End::Dropped),
                    Some(Command::Close) => {
                        self.publishing.give_up("the connection was closed");
                        return Err(End::Closed(None));
                    }
                    Some(command) => self.obey(command),
                },
            }
        }
    }
}

/// The close codes with which a server refuses what it got, so that another connection would fare no better.
fn refusal(code: u16) -> Option<(ErrorKind, &'static str)> {
    match code {
        1008 | 3000 | 3003 => {
            Some((ErrorKind::AUTH, "check the credentials, and what the server allows this client"))
        }
        1002 | 1003 | 1007 | 1009 | 1010 => {
            Some((ErrorKind::PROTOCOL, "the server does not take what was sent"))
        }
        _ => None,
    }
}

/// What the peer did, after its name.
fn said(broken: &Broken, raw: bool) -> String {
    match broken {
        Broken::Ended if !raw => "closed the connection without a WebSocket goodbye".to_owned(),
        Broken::Closed { .. } | Broken::Ended => broken.describe(),
        Broken::Io(_) | Broken::Violation { .. } => format!("gave trouble: {}", broken.describe()),
    }
}

/// What a request is told when its connection is lost.
fn unanswered(error: &Error, clean: bool) -> Error {
    let kind = if clean { ErrorKind::NO_RESPONDERS } else { ErrorKind::CLOSED };
    Error::new(kind, format!("{} before it answered", error.message()))
}

/// Up to a fifth more or less, so that many clients of a server that comes back do not come at once.
fn jittered(wait: Duration) -> Duration {
    use std::hash::{BuildHasher, Hasher};
    // Seeded by the system for each value.
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish() % 41;
    wait * (80 + random as u32) / 100
}
