//! Twenty starts and stops leave no thread and no file descriptor behind.
//!
//! Alone in its program, since it counts what the whole process has.
#![cfg(all(feature = "serve", target_os = "linux"))]

use std::fs;
use std::io::Read;
use std::net::TcpStream;

use tracemq_mqtt::serve::{Broker, BrokerOptions};

fn count(folder: &str) -> usize {
    fs::read_dir(folder).expect("/proc").count()
}

fn round() {
    let options = BrokerOptions { bind: Some("127.0.0.1:0".to_owned()), ..BrokerOptions::default() };
    let broker = Broker::start(options).expect("it starts");
    let address = broker.addresses()[0].trim_start_matches("mqtt://").to_owned();
    // One client is connected, and is cut off by the stop.
    let mut client = TcpStream::connect(address).expect("it listens");
    std::io::Write::write_all(&mut client, b"\x10\x0d\0\x04MQTT\x04\x00\0\x3c\0\x01c").expect("written");
    let mut connack = [0; 4];
    client.read_exact(&mut connack).expect("a CONNACK");
    assert_eq!(connack, [0x20, 2, 0, 0]);
    broker.stop();
    assert_eq!(client.read(&mut connack).unwrap_or(0), 0, "closed");
}

#[test]
fn nothing_is_left_behind() {
    round();
    let (threads, files) = (count("/proc/self/task"), count("/proc/self/fd"));
    for _ in 0..20 {
        round();
    }
    assert_eq!(count("/proc/self/task"), threads, "threads");
    assert_eq!(count("/proc/self/fd"), files, "file descriptors");
}
