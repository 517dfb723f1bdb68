//! A log in memory: the blocks as they came.

use std::collections::VecDeque;

use bytes::Bytes;

use super::record::{Block, Mark};
use super::{Around, Piece, Place, count_before};

/// A log that ends with the process.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pieces: VecDeque<(Mark, Bytes)>,
}

impl Memory {
    pub(super) fn append(&mut self, block: &Block) {
        let ends = block.marks.iter().skip(1).map(|(_, at)| *at).chain([block.bytes.len()]);
        let pieces =
            block.marks.iter().zip(ends).map(|((mark, at), end)| (*mark, block.bytes.slice(*at..end)));
        self.pieces.extend(pieces);
    }

    pub(super) fn piece(&self, sequence: u64) -> Option<Bytes> {
        let behind = count_before(self.pieces.len(), |index| self.pieces[index].0.sequence > sequence);
        Some(self.pieces.get(behind.checked_sub(1)?)?.1.clone())
    }

    pub(super) fn around(&self, place: Place) -> Around {
        let behind = count_before(self.pieces.len(), |index| place.reached(&self.pieces[index].0));
        let piece = behind.checked_sub(1).map(|before| Piece::Bytes(self.pieces[before].1.clone()));
        Around { piece, next: self.pieces.get(behind).map(|(mark, _)| *mark) }
    }

    pub(super) fn forget(&mut self, sequence: u64) {
        while self.pieces.get(1).is_some_and(|(mark, _)| mark.sequence <= sequence) {
            self.pieces.pop_front();
        }
    }
}
