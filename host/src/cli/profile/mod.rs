//! `tracemq profile`: saved connections. A file for each subcommand.

mod add;
mod list;
mod remove;
mod show;

use super::{url, usage};
use crate::failure::Failure;
use crate::options::is_reference;
use crate::profiles;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::OsString;
use std::path::PathBuf;

pub fn command() -> Command {
    Command::new("profile")
        .about("Saved connections: list, show, add, remove")
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommands([list::command(), show::command(), add::command(), remove::command()])
}

fn name() -> Arg {
    Arg::new("name").value_name("NAME").required(true).help("The profile's name")
}

fn flag(id: &'static str, help: &'static str) -> Arg {
    Arg::new(id).long(id).action(ArgAction::SetTrue).help(help)
}

/// `words` is what follows `profile` on the command line.
pub fn run(argv: &[OsString], words: &[OsString], adds: bool, dirs: &[PathBuf]) -> Result<(), Failure> {
    if adds {
        return add::run(argv, words, dirs);
    }
    let matches = usage::parse(super::args::root(), argv, "profile", None)?;
    let Some(matches) = matches.subcommand_matches("profile") else { return Ok(()) };
    match matches.subcommand() {
        Some(("list", matches)) => list::run(matches),
        Some(("show", matches)) => show::run(&named(matches)?, dirs),
        Some(("remove", matches)) => remove::run(&named(matches)?),
        _ => Ok(()),
    }
}

fn named(matches: &ArgMatches) -> Result<String, Failure> {
    let name = matches.get_one::<String>("name").cloned().unwrap_or_default();
    profiles::check_name(&name)?;
    Ok(name)
}

fn shown_url(text: &str) -> String {
    if is_reference(text) { text.to_owned() } else { url::masked(text) }
}
