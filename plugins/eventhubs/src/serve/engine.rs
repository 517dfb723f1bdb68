//! A connection's state, moved by the frames that come in; what goes out is put into an outbox. Does no I/O.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tracemq_plugin_api::prelude::{Event, EventKind};
use tracemq_plugin_api::serde_json;

use super::access::{Access, now};
use super::mailbox::{LinkKey, Mailbox, Note};
use super::service::{Client, Service};
use super::session::{Link, Session, WINDOW, write_detach, write_error};
use crate::wire::{Begin, Body, Flow, Header, MIN_FRAME, Malformed, Open, Outbox, Performative, code};

/// The longest frame that we take, in bytes.
pub(super) const MAX_FRAME: usize = 1 << 20;
/// Sessions of a connection, less one. The JavaScript SDK opens one for each link.
const CHANNEL_MAX: u16 = 1023;
/// Links of a session, less one.
const HANDLE_MAX: u32 = 1023;
/// Links of a connection.
const MOST_LINKS: usize = 2048;
/// Milliseconds of silence after which a peer should let us hear of it. It is given up after twice that.
pub(super) const IDLE: u32 = 120_000;

/// What ends a connection: condition and text.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) condition: &'static str,
    pub(super) text: String,
}

impl Fault {
    pub(super) fn new(condition: &'static str, text: impl Into<String>) -> Fault {
        Fault { condition, text: text.into() }
    }
}

impl From<Malformed> for Fault {
    fn from(error: Malformed) -> Fault {
        Fault::new("amqp:decode-error", error.to_string())
    }
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Open,
    /// Peer and server have said that it is over.
    Closed,
}

/// Deliveries that were accepted and of which the peer is still to be told, all together.
struct Accepted {
    channel: u16,
    first: u32,
    last: u32,
}

pub(super) struct Engine {
    pub(super) service: Arc<Service>,
    pub(super) client: Client,
    pub(super) out: Outbox,
    pub(super) access: Access,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) sessions: HashMap<u16, Session>,
    /// Links that have something to send, each once.
    pub(super) ready: VecDeque<LinkKey>,
    /// The payload that fits into a frame that the peer takes.
    pub(super) room: usize,
    /// What the peer calls itself.
    pub(super) product: String,
    /// How long the peer bears our silence.
    pub(super) peer_idle: Option<Duration>,
    opened: bool,
    links: usize,
    accepted: Option<Accepted>,
    /// Serial numbers of the links, for whoever has only channel and handle.
    pub(super) serials: HashMap<(u16, u32), u64>,
}

impl Engine {
    pub(super) fn new(service: Arc<Service>, client: Client, access: Access) -> Engine {
        Engine {
            service,
            client,
            out: Outbox::default(),
            access,
            mailbox: Arc::new(Mailbox::default()),
            sessions: HashMap::new(),
            ready: VecDeque::new(),
            room: Body::room(MIN_FRAME),
            product: String::new(),
            peer_idle: None,
            opened: false,
            links: 0,
            accepted: None,
            serials: HashMap::new(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.opened
    }

    /// Takes in a frame.
    ///
    /// # Errors
    /// It ends the connection.
    pub(super) fn frame(&mut self, header: Header, frame: &Bytes) -> Result<Next, Fault> {
        if header.sasl {
            return Err(Malformed::Unexpected("a frame of the security layer").into());
        }
        let body = &frame[header.body..];
        if body.is_empty() {
            return Ok(Next::Open);
        }
        let (performative, payload) = Performative::read(body)?;
        let payload = frame.slice(frame.len() - payload.len()..);
        let channel = header.channel;
        match performative {
            Performative::Open(open) => {
                self.open(&open)?;
                return Ok(Next::Open);
            }
            Performative::Close => {
                self.close(None);
                return Ok(Next::Closed);
            }
            _ if !self.opened => return Err(Malformed::Unexpected("a frame before the open").into()),
            Performative::Begin(begin) => {
                self.begin(channel, &begin)?;
                return Ok(Next::Open);
            }
            _ => {}
        }
        match self.sessions.get(&channel) {
            // Said before the peer heard that the session is over: Python detaches its links after it has ended theirs.
            None if matches!(
                performative,
                Performative::Flow(_)
                    | Performative::Disposition(_)
                    | Performative::Detach(_)
                    | Performative::End
            ) =>
            {
                return Ok(Next::Open);
            }
            None => {
                return Err(Fault::new(
                    "amqp:not-allowed",
                    format!("there is no session on channel {channel}"),
                ));
            }
            Some(session) if session.ended => {
                if matches!(performative, Performative::End) {
                    self.sessions.remove(&channel);
                }
                return Ok(Next::Open);
            }
            Some(_) => {}
        }
        match performative {
            Performative::Attach(attach) => self.attach(channel, &attach)?,
            Performative::Flow(flow) => self.flow(channel, &flow),
            Performative::Transfer(transfer) => self.transfer(channel, transfer, payload)?,
            Performative::Detach(detach) => self.detached(channel, detach.handle, detach.closed),
            Performative::End => {
                self.settle();
                self.forget_links(channel);
                self.sessions.remove(&channel);
                self.out.performative(channel, code::END, |w| w.null());
            }
            // Events are sent settled.
            Performative::Disposition(_) => {}
            Performative::Open(_) | Performative::Begin(_) | Performative::Close => {}
        }
        Ok(Next::Open)
    }

    fn open(&mut self, open: &Open<'_>) -> Result<(), Fault> {
        if self.opened {
            return Err(Malformed::Unexpected("a second open").into());
        }
        self.opened = true;
        let max_frame = open.max_frame as usize;
        if max_frame < MIN_FRAME {
            let text = format!("a max-frame-size of {max_frame} is less than {MIN_FRAME}");
            return Err(Fault::new("amqp:invalid-field", text));
        }
        self.room = Body::room(max_frame.min(MAX_FRAME));
        let idle = open.idle_timeout.filter(|millis| *millis > 0);
        self.peer_idle = idle.map(|millis| Duration::from_millis(u64::from(millis)));
        let text = |name: &str| open.properties.get(name).and_then(|value| value.text());
        // What follows the first word tells of the machine.
        let agent = text("user-agent").and_then(|agent| agent.split_whitespace().next());
        let product = agent.or_else(|| text("product")).unwrap_or(open.container);
        self.product = product.chars().filter(|c| !c.is_control()).take(100).collect();
        let name = self.service.name.clone();
        self.out.performative(0, code::OPEN, |w| {
            w.string(&name);
            w.null();
            w.uint(MAX_FRAME as u32);
            w.ushort(CHANNEL_MAX);
            w.uint(IDLE);
            (0..4).for_each(|_| w.null());
            w.map(|w| {
                w.symbol("product");
                w.string("TraceMQ");
                w.symbol("version");
                w.string(env!("CARGO_PKG_VERSION"));
            });
        });
        Ok(())
    }

    fn begin(&mut self, channel: u16, begin: &Begin) -> Result<(), Fault> {
        if channel > CHANNEL_MAX {
            let text = format!("channel {channel} is over the channel-max of {CHANNEL_MAX}");
            return Err(Fault::new("amqp:connection:framing-error", text));
        }
        if begin.remote_channel.is_some() {
            return Err(Fault::new(
                "amqp:not-allowed",
                "the server begins no sessions, so none can be answered",
            ));
        }
        if self.sessions.contains_key(&channel) {
            return Err(Fault::new(
                "amqp:not-allowed",
                format!("there is a session on channel {channel} already"),
            ));
        }
        let mut session =
            Session { next_incoming: begin.next_outgoing_id, window: WINDOW, ..Session::default() };
        session.flow.channel = channel;
        session.flow.window = begin.incoming_window;
        self.out.performative(channel, code::BEGIN, |w| {
            w.ushort(channel);
            w.uint(0);
            w.uint(WINDOW);
            w.uint(u32::MAX);
            w.uint(HANDLE_MAX);
            (0..3).for_each(|_| w.null());
        });
        self.sessions.insert(channel, session);
        Ok(())
    }

    /// Puts a link where there is none.
    ///
    /// # Errors
    /// There are too many, or one is there.
    pub(super) fn insert(&mut self, key: LinkKey, link: Link) -> Result<(), Fault> {
        if self.links >= MOST_LINKS {
            let text = format!("there are {MOST_LINKS} links on the connection already");
            return Err(Fault::new("amqp:resource-limit-exceeded", text));
        }
        let Some(session) = self.sessions.get_mut(&key.channel) else { return Ok(()) };
        session.links.insert(key.handle, link);
        self.serials.insert((key.channel, key.handle), key.serial);
        self.links += 1;
        Ok(())
    }

    /// Whether this handle can be given to a link; otherwise the session or the connection ends.
    ///
    /// # Errors
    /// It is larger than any may be.
    pub(super) fn is_free(&mut self, channel: u16, handle: u32) -> Result<bool, Fault> {
        if handle > HANDLE_MAX {
            let text = format!("handle {handle} is over the handle-max of {HANDLE_MAX}");
            return Err(Fault::new("amqp:connection:framing-error", text));
        }
        let taken = self.sessions.get(&channel).is_some_and(|session| session.links.contains_key(&handle));
        if taken {
            self.end(channel, "amqp:session:handle-in-use", &format!("handle {handle} is in use"));
        }
        Ok(!taken)
    }

    /// Ends a session that broke the rules.
    pub(super) fn end(&mut self, channel: u16, condition: &str, text: &str) {
        self.settle();
        self.forget_links(channel);
        let Some(session) = self.sessions.get_mut(&channel) else { return };
        session.ended = true;
        self.out.performative(channel, code::END, |w| w.error(condition, text));
        self.service.refused(&self.client, "a session", condition, text);
    }

    fn forget_links(&mut self, channel: u16) {
        let Some(session) = self.sessions.get_mut(&channel) else { return };
        self.links -= session.links.len();
        session.links.clear();
        self.serials.retain(|(of, _), _| *of != channel);
        self.ready.retain(|key| key.channel != channel);
    }

    fn flow(&mut self, channel: u16, flow: &Flow) {
        let Some(session) = self.sessions.get_mut(&channel) else { return };
        // What the peer has not heard of counts against its window.
        let taken = flow.next_incoming_id.unwrap_or(0);
        let ahead = session.flow.next.wrapping_sub(taken);
        let shut = session.flow.window == 0;
        session.flow.window = flow.incoming_window.saturating_sub(ahead);
        let mut wanting = Vec::new();
        if shut && session.flow.window > 0 {
            wanting.extend(session.wanting());
        }
        if let Some(handle) = flow.handle {
            let outgoing = match session.links.get_mut(&handle) {
                Some(Link::Source(source)) => Some(&mut source.out),
                Some(Link::Replies(replies)) => Some(&mut replies.out),
                Some(Link::Closing | Link::Sink(_)) | None => None,
            };
            if let Some(outgoing) = outgoing {
                if let Some(credit) = flow.link_credit {
                    let until = flow.delivery_count.unwrap_or(0).wrapping_add(credit);
                    // A difference of more than half the numbers is one in the other direction.
                    let left = until.wrapping_sub(outgoing.delivery_count);
                    outgoing.credit = if left as i32 >= 0 || credit > i32::MAX as u32 { left } else { 0 };
                }
                outgoing.drain = flow.drain;
                if outgoing.wants() {
                    wanting.push(handle);
                }
            }
        }
        if flow.echo {
            session.write_flow(&mut self.out, flow.handle);
        }
        for handle in wanting {
            self.enqueue(channel, handle);
        }
    }

    /// Has a link send, when it is its turn.
    pub(super) fn enqueue(&mut self, channel: u16, handle: u32) {
        let Some(serial) = self.serials.get(&(channel, handle)).copied() else { return };
        let link = self.sessions.get_mut(&channel).and_then(|session| session.links.get_mut(&handle));
        let outgoing = match link {
            Some(Link::Source(source)) => &mut source.out,
            Some(Link::Replies(replies)) => &mut replies.out,
            Some(Link::Closing | Link::Sink(_)) | None => return,
        };
        if !std::mem::replace(&mut outgoing.queued, true) {
            self.ready.push_back(LinkKey { channel, handle, serial });
        }
    }

    fn detached(&mut self, channel: u16, handle: u32, closed: bool) {
        self.settle();
        let Some(session) = self.sessions.get_mut(&channel) else { return };
        match session.links.remove(&handle) {
            // Both have detached it at the same time, or it never was.
            None => return,
            Some(Link::Closing) => {}
            Some(Link::Sink(_) | Link::Source(_) | Link::Replies(_)) => {
                self.out.performative(channel, code::DETACH, |w| {
                    w.uint(handle);
                    w.bool(closed);
                    w.null();
                });
            }
        }
        self.links -= 1;
        self.serials.remove(&(channel, handle));
        self.ready.retain(|key| (key.channel, key.handle) != (channel, handle));
    }

    /// Takes a link from the peer. Nothing of it goes out any more.
    pub(super) fn detach(&mut self, channel: u16, handle: u32, condition: &str, text: &str) {
        self.settle();
        let Some(session) = self.sessions.get_mut(&channel) else { return };
        let Some(link) = session.links.get_mut(&handle) else { return };
        if matches!(link, Link::Closing) {
            return;
        }
        *link = Link::Closing;
        self.ready.retain(|key| (key.channel, key.handle) != (channel, handle));
        write_detach(&mut self.out, channel, handle, Some((condition, text)));
        self.service.refused(&self.client, "a link", condition, text);
    }

    /// Has a delivery be accepted: told with others that follow on each other.
    pub(super) fn accept(&mut self, channel: u16, delivery: u32) {
        match &mut self.accepted {
            Some(accepted) if accepted.channel == channel && accepted.last.wrapping_add(1) == delivery => {
                accepted.last = delivery;
            }
            _ => {
                self.settle();
                self.accepted = Some(Accepted { channel, first: delivery, last: delivery });
            }
        }
    }

    /// Tells the peer of a delivery that was not taken.
    pub(super) fn write_rejected(&mut self, channel: u16, delivery: u32, condition: &str, text: &str) {
        self.settle();
        self.out.performative(channel, code::DISPOSITION, |w| {
            w.bool(true);
            w.uint(delivery);
            w.uint(delivery);
            w.bool(true);
            w.describe(code::REJECTED).list(|w| w.error(condition, text));
            w.bool(false);
        });
    }

    /// Tells the peer what was accepted.
    pub(super) fn settle(&mut self) {
        let Some(Accepted { channel, first, last }) = self.accepted.take() else { return };
        self.out.performative(channel, code::DISPOSITION, |w| {
            w.bool(true);
            w.uint(first);
            w.uint(last);
            w.bool(true);
            w.describe(code::ACCEPTED).list(|_| {});
            w.bool(false);
        });
    }

    /// Says that the connection is over, and why.
    pub(super) fn close(&mut self, error: Option<(&str, &str)>) {
        self.settle();
        self.out.performative(0, code::CLOSE, |w| write_error(w, error));
    }

    /// Takes in what others have to tell.
    pub(super) fn notes(&mut self) {
        for note in self.mailbox.take() {
            let (key, text) = match note {
                Note::Events(key) => (key, None),
                Note::Stolen(key, text) => (key, Some(text)),
            };
            if self.serials.get(&(key.channel, key.handle)) != Some(&key.serial) {
                continue;
            }
            match text {
                None => self.enqueue(key.channel, key.handle),
                Some(text) => self.detach(key.channel, key.handle, "amqp:link:stolen", &text),
            }
        }
    }

    /// Cuts the links whose right has expired and was not renewed.
    pub(super) fn expire(&mut self) {
        let now = now();
        let mut gone = Vec::new();
        for (channel, session) in &mut self.sessions {
            for (handle, link) in &mut session.links {
                let lease = match link {
                    Link::Sink(sink) => &mut sink.access,
                    Link::Source(source) => &mut source.access,
                    Link::Closing | Link::Replies(_) => continue,
                };
                if lease.until <= now {
                    match self.access.until(&lease.address) {
                        Some(until) => lease.until = until,
                        None => gone.push((*channel, *handle, lease.address.clone())),
                    }
                }
            }
        }
        for (channel, handle, address) in gone {
            let text = format!("ExpiredToken: The token is expired. Resource: '{address}'.");
            self.detach(channel, handle, "amqp:unauthorized-access", &text);
        }
    }

    /// Tells people that somebody reads.
    pub(super) fn subscribed(&self, address: &str, level: Option<i64>) {
        let Client { number, peer } = &self.client;
        let owner = level.map_or_else(String::new, |level| format!(", owner level {level}"));
        let text = format!("client {number} ({peer}) reads {address}{owner}");
        let details = json!({
            "client": number, "peer": peer.to_string(), "topic": address, "owner_level": level,
        });
        self.service.events.emit(Event::new(EventKind::CLIENT_SUBSCRIBED, text).details(details));
    }
}
