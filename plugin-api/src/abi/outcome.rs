//! What became of one published message.

use super::Extension;
use abi_stable::StableAbi;
use abi_stable::std_types::{RString, RVec};

/// Statuses added later read as neither success nor failure and are shown by number.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutcomeStatus(pub u32);

impl OutcomeStatus {
    /// Handed to the network; the protocol confirms nothing.
    pub const SENT: OutcomeStatus = OutcomeStatus(1);
    /// Confirmed by the peer.
    pub const ACKNOWLEDGED: OutcomeStatus = OutcomeStatus(2);
    /// Refused by the peer, or by the plugin on the peer's stated limits.
    pub const REFUSED: OutcomeStatus = OutcomeStatus(3);
    /// Not confirmed when the connection ended: it may or may not have arrived.
    pub const UNCONFIRMED: OutcomeStatus = OutcomeStatus(4);
    /// Refused for want of permission.
    pub const UNAUTHORIZED: OutcomeStatus = OutcomeStatus(5);
}

#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct Outcome {
    status: OutcomeStatus,
    reason: RString,
    details: RString,
    extensions: RVec<Extension>,
}

impl Outcome {
    pub fn new(status: OutcomeStatus, reason: impl Into<String>) -> Outcome {
        Outcome { status, reason: reason.into().into(), details: RString::new(), extensions: RVec::new() }
    }

    pub fn sent() -> Outcome {
        Outcome::new(OutcomeStatus::SENT, "")
    }

    pub fn acknowledged() -> Outcome {
        Outcome::new(OutcomeStatus::ACKNOWLEDGED, "")
    }

    pub fn refused(reason: impl Into<String>) -> Outcome {
        Outcome::new(OutcomeStatus::REFUSED, reason)
    }

    pub fn unauthorized(reason: impl Into<String>) -> Outcome {
        Outcome::new(OutcomeStatus::UNAUTHORIZED, reason)
    }

    pub fn unconfirmed(reason: impl Into<String>) -> Outcome {
        Outcome::new(OutcomeStatus::UNCONFIRMED, reason)
    }

    /// What the protocol adds, as a JSON object: the stream and sequence of an acknowledgement.
    pub fn details(mut self, details: serde_json::Value) -> Outcome {
        self.details = details.to_string().into();
        self
    }

    /// The same of a type of its own, which becomes text without a tree of values in between: for what is made of every
    /// message. One that is no JSON object, or can't be written, is left out.
    pub fn details_of(mut self, details: &impl serde::Serialize) -> Outcome {
        let text = serde_json::to_string(details).unwrap_or_default();
        self.details = if text.starts_with('{') { text.into() } else { RString::new() };
        self
    }

    pub fn status(&self) -> OutcomeStatus {
        self.status
    }

    pub fn is_success(&self) -> bool {
        matches!(self.status, OutcomeStatus::SENT | OutcomeStatus::ACKNOWLEDGED)
    }

    /// Why, in the protocol's terms with its reason code; empty when there is nothing to say.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// A JSON object, or the empty text.
    pub fn details_json(&self) -> &str {
        &self.details
    }
}
