//! A connection over TCP or TLS. One that is gone is made again when there is something to send.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
#[cfg(feature = "dtls")]
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{sleep_until, timeout};
#[cfg(feature = "dtls")]
use tracemq_plugin_api::net::show_host_port;
use tracemq_plugin_api::net::{Dialer, explain_io};
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::spawn;

use super::GOODBYE;
use super::udp::reason;
use crate::blockwise::Room;
use crate::config::ConnectOptions;
use crate::endpoint::{Busy, Event, Handle, Manner};
use crate::message::Packet;
use crate::target::{Target, Transport};
use crate::tcp::{ALPN, Client, Socket};

/// What a message may have beside the longest body.
const OVERHEAD: usize = 64 << 10;
/// How much is read at once.
const CHUNK: usize = 64 << 10;

type BoxSocket = Box<dyn Socket>;
type Opening = Pin<Box<dyn Future<Output = Result<(BoxSocket, SocketAddr)>> + Send>>;

/// TLS, or none.
#[derive(Clone)]
enum Security {
    None,
    Certificates,
    #[cfg(feature = "dtls")]
    Keys(Arc<crate::dtls::Connector>),
}

impl Security {
    fn of(target: &Target, options: &ConnectOptions) -> Result<Security> {
        #[cfg(feature = "dtls")]
        if target.transport == Transport::Tls && options.psk.is_set() {
            let connector = crate::dtls::Connector::new(&options.psk, &options.net.tls)?;
            return Ok(Security::Keys(Arc::new(connector)));
        }
        let _ = options;
        Ok(if target.transport == Transport::Tls { Security::Certificates } else { Security::None })
    }
}

/// All that making the connection again needs.
#[derive(Clone)]
struct Opener {
    dialer: Dialer,
    host: String,
    port: u16,
    security: Security,
    #[cfg(feature = "dtls")]
    patience: Duration,
}

impl Opener {
    fn new(target: &Target, options: &ConnectOptions) -> Result<Opener> {
        Ok(Opener {
            dialer: Dialer::from_options(&options.net)?,
            host: target.host.clone(),
            port: target.port,
            security: Security::of(target, options)?,
            #[cfg(feature = "dtls")]
            patience: options.net.timeout.connect_timeout.duration(),
        })
    }

    async fn open(self) -> Result<(BoxSocket, SocketAddr)> {
        let lost = |error: io::Error| Error::new(ErrorKind::CONNECT, error.to_string()).temporary();
        match &self.security {
            Security::None => {
                let socket = self.dialer.tcp(&self.host, self.port).await?;
                socket.set_nodelay(true).map_err(lost)?;
                let peer = socket.peer_addr().map_err(lost)?;
                Ok((Box::new(socket), peer))
            }
            Security::Certificates => {
                for warning in self.dialer.warnings() {
                    log::warn!("{warning}");
                }
                let socket = self.dialer.tls(&self.host, self.port, &[ALPN]).await?;
                let peer = socket.get_ref().0.peer_addr().map_err(lost)?;
                Ok((Box::new(socket), peer))
            }
            #[cfg(feature = "dtls")]
            Security::Keys(connector) => {
                for warning in connector.warnings() {
                    log::warn!("{warning}");
                }
                let until = tokio::time::Instant::now() + self.patience;
                let socket = self.dialer.tcp_for_tls(&self.host, self.port).await?;
                socket.set_nodelay(true).map_err(lost)?;
                let peer = socket.peer_addr().map_err(lost)?;
                let shown = show_host_port(&self.host, self.port);
                let opened = connector.connect(socket, &self.host, self.port, &shown);
                let socket = tokio::time::timeout_at(until, opened).await.map_err(|_| {
                    Error::new(ErrorKind::TIMEOUT, format!("{shown} did not finish the TLS handshake in time"))
                        .hint("check the host and the port, and whether the server speaks TLS; --connect-timeout sets the limit")
                        .temporary()
                })??;
                Ok((Box::new(socket), peer))
            }
        }
    }
}

struct Open {
    read: ReadHalf<BoxSocket>,
    write: WriteHalf<BoxSocket>,
    writing: Bytes,
}

impl Open {
    /// Tells the server why, as far as it takes it.
    async fn goodbye(self, last: Bytes) {
        let Open { mut write, writing, .. } = self;
        let said = async {
            write.write_all(&writing).await?;
            write.write_all(&last).await?;
            write.shutdown().await
        };
        let _ = timeout(GOODBYE, said).await;
    }
}

enum State {
    Down,
    Opening(Opening),
    Open(Open),
}

pub(crate) struct Connection {
    pub(crate) peer: SocketAddr,
    client: Client,
    opener: Opener,
    shown: String,
    limit: usize,
    response_timeout: Option<Duration>,
    state: State,
    /// There is a request to be sent.
    wanted: bool,
    buffer: BytesMut,
}

impl Connection {
    /// Returns when the server has told its limits, and so has shown that it speaks CoAP.
    ///
    /// # Errors
    /// The server can't be reached, TLS fails, or it does not speak CoAP over TCP.
    pub(crate) async fn open(target: &Target, options: &ConnectOptions) -> Result<Connection> {
        let opener = Opener::new(target, options)?;
        let (socket, peer) = opener.clone().open().await?;
        let limit = options.max_body_size as usize + OVERHEAD;
        let response_timeout = options.answer_timeout();
        let mut connection = Connection {
            peer,
            client: Client::new(peer, limit, response_timeout),
            opener,
            shown: target.shown(),
            limit,
            response_timeout,
            state: State::Open(opened(socket)),
            wanted: false,
            buffer: BytesMut::with_capacity(CHUNK),
        };
        let patience = options.net.timeout.connect_timeout.duration();
        let greeted = timeout(patience, async {
            while !connection.client.is_ready() {
                connection.turn().await?;
            }
            Ok(())
        });
        match greeted.await {
            Ok(Ok(())) => Ok(connection),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let text = format!("{} took the connection and said nothing", target.shown());
                Err(Error::new(ErrorKind::TIMEOUT, text)
                    .hint("a server that speaks CoAP over TCP begins with a message of its own (CSM): check the port, the scheme, and whether it wants TLS"))
            }
        }
    }

    /// What goes into one message to this server.
    pub(crate) fn room(&self) -> Room {
        self.client.room()
    }

    pub(crate) fn request(&mut self, packet: &mut Packet, manner: Manner) -> Result<Handle, Busy> {
        self.wanted = true;
        self.client.request(Instant::now(), packet, manner)
    }

    pub(crate) fn send_off(&mut self, packet: Packet) -> Result<(), Busy> {
        self.wanted = true;
        self.client.send_off(packet)
    }

    pub(crate) fn renew(&mut self, handle: Handle, packet: &mut Packet) -> bool {
        self.wanted = true;
        self.client.renew(Instant::now(), handle, packet)
    }

    pub(crate) fn cancel(&mut self, handle: Handle) {
        self.client.cancel(handle);
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.client.poll_event()
    }

    /// Sends what is to be sent and waits until something has happened. May be given up at any time.
    ///
    /// # Errors
    /// There is no connection, or none any more: what was under way will not be answered.
    pub(crate) async fn turn(&mut self) -> Result<()> {
        let deadline = self.client.next_timeout();
        let alarm = async {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        if self.wanted && matches!(self.state, State::Down) {
            self.state = State::Opening(Box::pin(self.opener.clone().open()));
        }
        let happened = match &mut self.state {
            State::Down => {
                alarm.await;
                Happened::Alarm
            }
            State::Opening(opening) => tokio::select! {
                opened = opening => Happened::Opened(opened),
                () = alarm => Happened::Alarm,
            },
            State::Open(open) => {
                if open.writing.is_empty() {
                    open.writing = self.client.take_outgoing();
                }
                tokio::select! {
                    biased;
                    written = open.write.write(&open.writing), if !open.writing.is_empty() => {
                        Happened::Written(written)
                    }
                    read = open.read.read_buf(&mut self.buffer) => Happened::Read(read),
                    () = alarm => Happened::Alarm,
                }
            }
        };
        self.happened(happened)
    }

    fn happened(&mut self, happened: Happened) -> Result<()> {
        let now = Instant::now();
        match happened {
            Happened::Alarm => self.client.handle_timeout(now),
            Happened::Opened(Ok((socket, peer))) => {
                self.peer = peer;
                self.state = State::Open(opened(socket));
            }
            Happened::Opened(Err(error)) => return Err(self.down(error)),
            Happened::Written(Ok(length)) => {
                if let State::Open(open) = &mut self.state {
                    open.writing.advance(length);
                }
            }
            Happened::Read(Ok(0)) => self.client.ended(now),
            Happened::Read(Ok(_)) => {
                let bytes = self.buffer.split();
                self.client.receive(now, &bytes);
                self.buffer.reserve(CHUNK);
            }
            Happened::Written(Err(error)) | Happened::Read(Err(error)) => {
                let error = match explain_io(&error) {
                    Some(explained) => explained.into(),
                    None => self.lost(&reason(&error)),
                };
                return Err(self.down(error));
            }
        }
        match self.client.over() {
            None => Ok(()),
            Some(why) => {
                let error = self.lost(why);
                Err(self.down(error))
            }
        }
    }

    fn lost(&self, why: &str) -> Error {
        let error = Error::new(ErrorKind::CONNECT, format!("{}: {why}", self.shown)).temporary();
        match self.client.is_ready() {
            true => error,
            false => {
                error.hint("check the port and the scheme: it may want TLS (coaps+tcp), or speak no CoAP")
            }
        }
    }

    /// The driver fails what was under way, with the error that says why.
    fn down(&mut self, error: Error) -> Error {
        if let State::Open(open) = std::mem::replace(&mut self.state, State::Down) {
            let last = self.client.take_outgoing();
            spawn(open.goodbye(last));
        }
        self.wanted = false;
        self.client = Client::new(self.peer, self.limit, self.response_timeout);
        error
    }
}

enum Happened {
    Alarm,
    Opened(Result<(BoxSocket, SocketAddr)>),
    Written(io::Result<usize>),
    Read(io::Result<usize>),
}

fn opened(socket: BoxSocket) -> Open {
    let (read, write) = tokio::io::split(socket);
    Open { read, write, writing: Bytes::new() }
}
