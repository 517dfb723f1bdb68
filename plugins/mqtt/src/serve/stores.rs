//! The parts that the broker library leaves to its user: retained messages, the choice within a shared
//! subscription, and what is negotiated at CONNECT.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::num::{NonZeroU16, NonZeroU32};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rmqtt::codec::types::{MQTT_LEVEL_5, Publish as CodecPublish};
use rmqtt::context::ServerContext;
use rmqtt::fitter::{DefaultFitter, Fitter, FitterManager};
use rmqtt::retain::{RetainStorage, RetainTree};
use rmqtt::subscribe::SharedSubscription;
use rmqtt::types::{
    ClientId, ConnectInfo, Disconnect, FitterType, Id, IsOnline, ListenerConfig, NodeId, Retain, SharedGroup,
    SubscriptionIdentifier, SubscriptionOptions, TimedValue, Topic, TopicFilter, TopicName,
};
use tokio::sync::RwLock;

/// Retained messages in memory, bounded in number and in bytes.
///
/// Expiry follows the message's own interval alone (MQTT 5.0 section 3.3.2.3.3): the library's stand-in
/// would let every retained message expire, and hand out the full interval again on each subscribe.
pub(super) struct Retained {
    tree: RwLock<Tree>,
    max_messages: usize,
    max_bytes: usize,
    /// Copies of the tree's counts, to be read without waiting.
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

#[derive(Default)]
struct Tree {
    nodes: RetainTree<TimedValue<Retain>>,
    messages: usize,
    bytes: usize,
}

impl fmt::Debug for Retained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retained")
            .field("messages", &self.messages)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

fn weight(retain: &Retain) -> usize {
    retain.publish.topic.len() + retain.publish.payload.len()
}

impl Retained {
    pub(super) fn new(max_messages: usize, max_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            tree: RwLock::default(),
            max_messages,
            max_bytes,
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        })
    }

    /// Whether one more message of `bytes` may be kept. Messages that arrive at the same time may exceed the
    /// bound by one each.
    pub(super) async fn room(&self, bytes: usize) -> bool {
        let fits = || {
            self.messages.load(Ordering::Relaxed) < self.max_messages
                && self.bytes.load(Ordering::Relaxed) + bytes <= self.max_bytes
        };
        if fits() {
            return true;
        }
        let mut tree = self.tree.write().await;
        let (mut messages, mut freed) = (0, 0);
        tree.nodes.retain(usize::MAX, |kept| {
            let keep = !kept.is_expired();
            if !keep {
                messages += 1;
                freed += weight(kept.value());
            }
            keep
        });
        tree.messages -= messages;
        tree.bytes -= freed;
        self.copy_counts(&tree);
        fits()
    }

    async fn put(&self, topic: &TopicName, retain: Retain) -> rmqtt::Result<()> {
        let path = Topic::from_str(topic)?;
        let mut tree = self.tree.write().await;
        if let Some(old) = tree.nodes.remove(&path) {
            tree.messages -= 1;
            tree.bytes -= weight(old.value());
        }
        // Section 3.3.1.3: an empty payload removes the retained message.
        if !retain.publish.payload.is_empty() {
            tree.messages += 1;
            tree.bytes += weight(&retain);
            let interval = retain.publish.properties.as_ref().and_then(|known| known.message_expiry_interval);
            let interval = interval.map(|seconds| Duration::from_secs(seconds.get().into()));
            tree.nodes.insert(&path, TimedValue::new(retain, interval));
        }
        self.copy_counts(&tree);
        Ok(())
    }

    async fn find(&self, filter: &TopicFilter) -> rmqtt::Result<Vec<(TopicName, Retain)>> {
        let path = Topic::from_str(filter)?;
        let found = self.tree.read().await.nodes.matches(&path);
        let live = found.into_iter().filter(|(_, kept)| !kept.is_expired()).map(|(topic, kept)| {
            let remaining = kept.remaining();
            let mut retain = kept.into_value();
            if let (Some(remaining), Some(known)) = (remaining, retain.publish.properties.as_mut()) {
                let seconds = u32::try_from(remaining.as_secs()).unwrap_or(u32::MAX);
                known.message_expiry_interval = Some(NonZeroU32::new(seconds).unwrap_or(NonZeroU32::MIN));
            }
            (TopicName::from(topic.to_string()), retain)
        });
        Ok(live.collect())
    }

    fn copy_counts(&self, tree: &Tree) {
        self.messages.store(tree.messages, Ordering::Relaxed);
        self.bytes.store(tree.bytes, Ordering::Relaxed);
    }
}

/// [`Retained`] as the library wants it.
pub(super) struct RetainedStore(pub(super) Arc<Retained>);

#[async_trait]
impl RetainStorage for RetainedStore {
    fn enable(&self) -> bool {
        true
    }

    async fn set(&self, topic: &TopicName, retain: Retain, _default: Option<Duration>) -> rmqtt::Result<()> {
        self.0.put(topic, retain).await
    }

    async fn get(&self, filter: &TopicFilter) -> rmqtt::Result<Vec<(TopicName, Retain)>> {
        self.0.find(filter).await
    }

    async fn count(&self) -> isize {
        isize::try_from(self.0.messages.load(Ordering::Relaxed)).unwrap_or(isize::MAX)
    }

    async fn max(&self) -> isize {
        isize::try_from(self.0.max_messages).unwrap_or(isize::MAX)
    }
}

/// Hands the messages of a shared subscription to its members in turn, those that are connected first.
///
/// Each group has a counter of its own, or two groups that get the same messages would starve members. The
/// number of counters is fixed, since clients invent the group names; groups share one only by a hash collision.
#[derive(Debug)]
pub(super) struct RoundRobin {
    turns: Box<[AtomicUsize]>,
    hasher: RandomState,
}

impl RoundRobin {
    pub(super) fn new() -> Self {
        Self { turns: (0..1024).map(|_| AtomicUsize::new(0)).collect(), hasher: RandomState::new() }
    }

    fn turn(&self, group: &str) -> usize {
        let slot = self.hasher.hash_one(group) % self.turns.len() as u64;
        self.turns[slot as usize].fetch_add(1, Ordering::Relaxed)
    }
}

type Member = (NodeId, ClientId, SubscriptionOptions, Option<Vec<SubscriptionIdentifier>>, Option<IsOnline>);

#[async_trait]
impl SharedSubscription for RoundRobin {
    fn is_supported(&self) -> bool {
        true
    }

    async fn choice(
        &self,
        scx: &ServerContext,
        group: &SharedGroup,
        _publisher: &Id,
        _topic: &TopicName,
        members: &[Member],
    ) -> Option<(usize, IsOnline)> {
        if members.is_empty() {
            return None;
        }
        let first = self.turn(group);
        for step in 0..members.len() {
            let index = first.wrapping_add(step) % members.len();
            let (node, client, _, _, online) = &members[index];
            let online = match online {
                Some(online) => *online,
                None => scx.extends.router().await.is_online(*node, client).await,
            };
            if online {
                return Some((index, true));
            }
        }
        Some((first % members.len(), false))
    }
}

/// Caps the keep alive of 5.0 clients, who are told so in CONNACK. An older client cannot be told; the
/// library would refuse it, so it passes as it is.
#[derive(Debug)]
pub(super) struct KeepAliveCap(pub(super) Option<NonZeroU16>);

impl FitterManager for KeepAliveCap {
    fn create(&self, connect: Arc<ConnectInfo>, id: Id, listener: ListenerConfig) -> FitterType {
        let cap = self.0.filter(|_| connect.proto_ver() == MQTT_LEVEL_5).map(NonZeroU16::get);
        Arc::new(CappedFitter { inner: DefaultFitter::new(connect, id, listener), cap })
    }
}

struct CappedFitter {
    inner: DefaultFitter,
    cap: Option<u16>,
}

impl Fitter for CappedFitter {
    fn keep_alive(&self, seconds: &mut u16) -> rmqtt::Result<u16> {
        if let Some(cap) = self.cap {
            // 0 turns the keep alive off, which is longer than any cap.
            if *seconds == 0 || *seconds > cap {
                *seconds = cap;
            }
        }
        self.inner.keep_alive(seconds)
    }

    fn max_mqueue_len(&self) -> usize {
        self.inner.max_mqueue_len()
    }

    fn mqueue_rate_limit(&self) -> (NonZeroU32, Duration) {
        self.inner.mqueue_rate_limit()
    }

    fn max_inflight(&self) -> NonZeroU16 {
        self.inner.max_inflight()
    }

    fn session_expiry_interval(&self, disconnect: Option<&Disconnect>) -> Duration {
        self.inner.session_expiry_interval(disconnect)
    }

    fn message_expiry_interval(&self, publish: &CodecPublish) -> Duration {
        self.inner.message_expiry_interval(publish)
    }

    fn max_client_topic_aliases(&self) -> u16 {
        self.inner.max_client_topic_aliases()
    }

    fn max_server_topic_aliases(&self) -> u16 {
        self.inner.max_server_topic_aliases()
    }
}
