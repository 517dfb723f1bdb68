//! The dialer: from options to a connected stream.
//!
//! The files are read and checked once, when it is made, so that a reconnect an hour later does not depend on them and a
//! wrong option fails at once. One time-out covers the whole way, and its error says which step was slow.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ProtocolVersion;

use super::environment::Proxies;
use super::error::{NetError, NetErrorKind};
use super::material::warnings;
use super::options::{NetOptions, ProxyOptions, TlsOptions};
use super::stream::Stream;
use super::tls::ClientTls;
use super::upgrade::{Opened, Upgraded, handshake};
use super::ws::{WsRequest, WsStream};
use super::{explain, tcp};
use crate::sdk;

/// Makes connections with the options it was built from. Cheap to clone; clones share TLS sessions for resumption.
#[derive(Clone, Debug)]
pub struct Dialer {
    tls: Arc<ClientTls>,
    proxies: Arc<Proxies>,
    timeout: Duration,
}

impl Dialer {
    /// Reads and checks the files that the options name.
    ///
    /// `timeout` bounds each call that connects, from name lookup to the last handshake.
    ///
    /// # Errors
    /// [`NetErrorKind::Config`], naming the option and the path: a file is missing or holds something else, key and
    /// certificate don't match, the pass phrase is wrong, the proxy URL is malformed.
    pub fn new(tls: &TlsOptions, proxy: &ProxyOptions, timeout: Duration) -> Result<Self, NetError> {
        let tls = Arc::new(ClientTls::new(tls)?);
        let proxies = Arc::new(Proxies::new(proxy.proxy.as_deref(), |name| std::env::var(name).ok())?);
        if timeout.is_zero() {
            return Err(NetError::config("--connect-timeout: must be more than 0"));
        }
        Ok(Self { tls, proxies, timeout })
    }

    /// [`Dialer::new`] from the whole schema fragment.
    ///
    /// # Errors
    /// As [`Dialer::new`].
    pub fn from_options(options: &NetOptions) -> Result<Self, NetError> {
        Self::new(&options.tls, &options.proxy, options.timeout.connect_timeout.duration())
    }

    /// What the user should be told each time a connection with these options is made. Only TLS connections are
    /// concerned, so a plugin that dials plain TCP leaves it out.
    pub fn warnings(&self) -> Vec<&'static str> {
        warnings(&self.tls, true)
    }

    /// A TCP connection, through the proxy if there is one: that of the options, or of `ALL_PROXY` in the environment.
    ///
    /// `host` is a name or an address; an IPv6 address may stand in brackets.
    ///
    /// # Errors
    /// [`NetErrorKind::Name`], `Connect`, `Proxy`, `Auth` (proxy) or `Timeout`.
    pub async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, NetError> {
        self.connect(host, port, false).await
    }

    /// A TCP connection on which TLS is to be started later: likewise, but `HTTPS_PROXY` in the environment comes first.
    ///
    /// # Errors
    /// As [`Dialer::tcp`].
    pub async fn tcp_for_tls(&self, host: &str, port: u16) -> Result<TcpStream, NetError> {
        self.connect(host, port, true).await
    }

    async fn connect(&self, host: &str, port: u16, tls: bool) -> Result<TcpStream, NetError> {
        let peer = Peer::new(host, port);
        let progress = Progress::new(tls);
        self.within(peer, &progress, self.dial(peer, &progress)).await
    }

    /// A TLS connection. `alpn` lists the protocols to offer, best first; empty offers none.
    ///
    /// # Errors
    /// Those of [`Dialer::tcp`], and [`NetErrorKind::Tls`].
    pub async fn tls(&self, host: &str, port: u16, alpn: &[&[u8]]) -> Result<TlsStream<TcpStream>, NetError> {
        let peer = Peer::new(host, port);
        let progress = Progress::new(true);
        self.within(peer, &progress, async {
            let tcp = self.dial(peer, &progress).await?;
            self.secure(tcp, peer, alpn, &progress).await
        })
        .await
    }

    /// Starts TLS on a connection that began without (as NATS does after its INFO line). `host` and `port` are those the
    /// connection was made to.
    ///
    /// # Errors
    /// [`NetErrorKind::Tls`] or `Timeout`.
    pub async fn start_tls(
        &self,
        tcp: TcpStream,
        host: &str,
        port: u16,
        alpn: &[&[u8]],
    ) -> Result<TlsStream<TcpStream>, NetError> {
        let peer = Peer::new(host, port);
        let progress = Progress::new(true);
        self.within(peer, &progress, self.secure(tcp, peer, alpn, &progress)).await
    }

    /// A WebSocket connection as a stream of bytes ([`Stream::Ws`] or [`Stream::WsTls`]).
    ///
    /// # Errors
    /// Those of [`Dialer::tls`]; [`NetErrorKind::Handshake`] with the HTTP status and what the server wrote;
    /// [`NetErrorKind::Auth`] for 401, 403 and 407; [`NetErrorKind::Config`] for a path or header that can't be sent.
    pub async fn ws(&self, request: &WsRequest<'_>) -> Result<Stream, NetError> {
        let max = request.max_message;
        match self.upgrade(request, None).await? {
            Transport::Tcp(opened) => Ok(WsStream::opened(opened, max).await.into()),
            Transport::Tls(opened) => Ok(WsStream::opened(*opened, max).await.into()),
        }
    }

    /// The WebSocket handshake alone, for a plugin that deals with frames itself. `extensions` is what
    /// `Sec-WebSocket-Extensions` offers; without it a server that answers with one is refused (RFC 6455 section 4.1), with
    /// it the caller has to look at the answer.
    ///
    /// # Errors
    /// As [`Dialer::ws`].
    pub async fn ws_upgrade(
        &self,
        request: &WsRequest<'_>,
        extensions: Option<&str>,
    ) -> Result<Upgraded, NetError> {
        Ok(match self.upgrade(request, extensions).await? {
            Transport::Tcp(opened) => opened.map(Stream::from),
            Transport::Tls(opened) => (*opened).map(Stream::from),
        })
    }

    async fn upgrade(
        &self,
        request: &WsRequest<'_>,
        extensions: Option<&str>,
    ) -> Result<Transport, NetError> {
        let peer = Peer::new(request.host, request.port);
        let progress = Progress::new(request.tls);
        // A header that can't be sent is found out before anybody is bothered.
        let http = request.to_http(extensions)?;
        self.within(peer, &progress, async {
            let tcp = self.dial(peer, &progress).await?;
            if request.tls {
                let tls = self.secure(tcp, peer, &[], &progress).await?;
                progress.at(Step::WebSocket);
                let told = sdk::Step::begin("websocket");
                let opened = handshake(tls, http, request).await.map_err(|error| self.tls.remark(error))?;
                told.done(opened.subprotocol.as_deref().unwrap_or_default());
                Ok(Transport::Tls(Box::new(opened)))
            } else {
                progress.at(Step::WebSocket);
                let told = sdk::Step::begin("websocket");
                let opened = handshake(tcp, http, request).await?;
                told.done(opened.subprotocol.as_deref().unwrap_or_default());
                Ok(Transport::Tcp(opened))
            }
        })
        .await
    }

    async fn dial(&self, peer: Peer<'_>, progress: &Progress) -> Result<TcpStream, NetError> {
        match self.proxies.choose(peer, progress.tls)? {
            Some(proxy) => {
                progress.at(Step::Proxy);
                proxy.connect(peer).await
            }
            None => tcp::connect(peer, progress).await,
        }
    }

    async fn secure(
        &self,
        tcp: TcpStream,
        peer: Peer<'_>,
        alpn: &[&[u8]],
        progress: &Progress,
    ) -> Result<TlsStream<TcpStream>, NetError> {
        progress.at(Step::Tls);
        let name = self.tls.server_name(peer.host)?;
        let config = self.tls.config(alpn)?;
        let told = sdk::Step::begin("tls");
        let stream = TlsConnector::from(config)
            .connect(name, tcp)
            .await
            .map_err(|e| explain::tls_failed(peer, e, self.tls.has_identity()))?;
        told.done(version_of(&stream));
        Ok(stream)
    }

    async fn within<T>(
        &self,
        peer: Peer<'_>,
        progress: &Progress,
        work: impl Future<Output = Result<T, NetError>>,
    ) -> Result<T, NetError> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.too_slow(peer, progress)),
        }
    }

    fn too_slow(&self, peer: Peer<'_>, progress: &Progress) -> NetError {
        let time = crate::sdk::Span::from(self.timeout);
        let port = peer.port;
        let (what, hint) = match progress.step() {
            Step::Name => (
                format!("looking up the host {:?} took more than {time}", peer.host),
                "check that the DNS server can be reached, or raise --connect-timeout".to_owned(),
            ),
            Step::Connect => (
                format!("{peer} did not answer within {time}"),
                "check the host and the port; a firewall may want --proxy; --connect-timeout sets the limit"
                    .into(),
            ),
            Step::Proxy => {
                // It was chosen before, so that there is one.
                let proxy = self.proxies.choose(peer, progress.tls).ok().flatten();
                let (through, check) = proxy.map_or_else(Default::default, |proxy| {
                    (format!(" through the proxy {proxy}"), format!("{}, or ", proxy.check()))
                });
                (
                    format!("no connection to {peer}{through} within {time}"),
                    format!("{check}raise --connect-timeout"),
                )
            }
            Step::Tls => (
                format!("{peer} did not finish the TLS handshake within {time}"),
                format!(
                    "a server that does not speak TLS on port {port} may stay silent: check the scheme and the port"
                ),
            ),
            Step::WebSocket => (
                format!("{peer} did not answer the WebSocket handshake within {time}"),
                format!("check that port {port} is a WebSocket port, and whether it wants TLS"),
            ),
        };
        NetError::new(NetErrorKind::Timeout, what).hint(hint)
    }
}

/// The version of TLS that both sides settled on, as people write it.
fn version_of(stream: &TlsStream<TcpStream>) -> &'static str {
    match stream.get_ref().1.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "",
    }
}

/// An opened WebSocket over either transport.
enum Transport {
    Tcp(Opened<TcpStream>),
    Tls(Box<Opened<TlsStream<TcpStream>>>),
}

/// Where a connection goes: host without brackets, and port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
}

impl<'a> Peer<'a> {
    pub(super) fn new(host: &'a str, port: u16) -> Self {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        Self { host: bare.unwrap_or(host), port }
    }
}

impl fmt::Display for Peer<'_> {
    /// As in a URL: an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// The step a connection is at, for the error when time runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Name,
    Connect,
    Proxy,
    Tls,
    WebSocket,
}

/// Where the work has got to, seen from outside the future that does it. Atomic only so that futures stay `Send`.
#[derive(Debug, Default)]
pub(super) struct Progress {
    step: AtomicU8,
    /// Whether it is to have TLS.
    tls: bool,
}

impl Progress {
    fn new(tls: bool) -> Self {
        Self { step: AtomicU8::default(), tls }
    }

    pub(super) fn at(&self, step: Step) {
        self.step.store(step as u8, Ordering::Relaxed);
    }

    fn step(&self) -> Step {
        const STEPS: [Step; 5] = [Step::Name, Step::Connect, Step::Proxy, Step::Tls, Step::WebSocket];
        STEPS[usize::from(self.step.load(Ordering::Relaxed)).min(STEPS.len() - 1)]
    }
}
