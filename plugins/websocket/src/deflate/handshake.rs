//! Between the handshake and the stream: the socket is taken back from tungstenite and put under the adapter.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::negotiate::Params;
use super::sizes::Sizes;
use super::stream::Stream;

const END_OF_HEAD: &[u8] = b"\r\n\r\n";
/// The answer that frames follow. All others are followed by a body, which tungstenite shall have.
const SWITCHING: &[u8] = b"HTTP/1.1 101";

/// A client's socket for the time of the handshake: of a server's answer that frames follow, tungstenite gets the head
/// alone. What the same read brought beyond it would be lost when the socket is taken back.
pub struct HeadFirst<S> {
    socket: S,
    head: Vec<u8>,
    /// How much of `head` tungstenite has had.
    given: usize,
    /// Where the head ends, once it is known.
    end: Option<usize>,
}

impl<S> HeadFirst<S> {
    /// To be given to `client_async_with_config`.
    pub fn new(socket: S) -> Self {
        Self { socket, head: Vec::new(), given: 0, end: None }
    }

    /// The socket, and what was read from it beyond the head: both for [`open`].
    pub fn into_parts(mut self) -> (S, Vec<u8>) {
        self.head.drain(..self.given);
        (self.socket, self.head)
    }

    fn find_end(&mut self, searched: usize) {
        let from = searched.saturating_sub(END_OF_HEAD.len() - 1);
        let found = self.head[from..].windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD);
        self.end = found.map(|at| from + at + END_OF_HEAD.len());
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadFirst<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.given == this.head.len() && this.end.is_none() {
            let before = this.head.len();
            let filled_before = buffer.filled().len();
            ready!(Pin::new(&mut this.socket).poll_read(context, buffer))?;
            this.head.extend_from_slice(&buffer.filled()[filled_before..]);
            buffer.set_filled(filled_before);
            if this.head.len() == before {
                return Poll::Ready(Ok(()));
            }
            this.find_end(before);
        }
        let end = match this.end {
            Some(end) if this.head.starts_with(SWITCHING) => end,
            _ => this.head.len(),
        };
        let count = (end - this.given).min(buffer.remaining());
        if count == 0 && this.end.is_some() {
            // A body is read straight from the socket; after the head of a 101 nothing more is asked for.
            return Pin::new(&mut this.socket).poll_read(context, buffer);
        }
        buffer.put_slice(&this.head[this.given..this.given + count]);
        this.given += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeadFirst<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(context, data)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}

/// What is beneath a WebSocket: the socket itself, or the adapter around it.
pub enum Transport<S> {
    /// Compression was not agreed on.
    Plain(S),
    /// It was.
    Deflate(Box<Stream<S>>),
}

impl<S> Transport<S> {
    /// The socket beneath.
    pub fn get_ref(&self) -> &S {
        match self {
            Transport::Plain(socket) => socket,
            Transport::Deflate(stream) => stream.get_ref(),
        }
    }

    /// The count of what each message takes; `None` without compression.
    pub fn sizes(&self) -> Option<Sizes> {
        match self {
            Transport::Plain(_) => None,
            Transport::Deflate(stream) => Some(stream.sizes()),
        }
    }
}

/// The WebSocket after a handshake that agreed on `params`.
///
/// A client runs tungstenite's handshake over a [`HeadFirst`] and takes socket and `read_ahead` out of it; a server runs it
/// over the socket, which it gets back by `into_inner`, and has nothing read ahead: tungstenite refuses clients that send
/// before they have the answer.
pub async fn open<S>(
    socket: S,
    read_ahead: Vec<u8>,
    role: Role,
    params: Option<&Params>,
    config: WebSocketConfig,
) -> WebSocketStream<Transport<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match params {
        None => {
            let socket = Transport::Plain(socket);
            WebSocketStream::from_partially_read(socket, read_ahead, role, Some(config)).await
        }
        Some(params) => {
            let limit = config.max_message_size.unwrap_or(usize::MAX);
            let stream = Stream::new(socket, read_ahead, role, params, limit);
            let socket = Transport::Deflate(Box::new(stream));
            WebSocketStream::from_raw_socket(socket, role, Some(config)).await
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Transport<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Transport::Deflate(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Transport<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Plain(socket) => Pin::new(socket).poll_write(context, data),
            Transport::Deflate(stream) => Pin::new(stream).poll_write(context, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(socket) => Pin::new(socket).poll_flush(context),
            Transport::Deflate(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Transport::Deflate(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
