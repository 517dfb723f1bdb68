//! How much of a body goes into one message.

use crate::message::Block;

/// What the one who sends a body has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// A body of so many bytes at most goes whole into a message.
    pub whole: usize,
    /// The size of blocks otherwise: 0 (16 bytes) to 6 (1024 bytes), or [`Block::BERT`].
    pub exponent: u8,
}

impl Room {
    /// In datagrams, where a message holds no more than a block.
    pub fn of_datagram(exponent: u8) -> Room {
        Room { whole: 16 << exponent, exponent }
    }

    /// Over a stream, of a peer that takes messages of so many bytes, and maybe BERT.
    pub fn of_stream(limit: usize, bert: bool) -> Room {
        /// Header, token and options; of more the peer that takes no more will say so.
        const LEAST: usize = 128;
        const MOST: usize = 8192;
        let whole = limit.saturating_sub((limit / 16).clamp(LEAST, MOST));
        let exponent = if bert && whole >= 1024 { Block::BERT } else { Block::exponent_of(whole) };
        Room { whole, exponent }
    }

    /// What the blocks of such a body are counted in.
    pub fn unit(exponent: u8) -> usize {
        16 << exponent.min(Block::LARGEST)
    }

    /// How much of a body in blocks of this size is in each message.
    pub fn of_blocks(self, exponent: u8) -> usize {
        let unit = Room::unit(exponent);
        match exponent {
            Block::BERT => (self.whole / unit).max(1) * unit,
            _ => unit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_holds_what_the_peer_takes() {
        let base = Room::of_stream(1152, false);
        assert_eq!(base, Room { whole: 1024, exponent: 6 });
        assert_eq!(Room::of_stream(300, true).exponent, 3, "128 bytes and the rest of a message");
        assert_eq!(Room::of_stream(0, true), Room { whole: 0, exponent: 0 });
        let large = Room::of_stream(8 << 20, true);
        assert_eq!((large.exponent, large.whole), (Block::BERT, (8 << 20) - 8192));
        assert_eq!(large.of_blocks(Block::BERT), (8 << 20) - 8192);
        assert_eq!(Room::of_stream(4000, true).of_blocks(Block::BERT), 3 * 1024);
        assert_eq!(large.of_blocks(2), 64);
    }
}
