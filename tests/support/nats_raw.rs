//! A NATS client of bare sockets: what is sent and what is expected are the bytes of the protocol.

use crate::wait::SHORT;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// A connection to a NATS server.
#[derive(Debug)]
pub struct NatsRaw {
    stream: BufReader<TcpStream>,
    /// The INFO line that greeted us, without its first word.
    pub info: serde_json::Value,
}

impl NatsRaw {
    /// Connects and reads INFO.
    #[track_caller]
    pub fn open(port: u16) -> NatsRaw {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream.set_read_timeout(Some(SHORT)).expect("a time-out");
        stream.set_write_timeout(Some(SHORT)).expect("a time-out");
        stream.set_nodelay(true).expect("no delay");
        let mut raw = NatsRaw { stream: BufReader::new(stream), info: serde_json::Value::Null };
        let line = raw.line();
        let json = line.strip_prefix("INFO ").unwrap_or_else(|| panic!("no INFO but {line:?}"));
        raw.info = serde_json::from_str(json).unwrap_or_else(|error| panic!("INFO: {error} in {line:?}"));
        raw
    }

    /// Connects and sends CONNECT with these options, quiet and lenient unless they say otherwise. Returns when the server
    /// has taken it.
    #[track_caller]
    pub fn connect(port: u16, options: &serde_json::Value) -> NatsRaw {
        let mut raw = NatsRaw::open(port);
        let mut all =
            serde_json::json!({"verbose": false, "pedantic": false, "headers": true, "protocol": 1});
        for (name, value) in options.as_object().expect("an object") {
            all[name] = value.clone();
        }
        raw.send(&format!("CONNECT {all}\r\n"));
        if all["verbose"] == true {
            raw.expect("+OK\r\n");
        }
        raw.sync();
        raw
    }

    #[track_caller]
    pub fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes());
    }

    #[track_caller]
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the server takes what is sent");
    }

    /// Likewise, but the server may have closed already.
    pub fn try_send(&mut self, bytes: &[u8]) {
        drop(self.stream.get_mut().write_all(bytes));
    }

    /// What comes next is exactly this.
    #[track_caller]
    pub fn expect(&mut self, expected: &str) {
        let mut came = vec![0; expected.len()];
        let mut count = 0;
        while count < came.len() {
            match self.stream.read(&mut came[count..]) {
                Ok(0) => break,
                Ok(read) => count += read,
                Err(error) => {
                    let came = String::from_utf8_lossy(&came[..count]).into_owned();
                    panic!("{error} while waiting for {expected:?} after {came:?}");
                }
            }
            if came[..count] != expected.as_bytes()[..count] {
                break;
            }
        }
        assert_eq!(String::from_utf8_lossy(&came[..count]), expected);
    }

    /// Everything sent before has been dealt with, and there is nothing to read.
    #[track_caller]
    pub fn sync(&mut self) {
        self.send("PING\r\n");
        self.expect("PONG\r\n");
    }

    /// One line, without its end.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap_or_else(|error| panic!("{error} after {line:?}"));
        line.trim_end_matches(['\r', '\n']).to_owned()
    }

    /// Reads until the server closes, and returns what came. A reset is an end, too: the server may not have read all.
    #[track_caller]
    pub fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        if let Err(error) = self.stream.read_to_end(&mut rest) {
            let kind = error.kind();
            assert!(
                kind == std::io::ErrorKind::ConnectionReset,
                "{error} after {:?}",
                String::from_utf8_lossy(&rest)
            );
        }
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// The socket, for what must not go through a buffer.
    pub fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }
}
