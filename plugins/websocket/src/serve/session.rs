//! The life of one client.
//!
//! What it sends is answered in the order in which it came, and shown to the host. It is read only while the host takes what
//! it sent before and it takes its answers itself: a client that does neither is held by TCP, and costs a bounded amount.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::serde_json;

use super::clients::{Clients, Outbox};
use super::config::Mode;
use super::handshake::Guest;
use super::reply::{About, Reply};
use super::shown::Shown;
use crate::link::{Broken, Clock, Due, Kind, Link, Taken, close_name, until};

/// Bytes that are queued for a client before no more is read from it.
const QUEUED: usize = 256 * 1024;
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// What is done with messages, and who is told.
pub(super) struct Service {
    pub(super) mode: Mode,
    /// With [`Mode::Reply`].
    pub(super) reply: Option<Reply>,
    pub(super) clients: Arc<Clients>,
    pub(super) sender: BatchSender,
    pub(super) events: Events,
    /// True once the server is being stopped.
    pub(super) stopping: watch::Receiver<bool>,
}

pub(super) struct Session<'a> {
    pub(super) service: &'a Service,
    pub(super) outbox: &'a Outbox,
    pub(super) guest: &'a Guest,
    pub(super) clock: Clock,
    /// Messages for the host.
    pub(super) shown: Shown,
    /// Messages so far.
    pub(super) number: u64,
}

/// Why a client is gone: code and reason that it is told, if it was our doing, and what people are told.
pub(super) struct Left {
    tell: Option<(u16, &'static str)>,
    pub(super) text: String,
    pub(super) code: Option<u16>,
    /// Messages for it were lost.
    pub(super) slow: bool,
}

impl Left {
    fn ours(code: u16, reason: &'static str, text: impl Into<String>) -> Left {
        Left { tell: Some((code, reason)), text: text.into(), code: Some(code), slow: false }
    }

    fn theirs(broken: Broken) -> Left {
        match broken {
            Broken::Violation { code, text } => {
                let name = close_name(code);
                let told = match code {
                    0 => text,
                    code => format!("{text}; closed with {code} {name}"),
                };
                Left {
                    tell: Some((code, "")),
                    text: told,
                    code: Some(code).filter(|code| *code != 0),
                    slow: false,
                }
            }
            broken => {
                let (code, _) = broken.close_frame();
                Left { tell: None, text: broken.describe(), code, slow: false }
            }
        }
    }
}

/// Waits for the end of the server.
async fn stopped(stopping: &mut watch::Receiver<bool>) -> Left {
    // An error says that the server is gone altogether.
    let _ = stopping.wait_for(|stopping| *stopping).await;
    Left::ours(1001, "the server is shutting down", "the server is shutting down")
}

impl Session<'_> {
    /// Serves the client until it is gone.
    pub(super) async fn run(mut self, link: &mut Link) -> Left {
        let left = self.serve(link).await;
        if let Some((code, reason)) = left.tell {
            // A client that does not take the goodbye is left without one.
            let _ = timeout(GOODBYE, link.close(code, reason)).await;
        }
        // What it sent before it went is shown: for that there is time until the server ends.
        let mut stopping = self.service.stopping.clone();
        tokio::select! {
            () = self.shown.finish(&self.service.sender) => {}
            _ = stopped(&mut stopping) => {}
        }
        left
    }

    async fn serve(&mut self, link: &mut Link) -> Left {
        let service = self.service;
        let mut stopping = service.stopping.clone();
        let mut taken = Taken::default();
        loop {
            match self.clock.due() {
                Due::Nothing => {}
                Due::Ping => link.ping(),
                Due::Silent(what) => return Left::ours(1001, "no answer", what),
            }
            if self.outbox.overflowed() {
                let mut left = Left::ours(1008, "too slow", "too slow: more was waiting for it than is kept");
                left.slow = true;
                return left;
            }
            if let Err(broken) = self.feed(link) {
                return Left::theirs(broken);
            }
            self.shown.hand_over(&service.sender);
            let reading = self.shown.has_room() && link.queued() < QUEUED;
            self.clock.reading(reading);
            let alarm = [self.clock.next(), self.shown.due()].into_iter().flatten().min();
            let moved = tokio::select! {
                moved = link.moved(reading, &mut taken) => moved,
                () = self.outbox.changed() => continue,
                _ = service.sender.reserve(), if !self.shown.has_room() => continue,
                stopped = stopped(&mut stopping) => return stopped,
                () = until(alarm) => continue,
            };
            let step = match moved {
                Ok(moved) if moved.read => {
                    self.clock.heard();
                    taken.forget_own_pongs();
                    let answered = self.answer(&taken, link);
                    // The client has its answer before the host is woken.
                    let step = answered.and(link.push().await);
                    self.shown.add(&taken, &self.outbox.name);
                    taken.clear();
                    step
                }
                moved => moved.map(drop),
            };
            if let Err(broken) = step {
                return Left::theirs(broken);
            }
            while link.take_sent().is_some() {}
        }
    }

    /// Queues what others have for this client.
    fn feed(&mut self, link: &mut Link) -> std::result::Result<(), Broken> {
        while link.queued() < QUEUED {
            let Some((kind, payload)) = self.outbox.take() else { break };
            if let Err(reason) = link.send(kind, payload)? {
                self.warn(format!("a message for client {} was not sent: {reason}", self.outbox.name));
            }
        }
        Ok(())
    }

    fn answer(&mut self, taken: &Taken, link: &mut Link) -> std::result::Result<(), Broken> {
        let service = self.service;
        for (kind, payload) in taken.data() {
            self.number += 1;
            match service.mode {
                Mode::Silent => {}
                Mode::Echo => self.send(kind, payload, link)?,
                Mode::Broadcast => {
                    let _ = service.clients.broadcast(kind, &payload, Some(&self.outbox.name));
                }
                Mode::Reply => self.reply(kind, &payload, link)?,
            }
        }
        Ok(())
    }

    fn reply(&mut self, kind: Kind, payload: &Bytes, link: &mut Link) -> std::result::Result<(), Broken> {
        let Some(reply) = &self.service.reply else { return Ok(()) };
        let about = About {
            client: &self.outbox.name,
            number: self.number,
            path: &self.guest.path,
            subprotocol: self.guest.subprotocol.as_deref(),
        };
        match reply.to(kind, payload, &about) {
            Ok(None) => Ok(()),
            Ok(Some((kind, payload))) => self.send(kind, payload, link),
            Err(why) => {
                self.warn(format!("no answer to client {}: --reply-file: {why}", self.outbox.name));
                Ok(())
            }
        }
    }

    fn send(&mut self, kind: Kind, payload: Bytes, link: &mut Link) -> std::result::Result<(), Broken> {
        if let Err(reason) = link.send(kind, payload)? {
            self.warn(format!("an answer to client {} was not sent: {reason}", self.outbox.name));
        }
        Ok(())
    }

    fn warn(&self, text: String) {
        let details = json!({ "client": self.outbox.name });
        self.service.events.emit(Event::new(EventKind::WARNING, text).details(details));
    }
}
