//! Where a server listens: `ADDR:PORT`, resolved and bound, with a remedy for each of the usual failures; and how it takes in
//! clients.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use tokio::net::TcpStream;

use super::error::{NetError, NetErrorKind};

/// Pause after a failed accept, which mostly means that file descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// The next client. Failures are logged, and pass.
pub async fn accept(listener: &tokio::net::TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                log::warn!("cannot take in a connection: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Resolves and binds; port 0 takes any free one. The listener is non-blocking, for tokio's `TcpListener::from_std`. The
/// standard library sets SO_REUSEADDR where that means "at once after a stop".
///
/// # Errors
/// [`NetErrorKind::Config`] for a text that is no address, [`NetErrorKind::Connect`] for one that can't be listened on.
pub fn listen(text: &str) -> Result<TcpListener, NetError> {
    let addresses = resolved(text)?;
    let bound = TcpListener::bind(&addresses[..]).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| refused(addresses[0], error))
}

/// The same for datagrams: the socket is non-blocking, for tokio's `UdpSocket::from_std`.
///
/// # Errors
/// As [`listen`].
pub fn listen_datagrams(text: &str) -> Result<UdpSocket, NetError> {
    let addresses = resolved(text)?;
    let bound = UdpSocket::bind(&addresses[..]).and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    bound.map_err(|error| refused(addresses[0], error))
}

/// At least one address.
fn resolved(text: &str) -> Result<Vec<SocketAddr>, NetError> {
    let fault = |reason: &str| {
        NetError::config(format!(
            "cannot use \"{text}\" as a listening address: {reason}; write ADDR:PORT, for instance 127.0.0.1:0 (port 0 \
             takes any free one)"
        ))
    };
    let addresses: Vec<SocketAddr> = match text.to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return Err(fault("the port is missing or is no number from 0 to 65535"));
        }
        Err(error) => return Err(fault(&error.to_string())),
    };
    if addresses.is_empty() {
        return Err(fault("the name stands for no address"));
    }
    Ok(addresses)
}

/// Turns a failed bind into words: the three usual causes each have their own remedy.
fn refused(address: SocketAddr, error: io::Error) -> NetError {
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the address is already in use by another program; stop that one or choose another port (0 takes any free one)"
        }
        io::ErrorKind::PermissionDenied => {
            "the system allows ports below 1024 to privileged users only; choose a port from 1024 up"
        }
        io::ErrorKind::AddrNotAvailable => {
            "no network interface of this machine has this address; use 127.0.0.1 for this machine only or 0.0.0.0 for all of its addresses"
        }
        _ => &error.to_string(),
    };
    NetError::new(NetErrorKind::Connect, format!("cannot listen on {address}: {reason}"))
        .permanent()
        .source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_of_datagrams() {
        let taken = listen_datagrams("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("an address").to_string();
        let error = listen_datagrams(&address).expect_err("in use").to_string();
        assert!(error.contains(&address) && error.contains("already in use"), "{error}");
    }

    #[test]
    fn what_cannot_be_listened_on_is_said_with_a_remedy() {
        let taken = listen("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("an address").to_string();
        let error = listen(&address).expect_err("in use").to_string();
        assert!(error.contains(&address) && error.contains("already in use"), "{error}");
        for (text, told) in [
            ("192.0.2.1:1883", "no network interface"),
            ("127.0.0.1", "ADDR:PORT"),
            ("127.0.0.1:name", "ADDR:PORT"),
            ("127.0.0.1:70000", "ADDR:PORT"),
            ("", "ADDR:PORT"),
        ] {
            let error = listen(text).expect_err(text).to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
