//! The parts of a target's URL that the host has to know: scheme, user, password, and whether the rest can be right.
//!
//! What the host and path mean is the plugin's business, so this is not a URL library's strict view: several hosts
//! separated by commas are fine, and so are schemes that nobody registered. It looks for the slips that people make, and
//! names the part that is wrong without repeating a password.

use crate::options::Credentials;
use crate::redact::{self, decoded, servers};
use std::fmt;
use tracemq_plugin_api::sdk::Descriptor;

pub use crate::redact::{is_connection_string, masked_url as masked};

/// A URL, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// In small letters.
    pub scheme: String,
    /// The first that stand in it.
    pub credentials: Credentials,
    /// The users without a password.
    alone: Vec<String>,
    pub hosts: Vec<Host>,
    /// The URL without its secrets.
    pub shown: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub name: String,
    pub port: Option<u16>,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]", self.name)?,
            false => f.write_str(&self.name)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// The scheme of a text that is meant as a URL, or as a connection string of `Name=value;` parts in which one stands.
pub fn scheme_of(text: &str) -> Option<String> {
    let (before, _) = text.split_once("://")?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let scheme = match is_connection_string(text) {
        true => before.rsplit('=').next().unwrap_or_default(),
        false => before,
    };
    let scheme = scheme.trim_start();
    let good = scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(fits);
    good.then(|| scheme.to_ascii_lowercase())
}

/// Whether the user of a URL is a secret of the protocol's, when no password goes with it.
pub fn user_is_token(descriptor: &Descriptor) -> bool {
    descriptor.capabilities.iter().any(|name| name == "user-is-token")
}

impl Address {
    /// Whether the user is a token, which then is made known as secret.
    pub fn has_token(&self, descriptor: &Descriptor) -> bool {
        let is_token = user_is_token(descriptor) && !self.alone.is_empty();
        if is_token {
            self.alone.iter().for_each(|token| redact::register(token));
        }
        is_token
    }

    /// Takes a URL apart, and makes its secrets known. The error says which part is wrong.
    pub fn parse(text: &str) -> Result<Address, String> {
        redact::register_url(text);
        let shown = masked(text);
        let wrong = |why: String| Err(format!("{shown} is not a URL: {why}"));
        // The parts of a connection string may hold more than a URL does.
        let has_spaces = is_connection_string(text);
        if let Some(c) = text.chars().find(|c| c.is_control() || (c.is_whitespace() && !has_spaces)) {
            let what = if c.is_control() { "a control character".to_owned() } else { "a space".to_owned() };
            return wrong(format!("there is {what} in it, which a URL writes as %{:02X}", u32::from(c)));
        }
        let Some((before, rest)) = text.split_once("://") else {
            return wrong("it has no scheme, as in SCHEME://HOST:PORT".into());
        };
        let Some(scheme) = scheme_of(text) else {
            return wrong(format!("{before:?} is no scheme (a letter, then letters, digits, +, - and .)"));
        };
        if is_connection_string(text) {
            let (credentials, alone, hosts) = Default::default();
            return Ok(Address { scheme, credentials, alone, hosts, shown });
        }
        let (logins, hosts): (Vec<&str>, Vec<&str>) = match servers(text) {
            Some(servers) => (
                servers.iter().filter_map(|server| server.login).collect(),
                servers.iter().map(|server| server.host).collect(),
            ),
            None => {
                let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
                let (login, hosts) = match authority.rsplit_once('@') {
                    Some((login, hosts)) => (Some(login), hosts),
                    // An @ further on, and what looks like the host has a colon: the password was not encoded.
                    None if authority.contains(':') && after.contains('@') => {
                        return wrong(
                            "a password with /, ? or # in it must write them as %2F, %3F and %23".into(),
                        );
                    }
                    None => (None, authority),
                };
                (Vec::from_iter(login), hosts.split(',').filter(|_| !hosts.is_empty()).collect())
            }
        };
        let logins = match logins.into_iter().map(credentials).collect::<Result<Vec<_>, _>>() {
            Ok(logins) => logins,
            Err(why) => return wrong(why),
        };
        let hosts = match hosts.into_iter().map(port_of).collect() {
            Ok(hosts) => hosts,
            Err(why) => return wrong(why),
        };
        let alone = logins.iter().filter(|login| login.password.is_none());
        let alone = alone.filter_map(|login| login.user.clone()).collect();
        let credentials = logins.into_iter().next().unwrap_or_default();
        Ok(Address { scheme, credentials, alone, hosts, shown })
    }
}

fn credentials(text: &str) -> Result<Credentials, String> {
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (text, None),
    };
    let user = decoded(user).map_err(|why| format!("its user {why}"))?;
    let password = password.map(decoded).transpose().map_err(|why| format!("its password {why}"))?;
    Ok(Credentials { user: Some(user).filter(|user| !user.is_empty()), password })
}

fn port_of(text: &str) -> Result<Host, String> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((name, after)) = rest.split_once(']') else {
                return Err(format!("the ] after the IPv6 address in {text:?} is missing"));
            };
            if name.parse::<std::net::Ipv6Addr>().is_err() && !name.contains('%') {
                return Err(format!("{name:?} is no IPv6 address"));
            }
            match after.strip_prefix(':') {
                Some(port) => (name, Some(port)),
                None if after.is_empty() => (name, None),
                None => return Err(format!("{after:?} after the IPv6 address is no port")),
            }
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(format!("{text:?} has several colons: an IPv6 address stands in [ ]"));
            }
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    if name.is_empty() {
        return Err("the host is missing".into());
    }
    if let Some(c) = name.chars().find(|c| "<>\"{}|\\^`[]".contains(*c)) {
        return Err(format!("there is a {c} in the host {name:?}"));
    }
    let port = match port {
        None | Some("") => None,
        Some(port) => match port.parse::<u16>() {
            Ok(port) => Some(port),
            Err(_) => return Err(format!("the port {port:?} is not a number from 1 to 65535")),
        },
    };
    Ok(Host { name: name.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Address {
        Address::parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn takes_a_url_apart() {
        let url = parse("DEMO+ws://ann%40x:p%3Aw@broker:8080/path?x=1");
        assert_eq!(url.scheme, "demo+ws");
        assert_eq!(url.credentials.user.as_deref(), Some("ann@x"));
        assert_eq!(url.credentials.password.as_deref(), Some("p:w"));
        assert_eq!(url.hosts, [Host { name: "broker".into(), port: Some(8080) }]);
        assert_eq!(url.shown, "DEMO+ws://ann%40x:***@broker:8080/path?x=1");
        assert_eq!(parse("post://a:1,b").hosts.len(), 2);
        assert_eq!(parse("wire://[::1]:5683/x").hosts[0], Host { name: "::1".into(), port: Some(5683) });
        assert_eq!(parse("loop://").hosts, []);
        assert_eq!(parse("x://h/a:b@c").hosts[0].name, "h", "an @ in a path is no password");
    }

    #[test]
    fn says_which_part_is_wrong_and_never_the_password() {
        for (text, part) in [
            ("localhost:1883", "no scheme"),
            ("demo://h:99999", "port \"99999\""),
            ("demo://h:abc", "port \"abc\""),
            ("demo://:1883", "host is missing"),
            ("demo://a b", "space"),
            ("demo://[::1", "]"),
            ("demo://[zz]", "no IPv6 address"),
            ("demo://::1", "[ ]"),
            ("1x://h", "no scheme"),
            ("demo://u:hunter2%@h", "password has a %"),
            ("demo://u:hunter2/x@h", "%2F"),
            ("demo://u:hunter2 @h", "space"),
            ("demo://a,,b", "host is missing"),
        ] {
            let error = Address::parse(text).map(|_| ()).unwrap_err();
            assert!(error.contains(part) && error.contains("is not a URL"), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_connection_string_shows_no_key() {
        let text =
            "Endpoint=sb://ns.example.net/;SharedAccessKeyName=Root;SharedAccessKey=abc=;EntityPath=hub";
        assert_eq!(scheme_of(text).as_deref(), Some("sb"));
        let url = parse(text);
        assert_eq!(
            url.shown,
            "Endpoint=sb://ns.example.net/;SharedAccessKeyName=Root;SharedAccessKey=***;EntityPath=hub"
        );
        let token =
            parse("Endpoint=sb://h/;SharedAccessSignature=SharedAccessSignature sr=x&sig=abc&se=1&skn=n");
        assert_eq!(token.shown, "Endpoint=sb://h/;SharedAccessSignature=***");
    }

    #[test]
    fn no_slip_makes_it_panic() {
        for text in ["x://u:p%41w@[::1]:1,b/p?token=t#f", "E=x://h/;Key=k;SharedAccessKey=s", "x://é:é@é"]
        {
            let letters: Vec<char> = text.chars().collect();
            for at in 0..letters.len() {
                for c in "%@:/?#[];=,é \0".chars() {
                    let changed = |insert: &[char]| {
                        let parts = [&letters[..at], insert, &letters[at + 1..]].concat();
                        drop(Address::parse(&parts.into_iter().collect::<String>()));
                    };
                    changed(&[c]);
                    changed(&[c, letters[at]]);
                    changed(&[]);
                }
            }
        }
    }

    #[test]
    fn each_of_several_servers_may_have_a_login() {
        let url = parse("x://a:b@h:1,x://c@i/,d:e@[::1]:2");
        assert_eq!(
            (url.credentials.user.as_deref(), url.credentials.password.as_deref()),
            (Some("a"), Some("b"))
        );
        assert_eq!(url.alone, ["c"]);
        assert_eq!(url.hosts.iter().map(Host::to_string).collect::<Vec<_>>(), ["h:1", "i", "[::1]:2"]);
    }
}
