//! What an import would write, before anything is written.
//!
//! A plan is made by [`super::intake`] or [`super::foreign`], shown to the user, completed with what is missing, and then given
//! to [`super::write`]. In it no secret stands in a profile: each is kept apart until its place in the vault is known.

use super::collect::takes_pairs;
use super::place::{Kind, LeftOut, Place, Schemas, Section};
use crate::failure::Failure;
use crate::options::{Kind as Takes, Reference, Spec};
use crate::plugins::{Catalog, Entry};
use crate::profiles::{self, Profile, Table};
use crate::redact::Secret;
use crate::vault;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use tracemq_plugin_api::sdk::Descriptor;

/// The folder, beside that of the profiles, of the certificates and keys that came with an import.
const CERTIFICATES: &str = "certificates";

/// What would be written.
#[derive(Default)]
pub struct Plan {
    pub profiles: Vec<Planned>,
    /// About the file as a whole.
    pub notes: Vec<String>,
}

/// One profile of it.
pub struct Planned {
    /// Without secrets and without what is missing.
    pub profile: Profile,
    pub schemas: Schemas,
    pub secrets: Vec<(Place, Secret)>,
    /// Contents of files that options name.
    pub files: Vec<(Place, Vec<u8>)>,
    pub missing: Vec<LeftOut>,
    /// References that the file brought along, as the profile will have them.
    pub references: Vec<(Place, String)>,
    pub notes: Vec<String>,
}

impl Planned {
    pub fn new(profile: Profile, schemas: Schemas) -> Planned {
        Planned {
            profile,
            schemas,
            secrets: Vec::new(),
            files: Vec::new(),
            missing: Vec::new(),
            references: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The option at a place.
    pub fn spec(&self, place: &Place) -> Option<&Spec> {
        self.schemas.spec(place.section, &place.property)
    }

    /// The commands that the profile would have run.
    pub fn commands(&self) -> impl Iterator<Item = &(Place, String)> {
        self.references.iter().filter(|(_, text)| matches!(Reference::parse(text), Some(Reference::Cmd(_))))
    }

    /// Gives an option its value: a reference to a secret, or the name of a file. `item` of the place says which of several.
    pub fn put(&mut self, place: &Place, text: String) {
        let pairs = self.spec(place).map(|spec| (spec.kind.clone(), takes_pairs(spec), spec.repeats()));
        let Some(table) = place.section.table(&mut self.profile) else {
            self.profile.url = Some(text);
            return;
        };
        let name = place.property.clone();
        match (pairs, place.item.as_deref()) {
            (Some((Takes::Map, ..)), Some(item)) => {
                let pairs = table.entry(name).or_insert_with(|| Value::Object(Table::new()));
                if let Value::Object(pairs) = pairs {
                    pairs.insert(item.to_owned(), text.into());
                }
            }
            (Some((_, pairs, true)), item) => {
                let text = match item.filter(|_| pairs) {
                    Some(item) => format!("{item}={text}"),
                    None => text,
                };
                match table.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
                    Value::Array(items) => items.push(text.into()),
                    // A list with one item may stand without its brackets.
                    one => *one = vec![one.take(), text.into()].into(),
                }
            }
            _ => drop(table.insert(name, text.into())),
        }
    }

    /// What a file that belongs to an option is called.
    pub fn path(&self, place: &Place, content: Option<&[u8]>) -> Result<PathBuf, Failure> {
        let folder = profiles::folder()?.with_file_name(CERTIFICATES).join(&self.profile.name);
        let section = match place.section {
            Section::Top | Section::Connection => String::new(),
            section => format!("{}.", section.name()),
        };
        let item = place.item.as_deref().map_or_else(String::new, |item| format!(".{}", plain_name(item)));
        let end = match content {
            Some(content) if content.starts_with(b"-----BEGIN ") => ".pem",
            _ => "",
        };
        Ok(folder.join(format!("{section}{}{item}{end}", place.property)))
    }

    /// What the secret at a place is called in the vault, unless another has this name.
    fn vault_name(&self, place: &Place) -> String {
        let profile = &self.profile.name;
        let name = self.spec(place).map_or_else(|| format!("{profile}-url"), |spec| spec.vault_name(profile));
        match place.item.as_deref() {
            Some(item) => format!("{name}-{}", plain_name(item)),
            None => name,
        }
    }
}

impl Plan {
    /// Decides under which names secrets and files go, so that nothing that is there is replaced; and puts references to them,
    /// and to what is still missing, into the profiles. Returns the secrets by their names in the vault, and the commands with
    /// which the user completes what is missing.
    pub fn settle(&mut self) -> Result<Settled, Failure> {
        let mut settled = Settled::default();
        let mut taken = Taken::default();
        for planned in &mut self.profiles {
            let name = planned.profile.name.clone();
            for (place, secret) in std::mem::take(&mut planned.secrets) {
                let secret_name = taken.secret(planned.vault_name(&place))?;
                planned.put(&place, format!("vault:{secret_name}"));
                settled.secrets.push((secret_name, secret));
            }
            for (place, content) in std::mem::take(&mut planned.files) {
                let path = taken.file(planned.path(&place, Some(&content))?);
                planned.put(&place, path.to_string_lossy().into_owned());
                settled.files.push((path, content));
            }
            for left in std::mem::take(&mut planned.missing) {
                let todo = match left.kind {
                    // Where to write is for the user to say: there is no place that would do.
                    Kind::Path => format!("{name}: {left}: `tracemq profile edit {name}` sets it"),
                    Kind::PrivateKey | Kind::File => {
                        let path = taken.file(planned.path(&left.place, None)?);
                        planned.put(&left.place, path.to_string_lossy().into_owned());
                        format!("{name}: {left}: put the file at {}", path.display())
                    }
                    Kind::Secret | Kind::Unknown => {
                        let secret_name = taken.secret(planned.vault_name(&left.place))?;
                        planned.put(&left.place, format!("vault:{secret_name}"));
                        format!("{name}: {left}: `tracemq secret set {secret_name}` completes it")
                    }
                };
                settled.todo.push(todo);
            }
        }
        settled.profiles = self.profiles.iter().map(|planned| planned.profile.clone()).collect();
        Ok(settled)
    }
}

/// A plan with all names decided.
#[derive(Default)]
pub struct Settled {
    pub profiles: Vec<Profile>,
    pub secrets: Vec<(String, Secret)>,
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// What is left for the user to do, a line each.
    pub todo: Vec<String>,
}

/// The names that can't be had any more.
#[derive(Default)]
struct Taken {
    /// `None`: the vault was not looked into yet.
    secrets: Option<BTreeSet<String>>,
    files: BTreeSet<PathBuf>,
}

impl Taken {
    /// This name, or one like it that is free: a secret that is there already must be neither lost nor used by mistake.
    fn secret(&mut self, name: String) -> Result<String, Failure> {
        let taken = match &mut self.secrets {
            Some(taken) => taken,
            None => self.secrets.insert(vault::names()?.into_iter().collect()),
        };
        let free = (2_u32..)
            .map(|number| format!("{name}-{number}"))
            .find(|other| !taken.contains(other))
            .filter(|_| taken.contains(&name))
            .unwrap_or(name);
        taken.insert(free.clone());
        Ok(free)
    }

    fn file(&mut self, path: PathBuf) -> PathBuf {
        let is_taken = |path: &PathBuf| self.files.contains(path) || path.symlink_metadata().is_ok();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let free = std::iter::once(path.clone())
            .chain((2_u32..).map(|number| path.with_file_name(format!("{number}-{name}"))))
            .find(|path| !is_taken(path))
            .unwrap_or(path);
        self.files.insert(free.clone());
        free
    }
}

/// A text as part of a file's or a secret's name.
fn plain_name(text: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    text.chars().map(letter).take(24).collect()
}

/// A profile's name made of what another program calls a connection: what can't be in a name becomes a hyphen.
pub fn name_of(text: &str, taken: &BTreeSet<String>) -> String {
    let mut name = String::new();
    for c in text.trim().chars() {
        match c {
            c if c.is_ascii_alphanumeric() || "._-".contains(c) => name.push(c),
            _ if name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    let name: String = name.trim_matches(['.', '-']).chars().take(60).collect();
    let name = name.trim_end_matches(['.', '-']);
    let name = if name.is_empty() { "imported" } else { name };
    let free = (2_u32..).map(|number| format!("{name}-{number}")).find(|other| !taken.contains(other));
    match (taken.contains(name), free) {
        (true, Some(free)) => free,
        _ => name.to_owned(),
    }
}

/// The names of protocols, which no profile may have.
pub fn protocols(catalog: &Catalog) -> BTreeSet<String> {
    catalog.entries().iter().filter_map(Entry::descriptor).map(|descriptor| descriptor.id.clone()).collect()
}

/// Whether a URL is one of the plugin's.
pub fn check_url(text: &str, descriptor: &Descriptor) -> Result<(), String> {
    let address = crate::cli::url::Address::parse(text)?;
    match descriptor.schemes.iter().any(|scheme| scheme.name == address.scheme) {
        true => Ok(()),
        false => Err(format!("{} has no scheme {}", descriptor.name, address.scheme)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_become_names_of_profiles() {
        let taken = BTreeSet::from(["broker".to_owned(), "broker-2".to_owned()]);
        for (text, name) in [
            ("press line", "press-line"),
            ("../../etc/passwd", "etc-passwd"),
            (" Ünï ", "n"),
            ("", "imported"),
            ("…", "imported"),
            ("broker", "broker-3"),
            ("-v", "v"),
            ("a\0b\u{1b}[2J", "a-b-2J"),
        ] {
            assert_eq!(name_of(text, &taken), name);
            assert!(profiles::check_name(&name_of(text, &taken)).is_ok());
        }
        assert!(profiles::check_name(&name_of(&"x".repeat(300), &taken)).is_ok());
    }
}
