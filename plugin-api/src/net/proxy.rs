//! Connecting through a SOCKS5 (RFC 1928, 1929) or an HTTP proxy (CONNECT, RFC 9110 section 9.3.6).
//!
//! The proxy looks the server's name up, for `socks5` as for `socks5h`: who needs a proxy often can't look up the names
//! behind it, and a local lookup would tell the local DNS server what is meant to stay in the tunnel.

use std::fmt;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_socks::Error as SocksError;
use tokio_socks::tcp::Socks5Stream;

use super::authority::split_host_port;
use super::dial::{Peer, Progress};
use super::error::{NetError, NetErrorKind, quote};
use super::tcp::{self, reason};
use crate::sdk::Step;

const OPTION: &str = "--proxy";
/// The largest head of an answer to CONNECT.
const LARGEST_HEAD: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Socks5,
    Http,
}

/// A proxy, from its URL.
#[derive(Clone)]
pub(super) struct Proxy {
    /// The option or the variable that named it.
    origin: &'static str,
    kind: Kind,
    host: String,
    port: u16,
    /// User and password, decoded.
    user: Option<(String, String)>,
}

impl fmt::Display for Proxy {
    /// Host and port: the URL may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer().fmt(f)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({:?} {self})", self.kind)
    }
}

impl Proxy {
    /// `origin` is the option or the variable of the environment in which the text stood.
    pub(super) fn parse(text: &str, origin: &'static str) -> Result<Self, NetError> {
        // The text is never quoted: it may hold a password.
        let wrong = |what: &str| {
            let or_past = match origin {
                OPTION => "",
                _ => "; what NO_PROXY lists goes past it",
            };
            NetError::config(format!("{origin}: {what}")).hint(format!(
                "write socks5://HOST:PORT or http://HOST:PORT, with USER:PASSWORD@ before the host if it wants one{or_past}"
            ))
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("not a URL"))?;
        let (kind, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "socks5" | "socks5h" => (Kind::Socks5, 1080),
            "http" => (Kind::Http, 80),
            // What stands there may be anything: a password that holds "://", for one.
            other if other.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) => {
                return Err(wrong(&format!("a proxy of the kind {other:?} is not supported")));
            }
            _ => return Err(wrong("not a URL")),
        };
        let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !matches!(after, "" | "/") {
            return Err(wrong("nothing may follow the port"));
        }
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, authority),
        };
        let (host, port) = split_host_port(address).map_err(|what| wrong(&format!("the URL {what}")))?;
        if host.is_empty() {
            return Err(wrong("there is no host in it"));
        }
        if !host.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(wrong("the host is not ASCII (write an internationalised name as xn--...)"));
        }
        let port = match port {
            None | Some("") => default_port,
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| wrong("the port is not a number from 1 to 65535"))?,
        };
        let decode = |part: &str| {
            percent_decode_str(part)
                .decode_utf8()
                .map(|s| s.into_owned())
                .map_err(|_| wrong("user or password is not UTF-8"))
        };
        let user = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
            None | Some(("", "")) => None,
            Some((user, password)) => Some((decode(user)?, decode(password)?)),
        };
        if let (Kind::Socks5, Some((name, password))) = (kind, &user)
            && !((1..=255).contains(&name.len()) && (1..=255).contains(&password.len()))
        {
            return Err(wrong("SOCKS5 wants user and password of 1 to 255 bytes each"));
        }
        if let (Kind::Http, Some((name, _))) = (kind, &user)
            && name.contains(':')
        {
            return Err(wrong("a user name of HTTP basic authentication cannot hold a colon"));
        }
        Ok(Self { origin, kind, host: host.to_ascii_lowercase(), port, user })
    }

    fn peer(&self) -> Peer<'_> {
        Peer { host: &self.host, port: self.port }
    }

    /// A connection to `target` by way of the proxy. The caller bounds the time.
    pub(super) async fn connect(&self, target: Peer<'_>) -> Result<TcpStream, NetError> {
        // The steps to the proxy are all one to whoever waits for the target.
        let stream = tcp::connect(self.peer(), &Progress::default()).await.map_err(|e| {
            self.error(format!("the proxy cannot be reached: {e}")).hint(self.check()).source(e)
        })?;
        let told = Step::begin("proxy");
        let stream = match self.kind {
            Kind::Socks5 => self.socks5(stream, target).await,
            Kind::Http => self.http(stream, target).await,
        }?;
        told.done(self);
        Ok(stream)
    }

    async fn socks5(&self, stream: TcpStream, target: Peer<'_>) -> Result<TcpStream, NetError> {
        let address = (target.host, target.port);
        let done = match &self.user {
            Some((user, password)) => {
                Socks5Stream::connect_with_password_and_socket(stream, address, user, password).await
            }
            None => Socks5Stream::connect_with_socket(stream, address).await,
        };
        done.map(Socks5Stream::into_inner).map_err(|e| self.socks5_error(target, e))
    }

    fn socks5_error(&self, target: Peer<'_>, error: SocksError) -> NetError {
        use SocksError as E;
        match &error {
            E::PasswordAuthFailure(_) => self.refused_user(),
            E::AuthorizationRequired | E::NoAcceptableAuthMethods | E::UnknownAuthMethod => match self.user {
                Some(_) => self.refused_user(),
                None => self.wants_user(),
            },
            E::Io(e) => self.broken(e),
            E::InvalidResponseVersion | E::InvalidReservedByte | E::UnknownAddressType | E::UnknownError => {
                self.error(format!("the proxy {self} does not speak SOCKS5 ({error})"))
                    .hint(self.check_kind())
                    .permanent()
            }
            E::InvalidTargetAddress(why) => NetError::config(format!(
                "the host {:?} cannot be asked of a SOCKS5 proxy: {why}",
                target.host
            )),
            reply => self
                .error(format!("the proxy {self} could not connect to {target}: {reply}"))
                .hint("check host and port of the target, and whether the proxy may connect to it"),
        }
        .source(error)
    }

    async fn http(&self, mut stream: TcpStream, target: Peer<'_>) -> Result<TcpStream, NetError> {
        if target.host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(NetError::config(format!(
                "the host {:?} cannot be asked of an HTTP proxy",
                target.host
            )));
        }
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some((user, password)) = &self.user {
            let token = STANDARD.encode(format!("{user}:{password}"));
            request.push_str(&format!("Proxy-Authorization: Basic {token}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.map_err(|e| self.broken(&e).source(e))?;
        let head = read_head(&mut stream).await.map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => self.not_http().source(e),
            _ => self.broken(&e).source(e),
        })?;
        match status(&head) {
            Some((200..=299, _)) => Ok(stream),
            // tinyproxy says 401 to a wrong password.
            Some((401 | 407, _)) if self.user.is_none() => Err(self.wants_user()),
            Some((401 | 407, _)) => Err(self.refused_user()),
            Some((code, why)) => Err(self
                .error(format!("the proxy {self} could not connect to {target}: {code} {why}"))
                .hint("check host and port of the target, and whether the proxy may connect to it")),
            None => Err(self.not_http()),
        }
    }

    /// What to do about a proxy that is not there or stays silent.
    pub(super) fn check(&self) -> String {
        match self.origin {
            OPTION => format!("check {OPTION}"),
            variable => {
                format!(
                    "check {variable} in the environment; what NO_PROXY lists goes past it, and {OPTION} comes before it"
                )
            }
        }
    }

    fn check_kind(&self) -> String {
        format!("check the scheme and the port of {}", self.origin)
    }

    fn error(&self, message: String) -> NetError {
        NetError::new(NetErrorKind::Proxy, message)
    }

    fn broken(&self, error: &io::Error) -> NetError {
        self.error(format!("the proxy {self} broke the connection off: {}", reason(error)))
            .hint(self.check_kind())
    }

    fn not_http(&self) -> NetError {
        self.error(format!("the proxy {self} does not speak HTTP")).hint(self.check_kind()).permanent()
    }

    fn refused_user(&self) -> NetError {
        NetError::new(NetErrorKind::Auth, format!("the proxy {self} refused the user or the password"))
            .hint(format!("check USER:PASSWORD@ in {}", self.origin))
    }

    fn wants_user(&self) -> NetError {
        NetError::new(NetErrorKind::Auth, format!("the proxy {self} wants a user and a password"))
            .hint(format!("write {} as SCHEME://USER:PASSWORD@HOST:PORT", self.origin))
    }
}

/// Reads up to the empty line and not a byte further: what follows belongs to the tunnel.
async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head: Vec<u8> = Vec::new();
    let mut seen = [0; 1024];
    loop {
        let n = stream.peek(&mut seen).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let old = head.len();
        head.extend_from_slice(&seen[..n]);
        let from = old.saturating_sub(3);
        let end = head[from..].windows(4).position(|w| w == b"\r\n\r\n").map(|at| from + at + 4);
        let take = end.unwrap_or(head.len()) - old;
        stream.read_exact(&mut seen[..take]).await?;
        match end {
            Some(end) => {
                head.truncate(end);
                return Ok(head);
            }
            None if !b"HTTP/1.".starts_with(&head[..head.len().min(7)]) || head.len() > LARGEST_HEAD => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"));
            }
            None => {}
        }
    }
}

/// Status code and reason of an HTTP/1 answer.
fn status(head: &[u8]) -> Option<(u16, String)> {
    let line = head.split(|b| *b == b'\r').next()?;
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let code = rest.get(..3)?;
    let code = std::str::from_utf8(code).ok()?.parse().ok()?;
    Some((code, quote(rest.get(4..).unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_give_host_port_and_decoded_user() {
        let proxy = Proxy::parse("socks5h://us%40er:p%3Aw@[::1]:9050", OPTION).unwrap();
        assert_eq!((proxy.kind, proxy.host.as_str(), proxy.port), (Kind::Socks5, "::1", 9050));
        assert_eq!(proxy.user, Some(("us@er".into(), "p:w".into())));
        assert_eq!(format!("{proxy} {proxy:?}"), "[::1]:9050 Proxy(Socks5 [::1]:9050)");
        let proxy = Proxy::parse("http://Proxy.Example/", OPTION).unwrap();
        assert_eq!((proxy.kind, proxy.host.as_str(), proxy.port), (Kind::Http, "proxy.example", 80));
        assert_eq!(Proxy::parse("socks5://h", OPTION).unwrap().port, 1080);
    }

    #[test]
    fn wrong_urls_are_refused_without_being_quoted() {
        for text in [
            "",
            "localhost:1080",
            "ftp://user:secret@host:1",
            "https://user:secret@host:1",
            "socks5://",
            "socks5://user:secret@:1",
            "socks5://:secret@host:1",
            "socks5://secret@host:1",
            "http://user:secret@host:99999",
            "http://user:secret@host:1/path",
            "http://host:1?secret",
            "http://a%3Ab:secret@host:1",
            "http://%ff:secret@host:1",
            "http://user:secret@h\u{f6}st:1",
            "http://user:secret@h ost:1",
            "http://user:secret@[::1",
            "http://user:secret@::1",
            "http://user:secret@host:0",
            "user:secret@://host:1",
        ] {
            let error = Proxy::parse(text, OPTION).unwrap_err();
            assert_eq!(error.kind, NetErrorKind::Config, "{text}");
            assert!(error.message.starts_with("--proxy: "), "{text}: {error}");
            assert!(!format!("{error:?}").contains("secret"), "{text}: {error:?}");
        }
    }

    #[test]
    fn status_lines_are_read_strictly() {
        assert_eq!(
            status(b"HTTP/1.1 200 Connection established\r\n\r\n"),
            Some((200, "Connection established".into()))
        );
        assert_eq!(status(b"HTTP/1.0 407\r\n\r\n"), Some((407, String::new())));
        for head in [&b"HTTP/2 200 OK\r\n"[..], b"SSH-2.0-x\r\n", b"HTTP/1.1 2\r\n", b"HTTP/1.1 abc\r\n", b""]
        {
            assert_eq!(status(head), None);
        }
    }
}
