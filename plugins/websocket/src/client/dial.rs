//! From an endpoint to an open connection: transport, handshake, compression.

use tokio_tungstenite::tungstenite::protocol::Role;
use tracemq_plugin_api::net::{Dialer, Upgraded, WsRequest};
use tracemq_plugin_api::prelude::*;

use crate::config::ConnectOptions;
use crate::deflate;
use crate::endpoint::Endpoint;
use crate::framing::Framing;
use crate::link::{BoxSocket, Link, RawLink, WsLink, limits};

/// Everything that a reconnect needs, read and checked once.
pub(super) struct Dial {
    pub(super) endpoint: Endpoint,
    dialer: Dialer,
    headers: Vec<(String, String)>,
    subprotocols: Option<String>,
    offer: Option<deflate::Options>,
    framing: Framing,
    max_message: usize,
}

/// An open connection, and what is to be told of it.
pub(super) struct Connected {
    pub(super) link: Link,
    pub(super) subprotocol: Option<String>,
    pub(super) compressed: bool,
}

impl Dial {
    pub(super) fn new(endpoint: Endpoint, options: &ConnectOptions) -> Result<Dial> {
        Ok(Dial {
            dialer: Dialer::from_options(&options.net)?,
            headers: options.headers()?,
            subprotocols: options.subprotocols(),
            offer: options.offer(),
            framing: options.framing()?,
            max_message: options.max_message_size as usize,
            endpoint,
        })
    }

    pub(super) async fn connect(&self) -> Result<Connected> {
        let Endpoint { transport, host, port, path } = &self.endpoint;
        if transport.is_tls() {
            for warning in self.dialer.warnings() {
                log::warn!("{warning}");
            }
        }
        if transport.is_raw() {
            let stream: BoxSocket = match transport.is_tls() {
                false => Box::new(self.dialer.tcp(host, *port).await?),
                true => Box::new(self.dialer.tls(host, *port, &[]).await?),
            };
            let link = Link::Raw(Box::new(RawLink::new(stream, self.framing, self.max_message)));
            return Ok(Connected { link, subprotocol: None, compressed: false });
        }
        let request = WsRequest {
            path: if path.is_empty() { "/" } else { path },
            headers: &self.headers,
            subprotocol: self.subprotocols.as_deref(),
            max_message: self.max_message,
            ..WsRequest::new(host, *port, transport.is_tls())
        };
        let offer = self.offer.as_ref().map(deflate::Options::offer);
        let Upgraded { stream, rest, subprotocol, extensions } =
            self.dialer.ws_upgrade(&request, offer.as_deref()).await?;
        let params = self.agreed(extensions.as_deref())?;
        let stream: BoxSocket = Box::new(stream);
        let ws = deflate::open(stream, rest, Role::Client, params.as_ref(), limits(self.max_message)).await;
        let link = Link::Ws(Box::new(WsLink::new(ws)));
        Ok(Connected { link, subprotocol, compressed: params.is_some() })
    }

    /// What the server's answer to our offer means.
    fn agreed(&self, extensions: Option<&str>) -> Result<Option<deflate::Params>> {
        let Some(offer) = &self.offer else { return Ok(None) };
        offer.check(extensions).map_err(|error| {
            Error::new(ErrorKind::CONNECT, format!("{}: {error}", self.endpoint.shown()))
                .hint("--compression=false connects without compression")
        })
    }
}
