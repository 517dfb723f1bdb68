//! Who observes what (RFC 7641), and which of them are to be told.
//!
//! No notification is queued: an observer is only marked, and its notification is made when its transport can send it. So
//! the newest state wins (section 1.3), and however fast a resource changes, an observer costs the same.
//!
//! A registration says nothing about whether its sender is there: a forged one would make the server send to a victim. So
//! the first notification is confirmable, and until it was acknowledged no other is sent. Later ones are not, unless the
//! last came so shortly before that only acknowledgements can tell how fast they may be sent (section 4.5.1), or none was
//! confirmable for a while (section 4.5).

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::message::Token;

/// Non-confirmable notifications in a row.
const UNCONFIRMED: u8 = 4;
/// What is faster than this is paced by acknowledgements (RFC 7641 section 4.5.1).
const PACE: Duration = Duration::from_secs(3);
/// RFC 7641 section 4.5: no observer may go unasked for longer.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Observations of one client's address.
pub const PER_PEER: usize = 1024;

/// A socket that notifications leave by: a listener of datagrams, or one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link(u32);

/// Who observes: one client may do so several times, with several tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub link: Link,
    pub peer: SocketAddr,
    pub token: Token,
}

/// What of the resource is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    pub accept: Option<u16>,
    /// The size of blocks that the client has asked for (RFC 7959 section 2.2).
    pub exponent: Option<u8>,
}

#[derive(Debug)]
struct Observer {
    path: Arc<str>,
    wish: Wish,
    since: Instant,
    /// A confirmable notification was acknowledged: the client is there.
    verified: bool,
    /// A confirmable notification is under way.
    waiting: bool,
    /// It is to be told of a newer state.
    stale: bool,
    /// It stands in the queue of its link.
    queued: bool,
    unconfirmed: u8,
    last: Option<Instant>,
    last_confirmable: Instant,
}

/// A notification that is to be sent now. What it says is up to the resource as it is now.
#[derive(Debug, PartialEq, Eq)]
pub struct Due {
    pub key: Key,
    pub path: Arc<str>,
    pub wish: Wish,
    pub confirmable: bool,
    pub sequence: u32,
}

/// What became of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    Acknowledged,
    /// The client does not want it (RST).
    Rejected,
    /// No acknowledgement came.
    GaveUp,
}

/// An observer that is none any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone {
    pub key: Key,
    pub path: Arc<str>,
    pub after: Duration,
}

/// Whether a registration was taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Registered {
    New,
    /// It was there and goes on.
    Again,
    /// There are as many as there may be.
    Full,
}

#[derive(Debug, Default)]
struct Way {
    queue: VecDeque<Key>,
    wake: Arc<Notify>,
}

#[derive(Debug)]
pub struct Observers {
    most: usize,
    there: HashMap<Key, Observer>,
    of_path: HashMap<Arc<str>, HashSet<Key>>,
    of_peer: HashMap<SocketAddr, usize>,
    ways: HashMap<Link, Way>,
    last_link: u32,
    sequence: u32,
}

impl Observers {
    pub fn new(most: usize) -> Observers {
        Observers {
            most,
            there: HashMap::new(),
            of_path: HashMap::new(),
            of_peer: HashMap::new(),
            ways: HashMap::new(),
            last_link: 0,
            sequence: 0,
        }
    }

    /// A new way out, and what wakes whoever sends on it.
    pub fn attach(&mut self) -> (Link, Arc<Notify>) {
        self.last_link += 1;
        let link = Link(self.last_link);
        let way = self.ways.entry(link).or_default();
        (link, Arc::clone(&way.wake))
    }

    /// The way is closed: those who observe by it are gone.
    pub fn detach(&mut self, link: Link, now: Instant) -> Vec<Gone> {
        self.ways.remove(&link);
        let keys: Vec<Key> = self.there.keys().filter(|key| key.link == link).copied().collect();
        keys.iter().filter_map(|key| self.remove(key, now)).collect()
    }

    /// A peer is gone that may not be told anything any more.
    pub fn gone(&mut self, link: Link, peer: SocketAddr, now: Instant) -> Vec<Gone> {
        let of_peer = |key: &&Key| key.link == link && key.peer == peer;
        let keys: Vec<Key> = self.there.keys().filter(of_peer).copied().collect();
        keys.iter().filter_map(|key| self.remove(key, now)).collect()
    }

    pub fn len(&self) -> usize {
        self.there.len()
    }

    /// Takes a registration. When there is no room, the oldest that nobody has ever acknowledged makes some: it may be
    /// forged.
    pub fn register(&mut self, key: Key, path: &str, wish: Wish, now: Instant) -> (Registered, Option<Gone>) {
        if let Some(observer) = self.there.get_mut(&key) {
            if *observer.path == *path {
                observer.wish = wish;
                return (Registered::Again, None);
            }
            // A token stands for one thing only: what it stood for is over.
            self.remove(&key, now);
        }
        if self.of_peer.get(&key.peer).is_some_and(|count| *count >= PER_PEER) {
            return (Registered::Full, None);
        }
        let mut evicted = None;
        if self.there.len() >= self.most {
            let unverified = self.there.iter().filter(|(_, observer)| !observer.verified);
            let Some(oldest) = unverified.min_by_key(|(_, observer)| observer.since).map(|(key, _)| *key)
            else {
                return (Registered::Full, None);
            };
            evicted = self.remove(&oldest, now);
        }
        let path: Arc<str> = match self.of_path.get_key_value(path) {
            Some((known, _)) => Arc::clone(known),
            None => path.into(),
        };
        self.of_path.entry(Arc::clone(&path)).or_default().insert(key);
        *self.of_peer.entry(key.peer).or_default() += 1;
        let observer = Observer {
            path,
            wish,
            since: now,
            verified: false,
            waiting: false,
            stale: false,
            queued: false,
            unconfirmed: 0,
            last: None,
            last_confirmable: now,
        };
        self.there.insert(key, observer);
        (Registered::New, evicted)
    }

    /// The number for the next response or notification that observers get: 24 bits, growing (section 3.4).
    pub fn sequence(&mut self) -> u32 {
        self.sequence = (self.sequence + 1) & 0xff_ffff;
        self.sequence
    }

    pub fn remove(&mut self, key: &Key, now: Instant) -> Option<Gone> {
        let observer = self.there.remove(key)?;
        if let Some(keys) = self.of_path.get_mut(&observer.path) {
            keys.remove(key);
            if keys.is_empty() {
                self.of_path.remove(&observer.path);
            }
        }
        if let Some(count) = self.of_peer.get_mut(&key.peer) {
            *count -= 1;
            if *count == 0 {
                self.of_peer.remove(&key.peer);
            }
        }
        Some(Gone { key: *key, path: observer.path, after: now.saturating_duration_since(observer.since) })
    }

    /// The resource is another one by now, or gone. Returns how many are to be told.
    pub fn changed(&mut self, path: &str) -> usize {
        let Some(keys) = self.of_path.get(path) else { return 0 };
        let mut ways = HashSet::new();
        for key in keys {
            let Some(observer) = self.there.get_mut(key) else { continue };
            observer.stale = true;
            if enqueue(&mut self.ways, key, observer) {
                ways.insert(key.link);
            }
        }
        for way in ways.iter().filter_map(|link| self.ways.get(link)) {
            way.wake.notify_one();
        }
        keys.len()
    }

    /// Whether somebody is to be told by this way.
    pub fn has_due(&self, link: Link) -> bool {
        self.ways.get(&link).is_some_and(|way| !way.queue.is_empty())
    }

    /// The next to be told by this way.
    pub fn next(&mut self, link: Link, now: Instant) -> Option<Due> {
        loop {
            let key = self.ways.get_mut(&link)?.queue.pop_front()?;
            let Some(observer) = self.there.get_mut(&key) else { continue };
            observer.queued = false;
            if !observer.stale || observer.waiting {
                continue;
            }
            let paced = |last: Instant| now.saturating_duration_since(last) >= PACE;
            let recent = now.saturating_duration_since(observer.last_confirmable) < DAY;
            let confirmable = !(observer.verified
                && observer.unconfirmed < UNCONFIRMED
                && recent
                && observer.last.is_none_or(paced));
            observer.stale = false;
            observer.last = Some(now);
            observer.waiting = confirmable;
            if confirmable {
                (observer.unconfirmed, observer.last_confirmable) = (0, now);
            } else {
                observer.unconfirmed += 1;
            }
            let due = (Arc::clone(&observer.path), observer.wish);
            let sequence = self.sequence();
            return Some(Due { key, path: due.0, wish: due.1, confirmable, sequence });
        }
    }

    /// It could not be sent now: it is tried again when something is.
    pub fn postpone(&mut self, key: &Key) {
        if let Some(observer) = self.there.get_mut(key) {
            (observer.stale, observer.waiting) = (true, false);
            enqueue(&mut self.ways, key, observer);
        }
    }

    /// What became of a confirmable notification, or that one that was not was rejected.
    pub fn settled(&mut self, key: &Key, outcome: Settled, now: Instant) -> Option<Gone> {
        if outcome != Settled::Acknowledged {
            return self.remove(key, now);
        }
        let observer = self.there.get_mut(key)?;
        (observer.verified, observer.waiting) = (true, false);
        if observer.stale {
            enqueue(&mut self.ways, key, observer);
        }
        None
    }

    /// Marks those that were not asked for a day; to be called now and then.
    pub fn check(&mut self, now: Instant) {
        for (key, observer) in &mut self.there {
            if now.saturating_duration_since(observer.last_confirmable) >= DAY {
                observer.stale = true;
                if enqueue(&mut self.ways, key, observer)
                    && let Some(way) = self.ways.get(&key.link)
                {
                    way.wake.notify_one();
                }
            }
        }
    }
}

/// Returns whether the way is to be woken.
fn enqueue(ways: &mut HashMap<Link, Way>, key: &Key, observer: &mut Observer) -> bool {
    if observer.queued || observer.waiting {
        return false;
    }
    let Some(way) = ways.get_mut(&key.link) else { return false };
    way.queue.push_back(*key);
    observer.queued = true;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        all: Observers,
        link: Link,
        now: Instant,
    }

    impl World {
        fn new(most: usize) -> World {
            let mut all = Observers::new(most);
            let (link, _) = all.attach();
            World { all, link, now: Instant::now() }
        }

        fn key(&self, number: u16) -> Key {
            let token = Token::new(&number.to_be_bytes()).expect("two bytes");
            Key { link: self.link, peer: SocketAddr::from(([127, 0, 0, 1], 1000 + number)), token }
        }

        fn register(&mut self, number: u16, path: &str) -> Registered {
            self.now += Duration::from_millis(1);
            self.all.register(self.key(number), path, Wish::default(), self.now).0
        }

        fn next(&mut self) -> Option<(Key, bool)> {
            self.all.next(self.link, self.now).map(|due| (due.key, due.confirmable))
        }

        fn settle(&mut self, number: u16, outcome: Settled) -> Option<Gone> {
            let key = self.key(number);
            self.all.settled(&key, outcome, self.now)
        }
    }

    #[test]
    fn one_is_under_way_and_the_newest_state_wins() {
        let mut world = World::new(9);
        assert_eq!(world.register(1, "/a"), Registered::New);
        assert_eq!(world.register(1, "/a"), Registered::Again);
        for _ in 0..3 {
            assert_eq!(world.all.changed("/a"), 1);
        }
        assert_eq!(world.next(), Some((world.key(1), true)));
        assert_eq!(world.next(), None);
        world.all.changed("/a");
        assert_eq!(world.next(), None, "the first was not acknowledged yet");
        assert_eq!(world.settle(1, Settled::Acknowledged), None);
        assert_eq!(
            world.next(),
            Some((world.key(1), true)),
            "so shortly after, it is paced by acknowledgements"
        );
        assert_eq!(world.settle(1, Settled::Acknowledged), None);
        assert_eq!(world.next(), None);
        assert_eq!(world.all.changed("/b"), 0);
    }

    #[test]
    fn every_fifth_is_confirmable_and_so_is_the_first_after_a_day() {
        let mut world = World::new(9);
        world.register(1, "/a");
        let mut kinds = Vec::new();
        for _ in 0..7 {
            world.now += PACE;
            world.all.changed("/a");
            let (_, confirmable) = world.next().expect("one is due");
            kinds.push(confirmable);
            if confirmable {
                world.settle(1, Settled::Acknowledged);
            }
        }
        assert_eq!(kinds, [true, false, false, false, false, true, false]);
        world.now += DAY;
        world.all.check(world.now);
        assert_eq!(world.next(), Some((world.key(1), true)));
    }

    #[test]
    fn whoever_rejects_or_is_not_there_is_removed() {
        let mut world = World::new(9);
        for number in 1..=3 {
            world.register(number, "/a");
        }
        world.all.changed("/a");
        assert!(world.settle(1, Settled::Rejected).is_some());
        assert!(world.settle(2, Settled::GaveUp).is_some());
        assert_eq!(world.settle(2, Settled::GaveUp), None);
        assert_eq!(world.next(), Some((world.key(3), true)), "of the others nothing is sent");
        assert_eq!(world.next(), None);
        let link = world.link;
        assert_eq!(world.all.detach(link, world.now).len(), 1);
        assert_eq!((world.all.len(), world.all.of_path.len(), world.all.of_peer.len()), (0, 0, 0));
    }

    #[test]
    fn a_token_observes_one_resource() {
        let mut world = World::new(9);
        world.register(1, "/a");
        assert_eq!(world.register(1, "/b"), Registered::New);
        assert_eq!((world.all.changed("/a"), world.all.changed("/b")), (0, 1));
    }

    #[test]
    fn who_never_acknowledged_makes_room() {
        let mut world = World::new(2);
        world.register(1, "/a");
        world.register(2, "/a");
        world.all.changed("/a");
        while world.next().is_some() {}
        world.settle(1, Settled::Acknowledged);
        assert_eq!(world.register(3, "/a"), Registered::New);
        assert!(world.all.there.contains_key(&world.key(1)) && !world.all.there.contains_key(&world.key(2)));
        world.all.changed("/a");
        while world.next().is_some() {}
        world.settle(3, Settled::Acknowledged);
        assert_eq!(world.register(4, "/a"), Registered::Full);
    }

    #[test]
    fn what_could_not_be_sent_is_tried_again() {
        let mut world = World::new(9);
        world.register(1, "/a");
        world.all.changed("/a");
        let (key, _) = world.next().expect("one is due");
        world.all.postpone(&key);
        assert!(world.all.has_due(world.link));
        assert_eq!(world.next(), Some((key, true)));
    }
}
