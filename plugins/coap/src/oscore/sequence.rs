//! Sender sequence numbers, none of which may ever come twice (RFC 8613 sections 7.2.1 and B.1.1): with the same key, one
//! nonce for two messages gives both away. They are kept as [`kept`](super::kept) says.
//!
//! Numbers in turn rather than a range for each process: a server accepts only what is less than 32 below the highest
//! number seen, so that of two processes with ranges of their own one would be shut out.

use std::ops::RangeFrom;
use std::path::Path;

use super::error::OscoreError;
use super::kept::{Kept, Kind, STEP, boot_id};

const KIND: Kind = Kind {
    mark: "oscore-sequence",
    numbers: "next",
    limit: "limit",
    what: "which OSCORE sequence numbers were used",
    without: "without that nothing may be sent",
};

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
    /// The next number, and the limit that is on the disk.
    kept: Kept<2>,
}

impl Sequence {
    /// The numbers of the key with this fingerprint, kept in `folder`.
    ///
    /// # Errors
    /// [`OscoreError::Storage`], with the file's name.
    pub fn open(folder: &Path, fingerprint: &str) -> Result<Sequence, OscoreError> {
        Sequence::open_since(folder, fingerprint, &boot_id())
    }

    fn open_since(folder: &Path, fingerprint: &str, boot: &str) -> Result<Sequence, OscoreError> {
        Kept::open(folder, fingerprint, &KIND, boot).map(|kept| Sequence { kept })
    }
}

impl Counting for Sequence {
    fn next_number(&mut self) -> Result<u64, OscoreError> {
        self.kept.locked(|kept| {
            let [next, mut limit] = match kept.read()? {
                Some(numbers) => numbers,
                None => [kept.read_limit()?.unwrap_or(0); 2],
            };
            if next >= limit {
                // Where a restart of the computer can't be told, nothing but the disk is believed.
                limit = next + if kept.boot().is_empty() { 1 } else { STEP };
                kept.write_limit(limit)?;
            }
            kept.write([next + 1, limit])?;
            Ok(next)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::fs;

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
