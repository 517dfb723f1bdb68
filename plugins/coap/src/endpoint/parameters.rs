//! Times and bounds of the message layer.

use std::time::Duration;

/// RFC 7252 section 4.8. What follows from them is computed as section 4.8.2 does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// How long an acknowledgement is waited for at first, at least. Doubled with each retransmission.
    pub ack_timeout: Duration,
    /// The first wait is up to so many times as long, at random. At least 1.
    pub ack_random_factor: f64,
    /// How often a confirmable message is sent again.
    pub max_retransmit: u32,
    /// Messages and requests to one peer that may be under way at once. The RFC says 1; what is more congests networks of
    /// constrained devices, but a tool that measures must be able to.
    pub nstart: usize,
    /// How long a datagram may be in the network.
    pub max_latency: Duration,
    /// How long the response to a request is waited for that was acknowledged, or that is not confirmable. `None`: until it
    /// is cancelled.
    pub response_timeout: Option<Duration>,
    /// A confirmable request that is not answered for so long is acknowledged, and answered by itself later.
    pub ack_delay: Duration,
}

impl Default for Parameters {
    fn default() -> Parameters {
        Parameters {
            ack_timeout: Duration::from_secs(2),
            ack_random_factor: 1.5,
            max_retransmit: 4,
            nstart: 1,
            max_latency: Duration::from_secs(100),
            response_timeout: None,
            // Well within the shortest ACK_TIMEOUT of a peer, so that it does not retransmit.
            ack_delay: Duration::from_millis(500),
        }
    }
}

impl Parameters {
    /// From the first transmission to the last.
    pub fn max_transmit_span(&self) -> Duration {
        self.spans((1_u64 << self.max_retransmit.min(32)) - 1)
    }

    /// From the first transmission to when no acknowledgement is waited for any more.
    pub fn max_transmit_wait(&self) -> Duration {
        self.spans((1_u64 << (self.max_retransmit + 1).min(32)) - 1)
    }

    /// For how long a message id must not be used again for the same peer, and a confirmable message may turn up again.
    pub fn exchange_lifetime(&self) -> Duration {
        self.max_transmit_span() + 2 * self.max_latency + self.ack_timeout
    }

    /// For how long a non-confirmable message may turn up again.
    pub fn non_lifetime(&self) -> Duration {
        self.max_transmit_span() + self.max_latency
    }

    fn spans(&self, count: u64) -> Duration {
        self.ack_timeout.mul_f64(count as f64 * self.ack_random_factor)
    }
}

/// How much is remembered. A spoofed flood fills these, and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Peers of which anything is remembered.
    pub peers: usize,
    /// Messages that are recognised when they come again, of one peer and of all. A peer that has many under way goes on while
    /// one of them is lost and sent again.
    pub recent_per_peer: usize,
    pub recent: usize,
    /// Bytes of responses that are kept for requests that come again, of one peer and of all. The oldest are forgotten
    /// first: what can't be done twice is then acknowledged without its response.
    pub replies_per_peer: usize,
    pub replies: usize,
    /// Messages under way or waiting because of [`Parameters::nstart`], to one peer and to all.
    pub outgoing_per_peer: usize,
    pub outgoing: usize,
}

impl Limits {
    /// For a client, which has one peer or a few.
    pub const CLIENT: Limits = Limits {
        peers: 256,
        recent_per_peer: 8192,
        recent: 16_384,
        replies_per_peer: 64 << 10,
        replies: 1 << 20,
        outgoing_per_peer: 4096,
        outgoing: 4096,
    };

    /// For a server with many observers.
    pub const SERVER: Limits = Limits {
        peers: 16_384,
        recent_per_peer: 8192,
        recent: 131_072,
        replies_per_peer: 1 << 20,
        replies: 8 << 20,
        outgoing_per_peer: 64,
        outgoing: 32_768,
    };
}
