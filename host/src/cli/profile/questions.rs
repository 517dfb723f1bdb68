//! A profile put together by questions: for `add` on a terminal, when the URL or a value that is needed is missing.
//!
//! Asked for is what nobody can do without: the name, the protocol, the URL, and of the plugin's options those that are
//! required and those that it says most people need (`x-ask`). All else has a default, and is for flags and the editor.

use super::not_a_protocol;
use crate::cli::args::Action;
use crate::cli::ask;
use crate::cli::target::Target;
use crate::failure::Failure;
use crate::options::{Kind, Schema, Spec, is_reference, plain};
use crate::output::events;
use crate::plugins::{Catalog, Entry};
use crate::profiles;
use crate::redact::Secret;
use crate::{terminal, vault};
use std::collections::BTreeMap;
use tracemq_plugin_api::sdk::Descriptor;

/// Asks until there is a name that is free, or may be taken.
pub fn name(catalog: &Catalog, replace: bool) -> Result<String, Failure> {
    until_good(
        || ask::line("Name of the profile", ""),
        |name| {
            profiles::check_name(name)?;
            not_a_protocol(name, catalog)?;
            match profiles::text_of(name)? {
                Some(_) if !replace => Err(profiles::already(name)),
                _ => Ok(()),
            }
        },
    )
}

/// Asks for the protocol, and then for a URL of it.
pub fn url(catalog: &Catalog) -> Result<String, Failure> {
    let plugins: Vec<&Descriptor> = catalog.entries().iter().filter_map(Entry::descriptor).collect();
    let ids: Vec<&str> = plugins.iter().map(|plugin| plugin.id.as_str()).collect();
    let find = |id: &str| plugins.iter().find(|plugin| plugin.id == id).copied();
    let plugin = match plugins[..] {
        [] => return Err(Failure::plugin("there is no plugin that may be used; see `tracemq plugin list`")),
        [only] => only,
        _ => {
            let question = format!("Protocol ({})", ids.join(", "));
            let known = |id: &str| match find(id) {
                Some(_) => Ok(()),
                None => Err(Failure::usage(format!("there is no protocol {id:?}"))),
            };
            let id = until_good(|| ask::line(&question, ""), known)?;
            find(&id).ok_or_else(|| Failure::usage("no protocol was chosen"))?
        }
    };
    let schemes: Vec<String> = plugin.schemes.iter().map(|scheme| format!("{}://", scheme.name)).collect();
    let question = format!("URL ({})", schemes.join(", "));
    let default = schemes.first().map_or_else(String::new, |scheme| format!("{scheme}localhost"));
    until_good(
        || ask::line(&question, &default),
        |text| {
            if is_reference(text) {
                return Ok(());
            }
            let mut target = Target::read(text, Action::Profile, catalog)?;
            if target.profile.is_some() {
                return Err(Failure::usage(format!("{text} is a profile; a URL is needed")));
            }
            target.check(plugin, Action::Profile)?;
            match target.in_clear {
                true => Err(Failure::usage("leave the password out: a profile holds no secret in clear")),
                false => Ok(()),
            }
        },
    )
}

/// Secrets that were typed, with the names that they get in the vault.
pub type Kept = Vec<(String, Secret)>;

/// Asks for options that `given` lacks, and adds the answers: those that are required, and with `common` those that most
/// people need.
pub fn options(
    profile: &str,
    schema: &Schema,
    given: &mut BTreeMap<String, Vec<String>>,
    common: bool,
) -> Result<Kept, Failure> {
    let wanted = |spec: &&Spec| (spec.required || (common && spec.ask)) && !given.contains_key(&spec.name);
    let specs: Vec<&Spec> = schema.specs.iter().filter(wanted).collect();
    let mut kept = Kept::new();
    for spec in specs {
        let answer = match spec.secret {
            true => secret(profile, spec, &mut kept)?,
            false => option(spec)?,
        };
        if let Some(text) = answer {
            given.insert(spec.name.clone(), vec![text]);
        }
    }
    Ok(kept)
}

/// The question for an option: its title, its help, and `more`.
fn question(spec: &Spec, more: &str) -> String {
    let title = if spec.title.is_empty() { spec.name.replace('_', " ") } else { spec.title.clone() };
    let help = spec.help.lines().next().unwrap_or_default();
    let help = if help == title { "" } else { help };
    match (help, more) {
        ("", "") => title,
        (text, "") | ("", text) => format!("{title} ({text})"),
        (help, more) => format!("{title} ({help}; {more})"),
    }
}

/// The answer for one option; `None` leaves it to the plugin's default.
fn option(spec: &Spec) -> Result<Option<String>, Failure> {
    let default = spec.default.as_ref().map(plain).unwrap_or_default();
    let choices = match spec.kind {
        Kind::Choice(_) | Kind::Boolean => spec.allowed(),
        _ => String::new(),
    };
    let question = question(spec, &choices);
    let answer = until_good(
        || ask::line(&question, &default),
        |text| {
            if text.is_empty() {
                return match spec.required {
                    true => Err(Failure::usage(format!("it is required ({})", spec.allowed()))),
                    false => Ok(()),
                };
            }
            let checked = spec.read(&[text.to_owned()]).and_then(|_| spec.check_file(text));
            checked.map_err(Failure::usage)
        },
    )?;
    Ok(Some(answer).filter(|answer| !answer.is_empty() && *answer != default))
}

/// A secret becomes a reference: as such it was typed, or it will be kept in the vault.
fn secret(profile: &str, spec: &Spec, kept: &mut Kept) -> Result<Option<String>, Failure> {
    let question = question(spec, "not shown; env:NAME, file:PATH or vault:NAME refer to one");
    loop {
        let answer = terminal::hidden(&format!("{question}: "))?;
        if answer.is_empty() && spec.required {
            events::line("it is required");
            continue;
        }
        if answer.is_empty() {
            return Ok(None);
        }
        if !spec.is_literal_secret(&answer) {
            return Ok(Some(answer.reveal()));
        }
        let name = free_name(&spec.vault_name(profile), kept)?;
        if ask::yes(&format!("Keep it in the vault as vault:{name}?"), true)? {
            kept.push((name.clone(), answer));
            return Ok(Some(format!("vault:{name}")));
        }
        events::line("a profile holds no secret in clear: refer to one, or leave it empty");
    }
}

/// A name that is in the vault nobody's yet.
fn free_name(wanted: &str, kept: &Kept) -> Result<String, Failure> {
    let taken = vault::names()?;
    let free = |name: &String| !taken.contains(name) && kept.iter().all(|(other, _)| other != name);
    let mut names =
        std::iter::once(wanted.to_owned()).chain((2..).map(|number| format!("{wanted}-{number}")));
    names.find(free).ok_or_else(|| Failure::usage("the vault is full of secrets of this name"))
}

/// Asks again until the answer is good, and says what is wrong with one that isn't.
fn until_good(
    ask: impl Fn() -> Result<String, Failure>,
    good: impl Fn(&str) -> Result<(), Failure>,
) -> Result<String, Failure> {
    loop {
        let answer = ask()?;
        match good(&answer) {
            Ok(()) => return Ok(answer),
            Err(failure) => events::line(&failure.to_string()),
        }
    }
}
