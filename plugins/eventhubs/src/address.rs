//! What a link is attached to: a hub, one of its partitions, or a partition as a consumer group reads it.
//!
//! Python and Rust write full URLs (`amqps://HOST/HUB/…`, even without TLS), JavaScript bare paths: both are read. The words
//! `ConsumerGroups` and `Partitions` are read in any case. There is no address for all partitions together.

use std::fmt;

use percent_encoding::percent_decode_str;

/// The consumer group that every hub has.
pub const DEFAULT_GROUP: &str = "$Default";
/// The node that takes tokens.
pub const CBS: &str = "$cbs";
/// The node that answers questions about hubs and partitions.
pub const MANAGEMENT: &str = "$management";

const GROUPS: &str = "ConsumerGroups";
const PARTITIONS: &str = "Partitions";

/// An entity address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// The node that takes tokens.
    Cbs,
    /// The node that answers questions.
    Management,
    /// Events sent here go to a partition of the service's choice, by key if they have one.
    Hub { hub: String },
    /// Events sent here go to this partition.
    Partition { hub: String, partition: String },
    /// Events are read from here.
    Reader { hub: String, group: String, partition: String },
}

impl Address {
    /// Reads a URL or a bare path; `None` when it is neither of these addresses.
    pub fn parse(text: &str) -> Option<Address> {
        let path = match text.split_once("://") {
            Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
            None => text,
        };
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        let parts = path
            .split('/')
            .map(|part| {
                let part = percent_decode_str(part).decode_utf8().ok()?;
                (!part.is_empty()).then(|| part.into_owned())
            })
            .collect::<Option<Vec<String>>>()?;
        let is = |at: usize, word: &str| parts[at].eq_ignore_ascii_case(word);
        match parts.as_slice() {
            [node] if node.eq_ignore_ascii_case(CBS) => Some(Address::Cbs),
            [node] if node.eq_ignore_ascii_case(MANAGEMENT) => Some(Address::Management),
            // A hub has a management node of its own, too.
            [_, node] if node.eq_ignore_ascii_case(MANAGEMENT) => Some(Address::Management),
            [hub] => Some(Address::Hub { hub: hub.clone() }),
            [hub, _, partition] if is(1, PARTITIONS) => {
                Some(Address::Partition { hub: hub.clone(), partition: partition.clone() })
            }
            [hub, _, group, _, partition] if is(1, GROUPS) && is(3, PARTITIONS) => {
                Some(Address::Reader { hub: hub.clone(), group: group.clone(), partition: partition.clone() })
            }
            _ => None,
        }
    }

    /// The hub, for all but the nodes of the service itself.
    pub fn hub(&self) -> Option<&str> {
        match self {
            Address::Cbs | Address::Management => None,
            Address::Hub { hub } | Address::Partition { hub, .. } | Address::Reader { hub, .. } => Some(hub),
        }
    }
}

impl fmt::Display for Address {
    /// As a bare path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Cbs => f.write_str(CBS),
            Address::Management => f.write_str(MANAGEMENT),
            Address::Hub { hub } => f.write_str(hub),
            Address::Partition { hub, partition } => write!(f, "{hub}/{PARTITIONS}/{partition}"),
            Address::Reader { hub, group, partition } => {
                write!(f, "{hub}/{GROUPS}/{group}/{PARTITIONS}/{partition}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_and_paths() {
        let reader = Address::Reader { hub: "h".into(), group: DEFAULT_GROUP.into(), partition: "0".into() };
        for text in [
            "h/ConsumerGroups/$Default/Partitions/0",
            "/h/consumergroups/$Default/partitions/0/",
            "amqps://127.0.0.1:5673/h/ConsumerGroups/$Default/Partitions/0",
            "sb://ns.example/h/ConsumerGroups/%24Default/Partitions/0",
        ] {
            assert_eq!(Address::parse(text).as_ref(), Some(&reader), "{text}");
        }
        let parse = |text| Address::parse(text);
        assert_eq!(parse("$cbs"), Some(Address::Cbs));
        assert_eq!(parse("amqps://h/$management"), Some(Address::Management));
        assert_eq!(parse("hub/$management"), Some(Address::Management));
        assert_eq!(parse("amqps://host/hub"), Some(Address::Hub { hub: "hub".into() }));
        assert_eq!(
            parse("hub/Partitions/3"),
            Some(Address::Partition { hub: "hub".into(), partition: "3".into() })
        );
    }

    #[test]
    fn what_is_none() {
        for text in ["", "/", "amqps://host", "h//x", "h/Publishers/p", "h/ConsumerGroups/g", "h/a/b", "%FF"]
        {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = Address::parse(&text);
        }

        #[test]
        fn what_is_written_is_read(hub in "[a-z0-9._-]{1,20}", group in "[$A-Za-z0-9._-]{1,20}", partition in "[0-9]{1,4}") {
            for address in [
                Address::Hub { hub: hub.clone() },
                Address::Partition { hub: hub.clone(), partition: partition.clone() },
                Address::Reader { hub: hub.clone(), group: group.clone(), partition: partition.clone() },
            ] {
                prop_assert_eq!(Address::parse(&address.to_string()), Some(address));
            }
        }
    }
}
