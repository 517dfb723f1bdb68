//! Which sequence numbers a peer has used (RFC 8613 section 7.4): the highest, and which of the 31 below it.
//!
//! A server keeps them in its folder, as [`kept`](super::kept) says, so that nothing is taken twice, whatever happens to
//! the process. What is lost after all, with the computer or with the folder, stays in doubt until a client has proved that
//! it sends now (appendix B.1.2).

use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};

use super::error::OscoreError;
use super::kept::{Kept, Kind, STEP, boot_id};

/// How many numbers are remembered: the RFC's default for a transport that may reorder.
const WIDTH: u64 = u32::BITS as u64;

const KIND: Kind = Kind {
    mark: "oscore-window",
    numbers: "seen",
    limit: "edge",
    what: "which OSCORE sequence numbers the other side has used",
    without: "without that nothing may be accepted",
};

/// What is known of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It was not used before. It is now.
    New,
    /// It was used, or is too old to tell.
    Used,
    /// What was used is not known any more: the message must prove that it is new.
    InDoubt,
}

/// The numbers of one peer. Only those of authentic messages are to be noted.
pub trait Replay: Send {
    /// # Errors
    /// [`OscoreError::Storage`]: the message must not be acted on.
    fn note(&mut self, number: u64) -> Result<Noted, OscoreError>;

    /// Notes the number of a message that has proved to be new: what was in doubt was used, up to this number.
    ///
    /// # Errors
    /// As [`Replay::note`].
    fn note_proven(&mut self, number: u64) -> Result<Noted, OscoreError>;
}

/// The numbers seen of one peer, remembered by nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayWindow {
    /// The highest number seen, and one. 0: none yet.
    next: u64,
    /// Bit n stands for `next - 1 - n`.
    seen: u32,
    /// Whether the numbers before `next` were used is not known.
    in_doubt: bool,
}

impl ReplayWindow {
    /// Nothing is known but that all numbers were less than this one.
    fn lost_before(next: u64) -> ReplayWindow {
        ReplayWindow { next, seen: u32::MAX, in_doubt: true }
    }

    /// Nothing is known at all.
    pub fn lost() -> ReplayWindow {
        ReplayWindow::lost_before(u64::MAX)
    }

    fn take(&mut self, number: u64) -> Noted {
        if number >= self.next {
            let above = u32::try_from(number - self.next + 1).ok();
            self.seen = above.and_then(|above| self.seen.checked_shl(above)).unwrap_or(0) | 1;
            (self.next, self.in_doubt) = (number + 1, false);
            return Noted::New;
        }
        if self.in_doubt {
            return Noted::InDoubt;
        }
        let below = self.next - 1 - number;
        if below >= WIDTH || self.seen & (1 << below) != 0 {
            return Noted::Used;
        }
        self.seen |= 1 << below;
        Noted::New
    }

    fn take_proven(&mut self, number: u64) -> Noted {
        if !self.in_doubt {
            return self.take(number);
        }
        *self = ReplayWindow { next: number + 1, seen: u32::MAX, in_doubt: false };
        Noted::New
    }
}

impl Replay for ReplayWindow {
    fn note(&mut self, number: u64) -> Result<Noted, OscoreError> {
        Ok(self.take(number))
    }

    fn note_proven(&mut self, number: u64) -> Result<Noted, OscoreError> {
        Ok(self.take_proven(number))
    }
}

/// The numbers seen with one recipient key, shared by all processes that use the same folder.
#[derive(Debug)]
pub struct Seen {
    /// The window's next number and its bits, and the limit that is on the disk.
    kept: Kept<3>,
}

impl Seen {
    /// The numbers of the key with this fingerprint, kept in `folder`.
    ///
    /// # Errors
    /// [`OscoreError::Storage`], with the file's name.
    pub fn open(folder: &Path, fingerprint: &str) -> Result<Seen, OscoreError> {
        let boot = boot_id();
        if !boot.is_empty() {
            return Seen::open_since(folder, fingerprint, &boot);
        }
        // Where a restart of the computer can't be told, none but this process believes what it writes.
        let mut random = [0; 8];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| OscoreError::Storage("the system has no random numbers".to_owned()))?;
        Seen::open_since(folder, fingerprint, &format!("process-{:016x}", u64::from_ne_bytes(random)))
    }

    fn open_since(folder: &Path, fingerprint: &str, boot: &str) -> Result<Seen, OscoreError> {
        let mut kept = Kept::open(folder, fingerprint, &KIND, boot)?;
        // What is damaged is found out before anything is served.
        kept.locked(load)?;
        Ok(Seen { kept })
    }

    fn change(
        &mut self,
        number: u64,
        take: impl FnOnce(&mut ReplayWindow, u64) -> Noted,
    ) -> Result<Noted, OscoreError> {
        self.kept.locked(|kept| {
            let (mut window, mut limit) = load(kept)?;
            let noted = take(&mut window, number);
            if noted == Noted::New {
                if number >= limit {
                    limit = number + STEP;
                    kept.write_limit(limit)?;
                }
                // What was in doubt is settled by every number that is new.
                kept.write([window.next, window.seen.into(), limit])?;
            }
            Ok(noted)
        })
    }
}

impl Replay for Seen {
    fn note(&mut self, number: u64) -> Result<Noted, OscoreError> {
        self.change(number, ReplayWindow::take)
    }

    fn note_proven(&mut self, number: u64) -> Result<Noted, OscoreError> {
        self.change(number, ReplayWindow::take_proven)
    }
}

/// The window, and the limit that is on the disk.
fn load(kept: &mut Kept<3>) -> Result<(ReplayWindow, u64), OscoreError> {
    if let Some([next, seen, limit]) = kept.read()? {
        return Ok((ReplayWindow { next, seen: seen as u32, in_doubt: false }, limit));
    }
    Ok(match kept.read_limit()? {
        Some(limit) => (ReplayWindow::lost_before(limit), limit),
        None => (ReplayWindow::lost(), 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::fs;

    fn noted(window: &mut impl Replay, numbers: &[u64]) -> Vec<Noted> {
        numbers.iter().map(|number| window.note(*number).expect("it can be kept")).collect()
    }

    #[test]
    fn a_number_is_new_once() {
        use Noted::{New, Used};
        let mut window = ReplayWindow::default();
        assert_eq!(noted(&mut window, &[5, 3, 4, 39]), [New; 4]);
        // 7 is 32 below the highest: too old to tell.
        assert_eq!(noted(&mut window, &[5, 3, 39, 7]), [Used; 4]);
        assert_eq!(noted(&mut window, &[8, 20, 40]), [New; 3]);
        let last = (1 << 40) - 1;
        assert_eq!(noted(&mut window, &[last, 39, last, last - 31]), [New, Used, Used, New]);
    }

    #[test]
    fn what_was_lost_stays_in_doubt_until_something_is_proven() {
        use Noted::{InDoubt, New, Used};
        let mut window = ReplayWindow::lost();
        assert_eq!(noted(&mut window, &[0, (1 << 40) - 1]), [InDoubt; 2]);
        assert_eq!(window.take_proven(100), New);
        assert_eq!(noted(&mut window, &[100, 80, 101]), [Used, Used, New]);
        assert_eq!(window.take_proven(101), Used, "what is proven is not new for that reason");

        let mut window = ReplayWindow::lost_before(256);
        assert_eq!(noted(&mut window, &[255, 3, 258]), [InDoubt, InDoubt, New]);
        assert_eq!(noted(&mut window, &[255, 257, 258]), [Used, New, Used]);
    }

    fn open(folder: &Path, boot: &str) -> Seen {
        Seen::open_since(folder, "f", boot).expect("a folder that can be written")
    }

    #[test]
    fn numbers_are_known_after_the_process() {
        use Noted::{InDoubt, New, Used};
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(noted(&mut open(folder.path(), "boot"), &[0]), [InDoubt], "whose first contact it is");
        assert_eq!(open(folder.path(), "boot").note_proven(3).unwrap(), New);
        assert_eq!(noted(&mut open(folder.path(), "boot"), &[2, 3, 4, 6]), [Used, Used, New, New]);
        let (mut one, mut other) = (open(folder.path(), "boot"), open(folder.path(), "boot"));
        assert_eq!(noted(&mut one, &[5, 4]), [New, Used]);
        assert_eq!(noted(&mut other, &[5, 6, 7]), [Used, Used, New]);
        assert_eq!(noted(&mut one, &[7]), [Used]);
    }

    #[test]
    fn after_a_restart_of_the_computer_all_up_to_the_limit_is_in_doubt() {
        use Noted::{InDoubt, New, Used};
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(open(folder.path(), "one").note_proven(3).unwrap(), New);
        let edge = 3 + STEP;
        assert_eq!(noted(&mut open(folder.path(), "two"), &[2, 4, edge - 1]), [InDoubt; 3]);
        assert_eq!(open(folder.path(), "two").note_proven(9).unwrap(), New);
        assert_eq!(noted(&mut open(folder.path(), "two"), &[8, 9, 10]), [Used, Used, New]);
        // The file that was not forced to the disk may be gone.
        fs::remove_file(folder.path().join("oscore-f.seen")).unwrap();
        assert_eq!(noted(&mut open(folder.path(), "two"), &[11, edge, edge - 1]), [InDoubt, New, Used]);
        fs::remove_file(folder.path().join("oscore-f.seen")).unwrap();
        assert_eq!(noted(&mut open(folder.path(), "two"), &[edge]), [InDoubt], "the limit was raised");
    }

    #[test]
    fn a_damaged_limit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), "one").note_proven(3).unwrap();
        fs::write(folder.path().join("oscore-f.edge"), "oscore-window 12x\n").unwrap();
        let error = Seen::open_since(folder.path(), "f", "two").unwrap_err().to_string();
        assert!(error.contains("oscore-f.edge") && error.contains("--oscore-master-secret"), "{error}");
    }

    proptest! {
        #[test]
        fn no_number_is_ever_taken_twice(numbers in proptest::collection::vec(0_u64..200, 0..400)) {
            let (mut window, mut taken) = (ReplayWindow::default(), HashSet::new());
            for number in numbers {
                let highest = taken.iter().max().copied();
                let recent = highest.is_none_or(|highest| number + WIDTH > highest);
                let new = recent && !taken.contains(&number);
                prop_assert_eq!(window.take(number), if new { Noted::New } else { Noted::Used });
                taken.insert(number);
            }
        }

        #[test]
        fn whatever_happens_to_the_process_no_number_is_taken_twice(
            steps in proptest::collection::vec((0_u64..600, 0_u8..12), 0..60)
        ) {
            let folder = tempfile::tempdir().unwrap();
            let (mut taken, mut boot, mut newest) = (HashSet::new(), 0, 0);
            let mut window = open(folder.path(), "0");
            for (number, what) in steps {
                match what {
                    0 => window = open(folder.path(), &boot.to_string()),
                    1 => {
                        boot += 1;
                        window = open(folder.path(), &boot.to_string());
                    }
                    // Only a number that the client has never used before comes with a proof.
                    2 => {
                        newest += 1 + number % 3;
                        prop_assert_eq!(window.note_proven(newest).unwrap(), Noted::New);
                        prop_assert!(taken.insert(newest));
                    }
                    _ if number > newest => {}
                    _ => {
                        if window.note(number).unwrap() == Noted::New {
                            prop_assert!(taken.insert(number), "{number}");
                        }
                    }
                }
            }
        }
    }
}
