//! The target's URL: transport, host, port, path.

use tracemq_plugin_api::net::{Location, bad_url, show_host_port};
use tracemq_plugin_api::prelude::{About, Result};

/// How the bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Tls,
    Ws,
    WsTls,
}

/// Scheme, transport and default port. The WebSocket ports are those of HTTP, as every broker's documentation has it.
const SCHEMES: [(&str, Transport, u16); 4] = [
    ("mqtt", Transport::Tcp, 1883),
    ("mqtts", Transport::Tls, 8883),
    ("mqtt+ws", Transport::Ws, 80),
    ("mqtt+wss", Transport::WsTls, 443),
];

/// The path that brokers listen on when a URL names none.
const DEFAULT_PATH: &str = "/mqtt";

/// Where to connect to. User and password are not part of it: the host has made them options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub transport: Transport,
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    pub port: u16,
    /// WebSocket: path and query.
    pub path: String,
}

impl Endpoint {
    pub fn schemes(about: About) -> About {
        SCHEMES.iter().fold(about, |about, (name, _, port)| about.scheme(name, Some(*port)))
    }

    /// # Errors
    /// Another scheme, no host, a port that is none, a path where the transport has none.
    pub fn parse(url: &str) -> Result<Endpoint> {
        let location = Location::of_peer(url)?;
        let scheme = location.scheme;
        let (_, transport, default_port) =
            SCHEMES.iter().find(|(name, _, _)| name.eq_ignore_ascii_case(scheme)).ok_or_else(|| {
                bad_url(format!(
                    "has a scheme that is none of MQTT: {scheme} (mqtt, mqtts, mqtt+ws, mqtt+wss)"
                ))
            })?;
        let host = location.named_host()?;
        let port = location.port.unwrap_or(*default_port);
        let web = matches!(transport, Transport::Ws | Transport::WsTls);
        let path = match (web, location.path) {
            (true, "" | "/") => DEFAULT_PATH.to_owned(),
            (true, path) if path.starts_with('/') => path.to_owned(),
            (true, query) => format!("{DEFAULT_PATH}{query}"),
            (false, "" | "/") => String::new(),
            (false, path) => {
                return Err(bad_url(format!("has a path ({path}), but {scheme}:// has none")).hint(
                    "the topic is an argument of its own; for a WebSocket path use mqtt+ws:// or mqtt+wss://",
                ));
            }
        };
        Ok(Endpoint { transport: *transport, host: host.to_owned(), port, path })
    }

    /// The form in which messages and errors name the server.
    pub fn shown(&self) -> String {
        show_host_port(&self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_paths_and_addresses() {
        let endpoint = |url| Endpoint::parse(url).unwrap();
        assert_eq!(endpoint("mqtt://broker").shown(), "broker:1883");
        assert_eq!(endpoint("mqtts://u:p@broker:99/").shown(), "broker:99");
        assert_eq!(endpoint("mqtt://[::1]").shown(), "[::1]:1883");
        assert_eq!(endpoint("mqtt+ws://broker").path, "/mqtt");
        assert_eq!(endpoint("mqtt+wss://broker/a?b=c").path, "/a?b=c");
        assert_eq!(endpoint("mqtt+ws://broker?b=c").path, "/mqtt?b=c");
    }

    #[test]
    fn bad_urls_say_what_is_wrong() {
        let error = |url| Endpoint::parse(url).unwrap_err().to_string();
        assert!(error("mqtt://").contains("names no host"));
        assert!(error("mqtt://a:0").contains("not a port"));
        assert!(error("mqtt://a:70000").contains("not a port"));
        assert!(error("mqtt://::1:1883").contains("brackets"));
        assert!(error("mqtt://[::1").contains("bracket"));
        assert!(error("mqtt://a/topic").contains("path"));
    }
}
