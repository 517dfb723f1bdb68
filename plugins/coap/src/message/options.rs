//! Getting at a packet's options.

use std::collections::LinkedList;

use coap_lite::{CoapOption, Packet};

use super::option::definition;

/// Adds a value behind those that the option has.
pub fn add(packet: &mut Packet, option: CoapOption, value: impl Into<Vec<u8>>) {
    packet.add_option(option, value.into());
}

/// Gives the option this value alone.
pub fn replace(packet: &mut Packet, option: CoapOption, value: impl Into<Vec<u8>>) {
    packet.set_option(option, LinkedList::from([value.into()]));
}

/// Gives the option this number alone, in as few bytes as it takes (RFC 7252 section 3.2).
pub fn set_uint(packet: &mut Packet, option: CoapOption, value: u32) {
    replace(packet, option, uint_bytes(value));
}

/// Takes the option out.
pub fn without(packet: &mut Packet, option: CoapOption) {
    packet.clear_option(option);
}

/// The first value: further ones of an option that is not repeatable do not count (RFC 7252 section 5.4.5).
pub fn first(packet: &Packet, option: CoapOption) -> Option<&[u8]> {
    packet.get_first_option(option).map(Vec::as_slice)
}

/// The first value as a number. `None` when it is absent or too long to be one.
pub fn uint(packet: &Packet, option: CoapOption) -> Option<u32> {
    first(packet, option).and_then(uint_of)
}

/// A number of up to four bytes; leading zeros are allowed (RFC 7252 section 3.2).
pub fn uint_of(value: &[u8]) -> Option<u32> {
    (value.len() <= 4).then(|| value.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

/// A number without leading zeros: 0 is no byte.
pub fn uint_bytes(value: u32) -> Vec<u8> {
    let zeros = value.leading_zeros() as usize / 8;
    value.to_be_bytes()[zeros..].to_vec()
}

pub fn content_format(packet: &Packet) -> Option<u16> {
    uint(packet, CoapOption::ContentFormat).and_then(|number| u16::try_from(number).ok())
}

/// The observe option: 0 and 1 in a request register and deregister, in a response it is a sequence number of 24 bits
/// (RFC 7641 section 2).
pub fn observe(packet: &Packet) -> Option<u32> {
    first(packet, CoapOption::Observe).filter(|value| value.len() <= 3).and_then(uint_of)
}

pub fn etag(packet: &Packet) -> Option<&[u8]> {
    first(packet, CoapOption::ETag).filter(|value| (1..=8).contains(&value.len()))
}

/// The first critical option that is not understood: one that this plugin does not act on, a second value of one that is
/// not repeatable, or a value of a length that is not allowed (RFC 7252 sections 5.4.1, 5.4.3 and 5.4.5). A request with
/// one gets 4.02 if it is confirmable, a response with one is rejected.
pub fn not_understood(packet: &Packet) -> Option<u16> {
    let refused = |(&number, values): (&u16, &LinkedList<Vec<u8>>)| {
        if number & 1 == 0 || values.is_empty() {
            return None;
        }
        let understood = definition(number).is_some_and(|option| {
            let (shortest, longest) = option.length;
            option.understood
                && (option.repeatable || values.len() == 1)
                && values.iter().all(|value| (shortest..=longest).contains(&value.len()))
        });
        (!understood).then_some(number)
    };
    packet.options().find_map(refused)
}
