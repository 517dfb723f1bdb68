//! The files of profiles as they are changed: under a lock, and each as a whole.
//!
//! Whoever changes a profile reads it, and writes it, under the lock of the folder, so that of two processes neither undoes
//! what the other did. The lock is a file of its own, since the others are replaced. It is held for a moment only, never
//! while somebody is asked or an editor runs. A reader needs no lock: it sees the old or the new content.
//!
//! A profile that is a symbolic link is written through: the file that it leads to is replaced, and the link stays. So
//! profiles may live in a repository of dotfiles. Removing and renaming mean the link itself.

use super::file::{Profile, text};
use super::name::check_name;
use crate::failure::{Exit, Failure};
use crate::folders;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The name can't be that of a profile: it begins with a full stop.
const LOCK: &str = ".lock";
/// Nobody keeps the lock for longer than it takes to write a file.
const PATIENCE: Duration = Duration::from_secs(20);

/// The folder of the profiles, which nobody else changes as long as this lives.
pub struct Locked {
    folder: PathBuf,
    _lock: folders::Lock,
}

/// Waits for the lock. The folder is made if it isn't there.
pub fn lock() -> Result<Locked, Failure> {
    Locked::of(&super::folder()?)
}

impl Locked {
    fn of(folder: &Path) -> Result<Locked, Failure> {
        let lock = folders::lock(&folder.join(LOCK), PATIENCE).map_err(|error| {
            explained(format!("profiles in {} can't be changed", folder.display()), &error)
        })?;
        Ok(Locked { folder: folder.to_owned(), _lock: lock })
    }

    /// The content of a profile's file; `None` when it isn't there.
    pub fn read(&self, name: &str) -> Result<Option<String>, Failure> {
        text(name, &self.path(name)?)
    }

    /// Whether there is a profile of this name, one that can't be read and a link that leads nowhere included.
    pub fn has(&self, name: &str) -> bool {
        self.path(name).is_ok_and(|path| path.symlink_metadata().is_ok())
    }

    /// Writes a profile that may be there already.
    pub fn replace(&self, name: &str, content: &str) -> Result<(), Failure> {
        let path = self.path(name)?;
        let written = real(&path).and_then(|path| folders::write(&path, content.as_bytes()));
        written.map_err(|error| unwritten(name, &path, &error))
    }

    /// Writes a profile that must not be there yet.
    pub fn create(&self, name: &str, content: &str) -> Result<(), Failure> {
        let path = self.path(name)?;
        folders::create_file(&path, content.as_bytes()).map_err(|error| unwritten(name, &path, &error))
    }

    /// Gives a profile another name. Unless `replace` is set, a profile that has it stays.
    pub fn rename(&self, from: &str, to: &str, replace: bool) -> Result<(), Failure> {
        let (old, new) = (self.path(from)?, self.path(to)?);
        let renamed = match replace {
            true => std::fs::rename(&old, &new),
            // Unlike a rename, a link never takes another's place.
            false => std::fs::hard_link(&old, &new).and_then(|()| std::fs::remove_file(&old)),
        };
        renamed.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => super::unknown(from),
            _ => unwritten(to, &new, &error),
        })
    }

    pub fn remove(&self, name: &str) -> Result<(), Failure> {
        std::fs::remove_file(self.path(name)?).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => super::unknown(name),
            _ => explained(format!("profile {name} can't be removed"), &error),
        })
    }

    fn path(&self, name: &str) -> Result<PathBuf, Failure> {
        check_name(name)?;
        Ok(self.folder.join(format!("{name}.toml")))
    }
}

impl Profile {
    /// Writes the file as a whole; only its owner can read it. Unless `replace` is set, a file that is there stays.
    pub fn write(&self, replace: bool) -> Result<(), Failure> {
        let locked = lock()?;
        match replace {
            true => locked.replace(&self.name, &self.to_toml()),
            false => locked.create(&self.name, &self.to_toml()),
        }
    }
}

/// The file that a profile's name leads to. A link that leads nowhere is an error.
fn real(path: &Path) -> io::Result<PathBuf> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_symlink() => path.canonicalize().map_err(|error| {
            io::Error::new(error.kind(), format!("it is a symbolic link that leads nowhere: {error}"))
        }),
        _ => Ok(path.to_owned()),
    }
}

fn unwritten(name: &str, path: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AlreadyExists => super::already(name),
        _ => explained(format!("profile {name} can't be written to {}", path.display()), error),
    }
}

fn explained(what: String, error: &io::Error) -> Failure {
    let failure = Failure::new(Exit::Failed, format!("{what}: {error}"));
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            failure.hint("nothing was changed; make room and try again")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            failure.hint("nothing was changed; TRACEMQ_HOME names another folder to keep profiles in")
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn locked() -> (tempfile::TempDir, Locked) {
        let folder = tempfile::tempdir().unwrap();
        let locked = Locked::of(&folder.path().join("profiles")).unwrap();
        (folder, locked)
    }

    #[test]
    fn a_file_is_its_owners_alone_and_never_overwritten_unasked() {
        let (_folder, locked) = locked();
        locked.create("a", "1").unwrap();
        assert!(locked.create("a", "2").unwrap_err().to_string().contains("--force"));
        locked.replace("a", "3").unwrap();
        assert_eq!(locked.read("a").unwrap().as_deref(), Some("3"));
        locked.create("b", "4").unwrap();
        assert!(locked.rename("a", "b", false).unwrap_err().to_string().contains("--force"));
        assert_eq!(locked.read("b").unwrap().as_deref(), Some("4"));
        locked.rename("a", "b", true).unwrap();
        locked.rename("b", "c", false).unwrap();
        assert_eq!(locked.read("c").unwrap().as_deref(), Some("3"));
        assert!(locked.rename("a", "d", false).is_err() && locked.remove("a").is_err());
        for name in ["..", "x/y", ".lock", "x\0", &"x".repeat(300)] {
            assert!(locked.create(name, "").is_err() && locked.remove(name).is_err(), "{name:?}");
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&locked.folder), mode(&locked.path("c").unwrap())), (0o700, 0o600));
    }

    #[test]
    fn a_link_is_written_through_and_removed_alone() {
        let (folder, locked) = locked();
        let target = folder.path().join("kept.toml");
        std::fs::write(&target, "1").unwrap();
        std::os::unix::fs::symlink(&target, locked.path("a").unwrap()).unwrap();
        assert!(locked.create("a", "2").is_err());
        locked.replace("a", "2").unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "2");
        locked.rename("a", "b", false).unwrap();
        assert!(locked.path("b").unwrap().is_symlink());
        locked.remove("b").unwrap();
        assert!(target.exists());
        std::os::unix::fs::symlink(folder.path().join("none"), locked.path("c").unwrap()).unwrap();
        assert!(locked.replace("c", "x").unwrap_err().to_string().contains("leads nowhere"));
        assert!(locked.path("c").unwrap().is_symlink());
    }
}
