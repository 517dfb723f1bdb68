//! What all connections of a server share.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use tracemq_plugin_api::prelude::{Event, EventKind};
use tracemq_plugin_api::sdk::Events;
use tracemq_plugin_api::serde_json;

use super::access::Keys;
use super::feed::Feed;
use super::hub::Hubs;

pub(super) struct Service {
    /// What the server is called in its protocol's terms: the container.
    pub(super) name: String,
    pub(super) hubs: Hubs,
    pub(super) keys: Keys,
    pub(super) events: Events,
    pub(super) feed: Feed,
    /// Largest transfer accepted, in bytes.
    pub(super) max_message: usize,
    pub(super) busy: Busy,
    serials: AtomicU64,
}

/// How often a send is refused as if the service were busy.
pub(super) struct Busy {
    every: Option<u64>,
    sends: AtomicU64,
}

impl Busy {
    /// Every so-manieth send; `None`: none.
    pub(super) fn new(every: Option<u64>) -> Busy {
        Busy { every, sends: AtomicU64::new(0) }
    }

    /// Counts a send. Whether it is to be refused.
    pub(super) fn refuses(&self) -> bool {
        self.every.is_some_and(|every| (self.sends.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(every))
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// For people and programs: the first client is 1.
    pub(super) number: u64,
    pub(super) peer: SocketAddr,
}

impl Service {
    pub(super) fn new(
        name: String,
        hubs: Hubs,
        keys: Keys,
        events: Events,
        feed: Feed,
        max_message: usize,
        busy: Busy,
    ) -> Service {
        Service { name, hubs, keys, events, feed, max_message, busy, serials: AtomicU64::new(0) }
    }

    /// A number that is never given again.
    pub(super) fn serial(&self) -> u64 {
        self.serials.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Tells that a client was refused something.
    pub(super) fn refused(&self, client: &Client, what: &str, condition: &str, reason: &str) {
        let Client { number, peer } = client;
        let text = format!("client {number} ({peer}) was refused {what}: {condition}: {reason}");
        let details = json!({
            "client": number, "peer": peer.to_string(), "what": what, "code": condition, "reason": reason,
        });
        self.events.emit(Event::new(EventKind::CLIENT_REFUSED, text).details(details));
    }
}
