//! Servers that are not what the client hopes for.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// A TCP server on 127.0.0.1 that misbehaves, until dropped.
#[derive(Debug)]
pub struct FaultyServer {
    port: u16,
    ended: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
}

impl FaultyServer {
    /// Answers the first bytes of each client with these, and then waits for the client to leave.
    pub fn answering(answer: &'static [u8]) -> FaultyServer {
        FaultyServer::start(move |mut client| {
            let mut buffer = [0; 4096];
            if client.read(&mut buffer).unwrap_or(0) > 0 && client.write_all(answer).is_ok() {
                while client.read(&mut buffer).unwrap_or(0) > 0 {}
            }
        })
    }

    /// Closes each connection at once.
    pub fn closing() -> FaultyServer {
        FaultyServer::start(|client| drop(client.shutdown(Shutdown::Both)))
    }

    /// Reads all and says nothing.
    pub fn silent() -> FaultyServer {
        FaultyServer::start(|mut client| {
            let mut buffer = [0; 4096];
            while client.read(&mut buffer).unwrap_or(0) > 0 {}
        })
    }

    fn start(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> FaultyServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound socket").port();
        let ended = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(AtomicUsize::new(0));
        let (stop, count) = (ended.clone(), connections.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
                let serve = serve.clone();
                thread::spawn(move || serve(client));
            }
        });
        FaultyServer { port, ended, connections }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections have come.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for FaultyServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts, which then sees that it is over.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}
