//! From an endpoint to an accepted connection: transport, CONNECT, the exchange of an enhanced authentication, CONNACK.
//!
//! One time-out covers all of it: a server that takes the connection and then stays silent is told apart from one that is
//! not there, but waits no longer.

use std::io;
use std::time::Duration;

use tracemq_plugin_api::net::{Dialer, NetError, Stream, WsRequest, explain_io};
use tracemq_plugin_api::prelude::*;

use super::link::Link;
use crate::auth::{AuthMethod, Scram};
use crate::endpoint::{Endpoint, Transport};
use crate::session::{Accepted, ConnectError, Session};
use crate::wire::control::{ConnAck, Control};
use crate::wire::{Reason, Version, WireError};

/// Everything that a reconnect needs, read and checked once.
pub(super) struct Dial {
    pub(super) endpoint: Endpoint,
    pub(super) dialer: Dialer,
    pub(super) headers: Vec<(String, String)>,
    pub(super) timeout: Duration,
}

/// Why there is no connection.
pub(super) struct Refused {
    pub(super) error: Error,
    /// Trying again later may help.
    pub(super) temporary: bool,
    /// The server does not speak the version.
    pub(super) version: bool,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused { temporary: error.is_temporary(), version: false, error }
    }
}

impl Dial {
    /// Connects and returns when the server has accepted.
    pub(super) async fn connect(
        &self,
        session: &mut Session,
        auth: Option<&mut Scram>,
    ) -> Result<(Link, Accepted), Refused> {
        let late = || {
            Error::new(
                ErrorKind::TIMEOUT,
                format!("{} does not answer CONNECT within {:?}", self.endpoint.shown(), self.timeout),
            )
            .hint("is it an MQTT server? --connect-timeout waits longer")
            .temporary()
        };
        let stream = self.dial(session.version()).await.map_err(|error| Refused::from(Error::from(error)))?;
        let mut link = Link::new(stream, session.maximum_packet_size());
        let accepted = tokio::time::timeout(self.timeout, self.handshake(&mut link, session, auth));
        let accepted = accepted.await.map_err(|_| Refused::from(late()))??;
        Ok((link, accepted))
    }

    async fn dial(&self, version: Version) -> Result<Stream, NetError> {
        let Endpoint { transport, host, port, path } = &self.endpoint;
        // What the specification registers for WebSocket (5.0, section 6); 3.1 clients used the name of their time.
        let subprotocol = if version == Version::V31 { "mqttv3.1" } else { "mqtt" };
        let request = |tls| WsRequest {
            path,
            headers: &self.headers,
            subprotocol: Some(subprotocol),
            ..WsRequest::new(host, *port, tls)
        };
        if matches!(transport, Transport::Tls | Transport::WsTls) {
            for warning in self.dialer.warnings() {
                log::warn!("{warning}");
            }
        }
        match transport {
            Transport::Tcp => self.dialer.tcp(host, *port).await.map(Stream::from),
            Transport::Tls => self.dialer.tls(host, *port, &[b"mqtt"]).await.map(Stream::from),
            Transport::Ws => self.dialer.ws(&request(false)).await,
            Transport::WsTls => self.dialer.ws(&request(true)).await,
        }
    }

    async fn handshake(
        &self,
        link: &mut Link,
        session: &mut Session,
        mut auth: Option<&mut Scram>,
    ) -> Result<Accepted, Refused> {
        let failed =
            |error: crate::auth::AuthError| Refused::from(Error::new(ErrorKind::AUTH, error.to_string()));
        let first = match auth.as_deref_mut() {
            Some(auth) => Some((auth.name().to_owned(), auth.start().map_err(failed)?.into())),
            None => None,
        };
        let connect = session.connect_packet(first).map_err(|error| Error::config(error.to_string()))?;
        link.output.extend_from_slice(&connect);
        self.io(link.flush().await)?;
        loop {
            let version = session.version();
            let control = self.io(link.next(|frame| Control::read(frame, version)).await)?;
            match control.and_then(|control| control).map_err(|error| self.broken(&error))? {
                Control::ConnAck(ack) => return self.accept(*ack, session, auth),
                Control::Auth(step) if step.reason == Reason::CONTINUE_AUTHENTICATION => {
                    let Some(auth) = auth.as_deref_mut() else {
                        return Err(self.broken(&WireError::protocol("AUTH, though no method was asked for")));
                    };
                    let answer = auth.step(&step.data).map_err(failed)?;
                    session
                        .auth(Reason::CONTINUE_AUTHENTICATION, auth.name(), &answer, &mut link.output)
                        .map_err(|error| Error::config(error.to_string()))?;
                    self.io(link.flush().await)?;
                }
                Control::Disconnect(disconnect) => {
                    let text = crate::session::SessionError::Disconnected(disconnect).to_string();
                    return Err(self.error(ErrorKind::CONNECT, text).temporary().into());
                }
                _ => return Err(self.broken(&WireError::protocol("a packet before CONNACK"))),
            }
        }
    }

    fn accept(
        &self,
        ack: ConnAck,
        session: &mut Session,
        auth: Option<&mut Scram>,
    ) -> Result<Accepted, Refused> {
        match session.on_connack(ack) {
            Ok(accepted) => {
                if let Some(auth) = auth {
                    let data = accepted.authentication_data.as_deref().unwrap_or_default();
                    auth.finish(data).map_err(|error| Error::new(ErrorKind::AUTH, error.to_string()))?;
                }
                Ok(accepted)
            }
            Err(ConnectError::Wire(error)) => Err(self.broken(&error)),
            Err(ConnectError::Refused(refused)) => {
                let kind = if refused.is_credentials() { ErrorKind::AUTH } else { ErrorKind::CONNECT };
                let mut error = self.error(kind, refused.to_string());
                if refused.is_credentials() {
                    error = error
                        .hint("check --username and --password, and what the server allows this client id");
                } else if refused.is_version() {
                    error = error.hint("choose another --protocol-version, or give --protocol-fallback");
                }
                Err(Refused { error, temporary: refused.is_temporary(), version: refused.is_version() })
            }
        }
    }

    fn error(&self, kind: ErrorKind, text: impl AsRef<str>) -> Error {
        Error::new(kind, format!("{}: {}", self.endpoint.shown(), text.as_ref()))
    }

    fn broken(&self, error: &WireError) -> Refused {
        self.error(ErrorKind::CONNECT, error.to_string())
            .hint("is it an MQTT server, and is the scheme right (mqtt, mqtts, mqtt+ws, mqtt+wss)?")
            .temporary()
            .into()
    }

    fn io<T>(&self, result: io::Result<T>) -> Result<T, Refused> {
        result.map_err(|error| {
            if let Some(explained) = explain_io(&error) {
                return Error::from(explained).into();
            }
            let text = match error.kind() {
                io::ErrorKind::UnexpectedEof => "closed the connection before it answered CONNECT".to_owned(),
                _ => format!("the connection broke before CONNECT was answered: {error}"),
            };
            let error = self.error(ErrorKind::CONNECT, text).temporary();
            match self.endpoint.transport {
                Transport::Tcp => error.hint(
                    "a server that expects TLS does this: try mqtts://; or it does not take this --protocol-version",
                ),
                _ => error,
            }
            .into()
        })
    }
}

/// An open connection broke. TLS may know why.
pub(super) fn lost(endpoint: &Endpoint, error: &io::Error) -> Error {
    if let Some(explained) = explain_io(error) {
        return Error::from(explained);
    }
    let shown = endpoint.shown();
    let text = match error.kind() {
        io::ErrorKind::UnexpectedEof => format!("{shown} closed the connection"),
        _ => format!("the connection to {shown} broke: {error}"),
    };
    Error::new(ErrorKind::CLOSED, text).temporary()
}
