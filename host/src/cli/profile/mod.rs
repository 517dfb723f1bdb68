//! `tracemq profile`: saved connections. A file for each subcommand.
//!
//! `check` says whether a profile can be used, `questions` puts one together on a terminal.

mod add;
mod check;
mod copy;
mod edit;
mod export;
mod import;
mod list;
mod questions;
mod remove;
mod rename;
mod set;
mod show;
mod test;

use super::args::Flags;
use super::{prepare, url, usage};
use crate::failure::Failure;
use crate::logging;
use crate::options::is_reference;
use crate::output::events;
use crate::plugins::Catalog;
use crate::profiles::{self, Color, Guard};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::OsString;
use std::path::PathBuf;

pub fn command() -> Command {
    Command::new("profile")
        .about("Saved connections: list, show, add, edit, set, copy, rename, remove, test, export, import")
        .long_about(
            "Saved connections, under names that stand wherever a URL may. Each is a file NAME.toml in the folder profiles \
             of TRACEMQ_HOME (else of $XDG_CONFIG_HOME/tracemq or ~/.config/tracemq), which only its owner can read. \
             Secrets are never in it, only references to them. A file that is a symbolic link is written through; removing \
             and renaming mean the link.",
        )
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommands([
            list::command(),
            show::command(),
            add::command(),
            edit::command(),
            set::command(),
            copy::command(),
            rename::command(),
            remove::command(),
            test::command(),
            export::command(),
            import::command(),
        ])
}

fn name() -> Arg {
    Arg::new("name").value_name("NAME").required(true).help("The profile's name")
}

fn flag(id: &'static str, help: &'static str) -> Arg {
    Arg::new(id).long(id).action(ArgAction::SetTrue).help(help)
}

fn force() -> Arg {
    flag("force", "Replace a profile that has the new name")
}

/// `words` is what follows `profile` on the command line.
pub fn run(argv: &[OsString], words: &[OsString], adds: bool, dirs: &[PathBuf]) -> Result<(), Failure> {
    if adds {
        return add::run(argv, words, dirs);
    }
    let places = Flags::of(&Command::new("profile")).positionals(words);
    let sub = places.first().and_then(|place| words[*place].to_str()).unwrap_or_default();
    let path = match command().find_subcommand(sub) {
        Some(_) => format!("profile {sub}"),
        None => "profile".to_owned(),
    };
    let matches = usage::parse(super::args::root(), argv, &path, None)?;
    let Some(matches) = matches.subcommand_matches("profile") else { return Ok(()) };
    if let Some((_, matches)) = matches.subcommand() {
        logging::start(&prepare::global(matches));
    }
    match matches.subcommand() {
        Some(("list", matches)) => list::run(matches, dirs),
        Some(("show", matches)) => show::run(&named(matches)?, dirs),
        Some(("edit", matches)) => edit::run(matches, dirs),
        Some(("set", matches)) => set::run(matches, dirs),
        Some(("copy", matches)) => copy::run(matches, dirs),
        Some(("rename", matches)) => rename::run(matches, dirs),
        Some(("remove", matches)) => remove::run(matches),
        Some(("test", matches)) => test::run(matches, dirs),
        Some(("export", matches)) => export::run(matches, dirs),
        Some(("import", matches)) => import::run(matches, dirs),
        _ => Ok(()),
    }
}

fn named(matches: &ArgMatches) -> Result<String, Failure> {
    name_in(matches, "name")
}

fn name_in(matches: &ArgMatches, id: &str) -> Result<String, Failure> {
    let name = matches.get_one::<String>(id).cloned().unwrap_or_default();
    profiles::check_name(&name)?;
    Ok(name)
}

/// A name for a new profile, which must not be that of a protocol: `serve` would take it for one.
fn new_name(matches: &ArgMatches, id: &str, catalog: &Catalog) -> Result<String, Failure> {
    let name = name_in(matches, id)?;
    not_a_protocol(&name, catalog)?;
    Ok(name)
}

fn not_a_protocol(name: &str, catalog: &Catalog) -> Result<(), Failure> {
    match catalog.by_id(name) {
        None => Ok(()),
        Some(_) => Err(called_like_a_protocol(name)),
    }
}

fn called_like_a_protocol(name: &str) -> Failure {
    Failure::usage(format!("{name} is the name of a protocol: call the profile otherwise"))
}

/// Lines on stderr about what was noticed beside the work.
fn note(notes: &[String]) {
    notes.iter().for_each(|note| log::warn!("{note}"));
}

/// What was done, unless the user wants to hear only of failures.
fn done(matches: &ArgMatches, what: &str) {
    if !prepare::global(matches).quiet {
        events::line(what);
    }
}

fn shown_url(text: &str) -> String {
    if is_reference(text) { text.to_owned() } else { url::masked(text) }
}

/// A group as it is given; the empty text is none.
fn group_in(matches: &ArgMatches, id: &str) -> Result<Option<String>, Failure> {
    let group = matches.get_one::<String>(id).cloned();
    if let Some(group) = group.as_deref().filter(|group| !group.is_empty()) {
        profiles::check_group(group).map_err(|why| Failure::usage(format!("--{id}: {why}")))?;
    }
    Ok(group)
}

/// The names of colours, and perhaps `none`.
fn colors(none: bool) -> Vec<&'static str> {
    Color::names().iter().copied().chain(none.then_some(NONE)).collect()
}

fn guards(none: bool) -> Vec<&'static str> {
    [Guard::ReadOnly.name()].into_iter().chain(none.then_some(NONE)).collect()
}

/// What takes a guard or a colour away.
const NONE: &str = "none";
