//! Why a client is disconnected or a message dropped: as a reason code of MQTT 5.0, and in words.

use rmqtt::codec::v5::{PublishAckReason, ToReasonCode};
use rmqtt::net::MqttError;
use rmqtt::types::Reason;

/// The reason codes of MQTT 5.0 that our own checks lead to.
pub(super) mod code {
    pub(in super::super) const UNSPECIFIED: u8 = 0x80;
    pub(in super::super) const MALFORMED_PACKET: u8 = 0x81;
    pub(in super::super) const TOPIC_FILTER_INVALID: u8 = 0x8F;
    pub(in super::super) const PACKET_TOO_LARGE: u8 = 0x95;
    pub(in super::super) const SESSION_TAKEN_OVER: u8 = 0x8E;
    pub(in super::super) const TOPIC_NAME_INVALID: u8 = 0x90;
    pub(in super::super) const TOPIC_ALIAS_INVALID: u8 = 0x94;
    pub(in super::super) const QUOTA_EXCEEDED: u8 = 0x97;
    pub(in super::super) const NOT_AUTHORIZED: u8 = 0x87;
}

/// The reason code a 5.0 client must be told in DISCONNECT; `None` when it left by itself.
pub(super) fn disconnect_code(reason: &Reason) -> Option<u8> {
    match reason {
        Reason::ConnectDisconnect(_) | Reason::ConnectRemoteClose => None,
        // Another connection with the same client identifier.
        Reason::ConnectKicked(false) => Some(code::SESSION_TAKEN_OVER),
        // The library has one error for all faults of a topic alias, and only its text tells them apart.
        Reason::MqttError(MqttError::PublishAckReason(_, text)) if text.contains("alias") => {
            Some(code::TOPIC_ALIAS_INVALID)
        }
        Reason::MqttError(MqttError::PublishAckReason(PublishAckReason::NotAuthorized, _)) => {
            Some(code::NOT_AUTHORIZED)
        }
        Reason::Error(text) => Some(undecodable(text)),
        Reason::Reasons(reasons) => match reasons.first() {
            Some(first) => disconnect_code(first),
            None => Some(reason.to_reason_code().into()),
        },
        other => Some(other.to_reason_code().into()),
    }
}

/// The library hands a packet that it could not read over as text only.
fn undecodable(text: &str) -> u8 {
    match text {
        _ if text.starts_with("Max size exceeded") => code::PACKET_TOO_LARGE,
        "Invalid topic name" => code::TOPIC_NAME_INVALID,
        "Invalid topic filter" => code::TOPIC_FILTER_INVALID,
        "Malformed packet"
        | "Invalid length"
        | "utf8 error"
        | "Unsupported packet type"
        | "Packet id is required" => code::MALFORMED_PACKET,
        _ => code::UNSPECIFIED,
    }
}

/// The reason in words.
pub(super) fn describe(reason: &Reason) -> String {
    match reason {
        Reason::ConnectDisconnect(_) => "the client disconnected".to_owned(),
        Reason::ConnectRemoteClose => "the client closed the connection without DISCONNECT".to_owned(),
        Reason::ConnectKeepaliveTimeout => "keep alive: nothing was heard from the client".to_owned(),
        Reason::ConnectKicked(_) => "another connection took over the session".to_owned(),
        Reason::SessionExpiration => "the session expired".to_owned(),
        Reason::MessageExpiration => "the message expired".to_owned(),
        Reason::MessageQueueFull => "the receiver's queue is full".to_owned(),
        Reason::InflightWindowFull => "the client sent more than the receive maximum allows".to_owned(),
        Reason::Reasons(reasons) => match reasons.first() {
            Some(first) => describe(first),
            None => reason.to_string(),
        },
        other => other.to_string(),
    }
}
