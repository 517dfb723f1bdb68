//! Numbers that must outlive the process, in two files.
//!
//! The one holds them as they are. It is written before they are acted on, under a lock, so that any number of processes
//! count on together and one that is killed leaves nothing behind that could be used again. It is not forced to the disk,
//! since that takes milliseconds. What is, is a limit ahead of the numbers in use, in the other file, raised in steps. After
//! the computer has been down (the boot id tells), the first file is not believed, and the limit stands for it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::error::OscoreError;

/// How far the limit is ahead, so that the disk is waited for once in so many messages.
pub(super) const STEP: u64 = 256;

/// What is kept, and what is said when that is not possible.
#[derive(Debug)]
pub(super) struct Kind {
    /// What comes before the numbers, so that another file in this place is noticed.
    pub(super) mark: &'static str,
    /// How the files' names end.
    pub(super) numbers: &'static str,
    pub(super) limit: &'static str,
    /// As the beginning of a sentence, and its end.
    pub(super) what: &'static str,
    pub(super) without: &'static str,
}

/// N numbers, and the limit of one of them.
#[derive(Debug)]
pub(super) struct Kept<const N: usize> {
    kind: &'static Kind,
    numbers: PathBuf,
    limit: PathBuf,
    /// Open as long as there are messages.
    file: File,
    /// Empty where a restart of the computer can't be told: then nothing but the limit is believed.
    boot: String,
}

impl<const N: usize> Kept<N> {
    /// What is kept in `folder` for the key with this fingerprint.
    pub(super) fn open(
        folder: &Path,
        fingerprint: &str,
        kind: &'static Kind,
        boot: &str,
    ) -> Result<Kept<N>, OscoreError> {
        let path = |end: &str| folder.join(format!("oscore-{fingerprint}.{end}"));
        let numbers = path(kind.numbers);
        let opened = fs::create_dir_all(folder).and_then(|()| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            private(&mut options);
            options.open(&numbers)
        });
        let file = opened.map_err(|error| kind.failed(&numbers, &error))?;
        Ok(Kept { kind, limit: path(kind.limit), numbers, file, boot: boot.to_owned() })
    }

    pub(super) fn boot(&self) -> &str {
        &self.boot
    }

    /// Does something that no other process does at the same time.
    pub(super) fn locked<T>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<T, OscoreError>,
    ) -> Result<T, OscoreError> {
        self.file.lock().map_err(|error| self.kind.failed(&self.numbers, &error))?;
        let changed = change(self);
        // A lock that can't be taken off ends with the process, and what was written is good.
        let _ = self.file.unlock();
        changed
    }

    /// `None`: there is nothing yet, or nothing since the computer was started.
    pub(super) fn read(&mut self) -> Result<Option<[u64; N]>, OscoreError> {
        if self.boot.is_empty() {
            return Ok(None);
        }
        let mut text = String::new();
        self.file
            .rewind()
            .and_then(|()| (&mut self.file).take(1000).read_to_string(&mut text))
            .map_err(|error| self.kind.failed(&self.numbers, &error))?;
        let mut words = text.split_whitespace();
        if words.next() != Some(self.kind.mark) || words.next() != Some(&self.boot) {
            return Ok(None);
        }
        let mut numbers = [0; N];
        for number in &mut numbers {
            let Some(word) = words.next().and_then(|word| word.parse().ok()) else { return Ok(None) };
            *number = word;
        }
        Ok((words.next() == Some(".")).then_some(numbers))
    }

    pub(super) fn write(&mut self, numbers: [u64; N]) -> Result<(), OscoreError> {
        let mut text = format!("{} {}", self.kind.mark, self.boot);
        for number in numbers {
            // Always the same width: a shorter text would leave the end of a longer one behind.
            text.push_str(&format!(" {number:020}"));
        }
        text.push_str(" .\n");
        self.file
            .rewind()
            .and_then(|()| self.file.write_all(text.as_bytes()))
            .map_err(|error| self.kind.failed(&self.numbers, &error))
    }

    /// `None`: there never was one.
    pub(super) fn read_limit(&self) -> Result<Option<u64>, OscoreError> {
        let text = match fs::read_to_string(&self.limit) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.kind.failed(&self.limit, &error)),
        };
        let limit = text.strip_prefix(self.kind.mark).and_then(|rest| rest.trim().parse().ok());
        let damaged = || {
            let Kind { what, .. } = self.kind;
            OscoreError::Storage(format!(
                "{}: the file is damaged, so that {what} can't be known; agree on a new --oscore-master-secret with the \
                 other side",
                self.limit.display()
            ))
        };
        limit.map(Some).ok_or_else(damaged)
    }

    /// Replaces the limit, and returns when the disk has it.
    pub(super) fn write_limit(&self, limit: u64) -> Result<(), OscoreError> {
        write_durably(&self.limit, &format!("{} {limit}\n", self.kind.mark))
            .map_err(|error| self.kind.failed(&self.limit, &error))
    }
}

impl Kind {
    fn failed(&self, path: &Path, error: &io::Error) -> OscoreError {
        let Kind { what, without, .. } = self;
        OscoreError::Storage(format!("{}: {what} can't be kept ({error}), and {without}", path.display()))
    }
}

/// What tells one start of the computer from the next; empty where the system does not say.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
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
