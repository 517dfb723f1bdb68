//! When to ping, and when silence means that the peer is gone.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracemq_plugin_api::prelude::Span;

use crate::config::some;

/// When to ping, and when to give up.
pub(crate) struct Clock {
    ping_interval: Option<Duration>,
    idle_timeout: Option<Duration>,
    /// When something came last, or reading began.
    heard: Instant,
    pinged: Instant,
    /// Whether the last ping is still to be answered by anything at all.
    unanswered: bool,
    reading: bool,
}

impl Clock {
    /// A raw socket has no pings.
    pub(crate) fn new(ping_interval: Span, idle_timeout: Span, raw: bool) -> Clock {
        let now = Instant::now();
        Clock {
            ping_interval: some(ping_interval).filter(|_| !raw),
            idle_timeout: some(idle_timeout),
            heard: now,
            pinged: now,
            unanswered: false,
            reading: true,
        }
    }

    /// A connection begins.
    pub(crate) fn start(&mut self) {
        (self.heard, self.pinged, self.unanswered) = (Instant::now(), Instant::now(), false);
    }

    /// Something came.
    pub(crate) fn heard(&mut self) {
        self.heard = Instant::now();
        self.unanswered = false;
    }

    /// While we do not read, silence says nothing about the server.
    pub(crate) fn reading(&mut self, reading: bool) {
        if reading && !self.reading {
            self.heard();
        }
        self.reading = reading;
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let ping = self.ping_interval.map(|interval| self.pinged + interval);
        let idle = self.idle_timeout.filter(|_| self.reading).map(|idle| self.heard + idle);
        [ping, idle].into_iter().flatten().min()
    }

    /// What is to be done now.
    pub(crate) fn due(&mut self) -> Due {
        let now = Instant::now();
        if let Some(idle) = self.idle_timeout.filter(|_| self.reading)
            && now >= self.heard + idle
        {
            return Due::Silent(format!("nothing came for {} (--idle-timeout)", Span::from(idle)));
        }
        let Some(interval) = self.ping_interval.filter(|interval| now >= self.pinged + *interval) else {
            return Due::Nothing;
        };
        if self.unanswered && self.reading {
            return Due::Silent(format!(
                "no answer to a ping within {} (--ping-interval)",
                Span::from(interval)
            ));
        }
        self.pinged = now;
        self.unanswered = true;
        Due::Ping
    }
}

/// What the clock says.
pub(crate) enum Due {
    Nothing,
    Ping,
    /// The peer is to be given up, for this reason.
    Silent(String),
}

pub(crate) async fn until(alarm: Option<Instant>) {
    match alarm {
        Some(alarm) => sleep_until(alarm).await,
        None => std::future::pending().await,
    }
}
