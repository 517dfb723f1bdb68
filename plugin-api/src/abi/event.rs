//! What happens beside the messages: connections made and lost, clients of a server, refusals, losses.

use super::Extension;
use abi_stable::StableAbi;
use abi_stable::std_types::{RString, RVec};

/// What happened. Kinds added later are shown by their text alone.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventKind(pub u32);

impl EventKind {
    pub const CONNECTED: EventKind = EventKind(1);
    /// The connection was lost and another attempt will be made.
    pub const RECONNECTING: EventKind = EventKind(2);
    /// The connection is gone for good.
    pub const DISCONNECTED: EventKind = EventKind(3);
    pub const SUBSCRIBED: EventKind = EventKind(4);
    pub const SUBSCRIPTION_REFUSED: EventKind = EventKind(5);
    pub const CLIENT_CONNECTED: EventKind = EventKind(6);
    pub const CLIENT_DISCONNECTED: EventKind = EventKind(7);
    /// Messages were lost; how many stands in the details.
    pub const DROPPED: EventKind = EventKind(8);
    pub const WARNING: EventKind = EventKind(9);
    pub const CLIENT_SUBSCRIBED: EventKind = EventKind(10);
    /// A client of our server was refused: a login, a publish, a subscription.
    pub const CLIENT_REFUSED: EventKind = EventKind(11);
    /// What the user should know, though nothing is wrong.
    pub const NOTICE: EventKind = EventKind(12);

    /// The name used in JSON output.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::CONNECTED => "connected",
            EventKind::RECONNECTING => "reconnecting",
            EventKind::DISCONNECTED => "disconnected",
            EventKind::SUBSCRIBED => "subscribed",
            EventKind::SUBSCRIPTION_REFUSED => "subscription-refused",
            EventKind::CLIENT_CONNECTED => "client-connected",
            EventKind::CLIENT_DISCONNECTED => "client-disconnected",
            EventKind::DROPPED => "dropped",
            EventKind::WARNING => "warning",
            EventKind::CLIENT_SUBSCRIBED => "client-subscribed",
            EventKind::CLIENT_REFUSED => "client-refused",
            EventKind::NOTICE => "notice",
            _ => "event",
        }
    }
}

#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct Event {
    kind: EventKind,
    time: i64,
    text: RString,
    details: RString,
    extensions: RVec<Extension>,
}

impl Event {
    /// An event of now. `text` is one line for people.
    pub fn new(kind: EventKind, text: impl Into<String>) -> Event {
        Event {
            kind,
            time: crate::sdk::now(),
            text: text.into().into(),
            details: RString::new(),
            extensions: RVec::new(),
        }
    }

    /// What a program would want to know, as a JSON object.
    pub fn details(mut self, details: serde_json::Value) -> Event {
        self.details = details.to_string().into();
        self
    }

    pub fn kind(&self) -> EventKind {
        self.kind
    }

    /// Nanoseconds since 1970-01-01 UTC.
    pub fn time(&self) -> i64 {
        self.time
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// A JSON object, or the empty text.
    pub fn details_json(&self) -> &str {
        &self.details
    }
}
