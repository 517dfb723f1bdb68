//! The client's socket: without waiting, with the reactor, or with the thread.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;

use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::patience;

/// To be told by the reactor, and in blocking mode all the same: so it can be waited with either.
pub(super) struct ClientSocket {
    socket: AsyncFd<Socket>,
    /// The only one who sends and is sent to; `None` for a group.
    peer: Option<SocketAddr>,
}

impl ClientSocket {
    /// Of a socket that is connected to the peer, or bound where there is none.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn new(socket: Socket, peer: Option<SocketAddr>) -> io::Result<ClientSocket> {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(patience::LONGEST))?;
        // SAFETY: the socket is owned by what it becomes, which closes it when it is dropped and never gives it away.
        let registered = unsafe { AsyncFd::register(socket) };
        Ok(ClientSocket { socket: registered.map_err(|error| error.into_parts().1)?, peer })
    }

    /// # Errors
    /// The socket takes no more (`WouldBlock`), or the system can't send it there.
    pub(super) fn try_send(&self, bytes: &[u8], peer: SocketAddr) -> io::Result<usize> {
        self.socket.try_io(Interest::WRITABLE, |socket| match self.peer {
            Some(_) => socket.send_with_flags(bytes, libc::MSG_DONTWAIT),
            None => socket.send_to_with_flags(bytes, &peer.into(), libc::MSG_DONTWAIT),
        })
    }

    /// The next datagram that is there.
    ///
    /// # Errors
    /// There is none (`WouldBlock`), or one that was sent could not be delivered.
    pub(super) fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut receive = |socket: &Socket| match self.peer {
            Some(peer) => Ok((socket.recv_with_flags(uninitialised(buffer), libc::MSG_DONTWAIT)?, peer)),
            None => {
                let received = socket.recv_from_with_flags(uninitialised(buffer), libc::MSG_DONTWAIT);
                let (length, peer) = received?;
                let peer = peer.as_socket().ok_or_else(|| io::Error::other("a datagram without a sender"))?;
                Ok((length, peer))
            }
        };
        match self.socket.try_io(Interest::READABLE, &mut receive) {
            // An error (ICMP) without a datagram does not make a socket readable.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.socket.try_io(Interest::ERROR, receive)
            }
            received => received,
        }
    }

    /// Sends to the peer as soon as the socket takes it.
    ///
    /// # Errors
    /// The system can't send it there.
    pub(super) async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let send = |socket: &Socket| socket.send_with_flags(bytes, libc::MSG_DONTWAIT);
        self.socket.async_io(Interest::WRITABLE, send).await
    }

    /// The next datagram of the peer.
    ///
    /// # Errors
    /// One that was sent could not be delivered.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.try_receive(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready(false).await?,
                received => return received.map(|(length, _)| length),
            }
        }
    }

    /// The next datagram of the peer, for which the thread waits, but not for long.
    ///
    /// # Errors
    /// None came (`WouldBlock`), or one that was sent could not be delivered.
    pub(super) fn wait_for(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.get_ref().recv(uninitialised(buffer))
    }

    /// Until the reactor says that something may be there, or, if that is wanted, that something may be sent.
    ///
    /// # Errors
    /// The reactor is gone.
    pub(super) async fn ready(&self, to_send: bool) -> io::Result<()> {
        let comes = Interest::READABLE | Interest::ERROR;
        let interest = if to_send { comes | Interest::WRITABLE } else { comes };
        // What is left of it shows with the next try.
        self.socket.ready(interest).await.map(drop)
    }
}

/// As socket2 wants it.
fn uninitialised(buffer: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: the layout is the same, and socket2 promises not to write bytes that are not initialised.
    unsafe { &mut *(std::ptr::from_mut(buffer) as *mut [MaybeUninit<u8>]) }
}
