//! A log in a folder: files that are only appended to, each named after the first event in it.
//!
//! What was appended has been handed to the system before it is accepted, so it outlives the process, however that ends. The
//! disk is told within a second (by [`Folder::unsynced`]'s caller), so that a loss of power may cost that second. On opening
//! every record is checked; what was torn off in the last file is cut, because it was never accepted. Damage anywhere else is
//! not repaired but told: whoever cut there would lose events that were accepted.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{Block, Mark, Record};
use super::{Around, Piece, Place, count_before};

const MAGIC: &[u8; 8] = b"TMQEH\x01\r\n";
/// A file is followed by another when it is longer than this.
const FILE_BYTES: u64 = 16 << 20;
/// Distance of marks.
const STRIDE: u64 = 64 * 1024;

#[derive(Debug)]
struct Segment {
    /// The sequence number of its first event.
    first: u64,
    path: PathBuf,
    file: Arc<File>,
    length: u64,
}

#[derive(Debug)]
struct Entry {
    mark: Mark,
    /// [`Segment::first`].
    segment: u64,
    at: u64,
}

/// A log that outlives the process.
#[derive(Debug)]
pub(crate) struct Folder {
    folder: PathBuf,
    /// The last is the one that is written.
    segments: VecDeque<Segment>,
    entries: VecDeque<Entry>,
    unsynced: bool,
}

/// What a folder held.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) log: Folder,
    /// Of the first and the last event.
    pub(crate) events: Option<(Mark, Mark)>,
    /// Of the event to come: sequence number and offset.
    pub(crate) next: (u64, u64),
    /// Bytes that were cut off, because they were never accepted.
    pub(crate) cut: u64,
}

fn damaged(path: &Path, at: u64, what: &str) -> io::Error {
    let text = format!("{} is damaged at byte {at}: {what}", path.display());
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The sequence number and the offset in a file's name.
fn named(path: &Path) -> Option<(u64, u64)> {
    let (sequence, offset) = path.file_name()?.to_str()?.strip_suffix(".log")?.split_once('-')?;
    Some((sequence.parse().ok()?, offset.parse().ok()?))
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

impl Folder {
    /// Opens a log, and makes the folder if it is not there.
    ///
    /// # Errors
    /// The folder or a file can't be read or written, or is damaged.
    pub(crate) fn open(folder: &Path) -> io::Result<Recovered> {
        fs::create_dir_all(folder)?;
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if let Some(start) = named(&path) {
                files.push((start, path));
            }
        }
        files.sort();
        let mut recovered = Recovered {
            log: Folder {
                folder: folder.to_owned(),
                segments: VecDeque::new(),
                entries: VecDeque::new(),
                unsynced: false,
            },
            events: None,
            next: files.first().map_or((0, 0), |(start, _)| *start),
            cut: 0,
        };
        let count = files.len();
        for (index, (start, path)) in files.into_iter().enumerate() {
            if start != recovered.next {
                let text = format!("{}: the file before it is missing or too short", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            recovered.read(path, start.0, index + 1 == count)?;
        }
        Ok(recovered)
    }

    pub(super) fn append(&mut self, block: &Block) -> io::Result<()> {
        let Some(((first, _), last)) = block.marks.first().zip(self.segments.back()) else {
            return self.append_to_new(block);
        };
        if last.length > FILE_BYTES {
            last.file.sync_data()?;
            return self.append_to_new(block);
        }
        debug_assert!(first.sequence >= last.first);
        self.write(block)
    }

    fn append_to_new(&mut self, block: &Block) -> io::Result<()> {
        let Some((mark, _)) = block.marks.first() else { return Ok(()) };
        let path = self.folder.join(format!("{:020}-{:020}.log", mark.sequence, mark.offset));
        let file = open(&path)?;
        file.set_len(0)?;
        file.write_all_at(MAGIC, 0)?;
        let length = MAGIC.len() as u64;
        self.segments.push_back(Segment { first: mark.sequence, path, file: Arc::new(file), length });
        self.write(block).inspect_err(|_| {
            // Without an event, the name would say what is not so.
            if let Some(empty) = self.segments.pop_back() {
                let _ = fs::remove_file(empty.path);
            }
        })
    }

    fn write(&mut self, block: &Block) -> io::Result<()> {
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        if let Err(error) = segment.file.write_all_at(&block.bytes, segment.length) {
            // What was written of it has not been accepted. If it can't be cut now, it is overwritten, or cut on opening.
            let _ = segment.file.set_len(segment.length);
            return Err(error);
        }
        for (mark, at) in &block.marks {
            let at = segment.length + *at as u64;
            let far = |entry: &Entry| entry.segment != segment.first || at - entry.at >= STRIDE;
            if self.entries.back().is_none_or(far) {
                self.entries.push_back(Entry { mark: *mark, segment: segment.first, at });
            }
        }
        segment.length += block.bytes.len() as u64;
        self.unsynced = true;
        Ok(())
    }

    fn entry(&self, index: usize) -> Option<Piece> {
        let entry = self.entries.get(index)?;
        let segment = self.segments.iter().find(|segment| segment.first == entry.segment)?;
        let next = self.entries.get(index + 1).filter(|next| next.segment == entry.segment);
        let end = next.map_or(segment.length, |next| next.at);
        Some(Piece::File { file: Arc::clone(&segment.file), at: entry.at, length: (end - entry.at) as usize })
    }

    pub(super) fn piece(&self, sequence: u64) -> Option<Piece> {
        let behind = count_before(self.entries.len(), |index| self.entries[index].mark.sequence > sequence);
        self.entry(behind.checked_sub(1)?)
    }

    pub(super) fn around(&self, place: Place) -> Around {
        let behind = count_before(self.entries.len(), |index| place.reached(&self.entries[index].mark));
        let piece = behind.checked_sub(1).and_then(|before| self.entry(before));
        Around { piece, next: self.entries.get(behind).map(|entry| entry.mark) }
    }

    pub(super) fn forget(&mut self, sequence: u64) {
        while self.entries.get(1).is_some_and(|entry| entry.mark.sequence <= sequence) {
            self.entries.pop_front();
        }
        let Some(oldest) = self.entries.front().map(|entry| entry.segment) else { return };
        while self.segments.len() > 1 && self.segments[0].first < oldest {
            if let Some(segment) = self.segments.pop_front()
                && let Err(error) = fs::remove_file(&segment.path)
            {
                log::warn!("cannot remove {}: {error}", segment.path.display());
            }
        }
    }

    pub(super) fn unsynced(&mut self) -> Option<Arc<File>> {
        std::mem::take(&mut self.unsynced).then(|| self.segments.back().map(|last| Arc::clone(&last.file)))?
    }
}

impl Recovered {
    fn read(&mut self, path: PathBuf, first: u64, is_last: bool) -> io::Result<()> {
        let file = open(&path)?;
        let bytes = fs::read(&path)?;
        let mut at = MAGIC.len();
        // Where the last event that was accepted ends.
        let mut accepted = at;
        let mut marks: Vec<(Mark, usize)> = Vec::new();
        let mut events: Option<(Mark, Mark)> = None;
        if bytes.get(..at) != Some(MAGIC) {
            // Killed while it was made; or not ours.
            if !is_last || !MAGIC.starts_with(&bytes) {
                return Err(damaged(&path, 0, "it is no log of events"));
            }
            file.write_all_at(MAGIC, 0)?;
            (at, accepted) = (bytes.len(), bytes.len());
        }
        let mut next = self.next;
        while let Some(record) = Record::checked(&bytes[at..]) {
            let mark = record.mark;
            if (mark.sequence, mark.offset) != next {
                break;
            }
            if marks.last().is_none_or(|(_, marked)| (at - marked) as u64 >= STRIDE) {
                marks.push((mark, at));
            }
            at += record.length;
            next = (mark.sequence + 1, mark.offset + record.length as u64);
            if record.last {
                (accepted, self.next) = (at, next);
                events = Some((events.map_or(mark, |(first, _)| first), mark));
            } else if events.is_none() {
                events = Some((mark, mark));
            }
        }
        // A transfer that was torn in its middle leaves marks and a first event that are not there.
        marks.retain(|(_, at)| *at < accepted);
        let events = events.filter(|_| !marks.is_empty());
        let mut length = bytes.len().max(MAGIC.len());
        if accepted < bytes.len() {
            if !is_last {
                return Err(damaged(
                    &path,
                    accepted as u64,
                    "other files follow it, so that it can't be cut there",
                ));
            }
            self.cut = (bytes.len() - accepted) as u64;
            length = accepted.max(MAGIC.len());
            file.set_len(length as u64)?;
        }
        let entries = marks.into_iter().map(|(mark, at)| Entry { mark, segment: first, at: at as u64 });
        self.log.entries.extend(entries);
        self.log.segments.push_back(Segment { first, path, file: Arc::new(file), length: length as u64 });
        if let Some((first, last)) = events {
            self.events = Some((self.events.map_or(first, |(oldest, _)| oldest), last));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::block;
    use super::*;

    fn texts(count: usize, size: usize) -> Vec<String> {
        (0..count).map(|number| format!("{number}{}", "x".repeat(size))).collect()
    }

    /// Appends blocks of so many events each; gives the place of the event to come.
    fn fill(recovered: &mut Recovered, blocks: &[usize], size: usize) {
        for count in blocks {
            let (sequence, offset) = recovered.next;
            let block = block(&texts(*count, size), Mark { sequence, offset, time: sequence as i64 });
            recovered.log.append(&block).expect("it can be written");
            recovered.next = (sequence + block.count, offset + block.bytes.len() as u64);
        }
    }

    fn sequences(log: &Folder, from: u64, to: u64) -> Vec<u64> {
        let mut next = from;
        let mut found = Vec::new();
        while next < to {
            let bytes = log.piece(next).expect("a piece").read().expect("it can be read");
            let mut rest = &bytes[..];
            let before = next;
            while let Some(record) = Record::checked(rest) {
                rest = &rest[record.length..];
                if record.mark.sequence >= next {
                    assert_eq!(record.mark.sequence, next);
                    found.push(next);
                    next += 1;
                }
            }
            assert!(
                next > before && rest.is_empty(),
                "a piece without what it is for, or that ends within a record"
            );
        }
        found
    }

    #[test]
    fn what_was_appended_is_there_after_opening_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut first = Folder::open(dir.path()).expect("a log");
        assert_eq!((first.events, first.next), (None, (0, 0)));
        fill(&mut first, &[1, 300, 2, 1000], 500);
        let end = first.next;
        assert_eq!(sequences(&first.log, 0, end.0), (0..1303).collect::<Vec<_>>());
        drop(first);
        let mut again = Folder::open(dir.path()).expect("a log");
        assert_eq!((again.next, again.cut), (end, 0));
        assert_eq!(again.events.map(|(first, last)| (first.sequence, last.sequence)), Some((0, 1302)));
        fill(&mut again, &[5], 10);
        assert_eq!(sequences(&again.log, 1000, 1308), (1000..1308).collect::<Vec<_>>());
    }

    #[test]
    fn a_torn_tail_is_cut_to_what_was_accepted_wherever_it_was_torn() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut first = Folder::open(dir.path()).expect("a log");
        fill(&mut first, &[2, 1], 20);
        let (whole, path) = (first.next, first.log.segments[0].path.clone());
        let accepted = first.log.segments[0].length as usize;
        fill(&mut first, &[3], 20);
        drop(first);
        let bytes = fs::read(&path).expect("the file");
        for length in accepted..bytes.len() {
            fs::write(&path, &bytes[..length]).expect("it can be written");
            let again = Folder::open(dir.path()).expect("a log");
            assert_eq!((again.next, again.cut), (whole, (length - accepted) as u64), "{length}");
            assert_eq!(fs::metadata(&path).expect("the file").len(), accepted as u64);
        }
        // Within the header, and within the first transfer.
        for length in [0, 3, 8, 9, 40] {
            fs::write(&path, &bytes[..length]).expect("it can be written");
            let mut again = Folder::open(dir.path()).expect("a log");
            assert_eq!((again.next, again.events), ((0, 0), None), "{length}");
            fill(&mut again, &[1], 5);
            drop(again);
            assert_eq!(Folder::open(dir.path()).expect("a log").next.0, 1);
        }
    }

    #[test]
    fn files_follow_each_other_and_old_ones_go() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut log = Folder::open(dir.path()).expect("a log");
        fill(&mut log, &[40; 3], 450_000);
        assert_eq!(log.log.segments.len(), 3);
        let count = || fs::read_dir(dir.path()).expect("the folder").count();
        assert_eq!(count(), 3);
        log.log.forget(79);
        assert_eq!((count(), sequences(&log.log, 79, 81)), (2, vec![79, 80]));
        log.log.forget(1000);
        assert_eq!(count(), 1, "the one that is written stays");
        let end = log.next;
        drop(log);
        let again = Folder::open(dir.path()).expect("a log");
        assert_eq!((again.next, again.events.map(|(first, _)| first.sequence)), (end, Some(80)));
    }

    #[test]
    fn damage_that_is_no_torn_tail_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut log = Folder::open(dir.path()).expect("a log");
        fill(&mut log, &[40; 2], 450_000);
        let path = log.log.segments[0].path.clone();
        drop(log);
        let mut bytes = fs::read(&path).expect("the file");
        bytes[10_000] ^= 1;
        fs::write(&path, &bytes).expect("it can be written");
        let error = Folder::open(dir.path()).expect_err("damaged").to_string();
        assert!(error.contains("damaged at byte 8") && error.contains(".log"), "{error}");
        fs::remove_file(&path).expect("it can be removed");
        assert!(
            Folder::open(dir.path())
                .is_ok_and(|log| log.events.is_some_and(|(first, _)| first.sequence == 40))
        );
        fs::write(&path, b"something else").expect("it can be written");
        assert!(Folder::open(dir.path()).is_err());
    }

    #[test]
    fn places_are_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut log = Folder::open(dir.path()).expect("a log");
        fill(&mut log, &[1; 400], 1000);
        let around = log.log.around(Place::Time(250));
        let bytes = around.piece.expect("a piece").read().expect("it can be read");
        let first = Record::read(&bytes).expect("a record").mark;
        assert!(first.time < 250 && around.next.is_none_or(|next| next.time >= 250));
        assert!(log.log.around(Place::Time(0)).piece.is_none());
        assert_eq!(log.log.around(Place::Offset(u64::MAX)).next, None);
    }
}
