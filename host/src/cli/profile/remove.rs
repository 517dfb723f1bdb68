//! `tracemq profile remove`.

use crate::failure::{Exit, Failure};
use crate::profiles;
use clap::Command;

pub fn command() -> Command {
    Command::new("remove").about("Remove a profile").arg(super::name())
}

pub fn run(name: &str) -> Result<(), Failure> {
    match std::fs::remove_file(profiles::path_for(name)?) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(profiles::unknown(name)),
        Err(error) => Err(Failure::new(Exit::Failed, format!("profile {name} can't be removed: {error}"))),
    }
}
