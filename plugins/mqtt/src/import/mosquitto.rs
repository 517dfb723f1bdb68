//! The option files of mosquitto's clients (`~/.config/mosquitto_sub`, `_pub`, `_rr`): one option of the command line on each
//! line, its value after the first space, `#` at the start of a line for comments. A value is taken as it stands, so that a
//! password may have spaces in it.

use tracemq_plugin_api::prelude::{Error, Result};
use tracemq_plugin_api::sdk::{Import, ImportFile, ImportedFile, ImportedProfile};

use super::mosquitto_options::{Field, Use, find};
use super::{Topics, seconds, url};

pub const ID: &str = "mosquitto";

/// The lines with something on them, with their numbers, as option and value.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str, Option<&str>)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let line = line.trim_end_matches('\r');
        let trimmed = line.trim_start_matches(' ');
        if line.starts_with('#') || trimmed.trim().is_empty() {
            return None;
        }
        let (option, value) = match trimmed.split_once(' ') {
            Some((option, value)) => (option, Some(value).filter(|value| !value.is_empty())),
            None => (trimmed, None),
        };
        Some((index + 1, option, value))
    })
}

/// Whether each line begins with an option that mosquitto has; of a file that bears the name of one of its clients, whether
/// the first does.
pub fn is(file: &ImportFile<'_>) -> bool {
    let Ok(text) = file.text() else { return false };
    let mut options = lines(text).map(|(_, option, _)| find(option).is_some());
    let named = ["mosquitto_sub", "mosquitto_pub", "mosquitto_rr"].contains(&file.name());
    match options.next() {
        Some(true) => named || options.all(|known| known),
        _ => false,
    }
}

/// What was found so far.
#[derive(Default)]
struct Found {
    host: Option<String>,
    port: Option<u64>,
    /// The scheme of `-L`.
    url: Option<String>,
    username: Option<String>,
    password: Option<String>,
    version: Option<&'static str>,
    expiry: Option<u64>,
    qos: Option<u64>,
    ca: Option<String>,
    os_certs: bool,
    no_tls: bool,
    other_tls: bool,
    web: bool,
    no_retained: bool,
    inflight: Option<u64>,
    topics: Vec<String>,
    left: Vec<String>,
}

/// # Errors
/// An option that mosquitto does not have, a value that it would refuse; the line is named, the value is not repeated.
pub fn read(text: &str) -> Result<Import> {
    let mut profile = ImportedProfile::new("");
    let mut found = Found::default();
    for (line, option, value) in lines(text) {
        let wrong = |why: &str| Error::config(format!("line {line}: {why}"));
        let Some(what) = find(option) else {
            return Err(wrong("this is no option of mosquitto's clients"));
        };
        let given = || value.ok_or_else(|| wrong(&format!("{option} has no value")));
        match what {
            Use::Value(field) => {
                found
                    .value(field, given()?, &mut profile)
                    .map_err(|why| wrong(&format!("{option}: {why}")))?;
            }
            Use::Switch(_) | Use::LeftSwitch if value.is_some() => {
                return Err(wrong(&format!("{option} has a value, but takes none")));
            }
            Use::Switch(field) => found.switch(field, &mut profile),
            Use::Left => {
                let value: String = given()?.chars().take(60).collect();
                found.other_tls |= ["--capath", "--tls-engine"].contains(&option);
                found.left.push(format!("{option} {value}"));
            }
            Use::LeftSwitch => found.left.push(option.to_owned()),
            Use::LeftSecret => {
                given()?;
                found.other_tls |= option == "--psk";
                found.left.push(option.to_owned());
            }
        }
    }
    if found.left.iter().any(|option| option.starts_with("--unix ")) {
        return Err(Error::config(
            "it connects over a Unix socket (--unix), which this plugin does not speak",
        ));
    }
    let mut import = Import::new(ID);
    import.profiles.push(found.finish(profile)?);
    Ok(import)
}

fn number(value: &str, most: u64) -> Result<u64, String> {
    let number = value.trim().parse().ok().filter(|number| *number <= most);
    number.ok_or_else(|| format!("not a number up to {most}"))
}

impl Found {
    fn value(&mut self, field: Field, value: &str, profile: &mut ImportedProfile) -> Result<(), String> {
        let text = || Some(value.trim().to_owned());
        let file = || Some(ImportedFile::Path(value.trim().to_owned()));
        match field {
            Field::Host => self.host = text(),
            Field::Port => self.port = Some(number(value, 65535)?),
            Field::Url => self.take_url(value.trim())?,
            Field::Username => self.username = text(),
            Field::Password => self.password = Some(value.to_owned()),
            Field::ClientId => profile.set("client_id", text()),
            Field::KeepAlive => profile.set("keep_alive", Some(seconds(number(value, 65535)?))),
            Field::Version => {
                self.version = Some(match value.trim() {
                    "mqttv31" | "31" => "3.1",
                    "mqttv311" | "311" => "3.1.1",
                    "mqttv5" | "5" => "5.0",
                    _ => return Err("none of 31, 311 and 5".into()),
                });
            }
            Field::Qos => self.qos = Some(number(value, 2)?),
            Field::Topic => self.topics.push(value.trim().to_owned()),
            Field::Ca => self.ca = text(),
            Field::Cert => profile.file("tls_cert", file()),
            Field::Key => profile.file("tls_key", file()),
            Field::Alpn => profile.set("tls_alpn", Some(vec![value.trim()])),
            Field::TlsVersion => match value.trim() {
                "tlsv1.3" => profile.set("tls_min_version", Some("1.3")),
                "tlsv1.2" => profile.set("tls_min_version", Some("1.2")),
                "tlsv1.1" | "tlsv1" => self.left.push(format!("--tls-version {}", value.trim())),
                _ => return Err("no version of TLS that mosquitto knows".into()),
            },
            Field::Proxy => proxy(value.trim(), profile)?,
            Field::Expiry => {
                self.expiry = Some(match value.trim() {
                    "∞" | "-1" => u64::from(u32::MAX),
                    value => number(value, u64::from(u32::MAX))?,
                });
            }
            Field::RetainHandling => {
                if !["always", "new", "never"].contains(&value.trim()) {
                    return Err("none of always, new and never".into());
                }
                profile.subscribe.insert("retain_handling".into(), value.trim().into());
            }
            Field::Inflight => self.inflight = Some(number(value, 65535)?),
            Field::WillTopic => profile.set("will_topic", text()),
            Field::WillPayload => profile.set("will_payload", Some(value)),
            Field::WillQos => profile.set("will_qos", Some(number(value, 2)?)),
            other => self.switch(other, profile),
        }
        Ok(())
    }

    fn switch(&mut self, field: Field, profile: &mut ImportedProfile) {
        match field {
            Field::Retain => drop(profile.publish.insert("retain".into(), true.into())),
            Field::OsCerts => self.os_certs = true,
            Field::NoTls => self.no_tls = true,
            Field::Insecure => profile.note(
                "--insecure leaves out the comparison of the host's name alone; give the name in the certificate with \
                 tls_server_name (insecure_skip_verify would leave out every check)",
            ),
            Field::WebSocket => self.web = true,
            Field::Persistent => profile.set("clean_session", Some(false)),
            Field::NoRetained => self.no_retained = true,
            Field::RetainAsPublished => drop(profile.subscribe.insert("retain_as_published".into(), true.into())),
            Field::WillRetain => profile.set("will_retain", Some(true)),
            _ => {}
        }
    }

    /// `-L`: scheme, user, host, port and topic in one.
    fn take_url(&mut self, text: &str) -> Result<(), String> {
        let (scheme, rest) = text.split_once("://").ok_or("not a URL")?;
        let scheme = scheme.to_ascii_lowercase();
        if !["mqtt", "mqtts", "ws", "wss"].contains(&scheme.as_str()) {
            return Err("its scheme is none of mqtt, mqtts, ws and wss".into());
        }
        let (authority, topic) = rest.split_once('/').ok_or("the topic is missing in it")?;
        let server = match authority.split_once('@') {
            None => authority,
            Some((user, server)) => {
                let (name, password) = match user.split_once(':') {
                    Some((name, password)) => (name, Some(password)),
                    None => (user, None),
                };
                self.username = Some(name.to_owned());
                self.password = password.map(str::to_owned).or(self.password.take());
                server
            }
        };
        let (host, port) = match server.split_once(':') {
            Some((host, port)) => (host, Some(number(port, 65535)?)),
            None => (server, None),
        };
        self.port = port.or(Some(if scheme.ends_with('s') { 8883 } else { 1883 }));
        self.host = Some(host.to_owned());
        self.topics.push(topic.to_owned());
        self.url = Some(scheme);
        Ok(())
    }

    fn finish(mut self, mut profile: ImportedProfile) -> Result<ImportedProfile> {
        // What mosquitto itself takes for wanting TLS.
        let of_url = self.url.as_deref().is_some_and(|scheme| matches!(scheme, "mqtts" | "wss"));
        let given = self.ca.is_some() || self.other_tls || self.os_certs || of_url || self.port == Some(8883);
        let tls = given && !self.no_tls;
        self.web |= self.url.as_deref().is_some_and(|scheme| scheme.starts_with("ws"));
        let scheme = match (self.web, tls) {
            (false, false) => "mqtt",
            (false, true) => "mqtts",
            (true, false) => "mqtt+ws",
            (true, true) => "mqtt+wss",
        };
        let port = self.port.unwrap_or(if tls && !self.os_certs { 8883 } else { 1883 });
        let host = self.host.take().unwrap_or_else(|| "localhost".into());
        profile.url = Some(url(scheme, &host, Some(port), if self.web { "/mqtt" } else { "" })?);
        profile.name = host;
        // mosquitto's clients speak 3.1.1 unless told otherwise.
        let version = self.version.unwrap_or("3.1.1");
        let is_v5 = version == "5.0";
        profile.set("protocol_version", Some(version));
        profile.set("username", self.username.take());
        profile.secret("password", self.password.take());
        if tls {
            profile.file("tls_ca", self.ca.take().map(ImportedFile::Path));
        } else {
            let mut left: Vec<String> = profile.files.keys().cloned().collect();
            left.extend(self.ca.take().map(|_| "tls_ca".into()));
            for option in ["tls_alpn", "tls_min_version"] {
                left.extend(profile.connection.shift_remove(option).map(|_| option.into()));
            }
            profile.files.clear();
            profile.left("without TLS these have no use", &left);
        }
        self.options_of_v5(&mut profile, is_v5);
        if let Some(qos) = self.qos.filter(|qos| *qos > 0) {
            profile.publish.insert("qos".into(), qos.into());
        }
        let mut topics = Topics::default();
        let qos = self.qos.unwrap_or_default();
        if self.topics.is_empty() && qos > 0 {
            profile.subscribe.insert("qos".into(), vec![qos].into());
        }
        self.topics.into_iter().for_each(|topic| topics.add(topic, qos));
        topics.into_profile(&mut profile);
        profile.left("not carried over", &self.left);
        Ok(profile)
    }

    fn options_of_v5(&mut self, profile: &mut ImportedProfile, is_v5: bool) {
        if self.no_retained && is_v5 {
            profile.subscribe.insert("retain_handling".into(), "never".into());
        } else if self.no_retained {
            self.left.push("-R".into());
        }
        if is_v5 {
            profile.set("session_expiry", self.expiry.map(seconds));
            self.left.extend(self.inflight.map(|most| format!("-M {most}")));
        } else {
            profile.set("receive_maximum", self.inflight.filter(|most| *most > 0));
            self.left.extend(self.expiry.map(|expiry| format!("-x {expiry} (of MQTT 5.0)")));
            for (name, option) in
                [("retain_handling", "--retain-handling"), ("retain_as_published", "--retain-as-published")]
            {
                if profile.subscribe.shift_remove(name).is_some() {
                    self.left.push(format!("{option} (of MQTT 5.0)"));
                }
            }
        }
    }
}

/// A user and password in it make it a secret.
fn proxy(text: &str, profile: &mut ImportedProfile) -> Result<(), String> {
    if !text.starts_with("socks5h://") {
        return Err("not a socks5h:// URL".into());
    }
    match text.contains('@') {
        true => profile.secret("proxy", Some(text.to_owned())),
        false => profile.set("proxy", Some(text)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tracemq_plugin_api::serde_json;

    fn one(text: &str) -> ImportedProfile {
        read(text).unwrap_or_else(|error| panic!("{error}")).profiles.remove(0)
    }

    const FILE: &str = "# defaults of this machine\n\
        -h broker.example\n\
        --cafile /certs/ca.pem\r\n\
        --cert /certs/ann.pem\n\
        --key /certs/ann.key\n\
        -u ann\n\
        -P hunter2 with spaces \n\
        -i bench\n\
        -k 30\n\
        -q 1\n\
        -t plant/#\n\
        -t alarms\n\
        -c\n\
        -V mqttv5\n\
        -x -1\n\
        --retain-handling new\n\
        --will-topic gone\n\
        --will-payload bye bye\n\
        --will-qos 2\n\
        --will-retain\n\
        --proxy socks5h://u:hunter3@proxy:1080\n\
        --tls-version tlsv1.2\n\
        --tls-alpn mqtt\n\
        --ciphers HIGH\n\
        --insecure\n\
        -M 5\n\
        -v\n\
        -F %t %p\n";

    #[test]
    fn a_file_with_everything() {
        assert!(is(&ImportFile::new(None, "x", FILE.as_bytes())));
        let profile = one(FILE);
        assert_eq!(profile.url.as_deref(), Some("mqtts://broker.example:8883"));
        assert_eq!(profile.name, "broker.example");
        assert_eq!(profile.secrets["password"], "hunter2 with spaces ");
        assert_eq!(profile.secrets["proxy"], "socks5h://u:hunter3@proxy:1080");
        assert_eq!(
            Value::Object(profile.connection.clone()),
            json!({"client_id": "bench", "keep_alive": "30s", "clean_session": false, "will_topic": "gone",
                "will_payload": "bye bye", "will_qos": 2, "will_retain": true, "tls_min_version": "1.2",
                "tls_alpn": ["mqtt"], "protocol_version": "5.0",
                "username": "ann", "session_expiry": "4294967295s"})
        );
        assert_eq!(Value::Object(profile.subscribe.clone()), json!({"retain_handling": "new", "qos": [1]}));
        assert_eq!(Value::Object(profile.publish.clone()), json!({"qos": 1}));
        assert_eq!(profile.files.len(), 3);
        let notes = profile.notes.join("\n");
        for part in ["--insecure", "plant/#, alarms", "--ciphers HIGH", "-M 5", "-v", "-F %t %p"] {
            assert!(notes.contains(part), "{part}\n{notes}");
        }
        assert!(!notes.contains("hunter"), "{notes}");
    }

    #[test]
    fn what_mosquitto_would_connect_to() {
        for (text, url) in [
            ("-t x\n", "mqtt://localhost:1883"),
            ("-p 8883\n", "mqtts://localhost:8883"),
            ("-h h\n--tls-use-os-certs\n", "mqtts://h:1883"),
            ("-h h\n--cafile c\n--no-tls\n", "mqtt://h:1883"),
            ("-h ::1\n--ws\n-p 8080\n", "mqtt+ws://[::1]:8080/mqtt"),
            ("-L mqtts://u:p@h/a/b\n", "mqtts://h:8883"),
            ("-L ws://h:9001/t\n", "mqtt+ws://h:9001/mqtt"),
        ] {
            assert_eq!(one(text).url.as_deref(), Some(url), "{text}");
        }
        let profile = one("-L mqtt://ann:hunter2@h/a/b\n");
        assert_eq!(
            (&profile.connection["username"], &profile.secrets["password"]),
            (&"ann".into(), &"hunter2".into())
        );
        assert!(profile.notes[0].contains("a/b"));
        assert_eq!(one("-t x\n").connection["protocol_version"], "3.1.1");
    }

    #[test]
    fn options_of_another_version_are_named() {
        let profile = one("-R\n-x 60\n--retain-as-published\n-M 7\n-V 311\n");
        assert!(profile.subscribe.is_empty());
        assert_eq!(profile.connection["receive_maximum"], 7);
        let notes = profile.notes.join("\n");
        assert!(notes.contains("-R, -x 60 (of MQTT 5.0), --retain-as-published (of MQTT 5.0)"), "{notes}");
    }

    #[test]
    fn what_mosquitto_would_refuse_is_refused_without_its_content() {
        for (text, part) in [
            ("-h h\nhunter2\n", "line 2"),
            ("--hunter2 x\n", "line 1: this is no option"),
            ("-P\n", "line 1: -P has no value"),
            ("-v hunter2\n", "line 1: -v has a value"),
            ("-p hunter2\n", "line 1: -p: not a number"),
            ("-q 3\n", "-q: not a number up to 2"),
            ("-V hunter2\n", "none of 31"),
            ("-L hunter2\n", "not a URL"),
            ("-L mqtt://u:hunter2@h\n", "topic is missing"),
            ("--proxy http://u:hunter2@h\n", "socks5h"),
            ("--retain-handling hunter2\n", "none of always"),
            ("--tls-version hunter2\n", "no version of TLS"),
            ("-h a/hunter2\n", "host"),
            ("--unix /run/hunter2\n", "Unix socket"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn names_decide_where_lines_do_not() {
        let is = |name, text: &str| is(&ImportFile::new(None, name, text.as_bytes()));
        assert!(is("notes", "-h h\n-t x\n") && !is("notes", "-h h\nblah\n") && !is("notes", ""));
        assert!(is("mosquitto_sub", "-h h\nblah\n") && !is("mosquitto_sub", "blah\n"));
    }
}
