//! From a server's address to an accepted connection: transport, INFO, TLS where it is wanted, CONNECT, PING, PONG.
//!
//! The time from CONNECT to PONG is the first round trip that is known.

use std::io;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tracemq_plugin_api::net::{Buffered, Dialer, NetError, Stream, WsRequest, explain_io};
use tracemq_plugin_api::prelude::*;

use crate::config::Settings;
use crate::endpoint::{Server, Transport};
use crate::session::Refusal;
use crate::wire::{Connect, Encoder, Limits, Op, Scan, ServerInfo, WireError, scan};

/// How much one read asks for.
const BLOCK: usize = 128 * 1024;
/// The largest WebSocket message accepted, in bytes: nats-server puts many messages into one.
const WEB_MESSAGE: usize = 65 << 20;

/// Everything that a reconnect needs, read and checked once.
pub(super) struct Dial {
    pub(super) settings: Settings,
    dialer: Dialer,
}

/// A connection that the server has accepted.
pub(super) struct Opened {
    pub(super) link: Buffered,
    pub(super) server: Server,
    pub(super) info: ServerInfo,
    pub(super) rtt: Duration,
    pub(super) tls: bool,
}

impl Dial {
    pub(super) fn new(settings: Settings) -> Result<Dial> {
        let dialer = Dialer::from_options(&settings.net)?;
        Ok(Dial { settings, dialer })
    }

    /// Connects and returns when the server has accepted. Errors that may pass are marked as temporary.
    pub(super) async fn connect(&self, server: &Server) -> Result<Opened> {
        let limit = self.settings.net.timeout.connect_timeout;
        let steps = Steps { dial: self, server };
        match tokio::time::timeout(limit.duration(), steps.all()).await {
            Ok(result) => result,
            Err(_) => Err(steps
                .error(ErrorKind::TIMEOUT, format!("does not finish the login within {limit}"))
                .hint("is it a NATS server? one that begins with TLS wants --tls-first; --connect-timeout waits longer")
                .temporary()),
        }
    }
}

struct Steps<'a> {
    dial: &'a Dial,
    server: &'a Server,
}

impl Steps<'_> {
    async fn all(&self) -> Result<Opened> {
        let Server { transport, host, port, .. } = self.server;
        let settings = &self.dial.settings;
        let mut tls = settings.tls_first || *transport == Transport::WsTls;
        if tls {
            self.warn();
        }
        let stream = self.dial().await?;
        let mut link = Buffered::new(stream, BytesMut::new(), BLOCK);
        let info = self.info(&mut link).await?;
        if !tls && *transport != Transport::Ws && (info.tls_required || settings.tls_for(self.server)) {
            if !info.tls_required && !info.tls_available {
                return Err(self
                    .error(ErrorKind::CONNECT, "does not offer TLS")
                    .hint("use nats:// and no --tls-… options, or ask for TLS on the server"));
            }
            self.warn();
            let (stream, rest) = link.into_parts();
            // What came before the handshake could be anybody's.
            let (Stream::Tcp(tcp), true) = (stream, rest.is_empty()) else {
                return Err(self.broken("it went on in clear after it had asked for TLS"));
            };
            let name = self.server.tls_name.as_deref().unwrap_or(host);
            link = Buffered::new(
                self.dial.dialer.start_tls(tcp, name, *port, &[]).await?.into(),
                BytesMut::new(),
                BLOCK,
            );
            tls = true;
        }
        let begun = Instant::now();
        let info = self.login(&mut link, info, tls).await?;
        Ok(Opened { link, server: self.server.clone(), info, rtt: begun.elapsed(), tls })
    }

    fn warn(&self) {
        for warning in self.dial.dialer.warnings() {
            log::warn!("{warning}");
        }
    }

    async fn dial(&self) -> Result<Stream, NetError> {
        let Server { transport, host, port, path, tls_name } = self.server;
        let dialer = &self.dial.dialer;
        let request = |tls| WsRequest {
            path,
            headers: &self.dial.settings.ws_headers,
            max_message: WEB_MESSAGE,
            ..WsRequest::new(host, *port, tls)
        };
        match transport {
            Transport::Tcp | Transport::Tls if self.dial.settings.tls_first => {
                let tcp = dialer.tcp_for_tls(host, *port).await?;
                dialer.start_tls(tcp, tls_name.as_deref().unwrap_or(host), *port, &[]).await.map(Stream::from)
            }
            Transport::Tcp | Transport::Tls if self.dial.settings.tls_for(self.server) => {
                dialer.tcp_for_tls(host, *port).await.map(Stream::from)
            }
            Transport::Tcp | Transport::Tls => dialer.tcp(host, *port).await.map(Stream::from),
            Transport::Ws => dialer.ws(&request(false)).await,
            Transport::WsTls => dialer.ws(&request(true)).await,
        }
    }

    async fn info(&self, link: &mut Buffered) -> Result<ServerInfo> {
        match self.next(link).await? {
            (Op::Info(at), bytes) => {
                ServerInfo::read(&bytes[at]).map_err(|error| self.broken(&error.to_string()))
            }
            (Op::Err(at), bytes) => Err(self.refused(&bytes[at])),
            _ => Err(self.broken("it did not begin with INFO")),
        }
    }

    /// Says who we are, and waits for the answer to a ping. Another INFO may come first.
    async fn login(&self, link: &mut Buffered, mut info: ServerInfo, tls: bool) -> Result<ServerInfo> {
        let settings = &self.dial.settings;
        let mut connect = Connect {
            verbose: false,
            pedantic: false,
            tls_required: tls,
            name: Some(settings.name.clone()),
            lang: "rust",
            version: env!("CARGO_PKG_VERSION"),
            protocol: 1,
            echo: settings.echo,
            headers: info.headers,
            no_responders: info.headers,
            ..Connect::default()
        };
        settings.auth.fill(&mut connect, info.nonce.as_deref())?;
        let mut out = Encoder(&mut link.output);
        out.connect(&connect);
        out.ping();
        self.io(link.flush().await)?;
        loop {
            match self.next(link).await? {
                (Op::Pong, _) => return Ok(info),
                (Op::Info(at), bytes) => {
                    info = ServerInfo::read(&bytes[at]).map_err(|error| self.broken(&error.to_string()))?;
                }
                (Op::Err(at), bytes) => return Err(self.refused(&bytes[at])),
                (Op::Ping, _) => {
                    Encoder(&mut link.output).pong();
                    self.io(link.flush().await)?;
                }
                (Op::Ok, _) => {}
                (Op::Message(_), _) => return Err(self.broken("a message before the login was answered")),
            }
        }
    }

    async fn next(&self, link: &mut Buffered) -> Result<(Op, BytesMut)> {
        // Nothing but INFO has reason to be long here.
        let limits = Limits { message: 0, ..Limits::default() };
        loop {
            match scan(&link.input, &limits).map_err(|error: WireError| self.broken(&error.to_string()))? {
                Scan::Op(op, end) => {
                    let bytes = BytesMut::from(&link.input[..end]);
                    link.input.advance(end);
                    return Ok((op, bytes));
                }
                Scan::More(size) => link.expect(size),
            }
            self.io(link.read().await)?;
        }
    }

    fn error(&self, kind: ErrorKind, text: impl AsRef<str>) -> Error {
        Error::new(kind, format!("{}: {}", self.server.shown(), text.as_ref()))
    }

    fn refused(&self, text: &[u8]) -> Error {
        let refusal = Refusal::read(text);
        let error = |kind| self.error(kind, format!("the server refused the login: {refusal}"));
        match refusal {
            Refusal::Login(_) => error(ErrorKind::AUTH).hint(self.dial.settings.auth.hint()),
            Refusal::NeedsTls(_) => error(ErrorKind::CONNECT).hint("use tls://"),
            _ => error(ErrorKind::CONNECT).temporary(),
        }
    }

    fn broken(&self, what: &str) -> Error {
        self.error(ErrorKind::CONNECT, format!("this is not what a NATS server says: {what}"))
            .hint("check the port, and the scheme: nats, tls, nats+ws or nats+wss; --tls-first where the server begins with TLS")
            .temporary()
    }

    fn io<T>(&self, result: io::Result<T>) -> Result<T> {
        result.map_err(|error| {
            if let Some(explained) = explain_io(&error) {
                return Error::from(explained);
            }
            let text = match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    "closed the connection before it had accepted the login".to_owned()
                }
                _ => format!("the connection broke before the login was accepted: {error}"),
            };
            let error = self.error(ErrorKind::CONNECT, text).temporary();
            match self.dial.settings.tls_first {
                true => error.hint("is it a NATS server, and one that begins with TLS?"),
                false => error.hint("is it a NATS server? one that begins with TLS wants --tls-first"),
            }
        })
    }
}

/// An open connection broke. TLS may know why.
pub(super) fn lost(server: &Server, error: &io::Error) -> Error {
    if let Some(explained) = explain_io(error) {
        return Error::from(explained);
    }
    let shown = server.shown();
    let text = match error.kind() {
        io::ErrorKind::UnexpectedEof => format!("{shown} closed the connection"),
        _ => format!("the connection to {shown} broke: {error}"),
    };
    Error::new(ErrorKind::CLOSED, text).temporary()
}
