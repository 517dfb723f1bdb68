//! The events of a partition, in memory or in a folder.
//!
//! An event is encoded once, when it comes, as every reader will get it ([`record`]): a delivery then is a copy of bytes. What
//! was appended together is one block. Readers take pieces of the log that begin at an event and hold whole events only; in
//! memory these are the blocks themselves, in a folder they are read from its files.

mod folder;
mod memory;
mod record;

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

pub(super) use folder::Folder;
pub(super) use memory::Memory;
pub(super) use record::{Block, Event, Mark, Record, encode};

/// What a reader may go on from, beside a sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Offset(u64),
    /// Milliseconds since 1970-01-01 UTC.
    Time(i64),
}

impl Place {
    /// Whether an event stands at the place or behind it.
    pub(super) fn reached(self, mark: &Mark) -> bool {
        match self {
            Place::Offset(offset) => mark.offset >= offset,
            Place::Time(time) => mark.time >= time,
        }
    }
}

/// Where to look for a place: in the piece, and if it is not reached there, it is at the mark.
#[derive(Debug)]
pub(super) struct Around {
    pub(super) piece: Option<Piece>,
    pub(super) next: Option<Mark>,
}

/// How many of these marks, which are in order, are not `reached`.
fn count_before(marks: usize, reached: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, marks);
    while low < high {
        let middle = (low + high) / 2;
        if reached(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

/// A piece of a log: where its bytes are. Files are read when nobody waits for the lock.
#[derive(Debug)]
pub(super) enum Piece {
    Bytes(Bytes),
    File { file: Arc<File>, at: u64, length: usize },
}

impl Piece {
    pub(super) fn read(self) -> io::Result<Bytes> {
        match self {
            Piece::Bytes(bytes) => Ok(bytes),
            Piece::File { file, at, length } => {
                let mut bytes = vec![0; length];
                std::os::unix::fs::FileExt::read_exact_at(&*file, &mut bytes, at)?;
                Ok(bytes.into())
            }
        }
    }
}

#[derive(Debug)]
pub(super) enum Log {
    Memory(Memory),
    Folder(Folder),
}

impl Log {
    /// Whether records are to have checksums.
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Log::Folder(_))
    }

    /// # Errors
    /// The file can't be written. Then it is as it was before.
    pub(super) fn append(&mut self, block: &Block) -> io::Result<()> {
        match self {
            Log::Memory(memory) => {
                memory.append(block);
                Ok(())
            }
            Log::Folder(folder) => folder.append(block),
        }
    }

    /// The piece in which an event stands that is there: it begins with that event or one before it.
    pub(super) fn piece(&self, sequence: u64) -> Option<Piece> {
        match self {
            Log::Memory(memory) => memory.piece(sequence).map(Piece::Bytes),
            Log::Folder(folder) => folder.piece(sequence),
        }
    }

    pub(super) fn around(&self, place: Place) -> Around {
        match self {
            Log::Memory(memory) => memory.around(place),
            Log::Folder(folder) => folder.around(place),
        }
    }

    /// Forgets what stands wholly before this event.
    pub(super) fn forget(&mut self, sequence: u64) {
        match self {
            Log::Memory(memory) => memory.forget(sequence),
            Log::Folder(folder) => folder.forget(sequence),
        }
    }

    /// The file that holds what was appended last, if it has to be told to the disk.
    pub(super) fn unsynced(&mut self) -> Option<Arc<File>> {
        match self {
            Log::Memory(_) => None,
            Log::Folder(folder) => folder.unsynced(),
        }
    }
}
