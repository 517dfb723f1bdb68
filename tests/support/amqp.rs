//! A Proton broker, and a server of AMQP 1.0 that sends what it is told to.

use crate::certificates::Identity;
use crate::ports::free_port;
use crate::process::{Cmd, Run};
use crate::websocket::peer_script;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// `tests/peers/proton_broker.py`: queues in memory, by Qpid Proton.
#[derive(Debug)]
pub struct ProtonBroker {
    run: Run,
    port: u16,
}

impl ProtonBroker {
    #[allow(clippy::new_without_default, reason = "it starts a server")]
    pub fn new() -> ProtonBroker {
        ProtonBroker::on(free_port())
    }

    /// With TLS, and for clients with a certificate of this authority alone when there is one.
    pub fn secure(identity: &Identity, client_ca: Option<&Path>) -> ProtonBroker {
        let port = free_port();
        let command = Cmd::python().arg(peer_script("proton_broker.py")).arg(port.to_string());
        let run = command.arg(&identity.cert).arg(&identity.key).args(client_ca).start();
        run.wait_stdout("listening");
        ProtonBroker { run, port }
    }

    /// For one that comes back.
    pub fn on(port: u16) -> ProtonBroker {
        let run = Cmd::python().arg(peer_script("proton_broker.py")).arg(port.to_string()).start();
        run.wait_stdout("listening");
        ProtonBroker { run, port }
    }

    pub fn url(&self, queue: &str) -> String {
        format!("amqp://127.0.0.1:{}/{queue}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it says.
    pub fn run(&self) -> &Run {
        &self.run
    }
}

/// What [`ScriptedAmqp`] answers to the transfers of a client, one after the other: encoded delivery states. After the last it
/// accepts.
pub type States = Arc<Vec<Vec<u8>>>;

/// What [`ScriptedAmqp`] does once a client reads from it.
pub type Script = Arc<dyn Fn(&mut TcpStream, ReadingLink) + Send + Sync>;

/// The link on which a client reads.
#[derive(Clone, Copy, Debug)]
pub struct ReadingLink {
    pub channel: u8,
    pub handle: u8,
}

/// A server that lets a client in by SASL ANONYMOUS, accepts its sessions and links, and then sends bytes that no library
/// would.
#[derive(Debug)]
pub struct ScriptedAmqp {
    port: u16,
    ended: Arc<AtomicBool>,
    links: Arc<AtomicUsize>,
}

impl ScriptedAmqp {
    /// `script` runs when a receiver has been attached, and given credit.
    pub fn start(script: Script) -> ScriptedAmqp {
        ScriptedAmqp::with(script, States::default())
    }

    /// Takes what a client sends, and answers so.
    pub fn answering(states: Vec<Vec<u8>>) -> ScriptedAmqp {
        ScriptedAmqp::with(Arc::new(|_, _| {}), States::new(states))
    }

    fn with(script: Script, states: States) -> ScriptedAmqp {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound socket").port();
        let (ended, links) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stop, count) = (ended.clone(), links.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (script, states, count) = (script.clone(), states.clone(), count.clone());
                // A client that leaves is the end of its thread.
                std::thread::spawn(move || drop(serve(client, &script, &states, &count)));
            }
        });
        ScriptedAmqp { port, ended, links }
    }

    pub fn url(&self, queue: &str) -> String {
        format!("amqp://127.0.0.1:{}/{queue}", self.port)
    }

    /// How many links for reading have been attached.
    pub fn links(&self) -> usize {
        self.links.load(Ordering::Relaxed)
    }
}

impl Drop for ScriptedAmqp {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts, which then sees that it is over.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl ReadingLink {
    /// A settled transfer whose message is these bytes.
    pub fn transfer(self, number: u8, message: &[u8]) -> Vec<u8> {
        let fields = [&[0x52, self.handle][..], &[0x52, number], &[0xa0, 1, number], &[0x43], &[0x41]];
        frame(self.channel, 0x14, &fields, message)
    }

    /// The end of the link, with an error: condition, text and information, all encoded.
    pub fn detach(self, condition: &str, text: &str, info: &[u8]) -> Vec<u8> {
        let error = list(&[&symbol(condition), &string(text), info]);
        let error = [&[0x00, 0x53, 0x1d][..], &error].concat();
        frame(self.channel, 0x16, &[&[0x52, self.handle], &[0x41], &error], &[])
    }
}

/// A message of one data section.
pub fn data(payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("short");
    [&[0x00, 0x53, 0x75, 0xa0, length][..], payload].concat()
}

/// A map of symbols to values, which come encoded.
pub fn fields(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let body: Vec<u8> =
        entries.iter().flat_map(|(name, value)| [symbol(name), value.clone()].concat()).collect();
    let size = u8::try_from(body.len() + 1).expect("short");
    [&[0xc1, size, u8::try_from(2 * entries.len()).expect("few")][..], &body].concat()
}

pub fn string(text: &str) -> Vec<u8> {
    [&[0xa1, u8::try_from(text.len()).expect("short")][..], text.as_bytes()].concat()
}

fn symbol(text: &str) -> Vec<u8> {
    [&[0xa3, u8::try_from(text.len()).expect("short")][..], text.as_bytes()].concat()
}

/// A list of encoded values, of less than 256 bytes.
fn list(values: &[&[u8]]) -> Vec<u8> {
    let body = values.concat();
    let size = u8::try_from(body.len() + 1).expect("short");
    [&[0xc0, size, u8::try_from(values.len()).expect("few")][..], &body].concat()
}

fn frame(channel: u8, code: u8, values: &[&[u8]], payload: &[u8]) -> Vec<u8> {
    let body = [&[0x00, 0x53, code][..], &list(values), payload].concat();
    let size = u32::try_from(8 + body.len()).expect("short");
    [&size.to_be_bytes()[..], &[2, 0, 0, channel], &body].concat()
}

/// A delivery that is rejected, with condition and text.
pub fn rejected(condition: &str, text: &str) -> Vec<u8> {
    let error = [&[0x00, 0x53, 0x1d][..], &list(&[&symbol(condition), &string(text)])].concat();
    [&[0x00, 0x53, 0x25][..], &list(&[&error])].concat()
}

fn serve(
    mut client: TcpStream,
    script: &Script,
    states: &States,
    links: &AtomicUsize,
) -> std::io::Result<()> {
    let mut header = [0; 8];
    client.read_exact(&mut header)?;
    // SASL: its header, the one mechanism, and yes to whatever comes.
    let mechanisms = [&[0x00, 0x53, 0x40][..], &list(&[&symbol("ANONYMOUS")])].concat();
    client.write_all(&[&b"AMQP\x03\x01\x00\x00"[..], &sasl(&mechanisms)].concat())?;
    read_frame(&mut client)?;
    client.write_all(&sasl(&[&[0x00, 0x53, 0x44][..], &list(&[&[0x50, 0]])].concat()))?;
    client.read_exact(&mut header)?;
    client.write_all(b"AMQP\x00\x01\x00\x00")?;
    let mut reading = None;
    let mut taken: u8 = 0;
    loop {
        let (channel, body) = read_frame(&mut client)?;
        match body.get(2) {
            Some(0x10) => client.write_all(&frame(0, 0x10, &[&string("scripted")], &[]))?,
            Some(0x11) => {
                let window = [&[0x60, 0, channel][..], &[0x43], &[0x70, 0, 0, 8, 0], &[0x70, 0, 0, 8, 0]];
                client.write_all(&frame(channel, 0x11, &window, &[]))?;
            }
            Some(0x12) => {
                let (name, handle, reads) = attach(&body);
                let role = if reads { 0x42 } else { 0x41 };
                let (source, target) = (&[0x00, 0x53, 0x28, 0x45][..], &[0x00, 0x53, 0x29, 0x45][..]);
                let values: [&[u8]; 10] = [
                    &string(&name),
                    &[0x52, handle],
                    &[role],
                    &[0x40],
                    &[0x40],
                    source,
                    target,
                    &[0x40],
                    &[0x40],
                    &[0x43],
                ];
                client.write_all(&frame(channel, 0x12, &values, &[]))?;
                reading = reads.then_some(ReadingLink { channel, handle });
                if !reads {
                    let window = [&[0x43][..], &[0x70, 0, 0, 8, 0], &[0x43], &[0x70, 0, 0, 8, 0]];
                    let credit = [&[0x52, handle][..], &[0x43], &[0x52, 200]];
                    let values: Vec<&[u8]> = window.into_iter().chain(credit).collect();
                    client.write_all(&frame(channel, 0x13, &values, &[]))?;
                }
            }
            Some(0x14) => {
                let state =
                    states.get(usize::from(taken)).cloned().unwrap_or_else(|| vec![0x00, 0x53, 0x24, 0x45]);
                let values: [&[u8]; 5] = [&[0x41], &[0x52, taken], &[0x40], &[0x41], &state];
                client.write_all(&frame(channel, 0x15, &values, &[]))?;
                taken += 1;
            }
            // Flow: there is credit now.
            Some(0x13) if reading.is_some() => {
                if let Some(link) = reading.take() {
                    links.fetch_add(1, Ordering::Relaxed);
                    script(&mut client, link);
                }
            }
            // Detach, end and close are answered in kind.
            Some(0x16) => client.write_all(&frame(channel, 0x16, &[&[0x52, 0], &[0x41]], &[]))?,
            Some(0x17) => client.write_all(&frame(channel, 0x17, &[], &[]))?,
            Some(0x18) => {
                client.write_all(&frame(0, 0x18, &[], &[]))?;
                return client.shutdown(Shutdown::Both);
            }
            _ => {}
        }
    }
}

fn sasl(body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(8 + body.len()).expect("short");
    [&size.to_be_bytes()[..], &[2, 1, 0, 0], body].concat()
}

fn read_frame(client: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 8];
    client.read_exact(&mut head)?;
    let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let mut body = vec![0; size.saturating_sub(8)];
    client.read_exact(&mut body)?;
    Ok((head[7], body))
}

/// Name, handle and whether the client reads, of an attach with the short encodings that every client uses.
fn attach(body: &[u8]) -> (String, u8, bool) {
    // The list's header has one or four bytes for size and count each.
    let mut at = if body[3] == 0xc0 { 6 } else { 12 };
    let length = usize::from(body[at + 1]);
    let name = String::from_utf8_lossy(&body[at + 2..at + 2 + length]).into_owned();
    at += 2 + length;
    let (handle, width) = match body[at] {
        0x43 => (0, 1),
        0x52 => (body[at + 1], 2),
        _ => (body[at + 4], 5),
    };
    (name, handle, body[at + width] == 0x41)
}
