//! Which value wins: flag, then environment, then profile; the plugin's own default is left to the plugin.
//!
//! A user and password in a URL count as what they were written with: as flags when the URL was typed, as the profile's
//! when it came from there, but always after the option of that name. Everything is checked here, before anything is
//! opened, and secrets are resolved here and nowhere else.

use super::near::nearest;
use super::schema::{FileUse, Schema, Spec};
use super::secret::{Reference, file_error};
use crate::redact;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;
use zeroize::Zeroize;

/// The part of a URL before its host, percent-decoded.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    pub user: Option<String>,
    pub password: Option<String>,
}

/// Where values may come from.
#[derive(Default)]
pub struct Given<'a> {
    /// By property name, each text being one occurrence.
    pub flags: BTreeMap<String, Vec<String>>,
    /// Of the target's URL.
    pub credentials: Credentials,
    /// The profile's name and its table for this schema.
    pub profile: Option<(&'a str, &'a Map<String, Value>)>,
}

enum Origin<'a> {
    Flag,
    Url,
    Env(&'a str),
    /// `key` is the option's name, or the one it had before.
    Profile {
        name: &'a str,
        key: &'a str,
    },
}

enum Found {
    Texts(Vec<String>),
    Value(Value),
}

impl Origin<'_> {
    /// How an error calls the option.
    fn label(&self, spec: &Spec) -> String {
        match self {
            Origin::Flag => format!("--{}", spec.flag()),
            Origin::Url => format!("the URL's {}", if spec.name == "username" { "user" } else { "password" }),
            Origin::Env(variable) => format!("{variable} in the environment (--{})", spec.flag()),
            Origin::Profile { name, key } => format!("{key} in the profile {name}"),
        }
    }
}

/// The values to hand to the plugin. `warnings` gets what the user should know and what does not stop the command. The
/// error names option, value and what is allowed.
pub fn merge(
    schema: &Schema,
    given: &Given<'_>,
    warnings: &mut Vec<String>,
) -> Result<Map<String, Value>, String> {
    if let Some((name, table)) = given.profile {
        known(schema, name, table)?;
        for (old, new) in old_names(schema, table) {
            warnings.push(match table.contains_key(new) {
                true => format!("{old} in the profile {name} is not used: {new}, as it is called now, stands there too"),
                false => format!(
                    "{old} in the profile {name} is called {new} now; `tracemq profile set {name}` writes the new name"
                ),
            });
        }
    }
    let mut merged = Map::new();
    for spec in &schema.specs {
        let Some((origin, found)) = find(spec, given)? else {
            if spec.required {
                return Err(format!("--{} is missing ({})", spec.flag(), spec.allowed()));
            }
            continue;
        };
        let value =
            take(spec, &origin, found, warnings).map_err(|why| format!("{}: {why}", origin.label(spec)))?;
        let texts = value.as_array().map_or(std::slice::from_ref(&value), Vec::as_slice);
        for text in texts.iter().filter_map(Value::as_str) {
            spec.check_file(text).map_err(|why| format!("{}: {why}", origin.label(spec)))?;
        }
        merged.insert(spec.name.clone(), value);
    }
    Ok(merged)
}

/// The keys of a table that are names of earlier versions, each with today's.
pub fn old_names<'a>(schema: &'a Schema, table: &'a Map<String, Value>) -> Vec<(&'a str, &'a str)> {
    let renamed = table.keys().filter_map(|key| Some((key.as_str(), schema.renamed(key)?.name.as_str())));
    renamed.collect()
}

/// Refuses what no option of the schema is called, or was called. `profile` is for the error.
pub fn known(schema: &Schema, profile: &str, table: &Map<String, Value>) -> Result<(), String> {
    let names = || schema.specs.iter().map(|spec| spec.name.as_str());
    match table.keys().find(|key| schema.get(key).or_else(|| schema.renamed(key)).is_none()) {
        None => Ok(()),
        Some(key) if schema.gone(key).is_some() => {
            let hint = schema.gone(key).unwrap_or_default();
            Err(format!("{key} in the profile {profile} is no option of this protocol any more: {hint}"))
        }
        Some(key) => {
            let hint = match nearest(key, names()) {
                Some(name) => format!("did you mean {name}?"),
                None => format!("known are {}", names().collect::<Vec<_>>().join(", ")),
            };
            Err(format!("{key} in the profile {profile} is no option of this protocol: {hint}"))
        }
    }
}

/// The first place in which a value stands.
fn find<'a>(spec: &'a Spec, given: &Given<'a>) -> Result<Option<(Origin<'a>, Found)>, String> {
    if let Some(texts) = given.flags.get(&spec.name) {
        return Ok(Some((Origin::Flag, Found::Texts(texts.clone()))));
    }
    let of_url = match spec.name.as_str() {
        "username" => given.credentials.user.clone(),
        "password" => given.credentials.password.clone(),
        _ => None,
    };
    let typed = given.profile.is_none();
    if typed && let Some(text) = of_url {
        return Ok(Some((Origin::Url, Found::Texts(vec![text]))));
    }
    for variable in &spec.env {
        match std::env::var(variable) {
            Ok(text) if text.is_empty() => {}
            Ok(text) if spec.repeats() => {
                let items = text.split(',').map(|item| item.trim().to_owned()).collect();
                return Ok(Some((Origin::Env(variable), Found::Texts(items))));
            }
            Ok(text) => return Ok(Some((Origin::Env(variable), Found::Texts(vec![text])))),
            Err(std::env::VarError::NotPresent) => {}
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(format!("{}: not UTF-8 text", Origin::Env(variable).label(spec)));
            }
        }
    }
    if let Some((name, table)) = given.profile
        && let Some((key, value)) = spec.names().find_map(|key| Some((key, table.get(key)?)))
    {
        return Ok(Some((Origin::Profile { name, key }, Found::Value(value.clone()))));
    }
    Ok(of_url.map(|text| (Origin::Url, Found::Texts(vec![text]))))
}

fn take(spec: &Spec, origin: &Origin<'_>, found: Found, warnings: &mut Vec<String>) -> Result<Value, String> {
    let mut literal = false;
    let value = match found {
        // What stood in the URL is not looked through for references: the URL itself was one, or was warned about.
        Found::Texts(texts) if !spec.secret || matches!(origin, Origin::Url) => spec.read(&texts)?,
        Found::Texts(texts) => {
            let resolved: Result<Vec<_>, _> =
                texts.iter().map(|text| resolved(spec, text, &mut literal)).collect();
            let mut resolved = resolved?;
            let value = spec.read(&resolved);
            resolved.zeroize();
            value?
        }
        Found::Value(value) if !spec.secret => spec.check(&value)?,
        Found::Value(value) => {
            let value = resolved_value(spec, &value, &mut literal)?;
            if let (true, Origin::Profile { name, .. }) = (literal, origin) {
                return Err(spec.in_clear(name));
            }
            spec.check(&value)?
        }
    };
    if literal && matches!(origin, Origin::Flag) {
        warnings.push(format!(
            "--{} stands in clear on the command line, where ps shows it to everybody; vault:NAME, env:NAME or file:PATH in \
             its place would not",
            spec.flag()
        ));
    }
    Ok(value)
}

/// A text with its reference replaced by the secret. `literal` becomes true if it was the secret itself.
fn resolved(spec: &Spec, text: &str, literal: &mut bool) -> Result<String, String> {
    let resolve = |reference: Reference| match spec.is_url() {
        true => reference.resolve_url(),
        false => reference.resolve(),
    };
    if let Some(reference) = Reference::parse(text) {
        return Ok(resolve(reference)?.reveal());
    }
    let pair = if spec.has_pairs() { text.split_once('=') } else { None };
    if let Some((name, value)) = pair
        && let Some(reference) = Reference::parse(value)
    {
        return Ok(format!("{name}={}", &*resolve(reference)?));
    }
    if !spec.is_url() {
        redact::register(text);
        pair.iter().for_each(|(_, value)| redact::register(value));
    }
    // A connection string has parts too.
    redact::register_url(text);
    *literal |= spec.is_literal_secret(text);
    Ok(text.to_owned())
}

fn resolved_value(spec: &Spec, value: &Value, literal: &mut bool) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => Value::String(resolved(spec, text, literal)?),
        Value::Array(items) => {
            items.iter().map(|item| resolved_value(spec, item, literal)).collect::<Result<_, String>>()?
        }
        Value::Object(map) => {
            let entries =
                map.iter().map(|(name, value)| Ok((name.clone(), resolved_value(spec, value, literal)?)));
            Value::Object(entries.collect::<Result<_, String>>()?)
        }
        other => {
            *literal = true;
            other.clone()
        }
    })
}

impl Spec {
    /// What the option is called in files, first today's name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.renamed_from).map(String::as_str)
    }

    /// Checks a value as it stands in a profile, without resolving what it refers to. The error is the part after the
    /// option's name.
    pub fn check_saved(&self, profile: &str, value: &Value) -> Result<(), String> {
        let mut references = false;
        if self.secret && !self.holds_no_literal(value, &mut references) {
            return Err(self.in_clear(profile));
        }
        // What a reference will bring is not known yet.
        if references { Ok(()) } else { self.check(value).map(drop) }
    }

    fn holds_no_literal(&self, value: &Value, references: &mut bool) -> bool {
        match value {
            Value::String(text) => {
                let part = if self.has_pairs() { text.split_once('=') } else { None };
                let reference = part.and_then(|(_, part)| Reference::parse(part));
                *references |= Reference::parse(text).or(reference).is_some();
                !self.is_literal_secret(text)
            }
            Value::Array(items) => items.iter().all(|item| self.holds_no_literal(item, references)),
            Value::Object(map) => map.values().all(|item| self.holds_no_literal(item, references)),
            _ => false,
        }
    }

    /// Why a secret in a profile is refused, and the command that keeps it elsewhere.
    fn in_clear(&self, profile: &str) -> String {
        let (key, secret) = (&self.name, self.vault_name(profile));
        format!(
            "a secret must not stand in a profile in clear: `tracemq secret set {secret}` keeps it in the vault, and \
             {key} = \"vault:{secret}\" in the profile refers to it (env:NAME and file:PATH do as well)"
        )
    }

    /// What the secret of a profile is called in the vault, unless the user calls it otherwise.
    pub fn vault_name(&self, profile: &str) -> String {
        format!("{profile}-{}", self.flag())
    }

    /// Whether a file that is to be read can be. A pipe is not opened: that would consume it.
    pub fn check_file(&self, path: &str) -> Result<(), String> {
        if self.file != Some(FileUse::Read) {
            return Ok(());
        }
        let file = Path::new(path);
        let facts = file.metadata();
        let opened = facts
            .and_then(|facts| if facts.is_file() { std::fs::File::open(file).map(drop) } else { Ok(()) });
        opened.map_err(|error| {
            format!("{}: {}", if path.is_empty() { "an empty path" } else { path }, file_error(&error))
        })
    }

    /// Whether a text given for a secret option is the secret itself. Of a URL only user and password are secret.
    pub fn is_literal_secret(&self, text: &str) -> bool {
        let value =
            if self.has_pairs() { text.split_once('=').map_or(text, |(_, value)| value) } else { text };
        let harmless = self.is_url() && !text.contains('@');
        self.secret
            && !value.is_empty()
            && !harmless
            && Reference::parse(text).or(Reference::parse(value)).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        Schema::parse(&json!({"properties": {
            "username": {"type": ["string", "null"]},
            "password": {"type": ["string", "null"], "x-secret": true},
            "qos": {"type": "integer", "minimum": 0, "maximum": 2, "default": 0},
            "home": {"type": "string", "x-env": ["TRACEMQ_TEST_UNSET", "PATH"]},
            "proxy": {"type": "string", "x-secret": true, "x-type": "url"},
            "server": {"type": "array", "items": {"type": "string"}, "x-secret": true, "x-type": "url"},
            "user": {"type": "object", "additionalProperties": {"type": "string"}, "x-secret": true},
            "tls_ca": {"type": "string", "x-file": "read"},
        }}))
        .unwrap()
    }

    fn flags(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
        pairs.iter().map(|&(name, text)| (name.to_owned(), vec![text.to_owned()])).collect()
    }

    fn outcome(given: &Given<'_>) -> (Result<Map<String, Value>, String>, Vec<String>) {
        let mut warnings = Vec::new();
        (merge(&schema(), given, &mut warnings), warnings)
    }

    #[test]
    fn flags_win_over_environment_over_profile_and_defaults_stay_out() {
        let table = json!({"qos": 1, "home": "profile"});
        let profile = Some(("p", table.as_object().unwrap()));
        let (merged, _) = outcome(&Given { profile, ..Given::default() });
        assert_eq!(merged.as_ref().unwrap()["qos"], 1);
        assert_eq!(merged.unwrap()["home"], std::env::var("PATH").unwrap());
        let given = Given { flags: flags(&[("qos", "2"), ("home", "flag")]), profile, ..Given::default() };
        let merged = outcome(&given).0.unwrap();
        assert_eq!((&merged["qos"], &merged["home"]), (&json!(2), &json!("flag")));
        assert!(!outcome(&Given::default()).0.unwrap().contains_key("qos"));
    }

    #[test]
    fn credentials_of_the_url_give_way_to_flags() {
        let credentials = Credentials { user: Some("ann".into()), password: Some("from-url".into()) };
        let given = Given { flags: flags(&[("username", "bob")]), credentials, ..Given::default() };
        let merged = outcome(&given).0.unwrap();
        assert_eq!((&merged["username"], &merged["password"]), (&json!("bob"), &json!("from-url")));
    }

    #[test]
    fn a_secret_on_the_command_line_is_warned_about_and_a_reference_is_not() {
        let (merged, warnings) =
            outcome(&Given { flags: flags(&[("password", "hunter2")]), ..Given::default() });
        assert_eq!(merged.unwrap()["password"], "hunter2");
        assert!(warnings[0].contains("--password") && !warnings[0].contains("hunter2"), "{warnings:?}");
        let references = flags(&[
            ("password", "env:PATH"),
            ("user", "ann=env:PATH"),
            ("proxy", "socks5://h:1"),
            ("server", "x://h/?a=b"),
        ]);
        let (merged, warnings) = outcome(&Given { flags: references, ..Given::default() });
        let (merged, path) = (merged.unwrap(), std::env::var("PATH").unwrap());
        assert_eq!((&merged["password"], &merged["user"]), (&json!(path), &json!({"ann": path})));
        assert_eq!(warnings, Vec::<String>::new());
    }

    #[test]
    fn a_secret_in_clear_in_a_profile_is_refused() {
        for table in [
            json!({"password": "hunter2"}),
            json!({"user": {"ann": "hunter2"}}),
            json!({"proxy": "http://a:hunter2@h"}),
        ] {
            let profile = Some(("p", table.as_object().unwrap()));
            let error = outcome(&Given { profile, ..Given::default() }).0.unwrap_err();
            assert!(error.contains("in the profile p") && error.contains("env:NAME"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let table = json!({"password": "env:PATH", "proxy": "http://h:1", "user": {"ann": "env:PATH"}});
        let profile = Some(("p", table.as_object().unwrap()));
        assert!(outcome(&Given { profile, ..Given::default() }).0.is_ok());
    }

    #[test]
    fn a_profile_of_an_earlier_version_is_read_and_what_changed_is_named() {
        let schema = Schema::parse(&json!({
            "properties": {"new": {"type": "integer", "x-renamed-from": ["older", "old"]}},
            "x-removed": {"away": "new does the same"},
        }))
        .unwrap();
        let outcome = |table: Value| {
            let (mut warnings, profile) = (Vec::new(), Some(("p", table.as_object().unwrap())));
            (merge(&schema, &Given { profile, ..Given::default() }, &mut warnings), warnings)
        };
        let (merged, warnings) = outcome(json!({"old": 5}));
        assert_eq!(Value::Object(merged.unwrap()), json!({"new": 5}));
        assert_eq!(
            warnings,
            ["old in the profile p is called new now; `tracemq profile set p` writes the new name"]
        );
        let (merged, warnings) = outcome(json!({"old": 5, "new": 6}));
        assert_eq!(Value::Object(merged.unwrap()), json!({"new": 6}));
        assert!(warnings[0].starts_with("old in the profile p is not used"), "{warnings:?}");
        assert_eq!(
            outcome(json!({"old": "x"})).0.unwrap_err(),
            "old in the profile p: x is not allowed (a whole number)"
        );
        assert_eq!(
            outcome(json!({"away": 1})).0.unwrap_err(),
            "away in the profile p is no option of this protocol any more: new does the same"
        );
    }

    #[test]
    fn what_is_saved_is_checked_without_its_secrets() {
        let schema = schema();
        let check = |name: &str, value: Value| schema.get(name).unwrap().check_saved("p", &value);
        assert_eq!(check("password", json!("env:TRACEMQ_TEST_UNSET")), Ok(()));
        assert_eq!(check("user", json!({"ann": "vault:x"})), Ok(()));
        assert_eq!(check("proxy", json!("socks5://h:1")), Ok(()));
        assert_eq!(check("qos", json!(7)), Err("7 is not allowed (0, 1 or 2)".into()));
        for (name, value) in
            [("password", json!("hunter2")), ("password", json!(5)), ("user", json!({"a": "hunter2"}))]
        {
            let error = check(name, value).unwrap_err();
            assert!(error.contains(&format!("tracemq secret set p-{name}")), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn errors_name_option_and_place() {
        let error = |given: &Given<'_>| outcome(given).0.unwrap_err();
        let one = |name, text| Given { flags: flags(&[(name, text)]), ..Given::default() };
        assert_eq!(error(&one("qos", "7")), "--qos: 7 is not allowed (0, 1 or 2)");
        assert_eq!(error(&one("tls_ca", "/nope/ca.pem")), "--tls-ca: /nope/ca.pem: no such file");
        assert_eq!(
            error(&one("password", "env:TRACEMQ_TEST_UNSET")),
            "--password: env:TRACEMQ_TEST_UNSET: the environment variable TRACEMQ_TEST_UNSET is not set"
        );
        let table = json!({"qso": 1});
        let profile = Some(("p", table.as_object().unwrap()));
        assert_eq!(
            error(&Given { profile, ..Given::default() }),
            "qso in the profile p is no option of this protocol: did you mean qos?"
        );
        let required =
            Schema::parse(&json!({"required": ["hub"], "properties": {"hub": {"type": "string"}}})).unwrap();
        assert_eq!(merge(&required, &Given::default(), &mut vec![]), Err("--hub is missing (a text)".into()));
    }
}
