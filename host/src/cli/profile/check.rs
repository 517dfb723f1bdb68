//! Whether a profile can be used: its text is read and checked against its plugin's schemas. What it refers to is not looked
//! at: a secret that isn't there today, or a file on a disk that is not mounted, is no fault of the profile.

use crate::cli::args::Action;
use crate::cli::help::Offer;
use crate::cli::target::Target;
use crate::cli::url::{self, Address};
use crate::failure::Failure;
use crate::options::{Reference, Schema, is_reference, known, old_names};
use crate::plugins::{Catalog, Entry};
use crate::profiles::{self, Profile, Table};
use tracemq_plugin_api::sdk::Descriptor;

/// A profile that can be used.
pub struct Checked {
    /// With the names that its options have today.
    pub text: String,
    /// What the user should know, a line each.
    pub notes: Vec<String>,
}

/// Reads and checks the content of a profile's file.
pub fn check(name: &str, text: &str, catalog: &Catalog) -> Result<Checked, Failure> {
    let wrong = |why: String| Failure::usage(format!("profile {name}: {why}"));
    let profile = Profile::parse(name, text).map_err(wrong)?;
    let mut target = match &profile.url {
        Some(url) if !is_reference(url) => Some(Target::of_profile(profile.clone())?),
        _ => None,
    };
    let Some(descriptor) = descriptor(catalog, &profile) else {
        let note = format!("the plugin of the profile {name} is not there: its options were not checked");
        return Ok(Checked { text: text.to_owned(), notes: vec![note] });
    };
    if let Some(target) = &mut target {
        target.check(descriptor, Action::Profile)?;
    }
    let schemas = Schemas::of(descriptor)?;
    for (_, schema, table) in schemas.with(&profile) {
        known(schema, name, table).map_err(Failure::usage)?;
        for (key, value) in table {
            let spec = schema.get(key).or_else(|| schema.renamed(key));
            let checked = spec.map_or(Ok(()), |spec| spec.check_saved(name, value));
            checked.map_err(|why| Failure::usage(format!("{key} in the profile {name}: {why}")))?;
        }
    }
    let (text, notes) = schemas.modern(&profile, text);
    Ok(Checked { text, notes })
}

/// The text of a profile with the names that its options have today, and what was changed. Where that can't be told, the text
/// stays as it is.
pub fn modern(name: &str, text: &str, catalog: &Catalog) -> (String, Vec<String>) {
    let schemas = Profile::parse(name, text).ok().and_then(|profile| {
        let schemas = Schemas::of(descriptor(catalog, &profile)?).ok()?;
        Some((profile, schemas))
    });
    match schemas {
        Some((profile, schemas)) => schemas.modern(&profile, text),
        None => (text.to_owned(), Vec::new()),
    }
}

/// What the profile's plugin says of itself; `None` when it isn't there, or may not run.
pub fn descriptor<'a>(catalog: &'a Catalog, profile: &Profile) -> Option<&'a Descriptor> {
    let entry = match &profile.protocol {
        Some(id) => catalog.by_id(id),
        None => {
            let text = profile.url.as_deref()?;
            let resolved = match Reference::parse(text) {
                Some(reference) => reference.resolve_url().ok()?.reveal(),
                None => text.to_owned(),
            };
            catalog.by_scheme(&url::scheme_of(&resolved)?)
        }
    };
    entry.and_then(Entry::descriptor)
}

/// Makes known what only the plugin can tell to be a secret in the profile's URL.
pub fn know_token(catalog: &Catalog, profile: &Profile) {
    let url = profile.url.as_deref().filter(|url| url.contains('@') && !is_reference(url));
    if let Some(address) = url.and_then(|url| Address::parse(url).ok())
        && let Some(descriptor) = descriptor(catalog, profile)
    {
        address.has_token(descriptor);
    }
}

/// The schemas of the tables of a profile.
pub struct Schemas {
    connection: Offer,
    serve: Offer,
}

impl Schemas {
    pub fn of(descriptor: &Descriptor) -> Result<Schemas, Failure> {
        let offer = |action| Offer::new(action, descriptor).map_err(Failure::plugin);
        Ok(Schemas { connection: offer(Action::Profile)?, serve: offer(Action::ServeProfile)? })
    }

    /// Each table with its name and its schema.
    pub fn with<'a>(&'a self, profile: &'a Profile) -> [(&'static str, &'a Schema, &'a Table); 4] {
        [
            ("connection", &self.connection.connection, &profile.connection),
            ("publish", &self.connection.publish, &profile.publish),
            ("subscribe", &self.connection.subscribe, &profile.subscribe),
            ("serve", &self.serve.serve, &profile.serve),
        ]
    }

    fn modern(&self, profile: &Profile, text: &str) -> (String, Vec<String>) {
        let (mut text, mut notes) = (text.to_owned(), Vec::new());
        for (table_name, schema, table) in self.with(profile) {
            for (old, new) in old_names(schema, table) {
                // The text was read before: it is TOML.
                if let Ok(changed) = profiles::rename_key(&text, table_name, old, new) {
                    text = changed;
                    let (name, taken) = (&profile.name, table.contains_key(new));
                    notes.push(match taken {
                        true => format!("{old} in the profile {name} is taken out: it is called {new} now, which stands there"),
                        false => format!("{old} in the profile {name} is called {new} now"),
                    });
                }
            }
        }
        (text, notes)
    }
}
