//! OpenSSL's contexts, from the options.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::ssl::{
    AlpnError, Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslRef,
    SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use openssl::x509::X509;
use ring::hmac;
use ring::rand::SystemRandom;
use tracemq_plugin_api::net::{ClientMaterial, KeyLog, ServerMaterial, ServerTls, TlsIdentity, TlsOptions};
use tracemq_plugin_api::prelude::{Error, ErrorKind, Result};

use super::association::Association;
use super::failure::Failure;
use super::judge::Verdict;
use super::options::{PskOptions, ServePskOptions};
use crate::tcp::ALPN;

/// The suites of RFC 7252 (with CCM_8) and RFC 7925, and those with longer tags before them. @SECLEVEL=0 because of CCM_8.
const PSK_CIPHERS: &str = "ECDHE-PSK-CHACHA20-POLY1305:PSK-AES128-GCM-SHA256:PSK-AES256-GCM-SHA384:PSK-CHACHA20-POLY1305:PSK-AES128-CCM:PSK-AES128-CCM8";
const CERTIFICATE_CIPHERS: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-CCM:ECDHE-ECDSA-AES128-CCM8:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305";
const LEVEL: &str = "@SECLEVEL=0";
const GROUPS: &str = "P-256:X25519:P-384:P-521";
/// No SHA-1, which that security level would allow.
const SIGNATURES: &str = "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:ed25519:RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512:RSA+SHA256:RSA+SHA384:RSA+SHA512";
/// Of a handshake's datagrams: what IPv6 carries anywhere, 1280, without its header and UDP's.
const MTU: u32 = 1232;
/// SSL_OP_IGNORE_UNEXPECTED_EOF: the openssl crate has no name for it where OpenSSL is older than 3.0, which needs it not.
const IGNORE_UNEXPECTED_EOF: u8 = 1 << 7;
/// How long a cookie is good, at least; at most twice as long.
const COOKIE_PERIOD: Duration = Duration::from_secs(60);

/// What carries the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// DTLS 1.2.
    Datagrams,
    /// TLS 1.2, also where both sides have 1.3: there a server may answer a key with a certificate instead, and devices with
    /// keys have no 1.3 (RFC 7925).
    Tcp,
}

impl Over {
    pub(super) fn protocol(self) -> &'static str {
        match self {
            Over::Datagrams => "DTLS",
            Over::Tcp => "TLS",
        }
    }
}

/// All that a client's associations are made of.
pub struct ClientSettings {
    context: SslContext,
    over: Over,
    psk: bool,
    material: Arc<ClientMaterial>,
    has_certificate: bool,
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSettings").field("psk", &self.psk).field("material", &self.material).finish()
    }
}

impl ClientSettings {
    /// Reads and checks the files that the options name. With a pre-shared key no certificate is looked at.
    ///
    /// # Errors
    /// An option or a file that can't be.
    pub fn new(psk: &PskOptions, tls: &TlsOptions, over: Over) -> Result<ClientSettings> {
        let material = Arc::new(ClientMaterial::new(tls)?);
        let psk = psk.pair()?;
        let identity = material.identity();
        if psk.is_some() && identity.is_some() {
            return Err(Error::config("--psk-identity and --psk-key exclude a client certificate"));
        }
        let by_psk = psk.is_some();
        let make = || {
            let mut builder = common(
                over,
                match over {
                    Over::Datagrams => SslMethod::dtls_client(),
                    Over::Tcp => SslMethod::tls_client(),
                },
            )?;
            match psk {
                Some((name, key)) => {
                    builder.set_cipher_list(&format!("{PSK_CIPHERS}:{LEVEL}"))?;
                    builder.set_psk_client_callback(move |_, _, identity_out, key_out| {
                        // Both have been checked to fit; the identity ends with a NUL.
                        let (name, key) = (name.as_bytes(), key.as_slice());
                        if identity_out.len() <= name.len() || key_out.len() < key.len() {
                            return Ok(0);
                        }
                        identity_out[..name.len()].copy_from_slice(name);
                        identity_out[name.len()] = 0;
                        key_out[..key.len()].copy_from_slice(key);
                        Ok(key.len())
                    });
                }
                None => {
                    builder.set_cipher_list(&format!("{CERTIFICATE_CIPHERS}:{LEVEL}"))?;
                    if let Some(identity) = &identity {
                        show(&mut builder, identity)?;
                    }
                }
            }
            let offers = protocols(material.alpn(), over);
            if !offers.is_empty() {
                builder.set_alpn_protos(&as_sent(&offers))?;
            }
            log_keys(&mut builder, material.key_log());
            Ok::<_, ErrorStack>(builder.build())
        };
        let context = make().map_err(|error| unusable(&error, over))?;
        let has_certificate = material.identity().is_some();
        Ok(ClientSettings { context, over, psk: by_psk, material, has_certificate })
    }

    /// What the user is to be told each time.
    pub fn warnings(&self) -> Vec<&'static str> {
        self.material.warnings(!self.psk)
    }

    pub(super) fn psk(&self) -> bool {
        self.psk
    }

    pub(super) fn has_certificate(&self) -> bool {
        self.has_certificate
    }

    /// A new association with this host, and the verdict on its certificate.
    pub(super) fn associate(&self, host: &str, port: u16) -> Result<(Association, Verdict)> {
        let (ssl, verdict) = self.ssl(host, port)?;
        let association = Association::new(ssl, true).map_err(|failure| failed(&failure, self.over))?;
        Ok((association, verdict))
    }

    /// What an association or a connection with this host is made of.
    pub(super) fn ssl(&self, host: &str, port: u16) -> Result<(Ssl, Verdict)> {
        let unusable = |error: ErrorStack| unusable(&error, self.over);
        let verdict = Verdict::default();
        let mut ssl = Ssl::new(&self.context).map_err(unusable)?;
        if self.over == Over::Datagrams {
            ssl.set_mtu(MTU).map_err(unusable)?;
        }
        if !self.psk {
            if let Some(name) = self.material.server_name(host)? {
                ssl.set_hostname(&name).map_err(unusable)?;
            }
            let (material, shared, host) = (Arc::clone(&self.material), verdict.clone(), host.to_owned());
            ssl.set_verify_callback(SslVerifyMode::PEER, move |_, context| {
                shared.answer(context, &host, |chain| Ok(material.check_server(&host, port, chain)?))
            });
        }
        Ok((ssl, verdict))
    }
}

/// All that a server's associations are made of.
pub struct ServerSettings {
    context: SslContext,
    over: Over,
    /// Which peer is being asked for a cookie.
    asking: Arc<Mutex<Option<SocketAddr>>>,
    /// Where an association keeps the PSK identity that it was given and nobody has.
    unknown: Index<Ssl, String>,
    material: Option<Arc<ServerMaterial>>,
}

impl fmt::Debug for ServerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSettings").field("material", &self.material).finish_non_exhaustive()
    }
}

impl ServerSettings {
    /// Keys and a certificate may both be given: each client chooses.
    ///
    /// # Errors
    /// Keys that can't be, or neither keys nor a certificate.
    pub fn new(psk: &ServePskOptions, tls: Option<ServerTls>, over: Over) -> Result<ServerSettings> {
        let keys = psk.keys()?;
        let material = tls.map(|tls| Arc::new(ServerMaterial::from(tls)));
        let mut ciphers = Vec::new();
        if material.is_some() {
            ciphers.push(CERTIFICATE_CIPHERS);
        }
        if !keys.is_empty() {
            ciphers.push(PSK_CIPHERS);
        }
        if ciphers.is_empty() {
            return Err(Error::config("a server needs pre-shared keys or a certificate")
                .hint("give --psk IDENTITY=KEY, --tls-cert and --tls-key, or --tls-self-signed"));
        }
        ciphers.push(LEVEL);
        let asking = Arc::new(Mutex::new(None));
        let unknown = Ssl::new_ex_index().map_err(|error| unusable(&error, over))?;
        let cookies = Arc::new(Cookies::new()?);
        let make = || {
            let mut builder = common(
                over,
                match over {
                    Over::Datagrams => SslMethod::dtls_server(),
                    Over::Tcp => SslMethod::tls_server(),
                },
            )?;
            builder.set_cipher_list(&ciphers.join(":"))?;
            builder.set_options(SslOptions::NO_TICKET | SslOptions::CIPHER_SERVER_PREFERENCE);
            builder.set_session_cache_mode(SslSessionCacheMode::OFF);
            builder.set_session_id_context(b"tracemq")?;
            if let Some(material) = &material {
                show(&mut builder, material.identity())?;
                log_keys(&mut builder, material.key_log());
            }
            let ours = protocols(material.as_ref().and_then(|material| material.alpn()), over);
            if !ours.is_empty() {
                builder.set_alpn_select_callback(move |_, theirs| {
                    agreed(&ours, theirs).ok_or(AlpnError::ALERT_FATAL)
                });
            }
            if !keys.is_empty() {
                builder.set_psk_server_callback(move |ssl, identity, out| {
                    let identity = identity.unwrap_or_default();
                    match keys.get(identity) {
                        Some(key) if key.len() <= out.len() => {
                            out[..key.len()].copy_from_slice(key);
                            Ok(key.len())
                        }
                        // Which sends the alert that says so.
                        _ => {
                            ssl.set_ex_data(unknown, String::from_utf8_lossy(identity).into_owned());
                            Ok(0)
                        }
                    }
                });
            }
            if over == Over::Tcp {
                return Ok(builder.build());
            }
            builder.set_options(SslOptions::COOKIE_EXCHANGE);
            let (asked, made) = (Arc::clone(&asking), Arc::clone(&cookies));
            builder.set_cookie_generate_cb(move |_, out| {
                let cookie = peer_of(&asked).map(|peer| made.cookie(peer, 0));
                let cookie = cookie.as_ref().map_or(&[][..], |tag| tag.as_ref());
                out[..cookie.len()].copy_from_slice(cookie);
                Ok(cookie.len())
            });
            let asked = Arc::clone(&asking);
            builder.set_cookie_verify_cb(move |_, cookie| {
                peer_of(&asked).is_some_and(|peer| cookies.is_good(peer, cookie))
            });
            Ok::<_, ErrorStack>(builder.build())
        };
        let context = make().map_err(|error| unusable(&error, over))?;
        Ok(ServerSettings { context, over, asking, unknown, material })
    }

    /// The peer that the next datagram is from.
    pub(super) fn ask(&self, peer: SocketAddr) {
        *self.asking.lock().unwrap_or_else(PoisonError::into_inner) = Some(peer);
    }

    /// Why a handshake has failed, as the end of a sentence.
    pub(super) fn explain(&self, ssl: &SslRef, verdict: &Verdict, failure: &Failure) -> String {
        match (verdict.refusal(), ssl.ex_data(self.unknown)) {
            (Some(refusal), _) => refusal.to_string(),
            (None, Some(identity)) => format!("nobody has the PSK identity {identity:?}"),
            (None, None) => failure.to_string(),
        }
    }

    /// An association for whoever comes, and the verdict on its certificate.
    pub(super) fn associate(&self) -> Result<(Association, Verdict)> {
        let (ssl, verdict) = self.ssl()?;
        let association = Association::new(ssl, false).map_err(|failure| failed(&failure, self.over))?;
        Ok((association, verdict))
    }

    /// What an association or a connection with whoever comes is made of.
    pub(super) fn ssl(&self) -> Result<(Ssl, Verdict)> {
        let unusable = |error: ErrorStack| unusable(&error, self.over);
        let verdict = Verdict::default();
        let mut ssl = Ssl::new(&self.context).map_err(unusable)?;
        if self.over == Over::Datagrams {
            ssl.set_mtu(MTU).map_err(unusable)?;
        }
        if let Some(material) = self.material.as_ref().filter(|material| material.asks_for_certificate()) {
            let (material, shared) = (Arc::clone(material), verdict.clone());
            let mode = match material.demands_certificate() {
                true => SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT,
                false => SslVerifyMode::PEER,
            };
            ssl.set_verify_callback(mode, move |_, context| {
                shared.answer(context, "the client", |chain| Ok(material.check_client(chain)?))
            });
        }
        Ok((ssl, verdict))
    }
}

/// Who is at the other end of a handshake that is over: its PSK identity, or the common name in its certificate.
pub(super) fn identity(ssl: &SslRef) -> Option<String> {
    let by_key = ssl.psk_identity().map(|identity| String::from_utf8_lossy(identity).into_owned());
    by_key.or_else(|| {
        let certificate = ssl.peer_certificate()?;
        let name = certificate.subject_name().entries_by_nid(Nid::COMMONNAME).next()?;
        name.data().to_string().ok()
    })
}

/// The cipher suite that was agreed on.
pub(super) fn cipher(ssl: &SslRef) -> String {
    ssl.current_cipher().map_or("", |cipher| cipher.name()).to_owned()
}

fn common(over: Over, method: SslMethod) -> Result<SslContextBuilder, ErrorStack> {
    let mut builder = SslContextBuilder::new(method)?;
    let only = match over {
        Over::Datagrams => SslVersion::DTLS1_2,
        Over::Tcp => SslVersion::TLS1_2,
    };
    builder.set_min_proto_version(Some(only))?;
    builder.set_max_proto_version(Some(only))?;
    builder.set_options(SslOptions::NO_QUERY_MTU | SslOptions::NO_RENEGOTIATION | SslOptions::NO_COMPRESSION);
    builder.set_mode(SslMode::RELEASE_BUFFERS);
    if over == Over::Tcp {
        // What could not be written is written later, from where it then is.
        builder.set_mode(SslMode::ACCEPT_MOVING_WRITE_BUFFER | SslMode::ENABLE_PARTIAL_WRITE);
        // CoAP's messages say where they end.
        builder.set_options(SslOptions::from_bits_retain(IGNORE_UNEXPECTED_EOF.into()));
    }
    builder.set_groups_list(GROUPS)?;
    builder.set_sigalgs_list(SIGNATURES)?;
    Ok(builder)
}

fn show(builder: &mut SslContextBuilder, identity: &TlsIdentity) -> Result<(), ErrorStack> {
    for (index, der) in identity.chain.iter().enumerate() {
        let certificate = X509::from_der(der)?;
        match index {
            0 => builder.set_certificate(&certificate)?,
            _ => builder.add_extra_chain_cert(certificate)?,
        }
    }
    let key = PKey::private_key_from_der(&identity.key)?;
    builder.set_private_key(&key)
}

/// The application protocols of the user's, or else those that RFC 8323 section 8.2 wants over TLS.
fn protocols(given: Option<&[Vec<u8>]>, over: Over) -> Vec<Vec<u8>> {
    match (given, over) {
        (Some(given), _) => given.to_vec(),
        (None, Over::Datagrams) => Vec::new(),
        (None, Over::Tcp) => vec![ALPN.to_vec()],
    }
}

/// A list of protocols as it stands in a hello (RFC 7301 section 3.1). None is longer than 255 bytes.
fn as_sent(protocols: &[Vec<u8>]) -> Vec<u8> {
    protocols.iter().flat_map(|name| std::iter::once(name.len() as u8).chain(name.iter().copied())).collect()
}

/// The first of our protocols that a client offers, as it stands in its list.
fn agreed<'c>(ours: &[Vec<u8>], theirs: &'c [u8]) -> Option<&'c [u8]> {
    let offers = |mut list: &'c [u8]| {
        std::iter::from_fn(move || {
            let (length, rest) = list.split_first()?;
            let (name, rest) = rest.split_at_checked(usize::from(*length))?;
            list = rest;
            Some(name)
        })
    };
    ours.iter().find_map(|name| offers(theirs).find(|offer| offer == name))
}

fn log_keys(builder: &mut SslContextBuilder, key_log: Option<Arc<KeyLog>>) {
    if let Some(key_log) = key_log {
        builder.set_keylog_callback(move |_, line| key_log.line(line));
    }
}

fn peer_of(asking: &Mutex<Option<SocketAddr>>) -> Option<SocketAddr> {
    *asking.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Cookies that nothing is remembered for (RFC 6347 section 4.2.1): a keyed digest of the peer's address and of the time.
struct Cookies {
    key: hmac::Key,
    since: Instant,
}

impl Cookies {
    fn new() -> Result<Cookies> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| Error::new(ErrorKind::CONNECT, "the system has no random numbers"))?;
        Ok(Cookies { key, since: Instant::now() })
    }

    /// The cookie for this peer in the current period, or `ago` periods before it.
    fn cookie(&self, peer: SocketAddr, ago: u64) -> hmac::Tag {
        hmac::sign(&self.key, self.covered(peer, ago).as_bytes())
    }

    fn is_good(&self, peer: SocketAddr, cookie: &[u8]) -> bool {
        let good = |ago| hmac::verify(&self.key, self.covered(peer, ago).as_bytes(), cookie).is_ok();
        good(0) || good(1)
    }

    fn covered(&self, peer: SocketAddr, ago: u64) -> String {
        let period = self.since.elapsed().as_secs() / COOKIE_PERIOD.as_secs();
        format!("{peer} {}", (period + 1).saturating_sub(ago))
    }
}

fn unusable(error: &ErrorStack, over: Over) -> Error {
    failed(&Failure::setup(error), over)
}

fn failed(failure: &Failure, over: Over) -> Error {
    Error::new(ErrorKind::CONNECT, format!("{} cannot be set up: {failure}", over.protocol()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_good_for_its_peer_alone() {
        let cookies = Cookies::new().unwrap();
        let [one, other] = ["127.0.0.1:1", "127.0.0.1:2"].map(|text| text.parse::<SocketAddr>().unwrap());
        let cookie = cookies.cookie(one, 0);
        assert!(cookies.is_good(one, cookie.as_ref()) && !cookies.is_good(other, cookie.as_ref()));
        assert!(!cookies.is_good(one, &cookie.as_ref()[1..]) && !cookies.is_good(one, b""));
        assert!(cookies.is_good(one, cookies.cookie(one, 1).as_ref()));
        assert!(!Cookies::new().unwrap().is_good(one, cookie.as_ref()));
    }

    #[test]
    fn the_first_of_ours_is_agreed_on() {
        let ours = [b"a".to_vec(), b"bc".to_vec()];
        assert_eq!(agreed(&ours, &as_sent(&[b"bc".to_vec(), b"a".to_vec()])), Some(&b"a"[..]));
        assert_eq!(agreed(&ours, b"\x02bc"), Some(&b"bc"[..]));
        assert_eq!(agreed(&ours, b"\x01b\x05bc"), None);
    }

    #[test]
    fn a_server_needs_something_to_prove_itself_with() {
        let error = ServerSettings::new(&ServePskOptions::default(), None, Over::Datagrams).unwrap_err();
        assert!(error.to_string().contains("pre-shared keys or a certificate"), "{error}");
    }
}
