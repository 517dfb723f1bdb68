//! Proxies to go through: HTTP CONNECT (RFC 9110, 9.3.6) and SOCKS5 (RFC 1928, with RFC 1929's user and password).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Which protocol a [`Relay`] speaks.
#[derive(Clone, Copy, Debug)]
pub enum RelayKind {
    Http,
    Socks5,
}

/// A proxy on 127.0.0.1 that demands the user `proxy-user` and the password `proxy-secret`, and remembers where it was asked to go.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    kind: RelayKind,
    ended: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    pub fn start(kind: RelayKind) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound socket").port();
        let ended = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (stop, heard) = (ended.clone(), asked.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let heard = heard.clone();
                thread::spawn(move || {
                    let opened = match kind {
                        RelayKind::Http => http(&client, &heard),
                        RelayKind::Socks5 => socks5(&client, &heard),
                    };
                    if let Ok(server) = opened {
                        join(&client, &server);
                    }
                });
            }
        });
        Relay { port, kind, ended, asked }
    }

    /// The proxy's URL with the user and password it wants.
    pub fn url(&self) -> String {
        self.url_with("proxy-secret")
    }

    pub fn url_with(&self, password: &str) -> String {
        let scheme = match self.kind {
            RelayKind::Http => "http",
            RelayKind::Socks5 => "socks5",
        };
        format!("{scheme}://proxy-user:{password}@127.0.0.1:{}", self.port)
    }

    /// The `HOST:PORT`s it was asked for by clients it let in.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts, which then sees that it is over.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn http(mut client: &TcpStream, heard: &Mutex<Vec<String>>) -> io::Result<TcpStream> {
    let mut reader = BufReader::new(client);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut allowed = false;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        // "proxy-user:proxy-secret" in base64.
        let (name, value) = header.trim_end().split_once(": ").unwrap_or_default();
        allowed |= name.eq_ignore_ascii_case("proxy-authorization")
            && value == "Basic cHJveHktdXNlcjpwcm94eS1zZWNyZXQ=";
        if header.trim_end().is_empty() {
            break;
        }
    }
    if !allowed {
        client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")?;
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let host = request.split(' ').nth(1).unwrap_or_default();
    let server = open(host, heard)?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    Ok(server)
}

fn socks5(client: &TcpStream, heard: &Mutex<Vec<String>>) -> io::Result<TcpStream> {
    let bytes = |count: usize| -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; count];
        { client }.read_exact(&mut buffer)?;
        Ok(buffer)
    };
    let methods = bytes(2)?[1];
    let methods = bytes(methods.into())?;
    if !methods.contains(&2) {
        { client }.write_all(&[5, 0xFF])?;
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    { client }.write_all(&[5, 2])?;
    let user = bytes(2)?[1];
    let user = bytes(user.into())?;
    let password = bytes(1)?[0];
    let password = bytes(password.into())?;
    let refused = user != b"proxy-user" || password != b"proxy-secret";
    { client }.write_all(&[1, u8::from(refused)])?;
    if refused {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let host = match bytes(4)?[3] {
        1 => {
            let address: [u8; 4] = bytes(4)?.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
            Ipv4Addr::from(address).to_string()
        }
        3 => {
            let length = bytes(1)?[0];
            String::from_utf8_lossy(&bytes(length.into())?).into_owned()
        }
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    let port = bytes(2)?;
    let server = open(&format!("{host}:{}", u16::from_be_bytes([port[0], port[1]])), heard)?;
    { client }.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0])?;
    Ok(server)
}

/// Nothing but this machine is ever connected to.
fn open(host: &str, heard: &Mutex<Vec<String>>) -> io::Result<TcpStream> {
    heard.lock().unwrap_or_else(PoisonError::into_inner).push(host.to_owned());
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    TcpStream::connect(("127.0.0.1", port.ok_or(io::ErrorKind::InvalidInput)?))
}

fn join(client: &TcpStream, server: &TcpStream) {
    thread::scope(|scope| {
        for (mut from, mut to) in [(client, server), (server, client)] {
            scope.spawn(move || {
                drop(io::copy(&mut from, &mut to));
                drop(to.shutdown(Shutdown::Write));
            });
        }
    });
}
