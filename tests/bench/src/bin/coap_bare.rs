//! coap-lite on bare UDP sockets and nothing else: what the plugin's client is held against, and what loads servers.
//!
//! `coap_bare get PORT PATH COUNT WINDOW` sends so many confirmable GETs, keeps WINDOW of them under way, and ends when all
//! are answered. `coap_bare observe PORT PATH COUNT ROUNDS` registers so many observers, changes the resource so often, and
//! waits each time until all were told. Both write what they measured as a JSON object.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Write};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType};
use serde_json::json;

type Failure = Box<dyn std::error::Error>;

/// What is not answered for so long is sent again: on loopback it was lost in a full buffer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Observers of one socket.
const OF_SOCKET: usize = 50;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let told = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["get", port, path, count, window] => get(port.parse()?, path, count.parse()?, window.parse()?)?,
        ["observe", port, path, count, rounds] => {
            observe(port.parse()?, path, count.parse()?, rounds.parse()?)?
        }
        _ => {
            return Err("usage: coap_bare get PORT PATH COUNT WINDOW | observe PORT PATH COUNT ROUNDS".into());
        }
    };
    writeln!(io::stdout(), "{told}")?;
    Ok(())
}

fn socket(port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn request(method: RequestType, path: &str, id: u16, token: u32) -> Packet {
    let mut packet = Packet::new();
    packet.header.set_type(MessageType::Confirmable);
    packet.header.code = MessageClass::Request(method);
    packet.header.message_id = id;
    packet.set_token(token.to_be_bytes().to_vec());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        packet.add_option(CoapOption::UriPath, segment.as_bytes().to_vec());
    }
    packet
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Result<Option<Packet>, Failure> {
    match socket.recv(buffer) {
        Ok(length) => Ok(Some(Packet::from_bytes(&buffer[..length]).map_err(|error| error.to_string())?)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn get(port: u16, path: &str, count: u32, window: usize) -> Result<serde_json::Value, Failure> {
    let socket = socket(port)?;
    let mut buffer = [0; 65_536];
    let mut waiting: HashMap<u32, Instant> = HashMap::with_capacity(window);
    let mut latencies = Vec::with_capacity(count as usize);
    let (mut next, mut again) = (0, 0_u32);
    let started = Instant::now();
    while latencies.len() < count as usize {
        while next < count && waiting.len() < window {
            waiting.insert(next, Instant::now());
            let packet = request(RequestType::Get, path, next as u16, next);
            socket.send(&packet.to_bytes().map_err(|error| error.to_string())?)?;
            next += 1;
        }
        let Some(answer) = receive(&socket, &mut buffer)? else {
            for token in waiting.keys() {
                let packet = request(RequestType::Get, path, *token as u16, *token);
                socket.send(&packet.to_bytes().map_err(|error| error.to_string())?)?;
                again += 1;
            }
            continue;
        };
        let Ok(token) = <[u8; 4]>::try_from(answer.get_token()) else { continue };
        if u8::from(answer.header.code) >> 5 != 2 {
            return Err(format!("the server answers {}", answer.header.get_code()).into());
        }
        if let Some(sent) = waiting.remove(&u32::from_be_bytes(token)) {
            latencies.push(sent.elapsed());
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize].as_nanos() as f64 / 1000.0;
    Ok(json!({
        "messages_per_second": f64::from(count) / seconds,
        "latency_us": { "p50": at(0.5), "p99": at(0.99) },
        "sent_again": again,
    }))
}

fn observe(port: u16, path: &str, count: usize, rounds: u32) -> Result<serde_json::Value, Failure> {
    let sockets: Vec<UdpSocket> =
        (0..count.div_ceil(OF_SOCKET)).map(|_| socket(port)).collect::<io::Result<_>>()?;
    let mut buffer = [0; 65_536];
    let started = Instant::now();
    for number in 0..count {
        let mut packet = request(RequestType::Get, path, number as u16, number as u32);
        packet.set_observe_value(0);
        ask(&sockets[number / OF_SOCKET], &packet, &mut buffer)?;
    }
    let registered = started.elapsed();
    let other = socket(port)?;
    for socket in &sockets {
        socket.set_nonblocking(true)?;
    }
    let mut seconds = Vec::new();
    for round in 0..rounds {
        let state = format!("state {round}");
        let mut put = request(RequestType::Put, path, round as u16, u32::MAX);
        put.payload = state.clone().into_bytes();
        let started = Instant::now();
        ask(&other, &put, &mut buffer)?;
        let mut told = vec![false; count];
        let mut left = count;
        while left > 0 {
            if started.elapsed() > Duration::from_secs(120) {
                return Err(format!("{left} observers were not told").into());
            }
            for socket in &sockets {
                while let Some(message) = receive(socket, &mut buffer)? {
                    if message.header.get_type() == MessageType::Confirmable {
                        let mut acknowledgement = Packet::new();
                        acknowledgement.header.set_type(MessageType::Acknowledgement);
                        acknowledgement.header.code = MessageClass::Empty;
                        acknowledgement.header.message_id = message.header.message_id;
                        socket.send(&acknowledgement.to_bytes().map_err(|error| error.to_string())?)?;
                    }
                    let Ok(token) = <[u8; 4]>::try_from(message.get_token()) else { continue };
                    let number = u32::from_be_bytes(token) as usize;
                    if message.payload == state.as_bytes() && !std::mem::replace(&mut told[number], true) {
                        left -= 1;
                    }
                }
            }
        }
        seconds.push(started.elapsed().as_secs_f64());
    }
    Ok(json!({ "registered_s": registered.as_secs_f64(), "told_s": seconds }))
}

/// Sends a request until it is answered.
fn ask(socket: &UdpSocket, packet: &Packet, buffer: &mut [u8]) -> Result<(), Failure> {
    for _ in 0..30 {
        socket.send(&packet.to_bytes().map_err(|error| error.to_string())?)?;
        while let Some(answer) = receive(socket, buffer)? {
            if answer.get_token() == packet.get_token() && u8::from(answer.header.code) != 0 {
                return Ok(());
            }
        }
    }
    Err("the server does not answer".into())
}
