//! The target: a connection string, `sb://HOST/HUB` for a hub, or `amqp://` and `amqps://HOST/QUEUE` for any broker's queue.

use percent_encoding::percent_decode_str;
use tracemq_plugin_api::net::{Location, bad_url, split_host_port};
use tracemq_plugin_api::prelude::{About, Error, Result};

use crate::connection_string::ConnectionString;

/// What is spoken on top of AMQP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Event Hubs: tokens, partitions, positions.
    Hubs,
    /// Queues of any broker.
    Queues,
}

/// Scheme, dialect, TLS and default port. For hubs the port is the one of TLS: an emulator has another.
const SCHEMES: [(&str, Dialect, bool, u16); 3] = [
    ("sb", Dialect::Hubs, true, 5671),
    ("amqp", Dialect::Queues, false, 5672),
    ("amqps", Dialect::Queues, true, 5671),
];

/// A URL, taken apart. User and password are not part of it: the host has made them options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub dialect: Dialect,
    pub tls: bool,
    /// A name or an address, IPv6 without brackets. Empty when the URL names none.
    pub host: String,
    pub port: Option<u16>,
    /// Hub or queue.
    pub entity: Option<String>,
}

/// What a target can be.
#[derive(Debug)]
pub enum Target {
    Url(Endpoint),
    ConnectionString(ConnectionString),
}

impl Target {
    /// # Errors
    /// It is neither, or is wrong in one of its parts.
    pub fn parse(text: &str) -> Result<Target> {
        let is_url = SCHEMES.iter().any(|(name, ..)| {
            text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
                && text[name.len()..].starts_with("://")
        });
        if !is_url && text.contains('=') {
            return ConnectionString::parse(text).map(Target::ConnectionString);
        }
        Endpoint::parse(text).map(Target::Url)
    }
}

impl Endpoint {
    pub fn schemes(about: About) -> About {
        SCHEMES.iter().fold(about, |about, (name, _, _, port)| about.scheme(name, Some(*port)))
    }

    /// # Errors
    /// Another scheme, a port that is none, a path that is no hub.
    pub fn parse(url: &str) -> Result<Endpoint> {
        let Location { scheme, host, port, path, .. } = Location::of_peer(url)?;
        let (_, dialect, tls, _) = *SCHEMES
            .iter()
            .find(|(name, ..)| name.eq_ignore_ascii_case(scheme))
            .ok_or_else(|| bad_url("has a scheme that is none of this plugin (sb, amqp, amqps)"))?;
        if path.starts_with(['?', '#']) {
            return Err(bad_url("has a query, which means nothing here"));
        }
        let path = path.strip_prefix('/').unwrap_or(path);
        let path =
            percent_decode_str(path).decode_utf8().map_err(|_| bad_url("has a path that is not UTF-8"))?;
        let entity = match dialect {
            Dialect::Hubs => path.trim_end_matches('/'),
            Dialect::Queues => &path,
        };
        if dialect == Dialect::Hubs && entity.contains('/') {
            return Err(bad_url("has more than a hub's name as its path")
                .hint("write sb://HOST/HUB; partition and consumer group are options"));
        }
        let entity = (!entity.is_empty()).then(|| entity.to_owned());
        Ok(Endpoint { dialect, tls, host: host.to_owned(), port, entity })
    }
}

/// Splits `HOST` or `HOST:PORT` of an option.
///
/// # Errors
/// No host, or a port that is none.
pub fn gateway(option: &str, text: &str) -> Result<(String, Option<u16>)> {
    let wrong = |why: &str| Error::config(format!("{option} {why}")).hint("write HOST or HOST:PORT");
    if text.contains("://") || text.contains('/') {
        return Err(wrong("is an address, not a URL"));
    }
    let (host, port) = split_host_port(text).map_err(wrong)?;
    if host.is_empty() {
        return Err(wrong("names no host"));
    }
    let port = match port {
        None | Some("") => None,
        Some(text) => Some(
            text.parse().ok().filter(|port| *port != 0).ok_or_else(|| wrong("has a port that is none"))?,
        ),
    };
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let parse = |url| Endpoint::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        let hub = parse("SB://key@ns.example:5672/hub/");
        assert_eq!((hub.dialect, hub.host.as_str(), hub.port), (Dialect::Hubs, "ns.example", Some(5672)));
        assert_eq!((hub.entity.as_deref(), hub.tls), (Some("hub"), true));
        assert_eq!(parse("sb://").host, "");
        let queue = parse("amqps://u:p@[::1]/a%20b/c");
        assert_eq!((queue.dialect, queue.host.as_str(), queue.tls), (Dialect::Queues, "::1", true));
        assert_eq!(queue.entity.as_deref(), Some("a b/c"));
        assert_eq!(parse("amqp://h//queue/x").entity.as_deref(), Some("/queue/x"));
        assert_eq!(parse("amqp://h").entity, None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (url, part) in [
            ("sb://h:0/x", "port"),
            ("sb://h/hub/Partitions/0", "more than a hub"),
            ("http://h", "scheme"),
            ("sb://h?x=1", "query"),
            ("amqp://::1", "brackets"),
            ("amqp://h/%FF", "UTF-8"),
        ] {
            let error = Endpoint::parse(url).expect_err(url).to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
        for (text, part) in [("https://h", "not a URL"), (":1", "no host"), ("h:x", "port")] {
            let error = gateway("--endpoint", text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!(gateway("--endpoint", "[::1]:7").expect("good"), ("::1".to_owned(), Some(7)));
    }

    #[test]
    fn a_target_is_a_url_or_a_connection_string() {
        assert!(matches!(Target::parse("sb://h/hub"), Ok(Target::Url(_))));
        let text = "Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=k";
        assert!(matches!(Target::parse(text), Ok(Target::ConnectionString(_))));
        assert!(Target::parse("Endpoint=sb://h/;SharedAccessKeyName=n").is_err());
    }
}
