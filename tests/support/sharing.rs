//! What tests of exports and imports share: profiles with every option of a protocol, secrets in all their forms, and exports
//! that somebody made by hand.

use crate::certificates::Certificates;
use crate::installation::Tracemq;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use toml::Table;

/// The five that come with the program.
pub const PROTOCOLS: [&str; 5] = ["mqtt", "nats", "websocket", "coap", "eventhubs"];

/// A profile that sets every option of a plugin's connection, publish, subscribe and serve schemas.
pub struct Everything {
    /// The content of its file.
    pub text: String,
    /// Variables that its references name.
    pub variables: Vec<(String, String)>,
    /// Each secret, as it must be found nowhere.
    pub secrets: Vec<String>,
    /// What an export leaves out, as it is listed: `password`, `serve.user.ann`.
    pub left_out: BTreeSet<String>,
    /// Of these, what is a file.
    pub files: BTreeSet<String>,
    /// Of these, what is written to.
    pub paths: BTreeSet<String>,
}

/// What `plugin info` tells of a plugin's options.
pub fn schemas(tracemq: &Tracemq, protocol: &str) -> Value {
    let done = tracemq.cmd(["plugin", "info", protocol, "--json"]).finish().expect(0);
    let info: Value = serde_json::from_str(&done.text()).expect("JSON");
    info["schemas"].clone()
}

/// `certificates` are named where a CA or certificate is wanted, and its key everywhere else.
pub fn everything(schemas: &Value, protocol: &str, url: &str, certificates: &Certificates) -> Everything {
    let mut all = Everything {
        text: String::new(),
        variables: Vec::new(),
        secrets: Vec::new(),
        left_out: BTreeSet::new(),
        files: BTreeSet::new(),
        paths: BTreeSet::new(),
    };
    let mut profile = Table::new();
    profile.insert("protocol".into(), protocol.into());
    profile.insert("url".into(), url.into());
    for table in ["connection", "publish", "subscribe", "serve"] {
        let mut options = Table::new();
        for (name, property) in schemas[table]["properties"].as_object().into_iter().flatten() {
            let place = if table == "connection" { name.clone() } else { format!("{table}.{name}") };
            if let Some(value) = all.value(&place, name, property, certificates) {
                options.insert(name.clone(), value);
            }
        }
        profile.insert(table.into(), toml::Value::Table(options));
    }
    all.text = profile.to_string();
    all
}

impl Everything {
    fn value(
        &mut self,
        place: &str,
        name: &str,
        property: &Value,
        certificates: &Certificates,
    ) -> Option<toml::Value> {
        let shape = shape(property);
        let special = property["x-type"].as_str().unwrap_or_default();
        if property["x-secret"] == true {
            let number = self.secrets.len();
            let variable = format!("SECRET_{number}");
            let secret = format!("s3cret+/{number}=?{place}!");
            let text = match special {
                "url" => format!(
                    "http://ann:{}@proxy.example:8080",
                    secret.replace('/', "%2F").replace('?', "%3F")
                ),
                _ => secret.clone(),
            };
            self.secrets.push(secret);
            self.variables.push((variable.clone(), text));
            let reference = format!("env:{variable}");
            return Some(match (shape, special) {
                ("array", "pair") => {
                    self.left_out.insert(format!("{place}.ann"));
                    vec![format!("ann={reference}")].into()
                }
                ("object", _) => {
                    self.left_out.insert(format!("{place}.ann"));
                    let mut pairs = Table::new();
                    pairs.insert("ann".into(), reference.into());
                    toml::Value::Table(pairs)
                }
                ("array", _) => {
                    self.left_out.insert(format!("{place}.1"));
                    vec![reference].into()
                }
                _ => {
                    self.left_out.insert(place.to_owned());
                    reference.into()
                }
            });
        }
        match property["x-file"].as_str() {
            Some("read") => {
                let path = match name {
                    "tls_ca" => &certificates.ca,
                    "tls_cert" => &certificates.client.cert,
                    _ => {
                        self.left_out.insert(place.to_owned());
                        self.files.insert(place.to_owned());
                        &certificates.client.key
                    }
                };
                return Some(path.to_string_lossy().into_owned().into());
            }
            Some(_) => {
                self.left_out.insert(place.to_owned());
                self.paths.insert(place.to_owned());
                return Some("/var/lib/somewhere".into());
            }
            None => {}
        }
        sample(property, shape, special)
    }
}

fn shape(property: &Value) -> &str {
    let of = |value: &'_ Value| -> Option<String> { value.as_str().map(str::to_owned) };
    match &property["type"] {
        Value::String(name) => name,
        Value::Array(names) => {
            let real = names.iter().find(|name| of(name).is_some_and(|name| name != "null"));
            real.and_then(Value::as_str).unwrap_or_default()
        }
        _ => "choice",
    }
}

/// A value that the schema takes, other than the default where that is easy.
fn sample(property: &Value, shape: &str, special: &str) -> Option<toml::Value> {
    let choice = choices(property);
    if let Some(last) = choice.last() {
        return Some(plain(last));
    }
    Some(match (shape, special) {
        (_, "duration") => "7s".into(),
        (_, "size") => return None,
        ("string", "pair") => "k=v w".into(),
        ("string", _) => "tëxt \"with\" 'quotes'".into(),
        ("boolean", _) => true.into(),
        ("integer" | "number", _) => property["minimum"].as_i64().unwrap_or(0).max(1).into(),
        ("array", "pair") => vec!["k=v".to_owned(), "k=w".to_owned()].into(),
        ("array", _) => match sample(&property["items"], self::shape(&property["items"]), "") {
            Some(item) => toml::Value::Array(vec![item]),
            None => return None,
        },
        ("object", _) => {
            let mut pairs = Table::new();
            pairs.insert("k".into(), "v".into());
            toml::Value::Table(pairs)
        }
        _ => return None,
    })
}

fn choices(property: &Value) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    found.extend(property["enum"].as_array().into_iter().flatten().cloned());
    found.extend(property.get("const").cloned());
    for key in ["anyOf", "oneOf"] {
        property[key].as_array().into_iter().flatten().for_each(|of| found.extend(choices(of)));
    }
    found.retain(|value| !value.is_null());
    found
}

fn plain(value: &Value) -> toml::Value {
    match value {
        Value::String(text) => text.clone().into(),
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => number.as_i64().unwrap_or_default().into(),
        _ => "".into(),
    }
}

/// A profile as it is saved.
pub fn stored_profile(tracemq: &Tracemq, name: &str) -> Table {
    let path = tracemq.home().join(format!("profiles/{name}.toml"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Panics if a secret stands in the bytes: as it is, percent-encoded, in base64 with whatever may stand before it, in hex.
#[track_caller]
pub fn assert_hidden(secret: &str, bytes: &[u8], place: &str) {
    let mut forms: Vec<Vec<u8>> = vec![
        secret.into(),
        percent(secret).into_bytes(),
        secret.bytes().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes(),
    ];
    for before in 0..3_usize {
        let padded = [&vec![0; before], secret.as_bytes()].concat();
        let (first, last) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
        for text in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            forms.push(text[first..last].into());
        }
    }
    for form in forms {
        let found = bytes.windows(form.len()).any(|window| window == form);
        assert!(!found, "{secret:?} stands in {place} as {:?}", String::from_utf8_lossy(&form));
    }
}

fn percent(text: &str) -> String {
    let letter = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(letter).collect()
}

/// Looks for secrets in all files below a folder, except the encrypted vault, what opens it, and the libraries.
#[track_caller]
pub fn assert_hidden_below(secrets: &[String], folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder that can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            assert_hidden_below(secrets, &path);
            continue;
        }
        let name = entry.file_name();
        if ["vault.age", "identity.txt"].iter().any(|known| name == *known)
            || path.extension().is_some_and(|end| end == "so")
        {
            continue;
        }
        let content = std::fs::read(&path).expect("a file that can be read");
        secrets.iter().for_each(|secret| assert_hidden(secret, &content, &path.display().to_string()));
    }
}

/// An export whose profile somebody wrote by hand, with the right checksum: a checksum is no signature.
pub fn forged(profile: &str) -> String {
    let table: Table = format!("format = 1\n{profile}").parse().expect("TOML");
    let mut bytes = Vec::new();
    feed(&toml::Value::Table(table.clone()), &mut bytes);
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    let sum: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut whole = Table::new();
    whole.insert("sha256".into(), sum.into());
    whole.extend(table);
    whole.to_string()
}

fn feed(value: &toml::Value, out: &mut Vec<u8>) {
    let mut long = |letter: u8, length: usize| {
        out.push(letter);
        out.extend((length as u64).to_be_bytes());
    };
    match value {
        toml::Value::String(text) => {
            long(b's', text.len());
            out.extend(text.as_bytes());
        }
        toml::Value::Boolean(flag) => out.extend([b'b', u8::from(*flag)]),
        toml::Value::Integer(number) => {
            out.push(b'i');
            out.extend(number.to_be_bytes());
        }
        toml::Value::Array(items) => {
            long(b'a', items.len());
            items.iter().for_each(|item| feed(item, out));
        }
        toml::Value::Table(table) => {
            long(b't', table.len());
            let keys: BTreeSet<&String> = table.keys().collect();
            for key in keys {
                feed(&toml::Value::String(key.clone()), out);
                feed(&table[key], out);
            }
        }
        other => panic!("no test has a {} in an export", other.type_str()),
    }
}
