//! WebSocket as a transport of bytes: the handshake, and a stream over binary frames.
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
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::{
    CapacityError, Error as WsError, ProtocolError, SubProtocolError,
};
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::dial::Peer;
use super::error::{NetError, NetErrorKind, quote};
use super::explain::explain_io;
use super::tcp::reason;

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
    /// The one subprotocol to offer. A server that doesn't agree to it is refused (RFC 6455 section 4.1).
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
    fn bare_path(&self) -> &'a str {
        self.path.split_once('?').map_or(self.path, |(path, _)| path)
    }

    pub(super) fn to_http(self) -> Result<Request, NetError> {
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

/// The handshake over a connected stream. The caller bounds the time.
pub(super) async fn handshake<S>(
    stream: S,
    http: Request,
    request: &WsRequest<'_>,
) -> Result<WebSocketStream<S>, NetError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limits = WebSocketConfig::default()
        .max_message_size(Some(request.max_message))
        .max_frame_size(Some(request.max_message));
    match client_async_with_config(http, stream, Some(limits)).await {
        Ok((stream, _)) => Ok(stream),
        Err(e) => Err(explain(request, e)),
    }
}

fn explain(request: &WsRequest<'_>, error: WsError) -> NetError {
    let peer = Peer::new(request.host, request.port);
    let new = |message| NetError::new(NetErrorKind::Handshake, message);
    let port = format!("check that port {} is a WebSocket port, and whether it wants TLS", request.port);
    match error {
        WsError::Http(response) => refused(request, &response),
        // In TLS 1.3 a refused client certificate shows only now.
        WsError::Io(e) => explain_io(&e).unwrap_or_else(|| {
            new(format!("{peer} broke the WebSocket handshake off: {}", reason(&e))).hint(port).source(e)
        }),
        WsError::Protocol(ProtocolError::HandshakeIncomplete) => {
            new(format!("{peer} closed the connection in the WebSocket handshake")).hint(port)
        }
        WsError::Protocol(ProtocolError::SecWebSocketSubProtocolError(e)) => {
            let wanted = request.subprotocol.unwrap_or_default();
            let what = match e {
                SubProtocolError::NoSubProtocol => "agrees to none",
                _ => "answers with another",
            };
            new(format!("{peer} does not take the WebSocket subprotocol {wanted:?}: it {what}"))
                .hint("check that the path leads to the right service")
                .permanent()
        }
        WsError::Protocol(ProtocolError::HttparseError(e)) => {
            new(format!("{peer} does not speak HTTP on this port ({e})")).hint(port).permanent()
        }
        e => new(format!("{peer} answered the WebSocket handshake wrongly: {e}")).hint(port).source(e),
    }
}

/// An HTTP answer other than 101.
fn refused(request: &WsRequest<'_>, response: &Response) -> NetError {
    let peer = Peer::new(request.host, request.port);
    let (status, path) = (response.status(), request.bare_path());
    let mut message = format!("{peer} refused the WebSocket connection to {path}: HTTP {status}");
    if let Some(to) = response.headers().get(header::LOCATION) {
        message.push_str(&format!(", see {}", quote(to.as_bytes())));
    }
    let body = quote(response.body().as_deref().unwrap_or_default());
    if !body.is_empty() {
        message.push_str(&format!(": {body}"));
    }
    let auth = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::PROXY_AUTHENTICATION_REQUIRED];
    if auth.contains(&status) {
        return NetError::new(NetErrorKind::Auth, message)
            .hint("check the credentials in the headers, and the path");
    }
    let error = NetError::new(NetErrorKind::Handshake, message);
    match status {
        StatusCode::NOT_FOUND | StatusCode::OK | StatusCode::METHOD_NOT_ALLOWED => {
            error.hint("check the path: the server has no WebSocket there").permanent()
        }
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => error,
        _ => error.permanent(),
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
