//! The taking in of clients: TLS, and AMQP or WebSocket on the same port, told apart by the first bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tracemq_plugin_api::net::{TlsAcceptor, accept, explain_client};
use tracemq_plugin_api::prelude::{Event, EventKind};
use tracemq_plugin_api::sdk::spawn;
use tracemq_plugin_api::serde_json;

use super::connection::{self, Left};
use super::engine::Engine;
use super::peeked::Peeked;
use super::service::{Client, Service};
use super::{handshake, websocket};

/// How long a client may take for all that stands before the first frame.
const PATIENCE: Duration = Duration::from_secs(10);

/// Any of the transports.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// What taking in a client needs.
pub(super) struct Front {
    pub(super) service: Arc<Service>,
    pub(super) tls: Option<TlsAcceptor>,
    /// True once the server is being stopped.
    pub(super) stopping: watch::Receiver<bool>,
    /// Clients so far.
    pub(super) clients: AtomicU64,
}

impl Front {
    /// Takes in clients until it is aborted.
    pub(super) async fn listen(self: Arc<Self>, listener: TcpListener, room: Arc<Semaphore>) {
        loop {
            let (stream, peer) = accept(&listener).await;
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                self.refused(peer, "there are as many clients as there may be (--max-clients)");
                continue;
            };
            let front = Arc::clone(&self);
            spawn(async move {
                front.welcome(stream, peer).await;
                drop(place);
            });
        }
    }

    async fn welcome(&self, stream: TcpStream, peer: SocketAddr) {
        let mut stopping = self.stopping.clone();
        let opened = tokio::select! {
            opened = timeout(PATIENCE, self.open(stream)) => opened,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        let (socket, access, transport) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(why)) => return self.refused(peer, &why),
            Err(_) => return self.refused(peer, "the handshake took too long"),
        };
        let number = self.clients.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Client { number, peer };
        let details = json!({ "client": number, "peer": peer.to_string(), "transport": transport });
        let text = format!("client {number} ({peer}) connected by {transport}");
        self.service.events.emit(Event::new(EventKind::CLIENT_CONNECTED, text).details(details));
        let mut engine = Engine::new(Arc::clone(&self.service), client, access);
        let Left { text: reason, code } = connection::run(socket, &mut engine, &mut stopping).await;
        let product = std::mem::take(&mut engine.product);
        // Gives up the places of its readers before it is told that it is gone.
        drop(engine);
        let name = if product.is_empty() { String::new() } else { format!(", {product}") };
        let text = format!("client {number} ({peer}{name}) disconnected: {reason}");
        let details = json!({
            "client": number, "peer": peer.to_string(), "product": product, "reason": reason, "code": code,
        });
        self.service.events.emit(Event::new(EventKind::CLIENT_DISCONNECTED, text).details(details));
    }

    async fn open(
        &self,
        stream: TcpStream,
    ) -> Result<(Box<dyn Socket>, super::access::Access, &'static str), String> {
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        match &self.tls {
            None => self.open_plain(stream, ["AMQP", "WebSocket"]).await,
            Some(tls) => {
                let stream = tls.accept(stream).await.map_err(|error| explain_client(&error))?;
                self.open_plain(stream, ["AMQP with TLS", "WebSocket with TLS"]).await
            }
        }
    }

    async fn open_plain<S>(
        &self,
        stream: S,
        [amqp, over_websocket]: [&'static str; 2],
    ) -> Result<(Box<dyn Socket>, super::access::Access, &'static str), String>
    where
        S: Socket + 'static,
    {
        let stream = Peeked::new(stream).await.map_err(|error| format!("nothing was sent: {error}"))?;
        let (mut socket, transport): (Box<dyn Socket>, _) = match &stream.seen() {
            b"GET " => (Box::new(websocket::accept(stream).await?), over_websocket),
            [0x16, ..] => {
                return Err("it speaks TLS, which needs a certificate here: --tls-cert or --tls-self-signed"
                    .to_owned());
            }
            _ => (Box::new(stream), amqp),
        };
        let access = handshake::accept(&mut socket, &self.service.keys).await?;
        Ok((socket, access, transport))
    }

    fn refused(&self, peer: SocketAddr, why: &str) {
        let text = format!("refused a connection ({peer}): {why}");
        let details = json!({ "what": "connection", "peer": peer.to_string(), "reason": why });
        self.service.events.emit(Event::new(EventKind::CLIENT_REFUSED, text).details(details));
    }
}
