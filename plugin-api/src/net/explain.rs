//! What rustls says to a client, in words that name the cure. What it says to a server is in
//! [`refused_client`](super::refused_client).

use std::io;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, Error as TlsError, InvalidMessage, PeerIncompatible};

use super::calendar::date;
use super::certificate::Signer;
use super::dial::Peer;
use super::error::{NetError, NetErrorKind};
use super::tcp::reason;
use super::verify::{is_ca_as_server, take_signer};

/// Digs a TLS error out of an I/O error and explains it; `None` when there is none in it.
///
/// For a client's protocol code: in TLS 1.3 the handshake is over for the client before the server has looked at its
/// certificate, so that a refusal arrives with the first read.
pub fn explain_io(error: &io::Error) -> Option<NetError> {
    rustls_error(error).map(|e| explain("the server", None, e, None).source(e.clone()))
}

/// A TLS handshake with this peer that ended in this error.
pub(super) fn tls_failed(peer: Peer<'_>, error: io::Error, has_identity: bool) -> NetError {
    let port = peer.port;
    let explained = match rustls_error(&error) {
        Some(e) => explain(&peer.to_string(), Some(port), e, Some(has_identity)),
        None => {
            NetError::new(NetErrorKind::Tls, format!("{peer} ended the TLS handshake: {}", reason(&error)))
                .hint(format!(
                    "a server that does not speak TLS on port {port} does this: check the scheme and the port"
                ))
        }
    };
    explained.source(error)
}

/// A certificate of this peer's that was not accepted.
pub(super) fn certificate_refused(peer: Peer<'_>, error: TlsError) -> NetError {
    explain(&peer.to_string(), Some(peer.port), &error, None).source(error)
}

pub(super) fn rustls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

/// `who` begins the sentence; `has_identity` is `None` where it isn't known whether a client certificate was there.
fn explain(who: &str, port: Option<u16>, error: &TlsError, has_identity: Option<bool>) -> NetError {
    let tls = |message: String| NetError::new(NetErrorKind::Tls, message);
    match error {
        TlsError::InvalidCertificate(e) => bad_certificate(who, e).permanent(),
        TlsError::AlertReceived(alert) => refused(who, *alert, has_identity),
        // What a plain server answers to a client hello is no TLS record.
        TlsError::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge
            | InvalidMessage::InvalidEmptyPayload,
        ) => tls(match port {
            Some(port) => format!("{who}: the server does not speak TLS on port {port}"),
            None => format!("{who} does not speak TLS on this port"),
        })
        .hint("use the scheme without TLS, or the server's TLS port")
        .permanent(),
        TlsError::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => old_versions(who),
        TlsError::NoApplicationProtocol => {
            tls(format!("{who} agrees to none of the application protocols offered (ALPN)"))
                .hint("is this the right port for the protocol? --tls-alpn offers others")
                .permanent()
        }
        e => tls(format!("TLS with {who} failed: {e}")),
    }
}

fn old_versions(who: &str) -> NetError {
    NetError::new(NetErrorKind::Tls, format!("{who} and this end have no version of TLS in common"))
        .hint(
            "--tls-min-version 1.2 takes a server without TLS 1.3; older versions than 1.2 are insecure and not supported \
             here: then the server has to be upgraded, or asks for more itself",
        )
        .permanent()
}

/// Why the server's certificate was not accepted.
fn bad_certificate(who: &str, error: &CertificateError) -> NetError {
    use CertificateError as E;
    let skip = "--insecure-skip-verify connects without any check";
    let (message, hint) = match error {
        E::ExpiredContext { not_after, .. } => (
            format!("the certificate of {who} expired on {}", date(*not_after)),
            format!("the server needs a new certificate, or this computer's clock is wrong; {skip}"),
        ),
        E::Expired => {
            (format!("the certificate of {who} has expired"), format!("the server needs a new one; {skip}"))
        }
        E::NotValidYetContext { not_before, .. } => (
            format!("the certificate of {who} is not valid before {}", date(*not_before)),
            format!("is this computer's clock right? {skip}"),
        ),
        E::NotValidForNameContext { expected, presented } => (
            match presented.as_slice() {
                [] => format!("the certificate of {who} names no host, so not {} either", name(expected)),
                names => {
                    format!("the certificate of {who} is for {}, not for {}", list(names), name(expected))
                }
            },
            format!("use a name that is in the certificate, or give it with --tls-server-name; {skip}"),
        ),
        E::NotValidForName => (
            format!("the certificate of {who} is for another host"),
            format!("give the name that is in it with --tls-server-name; {skip}"),
        ),
        E::UnknownIssuer => match take_signer() {
            Some(Signer::Itself) => self_signed(who, skip),
            Some(Signer::Authority(name)) => (
                format!("the certificate of {who} is not signed by a trusted CA, but by \"{name}\""),
                format!("give the certificate of that CA with --tls-ca, if you trust it; {skip}"),
            ),
            None => (
                format!("the certificate of {who} is not signed by a trusted CA"),
                format!("give its CA's certificate with --tls-ca; {skip}"),
            ),
        },
        E::BadSignature => (
            format!("the certificate of {who} is not signed by the CA that it names"),
            format!("is the right CA given with --tls-ca? {skip}"),
        ),
        E::Revoked => {
            (format!("the certificate of {who} has been revoked"), "the server needs a new one".into())
        }
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => (
            format!(
                "the certificate of {who} is not meant for servers, but for something else (its extended key usage)"
            ),
            format!("the server needs another one; {skip}"),
        ),
        E::UnhandledCriticalExtension => (
            format!("the certificate of {who} has a critical extension that is not understood here"),
            skip.into(),
        ),
        E::BadEncoding => {
            (format!("the certificate of {who} is damaged, or no X.509 certificate"), skip.into())
        }
        e if is_ca_as_server(e) => self_signed(who, skip),
        e => (format!("the certificate of {who} cannot be accepted: {e}"), skip.into()),
    };
    NetError::new(NetErrorKind::Tls, message).hint(hint)
}

fn self_signed(who: &str, skip: &str) -> (String, String) {
    (
        format!("the certificate of {who} is self-signed or a CA's own, and not among the trusted ones"),
        format!("give that certificate itself with --tls-ca; {skip}"),
    )
}

/// What the server's refusal means. It is about our certificate in most cases.
fn refused(who: &str, alert: AlertDescription, has_identity: Option<bool>) -> NetError {
    use AlertDescription as A;
    const GIVE: &str = "give one with --tls-cert and --tls-key, or with --tls-pkcs12";
    const CHECK: &str = "check --tls-cert or --tls-pkcs12";
    let (message, hint) = match alert {
        A::CertificateRequired => {
            (format!("{who} requires a client certificate and got none that it accepts"), GIVE)
        }
        A::HandshakeFailure | A::BadCertificate if has_identity != Some(true) => (
            format!(
                "{who} refused the TLS handshake: it requires a client certificate, or shares no cipher with us"
            ),
            GIVE,
        ),
        A::HandshakeFailure => (
            format!(
                "{who} refused the TLS handshake: it shares no cipher with us, or does not accept the client certificate"
            ),
            CHECK,
        ),
        A::UnknownCA => (format!("{who} does not know the CA that signed the client certificate"), CHECK),
        A::CertificateExpired => (format!("{who} says that the client certificate has expired"), CHECK),
        A::CertificateRevoked => (format!("{who} says that the client certificate has been revoked"), CHECK),
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateUnknown
        | A::AccessDenied
        | A::DecryptError => (format!("{who} does not accept the client certificate ({alert:?})"), CHECK),
        A::ProtocolVersion => return old_versions(who),
        A::UnrecognisedName => (
            format!("{who} does not know the host name it was asked for"),
            "give the name it expects with --tls-server-name",
        ),
        A::NoApplicationProtocol => (
            format!("{who} agrees to none of the application protocols offered (ALPN)"),
            "is this the right port for the protocol? --tls-alpn offers others",
        ),
        other => {
            return NetError::new(NetErrorKind::Tls, format!("{who} ended TLS with the alert {other:?}"));
        }
    };
    NetError::new(NetErrorKind::Tls, message).hint(hint).permanent()
}

/// The names in a certificate, which come as `DnsName("a")` or `IpAddress(1.2.3.4)`.
fn list(names: &[String]) -> String {
    const MOST: usize = 4;
    let bare = |n: &String| {
        let inner = n.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(n);
        super::error::quote(inner.trim_matches('"').as_bytes())
    };
    let mut out = names.iter().take(MOST).map(bare).collect::<Vec<_>>().join(", ");
    if names.len() > MOST {
        out.push_str(&format!(" and {} more", names.len() - MOST));
    }
    out
}

fn name(name: &ServerName<'_>) -> String {
    name.to_str().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_certificate_are_listed_bare_and_bounded() {
        let names = ["DnsName(\"a.example\")", "IpAddress(10.0.0.1)", "x", "y", "z"].map(String::from);
        assert_eq!(list(&names), "a.example, 10.0.0.1, x, y and 1 more");
    }

    #[test]
    fn an_io_error_without_tls_in_it_is_not_explained() {
        assert!(explain_io(&io::Error::other("disk full")).is_none());
        assert!(explain_io(&io::ErrorKind::ConnectionReset.into()).is_none());
    }
}
