//! Name lookup and TCP connect.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpStream, lookup_host};

use super::dial::{Peer, Progress, Step};
use super::error::{NetError, NetErrorKind};
use crate::sdk;

/// Addresses tried of one name. Enough for any cluster behind a name, few enough to bound the sockets.
const MOST_ADDRESSES: usize = 16;

/// How long an address may stay silent before the next one is tried beside it (RFC 8305 section 5 recommends 250 ms).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// Connects to the first address of the host that answers. The caller bounds the time.
pub(super) async fn connect(peer: Peer<'_>, progress: &Progress) -> Result<TcpStream, NetError> {
    if peer.host.is_empty() {
        return Err(NetError::config("there is no host to connect to"));
    }
    progress.at(Step::Name);
    // An address is no name: there is nothing to look up.
    let told = peer.host.parse::<IpAddr>().is_err().then(|| sdk::Step::begin("name"));
    let mut addresses: Vec<SocketAddr> =
        lookup_host((peer.host, peer.port)).await.map_err(|e| name_error(peer, e))?.collect();
    addresses.dedup();
    addresses.truncate(MOST_ADDRESSES);
    if let Some(told) = told {
        let addresses: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
        told.done(addresses.join(", "));
    }
    progress.at(Step::Connect);
    let told = sdk::Step::begin("tcp");
    let stream = first_to_answer(addresses).await.map_err(|failures| connect_error(peer, failures))?;
    told.done(stream.peer_addr().map(|address| address.to_string()).unwrap_or_default());
    // Small packets matter more than full ones to every protocol here. A socket that can't is as good.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Tries the addresses in order: the next one as soon as one fails, or beside it when it stays silent, so that a dead IPv6
/// route costs a quarter of a second and not the whole time-out.
async fn first_to_answer(addresses: Vec<SocketAddr>) -> Result<TcpStream, Vec<(SocketAddr, io::Error)>> {
    let mut failures = Vec::new();
    let mut waiting = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    loop {
        if let Some(address) = waiting.next() {
            running.push(async move { (address, TcpStream::connect(address).await) });
        }
        tokio::select! {
            outcome = running.next() => match outcome {
                Some((_, Ok(stream))) => return Ok(stream),
                Some((address, Err(e))) => failures.push((address, e)),
                None => return Err(failures),
            },
            () = tokio::time::sleep(NEXT_ADDRESS_AFTER), if waiting.len() > 0 => {}
        }
    }
}

fn name_error(peer: Peer<'_>, error: io::Error) -> NetError {
    let text = error.to_string();
    let reason = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    NetError::new(NetErrorKind::Name, format!("cannot find the host {:?}: {reason}", peer.host))
        .hint("check the spelling of the host name and that its DNS server can be reached")
        .source(error)
}

fn connect_error(peer: Peer<'_>, mut failures: Vec<(SocketAddr, io::Error)>) -> NetError {
    let refused = failures.iter().position(|(_, e)| e.kind() == io::ErrorKind::ConnectionRefused);
    let first = failures.first().map(|(_, e)| reason(e)).unwrap_or_else(|| "the name has no address".into());
    let same = failures.iter().all(|(_, e)| reason(e) == first);
    let why = if same {
        first
    } else {
        let each = failures.iter().take(4).map(|(a, e)| format!("{}: {}", a.ip(), reason(e)));
        each.collect::<Vec<_>>().join("; ")
    };
    let mut error = NetError::new(NetErrorKind::Connect, format!("cannot connect to {peer}: {why}"));
    error = match refused {
        Some(_) => error.hint(format!("nothing listens on port {} there: is the server running?", peer.port)),
        None => error.hint("check the network, the host and the port; a firewall may want --proxy"),
    };
    // The source is the failure the hint speaks of.
    match failures.is_empty() {
        true => error,
        false => error.source(failures.swap_remove(refused.unwrap_or(0)).1),
    }
}

/// The reason alone, without the number that [`io::Error`] puts after it.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::ConnectionReset => "connection reset".into(),
        io::ErrorKind::ConnectionAborted => "connection aborted".into(),
        io::ErrorKind::HostUnreachable => "host unreachable".into(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".into(),
        io::ErrorKind::TimedOut => "no answer".into(),
        io::ErrorKind::UnexpectedEof => "connection closed".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_address_that_refuses_is_passed_over_and_all_that_refuse_are_told() {
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (open_at, closed_at) = (open.local_addr().unwrap(), closed.local_addr().unwrap());
        drop(closed);
        let stream = first_to_answer(vec![closed_at, closed_at, open_at]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open_at);
        let failures = first_to_answer(vec![closed_at, closed_at]).await.unwrap_err();
        assert_eq!(failures.len(), 2);
        assert!(first_to_answer(Vec::new()).await.is_err_and(|f| f.is_empty()));
    }

    #[test]
    fn different_reasons_are_each_told_and_the_hint_is_about_the_refusal() {
        let peer = Peer::new("both.example", 1883);
        let failures = |kinds: [io::ErrorKind; 2]| {
            let addresses = ["[::1]:1883", "127.0.0.1:1883"].map(|a| a.parse().unwrap());
            addresses.into_iter().zip(kinds.map(io::Error::from)).collect()
        };
        use io::ErrorKind::{ConnectionRefused, NetworkUnreachable};
        let error = connect_error(peer, failures([NetworkUnreachable, ConnectionRefused]));
        let want =
            "cannot connect to both.example:1883: ::1: network unreachable; 127.0.0.1: connection refused";
        assert_eq!(error.message, want);
        assert!(error.hint.unwrap().contains("nothing listens on port 1883"));
        let error = connect_error(peer, failures([NetworkUnreachable, NetworkUnreachable]));
        assert_eq!(error.message, "cannot connect to both.example:1883: network unreachable");
        let error = connect_error(peer, Vec::new());
        assert_eq!(error.message, "cannot connect to both.example:1883: the name has no address");
    }
}
