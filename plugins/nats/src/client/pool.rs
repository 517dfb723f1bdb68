//! The servers that may be connected to: those given, and those that they tell of.

use std::time::Duration;

use crate::endpoint::Server;
use crate::wire::ServerInfo;

/// The wait after every server has been tried once without success, doubled from there on up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A server can make us believe in so many others, and no more.
const MOST: usize = 256;

pub(super) struct Pool {
    given: Vec<Server>,
    told: Vec<Server>,
    /// The one to try next.
    next: usize,
    /// Attempts since a connection was good.
    attempts: usize,
}

impl Pool {
    pub(super) fn new(given: Vec<Server>) -> Pool {
        Pool { given, told: Vec::new(), next: 0, attempts: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.given.len() + self.told.len()
    }

    /// The next server to try.
    pub(super) fn next(&mut self) -> Server {
        let index = self.next % self.len();
        self.next = index + 1;
        self.attempts += 1;
        self.given.get(index).unwrap_or_else(|| &self.told[index - self.given.len()]).clone()
    }

    /// How long to wait before the next attempt: not at all while there are servers that were not tried. `random` is from 0
    /// to 1, so that many clients of a server that comes back do not come at once.
    pub(super) fn wait(&self, random: f64) -> Duration {
        let rounds = self.attempts / self.len();
        if rounds == 0 || !self.attempts.is_multiple_of(self.len()) {
            return Duration::ZERO;
        }
        let doubled = FIRST_WAIT.saturating_mul(1 << rounds.saturating_sub(1).min(10));
        doubled.min(LONGEST_WAIT).mul_f64(0.8 + 0.4 * random)
    }

    /// A connection was good: the next attempt is the first of its kind.
    pub(super) fn good(&mut self) {
        self.attempts = 0;
    }

    /// Learns of the others from what a server says of itself.
    pub(super) fn learn(&mut self, from: &Server, info: &ServerInfo) {
        let urls = if from.transport.is_web() { &info.ws_connect_urls } else { &info.connect_urls };
        let told: Vec<Server> = urls
            .iter()
            .take(MOST)
            .filter_map(|address| from.neighbour(address))
            .filter(|server| !self.given.iter().any(|given| given.is_same_place(server)))
            .collect();
        if !told.is_empty() {
            self.told = told;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(url: &str) -> Pool {
        Pool::new(Server::parse_list(url).unwrap().0)
    }

    #[test]
    fn every_server_is_tried_before_a_wait() {
        let mut pool = pool("nats://a,b");
        let info = ServerInfo { connect_urls: vec!["c:1".into(), "a:4222".into()], ..ServerInfo::default() };
        let first = pool.next();
        pool.learn(&first, &info);
        pool.good();
        assert_eq!(pool.len(), 3);
        let mut tried = Vec::new();
        for _ in 0..3 {
            assert_eq!(pool.wait(0.5), Duration::ZERO);
            tried.push(pool.next().shown());
        }
        assert_eq!(tried, ["b:4222", "c:1", "a:4222"]);
        assert_eq!(pool.wait(0.5), FIRST_WAIT);
        pool.next();
        assert_eq!(pool.wait(0.5), Duration::ZERO);
        for _ in 0..1000 {
            pool.next();
            assert!(pool.wait(1.0) <= LONGEST_WAIT.mul_f64(1.2));
        }
    }

    #[test]
    fn a_server_alone_is_waited_for() {
        let mut pool = pool("nats://a");
        assert_eq!(pool.wait(0.5), Duration::ZERO);
        pool.next();
        assert_eq!(pool.wait(0.5), FIRST_WAIT);
        pool.next();
        assert_eq!(pool.wait(0.5), 2 * FIRST_WAIT);
    }
}
