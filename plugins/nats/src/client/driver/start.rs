//! The first connection and those after it: servers are tried in turn, and what happened meanwhile is told.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tracemq_plugin_api::prelude::*;

use super::{Driver, End};
use crate::client::Command;
use crate::client::dial::{Dial, Opened};
use crate::client::pool::Pool;
use crate::client::publishing::Publishing;
use crate::client::sinks::Sinks;
use crate::config::Settings;
use crate::session::Session;
use crate::wire::{Limits, ServerInfo};

impl Driver {
    /// Makes the first connection: each server is tried once.
    pub(in crate::client) async fn connect(settings: Settings, context: &Context) -> Result<Driver> {
        let mut pool = Pool::new(settings.servers.clone());
        let dial = Dial::new(settings)?;
        let opened = loop {
            let server = pool.next();
            match dial.connect(&server).await {
                Ok(opened) => break opened,
                Err(error) if error.is_temporary() && !pool.wait(0.0).is_zero() => return Err(error),
                Err(error) if error.is_temporary() => {
                    let text = format!("{error}; trying the next server");
                    context.events().emit(Event::new(EventKind::WARNING, text));
                }
                Err(error) => return Err(error),
            }
        };
        let sinks = Sinks::new(dial.settings.prefix.as_str());
        let mut driver = Driver {
            pool,
            server: opened.server.clone(),
            info: ServerInfo::default(),
            session: Session::default(),
            sinks,
            publishing: Publishing::default(),
            asked: Vec::new(),
            groups: 0,
            events: context.events().clone(),
            reconnect: context.reconnect(),
            link: None,
            limits: Limits::default(),
            heard: Instant::now(),
            next_ping: Instant::now(),
            complaint: None,
            stalled: None,
            warned: false,
            told: None,
            leaving: None,
            resumed: None,
            connections: watch::Sender::new(0),
            dial,
        };
        driver.take(opened);
        Ok(driver)
    }

    /// Counts the connections.
    pub(in crate::client) fn connections(&self) -> watch::Receiver<u64> {
        self.connections.subscribe()
    }

    /// Goes on with a new connection.
    fn take(&mut self, opened: Opened) {
        let Opened { link, server, info, rtt, tls } = opened;
        let details = serde_json::json!({
            "server": server.shown(),
            "server_name": info.server_name,
            "server_id": info.server_id,
            "version": info.version,
            "cluster": info.cluster,
            "client_id": info.client_id,
            "client_ip": info.client_ip,
            "max_payload": info.max_payload,
            "jetstream": info.jetstream,
            "tls": tls,
            "rtt_ms": rtt.as_secs_f64() * 1000.0,
        });
        let text = format!(
            "connected to {} (nats-server {}{}, round trip {:.1} ms)",
            server.shown(),
            info.version.escape_debug(),
            if tls { ", TLS" } else { "" },
            rtt.as_secs_f64() * 1000.0
        );
        self.events.emit(Event::new(EventKind::CONNECTED, text).details(details));
        self.pool.learn(&server, &info);
        self.server = server;
        self.set_info(info);
        self.heard = Instant::now();
        self.next_ping = self.heard + self.dial.settings.ping_interval.duration();
        (self.complaint, self.stalled, self.leaving) = (None, None, None);
        self.link = Some(link);
        self.connections.send_modify(|count| *count += 1);
    }

    pub(super) fn set_info(&mut self, info: ServerInfo) {
        // An administrator may have allowed more than we would believe of a stranger, up to what the positions can count.
        let most = info.max_payload.clamp(Limits::default().message, 1 << 30);
        self.limits.message = most;
        self.info = info;
    }

    /// Waits and connects until it succeeds.
    pub(super) async fn reconnect(&mut self, commands: &mut mpsc::Receiver<Command>) -> Result<(), End> {
        let since = Instant::now();
        loop {
            self.wait(self.pool.wait(random()), commands).await?;
            let server = self.pool.next();
            match self.dial.connect(&server).await {
                Ok(mut opened) => {
                    self.session.resume(&mut opened.link.output);
                    // Whoever waits for an answer of the last server gets one of this.
                    let mark = self.session.ping(Instant::now(), &mut opened.link.output);
                    let gap = self.sinks.any();
                    self.sinks.mark_gap();
                    self.take(opened);
                    self.resumed = gap.then(|| (mark, since.elapsed()));
                    return Ok(());
                }
                Err(error) if error.is_temporary() => {
                    let wait = self.pool.wait(0.5);
                    let next = match wait.is_zero() {
                        true => "trying the next server".to_owned(),
                        false => format!("next attempt in {:.1} s", wait.as_secs_f64()),
                    };
                    self.events.emit(Event::new(EventKind::RECONNECTING, format!("{error}; {next}")));
                }
                Err(error) => return Err(End::Final(error)),
            }
        }
    }

    /// Lets time pass between two attempts; what can be done without a connection is done.
    async fn wait(&mut self, wait: Duration, commands: &mut mpsc::Receiver<Command>) -> Result<(), End> {
        let until = tokio::time::Instant::now() + wait;
        let mut nowhere = bytes::BytesMut::new();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Ok(()),
                () = self.sinks.changed() => {
                    self.sinks.flush();
                    for group in self.sinks.closed() {
                        self.sinks.remove(group);
                        self.session.unsubscribe(group, &mut nowhere);
                    }
                }
                command = commands.recv(), if self.publishing.has_room() => match command {
                    None => return Err(End::Dropped),
                    Some(Command::Close { done }) => return Err(End::Closed(done)),
                    Some(Command::Publish { batch, reply, subjects, done }) => {
                        self.publishing.add(batch, reply, subjects, done);
                    }
                    Some(Command::Subscribe { patterns, service, sink, done }) => {
                        self.groups += 1;
                        self.session.subscribe(self.groups, patterns, &mut nowhere);
                        self.sinks.add(self.groups, sink, service);
                        // The caller may be gone.
                        let _ = done.send(Ok(()));
                    }
                },
            }
        }
    }
}

/// From 0 to 1.
fn random() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    // Seeded by the system for each value.
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    random as f64 / u64::MAX as f64
}
