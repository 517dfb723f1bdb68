//! `tracemq profile rename`.

use super::{named, new_name};
use crate::failure::Failure;
use crate::plugins::Catalog;
use crate::profiles;
use clap::{ArgMatches, Command};
use std::path::PathBuf;

pub fn command() -> Command {
    Command::new("rename")
        .about("Give a profile another name")
        .long_about(
            "Give a profile another name. A profile that has it already is replaced only with --force. Secrets in the vault \
             keep their names: the profile refers to them as before.",
        )
        .arg(super::name())
        .arg(super::copy::new())
        .arg(super::force())
}

pub fn run(matches: &ArgMatches, dirs: &[PathBuf]) -> Result<(), Failure> {
    let (from, to) = (named(matches)?, new_name(matches, "new", &Catalog::open(dirs))?);
    if from == to {
        return Err(Failure::usage(format!("the profile is called {from} already")));
    }
    profiles::lock()?.rename(&from, &to, matches.get_flag("force"))?;
    super::done(matches, &format!("profile {from} is called {to} now"));
    Ok(())
}
