//! Files of other programs, read by the plugins that know them.
//!
//! A plugin translates and is believed in what it says of its own format; what comes of it is checked like everything else. What
//! the other program holds in clear goes to the vault; files that it names are the user's own and stay where they are.

use super::certificates::Content;
use super::place::{Place, Schemas, Section};
use super::plan::{self, Plan, Planned};
use super::{LARGEST_FILE, MOST_PROFILES, certificates, intake};
use crate::failure::Failure;
use crate::options::{FileUse, is_reference};
use crate::plugins::{Catalog, Entry};
use crate::profiles::{self, Profile};
use crate::redact::Secret;
use crate::session;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::Path;
use tracemq_plugin_api::sdk::{Descriptor, Import, ImportFormat, ImportedFile, ImportedProfile};

/// The formats of all plugins.
pub fn formats(catalog: &Catalog) -> Vec<&ImportFormat> {
    catalog.entries().iter().filter_map(Entry::descriptor).flat_map(|plugin| &plugin.imports).collect()
}

/// What the plugins make of a file. `from` is what the user said of it, `FORMAT` or `PLUGIN:FORMAT`, `name` the file's name
/// without its folder.
///
/// # Errors
/// No plugin knows it, or several do; it is damaged.
pub fn read(
    content: &[u8],
    from: Option<&str>,
    name: &str,
    catalog: &Catalog,
) -> Result<(Plan, String), Failure> {
    let (id, format) = match from.map(|from| from.split_once(':').ok_or(from)) {
        Some(Ok((id, format))) => (Some(id), Some(format)),
        Some(Err(format)) => (None, Some(format)),
        None => (None, None),
    };
    let declares = |entry: &&Entry| {
        entry.descriptor().filter(|plugin| id.is_none_or(|id| id == plugin.id)).is_some_and(|plugin| {
            match format {
                Some(format) => plugin.imports.iter().any(|known| known.id == format),
                None => !plugin.imports.is_empty(),
            }
        })
    };
    let mut found = Vec::new();
    let mut broken = None;
    for entry in catalog.entries().iter().filter(declares) {
        let plugin = match entry.load() {
            Ok(plugin) => plugin,
            // Another may read it.
            Err(failure) => {
                broken.get_or_insert(failure);
                continue;
            }
        };
        match session::import(&plugin, format.unwrap_or_default(), name, content) {
            Ok(Some(import)) => found.push((entry, import)),
            Ok(None) => {}
            Err(error) => {
                let failure = Failure::usage(format!("{}: {}", plugin.descriptor().name, error.message()));
                broken.get_or_insert(match error.hint_text() {
                    "" => failure,
                    hint => failure.hint(hint),
                });
            }
        }
    }
    match (&found[..], broken) {
        ([_], _) => {}
        ([], Some(failure)) => return Err(failure),
        ([], None) => return Err(unknown(from, catalog)),
        _ => {
            let id = |entry: &Entry| entry.descriptor().map_or("", |plugin| &plugin.id).to_owned();
            let readers = found.iter().map(|(entry, import)| format!("{}:{}", id(entry), import.format));
            let readers = readers.collect::<Vec<_>>().join(" or ");
            return Err(Failure::usage("several plugins can read the file")
                .hint(format!("say which of them is to, with --from {readers}")));
        }
    }
    let Some((entry, import)) = found.pop() else { return Err(unknown(from, catalog)) };
    let descriptor = entry.descriptor().ok_or_else(|| Failure::plugin("the plugin is not usable"))?;
    let title = descriptor.imports.iter().find(|known| known.id == import.format);
    let title = title.map_or_else(|| import.format.clone(), |format| format.title.clone());
    Ok((plan(import, descriptor, catalog)?, title))
}

fn unknown(from: Option<&str>, catalog: &Catalog) -> Failure {
    let known: Vec<String> =
        formats(catalog).iter().map(|format| format!("{} ({})", format.id, format.title)).collect();
    let failure = Failure::usage(match from {
        Some(format) => format!("no plugin reads the format {format:?}"),
        None => "this is no export of tracemq, and no plugin knows what else it is".to_owned(),
    });
    match known.is_empty() {
        true => failure,
        false => failure.hint(format!("--from takes tracemq, {}", known.join(", "))),
    }
}

fn plan(import: Import, descriptor: &Descriptor, catalog: &Catalog) -> Result<Plan, Failure> {
    if import.profiles.len() > MOST_PROFILES {
        return Err(Failure::usage(format!("the file has more than {MOST_PROFILES} connections")));
    }
    let mut plan = Plan { profiles: Vec::new(), notes: import.notes };
    let mut names = plan::protocols(catalog);
    for imported in import.profiles {
        let planned = planned(imported, descriptor, &names)?;
        names.insert(planned.profile.name.clone());
        plan.profiles.push(planned);
    }
    Ok(plan)
}

fn planned(
    imported: ImportedProfile,
    descriptor: &Descriptor,
    names: &BTreeSet<String>,
) -> Result<Planned, Failure> {
    let profile = Profile {
        name: plan::name_of(&imported.name, names),
        protocol: Some(descriptor.id.clone()),
        group: imported.group.filter(|group| profiles::check_group(group).is_ok()),
        ..Profile::default()
    };
    let name = profile.name.clone();
    let wrong = |why: String| Failure::usage(format!("profile {name}: {why}"));
    let mut planned = Planned::new(profile, Schemas::of(descriptor)?);
    if planned.profile.name != imported.name {
        planned.notes.push(format!("its name there: {}", one_line(&imported.name)));
    }
    if let Some(url) = imported.url {
        plan::check_url(&url, descriptor).map_err(wrong)?;
        intake::take_url(url, descriptor, &mut planned).map_err(wrong)?;
    }
    for (section, table) in [
        (Section::Connection, imported.connection),
        (Section::Publish, imported.publish),
        (Section::Subscribe, imported.subscribe),
    ] {
        options(section, table, &mut planned);
    }
    for (property, secret) in imported.secrets {
        let place = Place::of(Section::Connection, &property);
        match planned.spec(&place) {
            Some(spec) if spec.secret && !spec.repeats() => {
                planned.secrets.push((place, Secret::new(secret)));
            }
            _ => planned.notes.push(format!("{place}: this plugin has no such secret; it was left out")),
        }
    }
    for (property, file) in imported.files {
        let place = Place::of(Section::Connection, &property);
        match planned.spec(&place) {
            Some(spec) if spec.file == Some(FileUse::Read) => {
                take_file(place, file, &mut planned).map_err(wrong)?;
            }
            _ => planned.notes.push(format!("{place}: this plugin reads no such file; it was left out")),
        }
    }
    planned.notes.extend(imported.notes);
    Ok(planned)
}

/// A value that does not fit is named and left out: the rest of the connection may well work.
fn options(section: Section, table: Map<String, Value>, planned: &mut Planned) {
    for (name, value) in table {
        let place = Place::of(section, &name);
        let Some(spec) = planned.spec(&place).cloned() else {
            planned.notes.push(format!("{place}: this plugin has no such option; it was left out"));
            continue;
        };
        let kept = match spec.secret {
            true => intake::secrets(&place, &spec, value, planned),
            false => spec.check(&value).map(|_| Some(value)).map_err(|why| format!("{place}: {why}")),
        };
        match (kept, section.table(&mut planned.profile)) {
            (Ok(Some(value)), Some(table)) => drop(table.insert(name, value)),
            (Ok(_), _) => {}
            (Err(why), _) => planned.notes.push(format!("{why}; it was left out")),
        }
    }
}

fn take_file(place: Place, file: ImportedFile, planned: &mut Planned) -> Result<(), String> {
    let content = match file {
        ImportedFile::Path(path) => {
            let path = std::path::absolute(Path::new(&path)).map_err(|error| format!("{place}: {error}"))?;
            if !path.is_file() {
                planned.notes.push(format!("{place}: {} is not there now", path.display()));
            }
            planned.put(&place, path.to_string_lossy().into_owned());
            return Ok(());
        }
        ImportedFile::Text(text) => text.into_bytes(),
        ImportedFile::Base64(text) => {
            let digits: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            STANDARD.decode(digits).map_err(|_| format!("{place}: what stands there is not base64"))?
        }
    };
    if content.len() as u64 > LARGEST_FILE {
        return Err(format!("{place}: larger than 1 MiB, which no certificate or key is"));
    }
    // As an export would write it.
    let content = match certificates::look(&content) {
        Content::Certificates(pem) => pem.into_bytes(),
        _ => content,
    };
    planned.files.push((place, content));
    Ok(())
}

/// A name of another program, as it may stand in a line.
fn one_line(text: &str) -> String {
    let text: String = text.chars().take(80).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if is_reference(&text) { "?".to_owned() } else { text }
}
