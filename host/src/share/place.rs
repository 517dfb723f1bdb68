//! Where in a profile something stands, and what of it is not in an export.

use crate::failure::Failure;
use crate::options::{Schema, Spec};
use crate::profiles::{Profile, Table};
use serde_json::Value;
use std::fmt;
use tracemq_plugin_api::sdk::Descriptor;

/// A part of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// What stands above the tables: the URL.
    Top,
    Connection,
    Publish,
    Subscribe,
    Serve,
}

/// The name of the option that is the profile's URL.
pub const URL: &str = "url";

impl Section {
    pub const TABLES: [Section; 4] =
        [Section::Connection, Section::Publish, Section::Subscribe, Section::Serve];

    pub fn name(self) -> &'static str {
        match self {
            Section::Top => "",
            Section::Connection => "connection",
            Section::Publish => "publish",
            Section::Subscribe => "subscribe",
            Section::Serve => "serve",
        }
    }

    pub fn by_name(name: &str) -> Option<Section> {
        [Section::Top].into_iter().chain(Section::TABLES).find(|section| section.name() == name)
    }

    /// `None` for what is no table.
    pub fn table(self, profile: &mut Profile) -> Option<&mut Table> {
        match self {
            Section::Top => None,
            Section::Connection => Some(&mut profile.connection),
            Section::Publish => Some(&mut profile.publish),
            Section::Subscribe => Some(&mut profile.subscribe),
            Section::Serve => Some(&mut profile.serve),
        }
    }
}

/// An option of a profile, or one item of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub section: Section,
    pub property: String,
    /// Of an option with several values: the name before the `=`, or the number of the item.
    pub item: Option<String>,
}

impl Place {
    pub fn of(section: Section, property: &str) -> Place {
        Place { section, property: property.to_owned(), item: None }
    }

    pub fn url() -> Place {
        Place::of(Section::Top, URL)
    }

    /// Whether a user who writes `text` means this place: the table may be left out for options of the connection.
    pub fn is_called(&self, text: &str) -> bool {
        text == self.to_string() || text == self.in_full()
    }

    fn in_full(&self) -> String {
        let item = self.item.as_deref().map_or_else(String::new, |item| format!(".{item}"));
        match self.section {
            Section::Top => self.property.clone(),
            section => format!("{}.{}{item}", section.name(), self.property),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = self.in_full();
        f.write_str(full.strip_prefix("connection.").unwrap_or(&full))
    }
}

/// What is not in an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub place: Place,
    pub kind: Kind,
    /// How the profile refers to it: `env`, `file`, `vault`, `cmd`; empty when it stood there in clear.
    pub reference: String,
}

/// Why it isn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Secret,
    /// A file with a private key in it.
    PrivateKey,
    /// A file that is no certificate.
    File,
    /// The name of a file or folder to write to.
    Path,
    /// The plugin has no such option, so that nobody knows whether it is a secret.
    Unknown,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Secret, Kind::PrivateKey, Kind::File, Kind::Path, Kind::Unknown];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Secret => "secret",
            Kind::PrivateKey => "private key",
            Kind::File => "file",
            Kind::Path => "path",
            Kind::Unknown => "unknown option",
        }
    }

    pub fn by_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether what is missing is the name of a file.
    pub fn is_file(self) -> bool {
        matches!(self, Kind::PrivateKey | Kind::File | Kind::Path)
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.place, self.kind.name())?;
        if !self.reference.is_empty() {
            write!(f, ", by {}:", self.reference)?;
        }
        f.write_str(")")
    }
}

/// The schemas of a plugin's options, by the tables of a profile.
pub struct Schemas {
    connection: Schema,
    publish: Schema,
    subscribe: Schema,
    serve: Schema,
}

impl Schemas {
    pub fn of(descriptor: &Descriptor) -> Result<Schemas, Failure> {
        let read = |name: &str, schema: &Value| {
            Schema::parse(schema)
                .map_err(|why| Failure::plugin(format!("{}: its {name} schema: {why}", descriptor.name)))
        };
        let schemas = &descriptor.schemas;
        Ok(Schemas {
            connection: read("connection", &schemas.connection)?,
            publish: read("publish", &schemas.publish)?,
            subscribe: read("subscribe", &schemas.subscribe)?,
            serve: read("serve", &schemas.serve)?,
        })
    }

    pub fn spec(&self, section: Section, property: &str) -> Option<&Spec> {
        match section {
            Section::Top => None,
            Section::Connection => self.connection.get(property),
            Section::Publish => self.publish.get(property),
            Section::Subscribe => self.subscribe.get(property),
            Section::Serve => self.serve.get(property),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_a_short_and_a_full_name() {
        let password = Place::of(Section::Connection, "password");
        assert_eq!(password.to_string(), "password");
        assert!(password.is_called("password") && password.is_called("connection.password"));
        assert!(!password.is_called("serve.password"));
        let user = Place { item: Some("ann".into()), ..Place::of(Section::Serve, "user") };
        assert_eq!(user.to_string(), "serve.user.ann");
        assert!(!user.is_called("user.ann"));
        assert_eq!(Place::url().to_string(), "url");
        for section in Section::TABLES {
            assert_eq!(Section::by_name(section.name()), Some(section));
        }
        for kind in Kind::ALL {
            assert_eq!(Kind::by_name(kind.name()), Some(kind));
        }
    }
}
