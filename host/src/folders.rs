//! Where TraceMQ keeps its files: the XDG folders, or all in one folder when `TRACEMQ_HOME` says so.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Profiles and the trust store. `None` when neither `TRACEMQ_HOME`, `XDG_CONFIG_HOME` nor `HOME` is set.
pub fn config() -> Option<PathBuf> {
    folder(None, "XDG_CONFIG_HOME", ".config")
}

/// What the user installs: plugins.
pub fn data() -> Option<PathBuf> {
    folder(None, "XDG_DATA_HOME", ".local/share")
}

/// What can be made again.
pub fn cache() -> Option<PathBuf> {
    folder(Some("cache"), "XDG_CACHE_HOME", ".cache")
}

/// What must outlive the process but is not the user's to edit: sessions.
pub fn state() -> Option<PathBuf> {
    folder(Some("state"), "XDG_STATE_HOME", ".local/state")
}

fn folder(inside_home: Option<&str>, variable: &str, default: &str) -> Option<PathBuf> {
    let get = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    resolve(get("TRACEMQ_HOME"), get(variable), get("HOME"), inside_home, default)
}

fn resolve(
    tracemq_home: Option<OsString>,
    xdg: Option<OsString>,
    home: Option<OsString>,
    inside_home: Option<&str>,
    default: &str,
) -> Option<PathBuf> {
    if let Some(all) = tracemq_home {
        let all = std::path::absolute(all).ok()?;
        return Some(inside_home.map_or_else(|| all.clone(), |name| all.join(name)));
    }
    // The XDG specification: a relative path in these variables is invalid and ignored.
    let base = xdg.map(PathBuf::from).filter(|path| path.is_absolute());
    Some(base.or_else(|| Some(PathBuf::from(home?).join(default)))?.join("tracemq"))
}

/// Replaces a file as a whole: a reader sees the old or the new content, never a part. The file gets mode 0600, and
/// missing folders 0700.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    written(path, content)?.persist(path).map_err(|error| error.error)?;
    settle(path);
    Ok(())
}

/// As [`write`], for a file that must not be there yet.
///
/// # Errors
/// `AlreadyExists`.
pub fn create_file(path: &Path, content: &[u8]) -> io::Result<()> {
    written(path, content)?.persist_noclobber(path).map_err(|error| error.error)?;
    settle(path);
    Ok(())
}

/// The content in a file beside `path`, on the disk: a machine that stops must not leave an empty one behind.
fn written(path: &Path, content: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    create(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Puts a file's new name on the disk. Not every file system can; the file is there in any case.
fn settle(path: &Path) {
    if let Some(folder) = path.parent() {
        drop(File::open(folder).and_then(|folder| folder.sync_all()));
    }
}

/// The sole right to change something, until it is dropped or the process ends.
pub struct Lock {
    /// Closing it releases the lock.
    _file: File,
}

/// Takes the lock that stands in a file, which is made and stays. Waits for another process that has it, for so long.
///
/// # Errors
/// `TimedOut`: another process kept it.
pub fn lock(path: &Path, patience: Duration) -> io::Result<Lock> {
    create(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
    let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let deadline = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Makes a folder that only its owner can enter, and its parents, unless it is there.
pub fn create(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tracemq_home: &str, xdg: &str, home: &str, inside: Option<&str>) -> Option<PathBuf> {
        let value = |text: &str| (!text.is_empty()).then(|| OsString::from(text));
        resolve(value(tracemq_home), value(xdg), value(home), inside, ".cache")
    }

    #[test]
    fn tracemq_home_holds_everything() {
        assert_eq!(at("/t", "/x", "/h", Some("cache")), Some("/t/cache".into()));
        assert_eq!(at("/t", "/x", "/h", None), Some("/t".into()));
    }

    #[test]
    fn xdg_wins_over_home_unless_it_is_relative() {
        assert_eq!(at("", "/x", "/h", None), Some("/x/tracemq".into()));
        assert_eq!(at("", "x", "/h", None), Some("/h/.cache/tracemq".into()));
        assert_eq!(at("", "", "", None), None);
    }

    #[test]
    fn a_written_file_is_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/file");
        write(&path, b"first").unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(create_file(&path, b"third").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
    }

    #[test]
    fn one_has_a_lock_and_the_others_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/.lock");
        let held = lock(&path, Duration::ZERO).unwrap();
        let refused = lock(&path, Duration::from_millis(20)).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        drop(held);
        lock(&path, Duration::ZERO).unwrap();
    }
}
