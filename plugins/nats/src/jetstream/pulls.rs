//! How many messages have been asked for and have not come.
//!
//! The next request is made when half of the last is used up, so that the server always has one to fill. A request ends with
//! a status that says how much of it was left.

use std::time::Duration;

/// Messages that may be on their way at once.
const WINDOW: u64 = 2048;
/// How long the server keeps a request.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often the server says that it still knows of a request.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Silence for longer means that it knows of none.
pub(super) const SILENCE: Duration = Duration::from_secs(13);

pub(super) struct Pulls {
    window: u64,
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
        let window = most.map_or(WINDOW, |most| most.min(WINDOW)).max(1);
        Pulls { window, bytes: (bytes / 2).max(1), asked: 0, first: 0, next: 0, large: false }
    }

    /// The next request, when it is time.
    pub(super) fn next(&mut self) -> Option<Pull> {
        if self.asked > self.window / 2 {
            return None;
        }
        let mut body = serde_json::json!({
            "batch": self.window - self.asked,
            "expires": EXPIRES.as_nanos() as u64,
            "idle_heartbeat": HEARTBEAT.as_nanos() as u64,
        });
        if std::mem::take(&mut self.large) {
            body["batch"] = 1.into();
            self.asked += 1;
        } else {
            body["max_bytes"] = self.bytes.into();
            self.asked = self.window;
        }
        let number = self.next;
        self.next += 1;
        Some(Pull { number, body: body.to_string() })
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
        assert_eq!(batch(pulls.next()), Some(10));
        (0..4).for_each(|_| pulls.delivered());
        assert_eq!(pulls.next(), None);
        pulls.delivered();
        assert_eq!(batch(pulls.next()), Some(5));
        assert_eq!(pulls.next(), None);
    }

    #[test]
    fn what_a_request_left_is_asked_for_again() {
        let mut pulls = Pulls::new(Some(10), 1000);
        pulls.next();
        pulls.ended(0, Some(7));
        assert_eq!(batch(pulls.next()), Some(7));
        pulls.lost();
        assert_eq!(batch(pulls.next()), Some(10));
        // Of the connection before.
        pulls.ended(1, Some(10));
        assert_eq!(pulls.next(), None);
        pulls.ended(2, None);
        assert_eq!(batch(pulls.next()), Some(10));
    }

    #[test]
    fn a_message_that_fits_nowhere_is_asked_for_alone() {
        let mut pulls = Pulls::new(None, 1000);
        assert!(pulls.next().unwrap().body.contains("\"max_bytes\":500"));
        pulls.too_large();
        let pull = pulls.next().unwrap().body;
        assert!(pull.contains("\"batch\":1,") && !pull.contains("max_bytes"), "{pull}");
    }
}
