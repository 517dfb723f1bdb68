//! libcoap's programs (Debian libcoap3-bin): a server and a client, built on OpenSSL and on GnuTLS.

use crate::process::{Cmd, Run};
use crate::wait::{SHORT, until};
use std::net::UdpSocket;
use std::time::Duration;

/// The two TLS libraries that Debian builds libcoap with.
pub const LIBCOAP: [&str; 2] = ["openssl", "gnutls"];

/// A running `coap-server`. It has the resources `/`, `/time`, `/async` and `/example_data`, and takes more by PUT.
#[derive(Debug)]
pub struct LibcoapServer {
    run: Run,
    port: u16,
}

impl LibcoapServer {
    /// `library` is one of [`LIBCOAP`]; `arguments` are those of `coap-server`.
    pub fn start(library: &str, arguments: &[&str]) -> LibcoapServer {
        let port = free_pair();
        let run = Cmd::peer(&format!("coap-server-{library}"))
            .args(["-A", "127.0.0.1", "-d", "100", "-p", &port.to_string(), "-v", "6"])
            .args(arguments)
            .start();
        wait_for_coap(port);
        LibcoapServer { run, port }
    }

    /// Of coap and coap+tcp. That of coaps and coaps+tcp is the next one.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self, scheme: &str) -> String {
        let port = if scheme.starts_with("coaps") { self.port + 1 } else { self.port };
        format!("{scheme}://127.0.0.1:{port}")
    }

    /// What it says.
    pub fn run(&self) -> &Run {
        &self.run
    }
}

/// `coap-client`, which writes the answer's payload to standard output.
pub fn libcoap_client(library: &str) -> Cmd {
    Cmd::peer(&format!("coap-client-{library}")).args(["-B", "15", "-w"])
}

/// Two ports in a row that are free for UDP and TCP, both of them given to nobody else.
fn free_pair() -> u16 {
    let is_free = |port: u16| UdpSocket::bind(("127.0.0.1", port)).is_ok();
    let mut port = crate::free_port();
    for _ in 0..1000 {
        let next = crate::free_port();
        if next == port + 1 && is_free(port) && is_free(next) {
            return port;
        }
        port = next;
    }
    panic!("there are no two free ports in a row");
}

/// Pings (an empty confirmable message) until there is an answer.
pub fn wait_for_coap(port: u16) {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a free port");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
    let answered = until(SHORT, || {
        // Whoever is not there yet refuses, or says nothing.
        let _ = socket.send_to(&[0x40, 0, 0x12, 0x34], ("127.0.0.1", port));
        let mut buffer = [0; 16];
        matches!(socket.recv(&mut buffer), Ok(4)).then_some(())
    });
    assert!(answered.is_some(), "nobody answers a CoAP ping on port {port}");
}
