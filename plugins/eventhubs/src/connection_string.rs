//! Azure connection strings: `Endpoint=sb://HOST/;SharedAccessKeyName=…;SharedAccessKey=…;EntityPath=HUB`.
//!
//! Read as Microsoft's SDKs read them: names in any case, each part split on its first `=` because keys end in one, a
//! semicolon at the end allowed. Stricter where they guess: what is there twice, or is there and empty, is an error that names
//! the part. No error repeats a value, for a part that is out of place may be the key.

use std::fmt;

use tracemq_plugin_api::net::split_host_port;
use tracemq_plugin_api::prelude::{Error, Result};

const ENDPOINT: &str = "Endpoint";
const KEY_NAME: &str = "SharedAccessKeyName";
const KEY: &str = "SharedAccessKey";
const SIGNATURE: &str = "SharedAccessSignature";
const ENTITY_PATH: &str = "EntityPath";
const EMULATOR: &str = "UseDevelopmentEmulator";
const PARTS: [&str; 6] = [ENDPOINT, KEY_NAME, KEY, SIGNATURE, ENTITY_PATH, EMULATOR];

/// A connection string, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionString {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// When the endpoint names one.
    pub port: Option<u16>,
    pub credential: Credential,
    /// The hub.
    pub entity_path: Option<String>,
    /// `UseDevelopmentEmulator=true`: no TLS.
    pub emulator: bool,
}

/// What a connection string logs in with.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A key, which signs tokens.
    Key { name: String, key: String },
    /// A token that somebody else has signed. It can't be renewed.
    Signature(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credential::Key { name, .. } => f.debug_struct("Key").field("name", name).finish_non_exhaustive(),
            Credential::Signature(_) => f.write_str("Signature(***)"),
        }
    }
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionString")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("credential", &self.credential)
            .field("entity_path", &self.entity_path)
            .field("emulator", &self.emulator)
            .finish()
    }
}

impl ConnectionString {
    /// # Errors
    /// Kind config, naming the part: missing, empty, given twice, or excluding another.
    pub fn parse(text: &str) -> Result<ConnectionString> {
        let mut found: [Option<&str>; PARTS.len()] = [None; PARTS.len()];
        for (index, part) in text.trim().split(';').enumerate() {
            let part = part.trim();
            if part.is_empty() {
                continue;
            }
            let Some((name, value)) = part.split_once('=') else {
                return Err(bad(&format!("its part number {} has no \"=\"", index + 1)));
            };
            let (name, value) = (name.trim(), value.trim());
            match PARTS.iter().position(|known| known.eq_ignore_ascii_case(name)) {
                Some(at) if found[at].is_some() => {
                    return Err(bad(&format!("{} is given twice", PARTS[at])));
                }
                Some(at) if value.is_empty() => return Err(bad(&format!("{} is empty", PARTS[at]))),
                Some(at) => found[at] = Some(value),
                // As the SDKs do: other services have more parts. The name may be a piece of a key with a ";" in it.
                None => log::warn!("connection string: part number {} is not one of Event Hubs", index + 1),
            }
        }
        let [endpoint, key_name, key, signature, entity_path, emulator] = found;
        let endpoint = endpoint.ok_or_else(|| missing(ENDPOINT))?;
        let (host, port) = host_and_port(endpoint)?;
        let credential = match (key_name, key, signature) {
            (None, None, Some(token)) => {
                if !token.starts_with(SIGNATURE) {
                    return Err(bad(&format!(
                        "{SIGNATURE} is to hold a whole token, which begins with \"{SIGNATURE} sr=\""
                    )));
                }
                Credential::Signature(token.to_owned())
            }
            (_, _, Some(_)) => {
                return Err(bad(&format!("{SIGNATURE} excludes {KEY_NAME} and {KEY}")).hint("leave one out"));
            }
            (Some(name), Some(key), None) => Credential::Key { name: name.to_owned(), key: key.to_owned() },
            (Some(_), None, None) => return Err(missing(KEY)),
            (None, Some(_), None) => return Err(missing(KEY_NAME)),
            (None, None, None) => {
                return Err(missing(&format!("{KEY_NAME} and {KEY} (or {SIGNATURE})")));
            }
        };
        let emulator = match emulator {
            None => false,
            // The SDKs take every other spelling for no.
            Some("true") => true,
            Some(text) if text.eq_ignore_ascii_case("false") => false,
            Some(_) => return Err(bad(&format!("{EMULATOR} is true or false, in small letters"))),
        };
        Ok(ConnectionString {
            host: host.to_owned(),
            port,
            credential,
            entity_path: entity_path.map(|path| path.trim_matches('/').to_owned()),
            emulator,
        })
    }

    /// Host and port as the endpoint has them.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        self.port.map_or(host.clone(), |port| format!("{host}:{port}"))
    }

    /// The text again, with its secret: for whoever is to paste it into a client.
    pub fn in_clear(&self) -> String {
        let credential = match &self.credential {
            Credential::Key { name, key } => format!("{KEY_NAME}={name};{KEY}={key}"),
            Credential::Signature(token) => format!("{SIGNATURE}={token}"),
        };
        let entity_path =
            self.entity_path.as_ref().map_or_else(String::new, |path| format!(";{ENTITY_PATH}={path}"));
        let emulator = if self.emulator { format!(";{EMULATOR}=true") } else { String::new() };
        format!("{ENDPOINT}=sb://{}/;{credential}{entity_path}{emulator}", self.authority())
    }
}

fn host_and_port(endpoint: &str) -> Result<(&str, Option<u16>)> {
    let wrong = |why: &str| bad(&format!("{ENDPOINT} {why}")).hint("it is written Endpoint=sb://HOST/");
    let (scheme, rest) = endpoint.split_once("://").ok_or_else(|| wrong("is no URL"))?;
    if !scheme.eq_ignore_ascii_case("sb") {
        return Err(wrong("has another scheme than sb"));
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !path.is_empty() {
        return Err(wrong("has a path").hint("the hub is named by EntityPath=HUB"));
    }
    if authority.contains('@') {
        return Err(wrong("has a user, but the key is a part of its own"));
    }
    let (host, port) = split_host_port(authority).map_err(wrong)?;
    if host.is_empty() {
        return Err(wrong("names no host"));
    }
    if host.chars().any(|c| c.is_whitespace() || c.is_control() || "?#\\\"<>".contains(c)) {
        return Err(wrong("has a host that can't be one"));
    }
    let port = match port {
        None | Some("") => None,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err(wrong("has a port that is none (1 to 65535)")),
        },
    };
    Ok((host, port))
}

fn missing(what: &str) -> Error {
    bad(&format!("{what} is missing"))
        .hint("it looks like Endpoint=sb://HOST/;SharedAccessKeyName=NAME;SharedAccessKey=KEY;EntityPath=HUB")
}

fn bad(what: &str) -> Error {
    Error::config(format!("connection string: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEYED: &str = "Endpoint=sb://ns.example.net/;SharedAccessKeyName=Root;SharedAccessKey=a+b/c==";

    fn parse(text: &str) -> ConnectionString {
        ConnectionString::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn the_parts() {
        let all = parse(&format!("{KEYED};EntityPath=hub;UseDevelopmentEmulator=true;"));
        assert_eq!((all.host.as_str(), all.port), ("ns.example.net", None));
        assert_eq!(all.credential, Credential::Key { name: "Root".into(), key: "a+b/c==".into() });
        assert_eq!((all.entity_path.as_deref(), all.emulator), (Some("hub"), true));
        let other = parse(
            "sharedaccesssignature=SharedAccessSignature sr=x&sig=y%3D&se=1&skn=n; endpoint=SB://[::1]:5673;usedevelopmentemulator=FALSE",
        );
        assert_eq!((other.authority().as_str(), other.emulator), ("[::1]:5673", false));
        assert!(matches!(other.credential, Credential::Signature(token) if token.ends_with("skn=n")));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in [
            KEYED.to_owned(),
            format!("{KEYED};EntityPath=h;UseDevelopmentEmulator=true"),
            "Endpoint=sb://[::1]:7/;SharedAccessSignature=SharedAccessSignature sr=a&sig=b&se=1&skn=k"
                .to_owned(),
        ] {
            assert_eq!(parse(&text).in_clear(), text);
        }
    }

    #[test]
    fn errors_name_the_part_and_never_a_value() {
        let secret = "hunter2";
        for (text, part) in [
            ("", "Endpoint is missing"),
            ("SharedAccessKeyName=n;SharedAccessKey=hunter2", "Endpoint is missing"),
            ("Endpoint=sb://h/;SharedAccessKey=hunter2", "SharedAccessKeyName is missing"),
            ("Endpoint=sb://h/;SharedAccessKeyName=n", "SharedAccessKey is missing"),
            ("Endpoint=sb://h/", "(or SharedAccessSignature) is missing"),
            ("Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=", "SharedAccessKey is empty"),
            (
                "Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=hunter2;SharedAccessSignature=SharedAccessSignature sr=hunter2",
                "excludes",
            ),
            (
                "Endpoint=sb://h/;SharedAccessKey=hunter2;SharedAccessSignature=SharedAccessSignature sr=hunter2",
                "excludes",
            ),
            ("Endpoint=sb://h/;SharedAccessSignature=hunter2", "whole token"),
            (
                "Endpoint=sb://h/;Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=hunter2",
                "given twice",
            ),
            ("Endpoint=h;SharedAccessKeyName=n;SharedAccessKey=hunter2", "no URL"),
            ("Endpoint=https://h;SharedAccessKeyName=n;SharedAccessKey=hunter2", "scheme"),
            ("Endpoint=sb://h/hub;SharedAccessKeyName=n;SharedAccessKey=hunter2", "path"),
            ("Endpoint=sb://h:0/;SharedAccessKeyName=n;SharedAccessKey=hunter2", "port"),
            ("Endpoint=sb://h:99999/;SharedAccessKeyName=n;SharedAccessKey=hunter2", "port"),
            ("Endpoint=sb:///;SharedAccessKeyName=n;SharedAccessKey=hunter2", "no host"),
            ("Endpoint=sb://n:hunter2@h/;SharedAccessKeyName=n;SharedAccessKey=hunter2", "user"),
            (
                "Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=hunter2;EntityPath=",
                "EntityPath is empty",
            ),
            (
                "Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=x;UseDevelopmentEmulator=True",
                "small letters",
            ),
            ("Endpoint=sb://h/;hunter2;SharedAccessKeyName=n;SharedAccessKey=x", "part number 2"),
        ] {
            let error = ConnectionString::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains(secret), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = ConnectionString::parse(&text);
        }

        #[test]
        fn nothing_shows_the_secret(
            name in "[a-z]{1,8}",
            key in "[A-Z0-9]{12}[A-Za-z0-9+/]{8,40}={0,2}",
            wrong in "(;SharedAccessSignature=x|;EntityPath=|;UseDevelopmentEmulator=1|;;|;x|)",
        ) {
            let text = format!("Endpoint=sb://h.example/;SharedAccessKeyName={name};SharedAccessKey={key}{wrong}");
            match ConnectionString::parse(&text) {
                Ok(found) => {
                    let shown = format!("{found:?}");
                    prop_assert!(!shown.contains(&key));
                    prop_assert_eq!(&found.credential, &Credential::Key { name, key });
                    prop_assert_eq!(ConnectionString::parse(&found.in_clear()).ok(), Some(found));
                }
                Err(error) => {
                    let shown = format!("{error} {error:?}");
                    prop_assert!(!shown.contains(&key));
                }
            }
        }
    }
}
