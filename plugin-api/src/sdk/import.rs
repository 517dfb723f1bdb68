//! Files of other programs: what [`Protocol::import`](super::Protocol::import) is given, and what it makes of them.
//!
//! A plugin only translates. It opens no file and keeps no secret: the host reads, shows the user what would be written,
//! asks, and puts secrets into the vault. What can't be carried over is named in a note, so that nothing is lost in silence:
//! [`Fields`] takes a JSON object apart and tells at the end what nobody has asked for.

use super::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// A kind of file that a plugin reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportFormat {
    /// Its name on the command line: lower-case letters, digits and hyphens.
    pub id: String,
    /// What a user calls it.
    pub title: String,
    #[serde(default)]
    pub title_fr: String,
    /// Where such files usually are. `~` is the home, and `*` stands for any name.
    #[serde(default)]
    pub files: Vec<String>,
}

impl ImportFormat {
    pub fn new(id: &str, title: &str, title_fr: &str) -> ImportFormat {
        ImportFormat {
            id: id.to_owned(),
            title: title.to_owned(),
            title_fr: title_fr.to_owned(),
            files: Vec::new(),
        }
    }

    /// A place where such files usually are.
    pub fn file(mut self, name: &str) -> ImportFormat {
        self.files.push(name.to_owned());
        self
    }
}

/// A file of another program. No `Debug`: there may be secrets in it.
#[derive(Clone, Copy)]
pub struct ImportFile<'a> {
    format: Option<&'a str>,
    name: &'a str,
    content: &'a [u8],
}

impl<'a> ImportFile<'a> {
    pub fn new(format: Option<&'a str>, name: &'a str, content: &'a [u8]) -> ImportFile<'a> {
        ImportFile { format, name, content }
    }

    /// The format that the user has named; `None`: it is to be recognised.
    pub fn format(&self) -> Option<&'a str> {
        self.format
    }

    /// Whether the file is to be read as this format, or may be.
    pub fn may_be(&self, format: &str) -> bool {
        self.format.is_none_or(|named| named == format)
    }

    /// The file's name without its folder; empty when it came from elsewhere.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The file's name without its folder and without what follows the last dot.
    pub fn stem(&self) -> &'a str {
        match self.name.rsplit_once('.') {
            Some((stem, _)) if !stem.is_empty() => stem,
            _ => self.name,
        }
    }

    pub fn content(&self) -> &'a [u8] {
        self.content
    }

    /// # Errors
    /// It is not UTF-8.
    pub fn text(&self) -> Result<&'a str> {
        let content = self.content.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(self.content);
        std::str::from_utf8(content).map_err(|_| Error::config("the file is not UTF-8 text"))
    }

    /// # Errors
    /// It is not JSON; the place is named, nothing is repeated.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(self.text()?).map_err(|error| {
            Error::config(format!("the file is not JSON: line {}, column {}", error.line(), error.column()))
        })
    }
}

/// What came of a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Import {
    /// The id of the format that it turned out to have.
    pub format: String,
    pub profiles: Vec<ImportedProfile>,
    /// What in the file is part of no profile and was left alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Import {
    pub fn new(format: &str) -> Import {
        Import { format: format.to_owned(), ..Import::default() }
    }
}

/// A profile as it was found. Values are what the plugin's schemas take; the host checks them.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImportedProfile {
    /// What the other program calls it; the host makes a profile's name of it.
    pub name: String,
    /// Without user and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The group that it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub connection: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub publish: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub subscribe: Map<String, Value>,
    /// Secrets of the connection by property: the host puts them into the vault at once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// Files of the connection by property.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, ImportedFile>,
    /// What could not be carried over, a line each, and nothing of a secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A certificate, key or other file that an option names.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImportedFile {
    /// It is the user's, and stays where it is.
    Path(String),
    /// It stood in the file, as text such as PEM.
    Text(String),
    /// It stood in the file, in base64.
    Base64(String),
}

impl fmt::Debug for ImportedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportedFile::Path(path) => write!(f, "Path({path:?})"),
            ImportedFile::Text(_) => f.write_str("Text(***)"),
            ImportedFile::Base64(_) => f.write_str("Base64(***)"),
        }
    }
}

impl fmt::Debug for ImportedProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImportedProfile")
            .field("name", &self.name)
            .field("secrets", &self.secrets.keys().collect::<Vec<_>>())
            .field("files", &self.files)
            .field("notes", &self.notes)
            .finish_non_exhaustive()
    }
}

impl ImportedProfile {
    pub fn new(name: impl Into<String>) -> ImportedProfile {
        ImportedProfile { name: name.into(), ..ImportedProfile::default() }
    }

    /// Sets an option of the connection, if there is a value.
    pub fn set<T: Into<Value>>(&mut self, property: &str, value: Option<T>) {
        if let Some(value) = value {
            self.connection.insert(property.to_owned(), value.into());
        }
    }

    /// Sets a secret of the connection, if there is one.
    pub fn secret(&mut self, property: &str, secret: Option<String>) {
        self.secrets.extend(secret.map(|secret| (property.to_owned(), secret)));
    }

    /// Sets a file of the connection, if there is one.
    pub fn file(&mut self, property: &str, file: Option<ImportedFile>) {
        self.files.extend(file.map(|file| (property.to_owned(), file)));
    }

    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Says which fields could not be carried over, if there are any.
    pub fn left(&mut self, why: &str, fields: &[String]) {
        if !fields.is_empty() {
            self.note(format!("{why}: {}", fields.join(", ")));
        }
    }
}

/// The fields of a JSON object, taken one after the other. What is null, an empty text, an empty list or an empty object counts
/// as not there, as in the programs that write such files.
///
/// Errors name a field by its place and never repeat its value, which may be a secret.
pub struct Fields {
    place: String,
    fields: Map<String, Value>,
}

impl Fields {
    /// `place` stands before the names in errors and notes; it may be empty.
    pub fn new(place: &str, fields: Map<String, Value>) -> Fields {
        Fields { place: place.to_owned(), fields }
    }

    fn name(&self, field: &str) -> String {
        if self.place.is_empty() { field.to_owned() } else { format!("{}.{field}", self.place) }
    }

    fn wrong(&self, field: &str, wanted: &str) -> Error {
        Error::config(format!("{} is not {wanted}", self.name(field)))
    }

    pub fn has(&self, field: &str) -> bool {
        self.fields.get(field).is_some_and(|value| !is_empty(value))
    }

    /// Any value.
    pub fn take(&mut self, field: &str) -> Option<Value> {
        self.fields.shift_remove(field).filter(|value| !is_empty(value))
    }

    /// A text, or a number or truth as text.
    pub fn text(&mut self, field: &str) -> Result<Option<String>> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(self.wrong(field, "a text")),
        }
    }

    /// A whole number from 0 on, which may be written as a text.
    pub fn number(&mut self, field: &str) -> Result<Option<u64>> {
        let number = match self.take(field) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| self.wrong(field, "a whole number"))
    }

    pub fn flag(&mut self, field: &str) -> Result<Option<bool>> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(self.wrong(field, "true or false")),
        }
    }

    /// An object; an empty one when there is none.
    pub fn object(&mut self, field: &str) -> Result<Fields> {
        match self.take(field) {
            None => Ok(Fields::new(&self.name(field), Map::new())),
            Some(Value::Object(fields)) => Ok(Fields::new(&self.name(field), fields)),
            Some(_) => Err(self.wrong(field, "an object")),
        }
    }

    pub fn list(&mut self, field: &str) -> Result<Vec<Value>> {
        match self.take(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(self.wrong(field, "a list")),
        }
    }

    /// Takes out those of these that hold something, and returns their names: for a note.
    pub fn drop_all(&mut self, fields: &[&str]) -> Vec<String> {
        let held: Vec<String> =
            fields.iter().filter(|field| self.has(field)).map(|field| self.name(field)).collect();
        fields.iter().for_each(|field| drop(self.fields.shift_remove(*field)));
        held
    }

    /// The names of what nobody has asked for.
    pub fn rest(self) -> Vec<String> {
        let rest = self.fields.iter().filter(|(_, value)| !is_empty(value));
        rest.map(|(field, _)| self.name(field)).collect()
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: Value) -> Fields {
        Fields::new("conn", value.as_object().expect("an object").clone())
    }

    #[test]
    fn what_nobody_asks_for_is_told_of() {
        let mut all =
            fields(json!({"a": "x", "b": 5, "c": null, "d": "", "e": [1], "f": {"g": 1}, "h": true}));
        assert_eq!(all.text("a").unwrap().as_deref(), Some("x"));
        assert_eq!(all.number("b").unwrap(), Some(5));
        assert_eq!(all.drop_all(&["e", "d", "nope"]), ["conn.e"]);
        assert_eq!(all.object("f").unwrap().rest(), ["conn.f.g"]);
        assert_eq!(all.rest(), ["conn.h"]);
    }

    #[test]
    fn errors_name_the_field_and_never_its_value() {
        let mut all = fields(json!({"a": ["hunter2"], "b": "hunter2", "c": "hunter2", "d": "hunter2"}));
        let errors = [
            all.text("a").unwrap_err(),
            all.number("b").unwrap_err(),
            all.flag("c").unwrap_err(),
            all.list("d").unwrap_err(),
        ];
        for (error, name) in errors.iter().zip(["conn.a", "conn.b", "conn.c", "conn.d"]) {
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(name) && !shown.contains("hunter2"), "{shown}");
        }
        let file = ImportFile::new(None, "x.json", b"{\"a\": hunter2}");
        let error = file.json().unwrap_err().to_string();
        assert!(error.contains("line 1") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn debug_shows_no_secret() {
        let mut profile = ImportedProfile::new("p");
        profile.secret("password", Some("hunter2".into()));
        profile.file("tls_key", Some(ImportedFile::Text("hunter2".into())));
        profile.set("user_property", Some(json!(["k=hunter2"])));
        let shown = format!("{profile:?}");
        assert!(shown.contains("password") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn it_crosses_as_json() {
        let mut import = Import::new("other");
        let mut profile = ImportedProfile::new("p");
        profile.file("tls_ca", Some(ImportedFile::Path("/ca.pem".into())));
        import.profiles.push(profile);
        let text = serde_json::to_string(&import).unwrap();
        assert_eq!(
            text,
            r#"{"format":"other","profiles":[{"name":"p","files":{"tls_ca":{"path":"/ca.pem"}}}]}"#
        );
        assert_eq!(serde_json::from_str::<Import>(&text).unwrap(), import);
    }
}
