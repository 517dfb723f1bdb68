//! The target's URL: transport, host, port, path.

use tracemq_plugin_api::net::split_host_port;
use tracemq_plugin_api::prelude::{About, Error, Result};

/// How the bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Ws,
    Wss,
    Tcp,
    Tls,
}

/// Scheme, transport and default port. A raw socket has no port of its own.
const SCHEMES: [(&str, Transport, Option<u16>); 4] = [
    ("ws", Transport::Ws, Some(80)),
    ("wss", Transport::Wss, Some(443)),
    ("tcp", Transport::Tcp, None),
    ("tls+tcp", Transport::Tls, None),
];

impl Transport {
    pub fn scheme(self) -> &'static str {
        SCHEMES.iter().find(|(_, transport, _)| *transport == self).map_or("", |(name, _, _)| name)
    }

    pub fn is_raw(self) -> bool {
        matches!(self, Transport::Tcp | Transport::Tls)
    }

    pub fn is_tls(self) -> bool {
        matches!(self, Transport::Wss | Transport::Tls)
    }
}

/// Where to connect to, or to listen. User and password are not part of it: the host has made them options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub transport: Transport,
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// 0 only where one listens.
    pub port: u16,
    /// WebSocket: path and query; empty when the URL names none.
    pub path: String,
}

impl Endpoint {
    pub fn schemes(about: About) -> About {
        SCHEMES.iter().fold(about, |about, (name, _, port)| about.scheme(name, *port))
    }

    /// # Errors
    /// Another scheme, no host, a port that is none or that is missing, a path where the transport has none.
    pub fn parse(url: &str) -> Result<Endpoint> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("has no scheme"))?;
        let (_, transport, default_port) =
            SCHEMES.iter().find(|(name, _, _)| name.eq_ignore_ascii_case(scheme)).ok_or_else(|| {
                bad(&format!("{scheme}:// is not a scheme of this plugin (ws, wss, tcp, tls+tcp)"))
            })?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
        let (host, port) = split_host_port(address).map_err(bad)?;
        if host.is_empty() {
            return Err(bad("names no host"));
        }
        let port = match (port, default_port) {
            (None, Some(port)) => *port,
            (None, None) => {
                return Err(bad("names no port")
                    .hint(format!("a raw socket has no default: write {scheme}://{address}:PORT")));
            }
            (Some(text), _) => {
                text.parse().map_err(|_| bad(&format!("{text:?} is not a port (1 to 65535)")))?
            }
        };
        let path = match (transport.is_raw(), path) {
            (true, "" | "/") => "",
            (true, path) => {
                return Err(bad(&format!("has a path ({path}), but {scheme}:// has none")));
            }
            // A fragment stays with the client (RFC 6455 section 3).
            (false, path) => path.split('#').next().unwrap_or_default(),
        };
        Ok(Endpoint { transport: *transport, host: host.to_owned(), port, path: path.to_owned() })
    }

    /// For connecting: [`Endpoint::parse`], and the port must be one.
    ///
    /// # Errors
    /// As [`Endpoint::parse`].
    pub fn of_peer(url: &str) -> Result<Endpoint> {
        let endpoint = Endpoint::parse(url)?;
        if endpoint.port == 0 {
            return Err(bad("\"0\" is not a port (1 to 65535)"));
        }
        Ok(endpoint)
    }

    /// The form in which messages and errors name the peer.
    pub fn shown(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

fn bad(what: &str) -> Error {
    Error::config(format!("the target's URL {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_paths_and_addresses() {
        let endpoint = |url| Endpoint::of_peer(url).unwrap();
        assert_eq!(endpoint("ws://host").shown(), "host:80");
        assert_eq!(endpoint("wss://u:p@host/chat?x=1#top").path, "/chat?x=1");
        assert_eq!(endpoint("wss://[::1]").shown(), "[::1]:443");
        assert_eq!(endpoint("tls+tcp://host:99/").shown(), "host:99");
        assert_eq!(Endpoint::parse("tcp://127.0.0.1:0").unwrap().port, 0);
    }

    #[test]
    fn bad_urls_say_what_is_wrong() {
        let error = |url| Endpoint::of_peer(url).unwrap_err().to_string();
        assert!(error("ws://").contains("names no host"));
        assert!(error("tcp://host").contains("names no port"));
        assert!(error("tcp://host:0").contains("not a port"));
        assert!(error("ws://host:70000").contains("not a port"));
        assert!(error("tcp://host:1/path").contains("path"));
        assert!(error("ws://::1").contains("brackets"));
        assert!(error("mqtt://host").contains("scheme"));
    }
}
