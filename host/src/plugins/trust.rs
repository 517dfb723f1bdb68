//! Which libraries may run: a library is code that runs with all of the user's rights.
//!
//! What was installed with the program is trusted as the program itself is, as long as nobody else can write there. All
//! else is trusted by its content: the user says so once for a digest, and a file that changes is asked about again.
//! The store is one TOML file for people to read; its lock is a file beside it, since the store itself is replaced.

use crate::folders;
use crate::output::time::write_time;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The SHA-256 of a library, in hexadecimal.
pub type Digest = String;

/// Why a library may run, or may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Came with the program, in a folder that only its owner writes to.
    Installed,
    /// The user said so; when, RFC 3339.
    Digest {
        since: String,
    },
    Unknown,
    /// The user trusted another content of this file; when, RFC 3339.
    Changed {
        since: String,
    },
}

impl Trust {
    pub fn allows(&self) -> bool {
        matches!(self, Trust::Installed | Trust::Digest { .. })
    }

    /// One word for tables and JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Trust::Installed => "installed",
            Trust::Digest { .. } => "trusted",
            Trust::Unknown => "untrusted",
            Trust::Changed { .. } => "changed",
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    #[serde(default)]
    plugin: Vec<Record>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    path: PathBuf,
    sha256: Digest,
    trusted: String,
}

/// What the user trusts.
#[derive(Debug)]
pub struct Store {
    path: Option<PathBuf>,
    content: Content,
    /// Why the file could not be used; nothing is trusted then.
    problem: Option<String>,
}

impl Store {
    /// The user's store; one that can't be read trusts nothing and says why.
    pub fn open() -> Store {
        Store::at(folders::config().map(|folder| folder.join("trust.toml")))
    }

    pub(super) fn at(path: Option<PathBuf>) -> Store {
        let (content, problem) = match path.as_deref().map(read) {
            None => (Content::default(), Some("there is no home folder to keep trust in".to_owned())),
            Some(Ok(content)) => (content, None),
            Some(Err(problem)) => (Content::default(), Some(problem)),
        };
        Store { path, content, problem }
    }

    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// What the store says of a library; `path` is canonical.
    pub fn look_up(&self, path: &Path, digest: &str) -> Trust {
        match self.content.plugin.iter().find(|record| record.path == path) {
            None => Trust::Unknown,
            Some(record) if record.sha256 == digest => Trust::Digest { since: record.trusted.clone() },
            Some(record) => Trust::Changed { since: record.trusted.clone() },
        }
    }

    /// Whether anything was ever said of the library.
    pub fn knows(&self, path: &Path) -> bool {
        self.content.plugin.iter().any(|record| record.path == path)
    }

    /// Trusts a library with this content from now on.
    pub fn add(&mut self, path: &Path, digest: &str) -> Result<(), String> {
        let mut now = Vec::new();
        write_time(tracemq_plugin_api::sdk::now(), &mut now);
        let now = String::from_utf8_lossy(&now).into_owned();
        self.change(|content| {
            content.plugin.retain(|record| record.path != path);
            content.plugin.push(Record { path: path.into(), sha256: digest.into(), trusted: now });
            true
        })
        .map(drop)
    }

    /// Forgets a library; false when it wasn't known.
    pub fn remove(&mut self, path: &Path) -> Result<bool, String> {
        self.change(|content| {
            let before = content.plugin.len();
            content.plugin.retain(|record| record.path != path);
            content.plugin.len() < before
        })
    }

    /// Applies a change to what is in the file now, which another process may have changed since it was read.
    fn change(&mut self, change: impl FnOnce(&mut Content) -> bool) -> Result<bool, String> {
        let path = self.path.clone().ok_or("there is no home folder to keep trust in: set TRACEMQ_HOME")?;
        let failed = |error: io::Error| format!("{} can't be written: {error}", path.display());
        folders::create(path.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
        let lock = File::create(path.with_extension("lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let mut content = read(&path)?;
        let changed = change(&mut content);
        if changed {
            let text = toml::to_string(&content).map_err(|error| failed(io::Error::other(error)))?;
            folders::write(&path, text.as_bytes()).map_err(failed)?;
        }
        self.content = content;
        self.problem = None;
        Ok(changed)
    }
}

fn read(path: &Path) -> Result<Content, String> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::default()),
        Err(error) => return Err(format!("{} can't be read: {error}", path.display())),
    };
    let mut text = String::new();
    let metadata = file.metadata().and_then(|metadata| file.read_to_string(&mut text).map(|_| metadata));
    let metadata = metadata.map_err(|error| format!("{} can't be read: {error}", path.display()))?;
    if let Err(why) = only_owner_writes(&metadata) {
        return Err(format!("{} can't be believed: {why}", path.display()));
    }
    toml::from_str(&text).map_err(|error| format!("{} is damaged: {}", path.display(), error.message()))
}

/// Whether a file or folder is beyond the reach of others; the error says why not.
pub fn only_owner_writes(metadata: &Metadata) -> Result<(), String> {
    // SAFETY: it has no preconditions and can't fail.
    let me = unsafe { libc::geteuid() };
    if metadata.uid() != 0 && metadata.uid() != me {
        return Err(format!("it belongs to user {}", metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(format!("others can write to it (mode {:03o})", metadata.mode() & 0o777));
    }
    Ok(())
}

/// The digest of what an open file holds, whatever its name stands for by now.
pub fn digest(file: &File) -> io::Result<Digest> {
    use std::os::unix::fs::FileExt;
    let (mut hash, mut at, mut buffer) = (Sha256::new(), 0, vec![0; 256 * 1024]);
    loop {
        match file.read_at(&mut buffer, at) {
            Ok(0) => break,
            Ok(read) => {
                hash.update(&buffer[..read]);
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_digest_is_trusted_until_the_content_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trust.toml");
        let library = Path::new("/p/libx.so");
        let mut store = Store::at(Some(path.clone()));
        assert_eq!(store.look_up(library, "aa"), Trust::Unknown);
        store.add(library, "aa").unwrap();

        let mut again = Store::at(Some(path.clone()));
        assert!(again.look_up(library, "aa").allows());
        let changed = again.look_up(library, "bb");
        assert!(matches!(&changed, Trust::Changed { since } if since.len() == 27 && since.ends_with('Z')));
        assert!(!changed.allows());
        assert_eq!(again.look_up(Path::new("/p/liby.so"), "aa"), Trust::Unknown);

        assert!(again.remove(library).unwrap());
        assert!(!again.remove(library).unwrap());
        assert_eq!(Store::at(Some(path.clone())).look_up(library, "aa"), Trust::Unknown);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn processes_that_change_the_store_together_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trust.toml");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let path = path.clone();
                scope.spawn(move || {
                    for number in 0..8 {
                        let mut store = Store::at(Some(path.clone()));
                        store.add(Path::new(&format!("/p/{thread}-{number}.so")), "aa").unwrap();
                    }
                });
            }
        });
        assert_eq!(Store::at(Some(path)).content.plugin.len(), 32);
    }

    #[test]
    fn a_damaged_or_foreign_store_trusts_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trust.toml");
        let mut store = Store::at(Some(path.clone()));
        store.add(Path::new("/p/x.so"), "aa").unwrap();

        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o622)).unwrap();
        let open = Store::at(Some(path.clone()));
        assert_eq!(open.look_up(Path::new("/p/x.so"), "aa"), Trust::Unknown);
        assert!(open.problem().unwrap().ends_with("others can write to it (mode 622)"), "{open:?}");

        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(&path, "[[plugin]]\npath = 3").unwrap();
        let mut damaged = Store::at(Some(path.clone()));
        assert!(damaged.problem().unwrap().contains("is damaged"), "{damaged:?}");
        assert!(damaged.add(Path::new("/p/x.so"), "aa").is_err(), "a damaged store is not overwritten");
    }

    #[test]
    fn a_digest_is_sha_256() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(
            digest(&File::open(&path).unwrap()).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
