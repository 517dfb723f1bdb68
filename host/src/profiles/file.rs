//! One profile as it stands in its file.

use super::mark::{Color, check_group};
use crate::failure::{Exit, Failure};
use serde_json::{Map, Value};
use std::path::Path;

/// More than any profile needs: a wrong file is not read into memory.
const LARGEST: u64 = 256 * 1024;

/// A table of options: `[connection]`, `[publish]`, `[subscribe]`, `[serve]`.
pub type Table = Map<String, Value>;

/// What the host refuses to do with a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Neither publish nor request.
    ReadOnly,
}

/// A profile, not yet checked against its plugin's schema.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    pub name: String,
    /// The protocol's name; when it is missing, the URL's scheme decides.
    pub protocol: Option<String>,
    /// A URL, or a reference to one. Missing in a profile that only serves.
    pub url: Option<String>,
    pub guard: Option<Guard>,
    /// What it is listed under: profiles that belong together.
    pub group: Option<String>,
    pub color: Option<Color>,
    pub connection: Table,
    pub publish: Table,
    pub subscribe: Table,
    pub serve: Table,
}

impl Guard {
    pub fn name(self) -> &'static str {
        match self {
            Guard::ReadOnly => "read-only",
        }
    }
}

impl Profile {
    /// Reads the file; `None` when it isn't there.
    pub fn read(name: &str, path: &Path) -> Result<Option<Profile>, Failure> {
        let Some(text) = text(name, path)? else { return Ok(None) };
        Profile::parse(name, &text).map(Some).map_err(|why| failed(name, path, &why))
    }

    /// Reads the content of a file. The error never repeats a line, for there may be a secret in it.
    pub fn parse(name: &str, text: &str) -> Result<Profile, String> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let before = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count();
            let line = error.span().map_or(1, |span| before(span.start) + 1);
            format!("line {line}: {}", error.message())
        })?;
        let mut profile = Profile { name: name.to_owned(), ..Profile::default() };
        for (key, value) in table {
            match (key.as_str(), value) {
                ("protocol", toml::Value::String(text)) => profile.protocol = Some(text),
                ("url", toml::Value::String(text)) => profile.url = Some(text),
                ("guard", toml::Value::String(text)) if text == Guard::ReadOnly.name() => {
                    profile.guard = Some(Guard::ReadOnly);
                }
                ("guard", _) => return Err("guard can only be \"read-only\"".into()),
                ("group", toml::Value::String(text)) => {
                    check_group(&text)?;
                    profile.group = Some(text);
                }
                ("color", toml::Value::String(text)) => profile.color = Some(text.parse()?),
                ("protocol" | "url" | "group" | "color", _) => {
                    return Err(format!("{key} must be a text in quotes"));
                }
                ("connection", toml::Value::Table(table)) => profile.connection = json_table(table),
                ("publish", toml::Value::Table(table)) => profile.publish = json_table(table),
                ("subscribe", toml::Value::Table(table)) => profile.subscribe = json_table(table),
                ("serve", toml::Value::Table(table)) => profile.serve = json_table(table),
                _ => {
                    return Err(format!(
                        "{key:?} is not known there: a profile has protocol, url, guard, group, color and the tables \
                         [connection], [publish], [subscribe], [serve]"
                    ));
                }
            }
        }
        if profile.url.is_none() && profile.protocol.is_none() {
            return Err("it has neither url nor protocol".into());
        }
        Ok(profile)
    }

    /// The content of its file.
    pub fn to_toml(&self) -> String {
        let mut table = toml::Table::new();
        let texts = [
            ("protocol", self.protocol.clone()),
            ("url", self.url.clone()),
            ("guard", self.guard.map(|guard| guard.name().to_owned())),
            ("group", self.group.clone()),
            ("color", self.color.map(|color| color.name().to_owned())),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                table.insert(key.into(), toml::Value::String(text));
            }
        }
        let tables = [
            ("connection", &self.connection),
            ("publish", &self.publish),
            ("subscribe", &self.subscribe),
            ("serve", &self.serve),
        ];
        for (key, options) in tables.into_iter().filter(|(_, options)| !options.is_empty()) {
            let options = options.iter().filter_map(|(name, value)| Some((name.clone(), toml_value(value)?)));
            table.insert(key.into(), toml::Value::Table(options.collect()));
        }
        table.to_string()
    }
}

/// The content of a profile's file; `None` when it isn't there.
pub fn text(name: &str, path: &Path) -> Result<Option<String>, Failure> {
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(name, path, &error)),
    };
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(failed(name, path, "not a file of a profile's size"));
    }
    std::fs::read_to_string(path).map(Some).map_err(|error| unreadable(name, path, &error))
}

fn unreadable(name: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("profile {name} ({}): {error}", path.display()))
}

fn failed(name: &str, path: &Path, why: &str) -> Failure {
    Failure::usage(format!("profile {name} ({}): {why}", path.display()))
}

fn json_table(table: toml::Table) -> Table {
    table.into_iter().map(|(name, value)| (name, json_value(value))).collect()
}

fn json_value(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(json_value).collect(),
        toml::Value::Table(table) => Value::Object(json_table(table)),
    }
}

/// `None` for null, which TOML leaves out, and for numbers beyond its 64 bits.
fn toml_value(value: &Value) -> Option<toml::Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => match number.as_i64() {
            Some(number) => number.into(),
            // A number too large for TOML is read back from its text.
            None if number.is_u64() => number.to_string().into(),
            None => number.as_f64()?.into(),
        },
        Value::String(text) => text.clone().into(),
        Value::Array(items) => items.iter().filter_map(toml_value).collect::<Vec<_>>().into(),
        Value::Object(map) => toml::Value::Table(
            map.iter().filter_map(|(name, value)| Some((name.clone(), toml_value(value)?))).collect(),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_profile_is_read_back_as_it_was_written() {
        let profile = Profile {
            name: "p".into(),
            protocol: Some("demo".into()),
            url: Some("demo://h".into()),
            guard: Some(Guard::ReadOnly),
            group: Some("plant 2".into()),
            color: "bright-red".parse().ok(),
            connection: json!({"password": "env:P", "user_property": {"a": "1"}})
                .as_object()
                .unwrap()
                .clone(),
            publish: json!({"qos": 1, "retain": true, "ratio": 0.5}).as_object().unwrap().clone(),
            subscribe: json!({"filter": ["a", "b"]}).as_object().unwrap().clone(),
            ..Profile::default()
        };
        let text = profile.to_toml();
        assert!(
            text.starts_with(
                "protocol = \"demo\"\nurl = \"demo://h\"\nguard = \"read-only\"\ngroup = \"plant 2\"\n"
            ),
            "{text}"
        );
        assert_eq!(Profile::parse("p", &text), Ok(profile));
    }

    #[test]
    fn what_is_wrong_is_named_and_no_value_is_repeated() {
        for (text, part) in [
            ("url = \"x://h\"\n[connection]\npassword = hunter2\n", "line 3"),
            ("url = 5", "url must be a text"),
            ("url = \"x://h\"\nguard = \"hunter2\"", "guard can only be"),
            ("url = \"x://h\"\n[connexion]\npassword = \"hunter2\"", "\"connexion\" is not known"),
            ("[connection]\n", "neither url nor protocol"),
            ("url = \"x://h\"\ncolor = \"mauve\"", "is no colour"),
            ("url = \"x://h\"\ngroup = \"\"", "a group"),
            ("url = \"x://h\"\ngroup = 5", "group must be a text"),
        ] {
            let error = Profile::parse("p", text).unwrap_err();
            assert!(error.contains(part) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn numbers_larger_than_tomls_survive() {
        let value = toml_value(&json!(u64::MAX)).unwrap();
        assert_eq!(value.as_str(), Some("18446744073709551615"));
    }
}
