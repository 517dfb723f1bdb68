//! Writes what was decided: all of it, or nothing.
//!
//! First everything that can fail for reasons of the file system is done on files that nobody refers to yet: certificates go
//! to new names. Then the secrets go to the vault, at once, and last the profiles, each as a whole. What fails takes back what
//! was written before it; secrets stay out of the vault's file as it was, because they have new names and are removed again.

use super::plan::Settled;
use crate::failure::{Exit, Failure};
use crate::profiles::{self, Locked};
use crate::{folders, vault};
use std::io;
use std::path::{Path, PathBuf};

/// Undoes what was written so far, unless it is told that all went well.
#[derive(Default)]
struct Undo {
    files: Vec<PathBuf>,
    secrets: Vec<String>,
    /// With what stood there before.
    profiles: Vec<(String, Option<String>)>,
}

/// # Errors
/// A profile that is there and may not be replaced (`replace`); a file that can't be written. Then nothing was.
pub fn write(settled: &Settled, replace: bool) -> Result<(), Failure> {
    let locked = profiles::lock()?;
    for profile in &settled.profiles {
        if !replace && locked.has(&profile.name) {
            return Err(Failure::usage(format!("there is a profile {} already", profile.name))
                .hint("--force replaces it, --name gives this one another name"));
        }
    }
    let mut undo = Undo::default();
    let outcome = write_all(settled, replace, &locked, &mut undo);
    if outcome.is_err() {
        undo.run(&locked);
    }
    outcome
}

fn write_all(settled: &Settled, replace: bool, locked: &Locked, undo: &mut Undo) -> Result<(), Failure> {
    for (path, content) in &settled.files {
        write_new(path, content).map_err(|error| {
            Failure::new(Exit::Failed, format!("{} can't be written: {error}", path.display()))
                .hint("nothing was imported")
        })?;
        undo.files.push(path.clone());
    }
    if !settled.secrets.is_empty() {
        vault::set(&settled.secrets)?;
        undo.secrets.extend(settled.secrets.iter().map(|(name, _)| name.clone()));
    }
    for profile in &settled.profiles {
        let before = locked.read(&profile.name).ok().flatten();
        let content = profile.to_toml();
        match replace && locked.has(&profile.name) {
            true => locked.replace(&profile.name, &content)?,
            false => locked.create(&profile.name, &content)?,
        }
        undo.profiles.push((profile.name.clone(), before));
    }
    Ok(())
}

impl Undo {
    /// As far as it goes: what failed first is what the user is told.
    fn run(self, locked: &Locked) {
        for (name, before) in self.profiles {
            let undone = match before {
                Some(content) => locked.replace(&name, &content),
                None => locked.remove(&name),
            };
            if let Err(failure) = undone {
                log::warn!("profile {name}: {failure}");
            }
        }
        for name in self.secrets {
            if let Err(failure) = vault::remove(&name) {
                log::warn!("the secret {name} stays in the vault: {failure}");
            }
        }
        for path in self.files {
            if let Err(error) = std::fs::remove_file(&path) {
                log::warn!("{} stays there: {error}", path.display());
            }
        }
    }
}

/// Writes a file that is not there yet, into folders that are no links.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    for folder in path.ancestors().skip(1).take(2) {
        if folder.is_symlink() {
            return Err(io::Error::other(format!("{} is a symbolic link", folder.display())));
        }
    }
    folders::create_file(path, content)
}
