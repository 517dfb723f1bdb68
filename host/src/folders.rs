//! Where TraceMQ keeps its files: the XDG folders, or all in one folder when `TRACEMQ_HOME` says so.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

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
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    create(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
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
    }
}
