//! A target's URL, taken apart as far as all protocols have the same (RFC 3986, section 3).
//!
//! By hand and not with the `url` crate: that one brings Unicode tables of 0.2 MB into every plugin, for names that a
//! resolver would not take in any other form than ASCII.

use super::authority::split_host_port;
use crate::sdk::{Error, Result};

/// `SCHEME://USER@HOST:PORT` and what follows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Location<'u> {
    pub scheme: &'u str,
    /// User, and password if there is one, as they are written. The host program has made them options already.
    pub user: Option<&'u str>,
    /// A name or an address, IPv6 without brackets. May be empty.
    pub host: &'u str,
    /// 0 only where one listens.
    pub port: Option<u16>,
    /// Path, query and fragment, from the first `/`, `?` or `#` on. May be empty.
    pub path: &'u str,
}

impl<'u> Location<'u> {
    /// For listening and connecting.
    ///
    /// # Errors
    /// Kind config: no scheme, or a host or port that can't be.
    pub fn parse(url: &'u str) -> Result<Location<'u>> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad_url("has no scheme"))?;
        Location::after_scheme(scheme, rest)
    }

    /// For connecting: as [`Location::parse`], and port 0 is none.
    ///
    /// # Errors
    /// As [`Location::parse`].
    pub fn of_peer(url: &'u str) -> Result<Location<'u>> {
        Location::parse(url)?.refuse_port_0()
    }

    /// What follows `scheme://`.
    ///
    /// # Errors
    /// As [`Location::parse`].
    pub fn after_scheme(scheme: &'u str, rest: &'u str) -> Result<Location<'u>> {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, authority),
        };
        let (host, port) = split_host_port(address).map_err(bad_url)?;
        let port = match port {
            None | Some("") => None,
            Some(text) => Some(text.parse().map_err(|_| no_port(text))?),
        };
        Ok(Location { scheme, user, host, port, path })
    }

    /// # Errors
    /// The port is 0, at which nobody can be reached.
    pub fn refuse_port_0(self) -> Result<Location<'u>> {
        if self.port == Some(0) { Err(no_port("0")) } else { Ok(self) }
    }

    /// The host.
    ///
    /// # Errors
    /// There is none.
    pub fn named_host(&self) -> Result<&'u str> {
        if self.host.is_empty() { Err(bad_url("names no host")) } else { Ok(self.host) }
    }
}

/// What is wrong with a URL: `what` goes on after "the URL", and repeats no password.
pub fn bad_url(what: impl std::fmt::Display) -> Error {
    Error::config(format!("the URL {what}"))
}

fn no_port(text: &str) -> Error {
    bad_url(format_args!("has a port that is not a port (1 to 65535): {text:?}"))
}

/// Host and port as messages and errors name them: `HOST:PORT`, or `[IPV6]:PORT`.
pub fn show_host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let parse = |url| Location::parse(url).unwrap();
        let all = parse("coap://ann:x@y@[::1]:99/a?b#c");
        assert_eq!((all.scheme, all.user, all.host), ("coap", Some("ann:x@y"), "::1"));
        assert_eq!((all.port, all.path), (Some(99), "/a?b#c"));
        let bare = parse("nats://host?x");
        assert_eq!((bare.user, bare.host, bare.port, bare.path), (None, "host", None, "?x"));
        assert_eq!((parse("a://").host, parse("a://h:").port, parse("a://h:0").port), ("", None, Some(0)));
        assert_eq!(show_host_port("::1", 7), "[::1]:7");
        assert_eq!(show_host_port("host", 7), "host:7");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (url, part) in [
            ("host", "no scheme"),
            ("a://h:x", "not a port"),
            ("a://h:65536", "not a port"),
            ("a://h:0", "not a port"),
            ("a://::1", "brackets"),
            ("a://[::1", "bracket"),
        ] {
            let error = Location::of_peer(url).map(drop).expect_err(url).to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
        let error = Location::parse("a://").unwrap().named_host().unwrap_err();
        assert!(error.to_string().contains("names no host"));
    }
}
