//! `tracemq profile`: saved connections.

use super::args::Action;
use super::help::{self, Offer};
use super::{prepare, url, usage};
use crate::failure::{Exit, Failure};
use crate::options::{FileUse, Kind, MASK, Reference, Schema, Spec, is_reference};
use crate::output::events;
use crate::plugins::{Catalog, Entry};
use crate::profiles::{self, Guard, Profile, Table};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::PathBuf;

pub fn command() -> Command {
    let name = || Arg::new("name").value_name("NAME").required(true).help("The profile's name");
    let flag =
        |id: &'static str, help: &'static str| Arg::new(id).long(id).action(ArgAction::SetTrue).help(help);
    Command::new("profile")
        .about("Saved connections: list, show, add, remove")
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommand(
            Command::new("list")
                .about("List the profiles")
                .arg(flag("json", "Print an object a line"))
                .arg(flag("names", "Print the names alone").conflicts_with("json")),
        )
        .subcommand(Command::new("show").about("Print a profile, secrets as references").arg(name()))
        .subcommand(
            Command::new("add")
                .about("Save a connection under a name")
                .long_about(
                    "Save a connection under a name, with options of the connection, of pub and of sub; or, with a \
                     protocol's name in the place of the URL, options of serve. Secrets are saved as references: \
                     env:NAME or file:PATH.",
                )
                .arg(name())
                .arg(
                    Arg::new("target")
                        .value_name("URL")
                        .required(true)
                        .help("A URL, env:NAME or file:PATH that hold one, or a protocol to serve"),
                )
                .arg(flag("force", "Replace a profile of this name"))
                .arg(
                    Arg::new("guard")
                        .long("guard")
                        .value_name("GUARD")
                        .value_parser([Guard::ReadOnly.name()])
                        .help("read-only: refuse to publish and request with this profile"),
                ),
        )
        .subcommand(Command::new("remove").about("Remove a profile").arg(name()))
}

/// `words` is what follows `profile` on the command line.
pub fn run(argv: &[OsString], words: &[OsString], adds: bool, dirs: &[PathBuf]) -> Result<(), Failure> {
    if adds {
        return add(argv, words, dirs);
    }
    let matches = usage::parse(super::args::root(), argv, "profile", None)?;
    let Some(matches) = matches.subcommand_matches("profile") else { return Ok(()) };
    match matches.subcommand() {
        Some(("list", matches)) => list(matches),
        Some(("show", matches)) => show(&named(matches)?, dirs),
        Some(("remove", matches)) => remove(&named(matches)?),
        _ => Ok(()),
    }
}

fn named(matches: &ArgMatches) -> Result<String, Failure> {
    let name = matches.get_one::<String>("name").cloned().unwrap_or_default();
    profiles::check_name(&name)?;
    Ok(name)
}

fn list(matches: &ArgMatches) -> Result<(), Failure> {
    let names = profiles::names()?;
    let mut out = String::new();
    if matches.get_flag("names") {
        names.iter().for_each(|name| out.push_str(&format!("{name}\n")));
        return super::print(out);
    }
    let mut rows = Vec::new();
    for name in names {
        let found = profiles::find(&name);
        let profile = found.as_ref().ok().and_then(Option::as_ref);
        let url = profile.and_then(|profile| profile.url.as_deref()).map(shown_url);
        let protocol = profile.and_then(|profile| {
            profile.protocol.clone().or_else(|| profile.url.as_deref().and_then(url::scheme_of))
        });
        let guard = profile.and_then(|profile| profile.guard).map(Guard::name);
        let error = found.as_ref().err().map(ToString::to_string);
        if matches.get_flag("json") {
            let row = json!({"name": name, "protocol": protocol, "url": url, "guard": guard, "error": error});
            out.push_str(&format!("{row}\n"));
        } else {
            let last = error.or_else(|| guard.map(str::to_owned)).unwrap_or_default();
            rows.push([name, protocol.unwrap_or_default(), url.unwrap_or_default(), last]);
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    for [name, protocol, url, last] in &rows {
        let line = format!("{name:<0$}  {protocol:<1$}  {url:<2$}  {last}", widths[0], widths[1], widths[2]);
        out.push_str(&format!("{}\n", crate::output::escape::line(line.trim_end())));
    }
    super::print(out)
}

fn shown_url(text: &str) -> String {
    if is_reference(text) { text.to_owned() } else { url::masked(text) }
}

fn show(name: &str, dirs: &[PathBuf]) -> Result<(), Failure> {
    let mut profile = profiles::find(name)?.ok_or_else(|| profiles::unknown(name))?;
    let catalog = Catalog::open(dirs);
    let scheme = profile.url.as_deref().and_then(|text| {
        let text = Reference::parse(text)
            .map_or_else(|| Ok(text.to_owned()), |reference| reference.resolve())
            .ok()?;
        url::scheme_of(&text)
    });
    let entry = match &profile.protocol {
        Some(id) => catalog.by_id(id),
        None => scheme.and_then(|scheme| catalog.by_scheme(&scheme)),
    };
    let descriptor = entry.and_then(Entry::descriptor);
    let offers = descriptor.map(|descriptor| {
        [Action::Profile, Action::ServeProfile]
            .map(|action| Offer::new(action, descriptor).unwrap_or_default())
    });
    if offers.is_none() {
        events::line(
            "the profile's plugin is not there to tell what is secret, so that all texts are hidden",
        );
    }
    let [of_connection, of_serve] = offers.as_ref().map_or([None, None], |[one, two]| [Some(one), Some(two)]);
    hide(&mut profile.connection, of_connection.map(|offer| &offer.connection));
    hide(&mut profile.publish, of_connection.map(|offer| &offer.publish));
    hide(&mut profile.subscribe, of_connection.map(|offer| &offer.subscribe));
    hide(&mut profile.serve, of_serve.map(|offer| &offer.serve));
    profile.url = profile.url.as_deref().map(shown_url);
    super::print(profile.to_toml())
}

/// Puts the mask over secrets that stand in clear; over every text when the schema isn't known.
fn hide(table: &mut Table, schema: Option<&Schema>) {
    for (name, value) in table.iter_mut() {
        let harmless = match schema.map(|schema| schema.get(name)) {
            // Not an option of the plugin: a slip, perhaps in a secret's name.
            None | Some(None) => false,
            Some(Some(spec)) => !spec.secret,
        };
        if !harmless {
            let url = schema.and_then(|schema| schema.get(name)).is_some_and(|spec| spec.kind == Kind::Url);
            hide_value(value, url);
        }
    }
}

fn hide_value(value: &mut Value, url: bool) {
    match value {
        Value::String(text) if is_reference(text) => {}
        Value::String(text) if url => *text = url::masked(text),
        Value::String(text) => {
            *text = match text.split_once('=') {
                Some((_, value)) if is_reference(value) => return,
                _ => MASK.to_owned(),
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide_value(item, url)),
        Value::Object(map) => map.values_mut().for_each(|item| hide_value(item, url)),
        Value::Number(_) => *value = MASK.into(),
        Value::Bool(_) | Value::Null => {}
    }
}

fn remove(name: &str) -> Result<(), Failure> {
    match std::fs::remove_file(profiles::path_for(name)?) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(profiles::unknown(name)),
        Err(error) => Err(Failure::new(Exit::Failed, format!("profile {name} can't be removed: {error}"))),
    }
}

fn add(argv: &[OsString], words: &[OsString], dirs: &[PathBuf]) -> Result<(), Failure> {
    let mut catalog = Catalog::open(dirs);
    let action = |_: &[&str], target: &str| match url::scheme_of(target).is_some() || is_reference(target) {
        true => Action::Profile,
        false => Action::ServeProfile,
    };
    let parsed = prepare::parse(&mut catalog, argv, &["profile", "add"], words, action)?;
    let (matches, target) = (&parsed.matches, &parsed.target);
    let name = named(matches)?;
    let text = matches.get_one::<String>("target").cloned().unwrap_or_default();
    let descriptor = parsed.entry.descriptor().ok_or_else(|| Failure::plugin("the plugin is not usable"))?;
    if target.profile.is_some() {
        return Err(Failure::usage(format!("{text} is a profile; a URL or a protocol's name is needed")));
    }
    if name == descriptor.id {
        return Err(Failure::usage(format!("{name} is the name of a protocol: call the profile otherwise")));
    }
    target.check(descriptor, parsed.action)?;
    let flags = help::given(matches, &parsed.offer);
    if target.in_clear {
        let with =
            match parsed.offer.connection.get("password").is_some() && !url::is_connection_string(&text) {
                true => {
                    format!("tracemq profile add {name} {} --password env:NAME", url::without_password(&text))
                }
                false => format!("tracemq profile add {name} env:NAME"),
            };
        return Err(Failure::usage(format!("{}: a profile holds no secret in clear", target.shown)).hint(
            format!("put it into an environment variable or a file and write `{with}` (or file:PATH)"),
        ));
    }
    let table = |schema: &Schema| {
        let mut table = Table::new();
        for spec in &schema.specs {
            if let Some(texts) = flags.get(&spec.name) {
                let value = saved(spec, texts).map_err(|why| {
                    let failure = Failure::usage(format!("--{}: {why}", spec.flag()));
                    match texts.iter().any(|text| spec.is_literal_secret(text)) {
                        true => failure.hint(format!(
                            "put it into an environment variable or a file and write `tracemq profile add {name} {} --{} \
                             env:NAME` (or file:PATH)",
                            shown_url(&text),
                            spec.flag()
                        )),
                        false => failure,
                    }
                })?;
                table.insert(spec.name.clone(), value);
            }
        }
        Ok::<Table, Failure>(table)
    };
    let profile = Profile {
        name: name.clone(),
        protocol: Some(descriptor.id.clone()),
        url: target.url.is_some().then_some(text.clone()),
        guard: matches.get_one::<String>("guard").map(|_| Guard::ReadOnly),
        connection: table(&parsed.offer.connection)?,
        publish: table(&parsed.offer.publish)?,
        subscribe: table(&parsed.offer.subscribe)?,
        serve: table(&parsed.offer.serve)?,
    };
    profile.write(&profiles::path_for(&name)?, matches.get_flag("force"))?;
    if !prepare::global(matches).quiet {
        events::line(&format!("profile {name} saved"));
    }
    Ok(())
}

/// A flag as it is written into a profile: checked, a secret as its reference, a file by its whole path.
fn saved(spec: &Spec, texts: &[String]) -> Result<Value, String> {
    if texts.iter().any(|text| spec.is_literal_secret(text)) {
        return Err("a profile holds no secret in clear".into());
    }
    for text in texts.iter().filter(|_| spec.secret) {
        let value = text.split_once('=').map_or(text.as_str(), |(_, value)| value);
        if let Some(later @ Reference::Later(_)) = Reference::parse(text).or(Reference::parse(value)) {
            later.resolve()?;
        }
    }
    let absolute = |text: &str| match std::path::absolute(text) {
        Ok(path) => path.to_string_lossy().into_owned(),
        Err(_) => text.to_owned(),
    };
    if spec.secret && !spec.repeats() {
        let [text] = texts else { return Err("may be given once only".into()) };
        return Ok(Value::String(match Reference::parse(text) {
            Some(Reference::File(path)) => format!("file:{}", absolute(&path.to_string_lossy())),
            _ => text.clone(),
        }));
    }
    let value = spec.read(texts)?;
    match (value, spec.file) {
        (Value::String(path), Some(FileUse::Read | FileUse::Write)) => {
            spec.check_file(&path)?;
            Ok(Value::String(absolute(&path)))
        }
        (value, _) => Ok(value),
    }
}
