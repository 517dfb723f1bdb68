//! What a broker is started with.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tracemq_plugin_api::net::{ServerTlsOptions, User};

use super::error::BrokerError;
use super::filter;

/// Everything a broker is started with. The default listens on 127.0.0.1:1883 and lets everybody in.
#[derive(Debug, Clone, Default)]
pub struct BrokerOptions {
    /// `ADDR:PORT` of the MQTT listener; port 0 takes any free one. Default `127.0.0.1:1883`, or 8883 with TLS.
    pub bind: Option<String>,
    /// `ADDR:PORT` of an additional WebSocket listener; none by default.
    pub ws_bind: Option<String>,
    /// Who may connect. Empty: everybody, with or without a name.
    pub users: Vec<User>,
    /// When set, both listeners speak TLS.
    pub tls: ServerTlsOptions,
    /// Where the CA of a certificate that is to be made is kept.
    pub state_dir: Option<PathBuf>,
    /// Longest keep alive in seconds a 5.0 client gets (told in CONNACK). 3.1 and 3.1.1 cannot be told.
    pub max_keep_alive: Option<NonZeroU16>,
    /// Filters whose SUBSCRIBE is refused.
    pub deny_subscribe: Vec<DenyRule>,
    /// Filters to whose topics PUBLISH (and a last will) is refused.
    pub deny_publish: Vec<DenyRule>,
    /// What keeps a flood bounded.
    pub limits: Limits,
}

/// A topic filter that is refused, written `FILTER` or `FILTER=CODE`.
///
/// `CODE` is the reason code a 5.0 client gets (128 to 162, also `0x80` to `0xA2`); without it 0x87, not
/// authorized. A 3.1.1 client always gets 0x80 for a SUBSCRIBE, and a PUBACK for a PUBLISH since that
/// version knows no refusal; the message is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenyRule {
    /// Refuses every topic, and every filter, that matches a subset of this one.
    pub filter: String,
    /// The reason code for a 5.0 client.
    pub code: u8,
}

/// MQTT 5.0 reason code "not authorized".
const NOT_AUTHORIZED: u8 = 0x87;

impl FromStr for DenyRule {
    type Err = BrokerError;

    fn from_str(text: &str) -> Result<Self, BrokerError> {
        // A topic may contain "=", so only what looks like a code is taken for one.
        let (filter, code) = match text.rsplit_once('=').map(|(filter, code)| (filter, parse_code(code))) {
            Some((filter, Some(code))) => (filter, code),
            _ => (text, NOT_AUTHORIZED),
        };
        if let Some(fault) = filter::filter_fault(filter) {
            return Err(BrokerError::Option { option: "deny", reason: fault });
        }
        Ok(Self { filter: filter.to_owned(), code })
    }
}

fn parse_code(text: &str) -> Option<u8> {
    let code = match text.strip_prefix("0x") {
        Some(hex) => u8::from_str_radix(hex, 16).ok()?,
        None => text.parse().ok()?,
    };
    (0x80..=0xA2).contains(&code).then_some(code)
}

impl DenyRule {
    /// The first of `rules` that refuses `topic_or_filter`.
    pub(super) fn find<'a>(rules: &'a [Self], topic_or_filter: &str) -> Option<&'a Self> {
        rules.iter().find(|rule| filter::covers(&rule.filter, topic_or_filter))
    }
}

/// What keeps a flood bounded. The defaults suit a broker for tests on a developer's machine.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once; more are closed at once. Each needs three file descriptors. Default 1000.
    pub max_connections: usize,
    /// Sessions at once, connected or waiting for their client; more are refused as "server unavailable". Default 1000.
    pub max_sessions: usize,
    /// Largest packet in bytes, told to 5.0 clients. Default 4 MiB.
    pub max_packet_size: u32,
    /// QoS 1 and 2 messages under way to or from one client ("receive maximum"). Default 100.
    pub max_inflight: NonZeroU16,
    /// Messages waiting for one client, connected or not; beyond, the oldest QoS 1/2 or the newest QoS 0 one is dropped. Default 10,000.
    pub max_queued: usize,
    /// Subscriptions of one client. Default 1000.
    pub max_subscriptions: usize,
    /// Topic aliases a 5.0 client may use. Default 32.
    pub max_topic_aliases: u16,
    /// Bytes of payload the broker holds in all queues together; then publishers wait, then are refused. Default 256 MiB.
    pub max_payload_memory: usize,
    /// Retained messages. Default 100,000, and half of `max_payload_memory`.
    pub max_retained: usize,
    /// Messages that wait to be shown; see [`super::Broker::messages`]. Default 8192, and 32 MiB.
    pub max_shown: usize,
    /// Time a new connection has for TLS, WebSocket and CONNECT together. Default 10 s.
    pub handshake_timeout: Duration,
    /// Time a client may leave bytes unread before it is disconnected. Default 10 s.
    pub send_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1000,
            max_sessions: 1000,
            max_packet_size: 4 * 1024 * 1024,
            max_inflight: NonZeroU16::MIN.saturating_add(99),
            max_queued: 10_000,
            max_subscriptions: 1000,
            max_topic_aliases: 32,
            max_payload_memory: 256 * 1024 * 1024,
            max_retained: 100_000,
            max_shown: 8192,
            handshake_timeout: Duration::from_secs(10),
            send_timeout: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deny_rules_are_read() {
        let rule = |text: &str| text.parse::<DenyRule>().map(|rule| (rule.filter, rule.code)).ok();
        assert_eq!(rule("a/#"), Some(("a/#".to_owned(), 0x87)));
        assert_eq!(rule("a/b=0x80"), Some(("a/b".to_owned(), 0x80)));
        assert_eq!(rule("a/b=151"), Some(("a/b".to_owned(), 0x97)));
        assert_eq!(rule("a=b"), Some(("a=b".to_owned(), 0x87)), "\"=\" is allowed in topics");
        assert_eq!(rule("a=7"), Some(("a=7".to_owned(), 0x87)), "7 refuses nothing");
        assert_eq!(rule("a/#/b"), None);
        assert_eq!(rule(""), None);
    }
}
