//! The value of Block1 and Block2 (RFC 7959 section 2.2).

use coap_lite::{CoapOption, Packet};

use super::{is_of_stream, options};

/// Which part of a body a message holds, or is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Counts in blocks of [`Block::size`]. At most [`Block::LAST`].
    pub number: u32,
    pub more: bool,
    /// 0 to 6: the size's exponent, as it travels; or [`Block::BERT`].
    pub exponent: u8,
}

impl Block {
    /// 20 bits.
    pub const LAST: u32 = (1 << 20) - 1;
    /// Blocks of 1024 bytes.
    pub const LARGEST: u8 = 6;
    /// Over a stream: as many blocks of 1024 bytes in a message as there are (RFC 8323 section 6). In datagrams it is reserved.
    pub const BERT: u8 = 7;

    /// The option's value. `None` when it is absent, too long or has the reserved size.
    pub fn of(packet: &Packet, option: CoapOption) -> Option<Block> {
        let value = options::first(packet, option).filter(|value| value.len() <= 3)?;
        let bits = options::uint_of(value)?;
        let exponent = (bits & 7) as u8;
        let is_reserved = exponent == Block::BERT && !is_of_stream(packet);
        (!is_reserved).then_some(Block { number: bits >> 4, more: bits & 8 != 0, exponent })
    }

    /// Whether the option is there with a value that [`Block::of`] does not take: 4.00, as RFC 7959 section 2.2 wants of
    /// the reserved size.
    pub fn is_bad(packet: &Packet, option: CoapOption) -> bool {
        options::first(packet, option).is_some() && Block::of(packet, option).is_none()
    }

    pub fn put(self, packet: &mut Packet, option: CoapOption) {
        let bits = self.number << 4 | u32::from(self.more) << 3 | u32::from(self.exponent);
        options::set_uint(packet, option, bits);
    }

    /// 16 to 1024 bytes, which the number counts in. A message holds as many, or with [`Block::BERT`] any multiple.
    pub fn size(self) -> usize {
        16 << self.exponent.min(Block::LARGEST)
    }

    /// Whether a message with this block may hold so many bytes: all of the block if there are more, else what is left.
    pub fn holds(self, length: usize) -> bool {
        match (self.exponent, self.more) {
            (Block::BERT, true) => length > 0 && length.is_multiple_of(self.size()),
            (Block::BERT, false) => true,
            (_, true) => length == self.size(),
            (_, false) => length <= self.size(),
        }
    }

    /// Where in the body it begins.
    pub fn offset(self) -> usize {
        self.number as usize * self.size()
    }

    /// The largest exponent whose size is at most `bytes`; of less than 16, that of 16.
    pub fn exponent_of(bytes: usize) -> u8 {
        (0..=Block::LARGEST).rev().find(|exponent| 16 << exponent <= bytes).unwrap_or(0)
    }
}
