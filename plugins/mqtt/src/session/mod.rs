//! The state of an MQTT session, which outlives connections (5.0, section 4.1), without I/O.
//!
//! The owner feeds frames and the time in, and takes bytes, notices and journal changes out:
//!
//! ```text
//! connect_packet -> on_connack -> loop { handle(frame) | consumed(n) | publish | subscribe -> poll_output } -> connection_lost
//! ```
//!
//! Why a state of our own: rumqttc's loses messages or gets stuck at QoS 1 and 2 across reconnects, cannot do 3.1 nor
//! AUTH, and acknowledges before the consumer has the message.

mod ids;
mod incoming;
mod keep_alive;
mod limits;
mod notice;
mod outgoing;
mod requests;
pub mod store;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

pub use incoming::{Deliver, Message, Topic};
pub use keep_alive::{Due, KeepAlive};
pub use limits::Limits;
pub use notice::{ConnectRefused, Notice, Outcome, SessionError};

use crate::wire::control::{ConnAck, Control};
use crate::wire::publish::Publish;
use crate::wire::request::{Filter, Subscribe, put_auth, put_disconnect, put_ping};
use crate::wire::{Connect, Frame, Invalid, Reason, Version, WireError, topic};

use ids::PacketIds;
use incoming::Incoming;
use outgoing::{Outgoing, Queued};
use requests::Requests;
use store::{Change, Changes, Restored};

/// `poll_output` stops once this much is waiting to be written.
pub const OUTPUT_ROOM: usize = 64 * 1024;

/// Encoded messages share buffers of this size.
const SCRATCH: usize = 16 * 1024;

/// How a session behaves.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// What CONNECT says.
    pub connect: Connect,
    /// Most messages in flight at QoS 1 and 2; a 5.0 server may lower it. At least 1.
    pub max_in_flight: u16,
    /// Most messages that wait to be sent.
    pub queue_messages: usize,
    /// Most bytes that wait to be sent; one message above it is taken when nothing waits.
    pub queue_bytes: usize,
    /// Use topic aliases towards a server that allows them.
    pub use_topic_aliases: bool,
}

impl SessionConfig {
    /// The defaults: 100 in flight in 5.0 and 20 before, 1,024 messages or 4 MiB queued, no aliases.
    ///
    /// Before 5.0 a server can't say how many it bears. mosquitto closes the connection of a 3.x client that, resuming its
    /// session, has more than 20 open at QoS 2, again and again; 20 is also what its own clients keep to.
    pub fn new(connect: Connect) -> Self {
        let max_in_flight = if connect.version.is_v5() { 100 } else { 20 };
        Self { connect, max_in_flight, queue_messages: 1024, queue_bytes: 4 << 20, use_topic_aliases: false }
    }
}

/// What an accepted CONNECT brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The session was there (assumed in 3.1, which cannot tell).
    pub session_present: bool,
    /// The client id in use, ours or the server's.
    pub client_id: String,
    /// Seconds, ours or the server's.
    pub keep_alive: u16,
    /// What the server takes.
    pub limits: Limits,
    /// The server's session expiry, if it changed ours.
    pub session_expiry: Option<u32>,
    /// Basis for response topics.
    pub response_information: Option<String>,
    /// The server's own words.
    pub text: Option<String>,
    /// User properties of CONNACK.
    pub user_properties: Vec<(String, String)>,
    /// Last data of an enhanced authentication.
    pub authentication_data: Option<Bytes>,
}

/// CONNECT was refused, or the answer broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectError {
    /// The server said no.
    Refused(ConnectRefused),
    /// The answer is not allowed.
    Wire(WireError),
}

/// `publish` did not take the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishError {
    /// It can never be sent.
    Invalid(Invalid),
    /// The queue is full: try again after `poll_output`.
    Full,
}

/// The state of a session.
pub struct Session {
    config: SessionConfig,
    limits: Limits,
    connected: bool,
    /// The server has, or had, a session of ours made by this object.
    established: bool,
    ids: PacketIds,
    outgoing: Outgoing,
    incoming: Incoming,
    requests: Requests,
    control: BytesMut,
    scratch: BytesMut,
    notices: Vec<Notice>,
    changes: Changes,
}

impl Session {
    /// A new session.
    ///
    /// # Errors
    /// CONNECT cannot say what is configured.
    pub fn new(config: SessionConfig) -> Result<Self, Invalid> {
        config.connect.check()?;
        let connect = &config.connect;
        let version = connect.version;
        let receive_maximum = connect.receive_maximum.unwrap_or(u16::MAX);
        Ok(Self {
            limits: Limits::default(),
            connected: false,
            established: false,
            ids: PacketIds::default(),
            outgoing: Outgoing::new(version, config.use_topic_aliases),
            incoming: Incoming::new(version, receive_maximum, connect.topic_alias_maximum.unwrap_or(0)),
            requests: Requests::new(version),
            control: BytesMut::new(),
            scratch: BytesMut::new(),
            notices: Vec::new(),
            changes: Changes::default(),
            config,
        })
    }

    /// True when the session is meant to outlive the connection, so that keeping it on disk makes sense.
    pub fn is_persistent(&self) -> bool {
        let connect = &self.config.connect;
        if connect.version.is_v5() { connect.session_expiry.unwrap_or(0) > 0 } else { !connect.clean }
    }

    /// Takes over what an earlier process left, and records changes for the journal from now on.
    /// Returns how many messages will be sent again.
    pub fn restore(&mut self, restored: Restored) -> usize {
        self.changes.record();
        for (pid, released, wire) in restored.sent {
            if !self.outgoing.restore(pid, released, wire, &mut self.ids) {
                log::warn!("kept session: message {pid} cannot be read and is left out");
            }
        }
        restored.received.into_iter().for_each(|pid| self.incoming.restore(pid));
        self.outgoing.in_flight()
    }

    /// The protocol version.
    pub fn version(&self) -> Version {
        self.config.connect.version
    }

    /// The largest packet that we take, in bytes.
    pub fn maximum_packet_size(&self) -> usize {
        self.config.connect.maximum_packet_size.map_or(crate::wire::MAX_REMAINING + 5, |max| max as usize)
    }

    /// CONNECT for the next connection; with enhanced authentication, its first data.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn connect_packet(&mut self, authentication: Option<(String, Bytes)>) -> Result<Bytes, Invalid> {
        let mut connect = self.config.connect.clone();
        connect.authentication = authentication;
        connect.clean = self.asks_clean();
        let mut out = BytesMut::new();
        connect.encode(&mut out)?;
        Ok(out.freeze())
    }

    /// In 5.0, clean start with a session expiry means clean at the *first* connect only: later ones resume.
    fn asks_clean(&self) -> bool {
        let connect = &self.config.connect;
        connect.clean && !(self.established && self.is_persistent())
    }

    /// The answer to CONNECT.
    ///
    /// # Errors
    /// The server refused, or claims a session that we asked it to drop.
    pub fn on_connack(&mut self, ack: ConnAck) -> Result<Accepted, ConnectError> {
        let version = self.version();
        if ack.code != 0 {
            let is_3x_code = !version.is_v5() || ack.code < 0x80;
            let (text, server_reference) =
                ack.properties.map_or((None, None), |p| (p.reason_string, p.server_reference));
            return Err(ConnectError::Refused(ConnectRefused {
                version,
                code: ack.code,
                is_3x_code,
                text,
                server_reference,
            }));
        }
        let clean = self.asks_clean();
        if ack.session_present && clean {
            let what = "CONNACK says that a session is present, though a clean one was asked for";
            return Err(ConnectError::Wire(WireError::protocol(what)));
        }
        let session_present = ack.session_present || (version == Version::V31 && !clean);
        if !session_present {
            self.outgoing.session_lost(&mut self.changes);
            self.incoming.session_lost(&mut self.changes);
        }
        if !session_present || version == Version::V31 {
            self.requests.session_lost();
        }
        self.limits = ack.properties.as_ref().map(Limits::new).unwrap_or_default();
        self.connected = true;
        self.established = true;
        let connect = &mut self.config.connect;
        let mut accepted = Accepted {
            session_present,
            client_id: String::new(),
            keep_alive: connect.keep_alive,
            limits: self.limits.clone(),
            session_expiry: None,
            response_information: None,
            text: None,
            user_properties: Vec::new(),
            authentication_data: None,
        };
        if let Some(properties) = ack.properties {
            if let Some(assigned) = properties.assigned_client_identifier {
                connect.client_id = assigned;
            }
            accepted.keep_alive = properties.server_keep_alive.unwrap_or(connect.keep_alive);
            accepted.session_expiry = properties.session_expiry_interval;
            accepted.response_information = properties.response_information;
            accepted.text = properties.reason_string;
            accepted.user_properties = properties.user_properties;
            accepted.authentication_data = properties.authentication_data;
        }
        accepted.client_id.clone_from(&connect.client_id);
        Ok(accepted)
    }

    /// A frame from the server, after CONNACK. Messages go to `sink`.
    ///
    /// # Errors
    /// The server broke the protocol or said DISCONNECT. The connection has to end; the session stays usable.
    #[inline]
    pub fn handle(&mut self, frame: &Frame<'_>, sink: &mut impl Deliver) -> Result<(), SessionError> {
        if frame.kind() == 3 {
            self.incoming.on_publish(frame, sink, &mut self.control)?;
            return Ok(());
        }
        self.on_control(Control::read(frame, self.version())?)
    }

    fn on_control(&mut self, control: Control) -> Result<(), SessionError> {
        let (ids, changes, notices) = (&mut self.ids, &mut self.changes, &mut self.notices);
        match control {
            Control::PubAck(ack) => self.outgoing.on_puback(ack, ids, changes, notices)?,
            Control::PubRec(ack) => self.outgoing.on_pubrec(ack, ids, changes, notices, &mut self.control)?,
            Control::PubComp(ack) => self.outgoing.on_pubcomp(ack, ids, changes, notices)?,
            Control::PubRel(ack) => self.incoming.on_pubrel(ack.pid, changes, &mut self.control),
            Control::SubAck(ack) => self.requests.on_suback(ack, ids, notices)?,
            Control::UnsubAck(ack) => self.requests.on_unsuback(ack, ids, notices)?,
            Control::PingResp => {}
            Control::Auth(auth) => {
                notices.push(Notice::Auth { reason: auth.reason, method: auth.method, data: auth.data });
            }
            Control::Disconnect(disconnect) => return Err(SessionError::Disconnected(disconnect)),
            Control::ConnAck(_) => return Err(WireError::protocol("a second CONNACK").into()),
        }
        Ok(())
    }

    /// Takes a message to be sent, now or on a later connection. Its outcome comes as a notice with `token`.
    ///
    /// # Errors
    /// It can never be sent, or the queue is full.
    pub fn publish(&mut self, token: u64, publish: &Publish<'_>, now: Instant) -> Result<(), PublishError> {
        if !self.can_queue() {
            return Err(PublishError::Full);
        }
        // Many small messages share one allocation.
        if self.scratch.capacity() < SCRATCH / 4 {
            self.scratch.reserve(SCRATCH);
        }
        let layout = publish.encode(self.version(), &mut self.scratch).map_err(PublishError::Invalid)?;
        let wire = self.scratch.split().freeze();
        let expiry = publish.properties.message_expiry.map(|seconds| Duration::from_secs(seconds.into()));
        let expires = expiry.and_then(|expiry| now.checked_add(expiry));
        self.outgoing.push(Queued { token, wire, layout, expires });
        Ok(())
    }

    /// Whether `publish` has room.
    pub fn can_queue(&self) -> bool {
        self.outgoing.queued() < self.config.queue_messages
            && self.outgoing.queued_bytes() < self.config.queue_bytes
    }

    /// Takes a SUBSCRIBE. Its results come as a notice with `token`; what is granted is asked for again whenever
    /// the server has lost the session.
    ///
    /// # Errors
    /// It can never be sent.
    pub fn subscribe(&mut self, token: u64, subscribe: Subscribe) -> Result<(), Invalid> {
        subscribe.check(self.version())?;
        self.requests.subscribe(token, subscribe);
        Ok(())
    }

    /// Takes an UNSUBSCRIBE. Its results come as a notice with `token`.
    ///
    /// # Errors
    /// No filter, or a bad one.
    pub fn unsubscribe(&mut self, token: u64, filters: Vec<String>) -> Result<(), Invalid> {
        if filters.is_empty() {
            return Err(Invalid::new("no topic filter: at least one is needed to unsubscribe"));
        }
        filters.iter().try_for_each(|filter| topic::check_filter(filter, self.version()))?;
        self.requests.unsubscribe(token, filters);
        Ok(())
    }

    /// The consumer is done with all messages up to this ordinal (the first delivered has 1): their
    /// acknowledgements are due.
    pub fn consumed(&mut self, up_to: u64) {
        // Between connections nothing may be written; QoS 2 still notes that the message was dealt with.
        let mut dropped = BytesMut::new();
        let out = if self.connected { &mut self.control } else { &mut dropped };
        self.incoming.consumed(up_to, &mut self.changes, out);
    }

    /// The ordinal of the message delivered last.
    pub fn delivered(&self) -> u64 {
        self.incoming.delivered()
    }

    /// Appends what may be written now, until `out` holds [`OUTPUT_ROOM`] bytes. With a journal, commit
    /// [`Self::take_changes`] before writing any of it.
    pub fn poll_output(&mut self, now: Instant, out: &mut BytesMut) {
        if !self.connected {
            return;
        }
        if !self.control.is_empty() {
            out.extend_from_slice(&self.control);
            self.control.clear();
        }
        let (ids, notices) = (&mut self.ids, &mut self.notices);
        self.requests.poll(&self.limits, OUTPUT_ROOM, ids, notices, out);
        let window = self.config.max_in_flight.max(1).min(self.limits.receive_maximum).into();
        self.outgoing.poll(now, &self.limits, window, OUTPUT_ROOM, ids, &mut self.changes, notices, out);
    }

    /// Everything that `poll_output` gave has been written: QoS 0 messages in it are done.
    pub fn flushed(&mut self) {
        self.outgoing.flushed(&mut self.notices);
    }

    /// Appends PINGREQ.
    pub fn ping(&self, out: &mut BytesMut) {
        put_ping(out);
    }

    /// Appends AUTH: a step of an exchange, or the start of a new one (5.0).
    ///
    /// # Errors
    /// Method or data above 65,535 bytes.
    pub fn auth(&self, reason: Reason, method: &str, data: &[u8], out: &mut BytesMut) -> Result<(), Invalid> {
        put_auth(reason, method, data, out)
    }

    /// Appends DISCONNECT.
    pub fn disconnect(&self, reason: Reason, session_expiry: Option<u32>, out: &mut BytesMut) {
        put_disconnect(reason, session_expiry, self.version(), out);
    }

    /// The connection has ended, whoever ended it. Nothing is given up: what was in flight goes out again on the
    /// next connection.
    pub fn connection_lost(&mut self) {
        self.connected = false;
        self.control.clear();
        self.outgoing.connection_lost(&mut self.notices);
        self.incoming.connection_lost();
        self.requests.connection_lost(&mut self.ids);
    }

    /// Tokens of all messages without an outcome; they get none any more. For an owner that gives up.
    pub fn abandon(&mut self) -> Vec<u64> {
        self.outgoing.abandon()
    }

    /// Takes what happened.
    pub fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Takes the changes to be made durable; always empty without [`Self::restore`].
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.changes.take()
    }

    /// The changes that lead to the present state from nothing.
    pub fn snapshot(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        self.outgoing.snapshot(&mut changes);
        self.incoming.snapshot(&mut changes);
        changes
    }

    /// Filters that the server granted.
    pub fn granted(&self) -> impl Iterator<Item = &Filter> {
        self.requests.granted()
    }

    /// Messages without an outcome: queued and in flight, and requests without an answer.
    pub fn unsettled(&self) -> usize {
        self.outgoing.queued() + self.outgoing.in_flight() + self.requests.pending()
    }
}

impl From<Invalid> for PublishError {
    fn from(error: Invalid) -> Self {
        Self::Invalid(error)
    }
}
