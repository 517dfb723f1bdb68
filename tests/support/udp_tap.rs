//! Between a client and a server of datagrams: hands everything on, and remembers what the client sent.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

/// A relay on a port of its own. It lives as long as the test program.
#[derive(Debug)]
pub struct UdpTap {
    port: u16,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl UdpTap {
    /// Hands on to this port of 127.0.0.1.
    pub fn to(server: u16) -> UdpTap {
        let front = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let port = front.local_addr().expect("a bound socket").port();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sent);
        std::thread::spawn(move || {
            let mut clients: HashMap<SocketAddr, UdpSocket> = HashMap::new();
            let mut buffer = vec![0; 65_535];
            while let Ok((length, client)) = front.recv_from(&mut buffer) {
                let datagram = buffer[..length].to_vec();
                let back = clients.entry(client).or_insert_with(|| answering(&front, client, server));
                // A server that is not there is the test's business.
                let _ = back.send(&datagram);
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(datagram);
            }
        });
        UdpTap { port, sent }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The client's datagrams so far.
    pub fn sent(&self) -> Vec<Vec<u8>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A socket to the server whose answers go to this client.
fn answering(front: &UdpSocket, client: SocketAddr, server: u16) -> UdpSocket {
    let back = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    back.connect(("127.0.0.1", server)).expect("an address of this machine");
    let (answers, front) = (back.try_clone().expect("a socket"), front.try_clone().expect("a socket"));
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_535];
        loop {
            // Refused: the server may come back.
            if let Ok(length) = answers.recv(&mut buffer) {
                let _ = front.send_to(&buffer[..length], client);
            }
        }
    });
    back
}
