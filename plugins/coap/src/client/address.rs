//! Which of a name's addresses to talk to.
//!
//! A datagram's socket connects to anything: that a server listens on the one address of `localhost` and not on the other
//! would show with the first request alone. So where there is a choice, each address gets a CoAP ping; one that the system
//! tells nobody listens at (ICMP) is passed over. One that says nothing is as good as one that answers.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UdpSocket;

/// An empty confirmable message (RFC 7252 section 4.3).
pub(super) const PING: [u8; 4] = [0x40, 0, 0, 0];
/// Long enough for the own machine and a local network, short enough not to be noticed.
const PATIENCE: Duration = Duration::from_millis(150);

/// The first address at which somebody may listen, else the first.
pub(super) async fn choose(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let (first, rest) = addresses.split_first()?;
    if rest.is_empty() || first.ip().is_multicast() {
        return Some(*first);
    }
    for address in addresses {
        if may_listen(*address).await {
            return Some(*address);
        }
        log::debug!("nobody listens at {address}");
    }
    Some(*first)
}

async fn may_listen(address: SocketAddr) -> bool {
    let mut buffer = [0; 64];
    let probe = async {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(address).await?;
        socket.send(&PING).await?;
        // An error alone does not make a socket readable.
        tokio::select! {
            received = socket.recv(&mut buffer) => received.map(drop),
            ready = socket.ready(Interest::ERROR) => {
                ready?;
                socket.take_error()?.map_or(Ok(()), Err)
            }
        }
    };
    match tokio::time::timeout(PATIENCE, probe).await {
        Ok(answered) => answered.is_ok(),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_where_nobody_listens_is_passed_over() {
        let bind = || async { UdpSocket::bind("127.0.0.1:0").await.unwrap() };
        let (silent, closed) = (bind().await, bind().await);
        let (silent_at, closed_at) = (silent.local_addr().unwrap(), closed.local_addr().unwrap());
        drop(closed);
        assert_eq!(choose(&[closed_at, silent_at]).await, Some(silent_at));
        assert_eq!(choose(&[silent_at, closed_at]).await, Some(silent_at));
        assert_eq!(choose(&[closed_at]).await, Some(closed_at), "there is no choice");
        assert_eq!(choose(&[]).await, None);
    }
}
