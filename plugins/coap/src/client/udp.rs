//! Datagrams: a socket, and the message layer over it.
//!
//! The socket is connected to its peer, so that the system drops what others send, and tells when nobody listens there
//! (ICMP). For a group it can't be: answers come from everybody.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::lookup_host;
use tokio::time::{Sleep, sleep_until};
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::Step;

use super::address::{PING, choose};
use super::patience::Patience;
use super::secure::Secure;
use super::socket::ClientSocket;
use crate::config::ConnectOptions;
use crate::endpoint::{Endpoint, Event, Failure, Limits, Transmit};
use crate::interfaces;
use crate::target::{Target, Transport};

/// The longest datagram that there can be.
const LONGEST: usize = 65_535;
/// So many are read before what came with them is looked at, and what there is to say to it leaves: the peer is to have
/// something to do meanwhile.
const AT_ONCE: usize = 4;
/// The answer to a ping: a reset with its message id.
const PONG: [u8; 4] = [0x70, 0, 0, 0];
/// After so long without an answer another ping is sent, and so on in twice the time (ACK_TIMEOUT, RFC 7252 section 4.8).
const PING_AGAIN: Duration = Duration::from_secs(2);

pub(crate) struct Datagrams {
    pub(crate) endpoint: Endpoint,
    pub(crate) peer: SocketAddr,
    socket: ClientSocket,
    patience: Patience,
    group: bool,
    secure: Option<Box<Secure>>,
    /// The socket took no more.
    held: Option<Transmit>,
    buffer: Box<[u8]>,
    sleep: Pin<Box<Sleep>>,
    armed: Option<Instant>,
}

impl Datagrams {
    /// Looks the name up and makes the socket. Without DTLS nothing is sent; with DTLS it returns when there is an
    /// association.
    ///
    /// # Errors
    /// The name is none, the network is not there, or the interface; the server refuses, or is not who it should be.
    pub(crate) async fn open(target: &Target, options: &ConnectOptions) -> Result<Datagrams> {
        let secure = match target.transport {
            Transport::Dtls => Some(Box::new(Secure::new(target, options)?)),
            _ => None,
        };
        let peer = lookup(target, options).await?;
        let cannot = |error: io::Error| {
            Error::new(ErrorKind::CONNECT, format!("{}: {}", target.shown(), reason(&error)))
        };
        let socket = open(peer, options).map_err(cannot)?;
        let group = peer.ip().is_multicast();
        if group {
            options.check_group(target.transport)?;
        }
        let mut datagrams = Datagrams {
            endpoint: Endpoint::new(options.parameters(), Limits::CLIENT),
            peer,
            socket,
            patience: Patience::new(),
            group,
            secure,
            held: None,
            buffer: vec![0; LONGEST].into_boxed_slice(),
            sleep: Box::pin(sleep_until(tokio::time::Instant::now())),
            armed: None,
        };
        let Some(secure) = &mut datagrams.secure else { return Ok(datagrams) };
        let step = Step::begin("dtls");
        secure.begin()?;
        while datagrams.secure.as_ref().is_some_and(|secure| !secure.is_open()) {
            datagrams.turn().await?;
        }
        step.done(peer);
        Ok(datagrams)
    }

    /// Waits for a sign of life: the answer to a ping (RFC 7252 section 4.3). An association is one already, and a group must
    /// not be asked for one. To be called before anything else is sent.
    ///
    /// # Errors
    /// Nobody listens there, or nobody answers within this time.
    pub(crate) async fn ping(&mut self, patience: Duration) -> Result<()> {
        if self.group || self.secure.is_some() {
            return Ok(());
        }
        let step = Step::begin("ping");
        let answered = tokio::time::timeout(patience, async {
            let mut wait = PING_AGAIN;
            self.socket.send(&PING).await?;
            loop {
                let mut bytes = [0; 64];
                match tokio::time::timeout(wait, self.socket.receive(&mut bytes)).await {
                    Ok(Ok(length)) if bytes[..length] == PONG => return Ok(()),
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return Err(error),
                    Err(_) => {
                        wait *= 2;
                        self.socket.send(&PING).await?;
                    }
                }
            }
        });
        match answered.await {
            Ok(Ok(())) => {
                step.done(self.peer);
                Ok(())
            }
            Ok(Err(error)) => Err(self.unreachable(&error)),
            Err(_) => {
                let limit = tracemq_plugin_api::sdk::Span::from(patience);
                let text = format!("{} does not answer a ping within {limit}", self.peer);
                Err(Error::new(ErrorKind::TIMEOUT, text).hint(
                    "is it a CoAP server, without DTLS? A firewall may swallow UDP; --connect-timeout waits longer",
                ))
            }
        }
    }

    /// Sends what is to be sent, and waits until something has happened: a datagram came, or a deadline passed. May be given
    /// up at any time.
    ///
    /// # Errors
    /// The peer is not reachable: what was under way with it will not be answered.
    pub(crate) async fn turn(&mut self) -> Result<()> {
        loop {
            self.flush()?;
            if self.wait_for_one()? || self.receive()? {
                return Ok(());
            }
            let secure = self.secure.as_mut().and_then(|secure| secure.next_timeout());
            let timeout = [secure, self.endpoint.next_timeout()].into_iter().flatten().min();
            if let Some(timeout) = timeout
                && self.armed != Some(timeout)
            {
                self.sleep.as_mut().reset(timeout.into());
                self.armed = Some(timeout);
            }
            self.patience.waits();
            tokio::select! {
                biased;
                ready = self.socket.ready(self.held.is_some()) => {
                    ready.map_err(|error| self.unreachable(&error))?;
                    self.patience.waited(true);
                }
                () = &mut self.sleep, if timeout.is_some() => {
                    self.armed = None;
                    self.endpoint.handle_timeout(Instant::now());
                    if let Some(secure) = &mut self.secure {
                        secure.handle_timeout(&mut self.endpoint, self.peer)?;
                    }
                    self.flush()?;
                    return Ok(());
                }
            }
        }
    }

    /// The next thing that happened.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        let event = self.endpoint.poll_event()?;
        if let Event::Failed { why: Failure::TimedOut { .. }, .. } = event {
            self.forget_association();
        }
        Some(event)
    }

    fn forget_association(&mut self) {
        if let Some(secure) = &mut self.secure {
            secure.down(&mut self.endpoint, self.peer);
        }
    }

    fn unreachable(&mut self, error: &io::Error) -> Error {
        self.forget_association();
        let text = format!("{}: {}", self.peer, reason(error));
        Error::new(ErrorKind::CONNECT, text).hint("check the host and the port").temporary()
    }

    /// The next datagram for the socket.
    fn poll_transmit(&mut self) -> Result<Option<Transmit>> {
        if let Some(held) = self.held.take() {
            return Ok(Some(held));
        }
        let Some(secure) = &mut self.secure else { return Ok(self.endpoint.poll_transmit()) };
        let bytes = secure.poll_transmit(&mut self.endpoint)?;
        Ok(bytes.map(|bytes| Transmit { peer: self.peer, bytes }))
    }

    /// Sends what the socket takes at once.
    ///
    /// # Errors
    /// As [`Datagrams::turn`].
    pub(crate) fn flush(&mut self) -> Result<()> {
        while let Some(transmit) = self.poll_transmit()? {
            match self.socket.try_send(&transmit.bytes, transmit.peer) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.held = Some(transmit);
                    return Ok(());
                }
                // As good as lost on the way: it is sent again.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                // A server of a group that is gone says nothing about the others.
                Err(_) if self.group && transmit.peer != self.peer => {}
                Err(error) => return Err(self.unreachable(&error)),
            }
        }
        Ok(())
    }

    /// Whether anything came.
    fn receive(&mut self) -> Result<bool> {
        for count in 0..AT_ONCE {
            match self.socket.try_receive(&mut self.buffer) {
                Ok((length, peer)) => self.take(peer, length)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(count > 0),
                Err(_) if self.group => {}
                Err(error) => return Err(self.unreachable(&error)),
            }
        }
        Ok(true)
    }

    /// Whether a datagram came while the thread waited for it, where one may be expected at once.
    fn wait_for_one(&mut self) -> Result<bool> {
        if !self.patience.expects_soon() || self.group || self.held.is_some() || self.endpoint.is_idle() {
            return Ok(false);
        }
        self.patience.waits();
        let received = self.socket.wait_for(&mut self.buffer);
        self.patience.waited(received.is_ok());
        match received {
            Ok(length) => self.take(self.peer, length).map(|()| true),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(false)
            }
            Err(error) => Err(self.unreachable(&error)),
        }
    }

    /// Takes what stands in the buffer.
    fn take(&mut self, peer: SocketAddr, length: usize) -> Result<()> {
        let bytes = &self.buffer[..length];
        match &mut self.secure {
            None => self.endpoint.receive(Instant::now(), peer, bytes),
            Some(secure) => {
                let taken = secure.receive(&mut self.endpoint, peer, bytes);
                for bytes in secure.take_last_words() {
                    let _ = self.socket.try_send(&bytes, self.peer);
                }
                taken?;
            }
        }
        Ok(())
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        for bytes in self.secure.iter_mut().flat_map(|secure| secure.close()) {
            // A goodbye that can't be said is left unsaid.
            let _ = self.socket.try_send(&bytes, self.peer);
        }
    }
}

async fn lookup(target: &Target, options: &ConnectOptions) -> Result<SocketAddr> {
    let failed = |why: String| Error::new(ErrorKind::CONNECT, format!("look up {}: {why}", target.host));
    let limit = options.net.timeout.connect_timeout.duration();
    let (host, zone) = match target.host.split_once('%') {
        Some((host, zone)) => (host, Some(interfaces::scope(zone).map_err(|error| failed(reason(&error)))?)),
        None => (target.host.as_str(), None),
    };
    // An address is no name: there is nothing to look up.
    let step = host.parse::<IpAddr>().is_err().then(|| Step::begin("name"));
    let found: Vec<SocketAddr> = tokio::time::timeout(limit, lookup_host((host, target.port)))
        .await
        .map_err(|_| failed("no answer in time".to_owned()).hint("give it more with --connect-timeout"))?
        .map_err(|error| failed(reason(&error)))?
        .collect();
    let mut peer = choose(&found).await.ok_or_else(|| failed("the name has no address".to_owned()))?;
    if let Some(step) = step {
        step.done(peer.ip());
    }
    if let (SocketAddr::V6(peer), Some(zone)) = (&mut peer, zone) {
        peer.set_scope_id(zone);
    }
    if !peer.ip().is_multicast() && options.interface.is_some() {
        return Err(Error::config(format!("--interface is for groups, and {peer} is not one")));
    }
    Ok(peer)
}

fn open(peer: SocketAddr, options: &ConnectOptions) -> io::Result<ClientSocket> {
    let socket = Socket::new(Domain::for_address(peer), Type::DGRAM, Some(Protocol::UDP))?;
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    socket.bind(&SocketAddr::new(any, 0).into())?;
    if peer.ip().is_multicast() {
        group(&socket, peer, options)?;
        return ClientSocket::new(socket, None);
    }
    socket.connect(&peer.into())?;
    ClientSocket::new(socket, Some(peer))
}

fn group(socket: &Socket, peer: SocketAddr, options: &ConnectOptions) -> io::Result<()> {
    let hops = u32::from(options.multicast_hops);
    match peer {
        SocketAddr::V4(_) => {
            socket.set_multicast_ttl_v4(hops)?;
            if let Some(interface) = &options.interface {
                match interface.parse::<Ipv4Addr>() {
                    Ok(address) => socket.set_multicast_if_v4(&address)?,
                    Err(_) => by_number(socket, interfaces::number(interface)?)?,
                }
            }
        }
        SocketAddr::V6(_) => {
            socket.set_multicast_hops_v6(hops)?;
            if let Some(interface) = &options.interface {
                socket.set_multicast_if_v6(interfaces::scope(interface)?)?;
            }
        }
    }
    Ok(())
}

/// IPv4 names an interface by its address, or by its number.
fn by_number(socket: &Socket, number: u32) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let request = libc::ip_mreqn {
        imr_multiaddr: libc::in_addr { s_addr: 0 },
        imr_address: libc::in_addr { s_addr: 0 },
        imr_ifindex: number as libc::c_int,
    };
    // SAFETY: the pointer and the length are those of the structure that IP_MULTICAST_IF takes, and it is only read.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MULTICAST_IF,
            (&raw const request).cast(),
            size_of::<libc::ip_mreqn>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The system's words without its number.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens there (ICMP port unreachable)".to_owned(),
        io::ErrorKind::HostUnreachable => "there is no way to the host (ICMP host unreachable)".to_owned(),
        io::ErrorKind::NetworkUnreachable => "there is no way to its network".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or_default().to_owned()
        }
    }
}
