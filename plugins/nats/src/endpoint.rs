//! Servers as URLs: transport, host, port, path. A target may name several, with commas between them.

use percent_encoding::percent_decode_str;
use tracemq_plugin_api::net::{Location, bad_url, show_host_port, split_host_port};
use tracemq_plugin_api::prelude::{About, Error, Result};

/// How the bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TLS if the server wants it.
    Tcp,
    /// TLS in any case.
    Tls,
    Ws,
    WsTls,
}

impl Transport {
    pub fn is_web(self) -> bool {
        matches!(self, Transport::Ws | Transport::WsTls)
    }
}

/// Scheme, transport and default port. The WebSocket ports are those of HTTP: nats-server has none of its own.
const SCHEMES: [(&str, Transport, u16); 4] = [
    ("nats", Transport::Tcp, 4222),
    ("tls", Transport::Tls, 4222),
    ("nats+ws", Transport::Ws, 80),
    ("nats+wss", Transport::WsTls, 443),
];

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub transport: Transport,
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    pub port: u16,
    /// WebSocket: path and query.
    pub path: String,
    /// The name to look for in the certificate, where it is not the host: servers tell of each other by address.
    pub tls_name: Option<String>,
}

/// User and password, or a token alone, as a URL may hold them. No `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UserInfo {
    pub user: String,
    /// Without one, the user is a token.
    pub password: Option<String>,
}

impl Server {
    pub fn schemes(about: About) -> About {
        SCHEMES.iter().fold(about, |about, (name, _, port)| about.scheme(name, Some(*port)))
    }

    /// The servers of a URL, and the first user that stands in it. Empty when it names no host.
    ///
    /// # Errors
    /// Another scheme, a port that is none, a path where the transport has none.
    pub fn parse_list(text: &str) -> Result<(Vec<Server>, Option<UserInfo>)> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
        if rest.is_empty() || rest == "/" {
            transport(scheme)?;
            return Ok((Vec::new(), None));
        }
        let mut user = None;
        let servers = rest.split(',').map(|part| {
            let (scheme, rest) = part.trim().split_once("://").unwrap_or((scheme, part.trim()));
            let (server, found) = Server::parse(scheme, rest)?;
            if user.is_none() {
                user = found;
            }
            Ok(server)
        });
        Ok((servers.collect::<Result<Vec<_>>>()?, user))
    }

    fn parse(scheme: &str, rest: &str) -> Result<(Server, Option<UserInfo>)> {
        let (transport, default_port) = transport(scheme)?;
        let location = Location::after_scheme(scheme, rest)?.refuse_port_0()?;
        let user = location.user.map(user_info).transpose()?;
        let host = location.named_host()?;
        let port = location.port.unwrap_or(default_port);
        let path = match (transport.is_web(), location.path) {
            (true, "") => "/".to_owned(),
            (true, path) if path.starts_with('/') => path.to_owned(),
            (true, query) => format!("/{query}"),
            (false, "" | "/") => String::new(),
            (false, path) => {
                return Err(bad_url(format!("has a path ({path}), but {scheme}:// has none")).hint(
                    "the subject is an argument of its own; for a WebSocket path use nats+ws:// or nats+wss://",
                ));
            }
        };
        Ok((Server { transport, host: host.to_owned(), port, path, tls_name: None }, user))
    }

    /// A member of the cluster that this server has told of, as host:port; reached in the same way as this one.
    pub fn neighbour(&self, address: &str) -> Option<Server> {
        let (host, port) = split_host_port(address).ok()?;
        let port = port_number(port?).ok()?;
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        let tls_name = is_address.then(|| self.tls_name.clone().unwrap_or_else(|| self.host.clone()));
        (!host.is_empty()).then(|| Server { host: host.to_owned(), port, tls_name, ..self.clone() })
    }

    pub fn is_same_place(&self, other: &Server) -> bool {
        self.port == other.port && self.host.eq_ignore_ascii_case(&other.host)
    }

    /// The form in which messages and errors name the server.
    pub fn shown(&self) -> String {
        show_host_port(&self.host, self.port)
    }
}

fn transport(scheme: &str) -> Result<(Transport, u16)> {
    SCHEMES
        .iter()
        .find(|(name, _, _)| name.eq_ignore_ascii_case(scheme))
        .map(|(_, transport, port)| (*transport, *port))
        .ok_or_else(|| {
            bad_url(format!("has a scheme that is none of NATS: {scheme} (nats, tls, nats+ws, nats+wss)"))
        })
}

fn user_info(text: &str) -> Result<UserInfo> {
    let decoded = |text: &str| {
        let text =
            percent_decode_str(text).decode_utf8().map_err(|_| bad_url("has a user that is not UTF-8"))?;
        Ok::<_, Error>(text.into_owned())
    };
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(decoded(password)?)),
        None => (text, None),
    };
    Ok(UserInfo { user: decoded(user)?, password })
}

fn port_number(text: &str) -> Result<u16> {
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| bad_url(format!("has a port that is none: {text:?} (1 to 65535)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<Server> {
        Server::parse_list(text).unwrap().0
    }

    #[test]
    fn one_or_several() {
        let shown = |text| list(text).iter().map(Server::shown).collect::<Vec<_>>();
        assert_eq!(shown("nats://a"), ["a:4222"]);
        assert_eq!(shown("nats://a:1,b:2, nats://c"), ["a:1", "b:2", "c:4222"]);
        assert_eq!(shown("nats://[::1]:99"), ["[::1]:99"]);
        assert_eq!(shown("a:1,b"), ["a:1", "b:4222"]);
        assert_eq!(shown("nats://"), Vec::<String>::new());
        assert_eq!(list("nats+ws://h/p?q=1")[0].path, "/p?q=1");
        assert_eq!(list("nats://a,tls://b")[1].transport, Transport::Tls);
    }

    #[test]
    fn users_and_tokens() {
        let user = |text| Server::parse_list(text).unwrap().1.map(|user| (user.user, user.password));
        assert_eq!(user("nats://u:p%40@a,b"), Some(("u".into(), Some("p@".into()))));
        assert_eq!(user("nats://s3cret@a"), Some(("s3cret".into(), None)));
        assert_eq!(user("nats://a,u:p@b"), Some(("u".into(), Some("p".into()))));
        assert_eq!(user("nats://a"), None);
    }

    #[test]
    fn neighbours_are_reached_the_same_way() {
        let server = &list("tls://nats.example:4222")[0];
        let other = server.neighbour("10.0.0.7:4223").unwrap();
        assert_eq!(
            (other.shown().as_str(), other.tls_name.as_deref()),
            ("10.0.0.7:4223", Some("nats.example"))
        );
        assert_eq!(server.neighbour("b.example:1").unwrap().tls_name, None);
        assert!(server.neighbour("no port").is_none() && server.neighbour(":1").is_none());
    }

    #[test]
    fn bad_urls_say_what_is_wrong() {
        let error = |url| Server::parse_list(url).err().unwrap().to_string();
        assert!(error("nats://a:0").contains("port"));
        assert!(error("nats://a,,b").contains("names no host"));
        assert!(error("nats://::1:4222").contains("brackets"));
        assert!(error("nats://a/topic").contains("path"));
        assert!(error("http://a").contains("scheme"));
    }
}
