//! Sources of messages that cost next to nothing, so that the reader is what is measured.

use crate::packet::{
    self, CONNACK, CONNECT_TYPE, PINGREQ_TYPE, PINGRESP, PUBACK_TYPE, PUBLISH, Packet, SUBACK, SUBSCRIBE_TYPE,
};
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

/// Messages that are written at once.
const BLOCK: u64 = 512;

/// A broker for one kind of client: it takes any CONNECT, answers the first SUBSCRIBE, and then sends messages of QoS 0, all
/// encoded beforehand, as fast as the client takes them.
#[derive(Debug)]
pub struct Feeder {
    port: u16,
    ended: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
}

impl Feeder {
    /// Each client gets `count` messages with a payload of `size` bytes.
    pub fn start(count: u64, size: usize) -> Feeder {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound socket").port();
        let ended = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let (stop, counter) = (ended.clone(), sent.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let counter = counter.clone();
                // A client that leaves in the middle is not this one's concern.
                thread::spawn(move || drop(feed(&client, count, size, &counter)));
            }
        });
        Feeder { port, ended, sent }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// How many messages the system has taken from the feeder so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts, which then sees that it is over.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn feed(client: &TcpStream, count: u64, size: usize, sent: &AtomicU64) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client.try_clone()?);
    let mut writer = client.try_clone()?;
    let Some(connect) = Packet::read(&mut reader)?.filter(|packet| packet.kind() == CONNECT_TYPE) else {
        return Ok(());
    };
    // The protocol's name is a text, and its level the byte after it.
    let name = usize::from(u16::from_be_bytes([connect.body[0], connect.body[1]]));
    let properties: &[u8] = if connect.body[2 + name] == 5 { &[0] } else { &[] };
    let mut answer = Vec::new();
    packet::write(&mut answer, CONNACK, &[&[0, 0], properties]);
    writer.write_all(&answer)?;

    let (ping, pings) = mpsc::channel();
    let (subscribe, subscribed) = mpsc::channel();
    let reading = thread::spawn(move || -> io::Result<()> {
        while let Some(packet) = Packet::read(&mut reader)? {
            match packet.kind() {
                PINGREQ_TYPE => drop(ping.send(())),
                SUBSCRIBE_TYPE => drop(subscribe.send([packet.body[0], packet.body[1]])),
                _ => {}
            }
        }
        Ok(())
    });
    if let Ok(id) = subscribed.recv() {
        let mut answer = Vec::new();
        packet::write(&mut answer, SUBACK, &[&id, properties, &[0]]);
        writer.write_all(&answer)?;
        let mut message = Vec::new();
        packet::write(&mut message, PUBLISH, &[&packet::text("feed/a"), properties, &vec![b'x'; size]]);
        let block = message.repeat(usize::try_from(BLOCK).expect("a small number"));
        let mut left = count;
        while left > 0 {
            let now = left.min(BLOCK);
            writer.write_all(&block[..message.len() * usize::try_from(now).expect("a small number")])?;
            left -= now;
            sent.fetch_add(now, Ordering::Relaxed);
            while pings.try_recv().is_ok() {
                writer.write_all(&[PINGRESP, 0])?;
            }
        }
    }
    while pings.recv().is_ok() {
        writer.write_all(&[PINGRESP, 0])?;
    }
    drop(client.shutdown(Shutdown::Both));
    drop(reading.join());
    Ok(())
}

/// Publishes `count` messages of QoS 1 to a broker, with at most `window` unacknowledged, and returns when all are acknowledged.
pub fn feed_acknowledged(port: u16, topic: &str, count: u64, size: usize, window: u16) -> io::Result<()> {
    let client = TcpStream::connect(("127.0.0.1", port))?;
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client.try_clone()?);
    let mut writer = client;
    let mut out = Vec::new();
    packet::write(
        &mut out,
        CONNECT_TYPE << 4,
        &[&packet::text("MQTT"), &[4, 2, 0, 0], &packet::text("feeder")],
    );
    writer.write_all(&out)?;
    Packet::read(&mut reader)?;
    let (topic, payload) = (packet::text(topic), vec![b'x'; size]);
    let (mut sent, mut acknowledged) = (0, 0);
    while acknowledged < count {
        out.clear();
        while sent < count && sent - acknowledged < u64::from(window) {
            let id = u16::try_from(sent % 65_535 + 1).expect("1 to 65,535");
            packet::write(&mut out, PUBLISH | 2, &[&topic, &id.to_be_bytes(), &payload]);
            sent += 1;
        }
        writer.write_all(&out)?;
        // Half a window is taken back at a time, so that neither side works packet by packet.
        let until = sent.saturating_sub(u64::from(window) / 2).min(count).max(acknowledged + 1);
        while acknowledged < until {
            let packet = Packet::read(&mut reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            acknowledged += u64::from(packet.kind() == PUBACK_TYPE);
        }
    }
    Ok(())
}
