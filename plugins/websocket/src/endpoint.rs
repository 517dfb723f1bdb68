//! The target's URL: transport, host, port, path.

use tracemq_plugin_api::net::{Location, bad_url, show_host_port};
use tracemq_plugin_api::prelude::{About, Result};

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
        Endpoint::of(&Location::parse(url)?)
    }

    /// For connecting: [`Endpoint::parse`], and the port must be one.
    ///
    /// # Errors
    /// As [`Endpoint::parse`].
    pub fn of_peer(url: &str) -> Result<Endpoint> {
        Endpoint::of(&Location::of_peer(url)?)
    }

    fn of(location: &Location<'_>) -> Result<Endpoint> {
        let scheme = location.scheme;
        let (_, transport, default_port) =
            SCHEMES.iter().find(|(name, _, _)| name.eq_ignore_ascii_case(scheme)).ok_or_else(|| {
                bad_url(format!("has a scheme that is none of this plugin: {scheme} (ws, wss, tcp, tls+tcp)"))
            })?;
        let host = location.named_host()?;
        let port = location.port.or(*default_port).ok_or_else(|| {
            bad_url("names no port").hint(format!("a raw socket has no default: write {scheme}://HOST:PORT"))
        })?;
        let path = match (transport.is_raw(), location.path) {
            (true, "" | "/") => "",
            (true, path) => {
                return Err(bad_url(format!("has a path ({path}), but {scheme}:// has none")));
            }
            // A fragment stays with the client (RFC 6455 section 3).
            (false, path) => path.split('#').next().unwrap_or_default(),
        };
        Ok(Endpoint { transport: *transport, host: host.to_owned(), port, path: path.to_owned() })
    }

    /// The form in which messages and errors name the peer.
    pub fn shown(&self) -> String {
        show_host_port(&self.host, self.port)
    }
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
