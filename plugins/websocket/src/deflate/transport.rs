//! After the handshake: the socket is put beneath the adapter, and the adapter beneath tungstenite.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::negotiate::Params;
use super::sizes::Sizes;
use super::stream::Stream;

/// What is beneath a WebSocket: the socket itself, or the adapter around it.
pub enum Transport<S> {
    /// Compression was not agreed on. What was read ahead comes first.
    Plain(S, Vec<u8>),
    /// It was.
    Deflate(Box<Stream<S>>),
}

impl<S> Transport<S> {
    /// The socket beneath.
    pub fn get_ref(&self) -> &S {
        match self {
            Transport::Plain(socket, _) => socket,
            Transport::Deflate(stream) => stream.get_ref(),
        }
    }

    /// The count of what each message takes; `None` without compression.
    pub fn sizes(&self) -> Option<Sizes> {
        match self {
            Transport::Plain(..) => None,
            Transport::Deflate(stream) => Some(stream.sizes()),
        }
    }
}

/// The WebSocket after a handshake that agreed on `params`; `read_ahead` was read beyond it.
///
/// A server that handshakes by tungstenite gets its socket back by `into_inner` and has nothing read ahead: tungstenite
/// refuses clients that send before they have the answer.
pub async fn open<S>(
    socket: S,
    read_ahead: impl Into<Vec<u8>>,
    role: Role,
    params: Option<&Params>,
    config: WebSocketConfig,
) -> WebSocketStream<Transport<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let socket = match params {
        None => Transport::Plain(socket, read_ahead.into()),
        Some(params) => {
            let limit = config.max_message_size.unwrap_or(usize::MAX);
            Transport::Deflate(Box::new(Stream::new(socket, read_ahead.into(), role, params, limit)))
        }
    };
    // Not `from_partially_read`: the buffer that it makes forgets how large it was as soon as somebody keeps a message, and
    // from then on each header and each payload is an allocation and a read of its own.
    WebSocketStream::from_raw_socket(socket, role, Some(config)).await
}

impl<S: AsyncRead + Unpin> AsyncRead for Transport<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(socket, ahead) if ahead.is_empty() => {
                Pin::new(socket).poll_read(context, buffer)
            }
            Transport::Plain(_, ahead) => {
                let now = ahead.len().min(buffer.remaining());
                buffer.put_slice(&ahead[..now]);
                ahead.drain(..now);
                Poll::Ready(Ok(()))
            }
            Transport::Deflate(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Transport<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Plain(socket, _) => Pin::new(socket).poll_write(context, data),
            Transport::Deflate(stream) => Pin::new(stream).poll_write(context, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(socket, _) => Pin::new(socket).poll_flush(context),
            Transport::Deflate(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(socket, _) => Pin::new(socket).poll_shutdown(context),
            Transport::Deflate(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
