//! The Echo exchange (RFC 9175 section 2, RFC 8613 appendix B.1.2).
//!
//! A server that has lost its replay window, or never had one, can't tell an old request from a new one. It answers with a
//! random value, and begins the window with the request that brings it back: that one can't have been recorded before.

use coap_lite::ResponseType;

use super::parts::ECHO;
use crate::message::{self, MessageClass, Packet};

/// What is waited for after a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Challenge([u8; 8]);

impl Challenge {
    pub(super) fn new(random: [u8; 8]) -> Challenge {
        Challenge(random)
    }

    pub(super) fn is_answered_by(self, request: &Packet) -> bool {
        message::first(request, ECHO).is_some_and(|value| value == self.0)
    }

    /// Puts the question into a response.
    pub(super) fn put_into(self, response: &mut Packet) {
        response.header.code = UNAUTHORIZED;
        message::replace(response, ECHO, self.0);
    }
}

const UNAUTHORIZED: MessageClass = MessageClass::Response(ResponseType::Unauthorized);

/// What a client is to bring back, if that is what a response asks for.
pub(super) fn question(response: &Packet) -> Option<&[u8]> {
    let asks = response.header.code == UNAUTHORIZED;
    message::first(response, ECHO).filter(|_| asks)
}

/// Brings it back.
pub(super) fn bring_back(request: &mut Packet, value: &[u8]) {
    message::replace(request, ECHO, value);
}
