//! Reads an export of ours, or a URL, into a plan. The file is somebody else's: what it says is checked as if they meant harm.
//!
//! - A name is that of a profile, so that no path leads out of our folders; an option that names a file is set by what came
//!   with the export or by the user, never by a path in the export.
//! - A secret that stands in it in clear goes to the vault. A reference is kept and shown; a command is for the user to allow.
//! - What the plugin does not know is named and left out.

use super::certificates::{self, Content};
use super::collect::takes_pairs;
use super::document::{Blob, Document, Shared};
use super::place::{Place, Schemas, Section};
use super::plan::{self, Plan, Planned};
use super::url::{self, Login};
use crate::failure::Failure;
use crate::options::{FileUse, Spec, is_reference};
use crate::plugins::{Catalog, Entry};
use crate::profiles::{self, Profile, Table};
use crate::redact::{self, Secret};
use serde_json::Value;
use std::collections::BTreeSet;
use tracemq_plugin_api::sdk::Descriptor;

/// # Errors
/// A name that is none, a plugin that isn't there, an option or file that can't be accepted.
pub fn document(document: Document, catalog: &Catalog) -> Result<Plan, Failure> {
    let mut names = BTreeSet::new();
    let mut plan = Plan::default();
    for shared in document.profiles {
        profiles::check_name(&shared.name)?;
        if !names.insert(shared.name.clone()) {
            return Err(Failure::usage(format!("profile {}: it is twice in the file", shared.name)));
        }
        plan.profiles.push(profile(shared, catalog)?);
    }
    Ok(plan)
}

fn profile(shared: Shared, catalog: &Catalog) -> Result<Planned, Failure> {
    let name = shared.name.clone();
    let wrong = |why: String| Failure::usage(format!("profile {name}: {why}"));
    let mut profile = Profile::parse(&name, &shared.settings.to_string()).map_err(wrong)?;
    let id = profile.protocol.clone().ok_or_else(|| wrong("it does not say its protocol".into()))?;
    let (descriptor, schemas) = plugin(&id, catalog)?;
    let url = profile.url.take();
    let tables = Section::TABLES
        .map(|section| (section, section.table(&mut profile).map(std::mem::take).unwrap_or_default()));
    let mut planned = Planned::new(profile, schemas);
    for (section, table) in tables {
        let kept = options(section, table, &mut planned).map_err(wrong)?;
        if let Some(table) = section.table(&mut planned.profile) {
            *table = kept;
        }
    }
    if let Some(text) = url {
        take_url(text, descriptor, &mut planned).map_err(wrong)?;
    }
    for Blob { place, content } in shared.certificates {
        match (file_use(&planned, &place), certificates::look(&content)) {
            (Some(FileUse::Read), Content::Certificates(pem)) => {
                planned.files.push((place, pem.into_bytes()))
            }
            (Some(FileUse::Read), _) => {
                return Err(wrong(format!("{place}: what came with it is no certificate")));
            }
            _ => planned.notes.push(format!("{place}: the plugin reads no such file; it was left out")),
        }
    }
    for Blob { place, content } in shared.files {
        match file_use(&planned, &place) {
            Some(FileUse::Read) => planned.files.push((place, content)),
            _ => planned.notes.push(format!("{place}: the plugin reads no such file; it was left out")),
        }
    }
    for secret in shared.secrets {
        let known =
            secret.place == Place::url() || planned.spec(&secret.place).is_some_and(|spec| spec.secret);
        match known {
            true => planned.secrets.push((secret.place, Secret::new(secret.text))),
            false => planned
                .notes
                .push(format!("{}: the plugin has no such secret; it was left out", secret.place)),
        }
    }
    for left in shared.left_out {
        let known = left.place == Place::url()
            || planned.spec(&left.place).is_some_and(|spec| match left.kind.is_file() {
                true => spec.file.is_some(),
                false => spec.secret || takes_pairs(spec),
            });
        let there = planned.secrets.iter().any(|(place, _)| *place == left.place)
            || planned.files.iter().any(|(place, _)| *place == left.place)
            || is_set(&mut planned.profile, &left.place);
        match (known, there) {
            (true, false) => planned.missing.push(left),
            (true, true) => {}
            (false, _) => planned.notes.push(format!("{left}: this plugin has no such option")),
        }
    }
    Ok(planned)
}

/// Whether an option has a value, as far as that can be told: of several values one may still be missing.
fn is_set(profile: &mut Profile, place: &Place) -> bool {
    match place.section.table(profile) {
        None => profile.url.is_some(),
        Some(table) => place.item.is_none() && table.contains_key(&place.property),
    }
}

fn file_use(planned: &Planned, place: &Place) -> Option<FileUse> {
    planned.spec(place)?.file
}

/// The plugin that knows what is a secret. Without it nothing can be taken over.
pub fn plugin<'a>(id: &str, catalog: &'a Catalog) -> Result<(&'a Descriptor, Schemas), Failure> {
    let entry = catalog.by_id(id).ok_or_else(|| catalog.unknown(id))?;
    usable(entry)
}

fn usable(entry: &Entry) -> Result<(&Descriptor, Schemas), Failure> {
    match (entry.descriptor(), entry.refusal()) {
        (Some(descriptor), _) => Ok((descriptor, Schemas::of(descriptor)?)),
        (None, refusal) => Err(Failure::plugin(refusal.unwrap_or("the plugin is not usable"))),
    }
}

/// What of a table may be taken over. Secrets, references and notes go to the plan.
fn options(section: Section, table: Table, planned: &mut Planned) -> Result<Table, String> {
    let mut kept = Table::new();
    for (name, value) in table {
        let place = Place::of(section, &name);
        let Some(spec) = planned.spec(&place).cloned() else {
            planned.notes.push(format!("{place}: this plugin has no such option; it was left out"));
            continue;
        };
        if spec.file.is_some() && !spec.secret {
            return Err(format!(
                "{place} names a file, which an export must not: certificates travel inside of it, and other files are yours \
                 to name"
            ));
        }
        if !spec.secret {
            spec.check(&value).map_err(|why| format!("{place}: {why}"))?;
            kept.insert(name, value);
            continue;
        }
        if let Some(value) = secrets(&place, &spec, value, planned)? {
            kept.insert(name, value);
        }
    }
    Ok(kept)
}

/// Takes secrets in clear out of an option and notes its references. Returns what stays.
pub(super) fn secrets(
    place: &Place,
    spec: &Spec,
    value: Value,
    planned: &mut Planned,
) -> Result<Option<Value>, String> {
    let mut one = |item: Option<String>, text: &str| {
        let place = Place { item, ..place.clone() };
        if is_reference(text) {
            planned.references.push((place, text.to_owned()));
            return true;
        }
        if text.is_empty() || (spec.is_url() && url::is_public(text)) {
            return true;
        }
        planned.secrets.push((place, Secret::new(text.to_owned())));
        false
    };
    let not_text = || format!("{place}: {}", "it must be a text in quotes");
    match value {
        Value::String(text) if !spec.repeats() => Ok(one(None, &text).then_some(Value::String(text))),
        Value::Object(pairs) if takes_pairs(spec) => {
            let mut kept = Table::new();
            for (name, value) in pairs {
                let text = value.as_str().ok_or_else(not_text)?;
                if one(Some(name.clone()), text) {
                    kept.insert(name, value);
                }
            }
            Ok((!kept.is_empty()).then_some(Value::Object(kept)))
        }
        Value::Array(_) | Value::String(_) if spec.repeats() => {
            let items = if let Value::Array(items) = value { items } else { vec![value] };
            let mut kept = Vec::new();
            for (index, item) in items.into_iter().enumerate() {
                let text = item.as_str().ok_or_else(not_text)?;
                let stays = match text.split_once('=').filter(|_| takes_pairs(spec)) {
                    Some((name, value)) => one(Some(name.to_owned()), value),
                    None => one(Some((index + 1).to_string()), text),
                };
                if stays {
                    kept.push(item);
                }
            }
            Ok((!kept.is_empty()).then_some(Value::Array(kept)))
        }
        _ => Err(not_text()),
    }
}

/// Sets the URL; a secret in it goes to the vault, with all of the URL if need be.
pub(super) fn take_url(text: String, descriptor: &Descriptor, planned: &mut Planned) -> Result<(), String> {
    if is_reference(&text) {
        planned.references.push((Place::url(), text.clone()));
        planned.profile.url = Some(text);
        return Ok(());
    }
    plan::check_url(&text, descriptor)?;
    let (public, login) = url::take_apart(&text, descriptor, &planned.schemas);
    match login {
        None => {}
        Some(Login::Option { property, secret, username }) => {
            if let Some(username) = username {
                planned.profile.connection.entry("username").or_insert_with(|| username.into());
            }
            let place = Place::of(Section::Connection, property);
            // As when it is used: the option wins over the URL.
            let given = planned.profile.connection.contains_key(property)
                || planned.secrets.iter().any(|(other, _)| *other == place);
            if !given {
                planned.secrets.push((place, Secret::new(secret)));
            }
        }
        Some(Login::Whole) => {
            redact::register_url(&text);
            planned.secrets.push((Place::url(), Secret::new(text)));
        }
    }
    planned.profile.url = public;
    Ok(())
}

/// A plan for one URL or connection string, or a reference to one.
///
/// # Errors
/// Not a URL of any plugin.
pub fn url(text: &str, catalog: &Catalog) -> Result<Plan, Failure> {
    let wrong = |why: String| Failure::usage(why);
    let address = crate::cli::url::Address::parse(text).map_err(wrong)?;
    let entry = catalog.by_scheme(&address.scheme).ok_or_else(|| catalog.unknown(&address.scheme))?;
    let (descriptor, schemas) = usable(entry)?;
    let host = text.split_once("://").map_or("", |(_, rest)| rest);
    let host = host[..host.find(['/', '?', '#', ';', ',']).unwrap_or(host.len())].rsplit('@').next();
    let host = host.map(|host| host.split(':').next().unwrap_or(host)).unwrap_or_default();
    let profile = Profile {
        name: plan::name_of(host, &plan::protocols(catalog)),
        protocol: Some(descriptor.id.clone()),
        ..Profile::default()
    };
    let mut planned = Planned::new(profile, schemas);
    take_url(text.to_owned(), descriptor, &mut planned).map_err(wrong)?;
    Ok(Plan { profiles: vec![planned], notes: Vec::new() })
}
