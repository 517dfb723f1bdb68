//! Datagrams that get lost on purpose (--loss), so that a client can be tried out with a bad network.

use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};

/// How likely it is that a datagram gets lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Probability(f64);

impl FromStr for Probability {
    type Err = String;

    /// `10%` or `0.1`.
    fn from_str(text: &str) -> Result<Probability, String> {
        let wrong = || format!("{text:?} is no probability: write it like 10% or 0.1, from 0 to 100%");
        let (number, whole) = match text.strip_suffix('%') {
            Some(number) => (number.trim_end(), 100.0),
            None => (text, 1.0),
        };
        let part = number.parse::<f64>().map_err(|_| wrong())? / whole;
        if (0.0..=1.0).contains(&part) { Ok(Probability(part)) } else { Err(wrong()) }
    }
}

/// Decides, and counts.
#[derive(Debug)]
pub struct Loss {
    probability: f64,
    /// Of xorshift64*, never 0.
    state: u64,
    count: u64,
}

impl Loss {
    pub fn new(probability: Probability) -> Loss {
        let mut seed = [0; 8];
        // Without a seed it is the same each time, which is bad enough for a network.
        let _ = SystemRandom::new().fill(&mut seed);
        Loss { probability: probability.0, state: u64::from_ne_bytes(seed) | 1, count: 0 }
    }

    /// Whether the next datagram gets lost.
    pub fn strikes(&mut self) -> bool {
        if self.probability <= 0.0 {
            return false;
        }
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let bits = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d);
        let struck = ((bits >> 11) as f64) < self.probability * (1_u64 << 53) as f64;
        self.count += u64::from(struck);
        struck
    }

    /// How many got lost so far.
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_get_lost_as_should() {
        for (text, least, most) in
            [("0", 0, 0), ("10%", 800, 1200), ("0.5", 4700, 5300), ("100 %", 10_000, 10_000)]
        {
            let mut loss = Loss::new(text.parse().unwrap());
            let lost = (0..10_000).filter(|_| loss.strikes()).count();
            assert!((least..=most).contains(&lost), "{text}: {lost}");
            assert_eq!(loss.count(), lost as u64);
        }
    }

    #[test]
    fn what_is_no_probability() {
        for text in ["", "%", "ten", "-1%", "101%", "1.1", "NaN", "inf%"] {
            assert!(text.parse::<Probability>().unwrap_err().contains("10%"), "{text}");
        }
    }
}
