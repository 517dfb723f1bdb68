//! A desk on top of the message layer: what serves all peers of a socket of datagrams, without I/O. UDP and DTLS drive the
//! same code; what they do is to receive, to send what [`Datagrams::poll_transmit`] gives, and to come back in time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::Notify;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::serde_json;

use super::desk::Desk;
use super::loss::Loss;
use super::observers::Settled;
use super::show::Sender;
use crate::endpoint::{Endpoint, Event as Happening, Failure, Incoming, Transmit};
use crate::message::{self, CoapOption, Packet};

/// Answers that wait because of --delay.
const DELAYED: usize = 16_384;
/// Notifications that are made at once: what comes in between is looked at first.
const NOTICES: usize = 64;
/// When there is no room for more notifications, and nothing is settled, it is looked again after this time.
const RETRY: Duration = Duration::from_millis(100);

/// See the module.
pub struct Datagrams {
    endpoint: Endpoint,
    desk: Desk,
    transport: &'static str,
    loss: Loss,
    leisure: Duration,
    /// As many notifications are under way as may be.
    full: Option<Instant>,
    delayed: BinaryHeap<Reverse<Delayed>>,
    /// Of all answers that were delayed.
    count: u64,
}

/// An answer for later, ordered by its time.
struct Delayed {
    due: Instant,
    number: u64,
    request: Incoming,
    packet: Packet,
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Delayed) -> bool {
        (self.due, self.number) == (other.due, other.number)
    }
}

impl Eq for Delayed {}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Delayed) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Delayed {
    fn cmp(&self, other: &Delayed) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl Datagrams {
    /// `transport` is the scheme of the URL; `leisure` the time over which servers of a group spread their answers.
    pub fn new(
        endpoint: Endpoint,
        desk: Desk,
        transport: &'static str,
        loss: Loss,
        leisure: Duration,
    ) -> Datagrams {
        Datagrams {
            endpoint,
            desk,
            transport,
            loss,
            leisure,
            full: None,
            delayed: BinaryHeap::new(),
            count: 0,
        }
    }

    /// Rings when there are notifications to be sent: then [`Datagrams::handle_timeout`] is to be called.
    pub fn wake(&self) -> Arc<Notify> {
        self.desk.wake()
    }

    /// Takes a datagram that came from a peer; `identity` is who it has proved to be.
    pub fn receive(&mut self, now: Instant, peer: SocketAddr, bytes: &[u8], identity: Option<&Arc<str>>) {
        if self.loss.strikes() {
            return self.lost("from", peer, bytes);
        }
        self.endpoint.receive(now, peer, bytes);
        self.happenings(now, identity);
    }

    /// Takes a datagram that came to a group.
    pub fn receive_of_group(&mut self, now: Instant, peer: SocketAddr, bytes: &[u8]) {
        if self.loss.strikes() {
            return self.lost("from", peer, bytes);
        }
        self.endpoint.receive_of_group(now, peer, bytes);
        self.happenings(now, None);
    }

    /// There is no way to this peer any more.
    pub fn forget(&mut self, now: Instant, peer: SocketAddr) {
        self.desk.gone(now, peer);
        self.endpoint.forget(now, peer);
        self.happenings(now, None);
    }

    /// Does what is due: retransmissions, delayed answers, notifications.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.endpoint.handle_timeout(now);
        self.happenings(now, None);
        while let Some(Reverse(next)) = self.delayed.peek()
            && next.due <= now
        {
            if let Some(Reverse(Delayed { request, packet, .. })) = self.delayed.pop() {
                self.endpoint.respond(now, request, packet);
            }
        }
        self.notify(now);
    }

    /// When [`Datagrams::handle_timeout`] is to be called at the latest.
    pub fn next_timeout(&self) -> Option<Instant> {
        let delayed = self.delayed.peek().map(|Reverse(next)| next.due);
        [delayed, self.full, self.endpoint.next_timeout()].into_iter().flatten().min()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        loop {
            let transmit = self.endpoint.poll_transmit()?;
            if !self.loss.strikes() {
                return Some(transmit);
            }
            self.lost("to", transmit.peer, &transmit.bytes);
        }
    }

    /// Whether there are more notifications than were made at once: then [`Datagrams::handle_timeout`] is to be called again
    /// when what came meanwhile was looked at.
    pub fn has_notices(&self) -> bool {
        self.full.is_none() && self.desk.has_notices()
    }

    fn happenings(&mut self, now: Instant, identity: Option<&Arc<str>>) {
        while let Some(happening) = self.endpoint.poll_event() {
            match happening {
                Happening::Request { request, packet } => self.requested(now, request, packet, identity),
                Happening::Acknowledged { peer, token, .. } => {
                    self.full = None;
                    self.desk.settled(now, peer, token, Settled::Acknowledged);
                }
                Happening::Failed { peer, token, why, .. } => {
                    let outcome = match why {
                        Failure::Reset => Settled::Rejected,
                        _ => Settled::GaveUp,
                    };
                    self.full = None;
                    self.desk.settled(now, peer, token, outcome);
                }
                Happening::Rejected { peer, token } => {
                    self.desk.settled(now, peer, token, Settled::Rejected);
                }
                Happening::Malformed { peer, error } => {
                    let text = format!("a datagram of {peer} is no CoAP message: {error}");
                    let details =
                        json!({ "what": "message", "peer": peer.to_string(), "reason": error.to_string() });
                    self.desk
                        .service()
                        .events()
                        .emit(Event::new(EventKind::CLIENT_REFUSED, text).details(details));
                }
                // This is no client: nothing was asked, and pings were answered.
                Happening::Response { .. } | Happening::Stray { .. } | Happening::Ping { .. } => {}
            }
        }
    }

    fn requested(
        &mut self,
        now: Instant,
        request: Incoming,
        mut packet: Packet,
        identity: Option<&Arc<str>>,
    ) {
        if request.to_group {
            // Nobody can acknowledge, or cancel, for all servers of a group.
            message::without(&mut packet, CoapOption::Observe);
        }
        if !request.confirmable
            && let Some(number) = message::not_understood(&packet)
        {
            // RFC 7252 section 5.4.1: there is no 4.02 for what is not confirmable.
            let text = format!("a request of {} was ignored: critical option {number}", request.peer);
            let details = json!({ "what": "message", "peer": request.peer.to_string(), "option": number });
            self.desk.service().events().emit(Event::new(EventKind::CLIENT_REFUSED, text).details(details));
            return self.endpoint.reject(request);
        }
        let sender = Sender {
            peer: request.peer,
            transport: self.transport,
            message: Some((request.message_id, request.confirmable)),
            identity: identity.cloned(),
            to_group: request.to_group,
        };
        let Some(mut reply) = self.desk.request(now, &sender, packet) else {
            return self.endpoint.acknowledge(request);
        };
        if request.to_group {
            // RFC 7252 section 8.2: those with nothing to say, or only that it went wrong, are silent.
            if message::class(reply.packet.header.code) != 2 || reply.packet.payload.is_empty() {
                return;
            }
            reply.after += self.endpoint.part_of(self.leisure);
        }
        if reply.after.is_zero() {
            self.endpoint.respond(now, request, reply.packet);
        } else if self.delayed.len() < DELAYED {
            self.count += 1;
            let due = now + reply.after;
            let delayed = Delayed { due, number: self.count, request, packet: reply.packet };
            self.delayed.push(Reverse(delayed));
        }
    }

    /// Sends some of the notifications that are due.
    fn notify(&mut self, now: Instant) {
        if self.full.is_some_and(|until| until > now) {
            return;
        }
        self.full = None;
        for _ in 0..NOTICES {
            let Some(notice) = self.desk.notice(now) else { return };
            if self.endpoint.send(now, notice.key.peer, notice.packet, notice.confirmable).is_err() {
                self.desk.postpone(&notice.key);
                self.full = Some(now + RETRY);
                return;
            }
        }
    }

    /// Tells of what --loss has taken.
    fn lost(&self, way: &str, peer: SocketAddr, bytes: &[u8]) {
        let what = match message::decode(bytes) {
            Ok(packet) => {
                let (kind, code) =
                    (crate::show::message_type(&packet), message::code_text(packet.header.code));
                format!("{kind} {code} {}", packet.header.message_id)
            }
            Err(_) => format!("{} bytes", bytes.len()),
        };
        let count = self.loss.count();
        let text = format!("lost on purpose (--loss): {what} {way} {peer}");
        let details = json!({ "peer": peer.to_string(), "way": way, "message": what, "lost": count });
        self.desk.service().events().emit(Event::new(EventKind::WARNING, text).details(details));
    }
}
