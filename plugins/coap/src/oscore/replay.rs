//! Which sequence numbers a peer has used (RFC 8613 section 7.4): the highest, and which of the 31 below it.

/// How many numbers are remembered: the RFC's default for a transport that may reorder.
const WIDTH: u64 = 32;

/// The numbers seen of one peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReplayWindow {
    /// The highest number seen. `None`: none yet.
    highest: Option<u64>,
    /// Bit n stands for `highest - n`.
    seen: u32,
}

impl ReplayWindow {
    /// Whether this number is new. It is not noted yet: that waits for the message to be found authentic.
    pub(super) fn is_new(&self, number: u64) -> bool {
        let Some(highest) = self.highest else { return true };
        match highest.checked_sub(number) {
            None => true,
            Some(below) => below < WIDTH && self.seen & (1 << below) == 0,
        }
    }

    /// Notes a number as used.
    pub(super) fn note(&mut self, number: u64) {
        let Some(highest) = self.highest else {
            (self.highest, self.seen) = (Some(number), 1);
            return;
        };
        match number.checked_sub(highest) {
            Some(above) => {
                self.seen =
                    u32::try_from(above).ok().and_then(|above| self.seen.checked_shl(above)).unwrap_or(0) | 1;
                self.highest = Some(number);
            }
            None => {
                self.seen |= u32::try_from(highest - number)
                    .ok()
                    .and_then(|below| 1_u32.checked_shl(below))
                    .unwrap_or(0)
            }
        }
    }

    /// A window that takes nothing up to this number: what is below it may have been used before the window was lost (RFC
    /// 8613 appendix B.1.2).
    pub(super) fn starting_at(number: u64) -> ReplayWindow {
        ReplayWindow { highest: Some(number), seen: u32::MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn a_number_is_new_once() {
        let mut window = ReplayWindow::default();
        for number in [5, 3, 4, 39] {
            assert!(window.is_new(number), "{number}");
            window.note(number);
        }
        // 7 is 32 below the highest: too old to tell.
        for number in [5, 3, 39, 7] {
            assert!(!window.is_new(number), "{number}");
        }
        assert!(window.is_new(8) && window.is_new(20) && window.is_new(40));
        window.note((1 << 40) - 1);
        assert!(!window.is_new(39) && !window.is_new((1 << 40) - 1) && window.is_new((1 << 40) - 32));
        let window = ReplayWindow::starting_at(100);
        assert!(!window.is_new(100) && !window.is_new(80) && window.is_new(101));
    }

    proptest! {
        #[test]
        fn no_number_is_ever_taken_twice(numbers in proptest::collection::vec(0_u64..200, 0..400)) {
            let (mut window, mut taken) = (ReplayWindow::default(), HashSet::new());
            for number in numbers {
                let highest = taken.iter().max().copied();
                let recent = highest.is_none_or(|highest| number + WIDTH > highest);
                prop_assert_eq!(window.is_new(number), recent && !taken.contains(&number));
                if window.is_new(number) {
                    window.note(number);
                    taken.insert(number);
                }
            }
        }
    }
}
