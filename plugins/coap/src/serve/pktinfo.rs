//! Datagrams with the address that they came to, or are to leave from (IP_PKTINFO, RFC 3542 section 6).

use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use libc::{c_int, c_void};
use socket2::SockAddr;

/// Room for what comes beside a datagram, aligned as its headers must be.
#[repr(C, align(8))]
struct Control([u8; 128]);

/// Asks for the address with each datagram.
///
/// # Errors
/// Those of the system.
pub(super) fn ask_for(socket: &impl AsRawFd, of_v6: bool) -> io::Result<()> {
    let (level, option) = match of_v6 {
        true => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        false => (libc::IPPROTO_IP, libc::IP_PKTINFO),
    };
    let on: c_int = 1;
    // SAFETY: the pointer and the length are those of an integer, which the option takes, and it is only read.
    let result = unsafe {
        let length = size_of::<c_int>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The next datagram: its length, who sent it, and to which address.
///
/// # Errors
/// Those of the system; nothing is there (`WouldBlock`).
pub(super) fn receive(
    socket: &impl AsRawFd,
    buffer: &mut [u8],
) -> io::Result<(usize, SocketAddr, Option<IpAddr>)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0; 128]);
    // SAFETY: all zeros is a message without anything.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: what the message points to lives through the call, with the lengths given; the address is as long as is told.
    let (length, peer) = unsafe {
        SockAddr::try_init(|storage, length| {
            message.msg_name = storage.cast();
            message.msg_namelen = *length;
            let received = libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0);
            let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
            *length = message.msg_namelen;
            Ok(received)
        })
    }?;
    let peer = peer.as_socket().ok_or_else(|| io::Error::other("a datagram without a sender"))?;
    // SAFETY: the message is as the system has left it, and its control data still there.
    Ok((length, peer, unsafe { came_to(&message) }))
}

/// # Safety
/// The message's control data are there, and were written by the system.
unsafe fn came_to(message: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the macros stay within the control data; what a header announces follows it, aligned or not.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(known) = header.as_ref() {
            let data = libc::CMSG_DATA(header);
            match (known.cmsg_level, known.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    return Some(IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes()));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    return Some(IpAddr::from(info.ipi6_addr.s6_addr));
                }
                _ => header = libc::CMSG_NXTHDR(message, header),
            }
        }
        None
    }
}

/// Sends a datagram from this address of the machine's.
///
/// # Errors
/// Those of the system: it can't leave from there; the socket takes no more (`WouldBlock`).
pub(super) fn send(socket: &impl AsRawFd, bytes: &[u8], peer: SocketAddr, from: IpAddr) -> io::Result<usize> {
    match from {
        IpAddr::V4(from) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            send_with(socket, bytes, peer, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
        }
        IpAddr::V6(from) => {
            let info =
                libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: from.octets() }, ipi6_ifindex: 0 };
            send_with(socket, bytes, peer, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
        }
    }
}

fn send_with<T>(
    socket: &impl AsRawFd,
    bytes: &[u8],
    peer: SocketAddr,
    level: c_int,
    kind: c_int,
    info: T,
) -> io::Result<usize> {
    let peer = SockAddr::from(peer);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast::<c_void>().cast_mut(), iov_len: bytes.len() };
    let mut control = Control([0; 128]);
    // SAFETY: all zeros is a message without anything; what it then points to lives through the call, with the lengths
    // given, and is only read. The control data have room for a header and the information, which are at most 40 bytes.
    let sent = unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_name = peer.as_ptr().cast::<c_void>().cast_mut();
        message.msg_namelen = peer.len();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<T>() as _) as _;
        let header = &mut *libc::CMSG_FIRSTHDR(&raw const message);
        header.cmsg_level = level;
        header.cmsg_type = kind;
        header.cmsg_len = libc::CMSG_LEN(size_of::<T>() as _) as _;
        libc::CMSG_DATA(header).cast::<T>().write_unaligned(info);
        libc::sendmsg(socket.as_raw_fd(), &raw const message, 0)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    /// Every address of 127.0.0.0/8 is this machine.
    #[test]
    fn a_datagram_leaves_from_where_the_one_before_came_to() {
        for (bind, of_v6, to) in
            [("0.0.0.0:0", false, "127.0.0.3"), ("[::]:0", true, "127.0.0.3"), ("[::]:0", true, "::1")]
        {
            let server = UdpSocket::bind(bind).unwrap();
            ask_for(&server, of_v6).unwrap();
            let to: IpAddr = to.parse().unwrap();
            let client = UdpSocket::bind((if to.is_ipv4() { "127.0.0.1" } else { "::1" }, 0)).unwrap();
            client.send_to(b"hello", (to, server.local_addr().unwrap().port())).unwrap();
            let mut buffer = [0; 100];
            let (length, peer, came_to) = receive(&server, &mut buffer).unwrap();
            assert_eq!(
                (&buffer[..length], peer.port()),
                (&b"hello"[..], client.local_addr().unwrap().port())
            );
            let came_to = came_to.expect("it was asked for");
            assert_eq!(came_to.to_canonical(), to, "{bind}");
            send(&server, b"answer", peer, came_to).unwrap();
            let (length, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from.ip()), (&b"answer"[..], to), "{bind}");
        }
    }
}
