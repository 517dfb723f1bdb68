//! `tracemq profile copy`.

use super::{check, named, new_name};
use crate::failure::Failure;
use crate::plugins::Catalog;
use crate::profiles;
use clap::{Arg, ArgMatches, Command};
use std::path::PathBuf;

pub fn command() -> Command {
    Command::new("copy")
        .about("Copy a profile under another name")
        .long_about(
            "Copy a profile under another name, with its comments. Options that have another name by now get it in the \
             copy. A profile that has the new name already is replaced only with --force.",
        )
        .arg(super::name())
        .arg(new())
        .arg(super::force())
}

/// The second name of `copy` and `rename`.
pub fn new() -> Arg {
    Arg::new("new").value_name("NEW-NAME").required(true).help("The new name")
}

pub fn run(matches: &ArgMatches, dirs: &[PathBuf]) -> Result<(), Failure> {
    let catalog = Catalog::open(dirs);
    let (from, to) = (named(matches)?, new_name(matches, "new", &catalog)?);
    if from == to {
        return Err(Failure::usage(format!("{from} can't be copied onto itself")));
    }
    let locked = profiles::lock()?;
    let text = locked.read(&from)?.ok_or_else(|| profiles::unknown(&from))?;
    let (text, notes) = check::modern(&from, &text, &catalog);
    super::note(&notes);
    match matches.get_flag("force") {
        true => locked.replace(&to, &text)?,
        false => locked.create(&to, &text)?,
    }
    super::done(matches, &format!("profile {to}: saved"));
    Ok(())
}
