//! How to wait for the next datagram: asleep, or with the thread in the system's receive.
//!
//! On the own machine and in a fast network an answer is there within microseconds, and to be told by the reactor that it is
//! takes longer than that. So while waits are short, the thread waits for one datagram and nothing else: what else there is to
//! do has to wait for as long. A wait that was long, as all are over slow networks, or in vain, ends that until one is short
//! again.

use std::time::{Duration, Instant};

/// A wait that was no longer is a short one.
const SHORT: Duration = Duration::from_micros(150);
/// A wait with the thread ends after this time; the system may round it up to a few milliseconds.
pub(super) const LONGEST: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Patience {
    since: Instant,
    short: bool,
}

impl Patience {
    pub(super) fn new() -> Patience {
        Patience { since: Instant::now(), short: false }
    }

    /// Whether the next wait is likely to be a short one.
    pub(super) fn expects_soon(&self) -> bool {
        self.short
    }

    /// A wait begins.
    pub(super) fn waits(&mut self) {
        self.since = Instant::now();
    }

    /// It has ended, with a datagram or without.
    pub(super) fn waited(&mut self, came: bool) {
        self.short = came && self.since.elapsed() < SHORT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_after_a_short_wait_another_is_expected() {
        let mut patience = Patience::new();
        assert!(!patience.expects_soon(), "nothing is known yet");
        patience.since = Instant::now() + SHORT;
        patience.waited(true);
        assert!(patience.expects_soon());
        patience.since = Instant::now() - 2 * SHORT;
        patience.waited(true);
        assert!(!patience.expects_soon(), "it was long");
        patience.since = Instant::now() + SHORT;
        patience.waited(false);
        assert!(!patience.expects_soon(), "it was in vain");
    }
}
