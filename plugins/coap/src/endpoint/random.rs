//! Tokens, message ids and time-outs that nobody can guess (RFC 7252 sections 5.3.1 and 11.4).

use ring::rand::{SecureRandom, SystemRandom};

/// Bits by the block: a system call for each token would show.
const BLOCK: usize = 512;

pub(super) enum Random {
    System { source: SystemRandom, block: Box<[u8; BLOCK]>, used: usize },
    Seeded(u64),
}

impl Random {
    pub(super) fn of_system() -> Random {
        Random::System { source: SystemRandom::new(), block: Box::new([0; BLOCK]), used: BLOCK }
    }

    pub(super) fn seeded(seed: u64) -> Random {
        Random::Seeded(seed)
    }

    pub(super) fn bits(&mut self) -> u64 {
        match self {
            Random::System { source, block, used } => {
                if *used == BLOCK {
                    source.fill(&mut block[..]).expect("the system has random numbers");
                    *used = 0;
                }
                let mut bits = [0; 8];
                bits.copy_from_slice(&block[*used..*used + 8]);
                *used += 8;
                u64::from_ne_bytes(bits)
            }
            // SplitMix64.
            Random::Seeded(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut bits = *state;
                bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
                bits ^ bits >> 31
            }
        }
    }

    /// From 0 to 1, without 1.
    pub(super) fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
