//! Serving over UDP: moves datagrams between a socket and [`Secured`].
//!
//! A wake-up serves all that is there, and each answer leaves before the next request is read. While the socket takes no
//! more, nothing is read: what the kernel can't keep is lost, as it would be anyway.

use std::io;
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio::task::yield_now;
use tokio::time::sleep_until;

use super::groups::ToGroup;
use super::secure::Secured;
use super::socket::ServerSocket;
use crate::endpoint::Transmit;

/// Datagrams that are dealt with before it is looked at what else is to be done.
const READ: usize = 64;
/// The longest there is.
const LONGEST: usize = 65_535;

/// Serves until it is told to stop.
pub async fn run(
    mut socket: ServerSocket,
    mut groups: Option<mpsc::Receiver<ToGroup>>,
    mut datagrams: Secured,
    mut stopping: watch::Receiver<bool>,
) {
    let wake = datagrams.wake();
    let mut buffer = vec![0; LONGEST];
    let mut unsent: Option<Transmit> = None;
    loop {
        send(&mut socket, &mut datagrams, &mut unsent);
        let due = datagrams.next_timeout();
        let alarm = async {
            match due {
                Some(due) => sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        let to_group = async {
            match &mut groups {
                Some(groups) => groups.recv().await,
                None => std::future::pending().await,
            }
        };
        let blocked = unsent.is_some();
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => break,
            _ = socket.writable(), if blocked => {}
            _ = socket.readable(), if !blocked => {
                receive(&mut socket, &mut datagrams, &mut buffer, &mut unsent);
            }
            Some((peer, bytes)) = to_group, if !blocked => {
                datagrams.receive_of_group(Instant::now(), peer, &bytes);
            }
            () = wake.notified() => {}
            () = alarm => {}
            () = yield_now(), if !blocked && datagrams.has_notices() => {}
        }
        datagrams.handle_timeout(Instant::now());
    }
    datagrams.close();
    // What the socket does not take at once is left unsaid.
    send(&mut socket, &mut datagrams, &mut unsent);
}

fn receive(
    socket: &mut ServerSocket,
    datagrams: &mut Secured,
    buffer: &mut [u8],
    unsent: &mut Option<Transmit>,
) {
    let now = Instant::now();
    for _ in 0..READ {
        match socket.try_receive(buffer) {
            Ok((length, peer)) => {
                datagrams.receive(now, peer, &buffer[..length]);
                send(socket, datagrams, unsent);
                if unsent.is_some() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // An answer of before could not be delivered (ICMP): whoever waits for it asks again.
            Err(error) => log::debug!("receiving: {error}"),
        }
    }
}

/// Sends what there is; what the socket does not take now stays.
fn send(socket: &mut ServerSocket, datagrams: &mut Secured, unsent: &mut Option<Transmit>) {
    while let Some(transmit) = unsent.take().or_else(|| datagrams.poll_transmit()) {
        match socket.try_send(&transmit) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                *unsent = Some(transmit);
                return;
            }
            // Lost, as on the way: no route, or too long for it.
            Err(error) => log::debug!("sending to {}: {error}", transmit.peer),
        }
    }
}
