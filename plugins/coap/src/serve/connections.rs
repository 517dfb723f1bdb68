//! Serving over TCP and TLS: a task and a desk for each connection.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep_until, timeout};
use tracemq_plugin_api::net::{ServerTls, TlsAcceptor, accept, explain_client};
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::spawn;
use tracemq_plugin_api::serde_json;

use super::config::ServeOptions;
use super::desk::Desk;
use super::observers::Settled;
use super::service::Service;
use super::show::Sender;
use crate::message::{Packet, Token};
use crate::tcp::{ALPN, Socket, Stream, StreamEvent};

/// Connections at once.
const MOST: usize = 1000;
/// How long TLS and the client's first message may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a client may take to read the last of it.
const GOODBYE: Duration = Duration::from_secs(1);
/// How much is read at once.
const CHUNK: usize = 16 << 10;
/// While so much waits to be read by the client, nothing more is read of it, and it is told nothing.
const MOST_WAITING: usize = 1 << 20;
/// The longest message of ours, whatever the client takes: a longer body is fetched in several.
const LONGEST_ANSWER: usize = 1 << 20;
/// What a message may have beside the longest body.
const OVERHEAD: usize = 64 << 10;

/// TLS, or none.
pub enum Acceptor {
    None,
    Certificates(TlsAcceptor),
    #[cfg(feature = "dtls")]
    Keys(crate::dtls::Acceptor),
}

impl Acceptor {
    /// `tls` has been read by the options.
    ///
    /// # Errors
    /// An option that can't be.
    pub fn open(options: &ServeOptions, tls: Option<ServerTls>) -> Result<Acceptor> {
        #[cfg(feature = "dtls")]
        if options.psk.is_set() {
            return crate::dtls::Acceptor::new(&options.psk, tls).map(Acceptor::Keys);
        }
        let _ = options;
        Ok(match tls {
            Some(tls) => Acceptor::Certificates(tls.acceptor(&[ALPN])?),
            None => Acceptor::None,
        })
    }
}

/// What every connection needs.
pub struct Front {
    pub service: Arc<Service>,
    pub desk: Box<dyn Fn() -> Desk + Send + Sync>,
    pub tls: Acceptor,
    /// The scheme of the URL.
    pub transport: &'static str,
    /// The longest body that is taken.
    pub longest: usize,
}

impl Front {
    /// Takes in clients until it is told to stop.
    pub async fn listen(self: Arc<Self>, listener: TcpListener, mut stopping: watch::Receiver<bool>) {
        let room = Arc::new(Semaphore::new(MOST));
        loop {
            let (socket, peer) = tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => break,
                accepted = accept(&listener) => accepted,
            };
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                self.refused(peer, &format!("there are {MOST} connections, which is the most there can be"));
                continue;
            };
            let stopping = stopping.clone();
            spawn(Arc::clone(&self).welcome(socket, peer, place, stopping));
        }
        // All connections have been told too; they take no longer than this.
        let _ = timeout(GOODBYE, room.acquire_many(MOST as u32)).await;
    }

    async fn welcome(
        self: Arc<Self>,
        socket: TcpStream,
        peer: SocketAddr,
        _place: OwnedSemaphorePermit,
        mut stopping: watch::Receiver<bool>,
    ) {
        // Small messages go at once; where that can't be set they go all the same.
        let _ = socket.set_nodelay(true);
        let opened = tokio::select! {
            opened = timeout(PATIENCE, self.secure(socket)) => opened,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        match opened {
            Ok(Ok((socket, identity))) => self.serve(socket, peer, identity, stopping).await,
            Ok(Err(why)) => self.refused(peer, &why),
            Err(_) => self.refused(peer, "the TLS handshake took too long"),
        }
    }

    /// What is to be read and written, and who is at the other end, if that is known.
    async fn secure(
        &self,
        socket: TcpStream,
    ) -> std::result::Result<(Box<dyn Socket>, Option<Arc<str>>), String> {
        match &self.tls {
            Acceptor::None => Ok((Box::new(socket), None)),
            Acceptor::Certificates(tls) => match tls.accept(socket).await {
                Ok(socket) => Ok((Box::new(socket), None)),
                Err(error) => Err(explain_client(&error)),
            },
            #[cfg(feature = "dtls")]
            Acceptor::Keys(tls) => {
                let accepted = tls.accept(socket).await?;
                Ok((Box::new(accepted.stream), accepted.identity.map(Arc::from)))
            }
        }
    }

    async fn serve(
        &self,
        socket: Box<dyn Socket>,
        peer: SocketAddr,
        identity: Option<Arc<str>>,
        stopping: watch::Receiver<bool>,
    ) {
        let whose = identity.as_ref().map(|name| format!(", {name:?}")).unwrap_or_default();
        let text = format!("client {peer} connected{whose}");
        let details =
            json!({ "peer": peer.to_string(), "transport": self.transport, "identity": identity.as_deref() });
        self.service.events().emit(Event::new(EventKind::CLIENT_CONNECTED, text).details(details));
        let mut connection = Connection {
            stream: Stream::new(self.longest + OVERHEAD),
            desk: (self.desk)(),
            sender: Sender { peer, transport: self.transport, message: None, identity, to_group: false },
            ready: false,
            delayed: VecDeque::new(),
            delayed_bytes: 0,
            writing: Bytes::new(),
            over: None,
        };
        connection.run(socket, stopping).await;
        let why = connection.over.unwrap_or_else(|| "the server stops".to_owned());
        let text = format!("client {peer} disconnected: {why}");
        let details = json!({ "peer": peer.to_string(), "reason": why });
        self.service.events().emit(Event::new(EventKind::CLIENT_DISCONNECTED, text).details(details));
    }

    fn refused(&self, peer: SocketAddr, why: &str) {
        let text = format!("refused a connection ({peer}): {why}");
        let details = json!({ "what": "connection", "peer": peer.to_string(), "reason": why });
        self.service.events().emit(Event::new(EventKind::CLIENT_REFUSED, text).details(details));
    }
}

struct Connection {
    stream: Stream,
    desk: Desk,
    sender: Sender,
    /// The client has sent its first message.
    ready: bool,
    /// Answers that wait because of --delay, in the order in which they are due.
    delayed: VecDeque<(Instant, Packet)>,
    delayed_bytes: usize,
    /// What has left the stream and not been taken by the socket.
    writing: Bytes,
    over: Option<String>,
}

impl Connection {
    async fn run(&mut self, socket: Box<dyn Socket>, mut stopping: watch::Receiver<bool>) {
        let (mut read, mut write) = tokio::io::split(socket);
        let wake = self.desk.wake();
        let greeting = Instant::now() + PATIENCE;
        let mut buffer = BytesMut::with_capacity(CHUNK);
        while self.over.is_none() {
            self.happenings();
            self.notify();
            if self.writing.is_empty() {
                self.writing = self.stream.take_outgoing();
            }
            let due = match self.delayed.front() {
                Some((due, _)) => Some(*due),
                None if !self.ready => Some(greeting),
                None => None,
            };
            let alarm = async {
                match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            let has_room = self.has_room();
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => break,
                written = write.write(&self.writing), if !self.writing.is_empty() => match written {
                    Ok(length) => self.writing.advance(length),
                    Err(error) => self.over = Some(error.to_string()),
                },
                // Of a client that does not read, nothing is read either.
                count = read.read_buf(&mut buffer), if has_room => match count {
                    Ok(0) => self.stream.ended(),
                    Ok(_) => {
                        self.stream.receive(&buffer.split());
                        buffer.reserve(CHUNK);
                    }
                    Err(error) => self.over = Some(error.to_string()),
                },
                () = wake.notified(), if has_room => {}
                () = alarm => self.late(),
            }
        }
        self.stream.release();
        let last = async {
            write.write_all(&self.writing).await?;
            write.write_all(&self.stream.take_outgoing()).await?;
            write.shutdown().await
        };
        // Who does not take the last of it is left without.
        let _ = timeout(GOODBYE, last).await;
    }

    fn has_room(&self) -> bool {
        let waiting = self.writing.len() + self.stream.waiting() + self.delayed_bytes;
        waiting < MOST_WAITING && self.delayed.len() < 1024
    }

    /// Deals with what came, as far as there is room for the answers.
    fn happenings(&mut self) {
        self.desk.has_room(self.stream.room(LONGEST_ANSWER));
        while self.over.is_none() && self.has_room() {
            let Some(event) = self.stream.poll_event() else { return };
            match event {
                StreamEvent::Ready => self.ready = true,
                StreamEvent::Request(packet) => self.requested(packet),
                StreamEvent::Over(why) => self.over = Some(why),
                // This end asks for nothing; and a client that closes does so.
                StreamEvent::Response(_) | StreamEvent::Pong | StreamEvent::Released => {}
            }
        }
    }

    fn requested(&mut self, packet: Packet) {
        let token = packet.get_token().to_vec();
        let now = Instant::now();
        let Some(mut reply) = self.desk.request(now, &self.sender, packet) else { return };
        reply.packet.set_token(token);
        match reply.after.is_zero() {
            true => self.send(&reply.packet),
            false => {
                self.delayed_bytes += reply.packet.payload.len();
                self.delayed.push_back((now + reply.after, reply.packet));
            }
        }
    }

    fn late(&mut self) {
        let now = Instant::now();
        if !self.ready {
            self.over = Some("it sent no CSM, with which CoAP over TCP begins".to_owned());
        }
        while self.delayed.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, packet)) = self.delayed.pop_front() {
                self.delayed_bytes -= packet.payload.len();
                self.send(&packet);
            }
        }
    }

    fn notify(&mut self) {
        let now = Instant::now();
        while self.ready && self.has_room() {
            let Some(notice) = self.desk.notice(now) else { return };
            self.send(&notice.packet);
            // Nothing is lost on the way.
            let token = Token::of(&notice.packet);
            self.desk.settled(now, self.sender.peer, token, Settled::Acknowledged);
        }
    }

    fn send(&mut self, packet: &Packet) {
        if let Err(error) = self.stream.send(packet) {
            log::warn!("{}: an answer is not sent: {error}", self.sender.peer);
        }
    }
}
