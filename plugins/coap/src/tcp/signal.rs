//! Signalling messages (RFC 8323 section 5): what two ends say about their connection.

use crate::message::{self, CoapOption, Packet};

/// Codes of class 7.
mod code {
    pub(super) const CSM: u8 = 0xE1;
    pub(super) const PING: u8 = 0xE2;
    pub(super) const PONG: u8 = 0xE3;
    pub(super) const RELEASE: u8 = 0xE4;
    pub(super) const ABORT: u8 = 0xE5;
}

/// Options of signalling messages have numbers of their own, message by message.
const MAX_MESSAGE_SIZE: CoapOption = CoapOption::Unknown(2);
const BLOCK_WISE_TRANSFER: CoapOption = CoapOption::Unknown(4);
const CUSTODY: CoapOption = CoapOption::Unknown(2);
const BAD_CSM_OPTION: CoapOption = CoapOption::Unknown(2);
/// What holds until a CSM says otherwise (section 5.3.1).
pub(super) const BASE_SIZE: usize = 1152;

/// A signalling message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Capabilities and settings: the longest message that is taken, and whether blocks are understood. `unknown` is a critical option that is not understood.
    Csm {
        max_message_size: Option<usize>,
        block_wise: bool,
        unknown: Option<u16>,
    },
    /// To be answered, with its token.
    Ping {
        custody: bool,
    },
    Pong,
    /// The sender will close when it has been answered.
    Release,
    /// The sender closes, and why.
    Abort(String),
    /// Another code, to be ignored if it may be (section 5.2).
    Unknown(u8),
}

impl Signal {
    /// `None` for a request or response.
    pub fn of(packet: &Packet) -> Option<Signal> {
        let byte = u8::from(packet.header.code);
        (byte >> 5 == 7).then(|| match byte {
            code::CSM => {
                let size = message::uint(packet, MAX_MESSAGE_SIZE);
                let max_message_size = size.and_then(|size| usize::try_from(size).ok());
                let critical = |number: &u16| number % 2 == 1;
                let unknown = packet.options().map(|(number, _)| *number).find(critical);
                let block_wise = message::first(packet, BLOCK_WISE_TRANSFER).is_some();
                Signal::Csm { max_message_size, block_wise, unknown }
            }
            code::PING => Signal::Ping { custody: message::first(packet, CUSTODY).is_some() },
            code::PONG => Signal::Pong,
            code::RELEASE => Signal::Release,
            code::ABORT => Signal::Abort(String::from_utf8_lossy(&packet.payload).into_owned()),
            other => Signal::Unknown(other),
        })
    }
}

fn signal(code: u8) -> Packet {
    let mut packet = Packet::new();
    packet.header.code = code.into();
    packet
}

pub(super) fn csm(max_message_size: usize) -> Packet {
    let mut packet = signal(code::CSM);
    let size = u32::try_from(max_message_size).unwrap_or(u32::MAX);
    message::set_uint(&mut packet, MAX_MESSAGE_SIZE, size);
    message::add(&mut packet, BLOCK_WISE_TRANSFER, Vec::new());
    packet
}

pub(super) fn ping() -> Packet {
    signal(code::PING)
}

/// The answer to a ping, which has been dealt with in the order of messages, as custody asks for.
pub(super) fn pong(ping: &Packet, custody: bool) -> Packet {
    let mut packet = signal(code::PONG);
    packet.set_token(ping.get_token().to_vec());
    if custody {
        message::add(&mut packet, CUSTODY, Vec::new());
    }
    packet
}

pub(super) fn release() -> Packet {
    signal(code::RELEASE)
}

pub(super) fn abort(why: &str, bad_csm_option: Option<u16>) -> Packet {
    let mut packet = signal(code::ABORT);
    if let Some(number) = bad_csm_option {
        message::set_uint(&mut packet, BAD_CSM_OPTION, u32::from(number));
    }
    packet.payload = why.as_bytes().to_vec();
    packet
}
