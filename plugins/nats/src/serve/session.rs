//! What one client's operations do. No I/O: bytes come in, and words go out through outboxes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Deserialize;
use serde_json::json;
use tracemq_plugin_api::sdk::{Event, EventKind};
use tracemq_plugin_api::{serde, serde_json};

use super::client::{Client, MAX_SUBSCRIPTIONS};
use super::parse::{Fault, Op, Publish, Step, parse};
use super::router::{Publisher, Router};
use super::routes::{Refused, Routes, Subscription};
use super::shared::Shared;
use crate::wire::subject;

/// CONNECT, as far as this server cares. What a client leaves out is as nats-server has it for one that sent no CONNECT.
#[derive(Deserialize)]
#[serde(default)]
struct Connect {
    verbose: bool,
    pedantic: bool,
    echo: bool,
    headers: bool,
    no_responders: bool,
    protocol: i64,
    user: Option<String>,
    pass: Option<String>,
    auth_token: Option<String>,
    name: Option<String>,
    lang: Option<String>,
    version: Option<String>,
}

impl Default for Connect {
    fn default() -> Connect {
        Connect {
            verbose: true,
            pedantic: true,
            echo: true,
            headers: false,
            no_responders: false,
            protocol: 0,
            user: None,
            pass: None,
            auth_token: None,
            name: None,
            lang: None,
            version: None,
        }
    }
}

/// How far [`Session::process`] came.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are dealt with.
    pub consumed: usize,
    /// How many bytes the buffer must hold before there is something to do, counted from its start.
    pub wanted: usize,
    /// The client has been told to go.
    pub ended: bool,
}

/// See the module.
pub struct Session {
    shared: Arc<Shared>,
    client: Arc<Client>,
    router: Router,
    connect: Connect,
    /// It may do more than CONNECT.
    admitted: bool,
    announced: bool,
    messages: Vec<Publish>,
}

impl Session {
    pub fn new(shared: Arc<Shared>, client: Arc<Client>) -> Session {
        let router = Router::new(Arc::clone(&shared.routes), client.id);
        let admitted = !shared.auth.is_required();
        Session {
            shared,
            client,
            router,
            connect: Connect::default(),
            admitted,
            announced: false,
            messages: Vec::new(),
        }
    }

    /// Whether the client has yet to show who it is.
    pub fn awaits_login(&self) -> bool {
        !self.admitted
    }

    /// Whether the client was told of as connected.
    pub fn was_announced(&self) -> bool {
        self.announced
    }

    pub fn router(&mut self) -> &mut Router {
        &mut self.router
    }

    /// The messages that [`Session::process`] found, by positions in its buffer.
    pub fn take_messages(&mut self) -> Vec<Publish> {
        std::mem::take(&mut self.messages)
    }

    /// Deals with all operations that are complete.
    pub fn process(&mut self, buffer: &[u8]) -> Progress {
        let mut progress = Progress::default();
        while !progress.ended {
            match parse(buffer, progress.consumed, self.shared.limits.max_payload) {
                Ok(Step::Op(op, next)) => {
                    progress.ended = !self.step(buffer, op);
                    progress.consumed = next;
                }
                Ok(Step::More(wanted)) => {
                    progress.wanted = wanted;
                    break;
                }
                Err(fault) => {
                    self.flush(buffer);
                    self.fault(fault);
                    progress.ended = true;
                }
            }
        }
        self.flush(buffer);
        self.router.wake();
        progress
    }

    /// One operation; `false` when it was the last.
    fn step(&mut self, buffer: &[u8], op: Op<'_>) -> bool {
        if !self.admitted && !matches!(op, Op::Connect(_)) {
            self.refuse_login("it said something else before CONNECT");
            return false;
        }
        let publish = match op {
            Op::Publish(publish) => publish,
            other => {
                // What follows messages must come after them.
                self.flush(buffer);
                return self.control(other);
            }
        };
        self.announce();
        if publish.headers.is_some() && !self.connect.headers {
            self.flush(buffer);
            self.client.end(
                Some("message headers not supported"),
                "it sent headers without announcing so in CONNECT",
            );
            return false;
        }
        if self.connect.pedantic && !subject::is_valid(publish.subject.of(buffer), false) {
            self.client.outbox.say(b"-ERR 'Invalid Publish Subject'\r\n");
        }
        if self.connect.verbose {
            self.client.outbox.say(b"+OK\r\n");
        }
        self.messages.push(publish);
        let Session { router, client, shared, connect, .. } = self;
        let from = Publisher { id: client.id, echo: connect.echo };
        let mut unheard = unheard(client, &shared.routes, connect.no_responders, buffer);
        router.publish(from, buffer, publish, &mut unheard);
        if connect.verbose {
            router.flush(from, buffer, &mut unheard);
        }
        true
    }

    fn flush(&mut self, buffer: &[u8]) {
        let Session { router, client, shared, connect, .. } = self;
        let from = Publisher { id: client.id, echo: connect.echo };
        router.flush(from, buffer, &mut unheard(client, &shared.routes, connect.no_responders, buffer));
    }

    fn control(&mut self, op: Op<'_>) -> bool {
        match op {
            Op::Connect(text) => return self.connect(text),
            Op::Ping => self.client.outbox.say(b"PONG\r\n"),
            // That something was heard is known already.
            Op::Pong | Op::Ignored | Op::Publish(_) => {}
            Op::Subscribe { subject, queue, sid } => {
                self.announce();
                self.subscribe(subject, queue, sid);
            }
            Op::Unsubscribe { sid, max } => {
                self.announce();
                self.unsubscribe(sid, max);
            }
        }
        true
    }

    fn connect(&mut self, text: &[u8]) -> bool {
        let connect: Connect = match serde_json::from_slice(text) {
            Ok(connect) => connect,
            Err(error) => {
                self.client.end(Some("Parser Error"), format!("its CONNECT is not valid: {error}"));
                return false;
            }
        };
        let auth = &self.shared.auth;
        if !auth.allow(connect.user.as_deref(), connect.pass.as_deref(), connect.auth_token.as_deref()) {
            let whom = connect.user.as_deref().map(|user| format!(" of user \"{}\"", user.escape_debug()));
            self.refuse_login(&format!("the credentials{} are not valid", whom.unwrap_or_default()));
            return false;
        }
        self.admitted = true;
        if !(0..=1).contains(&connect.protocol) {
            self.client
                .end(Some("invalid client protocol"), format!("it wants protocol {}", connect.protocol));
            return false;
        }
        if connect.no_responders && !connect.headers {
            let error = "no responders requires headers support";
            self.client.end(Some(error), format!("its CONNECT: {error}"));
            return false;
        }
        self.client.headers.store(connect.headers, Ordering::Relaxed);
        if let Some(name) = connect.name.as_deref().filter(|name| !name.is_empty()) {
            // The first counts.
            let _ = self.client.name.set(name.chars().take(100).collect());
        }
        self.connect = connect;
        self.announce();
        if self.connect.verbose {
            self.client.outbox.say(b"+OK\r\n");
        }
        true
    }

    /// Tells the host of the client, once.
    fn announce(&mut self) {
        if self.announced {
            return;
        }
        self.announced = true;
        let Connect { user, name, lang, version, .. } = &self.connect;
        let details = json!({
            "client": self.client.id,
            "peer": self.client.peer.to_string(),
            "name": name,
            "lang": lang,
            "version": version,
            "user": user,
            "tls": self.shared.tls.is_some(),
        });
        let text = format!("{} connected", self.client);
        self.shared.events.emit(Event::new(EventKind::CLIENT_CONNECTED, text).details(details));
    }

    fn subscribe(&mut self, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) {
        let full = {
            let mut known = self.client.subscriptions();
            if known.contains_key(sid) {
                None
            } else if known.len() >= MAX_SUBSCRIPTIONS {
                Some(Err(Refused::TooMany))
            } else {
                let new = Arc::new(Subscription::new(Arc::clone(&self.client), subject, queue, sid));
                // In the routes first: a message may end it at once, and takes it out of here then, after this lock.
                let made = self.shared.routes.insert(&new);
                if made.is_ok() {
                    known.insert(sid.into(), new);
                }
                Some(made)
            }
        };
        let shown = String::from_utf8_lossy(subject);
        let group = queue.map(String::from_utf8_lossy);
        let error = match full {
            // An identifier that is in use stays with its subject, as in nats-server.
            None => None,
            Some(Ok(())) => {
                let of = group.as_ref().map(|group| format!(" in group {group}")).unwrap_or_default();
                let text = format!("{} subscribed to {shown}{of}", self.client);
                let details = json!({"client": self.client.id, "subject": shown, "queue_group": group});
                self.shared.events.emit(Event::new(EventKind::CLIENT_SUBSCRIBED, text).details(details));
                None
            }
            Some(Err(Refused::InvalidSubject)) => Some("Invalid Subject"),
            Some(Err(Refused::TooMany)) => Some("maximum subscriptions exceeded"),
        };
        if let Some(error) = error {
            self.client.outbox.say(format!("-ERR '{error}'\r\n").as_bytes());
            self.shared.refused(&self.client, "subscribe", Some(&shown), error);
        } else if self.connect.verbose {
            self.client.outbox.say(b"+OK\r\n");
        }
    }

    fn unsubscribe(&mut self, sid: &[u8], max: Option<u64>) {
        let mut known = self.client.subscriptions();
        if let Some(subscription) = known.get(sid).cloned() {
            let goes_on = {
                let _lock = self.client.outbox.lock();
                subscription.limit(max.unwrap_or(0))
            };
            if !goes_on {
                known.remove(sid);
                self.shared.routes.remove([&subscription]);
            }
        }
        drop(known);
        if self.connect.verbose {
            self.client.outbox.say(b"+OK\r\n");
        }
    }

    fn refuse_login(&self, reason: &str) {
        self.client.end(Some("Authorization Violation"), format!("not let in: {reason}"));
        self.shared.refused(&self.client, "login", None, reason);
    }

    fn fault(&self, fault: Fault) {
        let (error, reason) = match fault {
            Fault::UnknownOperation => {
                ("Unknown Protocol Operation", "it said what is no operation of NATS".to_owned())
            }
            Fault::ControlLine => {
                ("maximum control line exceeded", "it sent a line that is too long".to_owned())
            }
            Fault::Payload => (
                "Maximum Payload Violation",
                format!("it sent more than {} bytes (--max-payload)", self.shared.limits.max_payload),
            ),
        };
        self.client.end(Some(error), reason.clone());
        self.shared.refused(&self.client, "operation", None, &reason);
    }
}

/// What happens with a message that reached nobody: whoever asked for it is told that there are no responders.
fn unheard(client: &Client, routes: &Routes, wanted: bool, buffer: &[u8]) -> impl FnMut(&Publish) {
    move |message| {
        let Some(reply) = message.reply.filter(|_| wanted).map(|reply| reply.of(buffer)) else { return };
        let found = routes.matching(reply);
        if let Some(own) = found.plain.iter().find(|subscription| subscription.client.id == client.id) {
            let parts: [&[u8]; 5] = [b"HMSG ", reply, b" ", &own.sid, b" 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"];
            client.outbox.say(&parts.concat());
        }
    }
}
