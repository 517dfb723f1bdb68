//! The adapter: what tungstenite takes for the socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::Role;

use super::incoming::Incoming;
use super::negotiate::Params;
use super::outgoing::Outgoing;
use super::sizes::Sizes;

/// How much is read from the socket at a time.
const READ: usize = 16 * 1024;
/// How much is taken from tungstenite at a time, so that one large message does not hold up its thread.
const WRITE: usize = 256 * 1024;
/// A buffer that grew beyond this is given back once it is empty.
const KEEP: usize = 256 * 1024;

/// A socket under permessage-deflate: frames without compression are read from it and written to it.
///
/// Reading fails with an error of kind `InvalidData` that holds a [`super::DeflateError`] when the peer's data is wrong;
/// writing still works then, so the peer can be told why.
pub struct Stream<S> {
    socket: S,
    incoming: Incoming,
    outgoing: Outgoing,
    /// From the socket, not yet translated.
    input: Input,
    /// For tungstenite.
    plain: Pending,
    /// For the socket.
    wire: Pending,
    sizes: Sizes,
}

/// Read from the socket and not yet translated: what lies between `start` and `end`.
struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

/// Bytes that go on from `start`.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    start: usize,
}

impl Pending {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn advance(&mut self, count: usize) {
        self.start += count;
        if self.start == self.bytes.len() {
            self.start = 0;
            self.bytes.clear();
            if self.bytes.capacity() > KEEP {
                self.bytes = Vec::new();
            }
        }
    }
}

impl<S> Stream<S> {
    /// For the end that is `role`; `read_ahead` was read from the socket after the handshake. Messages are `limit` bytes
    /// at most.
    pub fn new(socket: S, read_ahead: Vec<u8>, role: Role, params: &Params, limit: usize) -> Self {
        Self {
            socket,
            incoming: Incoming::new(role, params, limit),
            outgoing: Outgoing::new(role, params),
            input: Input { end: read_ahead.len(), bytes: read_ahead, start: 0 },
            plain: Pending::default(),
            wire: Pending::default(),
            sizes: Sizes::default(),
        }
    }

    /// The count of what each message takes.
    pub fn sizes(&self) -> Sizes {
        self.sizes.clone()
    }

    /// The socket beneath.
    pub fn get_ref(&self) -> &S {
        &self.socket
    }
}

impl<S: AsyncWrite + Unpin> Stream<S> {
    fn poll_wire(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.wire.rest().is_empty() {
            let count = ready!(Pin::new(&mut self.socket).poll_write(context, self.wire.rest()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.wire.advance(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.plain.rest().is_empty() {
            let mut input = &this.input.bytes[this.input.start..this.input.end];
            let translated = this.incoming.translate(&mut input, &mut this.plain.bytes);
            this.input.start = this.input.end - input.len();
            this.sizes.add_received(this.incoming.finished());
            if !this.plain.bytes.is_empty() {
                // An error waits until tungstenite has had what came before it: the next call gives it again.
                break;
            }
            translated.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            this.input.bytes.resize(READ, 0);
            let mut space = ReadBuf::new(&mut this.input.bytes);
            ready!(Pin::new(&mut this.socket).poll_read(context, &mut space))?;
            (this.input.start, this.input.end) = (0, space.filled().len());
            if this.input.end == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        let rest = this.plain.rest();
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        this.plain.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    /// Takes what it is given when nothing waits for the socket, and translates it at once.
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_wire(context))?;
        let data = &data[..data.len().min(WRITE)];
        this.outgoing.translate(data, &mut this.wire.bytes);
        this.sizes.add_sent(this.outgoing.finished());
        // What does not go now goes with the next write or flush: an error is theirs too.
        match this.poll_wire(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(data.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_wire(context))?;
        Pin::new(&mut this.socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_wire(context))?;
        Pin::new(&mut this.socket).poll_shutdown(context)
    }
}
