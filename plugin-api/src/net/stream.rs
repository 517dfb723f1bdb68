//! A connected byte stream of any transport. An enum and not a boxed trait, so that plain TCP costs nothing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::ws::WsStream;

/// A connection from [`Dialer`](super::Dialer). `poll_shutdown` ends each of its layers in turn.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
    /// Binary WebSocket frames over TCP.
    Ws(Box<WsStream<TcpStream>>),
    /// Binary WebSocket frames over TLS.
    WsTls(Box<WsStream<TlsStream<TcpStream>>>),
}

impl Stream {
    /// The socket beneath, for its addresses and options. Reading or writing it would break the layers above.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Tcp(s) => s,
            Self::Tls(s) => s.get_ref().0,
            Self::Ws(s) => s.get_ref(),
            Self::WsTls(s) => s.get_ref().get_ref().0,
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<TlsStream<TcpStream>> for Stream {
    fn from(stream: TlsStream<TcpStream>) -> Self {
        Self::Tls(Box::new(stream))
    }
}

impl From<WsStream<TcpStream>> for Stream {
    fn from(stream: WsStream<TcpStream>) -> Self {
        Self::Ws(Box::new(stream))
    }
}

impl From<WsStream<TlsStream<TcpStream>>> for Stream {
    fn from(stream: WsStream<TlsStream<TcpStream>>) -> Self {
        Self::WsTls(Box::new(stream))
    }
}

/// Hands a call on to the transport in use.
macro_rules! each {
    ($self:expr, $s:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($s) => $call,
            Stream::Tls($s) => $call,
            Stream::Ws($s) => $call,
            Stream::WsTls($s) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, s => Pin::new(s).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, s => Pin::new(s).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(s) => s.is_write_vectored(),
            Self::Tls(s) => s.is_write_vectored(),
            Self::Ws(_) | Self::WsTls(_) => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_shutdown(cx))
    }
}
