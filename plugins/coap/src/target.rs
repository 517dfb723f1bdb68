//! The target's URL: transport, host, port, and the path and query that every topic begins with.

use std::net::IpAddr;

use tracemq_plugin_api::net::{Location, bad_url, show_host_port};
use tracemq_plugin_api::prelude::{About, Error, Result};

use crate::message::{self, CoapOption, Packet};

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Dtls,
    Tcp,
    Tls,
}

/// Scheme, transport and default port (RFC 7252 section 6, RFC 8323 section 8).
const SCHEMES: [(&str, Transport, u16); 4] = [
    ("coap", Transport::Udp, 5683),
    ("coaps", Transport::Dtls, 5684),
    ("coap+tcp", Transport::Tcp, 5683),
    ("coaps+tcp", Transport::Tls, 5684),
];

impl Transport {
    pub fn scheme(self) -> &'static str {
        SCHEMES.iter().find(|(_, transport, _)| *transport == self).map_or("", |(name, ..)| name)
    }

    pub fn default_port(self) -> u16 {
        SCHEMES.iter().find(|(_, transport, _)| *transport == self).map_or(0, |(.., port)| *port)
    }

    /// Each message in a datagram of its own, with the message layer of RFC 7252.
    pub fn is_datagram(self) -> bool {
        matches!(self, Transport::Udp | Transport::Dtls)
    }

    pub fn is_secure(self) -> bool {
        matches!(self, Transport::Dtls | Transport::Tls)
    }
}

/// Where to connect to, or to listen. User and password are no part of it: CoAP has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub transport: Transport,
    /// A name or an address, IPv6 without brackets; a zone (`fe80::1%eth0`) is part of it.
    pub host: String,
    /// 0 only where one listens.
    pub port: u16,
    /// What stands before every topic: with a slash before it and none behind, or empty.
    pub path: String,
    /// The URL's query, which every request gets.
    pub query: Option<String>,
}

impl Target {
    pub fn schemes(about: About) -> About {
        SCHEMES.iter().fold(about, |about, (name, _, port)| about.scheme(name, Some(*port)))
    }

    /// # Errors
    /// Another scheme, no host, a port or a path that is none, a fragment.
    pub fn parse(url: &str) -> Result<Target> {
        Target::of(&Location::parse(url)?)
    }

    /// For connecting: [`Target::parse`], and the port must be one.
    ///
    /// # Errors
    /// As [`Target::parse`].
    pub fn of_peer(url: &str) -> Result<Target> {
        Target::of(&Location::of_peer(url)?)
    }

    fn of(location: &Location<'_>) -> Result<Target> {
        let (scheme, resource) = (location.scheme, location.path);
        let (_, transport, default_port) =
            SCHEMES.iter().find(|(name, ..)| name.eq_ignore_ascii_case(scheme)).ok_or_else(|| {
                bad_url(format!(
                    "has a scheme of another plugin: {scheme} is none of coap, coaps, coap+tcp, coaps+tcp"
                ))
            })?;
        if location.user.is_some() {
            return Err(bad_url("has a user name, which CoAP knows nothing of")
                .hint("coaps has --psk-identity and --psk-key, or certificates"));
        }
        let host = location.named_host()?;
        let port = location.port.unwrap_or(*default_port);
        message::add_uri(&mut Packet::new(), resource)
            .map_err(|error| bad_url(format!("is wrong: {error}")))?;
        let (path, query) = match resource.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (resource, None),
        };
        let host = host.replacen("%25", "%", 1);
        let path = path.trim_end_matches('/').to_owned();
        Ok(Target { transport: *transport, host, port, path, query })
    }

    /// The form in which messages and errors name the peer.
    pub fn shown(&self) -> String {
        show_host_port(&self.host, self.port)
    }

    /// The host as Uri-Host has it: a name. An address says nothing that the peer does not know (RFC 7252 section 5.10.1).
    pub fn uri_host(&self) -> Option<String> {
        let address = self.host.split('%').next().unwrap_or_default();
        address.parse::<IpAddr>().is_err().then(|| self.host.to_ascii_lowercase())
    }

    /// Whether it is a group's address: several servers may answer (RFC 7252 section 8).
    pub fn is_group(&self) -> bool {
        let address = self.host.split('%').next().unwrap_or_default();
        address.parse::<IpAddr>().is_ok_and(|address| address.is_multicast())
    }

    /// Adds the options of the resource: the URL's path, the topic behind it, both queries, and Uri-Host.
    ///
    /// # Errors
    /// The topic can't be a path.
    pub fn add_resource(&self, packet: &mut Packet, topic: &str) -> Result<()> {
        let wrong = |error| Error::config(format!("TOPIC {topic:?}: {error}"));
        if let Some(host) = self.uri_host() {
            message::replace(packet, CoapOption::UriHost, host);
        }
        let own = self.query.as_ref().map(|query| format!("{}?{query}", self.path));
        message::add_uri(packet, own.as_deref().unwrap_or(&self.path)).map_err(wrong)?;
        message::add_uri(packet, topic).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_paths_and_addresses() {
        let target = |url| Target::of_peer(url).unwrap();
        assert_eq!(target("coap://host").shown(), "host:5683");
        assert_eq!(target("coaps://[::1]/").shown(), "[::1]:5684");
        assert_eq!(target("coap+tcp://host:99/a/b/?x=1").path, "/a/b");
        assert_eq!(target("coap+tcp://host:99/a/b/?x=1").query.as_deref(), Some("x=1"));
        assert_eq!(target("coaps+tcp://host").port, 5684);
        assert_eq!(target("coap://[ff02::fd%25eth0]").host, "ff02::fd%eth0");
        assert_eq!(Target::parse("coap://127.0.0.1:0").unwrap().port, 0);
    }

    #[test]
    fn names_are_said_and_addresses_are_not() {
        let host = |url| Target::of_peer(url).unwrap().uri_host();
        assert_eq!(host("coap://Device.example").as_deref(), Some("device.example"));
        assert_eq!(host("coap://127.0.0.1"), None);
        assert_eq!(host("coap://[fe80::1%25eth0]"), None);
    }

    #[test]
    fn topics_stand_behind_the_urls_path() {
        let mut packet = Packet::new();
        let target = Target::of_peer("coap://127.0.0.1/a?x=1").unwrap();
        target.add_resource(&mut packet, "b/c%20d?y").unwrap();
        assert_eq!(message::uri_of(&packet), "/a/b/c%20d?x=1&y");
        assert!(target.add_resource(&mut packet, "../b").unwrap_err().to_string().contains("\"../b\""));
    }

    #[test]
    fn bad_urls_say_what_is_wrong() {
        let error = |url| Target::of_peer(url).unwrap_err().to_string();
        assert!(error("coap://").contains("names no host"));
        assert!(error("coap://host:0").contains("not a port"));
        assert!(error("coap://host:70000").contains("port"));
        assert!(error("coap://::1").contains("brackets"));
        assert!(error("http://host").contains("scheme"));
        assert!(error("coap://host/%zz").contains('%'));
        assert!(error("coap://host/a#b").contains("fragment"));
        assert!(error("coap://ann@host").contains("user name"));
    }
}
