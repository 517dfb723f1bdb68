//! A proxy that cuts every connection after a few kilobytes, in the middle of a packet: what a bad mobile network does.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread;

/// Bytes after which a connection is cut, both ways counted together: random between these.
const LEAST: u64 = 2_000;
const MOST: u64 = 122_000;

/// Listens on 127.0.0.1 and forwards to a port there, until dropped.
#[derive(Debug)]
pub struct CuttingProxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: u16,
    random: AtomicU64,
    cuts: AtomicU64,
    ended: AtomicBool,
}

impl CuttingProxy {
    /// The same seed gives the same cuts, as far as the timing allows.
    pub fn start(upstream: u16, seed: u64) -> CuttingProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound socket").port();
        let shared = Arc::new(Shared {
            upstream,
            random: AtomicU64::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            cuts: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.ended.load(Ordering::Relaxed) {
                    return;
                }
                accepting.forward(client);
            }
        });
        CuttingProxy { port, shared }
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections have been cut.
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::Relaxed)
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts, which then sees that it is over.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Shared {
    fn forward(self: &Arc<Shared>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.upstream)) else {
            return;
        };
        drop(client.set_nodelay(true));
        drop(server.set_nodelay(true));
        let budget = Arc::new(AtomicI64::new(self.next_budget()));
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else {
                return;
            };
            let (shared, budget) = (self.clone(), budget.clone());
            thread::spawn(move || shared.pump(from, to, &budget));
        }
    }

    /// Copies until one side ends or the budget of both directions is used up, in mid-packet.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream, budget: &AtomicI64) {
        let mut buffer = [0; 4096];
        loop {
            let count = from.read(&mut buffer).unwrap_or(0);
            let length = i64::try_from(count).expect("4096 fits");
            let left = budget.fetch_sub(length, Ordering::Relaxed);
            let allowed = usize::try_from(left.clamp(0, length)).expect("not negative");
            let wrote = to.write_all(&buffer[..allowed]).is_ok();
            if left > 0 && left <= length {
                self.cuts.fetch_add(1, Ordering::Relaxed);
            }
            if count == 0 || !wrote || allowed < count {
                drop(from.shutdown(Shutdown::Both));
                drop(to.shutdown(Shutdown::Both));
                return;
            }
        }
    }

    /// xorshift64.
    fn next_budget(&self) -> i64 {
        let mut x = self.random.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.store(x, Ordering::Relaxed);
        i64::try_from(LEAST + x % (MOST - LEAST)).expect("a small number")
    }
}
