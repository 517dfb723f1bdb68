//! Why there is no association: what OpenSSL says, in words that name the cure.

use std::fmt;

use openssl::error::ErrorStack;
use tracemq_plugin_api::prelude::{Error, ErrorKind};

use super::settings::Over;

/// OpenSSL's reason codes for alerts of the peer: so much and the alert's number.
const RECEIVED_ALERT: i32 = 1000;

/// Alerts (RFC 5246 section 7.2, RFC 4279, RFC 8446).
mod alert {
    pub(super) const BAD_RECORD_MAC: u8 = 20;
    pub(super) const HANDSHAKE_FAILURE: u8 = 40;
    pub(super) const BAD_CERTIFICATE: u8 = 42;
    pub(super) const UNSUPPORTED_CERTIFICATE: u8 = 43;
    pub(super) const CERTIFICATE_REVOKED: u8 = 44;
    pub(super) const CERTIFICATE_EXPIRED: u8 = 45;
    pub(super) const CERTIFICATE_UNKNOWN: u8 = 46;
    pub(super) const UNKNOWN_CA: u8 = 48;
    pub(super) const ACCESS_DENIED: u8 = 49;
    pub(super) const DECRYPT_ERROR: u8 = 51;
    pub(super) const PROTOCOL_VERSION: u8 = 70;
    pub(super) const UNRECOGNIZED_NAME: u8 = 112;
    pub(super) const UNKNOWN_PSK_IDENTITY: u8 = 115;
    pub(super) const CERTIFICATE_REQUIRED: u8 = 116;
}

/// Why an association did not come up, or broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The other side refused with this alert.
    Alert(u8),
    /// The other side does not answer.
    Silence,
    /// Anything else, in OpenSSL's words.
    Other(String),
}

impl Failure {
    pub(super) fn of(error: &openssl::ssl::Error) -> Failure {
        match error.ssl_error() {
            Some(stack) => Failure::setup(stack),
            None => Failure::Other("the association broke".to_owned()),
        }
    }

    pub(super) fn setup(stack: &ErrorStack) -> Failure {
        let reasons = stack.errors().iter().map(openssl::error::Error::reason_code);
        let alert = reasons
            .filter_map(|reason| reason.checked_sub(RECEIVED_ALERT))
            .find_map(|alert| u8::try_from(alert).ok());
        match (alert, stack.errors().last()) {
            (Some(alert), _) => Failure::Alert(alert),
            (None, Some(last)) => {
                Failure::Other(last.reason().unwrap_or("an error without a name").to_owned())
            }
            (None, None) => Failure::Other("an error without a name".to_owned()),
        }
    }

    /// For a client: what the server at `target` did, and what the user can do. `psk`: by key, not by certificate.
    pub(super) fn explain(&self, over: Over, target: &str, psk: bool, has_certificate: bool) -> Error {
        let protocol = over.protocol();
        const CHECK: &str = "check --tls-cert or --tls-pkcs12";
        const GIVE: &str = "give one with --tls-cert and --tls-key, or with --tls-pkcs12";
        let failed = |message: String| Error::new(ErrorKind::CONNECT, message);
        let refused = |message: String| Error::new(ErrorKind::AUTH, message);
        let number = match self {
            Failure::Silence => {
                return Error::new(
                    ErrorKind::TIMEOUT,
                    format!("{target} did not answer the {protocol} handshake"),
                )
                .hint(silence_hint(psk))
                .temporary();
            }
            Failure::Other(what) => {
                return failed(format!("{protocol} with {target} failed: {what}"))
                    .hint(format!("does it speak {protocol} on this port? Check the scheme and the port"));
            }
            Failure::Alert(number) => *number,
        };
        let error = match number {
            alert::UNKNOWN_PSK_IDENTITY => {
                refused(format!("{target} does not know this PSK identity")).hint("check --psk-identity")
            }
            alert::BAD_RECORD_MAC | alert::DECRYPT_ERROR if psk => {
                refused(format!("{target} refused the pre-shared key")).hint("check --psk-key and --psk-identity")
            }
            alert::HANDSHAKE_FAILURE if psk => failed(format!(
                "{target} refused the {protocol} handshake: it wants a certificate instead of a pre-shared key, or does not accept this one"
            ))
            .hint("check --psk-identity and --psk-key, or leave them out to connect with certificates"),
            alert::CERTIFICATE_REQUIRED => {
                failed(format!("{target} requires a client certificate and got none that it accepts")).hint(GIVE)
            }
            alert::HANDSHAKE_FAILURE | alert::BAD_CERTIFICATE if !has_certificate => failed(format!(
                "{target} refused the {protocol} handshake: it requires a client certificate or a pre-shared key, or shares no cipher with us"
            ))
            .hint(format!("{GIVE}; a pre-shared key with --psk-identity and --psk-key")),
            alert::UNKNOWN_CA => {
                failed(format!("{target} does not know the CA that signed the client certificate")).hint(CHECK)
            }
            alert::CERTIFICATE_EXPIRED => {
                failed(format!("{target} says that the client certificate has expired")).hint(CHECK)
            }
            alert::CERTIFICATE_REVOKED => {
                failed(format!("{target} says that the client certificate has been revoked")).hint(CHECK)
            }
            alert::HANDSHAKE_FAILURE
            | alert::BAD_CERTIFICATE
            | alert::UNSUPPORTED_CERTIFICATE
            | alert::CERTIFICATE_UNKNOWN
            | alert::ACCESS_DENIED
            | alert::DECRYPT_ERROR => {
                failed(format!("{target} does not accept the client certificate (alert {number})")).hint(CHECK)
            }
            alert::PROTOCOL_VERSION => failed(format!("{target} does not support {protocol} 1.2"))
                .hint("older versions are insecure and not supported here: the server has to be upgraded"),
            alert::UNRECOGNIZED_NAME => {
                failed(format!("{target} does not know the host name it was asked for"))
                    .hint("give the name it expects with --tls-server-name")
            }
            number => failed(format!("{target} ended the {protocol} handshake with alert {number}")),
        };
        error.code(format!("alert {number}"))
    }
}

/// What silence may mean.
pub(super) fn silence_hint(psk: bool) -> &'static str {
    match psk {
        true => {
            "is the pre-shared key right? A server can't read what a wrong one encrypts, and stays silent; else check host and port, and whether it speaks DTLS"
        }
        false => {
            "check the host and the port, and whether the server speaks DTLS; --connect-timeout sets the limit"
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Alert(alert::UNKNOWN_CA) => f.write_str("it does not know the CA of our certificate"),
            Failure::Alert(
                alert::BAD_CERTIFICATE
                | alert::UNSUPPORTED_CERTIFICATE
                | alert::CERTIFICATE_UNKNOWN
                | alert::ACCESS_DENIED,
            ) => f.write_str("it does not accept our certificate; is that for the name that it uses?"),
            Failure::Alert(alert::CERTIFICATE_EXPIRED) => {
                f.write_str("it says that our certificate has expired")
            }
            Failure::Alert(alert::PROTOCOL_VERSION) => f.write_str("it wants another version than 1.2"),
            Failure::Alert(number) => write!(f, "it ended the handshake with alert {number}"),
            Failure::Silence => f.write_str("it did not answer any more"),
            Failure::Other(what) => f.write_str(match what.as_str() {
                "peer did not return a certificate" => {
                    "it showed no certificate, which --tls-ca demands; --tls-client-auth optional lets it in without"
                }
                "unsupported protocol" | "version too low" | "wrong version number" => {
                    "it speaks another version than 1.2, or none"
                }
                "no shared cipher" => "it has no cipher in common with this server",
                "decryption failed or bad record mac" => "it has another key than this server has for its PSK identity",
                other => other,
            }),
        }
    }
}

impl std::error::Error for Failure {}
