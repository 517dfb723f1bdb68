//! How many events may be on their way on one link.
//!
//! A link begins with little and doubles each time its credit is used up, so that a look at a few messages of a queue takes
//! no thousand of them, and so that what large events may fill is bounded: by then their size is known.

/// Credit of the first grant.
const FIRST: u32 = 32;
/// As large as an event may be, in bytes: so much is reckoned with before one has come.
const EVENT: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Window {
    most: u32,
    /// Bytes that may be on their way.
    budget: usize,
    size: u32,
    left: u32,
    /// Of the payloads that came, with the last ones counting most.
    average: usize,
}

impl Window {
    /// At most `most` messages of together about `budget` bytes.
    pub(super) fn new(most: u32, budget: usize) -> Window {
        Window { most: most.max(1), budget, size: 0, left: 0, average: 0 }
    }

    /// A message came.
    pub(super) fn taken(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(1);
        // The first one is all that is known.
        self.average = if self.average == 0 { bytes } else { (self.average * 7 + bytes) / 8 };
    }

    /// Whether another message may be taken before credit is granted again. fe2o3-amqp lets a peer's flow move the link's
    /// delivery count past what was taken, and so grants more than it then believes itself: it would refuse what comes of that.
    pub(super) fn has_credit(&self) -> bool {
        self.left > 0
    }

    /// The credit to grant now, if it is time for it.
    pub(super) fn due(&mut self) -> Option<u32> {
        if self.left > self.size / 2 {
            return None;
        }
        let event = if self.size == 0 { EVENT } else { self.average.max(1) };
        let affordable = u32::try_from(self.budget / event).unwrap_or(u32::MAX).max(1);
        self.size = self.size.saturating_mul(2).max(FIRST).min(self.most).min(affordable);
        self.left = self.size;
        Some(self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_small_events_and_not_with_large_ones() {
        let run = |bytes| {
            let mut window = Window::new(1000, 32 << 20);
            assert_eq!(window.due(), Some(FIRST));
            assert_eq!((window.due(), window.has_credit()), (None, true));
            let mut last = FIRST;
            for _ in 0..5000 {
                window.taken(bytes);
                last = window.due().unwrap_or(last);
            }
            last
        };
        assert_eq!(run(100), 1000);
        assert_eq!(run(16 << 20), 2);
        assert_eq!(run(100 << 20), 1);
        assert_eq!(Window::new(3, 32 << 20).due(), Some(3));
        // One of many links: it begins with what it can afford.
        assert_eq!(Window::new(1000, 2 << 20).due(), Some(2));
    }
}
