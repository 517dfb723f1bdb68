//! Profiles: named, saved connections, one readable TOML file each.
//!
//! A file is the unit of everything a user does with a profile (copy, diff, keep in version control, hand to a colleague),
//! so a profile is never spread over several. Secrets are references in it; what a profile says is checked against the
//! plugin's schema when it is used, since plugins come and go.

mod file;
mod mark;
mod name;
mod store;
mod text;

pub use file::{Guard, Profile, Table, text as text_at};
pub use mark::{Color, check_group};
pub use name::{check_name, path_for};
pub use store::{Locked, lock};
pub use text::{rename as rename_key, set as set_key};

use crate::failure::{Exit, Failure};
use crate::folders;
use crate::options::nearest;
use std::path::PathBuf;

/// The folder of the profiles; it need not exist.
pub fn folder() -> Result<PathBuf, Failure> {
    folders::config().map(|folder| folder.join("profiles")).ok_or_else(|| {
        Failure::new(Exit::Failed, "there is no place for profiles")
            .hint("set HOME, XDG_CONFIG_HOME or TRACEMQ_HOME")
    })
}

/// The names of all profiles, sorted. Files that aren't called like one are left alone.
pub fn names() -> Result<Vec<String>, Failure> {
    let folder = folder()?;
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(Failure::new(Exit::Failed, format!("profiles in {}: {error}", folder.display())));
        }
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let name = name.strip_suffix(".toml")?;
            check_name(name).is_ok().then(|| name.to_owned())
        })
        .collect();
    names.sort();
    Ok(names)
}

/// Reads a profile; `None` when there is none of this name.
pub fn find(name: &str) -> Result<Option<Profile>, Failure> {
    if check_name(name).is_err() {
        return Ok(None);
    }
    Profile::read(name, &path_for(name)?)
}

/// The content of a profile's file; `None` when there is none of this name.
pub fn text_of(name: &str) -> Result<Option<String>, Failure> {
    text_at(name, &path_for(name)?)
}

/// There is a profile that must not be replaced.
pub fn already(name: &str) -> Failure {
    Failure::usage(format!("there is a profile {name} already")).hint("--force replaces it")
}

/// Nothing is called `name`: what is, and what may have been meant.
pub fn unknown(name: &str) -> Failure {
    let names = names().unwrap_or_default();
    let failure = Failure::usage(format!("there is no profile {name:?}"));
    match (nearest(name, names.iter().map(String::as_str)), names.as_slice()) {
        (Some(near), _) => failure.hint(format!("did you mean {near}? There are: {}", names.join(", "))),
        (None, []) => failure.hint("there are none yet; make one with `tracemq profile add NAME URL`"),
        (None, _) => failure.hint(format!("there are: {}", names.join(", "))),
    }
}
