//! Why a message can't be protected, and why a protected one is not accepted.

use std::fmt;

use coap_lite::ResponseType;
use tracemq_plugin_api::prelude::Error;

use crate::message::MessageClass;

/// Why a message that came is not accepted. The peer is told of it without protection (RFC 8613 section 8.2), so that the
/// words are those of the RFC and tell nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The OSCORE option, or what was decrypted, can't be read.
    Malformed,
    /// No such key id, or not in this context.
    UnknownContext,
    /// Another key, or the message was changed.
    NotAuthentic,
    /// Its number has been used, or is too old to tell.
    Replayed,
    /// A notification that is not newer than the last one, or a response where none can come any more.
    Stale,
    /// No OSCORE option where one must be.
    Unprotected,
    /// That its number is used could not be noted.
    NotKept,
}

impl Refusal {
    /// The code of the error response (RFC 8613 sections 8.2 and 7.4).
    pub fn code(self) -> MessageClass {
        MessageClass::Response(match self {
            Refusal::Malformed => ResponseType::BadOption,
            Refusal::NotAuthentic => ResponseType::BadRequest,
            Refusal::UnknownContext | Refusal::Replayed | Refusal::Stale | Refusal::Unprotected => {
                ResponseType::Unauthorized
            }
            Refusal::NotKept => ResponseType::InternalServerError,
        })
    }

    /// The diagnostic payload of the error response.
    pub fn diagnostic(self) -> &'static str {
        match self {
            Refusal::Malformed => "Failed to decode COSE",
            Refusal::UnknownContext => "Security context not found",
            Refusal::NotAuthentic => "Decryption failed",
            Refusal::Replayed | Refusal::Stale => "Replay detected",
            Refusal::Unprotected => "OSCORE required",
            Refusal::NotKept => "The replay window can't be kept",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Malformed => "its OSCORE option or what it protects can't be read",
            Refusal::UnknownContext => "its OSCORE key id is not known here",
            Refusal::NotAuthentic => {
                "it was not protected with the keys known here, or was changed on the way"
            }
            Refusal::Replayed => "its OSCORE sequence number was used before",
            Refusal::Stale => "its OSCORE sequence number is not newer than that of the message before it",
            Refusal::Unprotected => "it is not protected by OSCORE",
            Refusal::NotKept => "that its OSCORE sequence number is used could not be noted",
        })
    }
}

impl std::error::Error for Refusal {}

/// Why a message can't be sent protected.
#[derive(Debug)]
pub enum OscoreError {
    /// The message has what OSCORE can't protect.
    Unfit(&'static str),
    /// The message is larger than the algorithm allows, 65,535 bytes.
    TooLarge,
    /// 2^40 messages have been sent: the keys must not be used any more (RFC 8613 section 7.2.1).
    Exhausted,
    /// The sequence number could not be kept.
    Storage(String),
}

impl fmt::Display for OscoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OscoreError::Unfit(what) => write!(f, "OSCORE can't protect a message with {what}"),
            OscoreError::TooLarge => f.write_str("OSCORE can't protect a message of more than 65,535 bytes"),
            OscoreError::Exhausted => f.write_str("all sequence numbers of the OSCORE keys are used up"),
            OscoreError::Storage(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for OscoreError {}

impl From<OscoreError> for Error {
    fn from(error: OscoreError) -> Error {
        let told = Error::config(error.to_string());
        match error {
            OscoreError::Exhausted => told.hint("agree on a new --oscore-master-secret with the other side"),
            _ => told,
        }
    }
}
