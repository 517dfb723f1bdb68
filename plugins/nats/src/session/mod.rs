//! What a connection is in the middle of, without I/O: subscriptions, pings on their way, what the server said of itself.
//!
//! It outlives the connection: after a reconnect the subscriptions are made again, each with what is left of its maximum.

mod refusal;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::wire::{Encoder, Op, ServerInfo, WireError};

pub use refusal::Refusal;

/// One subject pattern of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// As it goes over the wire.
    pub subject: String,
    pub queue: Option<String>,
    /// The server ends it after so many messages.
    pub max: Option<u64>,
}

struct Entry {
    sid: u64,
    group: u64,
    pattern: Pattern,
    received: u64,
    refused: bool,
}

/// A number of pings, counted from the start of the session. What waits for a PONG remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// What happened, beside messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Everything written before the ping with this mark has been dealt with by the server.
    Pong {
        mark: Mark,
        rtt: Duration,
    },
    /// The server has told of itself again.
    Info(Box<ServerInfo>),
    /// Messages to this subject, on the wire, are not allowed.
    PublishDenied {
        subject: String,
        text: String,
    },
    SubscribeDenied {
        group: u64,
        subject: String,
        text: String,
    },
    /// The connection is about to be closed, or something was refused that we can't tell apart.
    Refused(Refusal),
}

/// To whom a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub group: u64,
    /// No other will come for the group.
    pub last: bool,
}

#[derive(Default)]
pub struct Session {
    /// In the order of their numbers.
    entries: Vec<Entry>,
    next_sid: u64,
    pings: u64,
    pongs: u64,
    sent: VecDeque<Instant>,
}

impl Session {
    /// Adds a group of patterns and asks the server for them.
    pub fn subscribe(&mut self, group: u64, patterns: Vec<Pattern>, out: &mut BytesMut) {
        for pattern in patterns {
            self.next_sid += 1;
            let entry = Entry { sid: self.next_sid, group, pattern, received: 0, refused: false };
            entry.ask(out);
            self.entries.push(entry);
        }
    }

    /// Ends what is left of a group.
    pub fn unsubscribe(&mut self, group: u64, out: &mut BytesMut) {
        self.entries.retain(|entry| {
            if entry.group == group && !entry.refused {
                Encoder(out).unsubscribe(entry.sid, None);
            }
            entry.group != group
        });
    }

    /// Ends all groups, as the last thing before the connection is closed.
    pub fn unsubscribe_all(&mut self, out: &mut BytesMut) {
        for entry in self.entries.drain(..).filter(|entry| !entry.refused) {
            Encoder(out).unsubscribe(entry.sid, None);
        }
    }

    /// Asks a new server for everything again.
    pub fn resume(&mut self, out: &mut BytesMut) {
        for entry in self.entries.iter().filter(|entry| !entry.refused) {
            entry.ask(out);
        }
    }

    /// The connection is lost, and with it every answer that was on its way.
    pub fn connection_lost(&mut self) {
        self.pongs = self.pings;
        self.sent.clear();
    }

    pub fn ping(&mut self, now: Instant, out: &mut BytesMut) -> Mark {
        Encoder(out).ping();
        self.pings += 1;
        self.sent.push_back(now);
        Mark(self.pings)
    }

    /// Since when a ping is unanswered.
    pub fn unanswered(&self) -> Option<Instant> {
        self.sent.front().copied()
    }

    /// Counts a message and says to whom it goes: `None` for a subscription that is no more.
    #[inline]
    pub fn route(&mut self, sid: u64) -> Option<Route> {
        let at = match self.entries.as_slice() {
            [only] if only.sid == sid => 0,
            entries => entries.binary_search_by_key(&sid, |entry| entry.sid).ok()?,
        };
        let entry = &mut self.entries[at];
        entry.received += 1;
        let group = entry.group;
        if entry.pattern.max.is_none_or(|max| entry.received < max) {
            return Some(Route { group, last: false });
        }
        self.entries.remove(at);
        Some(Route { group, last: !self.is_open(group) })
    }

    /// Whether a group has patterns that the server has not refused and that have not had their maximum.
    pub fn is_open(&self, group: u64) -> bool {
        self.entries.iter().any(|entry| entry.group == group && !entry.refused)
    }

    /// Deals with an operation that is no message.
    ///
    /// # Errors
    /// The server broke the protocol.
    pub fn handle(
        &mut self,
        op: &Op,
        input: &[u8],
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<Option<Notice>, WireError> {
        match op {
            Op::Message(_) | Op::Ok => Ok(None),
            Op::Ping => {
                Encoder(out).pong();
                Ok(None)
            }
            Op::Pong => Ok(self.pong(now)),
            Op::Info(at) => Ok(Some(Notice::Info(Box::new(ServerInfo::read(&input[at.clone()])?)))),
            Op::Err(at) => Ok(Some(self.refused(&input[at.clone()]))),
        }
    }

    /// A PONG that nobody asked for is passed over, as every client does.
    fn pong(&mut self, now: Instant) -> Option<Notice> {
        let sent = self.sent.pop_front()?;
        self.pongs += 1;
        Some(Notice::Pong { mark: Mark(self.pongs), rtt: now.saturating_duration_since(sent) })
    }

    fn refused(&mut self, text: &[u8]) -> Notice {
        match Refusal::read(text) {
            Refusal::Publish { subject, text } => Notice::PublishDenied { subject, text },
            Refusal::Subscribe { subject, queue, text } => {
                let found = self.entries.iter_mut().find(|entry| {
                    !entry.refused
                        && entry.pattern.subject == subject
                        && queue.as_ref().is_none_or(|queue| entry.pattern.queue.as_ref() == Some(queue))
                });
                match found {
                    Some(entry) => {
                        entry.refused = true;
                        Notice::SubscribeDenied { group: entry.group, subject, text }
                    }
                    None => Notice::Refused(Refusal::Other(text)),
                }
            }
            other => Notice::Refused(other),
        }
    }
}

impl Entry {
    fn ask(&self, out: &mut BytesMut) {
        let Pattern { subject, queue, max } = &self.pattern;
        Encoder(out).subscribe(subject, queue.as_deref(), self.sid);
        if let Some(max) = max {
            Encoder(out).unsubscribe(self.sid, Some(max - self.received));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Limits, Scan, scan};
    use proptest::prelude::*;

    fn pattern(subject: &str, max: Option<u64>) -> Pattern {
        Pattern { subject: subject.into(), queue: None, max }
    }

    fn feed(session: &mut Session, text: &str) -> Vec<Notice> {
        let (mut out, mut rest, mut notices) = (BytesMut::new(), text.as_bytes(), Vec::new());
        while let Ok(Scan::Op(op, next)) = scan(rest, &Limits::default()) {
            notices.extend(session.handle(&op, rest, Instant::now(), &mut out).unwrap());
            rest = &rest[next..];
        }
        assert!(rest.is_empty(), "{text}");
        notices
    }

    #[test]
    fn a_maximum_ends_a_group_and_a_reconnect_asks_for_the_rest() {
        let (mut session, mut out) = (Session::default(), BytesMut::new());
        session.subscribe(7, vec![pattern("a", Some(3)), pattern("b", None)], &mut out);
        assert_eq!(&out[..], b"SUB a 1\r\nUNSUB 1 3\r\nSUB b 2\r\n");
        assert_eq!(session.route(1), Some(Route { group: 7, last: false }));
        out.clear();
        session.connection_lost();
        session.resume(&mut out);
        assert_eq!(&out[..], b"SUB a 1\r\nUNSUB 1 2\r\nSUB b 2\r\n");
        session.route(1);
        assert_eq!(session.route(1), Some(Route { group: 7, last: false }));
        assert_eq!(session.route(1), None);
        out.clear();
        session.unsubscribe(7, &mut out);
        assert_eq!(&out[..], b"UNSUB 2\r\n");
        assert_eq!(session.route(2), None);
    }

    #[test]
    fn a_refused_pattern_is_not_asked_for_again() {
        let (mut session, mut out) = (Session::default(), BytesMut::new());
        session.subscribe(1, vec![pattern("a", None), pattern("b", None)], &mut out);
        let notices = feed(&mut session, "-ERR 'Permissions Violation for Subscription to \"b\"'\r\n");
        assert!(
            matches!(&notices[..], [Notice::SubscribeDenied { group: 1, subject, .. }] if subject == "b"),
            "{notices:?}"
        );
        out.clear();
        session.resume(&mut out);
        assert_eq!(&out[..], b"SUB a 1\r\n");
    }

    #[test]
    fn pongs_answer_pings_in_order() {
        let (mut session, mut out) = (Session::default(), BytesMut::new());
        let first = session.ping(Instant::now(), &mut out);
        let second = session.ping(Instant::now(), &mut out);
        let notices = feed(&mut session, "PONG\r\nPONG\r\nPONG\r\n");
        let marks: Vec<_> = notices
            .iter()
            .map(|notice| if let Notice::Pong { mark, .. } = notice { *mark } else { panic!("{notice:?}") })
            .collect();
        assert_eq!(marks, [first, second]);
        session.ping(Instant::now(), &mut out);
        session.connection_lost();
        assert_eq!(session.unanswered(), None);
        let third = session.ping(Instant::now(), &mut out);
        assert!(matches!(&feed(&mut session, "PONG\r\n")[..], [Notice::Pong { mark, .. }] if *mark == third));
    }

    proptest! {
        /// However many connections it takes: as many messages as were asked for, and no more.
        #[test]
        fn a_maximum_is_kept_over_reconnects(max in 1_u64..30, lives in proptest::collection::vec(0_u64..10, 1..10)) {
            let (mut session, mut out) = (Session::default(), BytesMut::new());
            session.subscribe(1, vec![pattern("a", Some(max))], &mut out);
            let mut received = 0;
            for life in lives {
                for _ in 0..life {
                    received += u64::from(session.route(1).is_some());
                }
                session.connection_lost();
                out.clear();
                session.resume(&mut out);
                let expected = if received < max { format!("SUB a 1\r\nUNSUB 1 {}\r\n", max - received) } else { String::new() };
                prop_assert_eq!(&out[..], expected.as_bytes());
            }
            prop_assert!(received <= max);
        }
    }
}
