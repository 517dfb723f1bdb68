//! One association: an OpenSSL object between a queue of datagrams from the network and one to it.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::Bytes;
use openssl::ssl::{ErrorCode, Ssl, SslStream};

use super::failure::Failure;
use super::ffi::{self, Listened};

/// Of a DTLS record.
const LARGEST_PLAINTEXT: usize = 16 << 10;

/// What OpenSSL takes for a socket.
#[derive(Debug, Default)]
struct Pipe {
    incoming: Option<Bytes>,
    outgoing: VecDeque<Bytes>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let datagram = self.incoming.take().ok_or(io::ErrorKind::WouldBlock)?;
        // What does not fit is lost, as with a socket; OpenSSL's buffer has room for the largest record.
        let length = datagram.len().min(buffer.len());
        buffer[..length].copy_from_slice(&datagram[..length]);
        Ok(length)
    }
}

impl Write for Pipe {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.outgoing.push_back(Bytes::copy_from_slice(datagram));
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a datagram or a time-out came to.
#[derive(Debug)]
pub(super) enum Happened {
    /// The handshake is over.
    Established,
    Received(Bytes),
    /// The other side has said goodbye.
    Closed,
    /// There is nothing more to be had of this association.
    Failed(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Handshaking,
    Established,
    Over,
}

pub(super) struct Association {
    stream: SslStream<Pipe>,
    is_client: bool,
    state: State,
}

impl Association {
    /// Nothing is sent before [`Association::drive`].
    ///
    /// # Errors
    /// OpenSSL has no memory.
    pub(super) fn new(ssl: Ssl, is_client: bool) -> Result<Association, Failure> {
        let stream = SslStream::new(ssl, Pipe::default()).map_err(|error| Failure::setup(&error))?;
        Ok(Association { stream, is_client, state: State::Handshaking })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.state == State::Handshaking
    }

    /// The server's: asks a client for its cookie, or welcomes it.
    pub(super) fn listen(&mut self, datagram: Bytes) -> Listened {
        self.stream.get_mut().incoming = Some(datagram);
        let listened = ffi::listen(&mut self.stream);
        self.stream.get_mut().incoming = None;
        listened
    }

    /// Takes a datagram from the network.
    pub(super) fn receive(&mut self, datagram: Bytes, happened: &mut Vec<Happened>) {
        self.stream.get_mut().incoming = Some(datagram);
        self.drive(happened);
        self.stream.get_mut().incoming = None;
    }

    /// Goes as far as it can.
    pub(super) fn drive(&mut self, happened: &mut Vec<Happened>) {
        if self.state == State::Handshaking {
            let done = if self.is_client { self.stream.connect() } else { self.stream.accept() };
            match done {
                Ok(()) => {
                    self.state = State::Established;
                    happened.push(Happened::Established);
                }
                Err(error) => return self.stopped(&error, happened),
            }
        }
        let mut buffer = [0; LARGEST_PLAINTEXT];
        while self.state == State::Established {
            match self.stream.ssl_read(&mut buffer) {
                // A record without content says nothing.
                Ok(0) => {}
                Ok(length) => happened.push(Happened::Received(Bytes::copy_from_slice(&buffer[..length]))),
                Err(error) => return self.stopped(&error, happened),
            }
        }
    }

    fn stopped(&mut self, error: &openssl::ssl::Error, happened: &mut Vec<Happened>) {
        match error.code() {
            ErrorCode::WANT_READ | ErrorCode::WANT_WRITE => {}
            ErrorCode::ZERO_RETURN => {
                self.state = State::Over;
                happened.push(Happened::Closed);
            }
            _ => {
                self.state = State::Over;
                happened.push(Happened::Failed(Failure::of(error)));
            }
        }
    }

    /// Encrypts. `false` when there is no association (any more).
    pub(super) fn send(&mut self, plaintext: &[u8]) -> bool {
        self.state == State::Established && self.stream.ssl_write(plaintext).is_ok()
    }

    /// The next datagram for the network.
    pub(super) fn outgoing(&mut self) -> Option<Bytes> {
        self.stream.get_mut().outgoing.pop_front()
    }

    /// After how long [`Association::handle_timeout`] is to be called.
    pub(super) fn timeout(&mut self) -> Option<Duration> {
        if self.state == State::Over { None } else { ffi::timeout(&mut self.stream) }
    }

    pub(super) fn handle_timeout(&mut self, happened: &mut Vec<Happened>) {
        if self.state != State::Over && !ffi::handle_timeout(&mut self.stream) {
            self.state = State::Over;
            happened.push(Happened::Failed(Failure::Silence));
        }
    }

    /// Says goodbye.
    pub(super) fn close(&mut self) {
        if self.state == State::Established {
            // The other side's goodbye is not waited for, and one that can't be said is left unsaid.
            let _ = self.stream.shutdown();
        }
        self.state = State::Over;
    }

    pub(super) fn ssl(&self) -> &openssl::ssl::SslRef {
        self.stream.ssl()
    }
}
