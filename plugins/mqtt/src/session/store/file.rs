//! The journal file: found by server and client id, locked, appended to, written anew when it has grown.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ring::digest;

use super::Restored;
use super::record::{Change, HEADER, load, put};

/// Below this size a journal is never written anew.
const COMPACT_FROM: u64 = 1 << 20;
/// A larger file is not one that we wrote.
const MAX_FILE: u64 = 1 << 30;

/// An open journal. Its lock ends when it is dropped.
pub struct Store {
    path: PathBuf,
    file: File,
    _lock: File,
    size: u64,
    /// The size at which it is written anew.
    compact_at: u64,
    buffer: Vec<u8>,
}

/// A journal and what it held.
pub struct Opened {
    /// The journal.
    pub store: Store,
    /// The session to resume; empty when there was none.
    pub restored: Restored,
    /// The old journal was damaged: what was done, for the user.
    pub warning: Option<String>,
}

/// The session cannot be kept on disk. The text names the file and what can be done.
#[derive(Debug)]
pub enum StoreError {
    /// Another process uses the session.
    InUse(PathBuf),
    /// Reading or writing failed.
    Io(PathBuf, io::Error),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => write!(
                f,
                "another process uses this session (same server and client id; lock {}): end it, or choose \
                 another client id",
                path.display()
            ),
            Self::Io(path, error) => {
                write!(
                    f,
                    "can't keep the session in {}: {error}; a clean session needs no file",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::InUse(_) => None,
            Self::Io(_, error) => Some(error),
        }
    }
}

impl Store {
    /// Opens, or makes, the journal of this client id at this server (host and port, without credentials) in `dir`.
    ///
    /// # Errors
    /// Another process has it, or the folder or file cannot be used. A damaged file is no error: it is moved aside.
    pub fn open(dir: &Path, server: &str, client_id: &str) -> Result<Opened, StoreError> {
        fs::create_dir_all(dir).map_err(|error| StoreError::Io(dir.into(), error))?;
        let path = dir.join(name(server, client_id));
        let lock = lock(&path.with_extension("lock"))?;
        let failed = |error| StoreError::Io(path.clone(), error);
        let bytes = Bytes::from(read(&path).map_err(failed)?);
        let loaded = load(&bytes);
        let mut warning = None;
        if loaded.damaged {
            let aside = aside(&path);
            fs::rename(&path, &aside).map_err(failed)?;
            warning = Some(format!(
                "the kept session {} is damaged after {} good bytes; it was moved to {} and {} changes were taken \
                 over from it: messages that were in flight may come twice or not at all",
                path.display(),
                loaded.good,
                aside.display(),
                loaded.changes.len()
            ));
        }
        let restored = Restored::from_changes(loaded.changes);
        // Written anew at each start: whatever was torn or settled is gone, and the file is known to be writable.
        let snapshot = snapshot_of(&restored);
        let file = write_anew(&path, &snapshot).map_err(failed)?;
        let size = snapshot.len() as u64;
        let compact_at = compact_at(size);
        let store = Self { path, file, _lock: lock, size, compact_at, buffer: Vec::new() };
        Ok(Opened { store, restored, warning })
    }

    /// Writes the changes down, so that they outlive this process. `snapshot` gives the changes that lead to the
    /// present state from nothing; it is asked for when the file has grown far beyond what it holds.
    ///
    /// # Errors
    /// Writing failed, as on a full disk. Packets that follow from the changes must not be sent then.
    pub fn commit(
        &mut self,
        changes: &[Change],
        snapshot: impl FnOnce() -> Vec<Change>,
    ) -> Result<(), StoreError> {
        self.buffer.clear();
        changes.iter().for_each(|change| put(change, &mut self.buffer));
        if self.size + self.buffer.len() as u64 > self.compact_at {
            self.buffer.clear();
            self.buffer.extend_from_slice(HEADER);
            snapshot().iter().for_each(|change| put(change, &mut self.buffer));
            self.file = write_anew(&self.path, &self.buffer).map_err(|e| self.failed(e))?;
            self.size = self.buffer.len() as u64;
            self.compact_at = compact_at(self.size);
        } else {
            self.file.write_all(&self.buffer).map_err(|e| self.failed(e))?;
            self.size += self.buffer.len() as u64;
        }
        // One large message must not keep its memory for ever.
        self.buffer.shrink_to(1 << 16);
        Ok(())
    }

    fn failed(&self, error: io::Error) -> StoreError {
        StoreError::Io(self.path.clone(), error)
    }

    /// Where the journal is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn compact_at(size: u64) -> u64 {
    (size * 4).max(COMPACT_FROM)
}

fn snapshot_of(restored: &Restored) -> Vec<u8> {
    let mut out = HEADER.to_vec();
    for (pid, released, wire) in &restored.sent {
        put(&Change::Sent { pid: *pid, wire: wire.clone() }, &mut out);
        if *released {
            put(&Change::Released { pid: *pid }, &mut out);
        }
    }
    restored.received.iter().for_each(|pid| put(&Change::Received { pid: *pid }, &mut out));
    out
}

/// The names are hashed: they may hold any character, and whoever lists the folder learns no client ids.
fn name(server: &str, client_id: &str) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [server.as_bytes(), &[0], client_id.as_bytes()] {
        context.update(part);
    }
    let hex: String = context.finish().as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}.session")
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// The lock is a file of its own: the journal is replaced when it is written anew.
fn lock(path: &Path) -> Result<File, StoreError> {
    let file = private().truncate(false).open(path).map_err(|error| StoreError::Io(path.into(), error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.into())),
        Err(TryLockError::Error(error)) => Err(StoreError::Io(path.into(), error)),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn aside(path: &Path) -> PathBuf {
    (0u32..)
        .map(|number| path.with_extension(format!("damaged-{number}")))
        .find(|aside| !aside.exists())
        .unwrap_or_else(|| path.with_extension("damaged"))
}

/// Writes a complete journal beside the old one and puts it in its place, so that a crash leaves one or the other.
fn write_anew(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let new = path.with_extension("new");
    let mut file = private().truncate(true).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    #[cfg(unix)]
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(pid: u16, payload: usize) -> Change {
        Change::Sent { pid, wire: Bytes::from(vec![b'x'; payload]) }
    }

    fn open(dir: &Path) -> Opened {
        Store::open(dir, "localhost:1883", "me").unwrap()
    }

    #[test]
    fn what_was_committed_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let Opened { mut store, restored, warning } = open(dir.path());
        assert!(restored.is_empty() && warning.is_none());
        store.commit(&[sent(1, 10), sent(2, 10), Change::Received { pid: 5 }], Vec::new).unwrap();
        store.commit(&[Change::Released { pid: 2 }, Change::Done { pid: 1 }], Vec::new).unwrap();
        drop(store);
        let restored = open(dir.path()).restored;
        assert_eq!(restored.sent, vec![(2, true, Bytes::from(vec![b'x'; 10]))]);
        assert_eq!(restored.received, vec![5]);
        // Opening wrote it anew: the same again.
        assert_eq!(open(dir.path()).restored, restored);
    }

    #[test]
    fn two_processes_cannot_share_a_session() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path());
        let error = Store::open(dir.path(), "localhost:1883", "me").err().unwrap();
        assert!(error.to_string().contains("another process uses this session"), "{error}");
        assert!(Store::open(dir.path(), "localhost:1883", "you").is_ok());
        drop(first);
        open(dir.path());
    }

    #[test]
    fn a_damaged_file_is_moved_aside_with_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let Opened { mut store, .. } = open(dir.path());
        store.commit(&[sent(1, 10), sent(2, 10)], Vec::new).unwrap();
        let path = store.path().to_owned();
        drop(store);
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() - 30;
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let mut files = Vec::new();
        for _ in 0..2 {
            let opened = open(dir.path());
            files.push(opened.warning);
            assert!(opened.restored.sent.is_empty());
        }
        assert!(files[0].as_ref().unwrap().contains("damaged-0") && files[1].is_none());
        assert_eq!(fs::read(path.with_extension("damaged-0")).unwrap(), bytes);
    }

    #[test]
    fn it_is_written_anew_when_it_has_grown() {
        let dir = tempfile::tempdir().unwrap();
        let Opened { mut store, .. } = open(dir.path());
        for _ in 0..40 {
            store.commit(&[sent(1, 100_000), Change::Done { pid: 1 }], || vec![sent(9, 5)]).unwrap();
        }
        assert!(fs::metadata(store.path()).unwrap().len() <= COMPACT_FROM);
        drop(store);
        assert_eq!(open(dir.path()).restored.sent, vec![(9, false, Bytes::from_static(b"xxxxx"))]);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).store;
        assert_eq!(fs::metadata(store.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
