//! Which proxy a connection goes through: that of `--proxy`, else one that the environment names, else none.
//!
//! The environment is read as curl reads it: `https_proxy` and `HTTPS_PROXY` for connections with TLS, then `all_proxy` and
//! `ALL_PROXY` for all, the small letters first, what is empty counting as not set, and a proxy without a scheme being an
//! HTTP proxy. `no_proxy` and `NO_PROXY` list what goes past them: `*` for everything, names with their subdomains, addresses,
//! networks as `10.0.0.0/8`, each with a port or for all ports, separated by commas or blanks.
//!
//! Two things are other than with curl. This machine (`localhost`, names below it, loopback addresses) is never reached by
//! way of a proxy that only the environment names, as in Go: a broker on the developer's own machine has to work in every
//! company. And what is said with `--proxy` holds whatever the environment lists: the nearer word wins.

use std::fmt;
use std::net::IpAddr;

use super::authority::split_host_port;
use super::dial::Peer;
use super::error::NetError;
use super::proxy::Proxy;

/// A variable and what it holds.
type Variable = (&'static str, String);

/// The proxies that there are.
pub(super) struct Proxies {
    given: Option<Proxy>,
    for_tls: Option<Variable>,
    for_all: Option<Variable>,
    past: Vec<Past>,
}

impl fmt::Debug for Proxies {
    /// Without what the variables hold: a password may be in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [&self.for_tls, &self.for_all].map(|variable| variable.as_ref().map(|(name, _)| name));
        f.debug_struct("Proxies")
            .field("given", &self.given)
            .field("variables", &names)
            .finish_non_exhaustive()
    }
}

impl Proxies {
    /// `given` is the value of `--proxy`; `get` reads a variable of the environment.
    pub(super) fn new(given: Option<&str>, get: impl Fn(&str) -> Option<String>) -> Result<Self, NetError> {
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| Some((name, get(name).filter(|value| !value.is_empty())?)))
        };
        let past = first(["no_proxy", "NO_PROXY"]).map(|(_, list)| Past::list(&list)).unwrap_or_default();
        Ok(Self {
            given: given.map(|url| Proxy::parse(url, "--proxy")).transpose()?,
            for_tls: first(["https_proxy", "HTTPS_PROXY"]),
            for_all: first(["all_proxy", "ALL_PROXY"]),
            past,
        })
    }

    /// The proxy for a connection with or without TLS to this peer.
    ///
    /// # Errors
    /// [`NetErrorKind::Config`](super::NetErrorKind::Config): what the variable holds is no proxy.
    pub(super) fn choose(&self, peer: Peer<'_>, tls: bool) -> Result<Option<Proxy>, NetError> {
        if let Some(given) = &self.given {
            return Ok(Some(given.clone()));
        }
        let variable = self.for_tls.as_ref().filter(|_| tls).or(self.for_all.as_ref());
        match variable {
            Some((name, value))
                if !is_this_machine(peer.host) && !self.past.iter().any(|past| past.holds(peer)) =>
            {
                let with_scheme =
                    if value.contains("://") { value.clone() } else { format!("http://{value}") };
                Proxy::parse(&with_scheme, name).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// A name without the dot that may stand at the end of a whole one.
fn bare(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

fn is_this_machine(host: &str) -> bool {
    let host = bare(host).to_ascii_lowercase();
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// An entry of `NO_PROXY`.
#[derive(Debug, PartialEq, Eq)]
struct Past {
    whose: Whose,
    /// Any when there is none.
    port: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
enum Whose {
    Everybody,
    /// In small letters. `itself`: this name, too, and not only those below it.
    Name {
        name: String,
        itself: bool,
    },
    Network {
        address: IpAddr,
        bits: u32,
    },
}

impl Past {
    /// What can't be understood is passed over, as by everybody who reads this variable.
    fn list(text: &str) -> Vec<Self> {
        text.split([',', ' ', '\t']).filter(|entry| !entry.is_empty()).filter_map(Self::parse).collect()
    }

    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self { whose: Whose::Everybody, port: None });
        }
        if let Ok(address) = entry.parse() {
            return Some(Self { whose: network(address, None)?, port: None });
        }
        if let Some((address, bits)) = entry.split_once('/') {
            let address = address.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
            return Some(Self { whose: network(address, Some(bits.parse().ok()?))?, port: None });
        }
        let (host, port) = split_host_port(entry).ok()?;
        let port = port.map(str::parse).transpose().ok()?;
        if let Ok(address) = host.parse() {
            return Some(Self { whose: network(address, None)?, port });
        }
        let below = host.strip_prefix("*.");
        let name = bare(below.unwrap_or(host));
        let name = name.strip_prefix('.').unwrap_or(name).to_ascii_lowercase();
        (!name.is_empty()).then_some(Self { whose: Whose::Name { name, itself: below.is_none() }, port })
    }

    fn holds(&self, peer: Peer<'_>) -> bool {
        if self.port.is_some_and(|port| port != peer.port) {
            return false;
        }
        let address = peer.host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        match (&self.whose, address) {
            (Whose::Everybody, _) => true,
            (Whose::Network { address: network, bits }, Some(address)) => {
                matches!((prefix(*network, *bits), prefix(address, *bits)), (Some(a), Some(b)) if a == b)
                    && network.is_ipv4() == address.is_ipv4()
            }
            (Whose::Name { name, itself }, None) => {
                let host = bare(peer.host).to_ascii_lowercase();
                match host.strip_suffix(name.as_str()) {
                    Some("") => *itself,
                    Some(below) => below.ends_with('.'),
                    None => false,
                }
            }
            _ => false,
        }
    }
}

/// `None` when there are not so many bits.
fn network(address: IpAddr, bits: Option<u32>) -> Option<Whose> {
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    (bits <= most).then_some(Whose::Network { address, bits })
}

/// The first bits of an address.
fn prefix(address: IpAddr, bits: u32) -> Option<u128> {
    let (number, width) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32_u32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    Some(number.checked_shr(width.checked_sub(bits)?).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(given: Option<&str>, variables: &'static [(&str, &str)]) -> Proxies {
        let get = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Proxies::new(given, get).unwrap()
    }

    fn chosen(proxies: &Proxies, host: &str, tls: bool) -> Option<String> {
        proxies.choose(Peer::new(host, 1883), tls).unwrap().map(|proxy| proxy.to_string())
    }

    #[test]
    fn the_option_comes_before_the_environment_and_small_letters_before_large() {
        let all = proxies(
            None,
            &[
                ("ALL_PROXY", "socks5://large:1"),
                ("all_proxy", "socks5://small:1"),
                ("https_proxy", ""),
                ("HTTPS_PROXY", "tls:3128"),
            ],
        );
        assert_eq!(chosen(&all, "broker", false).as_deref(), Some("small:1"));
        assert_eq!(chosen(&all, "broker", true).as_deref(), Some("tls:3128"));
        let given = proxies(Some("http://given:8080"), &[("ALL_PROXY", "http://h:1"), ("NO_PROXY", "*")]);
        assert_eq!(chosen(&given, "127.0.0.1", true).as_deref(), Some("given:8080"));
        assert_eq!(chosen(&proxies(None, &[("HTTPS_PROXY", "http://h:1")]), "broker", false), None);
        assert_eq!(chosen(&proxies(None, &[("HTTP_PROXY", "http://h:1")]), "broker", false), None);
    }

    #[test]
    fn this_machine_is_reached_without() {
        let all = proxies(None, &[("ALL_PROXY", "http://h:1")]);
        for host in
            ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]
        {
            assert_eq!(chosen(&all, host, true), None, "{host}");
        }
        for host in ["localhost.example", "notlocalhost", "10.0.0.1", "::2"] {
            assert!(chosen(&all, host, true).is_some(), "{host}");
        }
    }

    #[test]
    fn entries_of_no_proxy() {
        for (list, past, through) in [
            ("*", &["broker", "10.0.0.1", "::2"][..], &[][..]),
            (
                "example.com",
                &["example.com", "EXAMPLE.com.", "a.b.example.com"],
                &["nonexample.com", "example.com.evil"],
            ),
            (".example.com", &["example.com", "www.example.com"], &["nonexample.com"]),
            ("*.example.com", &["www.example.com"], &["example.com"]),
            ("other, broker.", &["broker", "other"], &["br"]),
            ("a b\tc", &["a", "b", "c"], &["d"]),
            ("broker:1883", &["broker", "x.broker"], &[]),
            ("broker:8883", &[], &["broker"]),
            ("10.0.0.0/8", &["10.255.0.1", "::ffff:10.1.1.1"], &["11.0.0.1", "::a00:1", "10.example"]),
            ("192.0.2.7", &["192.0.2.7"], &["192.0.2.8", "192.0.2.70"]),
            ("192.0.2.7:1883,192.0.2.8:1", &["192.0.2.7"], &["192.0.2.8"]),
            ("2001:db8::/32, [fe80::1]:1883", &["2001:db8:1::2", "fe80::1"], &["2001:db9::1", "fe80::2"]),
            ("0.0.0.0/0", &["1.2.3.4"], &["2001:db8::1", "name"]),
            ("::/0", &["2001:db8::1"], &["1.2.3.4"]),
            ("10.0.0.0/33, /8, ::/129, host:x, :1883, .", &[], &["10.0.0.1", "host", "::2"]),
        ] {
            let entries = Past::list(list);
            let holds = |host: &str| entries.iter().any(|entry| entry.holds(Peer::new(host, 1883)));
            past.iter().for_each(|host| assert!(holds(host), "{host} goes past by {list}"));
            through.iter().for_each(|host| assert!(!holds(host), "{host} does not by {list}"));
        }
    }

    #[test]
    fn a_variable_that_names_no_proxy_is_told_when_it_is_needed_and_shows_nothing() {
        let wrong = proxies(None, &[("ALL_PROXY", "socks4://u:secret@h:1")]);
        assert!(wrong.choose(Peer::new("localhost", 1), false).unwrap().is_none());
        let error = wrong.choose(Peer::new("broker", 1), false).unwrap_err();
        assert!(
            error.message.starts_with("ALL_PROXY: ") && error.hint.as_deref().unwrap().contains("NO_PROXY")
        );
        assert!(!format!("{error:?} {wrong:?}").contains("secret"));
    }
}
