//! From settings to an open connection: transport, login, AMQP open, two sessions, and the node that takes tokens.
//!
//! Tokens and questions have a session of their own, so that they go on whatever becomes of the links that carry events.

use std::io;
use std::time::Duration;

use fe2o3_amqp::connection::{ConnectionHandle, OpenError};
use fe2o3_amqp::session::{BeginError, SessionHandle};
use fe2o3_amqp::transport::Error as TransportError;
use fe2o3_amqp::{Connection as Amqp, Session};
use fe2o3_amqp_types::definitions::Fields;
use serde_amqp::Value;
use tokio::io::BufReader;
use tokio::time::timeout;
use tracemq_plugin_api::net::{Dialer, NetError, Stream, WsRequest, explain_io};
use tracemq_plugin_api::prelude::*;

use super::guard::Guard;
use super::node::Node;
use super::payloads::Payloads;
use super::sasl::log_in;
use super::token::Tokens;
use super::{GOODBYE, QUEUED_FRAMES, unique};
use crate::address::{CBS, MANAGEMENT};
use crate::config::{Login, Settings, Transport};
use crate::endpoint::Dialect;
use crate::error::{Condition, one_line};

/// The largest frame that we take.
const FRAME: u32 = 256 * 1024;
const WEB_PATH: &str = "/$servicebus/websocket";
const WEB_PROTOCOL: &str = "AMQPWSB10";
/// Of a WebSocket message. Frames of AMQP may be joined in one.
const WEB_MESSAGE: usize = 16 << 20;

/// Everything that a reconnect needs, read and checked once.
pub(super) struct Dial {
    pub(super) settings: Settings,
    dialer: Dialer,
}

/// An open connection.
pub(super) struct Opened {
    pub(super) connection: ConnectionHandle<()>,
    /// For the links that carry events.
    pub(super) data: SessionHandle<()>,
    pub(super) payloads: Payloads,
    control: SessionHandle<()>,
    tokens: Option<Tokens>,
    management: Option<Node>,
    patience: Duration,
}

impl Dial {
    pub(super) fn new(settings: Settings) -> Result<Dial> {
        let dialer = Dialer::from_options(&settings.net)?;
        Ok(Dial { settings, dialer })
    }

    /// Connects and returns when the server has accepted; for hubs, when it has taken the token for `entity` too.
    pub(super) async fn connect(&self, entity: Option<&str>) -> Result<Opened> {
        let limit = self.settings.net.timeout.connect_timeout;
        let shown = self.settings.shown();
        let opened = match timeout(limit.duration(), self.open()).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::new(
                ErrorKind::TIMEOUT,
                format!("{shown} does not finish the AMQP handshake within {limit}"),
            )
            .hint("is it an AMQP 1.0 server? check port and scheme; --connect-timeout waits longer")
            .temporary()),
        };
        let mut opened = opened?;
        if let Some(entity) = entity
            && let Err(error) = opened.authorize(entity).await
        {
            opened.close().await;
            return Err(error);
        }
        Ok(opened)
    }

    async fn open(&self) -> Result<Opened> {
        let settings = &self.settings;
        let shown = settings.shown();
        let at = |error: Error| {
            let named = Error::new(error.kind(), format!("{shown}: {}", error.message()))
                .hint(error.hint_text())
                .code(error.code_text());
            if error.is_temporary() { named.temporary() } else { named }
        };
        if settings.tls {
            self.dialer.warnings().iter().for_each(|warning| log::warn!("{warning}"));
        }
        let mut stream = BufReader::new(self.dial().await?);
        log_in(&mut stream, &settings.login, &settings.hostname).await.map_err(at)?;
        let ahead = stream.buffer().to_vec();
        let payloads = Payloads::default();
        let stream = Guard::new(stream.into_inner(), &ahead, FRAME as usize, payloads.clone());
        let mut builder = Amqp::builder()
            .container_id(format!("tracemq-{}", unique()))
            .hostname(settings.hostname.as_str())
            .max_frame_size(FRAME)
            .properties(properties());
        if let Some(idle) = settings.idle_timeout {
            builder = builder.idle_time_out(u32::try_from(idle.as_millis()).unwrap_or(u32::MAX));
        }
        let mut connection = builder.open_with_stream(stream).await.map_err(|error| at(refused(error)))?;
        let begin = async |connection: &mut ConnectionHandle<()>| {
            Session::builder()
                .buffer_size(QUEUED_FRAMES)
                .begin(connection)
                .await
                .map_err(|error| at(no_session(&error)))
        };
        let mut control = begin(&mut connection).await?;
        let data = begin(&mut connection).await?;
        let patience = settings.net.timeout.connect_timeout.duration();
        let tokens = match &settings.login {
            Login::Tokens(credential) => {
                let node = Node::attach(&mut control, &payloads, CBS, patience).await.map_err(at)?;
                let authority = settings.authority.clone();
                Some(Tokens::new(node, credential.clone(), settings.token_lifetime, authority))
            }
            _ => None,
        };
        Ok(Opened { connection, data, payloads, control, tokens, management: None, patience })
    }

    async fn dial(&self) -> Result<Stream, NetError> {
        let Settings { host, port, tls, transport, .. } = &self.settings;
        match (transport, tls) {
            (Transport::Tcp, false) => self.dialer.tcp(host, *port).await.map(Stream::from),
            (Transport::Tcp, true) => self.dialer.tls(host, *port, &[]).await.map(Stream::from),
            (Transport::Websocket, tls) => {
                let request = WsRequest {
                    path: WEB_PATH,
                    subprotocol: Some(WEB_PROTOCOL),
                    max_message: WEB_MESSAGE,
                    ..WsRequest::new(host, *port, *tls)
                };
                self.dialer.ws(&request).await
            }
        }
    }

    pub(super) fn is_hubs(&self) -> bool {
        self.settings.dialect == Dialect::Hubs
    }
}

impl Opened {
    /// Sees to it that links to a hub are let in. Queues need nothing more than the login.
    pub(super) async fn authorize(&mut self, hub: &str) -> Result<()> {
        match &mut self.tokens {
            Some(tokens) => tokens.authorize(hub).await,
            None => Ok(()),
        }
    }

    /// Waits until tokens have to be renewed.
    pub(super) async fn due(&self) {
        match &self.tokens {
            Some(tokens) => tokens.due().await,
            None => std::future::pending().await,
        }
    }

    pub(super) async fn renew(&mut self) -> Result<()> {
        match &mut self.tokens {
            Some(tokens) => tokens.renew().await,
            None => Ok(()),
        }
    }

    /// The node that answers questions, and a token to show it.
    pub(super) async fn management(&mut self, hub: &str) -> Result<(&mut Node, String)> {
        let token = match &self.tokens {
            Some(tokens) => tokens.token(hub)?,
            None => return Err(Error::unsupported("a broker of queues tells nothing of them by AMQP")),
        };
        let node = match self.management.take() {
            Some(node) => node,
            None => Node::attach(&mut self.control, &self.payloads, MANAGEMENT, self.patience).await?,
        };
        Ok((self.management.insert(node), token))
    }

    pub(super) fn is_open(&self) -> bool {
        !self.connection.is_closed() && !self.data.is_ended() && !self.control.is_ended()
    }

    /// Whether it may be used after it has stood idle: it is open, and no token has had to be renewed.
    pub(super) fn is_fresh(&self) -> bool {
        self.is_open() && !self.tokens.as_ref().is_some_and(Tokens::is_due)
    }

    /// Says goodbye, but does not wait for ever for an answer. The session ends first: a close of the connection overtakes what
    /// the links have still to say, such as what was accepted.
    pub(super) async fn close(mut self) {
        let goodbye = async {
            // A session that has ended already has nothing left to say.
            let _ = self.data.end().await;
            self.connection.close().await
        };
        match timeout(GOODBYE, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::debug!("the connection was not closed well: {error}"),
            Err(_) => log::debug!("the server does not answer the close"),
        }
    }
}

fn properties() -> Fields {
    let mut fields = Fields::new();
    for (name, text) in [
        ("product", "TraceMQ"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("platform", std::env::consts::OS),
        ("user-agent", concat!("tracemq/", env!("CARGO_PKG_VERSION"))),
    ] {
        fields.insert(name.into(), Value::String(text.to_owned()));
    }
    fields
}

fn refused(error: OpenError) -> Error {
    let io = |error: &io::Error| {
        if let Some(explained) = explain_io(error) {
            return Error::from(explained);
        }
        let text = match error.kind() {
            io::ErrorKind::UnexpectedEof => "the server closed the connection before it was open".to_owned(),
            _ => format!("the connection broke before it was open: {}", one_line(&error.to_string())),
        };
        Error::new(ErrorKind::CONNECT, text).temporary()
    };
    match error {
        OpenError::Io(error) | OpenError::TransportError(TransportError::Io(error)) => io(&error),
        OpenError::RemoteClosedWithError(error) => {
            let error = Condition::from(&error).error("the connection");
            match error.kind() {
                ErrorKind::AUTH => error,
                _ => Error::new(ErrorKind::CONNECT, error.message())
                    .code(error.code_text())
                    .hint(error.hint_text()),
            }
        }
        OpenError::RemoteClosed => {
            Error::new(ErrorKind::CONNECT, "the server closed the connection before it was open").temporary()
        }
        error => Error::new(
            ErrorKind::CONNECT,
            format!("this is not what an AMQP 1.0 server says: {}", one_line(&error.to_string())),
        )
        .hint("check host, port and scheme"),
    }
}

fn no_session(error: &BeginError) -> Error {
    let error = match error {
        BeginError::RemoteEndedWithError(error) => Condition::from(error).error("the session"),
        error => Error::new(ErrorKind::CONNECT, format!("no session: {}", one_line(&error.to_string())))
            .temporary(),
    };
    match error.kind() {
        ErrorKind::AUTH => error,
        _ => Error::new(ErrorKind::CONNECT, error.message()).code(error.code_text()).temporary(),
    }
}
