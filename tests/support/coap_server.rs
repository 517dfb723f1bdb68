//! CoAP servers for tests of the client: those of aiocoap and libcoap, and one that answers what it is told to.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::ports::free_port;
use crate::process::{Cmd, Run};
use crate::wait::SHORT;
use crate::websocket::peer_script;

/// A running server that is not ours.
#[derive(Debug)]
pub struct CoapServer {
    run: Run,
    port: u16,
}

impl CoapServer {
    /// `tests/peers/coap_server.py`, on aiocoap.
    pub fn aiocoap() -> CoapServer {
        let run = Cmd::python().arg(peer_script("coap_server.py")).start();
        let line = run.wait_stdout("port ");
        let port = line.trim_start_matches("port ").trim().parse().expect("the server tells its port");
        CoapServer { run, port }
    }

    /// libcoap's example server, which has `/time`, `/async`, `/example_data` and whatever is put.
    pub fn libcoap(arguments: &[&str]) -> CoapServer {
        CoapServer::libcoap_with(&[&["-A", "127.0.0.1"], arguments].concat())
    }

    /// The same, on all addresses and in a group on the loopback interface.
    pub fn libcoap_of_group(group: Ipv4Addr) -> CoapServer {
        CoapServer::libcoap_with(&["-g", &group.to_string(), "-G", "lo"])
    }

    fn libcoap_with(arguments: &[&str]) -> CoapServer {
        let port = free_port();
        let command = Cmd::peer("coap-server-notls").args(["-d", "100", "-p"]);
        let run = command.arg(port.to_string()).args(arguments).start();
        let server = CoapServer { run, port };
        server.wait();
        server
    }

    /// Until it answers a ping: it says nothing when it is ready.
    fn wait(&self) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(("127.0.0.1", self.port)).expect("an address");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
        let until = std::time::Instant::now() + SHORT;
        let mut buffer = [0; 16];
        while socket.send(&[0x40, 0, 0, 1]).is_err() || socket.recv(&mut buffer).is_err() {
            assert!(std::time::Instant::now() < until, "coap-server does not answer: {}", self.run.stderr());
        }
    }

    /// `path` begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("coap://127.0.0.1:{}{path}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn run(&self) -> &Run {
        &self.run
    }
}

/// What a [`ScriptedCoap`] does with a datagram: the first is number 0.
pub type Script = dyn FnMut(&UdpSocket, SocketAddr, &[u8], usize) + Send;

/// A server by hand.
#[derive(Debug)]
pub struct ScriptedCoap {
    address: SocketAddr,
    seen: Receiver<Vec<u8>>,
}

impl ScriptedCoap {
    pub fn start(script: Box<Script>) -> ScriptedCoap {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("a bound socket");
        ScriptedCoap::run(socket, address, script)
    }

    /// One that hears what is sent to a group on the loopback interface.
    pub fn of_group(group: Ipv4Addr, script: Box<Script>) -> ScriptedCoap {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
        socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).expect("the loopback interface has multicast");
        let port = socket.local_addr().expect("a bound socket").port();
        ScriptedCoap::run(socket, (group, port).into(), script)
    }

    fn run(socket: UdpSocket, address: SocketAddr, mut script: Box<Script>) -> ScriptedCoap {
        let (told, seen) = channel();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            let mut count = 0;
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                // The test may be over.
                if told.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
                script(&socket, from, &buffer[..length], count);
                count += 1;
            }
        });
        ScriptedCoap { address, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("coap://{}{path}", self.address)
    }

    /// The next datagram that came.
    pub fn next(&self) -> Vec<u8> {
        self.seen.recv_timeout(SHORT).expect("the client sends something")
    }

    /// What has come and was not asked for with [`ScriptedCoap::next`].
    pub fn rest(&self) -> Vec<Vec<u8>> {
        self.seen.try_iter().collect()
    }
}

/// The answer to a request: its token, and its message id unless another is given. `rest` is options and payload as they
/// travel.
pub fn coap_answer(request: &[u8], kind: u8, code: u8, id: Option<u16>, rest: &[u8]) -> Vec<u8> {
    let length = usize::from(request[0] & 15);
    let id = id.map_or([request[2], request[3]], u16::to_be_bytes);
    let mut bytes = vec![0x40 | kind << 4 | request[0] & 15, code, id[0], id[1]];
    bytes.extend_from_slice(&request[4..4 + length]);
    bytes.extend_from_slice(rest);
    bytes
}
