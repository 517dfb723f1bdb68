//! The front: all that happens before and around the broker library's own loopback listener.
//!
//! The library takes PEM paths for TLS and is bound to another crypto provider there; it has no bound on
//! connections nor on the time until CONNECT; a WebSocket ping ends its streams; and it closes before it
//! would say why (MQTT 5.0 section 4.13). So every client comes in here, and is relayed. The price is one
//! more hop on loopback.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracemq_plugin_api::net::{TlsAcceptor, accept, explain_client};

use super::connect;
use super::event::BrokerEvent;
use super::hooks::House;
use super::links::{Link, Transport, proxy_header};
use super::websocket;

/// Relay buffer of each direction.
const BUFFER: usize = 16 * 1024;
/// How long the library has, after it closed a connection, to tell why.
const GOODBYE_PATIENCE: Duration = Duration::from_millis(500);
/// How long the library has to finish after the client closed.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// How long a client that was told a reason may go on sending into the void.
const LINGER: Duration = Duration::from_secs(2);

const NO_CONNECT: &str = "no CONNECT arrived in time";

/// What every listener of one broker shares.
pub(super) struct Front {
    pub(super) house: Arc<House>,
    /// The library's listener.
    pub(super) inner: SocketAddr,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) room: Arc<Semaphore>,
    pub(super) max_packet_size: usize,
    pub(super) handshake_timeout: Duration,
}

impl Front {
    /// Takes in clients for ever; ends with the runtime.
    pub(super) async fn listen(self: Arc<Self>, listener: TcpListener, transport: Transport) {
        loop {
            let (stream, peer) = accept(&listener).await;
            let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
                self.refuse(peer, "the broker has as many connections as it may".to_owned());
                continue;
            };
            let front = Arc::clone(&self);
            tokio::spawn(async move {
                if let Err(error) = front.serve(stream, peer, transport).await {
                    log::debug!("connection from {peer}: {error}");
                }
                drop(permit);
            });
        }
    }

    fn refuse(&self, peer: SocketAddr, reason: String) {
        self.house.report(BrokerEvent::Refused {
            client: None,
            peer: Some(peer),
            what: "connection",
            topic: None,
            reason,
        });
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr, transport: Transport) -> io::Result<()> {
        let deadline = Instant::now() + self.handshake_timeout;
        stream.set_nodelay(true)?;
        match transport {
            Transport::Mqtt | Transport::Mqtts => match &self.tls {
                None => {
                    let (from, to) = stream.into_split();
                    self.relay(from, to, peer, transport, deadline).await
                }
                Some(tls) => {
                    let stream = self.tls_handshake(tls, stream, peer, deadline).await?;
                    let (from, to) = tokio::io::split(stream);
                    self.relay(from, to, peer, transport, deadline).await
                }
            },
            Transport::Ws | Transport::Wss => match &self.tls {
                None => self.serve_websocket(stream, peer, transport, deadline).await,
                Some(tls) => {
                    let stream = self.tls_handshake(tls, stream, peer, deadline).await?;
                    self.serve_websocket(stream, peer, transport, deadline).await
                }
            },
        }
    }

    async fn tls_handshake(
        &self,
        tls: &TlsAcceptor,
        stream: TcpStream,
        peer: SocketAddr,
        deadline: Instant,
    ) -> io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
        let result = match timeout_at(deadline, tls.accept(stream)).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long")),
        };
        result.inspect_err(|error| self.refuse(peer, explain_client(error)))
    }

    async fn serve_websocket<S>(
        &self,
        stream: S,
        peer: SocketAddr,
        transport: Transport,
        deadline: Instant,
    ) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let result = match timeout_at(deadline, websocket::accept(stream, self.max_packet_size)).await {
            Ok(result) => result,
            Err(_) => Err("the handshake took too long".to_owned()),
        };
        match result {
            Ok(stream) => {
                let (from, to) = tokio::io::split(stream);
                self.relay(from, to, peer, transport, deadline).await
            }
            Err(reason) => {
                self.refuse(peer, format!("WebSocket: {reason}"));
                Err(io::Error::other(reason))
            }
        }
    }

    /// Announces a client to the library and carries its bytes until one side ends.
    async fn relay<R, W>(
        &self,
        mut from: R,
        to: W,
        peer: SocketAddr,
        transport: Transport,
        deadline: Instant,
    ) -> io::Result<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let first = match timeout_at(deadline, first_bytes(&mut from)).await {
            Ok(first) => first?,
            Err(_) => {
                self.refuse(peer, NO_CONNECT.to_owned());
                return Ok(());
            }
        };
        if first.is_empty() {
            return Ok(());
        }
        let links = &self.house.links;
        let Some((token, link)) = links.open(peer, transport) else {
            return Err(io::Error::other("the system has no random numbers"));
        };
        let result = async {
            let mut inner = TcpStream::connect(self.inner).await?;
            inner.set_nodelay(true)?;
            inner.write_all(&proxy_header(token)).await?;
            log::debug!("{peer} is {token} to the broker library");
            inner.write_all(&first).await?;
            self.carry(from, to, inner, &link, deadline).await
        }
        .await;
        link.left(DRAIN_PATIENCE).await;
        links.close(token);
        result
    }

    async fn carry<R, W>(
        &self,
        mut from: R,
        mut to: W,
        inner: TcpStream,
        link: &Link,
        deadline: Instant,
    ) -> io::Result<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let (mut inner_from, mut inner_to) = inner.into_split();
        let mut client_closed = false;
        {
            let mut down = pin!(copy(&mut inner_from, &mut to));
            let mut up = pin!(async {
                let end = copy(&mut from, &mut inner_to).await;
                // An error means that the library closed already.
                let _ = inner_to.shutdown().await;
                end
            });
            let mut limit = pin!(sleep_until(deadline));
            let (mut up_ended, mut limited) = (false, true);
            loop {
                tokio::select! {
                    end = &mut down => match end {
                        // A reset is an end too: the library may close with bytes of the client unread.
                        End::Source(_) => break,
                        End::Sink(error) => return Err(error),
                    },
                    end = &mut up, if !up_ended => {
                        up_ended = true;
                        if let End::Source(result) = end {
                            if let Err(error) = result {
                                log::debug!("connection from {}: {error}", link.peer);
                            }
                            client_closed = true;
                            link.client_closed();
                        }
                        limited = true;
                        limit.as_mut().reset(Instant::now() + DRAIN_PATIENCE);
                    }
                    () = &mut limit, if limited => {
                        if up_ended {
                            return Ok(());
                        }
                        if !link.accepted() {
                            self.refuse(link.peer, NO_CONNECT.to_owned());
                            return Ok(());
                        }
                        limited = false;
                    }
                }
            }
        }
        if client_closed {
            return Ok(());
        }
        let reason = link.goodbye(GOODBYE_PATIENCE).await;
        if let Some(code) = reason {
            // DISCONNECT with a reason code and no properties (section 3.14).
            timeout(GOODBYE_PATIENCE, to.write_all(&[0xE0, 1, code])).await??;
        }
        timeout(GOODBYE_PATIENCE, to.shutdown()).await??;
        if reason.is_some() {
            // Closing while the client still sends would reset the connection, and the reason with it.
            let _ = timeout(LINGER, copy(&mut from, &mut tokio::io::sink())).await;
        }
        Ok(())
    }
}

/// Reads until it is clear whether [`connect::allow_unnamed`] has something to do.
async fn first_bytes<R: AsyncRead + Unpin>(from: &mut R) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; BUFFER];
    let mut filled = 0;
    while filled < BUFFER {
        let count = from.read(&mut bytes[filled..]).await?;
        filled += count;
        if count == 0 || connect::allow_unnamed(&mut bytes[..filled]) {
            break;
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Which side ended a copy.
enum End {
    /// Nothing more can be read: the end, or an error.
    Source(io::Result<()>),
    /// Nothing more can be written.
    Sink(io::Error),
}

/// Copies until one side ends. Each read is flushed at once: what a TLS or WebSocket layer holds back would be
/// latency.
async fn copy<R, W>(from: &mut R, to: &mut W) -> End
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(0) => return End::Source(Ok(())),
            Ok(count) => count,
            Err(error) => return End::Source(Err(error)),
        };
        if let Err(error) = to.write_all(&buffer[..count]).await {
            return End::Sink(error);
        }
        if let Err(error) = to.flush().await {
            return End::Sink(error);
        }
    }
}
