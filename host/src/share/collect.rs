//! Takes a profile apart: what may be shared, and what is left out.
//!
//! What may be shared is what a schema knows and does not call secret; everything else is listed. Of files, certificates go
//! along and nothing else. With `Whom::Recipient`, whose file is encrypted, nothing is left out: secrets are resolved and files
//! read, and one that can't be is an error, because what arrives is to work.

use super::certificates::{self, Content};
use super::document::{Blob, Shared};
use super::place::{Kind, LeftOut, Place, Schemas, Section};
use super::url::{self, Login};
use super::{LARGEST_FILE, document::Secret};
use crate::failure::{Exit, Failure};
use crate::options::{FileUse, Kind as Takes, Reference, Spec, is_reference};
use crate::profiles::{Profile, Table};
use crate::redact::secret_name;
use serde_json::Value;
use std::path::Path;
use tracemq_plugin_api::sdk::Descriptor;

/// Whom an export is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    Anybody,
    /// Whoever has the key that it is encrypted for.
    Recipient,
}

struct Collector<'a> {
    profile: &'a str,
    whom: Whom,
    shared: Shared,
}

/// # Errors
/// For a recipient: a secret or file that can't be read.
pub fn collect(
    profile: &Profile,
    descriptor: &Descriptor,
    schemas: &Schemas,
    whom: Whom,
) -> Result<Shared, Failure> {
    let mut rest = profile.clone();
    rest.protocol.get_or_insert_with(|| descriptor.id.clone());
    let mut collector = Collector { profile: &profile.name, whom, shared: Shared::named(&profile.name) };
    for section in Section::TABLES {
        let Some(table) = section.table(&mut rest) else { continue };
        let mut kept = Table::new();
        for (name, value) in std::mem::take(table) {
            if let Some(value) = collector.option(section, schemas.spec(section, &name), &name, value)? {
                kept.insert(name, value);
            }
        }
        *table = kept;
    }
    rest.url = match rest.url.take() {
        Some(text) => {
            let (url, username) = collector.url(&text, descriptor, schemas)?;
            if let Some(username) = username {
                rest.connection.entry("username").or_insert_with(|| username.into());
            }
            url
        }
        None => None,
    };
    collector.shared.settings = rest.to_toml().parse().map_err(|_| {
        Failure::new(Exit::Failed, format!("profile {}: it can't be written as TOML", profile.name))
    })?;
    collector.shared.left_out.sort_by(|one, other| one.place.cmp(&other.place));
    Ok(collector.shared)
}

impl Collector<'_> {
    /// What may stay of an option.
    fn option(
        &mut self,
        section: Section,
        spec: Option<&Spec>,
        name: &str,
        value: Value,
    ) -> Result<Option<Value>, Failure> {
        let place = Place::of(section, name);
        let Some(spec) = spec else {
            self.left_out(place, Kind::Unknown, "");
            return Ok(None);
        };
        match (spec.secret, spec.file) {
            (true, _) => self.each(&place, spec, value, |this, place, text| this.secret(spec, place, text)),
            (false, Some(FileUse::Read)) => {
                self.each(&place, spec, value, |this, place, text| this.file(place, text))
            }
            (false, Some(FileUse::Write)) => {
                self.left_out(place, Kind::Path, "");
                Ok(None)
            }
            (false, None) if takes_pairs(spec) => {
                self.each(&place, spec, value, |this, place, text| match place.item.as_deref() {
                    // Whatever the schema says: `Authorization: Bearer …`.
                    Some(name) if secret_name(name) => this.secret(spec, place, text),
                    _ => Ok(Some(text)),
                })
            }
            (false, None) => Ok(Some(value)),
        }
    }

    /// Goes through the values of an option; `one` returns what may stay. For a pair, it gets the part after the `=`.
    fn each(
        &mut self,
        place: &Place,
        spec: &Spec,
        value: Value,
        mut one: impl FnMut(&mut Self, Place, String) -> Result<Option<String>, Failure>,
    ) -> Result<Option<Value>, Failure> {
        let at = |item: String| Place { item: Some(item), ..place.clone() };
        match value {
            Value::Object(pairs) => {
                let mut kept = Table::new();
                for (name, value) in pairs {
                    if let Some(text) = one(self, at(name.clone()), plain(&value))? {
                        kept.insert(name, text.into());
                    }
                }
                Ok((!kept.is_empty()).then_some(Value::Object(kept)))
            }
            Value::Array(items) => {
                let mut kept = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    let text = plain(item);
                    let pair = text.split_once('=').filter(|_| takes_pairs(spec));
                    let stays = match pair {
                        Some((name, value)) => one(self, at(name.to_owned()), value.to_owned())?
                            .map(|value| format!("{name}={value}")),
                        None => one(self, at((index + 1).to_string()), text.clone())?,
                    };
                    kept.extend(stays.map(Value::from));
                }
                Ok((!kept.is_empty()).then_some(Value::Array(kept)))
            }
            // A list with one item may stand without its brackets.
            value if spec.repeats() => self.each(place, spec, Value::Array(vec![value]), one),
            value => Ok(one(self, place.clone(), plain(&value))?.map(Value::from)),
        }
    }

    fn secret(&mut self, spec: &Spec, place: Place, text: String) -> Result<Option<String>, Failure> {
        let reference = Reference::parse(&text);
        if reference.is_none() && (text.is_empty() || (spec.is_url() && url::is_public(&text))) {
            return Ok(Some(text));
        }
        match self.whom {
            Whom::Anybody => self.left_out(place, Kind::Secret, kind_of(&text)),
            Whom::Recipient => {
                let secret = self.resolved(&place, &text)?;
                self.shared.secrets.push(Secret { place, text: secret });
            }
        }
        Ok(None)
    }

    fn resolved(&self, place: &Place, text: &str) -> Result<String, Failure> {
        let Some(reference) = Reference::parse(text) else { return Ok(text.to_owned()) };
        let secret = if *place == Place::url() { reference.resolve_url() } else { reference.resolve() };
        secret.map(|secret| secret.reveal()).map_err(|why| {
            Failure::new(Exit::Failed, format!("profile {}: {place}: {why}", self.profile))
                .hint("an encrypted export has all secrets in it: see that this one can be read")
        })
    }

    fn file(&mut self, place: Place, path: String) -> Result<Option<String>, Failure> {
        let content = read(Path::new(&path));
        match (content, self.whom) {
            (Ok(content), Whom::Recipient) => self.shared.files.push(Blob { place, content }),
            (Err(why), Whom::Recipient) => {
                return Err(Failure::new(
                    Exit::Failed,
                    format!("profile {}: {place}: {path}: {why}", self.profile),
                )
                .hint("an encrypted export has all files in it: see that this one can be read"));
            }
            (Ok(content), Whom::Anybody) => match certificates::look(&content) {
                Content::Certificates(pem) => {
                    self.shared.certificates.push(Blob { place, content: pem.into_bytes() });
                }
                Content::PrivateKey => self.left_out(place, Kind::PrivateKey, ""),
                Content::Other => self.left_out(place, Kind::File, ""),
            },
            // Perhaps it is on a disk that isn't there now: the receiver is asked for it.
            (Err(_), Whom::Anybody) => self.left_out(place, Kind::File, ""),
        }
        Ok(None)
    }

    /// The URL without its password, `None` when all of it is a secret; and a user who has to be an option then.
    fn url(
        &mut self,
        text: &str,
        descriptor: &Descriptor,
        schemas: &Schemas,
    ) -> Result<(Option<String>, Option<String>), Failure> {
        let text = match (is_reference(text), self.whom) {
            (false, _) => text.to_owned(),
            (true, Whom::Anybody) => {
                self.left_out(Place::url(), Kind::Secret, kind_of(text));
                return Ok((None, None));
            }
            (true, Whom::Recipient) => self.resolved(&Place::url(), text)?.trim().to_owned(),
        };
        let (public, login) = url::take_apart(&text, descriptor, schemas);
        let mut user = None;
        match login {
            None => {}
            Some(Login::Option { property, secret, username }) => {
                user = username;
                let place = Place::of(Section::Connection, property);
                // An option of that name wins over the URL, and was seen already.
                let known = self.shared.left_out.iter().map(|left| &left.place);
                let known = known.chain(self.shared.secrets.iter().map(|secret| &secret.place));
                match (known.into_iter().any(|known| *known == place), self.whom) {
                    (true, _) => {}
                    (false, Whom::Anybody) => self.left_out(place, Kind::Secret, ""),
                    (false, Whom::Recipient) => self.shared.secrets.push(Secret { place, text: secret }),
                }
            }
            Some(Login::Whole) => match self.whom {
                Whom::Anybody => self.left_out(Place::url(), Kind::Secret, ""),
                Whom::Recipient => self.shared.secrets.push(Secret { place: Place::url(), text }),
            },
        }
        Ok((public, user))
    }

    fn left_out(&mut self, place: Place, kind: Kind, reference: &str) {
        self.shared.left_out.push(LeftOut { place, kind, reference: reference.to_owned() });
    }
}

/// The kind of a reference, without what it refers to.
fn kind_of(text: &str) -> &str {
    if is_reference(text) { text.split(':').next().unwrap_or_default() } else { "" }
}

pub(super) fn takes_pairs(spec: &Spec) -> bool {
    match &spec.kind {
        Takes::Map | Takes::Pair => true,
        Takes::List(item) => **item == Takes::Pair,
        _ => false,
    }
}

fn plain(value: &Value) -> String {
    crate::options::plain(value)
}

/// # Errors
/// Not a file, or larger than a certificate or key is.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let facts = path.metadata().map_err(|error| error.to_string())?;
    if !facts.is_file() {
        return Err("it is not a file".into());
    }
    let mut content = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(LARGEST_FILE + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
    if content.len() as u64 > LARGEST_FILE {
        return Err("larger than 1 MiB, which no certificate or key is".into());
    }
    Ok(content)
}
