//! From a publisher's read buffer into the outboxes of the subscribers.
//!
//! Consecutive messages to one subject are handed over together: one lookup, and one lock and one reservation for each
//! subscriber. The router belongs to one publisher and remembers what its subjects led to.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::client::Client;
use super::outbox::{Appended, Pace};
use super::parse::Publish;
use super::routes::{Matched, Routes, Subscription};

/// Subjects that a publisher's router remembers.
const MAX_KNOWN: usize = 1024;
/// How long a publisher waits for subscribers that have a burst to catch up with.
const PATIENCE: Duration = Duration::from_millis(5);
/// How long it waits, for each read, for subscribers that have used up half of what they may.
const LONG_PATIENCE: Duration = Duration::from_millis(100);

/// Who publishes.
#[derive(Debug, Clone, Copy)]
pub struct Publisher {
    /// 0: the host.
    pub id: u64,
    /// Whether it gets its own messages.
    pub echo: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Router {
    routes: Arc<Routes>,
    known: HashMap<Box<[u8]>, Arc<Matched>>,
    generation: u64,
    /// Messages to the subject of the first of them.
    run: Vec<Publish>,
    head: Vec<u8>,
    touched: Vec<Arc<Client>>,
    slow: Vec<Arc<Client>>,
    pace: Pace,
    spent: Vec<Arc<Subscription>>,
    random: u64,
}

impl Router {
    /// `seed` varies which member of a group is the first to get a message.
    pub fn new(routes: Arc<Routes>, seed: u64) -> Router {
        Router {
            routes,
            known: HashMap::new(),
            generation: 0,
            run: Vec::new(),
            head: Vec::new(),
            touched: Vec::new(),
            slow: Vec::new(),
            pace: Pace::Even,
            spent: Vec::new(),
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        }
    }

    /// Takes a message. Those that reach nobody are told to `unheard`, maybe later: [`Router::flush`] has the rest.
    pub fn publish(
        &mut self,
        from: Publisher,
        buffer: &[u8],
        message: Publish,
        unheard: &mut impl FnMut(&Publish),
    ) {
        if let Some(first) = self.run.first()
            && first.subject.of(buffer) != message.subject.of(buffer)
        {
            self.flush(from, buffer, unheard);
        }
        self.run.push(message);
    }

    /// Hands over what is there. Before the buffer changes, and before anything that must come after its messages.
    pub fn flush(&mut self, from: Publisher, buffer: &[u8], unheard: &mut impl FnMut(&Publish)) {
        let Some(first) = self.run.first() else { return };
        let matched = self.lookup(first.subject.of(buffer));
        let run = std::mem::take(&mut self.run);
        if matched.simple {
            let mut reached = 0;
            for subscription in &matched.plain {
                reached = reached.max(self.give(from, subscription, buffer, &run));
            }
            run[reached..].iter().for_each(unheard);
        } else {
            for message in &run {
                if !self.give_one(from, &matched, buffer, message) {
                    unheard(message);
                }
            }
        }
        self.run = run;
        self.run.clear();
        if !self.spent.is_empty() {
            self.routes.remove(&self.spent);
            for subscription in self.spent.drain(..) {
                let mut known = subscription.client.subscriptions();
                // Its identifier may stand for another subscription by now.
                if known.get(&subscription.sid).is_some_and(|known| Arc::ptr_eq(known, &subscription)) {
                    known.remove(&subscription.sid);
                }
            }
        }
    }

    /// Wakes the writers of those who got something.
    pub fn wake(&mut self) {
        for client in self.touched.drain(..) {
            client.outbox.wake();
        }
    }

    /// Waits for subscribers that can't keep up, for a while.
    pub async fn settle(&mut self) {
        if self.slow.is_empty() {
            return;
        }
        let patience = if self.pace == Pace::Behind { LONG_PATIENCE } else { PATIENCE };
        let slow = std::mem::take(&mut self.slow);
        let all = async {
            for client in &slow {
                client.outbox.drained().await;
            }
        };
        // Those who are still slow then have their bound.
        let _ = timeout(patience, all).await;
        self.slow = slow;
        self.slow.clear();
        self.pace = Pace::Even;
    }

    fn lookup(&mut self, subject: &[u8]) -> Arc<Matched> {
        let generation = self.routes.generation();
        if generation != self.generation || self.known.len() > MAX_KNOWN {
            self.known.clear();
            self.generation = generation;
        }
        if let Some(matched) = self.known.get(subject) {
            return Arc::clone(matched);
        }
        let matched = Arc::new(self.routes.matching(subject));
        self.known.insert(subject.into(), Arc::clone(&matched));
        matched
    }

    /// One message to each subscription, and to one member of each group. `false`: nobody got it.
    fn give_one(&mut self, from: Publisher, matched: &Matched, buffer: &[u8], message: &Publish) -> bool {
        let one = std::slice::from_ref(message);
        let mut reached = false;
        for subscription in &matched.plain {
            reached |= self.give(from, subscription, buffer, one) > 0;
        }
        for members in &matched.groups {
            let first = self.below(members.len());
            let (before, after) = members.split_at(first);
            reached |= after.iter().chain(before).any(|member| self.give(from, member, buffer, one) > 0);
        }
        reached
    }

    /// Appends messages to a subscriber's outbox; how many of them it took.
    fn give(&mut self, from: Publisher, to: &Arc<Subscription>, buffer: &[u8], run: &[Publish]) -> usize {
        let client = &to.client;
        if client.id == from.id && !from.echo {
            return 0;
        }
        let headers = client.headers.load(Ordering::Relaxed);
        let mut state = client.outbox.lock();
        if !state.is_open() {
            return 0;
        }
        let (count, last) = to.take(run.len());
        if last {
            self.spent.push(Arc::clone(to));
        }
        let Some(first) = run[..count].first() else { return 0 };
        // "HMSG subject sid ", of which MSG leaves out the first letter.
        self.head.clear();
        for part in [b"HMSG ", first.subject.of(buffer), b" ", &to.sid, b" "] {
            self.head.extend_from_slice(part);
        }
        let out = state.pending();
        let before = out.len();
        for message in &run[..count] {
            write(out, &self.head, buffer, message, headers);
        }
        let added = out.len() - before;
        let appended = client.outbox.appended(&mut state, added);
        drop(state);
        match appended {
            Appended::Fits { wake, pace } => {
                if wake {
                    self.touched.push(Arc::clone(client));
                }
                if pace > Pace::Even {
                    self.pace = self.pace.max(pace);
                    if !self.slow.last().is_some_and(|last| Arc::ptr_eq(last, client)) {
                        self.slow.push(Arc::clone(client));
                    }
                }
            }
            Appended::Overflow(held) => {
                client.cut(format!("slow consumer: {held} bytes were waiting to be read by it"));
            }
        }
        count
    }

    /// A number below `bound`, evenly enough (xorshift).
    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) as usize % bound.max(1)
    }
}

/// A MSG, or an HMSG.
#[inline]
fn write(out: &mut Vec<u8>, head: &[u8], buffer: &[u8], message: &Publish, headers: bool) {
    let end = message.end();
    match message.headers {
        None if message.canonical => {
            out.extend_from_slice(&head[1..]);
            out.extend_from_slice(&buffer[message.tail as usize..end]);
        }
        Some(_) if message.canonical && headers => {
            out.extend_from_slice(head);
            out.extend_from_slice(&buffer[message.tail as usize..end]);
        }
        length => {
            let body = if headers { message.body } else { message.payload() };
            let length = length.filter(|_| headers);
            out.extend_from_slice(if length.is_some() { head } else { &head[1..] });
            if let Some(reply) = message.reply {
                out.extend_from_slice(reply.of(buffer));
                out.push(b' ');
            }
            if let Some(length) = length {
                out.extend_from_slice(format!("{length} ").as_bytes());
            }
            out.extend_from_slice(format!("{}\r\n", body.length()).as_bytes());
            out.extend_from_slice(&buffer[body.start as usize..end]);
        }
    }
}
