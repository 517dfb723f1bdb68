//! Connections of other MQTT programs: MQTTX, MQTT Explorer, and the option files of mosquitto's clients.
//!
//! Each file knows one program's format, as its source writes it, and accounts for every field: what has no place in a
//! profile is named in a note. Topics are such: a profile says how to connect, and a command what to subscribe to.

mod explorer;
mod mosquitto;
mod mosquitto_options;
mod mqttx;

use std::collections::BTreeSet;

use tracemq_plugin_api::prelude::{About, Error, Result};
use tracemq_plugin_api::sdk::{Import, ImportFile, ImportFormat, ImportedProfile};

/// More topics than a note can usefully name.
const NAMED_TOPICS: usize = 10;

/// Adds the formats to what the plugin says of itself.
pub fn formats(about: About) -> About {
    about
        .import(ImportFormat::new(mqttx::ID, "MQTTX (exported as JSON)", "MQTTX (export JSON)"))
        .import(
            ImportFormat::new(explorer::ID, "MQTT Explorer (settings.json)", "MQTT Explorer (settings.json)")
                .file("~/.config/MQTT-Explorer/settings.json")
                .file("~/Library/Application Support/MQTT-Explorer/settings.json"),
        )
        .import(
            ImportFormat::new(
                mosquitto::ID,
                "mosquitto_sub, _pub or _rr (option file)",
                "mosquitto_sub, _pub ou _rr (fichier d'options)",
            )
            .file("~/.config/mosquitto_sub")
            .file("~/.config/mosquitto_pub")
            .file("~/.config/mosquitto_rr"),
        )
}

/// Reads the file as what it is, or as what it is said to be.
///
/// # Errors
/// Kind config: it is damaged, or not of the format that was named.
pub fn read(file: &ImportFile<'_>) -> Result<Option<Import>> {
    let json = file.content().trim_ascii_start().starts_with(b"{")
        || file.content().trim_ascii_start().starts_with(b"[");
    if file.may_be(mqttx::ID) && (json || file.format().is_some()) {
        // While nobody has said that it is MQTTX's, anything may be wrong with it.
        match file.json() {
            Ok(json) if file.format().is_some() || mqttx::is(&json) => return mqttx::read(json).map(Some),
            Err(error) if file.format().is_some() => return Err(error),
            _ => {}
        }
    }
    if file.may_be(explorer::ID) && (json || file.format().is_some()) {
        match file.json() {
            Ok(json) if file.format().is_some() || explorer::is(&json) => {
                return explorer::read(json).map(Some);
            }
            Err(error) if file.format().is_some() => return Err(error),
            _ => {}
        }
    }
    if file.may_be(mosquitto::ID) && (file.format().is_some() || mosquitto::is(file)) {
        return mosquitto::read(file.text()?).map(Some);
    }
    Ok(None)
}

/// The URL of a server.
///
/// # Errors
/// The host is none.
fn url(scheme: &str, host: &str, port: Option<u64>, path: &str) -> Result<String> {
    let host = host.trim();
    if host.is_empty() || host.chars().any(|c| c.is_whitespace() || c.is_control() || "/@?#,\\".contains(c)) {
        return Err(Error::config("the host is missing or is no host's name"));
    }
    let host = match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    let port = match port {
        None => String::new(),
        Some(port @ 1..=65535) => format!(":{port}"),
        Some(_) => return Err(Error::config("the port is not a number from 1 to 65535")),
    };
    let path = match path.trim() {
        "" => String::new(),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    };
    Ok(format!("{scheme}://{host}{port}{path}"))
}

/// A time in seconds, as a profile writes it.
fn seconds(number: u64) -> String {
    format!("{number}s")
}

/// What a program subscribes to: how often each quality of service was asked for, and which topics.
#[derive(Default)]
struct Topics {
    qos: BTreeSet<u64>,
    names: Vec<String>,
}

impl Topics {
    fn add(&mut self, topic: String, qos: u64) {
        self.qos.insert(qos);
        self.names.push(topic);
    }

    /// The topics themselves are the user's to give; the quality of service is kept if there is one for all.
    fn into_profile(self, profile: &mut ImportedProfile) {
        if self.names.is_empty() {
            return;
        }
        let only = (self.qos.len() == 1).then(|| self.qos.first().copied()).flatten();
        if let Some(qos) = only.filter(|qos| *qos > 0) {
            profile.subscribe.insert("qos".into(), vec![qos].into());
        }
        let more = self.names.len().saturating_sub(NAMED_TOPICS);
        let mut names: Vec<String> = self.names.into_iter().take(NAMED_TOPICS).collect();
        if more > 0 {
            names.push(format!("{more} more"));
        }
        let qos = if only.is_none() { "; each has a --qos of its own" } else { "" };
        profile.note(format!(
            "topics are given to `tracemq sub` and are no part of a profile: {}{qos}",
            names.join(", ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(format: Option<&str>, name: &str, content: &[u8]) -> Result<Option<Import>> {
        read(&ImportFile::new(format, name, content))
    }

    #[test]
    fn what_is_not_ours_is_left_to_others() {
        for content in [
            &b""[..],
            b"{}",
            b"[]",
            b"{\"url\": \"nats://h\", \"creds\": \"\"}",
            b"hello",
            b"\xff\xfe\x00",
            b"[1, 2]",
            b"# only a comment\n",
            b"--strange option\n",
            b"{\"ConnectionManager_connections\": 5}",
        ] {
            assert!(matches!(outcome(None, "x", content), Ok(None)), "{}", String::from_utf8_lossy(content));
        }
    }

    #[test]
    fn a_file_that_is_not_what_it_was_said_to_be_is_an_error() {
        for format in [mqttx::ID, explorer::ID, mosquitto::ID] {
            for content in [&b"{"[..], b"\xff", b"5", b"hunter2\n"] {
                let error = outcome(Some(format), "x", content).unwrap_err().to_string();
                assert!(!error.contains("hunter2"), "{format}: {error}");
            }
        }
    }

    #[test]
    fn hosts_become_urls() {
        assert_eq!(url("mqtt", "h", Some(1), "").unwrap(), "mqtt://h:1");
        assert_eq!(url("mqtt+ws", "::1", None, "mqtt").unwrap(), "mqtt+ws://[::1]/mqtt");
        for host in ["", " ", "a/b", "u@h", "a b", "a?b"] {
            assert!(url("mqtt", host, None, "").is_err(), "{host}");
        }
        assert!(url("mqtt", "h", Some(0), "").is_err() && url("mqtt", "h", Some(65536), "").is_err());
    }
}
