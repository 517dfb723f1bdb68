//! Which of two notifications is the newer one (RFC 7641 section 3.4).

use std::time::{Duration, Instant};

/// Sequence numbers have 24 bits; a difference of more than half of that is one the other way round.
const HALF: u32 = 1 << 23;
/// After so long a number may have come round.
const LONG: Duration = Duration::from_secs(128);

/// The newest notification so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Order {
    newest: Option<(u32, Instant)>,
}

impl Order {
    /// Whether a notification that comes now is newer than all before it.
    pub(crate) fn accept(&mut self, number: u32, now: Instant) -> bool {
        let newer = match self.newest {
            None => true,
            Some((newest, came)) => {
                newest < number && number - newest < HALF
                    || newest > number && newest - number > HALF
                    || now > came + LONG
            }
        };
        if newer {
            self.newest = Some((number, now));
        }
        newer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_up_and_round() {
        let now = Instant::now();
        let mut order = Order::default();
        assert!(order.accept(5, now));
        assert!(!order.accept(5, now), "it came again");
        assert!(!order.accept(4, now), "it was overtaken");
        assert!(order.accept(6, now));
        assert!(
            order.accept((1 << 24) - 6, now + LONG + Duration::from_secs(1)),
            "after a long time all is new"
        );
        assert!(order.accept(2, now + LONG + Duration::from_secs(2)), "it went round");
        assert!(!order.accept((1 << 24) - 5, now + LONG + Duration::from_secs(3)));
    }
}
