//! How far the server may lag behind what was sent.
//!
//! WebSocket confirms nothing, and what a server has not read when we leave may be lost with the connection. So a flood is
//! interspersed with pings of our own, and waits when too many of them are unanswered: a pong shows that all before its ping
//! has been read (RFC 6455 section 5.5.3). A server that answers none is not waited for again.

use std::time::Duration;

use tokio::time::Instant;

/// A message weighs its payload and this.
const MESSAGE: usize = 256;
/// After so much weight comes a ping; so many of them may be unanswered.
const STEP: usize = 256 * 1024;
const STEPS: u64 = 4;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Window {
    weight: usize,
    asked: u64,
    answered: u64,
    /// When the oldest ping without an answer went out.
    since: Instant,
    /// The server answers no pings, or is to get none.
    open: bool,
}

impl Window {
    /// Without pings there is no end to it.
    pub(super) fn new(pings: bool) -> Window {
        Window { weight: 0, asked: 0, answered: 0, since: Instant::now(), open: !pings }
    }

    /// A connection begins, or has ended.
    pub(super) fn restart(&mut self) {
        (self.weight, self.answered) = (0, self.asked);
    }

    /// Whether another message may be queued.
    pub(super) fn has_room(&mut self) -> bool {
        if self.alarm().is_some_and(|alarm| alarm <= Instant::now()) {
            log::info!("the server answers no pings: it is not waited for");
            self.open = true;
        }
        self.open || self.asked - self.answered < STEPS
    }

    /// When [`Window::has_room`] is to be asked again though nothing came.
    pub(super) fn alarm(&self) -> Option<Instant> {
        (!self.open && self.asked - self.answered >= STEPS).then(|| self.since + PATIENCE)
    }

    /// A message was queued; the number of the ping that is to follow it, if one is.
    pub(super) fn queued(&mut self, length: usize) -> Option<u64> {
        if self.open {
            return None;
        }
        self.weight += length + MESSAGE;
        if self.weight < STEP {
            return None;
        }
        if self.asked == self.answered {
            self.since = Instant::now();
        }
        self.weight = 0;
        self.asked += 1;
        Some(self.asked)
    }

    /// A ping was answered, and so were all before it.
    pub(super) fn answered(&mut self, number: u64) {
        if (self.answered + 1..=self.asked).contains(&number) {
            self.answered = number;
            self.since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_waits_for_answers() {
        let mut window = Window::new(true);
        let mut pings = 0;
        while window.has_room() {
            pings += u64::from(window.queued(1000).is_some());
            assert!(pings <= STEPS, "there is no bound");
        }
        assert!(window.alarm().is_some());
        // What was never asked is no answer; one answer is as good as all before it.
        window.answered(pings + 1);
        assert!(!window.has_room());
        window.answered(pings - 1);
        assert!(window.has_room() && window.alarm().is_none());
        window.answered(1);
        assert_eq!(window.answered, pings - 1);
        window.restart();
        assert_eq!(window.asked, window.answered);
    }

    #[test]
    fn without_pings_there_is_no_end() {
        let mut window = Window::new(false);
        assert!((0..100_000).all(|_| window.has_room() && window.queued(1000).is_none()));
    }
}
