//! When to ping, and when the connection is dead (5.0, section 3.1.2.10). Pure functions of the time passed in.
//!
//! Any received byte counts as a sign of life, not PINGRESP alone: a large message on a slow link must not look
//! like silence. While reading is paused by back-pressure nothing *can* be heard, so then pings go on and the
//! time-out rests.

use std::time::{Duration, Instant};

/// How long a ping may stay without any sign of life, at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// Send PINGREQ.
    Ping,
    /// The server has been silent too long.
    Dead,
}

/// The clock of one connection.
#[derive(Debug, Clone)]
pub struct KeepAlive {
    interval: Option<Duration>,
    sent: Instant,
    heard: Instant,
    ping: Option<Instant>,
}

impl KeepAlive {
    /// Starts at CONNACK. `seconds` 0 switches it off.
    pub fn new(seconds: u16, now: Instant) -> Self {
        let interval = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        Self { interval, sent: now, heard: now, ping: None }
    }

    /// Bytes were written.
    pub fn sent(&mut self, now: Instant) {
        self.sent = now;
    }

    /// Bytes were read.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.ping = None;
    }

    /// What is due at `now`. A ping that is due counts as sent.
    pub fn due(&mut self, now: Instant, reading_paused: bool) -> Due {
        let Some(interval) = self.interval else { return Due::Nothing };
        match self.ping {
            Some(ping) if !reading_paused && now >= ping + patience(interval) => Due::Dead,
            Some(ping) if !reading_paused || now < ping + interval => Due::Nothing,
            // Paused: ask again each interval, and count the patience from the last ping once reading goes on.
            Some(_) => self.ping(now),
            None if now >= self.sent.min(self.heard) + interval => self.ping(now),
            None => Due::Nothing,
        }
    }

    /// When to ask [`Self::due`] again.
    pub fn next(&self, reading_paused: bool) -> Option<Instant> {
        let interval = self.interval?;
        Some(match self.ping {
            Some(ping) if reading_paused => ping + interval,
            Some(ping) => ping + patience(interval),
            None => self.sent.min(self.heard) + interval,
        })
    }

    /// Reading goes on after a pause: the answer to an open ping has its full time from now.
    pub fn resumed(&mut self, now: Instant) {
        if self.ping.is_some() {
            self.ping = Some(now);
        }
    }

    fn ping(&mut self, now: Instant) -> Due {
        self.sent = now;
        self.ping = Some(now);
        Due::Ping
    }
}

fn patience(interval: Duration) -> Duration {
    interval.min(PATIENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_ping_goes_out_when_either_direction_is_idle() {
        let start = Instant::now();
        let mut clock = KeepAlive::new(30, start);
        assert_eq!(clock.due(at(start, 29), false), Due::Nothing);
        clock.heard(at(start, 29));
        assert_eq!(clock.next(false), Some(at(start, 30)));
        assert_eq!(clock.due(at(start, 30), false), Due::Ping);
        clock.heard(at(start, 31));
        clock.sent(at(start, 50));
        assert_eq!(clock.due(at(start, 60), false), Due::Nothing);
        assert_eq!(clock.due(at(start, 61), false), Due::Ping);
    }

    #[test]
    fn silence_after_a_ping_is_death_and_any_byte_is_life() {
        let start = Instant::now();
        let mut clock = KeepAlive::new(3, start);
        assert_eq!(clock.due(at(start, 3), false), Due::Ping);
        assert_eq!(clock.due(at(start, 5), false), Due::Nothing);
        assert_eq!(clock.due(at(start, 6), false), Due::Dead);
        clock.heard(at(start, 6));
        assert_eq!(clock.due(at(start, 7), false), Due::Ping);
        let mut patient = KeepAlive::new(600, start);
        assert_eq!(patient.due(at(start, 600), false), Due::Ping);
        assert_eq!(patient.due(at(start, 610), false), Due::Dead);
    }

    #[test]
    fn under_back_pressure_pings_go_on_and_nobody_dies() {
        let start = Instant::now();
        let mut clock = KeepAlive::new(3, start);
        for seconds in [3, 6, 9, 12] {
            assert_eq!(clock.due(at(start, seconds), true), Due::Ping, "{seconds}");
            assert_eq!(clock.due(at(start, seconds + 2), true), Due::Nothing);
        }
        clock.resumed(at(start, 20));
        assert_eq!(clock.due(at(start, 22), false), Due::Nothing);
        assert_eq!(clock.due(at(start, 23), false), Due::Dead);
    }

    #[test]
    fn zero_switches_it_off() {
        let start = Instant::now();
        let mut clock = KeepAlive::new(0, start);
        assert_eq!((clock.due(at(start, 9999), false), clock.next(false)), (Due::Nothing, None));
    }
}
