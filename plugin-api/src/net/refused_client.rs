//! What rustls says to a server of a client that did not come in, in words for whoever runs the server.

use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError, InvalidMessage, PeerIncompatible};

use super::calendar::date;
use super::certificate::Signer;
use super::explain::rustls_error;
use super::tcp::reason;
use super::verify::take_signer;

/// Why a client's TLS handshake failed, for the event that tells of its refusal: `TLS: ` and what went wrong, with the
/// option that would cure it.
///
/// To be asked in the same poll in which the handshake failed: who signed a client's certificate is known only then.
pub fn explain_client(error: &io::Error) -> String {
    let why = match rustls_error(error) {
        Some(error) => explain(error),
        None if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            "the client broke the handshake off; it may not trust this server's certificate".to_owned()
        }
        // An error that somebody has put into words already.
        None if error.get_ref().is_some() => error.to_string(),
        None => reason(error),
    };
    format!("TLS: {why}")
}

pub(super) fn explain(error: &TlsError) -> String {
    const OLD: &str =
        "the client speaks no version of TLS from --tls-min-version on (1.2 unless said otherwise)";
    match error {
        TlsError::NoCertificatesPresented => {
            "the client showed no certificate, which --tls-ca demands; --tls-client-auth optional lets it in without".into()
        }
        TlsError::InvalidCertificate(error) => bad_certificate(error),
        TlsError::AlertReceived(alert) => refused(*alert),
        TlsError::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => OLD.into(),
        TlsError::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon,
        ) => "the client has no cipher, key exchange or signature in common with this server".into(),
        TlsError::NoApplicationProtocol => {
            "the client offers none of the application protocols of this server (ALPN); --tls-alpn says which it takes".into()
        }
        TlsError::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge
            | InvalidMessage::InvalidEmptyPayload,
        ) => "it does not speak TLS".into(),
        error => error.to_string(),
    }
}

/// Why the client's certificate was not accepted.
fn bad_certificate(error: &CertificateError) -> String {
    use CertificateError as E;
    const WHOSE: &str = "the client's certificate";
    match error {
        E::ExpiredContext { not_after, .. } => format!("{WHOSE} expired on {}", date(*not_after)),
        E::Expired => format!("{WHOSE} has expired"),
        E::NotValidYetContext { not_before, .. } => {
            format!("{WHOSE} is not valid before {}", date(*not_before))
        }
        E::UnknownIssuer => match take_signer() {
            Some(Signer::Itself) => format!("{WHOSE} is self-signed, and not by a CA of --tls-ca"),
            Some(Signer::Authority(name)) => {
                format!("{WHOSE} is signed by \"{name}\", and not by a CA of --tls-ca")
            }
            None => format!("{WHOSE} is not signed by a CA of --tls-ca"),
        },
        E::BadSignature => format!("{WHOSE} is not signed by the CA that it names"),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            format!("{WHOSE} is not meant for clients, but for something else (its extended key usage)")
        }
        E::BadEncoding => format!("{WHOSE} is damaged, or no X.509 certificate"),
        error => format!("{WHOSE} is not accepted: {error}"),
    }
}

/// What the client's refusal means: it is about this server's certificate.
fn refused(alert: AlertDescription) -> String {
    use AlertDescription as A;
    match alert {
        A::UnknownCA => "the client does not know the CA that signed this server's certificate".into(),
        A::CertificateExpired => "the client says that this server's certificate has expired".into(),
        A::BadCertificate
        | A::CertificateUnknown
        | A::UnsupportedCertificate
        | A::AccessDenied
        | A::DecryptError => {
            format!(
                "the client does not accept this server's certificate ({alert:?}): is it for the name that the client uses?"
            )
        }
        A::ProtocolVersion => "the client wants another version of TLS".into(),
        A::HandshakeFailure => {
            "the client has nothing in common with this server, or wants another certificate".into()
        }
        A::NoApplicationProtocol => {
            "the client agrees to no application protocol of this server (ALPN)".into()
        }
        other => format!("the client ended TLS with the alert {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_tls_error_is_told_as_it_is() {
        assert_eq!(explain_client(&io::ErrorKind::TimedOut.into()), "TLS: no answer");
        assert!(explain_client(&io::ErrorKind::UnexpectedEof.into()).contains("may not trust"));
    }

    #[test]
    fn alerts_of_clients_are_about_our_certificate() {
        let told = |error: TlsError| explain_client(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert!(told(TlsError::AlertReceived(AlertDescription::UnknownCA)).contains("does not know the CA"));
        assert!(told(TlsError::NoCertificatesPresented).contains("--tls-client-auth optional"));
    }
}
