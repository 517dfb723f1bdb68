//! Whether it pays to look for the next datagram again, before the thread goes to sleep.
//!
//! On the own machine and in a fast network an answer is there within microseconds, and to sleep and be woken takes longer
//! than that. So after a wait that was short, the next one begins with some more looks, between which the processor is
//! offered to others: to the server, if that waits for it. A wait that was long, as all are over slow networks, or looks
//! that were in vain end that until a wait is short again.

use std::time::{Duration, Instant};

/// A wait that was no longer is a short one.
const SHORT: Duration = Duration::from_micros(150);
/// So long it is looked again, at most.
const LOOKING: Duration = Duration::from_micros(50);

#[derive(Debug, Default)]
pub(super) struct Patience {
    pays: bool,
    waiting: Option<Instant>,
}

impl Patience {
    /// Looks for a while, if that pays, and tells what was found. `look` gives nothing when nothing is there.
    pub(super) fn look<T>(&mut self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        if !std::mem::take(&mut self.pays) {
            return None;
        }
        let began = Instant::now();
        while began.elapsed() < LOOKING {
            std::thread::yield_now();
            if let Some(found) = look() {
                self.pays = true;
                return Some(found);
            }
        }
        None
    }

    /// The thread goes to sleep.
    pub(super) fn sleeps(&mut self) {
        self.waiting = Some(Instant::now());
    }

    /// It was woken by a datagram.
    pub(super) fn woken(&mut self) {
        self.pays = self.waiting.take().is_some_and(|since| since.elapsed() < SHORT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_short_waits_it_looks_again_and_after_long_ones_not() {
        let mut patience = Patience::default();
        let mut looks = 0;
        let mut look = |patience: &mut Patience, found: Option<()>| {
            let before = looks;
            let got = patience.look(|| {
                looks += 1;
                found
            });
            (got.is_some(), looks > before)
        };
        assert_eq!(look(&mut patience, Some(())), (false, false), "nothing is known yet");
        patience.sleeps();
        std::thread::sleep(2 * SHORT);
        patience.woken();
        assert_eq!(look(&mut patience, Some(())), (false, false), "the wait was long");
        patience.waiting = Some(Instant::now() + SHORT);
        patience.woken();
        assert_eq!(look(&mut patience, Some(())), (true, true), "it was short");
        assert_eq!(look(&mut patience, None), (false, true), "it goes on as long as something is found");
        assert_eq!(look(&mut patience, Some(())), (false, false), "it was in vain");
    }
}
