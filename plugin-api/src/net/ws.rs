//! WebSocket as a transport of bytes: what to ask for, and a stream over binary frames.
//!
//! For protocols that only want a byte stream (MQTT section 6, NATS): frame borders mean nothing. Written bytes go out as
//! one frame a write; of a received frame what does not fit the reader's buffer waits in the frame itself. Pings are
//! answered by tungstenite as the stream is read.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use super::dial::Peer;
use super::error::{NetError, quote};
use super::upgrade::Opened;

/// The longest frame written. More gains nothing, and servers bound what they take.
const LONGEST_WRITE: usize = 64 * 1024;

/// What to ask a WebSocket server for.
///
/// Headers and the query may hold tokens: neither stands in `Debug` output or in an error.
#[derive(Clone, Copy)]
pub struct WsRequest<'a> {
    /// Name or address; an IPv6 address may stand in brackets.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
    /// Whether to use TLS (`wss`).
    pub tls: bool,
    /// Path and query. A missing leading slash is added.
    pub path: &'a str,
    /// Further headers, as (name, value). May replace `Host` and set `Origin`; those of the handshake itself are refused.
    pub headers: &'a [(String, String)],
    /// The subprotocol to offer, or several with commas between them, best first. A server that agrees to none of them is
    /// refused (RFC 6455 section 4.1).
    pub subprotocol: Option<&'a str>,
    /// The largest message accepted, in bytes; a larger one ends the connection.
    pub max_message: usize,
}

impl<'a> WsRequest<'a> {
    /// A request for `/` without extra headers, and messages of at most 16 MiB.
    pub fn new(host: &'a str, port: u16, tls: bool) -> Self {
        Self { host, port, tls, path: "/", headers: &[], subprotocol: None, max_message: 16 << 20 }
    }

    /// The path without its query.
    pub(super) fn bare_path(&self) -> &'a str {
        self.path.split_once('?').map_or(self.path, |(path, _)| path)
    }

    /// The HTTP request. `extensions` is what `Sec-WebSocket-Extensions` offers.
    pub(super) fn to_http(self, extensions: Option<&str>) -> Result<Request, NetError> {
        let peer = Peer::new(self.host, self.port);
        let (scheme, default_port) = if self.tls { ("wss", 443) } else { ("ws", 80) };
        let slash = if self.path.starts_with('/') { "" } else { "/" };
        let path = self.path;
        let bare = self.bare_path();
        let mut request = format!("{scheme}://{peer}{slash}{path}").into_client_request().map_err(|e| {
            NetError::config(format!("cannot ask {:?} for the path {bare:?}: {e}", self.host)).source(e)
        })?;
        if self.port == default_port {
            let host = peer.to_string();
            let host = host.rsplit_once(':').map_or(host.as_str(), |(host, _)| host);
            if let Ok(host) = HeaderValue::from_str(host) {
                request.headers_mut().insert(header::HOST, host);
            }
        }
        if let Some(subprotocol) = self.subprotocol {
            let value = HeaderValue::from_str(subprotocol).map_err(|_| {
                NetError::config(format!("{subprotocol:?} cannot be a WebSocket subprotocol"))
            })?;
            request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
        if let Some(extensions) = extensions {
            let value = HeaderValue::from_str(extensions)
                .map_err(|_| NetError::config(format!("{extensions:?} cannot be a WebSocket extension")))?;
            request.headers_mut().insert(header::SEC_WEBSOCKET_EXTENSIONS, value);
        }
        let mut given = std::collections::HashSet::new();
        for (name, value) in self.headers {
            // The value may be a token: only the name is quoted.
            let wrong = |why| NetError::config(format!("the HTTP header {:?} {why}", quote(name.as_bytes())));
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| wrong("has a name that HTTP does not allow"))?;
            let value =
                HeaderValue::from_str(value).map_err(|_| wrong("has a value that HTTP does not allow"))?;
            if name.as_str().starts_with("sec-websocket-")
                || matches!(
                    name,
                    header::CONNECTION | header::UPGRADE | header::CONTENT_LENGTH | header::TRANSFER_ENCODING
                )
            {
                return Err(wrong("belongs to the WebSocket handshake and cannot be set"));
            }
            match given.insert(name.clone()) {
                true => drop(request.headers_mut().insert(name, value)),
                false => drop(request.headers_mut().append(name, value)),
            }
        }
        Ok(request)
    }
}

impl fmt::Debug for WsRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsRequest")
            .field("peer", &format_args!("{}", Peer::new(self.host, self.port)))
            .field("tls", &self.tls)
            .field("path", &self.bare_path())
            .field("headers", &self.headers.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("subprotocol", &self.subprotocol)
            .field("max_message", &self.max_message)
            .finish()
    }
}

/// Bytes over the binary frames of a WebSocket, of either side.
///
/// Reads end with EOF when the other side closes normally (code 1000, 1001 or none) and with
/// [`io::ErrorKind::ConnectionAborted`] and its reason otherwise. A text frame is an error.
#[derive(Debug)]
pub struct WsStream<S> {
    ws: WebSocketStream<S>,
    /// What is left of the last frame.
    rest: Bytes,
    closed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WsStream<S> {
    /// A byte stream over a WebSocket that a client has opened.
    pub(super) async fn opened(opened: Opened<S>, max_message: usize) -> Self {
        let limits =
            WebSocketConfig::default().max_message_size(Some(max_message)).max_frame_size(Some(max_message));
        let Opened { stream, rest, .. } = opened;
        Self::new(
            WebSocketStream::from_partially_read(stream, rest.to_vec(), Role::Client, Some(limits)).await,
        )
    }

    /// A byte stream over an established WebSocket.
    pub fn new(ws: WebSocketStream<S>) -> Self {
        Self { ws, rest: Bytes::new(), closed: false }
    }

    /// The stream beneath, for looking at.
    pub fn get_ref(&self) -> &S {
        self.ws.get_ref()
    }

    /// The next bytes; none at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.rest.is_empty() && !self.closed {
            match ready!(Pin::new(&mut self.ws).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(invalid(
                        "a WebSocket text frame where only binary ones are allowed",
                    )));
                }
                Some(Ok(Message::Close(frame))) => {
                    self.closed = true;
                    if let Some(e) = frame.and_then(close_error) {
                        return Poll::Ready(Err(e));
                    }
                }
                Some(Err(e)) => return Poll::Ready(Err(into_io(e))),
                None => self.closed = true,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What a close frame says beyond "done".
fn close_error(frame: CloseFrame) -> Option<io::Error> {
    if matches!(frame.code, CloseCode::Normal | CloseCode::Away | CloseCode::Status) {
        return None;
    }
    let code = u16::from(frame.code);
    let why = match quote(frame.reason.as_bytes()) {
        why if why.is_empty() => String::new(),
        why => format!(": {why}"),
    };
    Some(io::Error::new(
        io::ErrorKind::ConnectionAborted,
        format!("the WebSocket was closed with code {code}{why}"),
    ))
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

fn into_io(error: WsError) -> io::Error {
    match error {
        WsError::Io(e) => e,
        WsError::ConnectionClosed | WsError::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            io::Error::new(io::ErrorKind::UnexpectedEof, "the connection broke without a WebSocket close")
        }
        WsError::Protocol(ProtocolError::SendAfterClosing) => io::ErrorKind::BrokenPipe.into(),
        WsError::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            invalid(format!("a WebSocket message of {size} bytes is over the limit of {max_size}"))
        }
        e => invalid(e.to_string()),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WsStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_fill(cx))?;
        let n = this.rest.len().min(buf.remaining());
        buf.put_slice(&this.rest[..n]);
        this.rest.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WsStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let ws = &mut self.get_mut().ws;
        // Waits until what was written before has gone to the socket, so that no more than a frame piles up.
        ready!(Pin::new(&mut *ws).poll_ready(cx)).map_err(into_io)?;
        let n = buf.len().min(LONGEST_WRITE);
        let frame = Message::Binary(Bytes::copy_from_slice(&buf[..n]));
        Pin::new(ws).start_send(frame).map_err(into_io)?;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().ws).poll_flush(cx).map_err(into_io)
    }

    /// Sends a close frame, then ends the stream beneath. Does not wait for the other side's close.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ws = &mut self.get_mut().ws;
        match ready!(Pin::new(&mut *ws).poll_close(cx)) {
            // Closed by the other side already: nothing is left to say.
            Ok(()) | Err(WsError::ConnectionClosed | WsError::AlreadyClosed) => {}
            Err(WsError::Protocol(ProtocolError::SendAfterClosing)) => {}
            Err(e) => return Poll::Ready(Err(into_io(e))),
        }
        Pin::new(ws.get_mut()).poll_shutdown(cx)
    }
}
