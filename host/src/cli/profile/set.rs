//! `tracemq profile set`: group, colour and guard, without an editor.

use super::{NONE, check, named};
use crate::failure::Failure;
use crate::plugins::Catalog;
use crate::profiles::{self, Profile};
use clap::{Arg, ArgMatches, Command};
use std::path::PathBuf;

pub fn command() -> Command {
    Command::new("set")
        .about("Set a profile's group, colour or guard")
        .long_about(
            "Set a profile's group, colour or guard. All else in its file stays as it is, comments too, but that options \
             which have another name by now get it; without any flag, nothing but that is done.",
        )
        .arg(super::name())
        .arg(
            Arg::new("group")
                .long("group")
                .value_name("GROUP")
                .help("List the profile under this name; the empty text takes it out of its group"),
        )
        .arg(
            Arg::new("color")
                .long("color")
                .value_name("COLOR")
                .value_parser(super::colors(true))
                .hide_possible_values(true)
                .help("Show its name in this colour of the terminal: red, green, bright-blue …, or none"),
        )
        .arg(
            Arg::new("guard")
                .long("guard")
                .value_name("GUARD")
                .value_parser(super::guards(true))
                .help("read-only: refuse to publish and request with it, and to do without checking the server"),
        )
}

pub fn run(matches: &ArgMatches, dirs: &[PathBuf]) -> Result<(), Failure> {
    let name = named(matches)?;
    let group = super::group_in(matches, "group")?;
    let given = |id: &str| matches.get_one::<String>(id).map(String::as_str);
    // Before the lock: a plugin may have to be asked what it is.
    let catalog = Catalog::open(dirs);
    let locked = profiles::lock()?;
    let before = locked.read(&name)?.ok_or_else(|| profiles::unknown(&name))?;
    let wrong = |why: String| Failure::usage(format!("profile {name}: {why}"));
    let (mut text, notes) = check::modern(&name, &before, &catalog);
    for (key, value, none) in
        [("guard", given("guard"), NONE), ("group", group.as_deref(), ""), ("color", given("color"), NONE)]
    {
        if let Some(value) = value {
            text =
                profiles::set_key(&text, key, Some(value).filter(|value| *value != none)).map_err(wrong)?;
        }
    }
    Profile::parse(&name, &text).map_err(wrong)?;
    super::note(&notes);
    if text == before {
        super::done(matches, &format!("profile {name}: nothing was changed"));
        return Ok(());
    }
    locked.replace(&name, &text)?;
    super::done(matches, &format!("profile {name}: saved"));
    Ok(())
}
