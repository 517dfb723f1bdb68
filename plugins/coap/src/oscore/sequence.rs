//! Sender sequence numbers, none of which may ever come twice (RFC 8613 sections 7.2.1 and B.1.1): with the same key, one
//! nonce for two messages gives both away.
//!
//! Two files for each sender key. `.next` holds the next number; it is written before the number is used, under a lock, so
//! that any number of processes count on together and one that is killed leaves nothing behind to be used again. It is not
//! forced to the disk, since that takes milliseconds. What is, is `.limit`, a limit ahead of the numbers in use, raised in
//! steps. After the computer has been down (the boot id tells), what `.next` says is not believed, and counting begins at the
//! limit.
//!
//! Numbers in turn rather than a range for each process: a server accepts only what is less than 32 below the highest
//! number seen, so that of two processes with ranges of their own one would be shut out.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::ops::RangeFrom;
use std::path::{Path, PathBuf};

use super::error::OscoreError;

/// How far the limit is ahead, so that the disk is waited for once in so many messages.
const STEP: u64 = 256;
/// What comes before a number, so that another file in this place is noticed.
const MARK: &str = "oscore-sequence";

/// Hands out sender sequence numbers.
pub trait Counting: Send {
    /// A number that was never handed out before for these keys.
    ///
    /// # Errors
    /// [`OscoreError::Storage`]: nothing may be sent.
    fn next_number(&mut self) -> Result<u64, OscoreError>;
}

/// Numbers from here on, remembered by nobody: for keys that are used once.
impl Counting for RangeFrom<u64> {
    fn next_number(&mut self) -> Result<u64, OscoreError> {
        self.next().ok_or(OscoreError::Exhausted)
    }
}

/// The numbers of one sender key, shared by all processes that use the same folder.
#[derive(Debug)]
pub struct Sequence {
    next: PathBuf,
    limit: PathBuf,
    /// Open while there are messages, and locked for each number.
    file: File,
    boot: String,
}

/// What `.next` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    next: u64,
    limit: u64,
}

impl Sequence {
    /// The numbers of the key with this fingerprint, kept in `folder`.
    ///
    /// # Errors
    /// [`OscoreError::Storage`], with the file's name.
    pub fn open(folder: &Path, fingerprint: &str) -> Result<Sequence, OscoreError> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Sequence::open_since(folder, fingerprint, boot.trim())
    }

    fn open_since(folder: &Path, fingerprint: &str, boot: &str) -> Result<Sequence, OscoreError> {
        let file = |kind: &str| folder.join(format!("oscore-{fingerprint}.{kind}"));
        let next = file("next");
        let opened = fs::create_dir_all(folder).and_then(|()| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            private(&mut options);
            options.open(&next)
        });
        let opened = opened.map_err(|error| failed(&next, &error))?;
        Ok(Sequence { limit: file("limit"), file: opened, boot: boot.to_owned(), next })
    }

    /// Under the lock.
    fn take(&mut self) -> Result<u64, OscoreError> {
        let State { next, mut limit } = match self.read_next()? {
            Some(state) => state,
            None => {
                let limit = self.read_limit()?;
                State { next: limit, limit }
            }
        };
        if next >= limit {
            // Where a restart of the computer can't be told, nothing but the disk is believed.
            limit = next + if self.boot.is_empty() { 1 } else { STEP };
            write_durably(&self.limit, &format!("{MARK} {limit}\n"))
                .map_err(|error| failed(&self.limit, &error))?;
        }
        self.write_next(State { next: next + 1, limit })?;
        Ok(next)
    }

    /// `None`: there is nothing yet, or nothing since the computer was started.
    fn read_next(&mut self) -> Result<Option<State>, OscoreError> {
        if self.boot.is_empty() {
            return Ok(None);
        }
        let mut text = String::new();
        self.file
            .rewind()
            .and_then(|()| (&mut self.file).take(1000).read_to_string(&mut text))
            .map_err(|error| failed(&self.next, &error))?;
        let fields: Vec<&str> = text.split_whitespace().collect();
        Ok(match fields[..] {
            [MARK, boot, next, limit, "."] if boot == self.boot => match (next.parse(), limit.parse()) {
                (Ok(next), Ok(limit)) => Some(State { next, limit }),
                _ => None,
            },
            _ => None,
        })
    }

    fn write_next(&mut self, state: State) -> Result<(), OscoreError> {
        // Numbers of always the same width: a shorter text would leave the end of a longer one behind.
        let State { next, limit } = state;
        let text = format!("{MARK} {} {next:020} {limit:020} .\n", self.boot);
        self.file
            .rewind()
            .and_then(|()| self.file.write_all(text.as_bytes()))
            .map_err(|error| failed(&self.next, &error))
    }

    fn read_limit(&self) -> Result<u64, OscoreError> {
        let text = match fs::read_to_string(&self.limit) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(failed(&self.limit, &error)),
        };
        let limit = text.strip_prefix(MARK).and_then(|rest| rest.trim().parse().ok());
        limit.ok_or_else(|| {
            OscoreError::Storage(format!(
                "{}: the file is damaged, and which OSCORE sequence numbers were used can't be known; agree on a new \
                 --oscore-master-secret with the other side",
                self.limit.display()
            ))
        })
    }
}

impl Counting for Sequence {
    fn next_number(&mut self) -> Result<u64, OscoreError> {
        self.file.lock().map_err(|error| failed(&self.next, &error))?;
        let taken = self.take();
        // A lock that can't be taken off ends with the process, and the number is good.
        let _ = self.file.unlock();
        taken
    }
}

fn failed(path: &Path, error: &io::Error) -> OscoreError {
    OscoreError::Storage(format!(
        "{}: the OSCORE sequence number can't be kept ({error}), and without that nothing may be sent",
        path.display()
    ))
}

/// Replaces the file as a whole, and returns when the disk has it.
fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("limit.new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    private(&mut options);
    let mut file = options.open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn private(_: &mut OpenOptions) {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn open(folder: &Path, boot: &str) -> Sequence {
        Sequence::open_since(folder, "f", boot).expect("a folder that can be written")
    }

    fn take(sequence: &mut Sequence, count: usize) -> Vec<u64> {
        (0..count).map(|_| sequence.next_number().expect("a number")).collect()
    }

    #[test]
    fn numbers_go_on_after_the_process() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(take(&mut open(folder.path(), "boot"), 3), [0, 1, 2]);
        assert_eq!(take(&mut open(folder.path(), "boot"), 300)[..2], [3, 4]);
        assert_eq!(take(&mut open(folder.path(), "boot"), 1), [303]);
        let (mut one, mut other) = (open(folder.path(), "boot"), open(folder.path(), "boot"));
        assert_eq!(
            (take(&mut one, 1), take(&mut other, 1), take(&mut one, 1)),
            (vec![304], vec![305], vec![306])
        );
    }

    #[test]
    fn after_a_restart_of_the_computer_they_go_on_at_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(take(&mut open(folder.path(), "one"), 3), [0, 1, 2]);
        assert_eq!(take(&mut open(folder.path(), "two"), 2), [STEP, STEP + 1]);
        // The file that was not forced to the disk may be gone, or older than it was.
        fs::write(folder.path().join("oscore-f.next"), "").unwrap();
        assert_eq!(take(&mut open(folder.path(), "two"), 1), [2 * STEP]);
        fs::remove_file(folder.path().join("oscore-f.next")).unwrap();
        assert_eq!(take(&mut open(folder.path(), "three"), 1), [3 * STEP]);
    }

    #[test]
    fn where_a_restart_can_not_be_told_every_number_is_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(take(&mut open(folder.path(), ""), 3), [0, 1, 2]);
        assert_eq!(fs::read_to_string(folder.path().join("oscore-f.limit")).unwrap(), "oscore-sequence 3\n");
        assert_eq!(take(&mut open(folder.path(), ""), 1), [3]);
    }

    #[test]
    fn a_damaged_limit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        take(&mut open(folder.path(), "one"), 1);
        fs::write(folder.path().join("oscore-f.limit"), "oscore-sequence 12x\n").unwrap();
        let error = open(folder.path(), "two").next_number().unwrap_err().to_string();
        assert!(error.contains("oscore-f.limit") && error.contains("--oscore-master-secret"), "{error}");
    }

    #[test]
    fn threads_share_no_number() {
        let folder = tempfile::tempdir().unwrap();
        let counters: Vec<_> = (0..4)
            .map(|_| {
                let mut sequence = open(folder.path(), "boot");
                std::thread::spawn(move || take(&mut sequence, 500))
            })
            .collect();
        let all: Vec<u64> = counters.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 2000);
        assert_eq!(all.iter().max(), Some(&1999));
    }

    #[cfg(unix)]
    #[test]
    fn the_files_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        take(&mut open(folder.path(), "boot"), 1);
        for file in fs::read_dir(folder.path()).unwrap() {
            let mode = file.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
