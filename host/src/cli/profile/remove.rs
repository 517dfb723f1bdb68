//! `tracemq profile remove`.

use crate::failure::Failure;
use crate::profiles;
use clap::{ArgMatches, Command};

pub fn command() -> Command {
    Command::new("remove")
        .about("Remove profiles")
        .long_about(
            "Remove profiles. When one of them isn't there, none is removed. Secrets in the vault that they refer to stay: \
             `tracemq secret remove` takes them away.",
        )
        .arg(super::name().num_args(1..).help("The names of the profiles"))
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let mut names: Vec<&String> = matches.get_many("name").into_iter().flatten().collect();
    names.sort();
    names.dedup();
    names.iter().try_for_each(|name| profiles::check_name(name))?;
    let locked = profiles::lock()?;
    let missing = names.iter().find(|name| !locked.has(name));
    missing.map_or(Ok(()), |name| Err(profiles::unknown(name)))?;
    names.iter().try_for_each(|name| locked.remove(name))
}
