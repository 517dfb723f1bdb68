//! A message taken apart into what is encrypted and what stays readable on the way (RFC 8613 section 4), and put together
//! again.

use super::error::{OscoreError, Refusal};
use crate::message::{self, CoapOption, MessageClass, Packet};

/// The Echo option (RFC 9175 section 2).
pub(super) const ECHO: CoapOption = CoapOption::Unknown(252);
const HOP_LIMIT: u16 = 16;
const URI_HOST: u16 = 3;
const OBSERVE: u16 = 6;
const URI_PORT: u16 = 7;
const OSCORE: u16 = 9;
const PROXY_URI: u16 = 35;
const PROXY_SCHEME: u16 = 39;

/// Options that proxies act on, and that are not encrypted (class U alone in RFC 8613 figure 5; Hop-Limit by RFC 8768). All
/// others are, unknown ones too.
fn is_outer(number: u16) -> bool {
    matches!(number, URI_HOST | URI_PORT | PROXY_SCHEME | HOP_LIMIT)
}

/// The two halves of a message that is to be sent.
pub(super) struct Parts {
    /// With the outer code to be set, the options that stay readable, and no payload yet.
    pub(super) outer: Packet,
    pub(super) plaintext: Vec<u8>,
}

/// # Errors
/// [`OscoreError::Unfit`] for Proxy-Uri, which would show the path, and for a message that is protected already.
pub(super) fn take_apart(message: &Packet) -> Result<Parts, OscoreError> {
    let is_request = message::is_request(message.header.code);
    let mut outer = like(message, message.header.code);
    let mut inner = Packet::new();
    inner.header.code = message.header.code;
    for (number, values) in message.options().filter(|(_, values)| !values.is_empty()) {
        let option = CoapOption::from(*number);
        match *number {
            PROXY_URI => return Err(OscoreError::Unfit("Proxy-Uri: give Proxy-Scheme and Uri-Host instead")),
            OSCORE => return Err(OscoreError::Unfit("an OSCORE option of its own")),
            OBSERVE => {
                outer.set_option(option, values.clone());
                // A response's number is for proxies; the one that counts is the partial IV (section 4.1.3.5.2).
                match is_request {
                    true => inner.set_option(option, values.clone()),
                    false => inner.add_option(option, Vec::new()),
                }
            }
            number if is_outer(number) => outer.set_option(option, values.clone()),
            _ => inner.set_option(option, values.clone()),
        }
    }
    inner.payload.clone_from(&message.payload);
    let mut plaintext = vec![inner.header.code.into()];
    message::encode_options(&inner, &mut plaintext);
    Ok(Parts { outer, plaintext })
}

/// The message that was in `outer`, without the options that could have been added on the way.
///
/// # Errors
/// [`Refusal::Malformed`].
pub(super) fn put_together(outer: &Packet, plaintext: &[u8]) -> Result<Packet, Refusal> {
    let inner = read(plaintext).ok_or(Refusal::Malformed)?;
    let mut message = like(outer, inner.header.code);
    for (number, values) in outer.options().filter(|(number, _)| is_outer(**number)) {
        message.set_option((*number).into(), values.clone());
    }
    for (number, values) in inner.options().filter(|(number, _)| !is_outer(**number)) {
        // A proxy that took the outer Observe away does not want the observation (section 4.1.3.5.1).
        if *number == OBSERVE && outer.get_first_option(CoapOption::Observe).is_none() {
            continue;
        }
        message.set_option((*number).into(), values.clone());
    }
    message.payload = inner.payload;
    Ok(message)
}

/// Type, message id and token of a message, with another code.
pub(super) fn like(message: &Packet, code: MessageClass) -> Packet {
    let mut like = Packet::new();
    like.header = message.header.clone();
    like.header.code = code;
    like.set_token(message.get_token().to_vec());
    like
}

/// Code, options and payload; the rest of a header, and a token, are no part of what is protected.
fn read(plaintext: &[u8]) -> Option<Packet> {
    let (code, rest) = plaintext.split_first()?;
    message::check_options(rest).ok()?;
    let bytes = [&[0x40, *code, 0, 0][..], rest].concat();
    let packet = Packet::from_bytes(&bytes).ok()?;
    let code = packet.header.code;
    (message::is_request(code) || message::is_response(code)).then_some(packet)
}
