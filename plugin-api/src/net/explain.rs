//! What rustls says, in words that name the cure.

use std::io;

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, Error as TlsError, InvalidMessage, PeerIncompatible};

use super::dial::Peer;
use super::error::{NetError, NetErrorKind};
use super::tcp::reason;
use super::verify::is_ca_as_server;

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

fn rustls_error(error: &io::Error) -> Option<&TlsError> {
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
            tls(format!("{who} agrees to none of the application protocols offered (ALPN)")).permanent()
        }
        e => tls(format!("TLS with {who} failed: {e}")),
    }
}

fn old_versions(who: &str) -> NetError {
    NetError::new(NetErrorKind::Tls, format!("{who} supports neither TLS 1.2 nor TLS 1.3"))
        .hint("older versions are insecure and not supported here: the server has to be upgraded")
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
        E::UnknownIssuer => (
            format!("the certificate of {who} is not signed by a trusted CA"),
            format!("give its CA's certificate with --tls-ca; {skip}"),
        ),
        E::BadSignature => (
            format!("the certificate of {who} is not signed by the CA that it names"),
            format!("is the right CA given with --tls-ca? {skip}"),
        ),
        E::Revoked => {
            (format!("the certificate of {who} has been revoked"), "the server needs a new one".into())
        }
        e if is_ca_as_server(e) => (
            format!("the certificate of {who} is self-signed or a CA's own, and not among the trusted ones"),
            format!("give that certificate itself with --tls-ca; {skip}"),
        ),
        e => (format!("the certificate of {who} cannot be accepted: {e}"), skip.into()),
    };
    NetError::new(NetErrorKind::Tls, message).hint(hint)
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
            "is this the right port for the protocol?",
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

/// `2024-05-01 12:00 UTC`. By hand, as nothing else here would need a calendar.
fn date(time: UnixTime) -> String {
    let seconds = time.as_secs();
    let (days, minutes) = (seconds / 86_400, seconds % 86_400 / 60);
    // Civil date from days since 1970, counted in 400-year eras that begin on 1 March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (secs, want) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (1_704_067_199, "2023-12-31 23:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(date(UnixTime::since_unix_epoch(Duration::from_secs(secs))), want);
        }
    }

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
