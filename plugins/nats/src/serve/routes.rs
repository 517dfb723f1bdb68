//! Who gets what: a trie of the subscriptions' subjects, one level for each token.
//!
//! A lookup walks the trie under a read lock; what it finds is kept by each publisher (`router`), and stays good until the
//! trie's generation moves on, which every change of it does. So a stream of messages to known subjects locks nothing here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::client::Client;
use crate::wire::subject;

/// The most tokens in the subject of a subscription: the trie is as deep as that.
const MAX_TOKENS: usize = 128;
/// The most tokens in all subscriptions of a server, which bounds the trie's memory to some hundred MiB.
const MAX_ALL_TOKENS: usize = 2_000_000;

/// A subscription of a client.
#[derive(Debug)]
pub struct Subscription {
    pub client: Arc<Client>,
    pub subject: Box<[u8]>,
    pub queue: Option<Box<[u8]>>,
    pub sid: Box<[u8]>,
    /// The three below are changed under the lock of the client's outbox only.
    delivered: AtomicU64,
    /// 0: no maximum.
    max: AtomicU64,
    ended: AtomicBool,
}

impl Subscription {
    pub fn new(client: Arc<Client>, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) -> Subscription {
        Subscription {
            client,
            subject: subject.into(),
            queue: queue.map(Box::from),
            sid: sid.into(),
            delivered: AtomicU64::new(0),
            max: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        }
    }

    /// How many of `count` messages it takes, and whether these are its last. Under the lock of the client's outbox.
    pub fn take(&self, count: usize) -> (usize, bool) {
        if self.ended.load(Ordering::Relaxed) {
            return (0, false);
        }
        let delivered = self.delivered.load(Ordering::Relaxed);
        let max = self.max.load(Ordering::Relaxed);
        if max == 0 || delivered + (count as u64) < max {
            self.delivered.store(delivered + count as u64, Ordering::Relaxed);
            return (count, false);
        }
        self.delivered.store(max, Ordering::Relaxed);
        self.ended.store(true, Ordering::Relaxed);
        ((max - delivered) as usize, true)
    }

    /// Sets the number of messages after which it ends; `false` if it has ended with that. Under the lock of the client's
    /// outbox.
    pub fn limit(&self, max: u64) -> bool {
        if max > self.delivered.load(Ordering::Relaxed) {
            self.max.store(max, Ordering::Relaxed);
            return true;
        }
        self.ended.store(true, Ordering::Relaxed);
        false
    }
}

/// What a lookup finds.
#[derive(Debug, Default)]
pub struct Matched {
    pub plain: Vec<Arc<Subscription>>,
    pub groups: Vec<Vec<Arc<Subscription>>>,
    /// No group, and no client twice: then one subscriber after the other may be given all messages of a burst without
    /// changing their order for anybody.
    pub simple: bool,
}

impl Matched {
    fn finish(mut self) -> Matched {
        let mut ids: Vec<u64> = self.plain.iter().map(|subscription| subscription.client.id).collect();
        ids.sort_unstable();
        self.simple = self.groups.is_empty() && ids.windows(2).all(|pair| pair[0] != pair[1]);
        self
    }
}

/// Why a subscription was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    InvalidSubject,
    TooMany,
}

/// All subscriptions of a server.
#[derive(Debug, Default)]
pub struct Routes {
    trie: RwLock<Trie>,
    generation: AtomicU64,
}

impl Routes {
    /// Moves on with every change.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// # Errors
    /// The subject is no subject, or there are too many.
    pub fn insert(&self, subscription: &Arc<Subscription>) -> Result<(), Refused> {
        let tokens = count_tokens(&subscription.subject);
        if !subject::is_valid(&subscription.subject, true) || tokens > MAX_TOKENS {
            return Err(Refused::InvalidSubject);
        }
        let mut trie = self.trie.write().unwrap_or_else(PoisonError::into_inner);
        if trie.tokens + tokens > MAX_ALL_TOKENS {
            return Err(Refused::TooMany);
        }
        trie.tokens += tokens;
        let mut node = &mut trie.root;
        for token in subscription.subject.split(|byte| *byte == b'.') {
            node = node.child(token);
        }
        match &subscription.queue {
            None => node.plain.push(Arc::clone(subscription)),
            Some(queue) => match node.groups.iter_mut().find(|group| group.name == *queue) {
                Some(group) => group.members.push(Arc::clone(subscription)),
                None => {
                    node.groups.push(Group { name: queue.clone(), members: vec![Arc::clone(subscription)] })
                }
            },
        }
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Takes out subscriptions that [`Routes::insert`] put in; others are passed over.
    pub fn remove<'a>(&self, subscriptions: impl IntoIterator<Item = &'a Arc<Subscription>>) {
        let mut trie = self.trie.write().unwrap_or_else(PoisonError::into_inner);
        for subscription in subscriptions {
            let mut tokens = subscription.subject.split(|byte| *byte == b'.');
            if trie.root.remove(&mut tokens, subscription) {
                trie.tokens -= count_tokens(&subscription.subject);
            }
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Who gets a message to this subject. A subject with an empty token reaches nobody.
    pub fn matching(&self, subject: &[u8]) -> Matched {
        let mut found = Matched::default();
        if count_tokens(subject) <= MAX_TOKENS
            && subject.split(|byte| *byte == b'.').all(|token| !token.is_empty())
        {
            let trie = self.trie.read().unwrap_or_else(PoisonError::into_inner);
            trie.root.collect(subject, &mut found);
        }
        found.finish()
    }
}

fn count_tokens(subject: &[u8]) -> usize {
    subject.iter().filter(|byte| **byte == b'.').count() + 1
}

#[derive(Debug, Default)]
struct Trie {
    root: Node,
    tokens: usize,
}

#[derive(Debug)]
struct Group {
    name: Box<[u8]>,
    members: Vec<Arc<Subscription>>,
}

#[derive(Debug, Default)]
struct Node {
    plain: Vec<Arc<Subscription>>,
    groups: Vec<Group>,
    names: HashMap<Box<[u8]>, Node>,
    /// Below `*`.
    star: Option<Box<Node>>,
    /// Below `>`, which is the last token.
    tail: Option<Box<Node>>,
}

impl Node {
    fn child(&mut self, token: &[u8]) -> &mut Node {
        match token {
            b"*" => self.star.get_or_insert_default(),
            b">" => self.tail.get_or_insert_default(),
            // The key is copied only when it is new.
            _ if self.names.contains_key(token) => self.names.get_mut(token).expect("it is there"),
            _ => self.names.entry(token.into()).or_default(),
        }
    }

    fn is_empty(&self) -> bool {
        self.plain.is_empty()
            && self.groups.is_empty()
            && self.names.is_empty()
            && self.star.is_none()
            && self.tail.is_none()
    }

    fn remove<'a>(&mut self, tokens: &mut impl Iterator<Item = &'a [u8]>, gone: &Arc<Subscription>) -> bool {
        let Some(token) = tokens.next() else { return self.remove_here(gone) };
        match token {
            b"*" | b">" => {
                let place = if token == b"*" { &mut self.star } else { &mut self.tail };
                let Some(node) = place else { return false };
                let removed = node.remove(tokens, gone);
                if node.is_empty() {
                    *place = None;
                }
                removed
            }
            name => {
                let Some(node) = self.names.get_mut(name) else { return false };
                let removed = node.remove(tokens, gone);
                if node.is_empty() {
                    self.names.remove(name);
                }
                removed
            }
        }
    }

    fn remove_here(&mut self, gone: &Arc<Subscription>) -> bool {
        let take = |list: &mut Vec<Arc<Subscription>>| {
            let at = list.iter().position(|other| Arc::ptr_eq(other, gone));
            at.map(|at| list.remove(at)).is_some()
        };
        match &gone.queue {
            None => take(&mut self.plain),
            Some(queue) => {
                let Some(at) = self.groups.iter().position(|group| group.name == *queue) else {
                    return false;
                };
                let removed = take(&mut self.groups[at].members);
                if self.groups[at].members.is_empty() {
                    self.groups.remove(at);
                }
                removed
            }
        }
    }

    /// Each node is visited once at most, since only one way leads to it.
    fn collect(&self, rest: &[u8], found: &mut Matched) {
        if let Some(tail) = &self.tail {
            tail.add_to(found);
        }
        let (token, rest) = match rest.iter().position(|byte| *byte == b'.') {
            Some(dot) => (&rest[..dot], Some(&rest[dot + 1..])),
            None => (rest, None),
        };
        for node in [self.names.get(token), self.star.as_deref()].into_iter().flatten() {
            match rest {
                Some(rest) => node.collect(rest, found),
                None => node.add_to(found),
            }
        }
    }

    fn add_to(&self, found: &mut Matched) {
        found.plain.extend(self.plain.iter().cloned());
        for Group { name, members } in &self.groups {
            // The same group under several patterns is one group, of which one member gets the message.
            let same = found.groups.iter_mut().find(|group| group[0].queue.as_ref() == Some(name));
            match same {
                Some(group) => group.extend(members.iter().cloned()),
                None => found.groups.push(members.clone()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subscription(pattern: &str, queue: Option<&str>) -> Arc<Subscription> {
        let client = Client::for_tests();
        Arc::new(Subscription::new(client, pattern.as_bytes(), queue.map(str::as_bytes), b"1"))
    }

    fn reaches_nobody(routes: &Routes, subject: &[u8]) -> bool {
        let found = routes.matching(subject);
        found.plain.is_empty() && found.groups.is_empty()
    }

    #[test]
    fn groups_of_several_patterns_are_one() {
        let routes = Routes::default();
        let members =
            [subscription("a.*", Some("q")), subscription("a.>", Some("q")), subscription("a.b", Some("r"))];
        for member in &members {
            routes.insert(member).expect("valid");
        }
        let found = routes.matching(b"a.b");
        let mut sizes: Vec<usize> = found.groups.iter().map(Vec::len).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 2]);
        assert!(found.plain.is_empty() && !found.simple);
        routes.remove(&members);
        assert!(reaches_nobody(&routes, b"a.b"));
        assert!(routes.trie.read().unwrap().root.is_empty(), "nothing is left behind");
        assert_eq!(routes.trie.read().unwrap().tokens, 0);
    }

    #[test]
    fn what_is_no_subject_is_refused() {
        let routes = Routes::default();
        for bad in ["", "a..b", ".a", "a.", "a.>.b"] {
            assert_eq!(routes.insert(&subscription(bad, None)), Err(Refused::InvalidSubject), "{bad:?}");
        }
        let deep = vec!["a"; MAX_TOKENS + 1].join(".");
        assert_eq!(routes.insert(&subscription(&deep, None)), Err(Refused::InvalidSubject));
        assert!(reaches_nobody(&routes, deep.as_bytes()));
    }

    #[test]
    fn a_maximum_counts_from_the_beginning() {
        let counted = subscription("a", None);
        assert_eq!(counted.take(3), (3, false));
        assert!(counted.limit(5));
        assert_eq!(counted.take(4), (2, true));
        assert_eq!(counted.take(1), (0, false));
        let late = subscription("a", None);
        late.take(3);
        assert!(!late.limit(3));
        assert_eq!(late.take(1), (0, false));
    }

    fn pattern() -> impl Strategy<Value = String> {
        (proptest::collection::vec(prop_oneof!["[ab]{1,2}", Just("*".to_owned())], 1..5), any::<bool>())
            .prop_map(|(mut tokens, tail)| {
                if tail {
                    tokens.push(">".to_owned());
                }
                tokens.join(".")
            })
    }

    proptest! {
        #[test]
        fn the_trie_agrees_with_matching_one_by_one(
            patterns in proptest::collection::vec(pattern(), 0..20),
            removed in proptest::collection::vec(any::<bool>(), 20),
            subject in proptest::collection::vec("[ab]{1,2}", 1..6),
        ) {
            let routes = Routes::default();
            let all: Vec<_> = patterns.iter().map(|pattern| subscription(pattern, None)).collect();
            for each in &all {
                routes.insert(each).expect("valid");
            }
            let (gone, kept): (Vec<_>, Vec<_>) = all.iter().zip(&removed).partition(|(_, removed)| **removed);
            routes.remove(gone.iter().map(|(each, _)| *each));
            let subject = subject.join(".");
            let mut found: Vec<_> = routes.matching(subject.as_bytes()).plain.iter().map(|each| each.subject.clone()).collect();
            let mut expected: Vec<_> = kept
                .iter()
                .map(|(each, _)| each.subject.clone())
                .filter(|pattern| subject::matches(pattern, subject.as_bytes()))
                .collect();
            found.sort();
            expected.sort();
            prop_assert_eq!(found, expected);
        }
    }
}
