//! Groups of servers, which are asked all at once (RFC 7252 section 8): 224.0.1.187, ff02::fd and ff05::fd are All CoAP
//! Nodes.
//!
//! Each group has a socket of its own, bound to the group's address: so it is certain that what comes by it went to the
//! group, several servers on one machine hear it all, and a server bound to one address hears of nothing else. Answers leave
//! by the server's own socket, from its own address.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::str::FromStr;
use std::time::Duration;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::spawn;

use super::interfaces::{Interface, all};
use crate::interfaces::scope;

/// Datagrams that wait to be looked at; what is beyond is lost, as in any full buffer.
const WAITING: usize = 256;
const LONGEST: usize = 65_535;
/// A socket that fails is not tried again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// A group to be listened to: `224.0.1.187`, `ff02::fd%eth0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    address: IpAddr,
    /// By name or number; else all that fit the server's address.
    interface: Option<String>,
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Group, String> {
        let (address, interface) = match text.split_once('%') {
            Some((address, interface)) => (address, Some(interface.to_owned())),
            None => (text, None),
        };
        let wrong = || {
            format!("{text:?} is no group: write its address, like 224.0.1.187, ff05::fd or ff02::fd%eth0")
        };
        let address: IpAddr = address.trim_matches(['[', ']']).parse().map_err(|_| wrong())?;
        match address.is_multicast() {
            true => Ok(Group { address, interface }),
            false => Err(wrong()),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interface = self.interface.as_ref().map(|interface| format!("%{interface}")).unwrap_or_default();
        match self.address {
            IpAddr::V4(address) => write!(f, "{address}{interface}"),
            IpAddr::V6(address) => write!(f, "[{address}{interface}]"),
        }
    }
}

/// A datagram that came to a group, and from whom.
pub type ToGroup = (SocketAddr, Vec<u8>);

/// The sockets of groups, before anything is read from them.
pub struct Groups {
    sockets: Vec<StdSocket>,
    /// The server's socket knows IPv4 as a part of IPv6.
    mapped: bool,
}

impl Groups {
    /// Joins the groups, with the port that the server's own socket has.
    ///
    /// # Errors
    /// A group that can't be joined, or whose members the server could not answer.
    pub fn join(groups: &[Group], server: &StdSocket) -> Result<Groups> {
        let cannot = |error: io::Error| Error::new(ErrorKind::CONNECT, format!("--join-group: {error}"));
        let local = server.local_addr().map_err(cannot)?;
        let mut sockets = Vec::new();
        if !groups.is_empty() {
            // A socket of all addresses lets in others on its port only if it says so as well. Only now, when it has the
            // port: another server on it is still found out.
            SockRef::from(server).set_reuse_address(true).map_err(cannot)?;
        }
        for group in groups {
            let failed = |why: String| Error::new(ErrorKind::CONNECT, format!("--join-group {group}: {why}"));
            let both = local.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            if group.address.is_ipv4() != local.is_ipv4() && !both {
                let wanted = if group.address.is_ipv4() { "0.0.0.0" } else { "[::]" };
                return Err(failed(format!("the server's address {} is of the other kind", local.ip()))
                    .hint(format!("--bind {wanted}:{} fits", local.port())));
            }
            sockets.extend(group.open(local).map_err(|error| failed(error.to_string()))?);
        }
        Ok(Groups { sockets, mapped: local.is_ipv6() })
    }

    /// What comes to the groups, until the receiver is gone.
    ///
    /// # Errors
    /// Those of the system.
    pub fn listen(self) -> io::Result<Option<mpsc::Receiver<ToGroup>>> {
        if self.sockets.is_empty() {
            return Ok(None);
        }
        let (sender, receiver) = mpsc::channel(WAITING);
        for socket in self.sockets {
            spawn(listen(UdpSocket::from_std(socket)?, self.mapped, sender.clone()));
        }
        Ok(Some(receiver))
    }
}

impl Group {
    /// A socket for each interface where the address alone does not say which (RFC 4291 section 2.7), else one.
    fn open(&self, local: SocketAddr) -> io::Result<Vec<StdSocket>> {
        let numbers = self.interfaces(local)?;
        let nowhere = || io::Error::other("no network interface of this machine fits the server's address");
        match self.address {
            IpAddr::V6(address) if matches!(address.octets()[1] & 0x0f, 1 | 2) => {
                let joined = numbers.iter().map(|number| self.socket(local.port(), *number, &[*number]));
                some_of(joined.collect(), nowhere)
            }
            _ => self.socket(local.port(), 0, &numbers).map(|socket| vec![socket]),
        }
    }

    /// The numbers of the interfaces on which the group is joined.
    fn interfaces(&self, local: SocketAddr) -> io::Result<Vec<u32>> {
        if let Some(interface) = &self.interface {
            return Ok(vec![scope(interface)?]);
        }
        let fits = |interface: &Interface| match local.ip() {
            any if any.is_unspecified() => interface.address.is_ipv4() == self.address.is_ipv4(),
            IpAddr::V4(one) if one.is_loopback() => interface.address.is_loopback(),
            one => interface.address == one,
        };
        let mut numbers: Vec<u32> =
            all()?.iter().filter(|interface| fits(interface)).map(|interface| interface.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    fn socket(&self, port: u16, scope: u32, numbers: &[u32]) -> io::Result<StdSocket> {
        let mut bind = SocketAddr::new(self.address, port);
        let socket = Socket::new(Domain::for_address(bind), Type::DGRAM, Some(Protocol::UDP))?;
        // Other servers of this machine may be in the group as well.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        if let SocketAddr::V6(bind) = &mut bind {
            bind.set_scope_id(scope);
            socket.set_only_v6(true)?;
        }
        socket.bind(&bind.into())?;
        let join = |number: &u32| match self.address {
            IpAddr::V4(group) => socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(*number)),
            IpAddr::V6(group) => socket.join_multicast_v6(&group, *number),
        };
        #[cfg(target_os = "linux")]
        match self.address {
            IpAddr::V4(_) => socket.set_multicast_all_v4(false)?,
            IpAddr::V6(_) => socket.set_multicast_all_v6(false)?,
        }
        let nowhere = || io::Error::other("no network interface of this machine fits the server's address");
        some_of(numbers.iter().map(join).collect(), nowhere)?;
        Ok(socket.into())
    }
}

/// What succeeded. An interface that takes no part is told of, and no reason to fail while there is another.
fn some_of<T>(tried: Vec<io::Result<T>>, nowhere: impl FnOnce() -> io::Error) -> io::Result<Vec<T>> {
    let (mut done, mut failed) = (Vec::new(), None);
    for result in tried {
        match result {
            Ok(result) => done.push(result),
            Err(error) => {
                log::debug!("joining a group on one of the interfaces: {error}");
                failed = Some(error);
            }
        }
    }
    if done.is_empty() { Err(failed.unwrap_or_else(nowhere)) } else { Ok(done) }
}

async fn listen(socket: UdpSocket, mapped: bool, sender: mpsc::Sender<ToGroup>) {
    let mut buffer = vec![0; LONGEST];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = sender.closed() => return,
        };
        match received {
            // With no room for it, it is lost.
            Ok((length, peer)) => drop(sender.try_send((known_as(peer, mapped), buffer[..length].to_vec()))),
            Err(error) => {
                log::debug!("receiving from a group: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

/// A peer's address as the server's socket has it.
fn known_as(peer: SocketAddr, mapped: bool) -> SocketAddr {
    match peer.ip() {
        IpAddr::V4(address) if mapped => SocketAddr::new(address.to_ipv6_mapped().into(), peer.port()),
        _ => peer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_as_they_are_written() {
        for (text, shown) in [
            ("224.0.1.187", "224.0.1.187"),
            ("ff02::fd%eth0", "[ff02::fd%eth0]"),
            ("[ff05::fd]", "[ff05::fd]"),
        ] {
            assert_eq!(text.parse::<Group>().unwrap().to_string(), shown);
        }
        for text in ["", "127.0.0.1", "localhost", "224.0.1", "::1", "224.0.1.187:5683"] {
            assert!(text.parse::<Group>().unwrap_err().contains("ff02::fd%eth0"), "{text}");
        }
    }

    #[tokio::test]
    async fn every_server_of_the_machine_hears_it() {
        let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let one = StdSocket::bind(local).unwrap();
        let port = one.local_addr().unwrap().port();
        let other = StdSocket::bind(("127.0.0.2", port)).unwrap();
        let group: Group = "224.0.1.187%lo".parse().unwrap();
        let join =
            |server| Groups::join(std::slice::from_ref(&group), server).unwrap().listen().unwrap().unwrap();
        let mut servers = [join(&one), join(&other)];
        let client = Socket::from(StdSocket::bind(local).unwrap());
        client.set_multicast_if_v4(&std::net::Ipv4Addr::LOCALHOST).unwrap();
        client.send_to(b"hello", &SocketAddr::from(([224, 0, 1, 187], port)).into()).unwrap();
        let from = client.local_addr().unwrap().as_socket().unwrap();
        for server in &mut servers {
            let heard = tokio::time::timeout(Duration::from_secs(20), server.recv()).await.unwrap().unwrap();
            assert_eq!(heard, (from, b"hello".to_vec()));
        }
        let other = Groups::join(&["ff05::fd".parse().unwrap()], &one).err().unwrap().to_string();
        assert!(other.contains("--join-group") && other.contains("other kind"), "{other}");
    }
}
