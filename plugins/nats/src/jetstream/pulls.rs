//! How many messages have been asked for and have not come.
//!
//! The next request is made when half of the last is used up, so that the server always has one to fill. The first is small,
//! since what is asked for and not shown has to be given back; each may be twice as large as the one before. A request ends
//! with a status that says how much of it was left.

use std::time::Duration;

/// Messages that may be on their way, or shown and not acknowledged, at once: at first, and at most. A server gives no more than
/// 1000 without acknowledgement, unless the consumer says otherwise.
const FIRST: u64 = 32;
const MOST: u64 = 512;
/// How long the server keeps a request.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often the server says that it still knows of a request.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Silence for longer means that it knows of none.
pub(super) const SILENCE: Duration = Duration::from_secs(13);

pub(super) struct Pulls {
    window: u64,
    most: u64,
    /// Bytes for one request.
    bytes: usize,
    asked: u64,
    /// Numbers of requests before this one are of a connection that is lost.
    first: u64,
    next: u64,
    /// The next message is larger than a request may have bytes.
    large: bool,
}

/// A request to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pull {
    /// The last token of its reply subject.
    pub(super) number: u64,
    pub(super) body: String,
}

impl Pulls {
    /// `most`: what the consumer gives to one request. `bytes` may wait for the host, of two requests.
    pub(super) fn new(most: Option<u64>, bytes: usize) -> Pulls {
        let most = most.map_or(MOST, |most| most.min(MOST)).max(1);
        Pulls {
            window: FIRST.min(most),
            most,
            bytes: (bytes / 2).max(1),
            asked: 0,
            first: 0,
            next: 0,
            large: false,
        }
    }

    /// The next request, when it is time. `open` messages have come and are not acknowledged.
    pub(super) fn next(&mut self, open: usize) -> Option<Pull> {
        let taken = self.asked + open as u64;
        if taken > self.window / 2 {
            return None;
        }
        if self.next > self.first {
            self.window = (self.window * 2).min(self.most);
        }
        let mut body = serde_json::json!({
            "batch": self.window - taken,
            "expires": EXPIRES.as_nanos() as u64,
            "idle_heartbeat": HEARTBEAT.as_nanos() as u64,
        });
        if std::mem::take(&mut self.large) {
            body["batch"] = 1.into();
            self.asked += 1;
        } else {
            body["max_bytes"] = self.bytes.into();
            self.asked += self.window - taken;
        }
        let number = self.next;
        self.next += 1;
        Some(Pull { number, body: body.to_string() })
    }

    /// Whether something that was asked for has not come.
    pub(super) fn is_waiting(&self) -> bool {
        self.asked > 0
    }

    pub(super) fn delivered(&mut self) {
        self.asked = self.asked.saturating_sub(1);
    }

    /// A request ended with so many messages left, if that was said.
    pub(super) fn ended(&mut self, number: u64, left: Option<u64>) {
        if number >= self.first {
            self.asked = left.map_or(0, |left| self.asked.saturating_sub(left));
        }
    }

    /// The next message does not fit into a request.
    pub(super) fn too_large(&mut self) {
        self.large = true;
        self.asked = 0;
    }

    /// Nothing that was asked for will come.
    pub(super) fn lost(&mut self) {
        self.asked = 0;
        self.first = self.next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(pull: Option<Pull>) -> Option<u64> {
        let body: serde_json::Value = serde_json::from_str(&pull?.body).unwrap();
        body["batch"].as_u64()
    }

    #[test]
    fn half_of_the_window_is_asked_for_again() {
        let mut pulls = Pulls::new(Some(10), 1000);
        assert_eq!(batch(pulls.next(0)), Some(10));
        (0..4).for_each(|_| pulls.delivered());
        assert_eq!(pulls.next(0), None);
        pulls.delivered();
        assert_eq!(pulls.next(1), None);
        assert_eq!(batch(pulls.next(0)), Some(5));
        assert_eq!(pulls.next(0), None);
    }

    #[test]
    fn requests_grow_as_messages_are_dealt_with() {
        let mut pulls = Pulls::new(None, 1000);
        let mut sizes = Vec::new();
        for _ in 0..6 {
            let size = batch(pulls.next(0)).unwrap();
            (0..size).for_each(|_| pulls.delivered());
            assert_eq!(pulls.next(512), None, "what came is not acknowledged");
            sizes.push(size);
        }
        assert_eq!(sizes, [32, 64, 128, 256, 512, 512]);
    }

    #[test]
    fn what_a_request_left_is_asked_for_again() {
        let mut pulls = Pulls::new(Some(10), 1000);
        pulls.next(0);
        pulls.ended(0, Some(7));
        assert_eq!(batch(pulls.next(0)), Some(7));
        pulls.lost();
        assert_eq!(batch(pulls.next(0)), Some(10));
        // Of the connection before.
        pulls.ended(1, Some(10));
        assert_eq!(pulls.next(0), None);
        pulls.ended(2, None);
        assert_eq!(batch(pulls.next(0)), Some(10));
    }

    #[test]
    fn a_message_that_fits_nowhere_is_asked_for_alone() {
        let mut pulls = Pulls::new(None, 1000);
        assert!(pulls.next(0).unwrap().body.contains("\"max_bytes\":500"));
        pulls.too_large();
        let pull = pulls.next(0).unwrap().body;
        assert!(pull.contains("\"batch\":1,") && !pull.contains("max_bytes"), "{pull}");
    }
}
