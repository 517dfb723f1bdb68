//! Packet identifiers. PUBLISH, SUBSCRIBE and UNSUBSCRIBE share the one space (5.0, section 2.2.1): an identifier
//! that is still in use is skipped, whichever of them uses it.

const WORDS: usize = 1024;

/// A set of the 65,535 identifiers, and where to look for the next free one.
pub(super) struct PacketIds {
    used: Box<[u64; WORDS]>,
    count: usize,
    last: u16,
}

impl Default for PacketIds {
    fn default() -> Self {
        Self { used: Box::new([0; WORDS]), count: 0, last: 0 }
    }
}

impl PacketIds {
    /// A free identifier, now in use. Nothing when all 65,535 are.
    pub(super) fn take(&mut self) -> Option<u16> {
        if self.count == usize::from(u16::MAX) {
            return None;
        }
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            if self.claim(self.last) {
                return Some(self.last);
            }
        }
    }

    /// Marks this identifier as in use; false when it is already, or is 0.
    pub(super) fn claim(&mut self, pid: u16) -> bool {
        let (word, bit) = (usize::from(pid >> 6), 1u64 << (pid & 63));
        if pid == 0 || self.used[word] & bit != 0 {
            return false;
        }
        self.used[word] |= bit;
        self.count += 1;
        true
    }

    /// Continues after this identifier: a restarted process does not start again at those just used.
    pub(super) fn continue_after(&mut self, pid: u16) {
        self.last = pid;
    }

    /// Makes an identifier free again.
    pub(super) fn release(&mut self, pid: u16) {
        let (word, bit) = (usize::from(pid >> 6), 1u64 << (pid & 63));
        if self.used[word] & bit != 0 {
            self.used[word] &= !bit;
            self.count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_in_use_are_skipped_and_zero_is_never_given() {
        let mut ids = PacketIds::default();
        assert!(ids.claim(2));
        assert!(!ids.claim(2));
        assert!(!ids.claim(0));
        assert_eq!((ids.take(), ids.take()), (Some(1), Some(3)));
        ids.continue_after(u16::MAX - 1);
        assert_eq!((ids.take(), ids.take()), (Some(u16::MAX), Some(4)));
    }

    #[test]
    fn when_all_are_in_use_there_is_none_until_one_is_released() {
        let mut ids = PacketIds::default();
        assert_eq!((1..=u16::MAX).filter_map(|_| ids.take()).count(), 65_535);
        assert_eq!(ids.take(), None);
        ids.release(700);
        ids.release(700);
        assert_eq!((ids.take(), ids.take()), (Some(700), None));
    }
}
