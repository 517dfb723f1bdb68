//! The server's socket of datagrams: answers leave from the address that was asked.
//!
//! A socket of one address does that by itself. From one of all addresses the system chooses by where an answer goes: who
//! has asked another one of the machine's addresses does not recognise it. So such a socket is told with each datagram which
//! address it came to (Linux; elsewhere the system chooses), and that is remembered for as many peers as may be known.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdSocket};

use tokio::io::Interest;
use tokio::net::UdpSocket;

#[cfg(target_os = "linux")]
use super::pktinfo;
use crate::endpoint::Transmit;

/// Peers whose address of ours is remembered: at least so many, and at most twice as many.
const PEERS: usize = 16_384;

pub struct ServerSocket {
    socket: UdpSocket,
    /// Only of a socket of all addresses.
    asked: Option<Asked>,
}

impl ServerSocket {
    /// # Errors
    /// Those of the system.
    pub fn new(socket: StdSocket) -> io::Result<ServerSocket> {
        let asked = Asked::of(&socket)?;
        Ok(ServerSocket { socket: UdpSocket::from_std(socket)?, asked })
    }

    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    pub async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// The next datagram.
    ///
    /// # Errors
    /// Nothing is there (`WouldBlock`), or one that was sent could not be delivered.
    pub fn try_receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        #[cfg(target_os = "linux")]
        if let Some(asked) = &mut self.asked {
            let socket = &self.socket;
            loop {
                let receive = || pktinfo::receive(socket, buffer);
                let (length, peer, came_to) = socket.try_io(Interest::READABLE, receive)?;
                // What came to a group comes by the group's own socket.
                if !came_to.is_some_and(|address| address.to_canonical().is_multicast()) {
                    asked.note(peer, came_to);
                    return Ok((length, peer));
                }
            }
        }
        self.socket.try_recv_from(buffer)
    }

    /// # Errors
    /// The socket takes no more (`WouldBlock`), or the system can't send it there.
    pub fn try_send(&mut self, transmit: &Transmit) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if let Some(from) = self.asked.as_mut().and_then(|asked| asked.by(transmit.peer)) {
            let send = || pktinfo::send(&self.socket, &transmit.bytes, transmit.peer, from);
            match self.socket.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    // A broadcast address, or one that is gone: as good as the system can.
                    log::debug!("sending from {from} to {}: {error}", transmit.peer);
                }
                sent => return sent.map(drop),
            }
        }
        self.socket.try_send_to(&transmit.bytes, transmit.peer).map(drop)
    }
}

/// Which address of ours a peer has asked last. What is old makes room: a map that is full becomes the older one of two.
#[derive(Default)]
struct Asked {
    newer: HashMap<SocketAddr, IpAddr>,
    older: HashMap<SocketAddr, IpAddr>,
}

impl Asked {
    /// `None`: the socket has one address alone, or the system does not tell.
    #[cfg(target_os = "linux")]
    fn of(socket: &StdSocket) -> io::Result<Option<Asked>> {
        let local = socket.local_addr()?;
        if !local.ip().is_unspecified() {
            return Ok(None);
        }
        pktinfo::ask_for(socket, local.is_ipv6())?;
        let options = socket2::SockRef::from(socket);
        // Groups that others have joined are no concern of ours.
        match local {
            SocketAddr::V4(_) => options.set_multicast_all_v4(false)?,
            SocketAddr::V6(_) => options.set_multicast_all_v6(false)?,
        }
        Ok(Some(Asked::default()))
    }

    #[cfg(not(target_os = "linux"))]
    fn of(_: &StdSocket) -> io::Result<Option<Asked>> {
        Ok(None)
    }

    fn note(&mut self, peer: SocketAddr, address: Option<IpAddr>) {
        let Some(address) = address else { return };
        if self.newer.len() >= PEERS && !self.newer.contains_key(&peer) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(peer, address);
    }

    fn by(&mut self, peer: SocketAddr) -> Option<IpAddr> {
        if let Some(address) = self.newer.get(&peer) {
            return Some(*address);
        }
        // Whoever is still talked to does not grow old.
        let address = self.older.remove(&peer)?;
        self.note(peer, Some(address));
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_talked_to_is_remembered() {
        let mut asked = Asked::default();
        let peer = |number: usize| SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 7));
        let ours: IpAddr = "127.0.0.1".parse().unwrap();
        for number in 0..10 * PEERS {
            asked.note(peer(number % 60_000), Some(ours));
            if number % 1000 == 0 {
                assert_eq!(asked.by(peer(0)), Some(ours), "{number}");
            }
        }
        assert!(asked.newer.len() + asked.older.len() <= 2 * PEERS);
        assert_eq!(asked.by(peer(60_001)), None);
    }
}
