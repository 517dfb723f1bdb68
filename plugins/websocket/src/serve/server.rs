//! The server as the host sees it, and the taking in of clients.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracemq_plugin_api::net::{ServerTls, TlsAcceptor, accept, explain_client, listen};
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::spawn;
use tracemq_plugin_api::serde_json;

use super::clients::{Clients, Put};
use super::config::{Listen, Mode, ServeOptions};
use super::handshake::{Guest, PATIENCE, Rules};
use super::reply::Reply;
use super::session::{Service, Session};
use super::shown::Shown;
use crate::config::framing;
use crate::endpoint::Transport;
use crate::framing::Framing;
use crate::link::{BoxSocket, Clock, Kind, Link, RawLink};
use crate::publish::PublishOptions;

/// Batches that wait for the host. Each client may have one more.
const BATCHES: usize = 8;
/// How long clients may take to say goodbye when the server stops.
const GOODBYE: Duration = Duration::from_secs(2);

/// A running server.
pub struct SocketServer {
    address: String,
    framing: Framing,
    raw: bool,
    clients: Arc<Clients>,
    messages: Mutex<Option<Subscription>>,
    stop: watch::Sender<bool>,
    room: Arc<Semaphore>,
    most: u32,
    listener: JoinHandle<()>,
}

impl Drop for SocketServer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.listener.abort();
    }
}

/// What taking in a client needs.
struct Front {
    transport: Transport,
    tls: Option<TlsAcceptor>,
    rules: Rules,
    framing: Framing,
    ping_interval: Span,
    idle_timeout: Span,
    service: Service,
}

impl SocketServer {
    /// Starts the server. Clients can connect when this returns.
    ///
    /// # Errors
    /// A bad option or file (config), an address that can't be listened on (connect).
    pub async fn start(options: ServeOptions, context: Context) -> Result<SocketServer> {
        let Listen { transport, bind, path } = options.listen(context.url())?;
        let reply = match (options.mode, &options.reply_file) {
            (Mode::Reply, Some(file)) => Some(Reply::read(file)?),
            _ => None,
        };
        let open = || ServerTls::open(&options.tls, context.state_dir(), &bind);
        let secured = transport.is_tls().then(open).transpose()?;
        let tls = secured.as_ref().map(|tls| tls.acceptor(&[])).transpose()?;
        let cannot = |error| Error::new(ErrorKind::CONNECT, format!("cannot listen on {bind}: {error}"));
        let listener = listen(&bind)?;
        let listener = TcpListener::from_std(listener).map_err(cannot)?;
        let local = listener.local_addr().map_err(cannot)?;
        let address = format!("{}://{local}{}", transport.scheme(), path.as_deref().unwrap_or_default());

        if let Some(tls) = &secured {
            tls.announce(context.events());
        }
        let clients = Arc::new(Clients::default());
        let (sender, messages) = queue(BATCHES);
        let (stop, stopping) = watch::channel(false);
        let max_message = options.max_message_size as usize;
        let framing = framing(options.framing.as_deref())?;
        let front = Front {
            transport,
            tls,
            framing,
            rules: Rules {
                path,
                origins: options.origin.clone(),
                users: options.users()?,
                subprotocols: options.subprotocol.clone(),
                deflate: options.compression.then(|| options.deflate.negotiated()),
                max_message,
            },
            ping_interval: options.ping_interval,
            idle_timeout: options.idle_timeout,
            service: Service {
                mode: options.mode,
                reply,
                clients: Arc::clone(&clients),
                sender,
                events: context.events().clone(),
                stopping,
            },
        };
        let most = options.max_clients;
        let room = Arc::new(Semaphore::new(most as usize));
        let listener = spawn(Arc::new(front).listen(listener, Arc::clone(&room)));
        let raw = transport.is_raw();
        let messages = Mutex::new(Some(messages));
        Ok(SocketServer { address, framing, raw, clients, messages, stop, room, most, listener })
    }
}

impl Server for SocketServer {
    type Publish = PublishOptions;

    fn addresses(&self) -> Vec<String> {
        vec![self.address.clone()]
    }

    fn messages(&self) -> Result<Subscription> {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner).take();
        messages.ok_or_else(|| Error::unsupported("the messages of a server can be read only once"))
    }

    /// The topic is a client's name, to send to it alone; without one it goes to all.
    async fn publish(&self, mut batch: Batch, options: Arc<PublishOptions>) -> Result<Vec<Outcome>> {
        options.check(if self.raw { Transport::Tcp } else { Transport::Ws })?;
        let kind = options.kind();
        batch.adopt();
        Ok(batch.iter().map(|message| self.send(kind, &message)).collect())
    }

    async fn close(&self) -> Result<()> {
        self.listener.abort();
        self.stop.send_replace(true);
        // Each client holds a place until it is gone. Whoever does not take the goodbye is left without one.
        let _ = timeout(GOODBYE, self.room.acquire_many(self.most)).await;
        Ok(())
    }
}

impl SocketServer {
    fn send(&self, kind: Kind, message: &tracemq_plugin_api::sdk::MessageView<'_>) -> Outcome {
        let payload = message.payload_bytes();
        let unfit = match (self.raw, kind) {
            (true, _) => self.framing.check(&payload).err().map(|error| error.to_string()),
            (false, Kind::Text) if std::str::from_utf8(&payload).is_err() => {
                Some("it is not UTF-8, which a text message must be (--binary sends any bytes)".to_owned())
            }
            _ => None,
        };
        if let Some(why) = unfit {
            return Outcome::refused(why);
        }
        let name = message.topic_text();
        if name.is_empty() {
            let (queued, slow) = self.clients.broadcast(kind, &payload, None);
            return Outcome::sent().details(json!({ "clients": queued, "too_slow": slow }));
        }
        match self.clients.send(&name, kind, payload) {
            Some(Put::Queued) => Outcome::sent(),
            Some(Put::Overflow) => {
                Outcome::refused(format!("client {name} is too slow and is being cut off"))
            }
            None => Outcome::refused(format!("there is no client {name}")),
        }
    }
}

impl Front {
    /// Takes in clients until it is aborted.
    async fn listen(self: Arc<Self>, listener: TcpListener, room: Arc<Semaphore>) {
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
        let mut stopping = self.service.stopping.clone();
        let opened = tokio::select! {
            opened = timeout(PATIENCE, self.open(stream)) => opened,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        let (mut link, guest) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(why)) => return self.refused(peer, &why),
            Err(_) => return self.refused(peer, "the handshake took too long"),
        };
        let place = self.service.clients.enter();
        let name = place.outbox.name.clone();
        self.service.events.emit(self.arrival(&name, peer, &guest));
        let clock = Clock::new(self.ping_interval, self.idle_timeout, self.transport.is_raw());
        let session = Session {
            service: &self.service,
            outbox: &place.outbox,
            guest: &guest,
            clock,
            shown: Shown::default(),
            number: 0,
        };
        let left = session.run(&mut link).await;
        let text = format!("client {name} ({peer}) disconnected: {}", left.text);
        let details =
            json!({ "client": name, "peer": peer.to_string(), "reason": left.text, "code": left.code });
        if left.slow {
            let text = format!("client {name} ({peer}) was too slow: what was waiting for it is lost");
            self.service.events.emit(Event::new(EventKind::DROPPED, text).details(json!({ "client": name })));
        }
        self.service.events.emit(Event::new(EventKind::CLIENT_DISCONNECTED, text).details(details));
    }

    async fn open(&self, stream: TcpStream) -> std::result::Result<(Link, Guest), String> {
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let socket: BoxSocket = match &self.tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.accept(stream).await.map_err(|error| explain_client(&error))?),
        };
        if self.transport.is_raw() {
            let link = RawLink::new(socket, self.framing, self.rules.max_message);
            return Ok((Link::Raw(Box::new(link)), Guest::default()));
        }
        let (link, guest) = self.rules.accept(socket).await?;
        Ok((Link::Ws(Box::new(link)), guest))
    }

    fn arrival(&self, name: &str, peer: SocketAddr, guest: &Guest) -> Event {
        let mut text = format!("client {name} ({peer}) connected");
        let mut details = json!({
            "client": name, "peer": peer.to_string(), "transport": self.transport.scheme(),
        });
        if !self.transport.is_raw() {
            text.push_str(&format!(" to {}", guest.path));
            if guest.compression {
                text.push_str(", compression");
            }
            details["path"] = json!(guest.path);
            details["user"] = json!(guest.user);
            details["origin"] = json!(guest.origin);
            details["subprotocol"] = json!(guest.subprotocol);
            details["compression"] = json!(guest.compression);
        }
        Event::new(EventKind::CLIENT_CONNECTED, text).details(details)
    }

    fn refused(&self, peer: SocketAddr, why: &str) {
        let text = format!("refused a connection ({peer}): {why}");
        let details = json!({ "what": "connection", "peer": peer.to_string(), "reason": why });
        self.service.events.emit(Event::new(EventKind::CLIENT_REFUSED, text).details(details));
    }
}
