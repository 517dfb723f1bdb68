//! The client's WebSocket handshake (RFC 6455 section 4.1).
//!
//! tungstenite asks and checks the answer, over a reader that gives it the head and nothing more: the first frames may share
//! a segment with the answer, and belong to whoever reads frames; and the body of a refusal, which tungstenite has only as
//! far as it came along with the head, can be waited for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::error::{Error as WsError, ProtocolError, SubProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderName, StatusCode, header};

use super::dial::Peer;
use super::error::{NetError, NetErrorKind, quote};
use super::explain::explain_io;
use super::stream::Stream;
use super::tcp::reason;
use super::ws::WsRequest;

/// What is read of the body of a refusal, in bytes: more than is shown.
const LONGEST_BODY: usize = 1024;
/// How long the body of a refusal may take after its head.
const BODY_PATIENCE: Duration = Duration::from_secs(1);
/// Bytes read at once. The rest after the head is no more than this.
const READ: usize = 4096;

/// A WebSocket after its handshake: what comes from the stream are frames.
#[derive(Debug)]
pub struct Opened<S> {
    /// The connection.
    pub stream: S,
    /// What was read of it beyond the handshake: the beginning of the first frames.
    pub rest: Bytes,
    /// The subprotocol that the server agreed to.
    pub subprotocol: Option<String>,
    /// The server's `Sec-WebSocket-Extensions`.
    pub extensions: Option<String>,
}

/// A WebSocket that a [`Dialer`](super::Dialer) opened.
pub type Upgraded = Opened<Stream>;

impl<S> Opened<S> {
    pub(super) fn map<T>(self, change: impl FnOnce(S) -> T) -> Opened<T> {
        let Opened { stream, rest, subprotocol, extensions } = self;
        Opened { stream: change(stream), rest, subprotocol, extensions }
    }
}

/// The handshake over a connected stream. The caller bounds the time.
pub(super) async fn handshake<S>(
    stream: S,
    http: Request,
    request: &WsRequest<'_>,
) -> Result<Opened<S>, NetError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let offered = http.headers().contains_key(header::SEC_WEBSOCKET_EXTENSIONS);
    let mut reader = HeadReader { stream, buffer: BytesMut::new(), line: Line::Some, head: true };
    // The WebSocket that it makes is not used: it ends here, and leaves the stream as it is.
    let answer = client_async(http, &mut reader).await.map(|(_, response)| response);
    let response = match answer {
        Ok(response) => response,
        Err(WsError::Http(response)) => {
            let body = reader.body(response.headers()).await;
            return Err(refused(request, &response, &body));
        }
        Err(e) => return Err(explain(request, e)),
    };
    let text = |name: HeaderName| {
        let values: Vec<_> = response
            .headers()
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        (!values.is_empty()).then(|| values.join(", "))
    };
    let extensions = text(header::SEC_WEBSOCKET_EXTENSIONS).filter(|text| !text.trim().is_empty());
    if let (false, Some(extensions)) = (offered, &extensions) {
        let peer = Peer::new(request.host, request.port);
        let extensions = quote(extensions.as_bytes());
        return Err(NetError::new(
            NetErrorKind::Handshake,
            format!("{peer} answers with a WebSocket extension that was not asked for: {extensions}"),
        )
        .permanent());
    }
    Ok(Opened {
        subprotocol: text(header::SEC_WEBSOCKET_PROTOCOL),
        extensions,
        rest: reader.buffer.freeze(),
        stream: reader.stream,
    })
}

/// Gives out the bytes of an HTTP head, and keeps what came after it.
struct HeadReader<S> {
    stream: S,
    /// Read and not yet given out.
    buffer: BytesMut,
    line: Line,
    /// Not yet at its end.
    head: bool,
}

/// What the line has so far: an empty one ends the head. Its line ends may lack the carriage return, as parsers allow.
#[derive(Clone, Copy)]
enum Line {
    Some,
    Empty,
    Return,
}

impl<S: AsyncRead + AsyncWrite + Unpin> HeadReader<S> {
    /// How much of the buffer belongs to the head.
    fn head_in_buffer(&mut self) -> usize {
        for (at, byte) in self.buffer.iter().enumerate() {
            self.line = match (self.line, byte) {
                (Line::Some, b'\n') => Line::Empty,
                (Line::Empty, b'\r') => Line::Return,
                (Line::Empty | Line::Return, b'\n') => {
                    self.head = false;
                    return at + 1;
                }
                _ => Line::Some,
            };
        }
        self.buffer.len()
    }

    /// The body of a refusal, as far as it comes within a moment.
    async fn body(mut self, headers: &HeaderMap) -> BytesMut {
        let length =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let wanted = length.unwrap_or(LONGEST_BODY).min(LONGEST_BODY);
        let more = async {
            while self.buffer.len() < wanted && self.stream.read_buf(&mut self.buffer).await? > 0 {}
            io::Result::Ok(())
        };
        // What has come is shown, however it ended.
        let _ = tokio::time::timeout(BODY_PATIENCE, more).await;
        self.buffer.truncate(wanted);
        self.buffer
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for HeadReader<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.head {
            // What is after the head is nothing to the handshake.
            return Poll::Ready(Ok(()));
        }
        let mut space = [0; READ];
        let mut read = ReadBuf::new(&mut space[..out.remaining().min(READ)]);
        ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
        this.buffer.extend_from_slice(read.filled());
        let count = this.head_in_buffer();
        out.put_slice(&this.buffer[..count]);
        this.buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for HeadReader<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

fn explain(request: &WsRequest<'_>, error: WsError) -> NetError {
    let peer = Peer::new(request.host, request.port);
    let new = |message| NetError::new(NetErrorKind::Handshake, message);
    let port = format!("check that port {} is a WebSocket port, and whether it wants TLS", request.port);
    match error {
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
fn refused(request: &WsRequest<'_>, response: &Response, body: &[u8]) -> NetError {
    let peer = Peer::new(request.host, request.port);
    let (status, path) = (response.status(), request.bare_path());
    let mut message = format!("{peer} refused the WebSocket connection to {path}: HTTP {status}");
    if let Some(to) = response.headers().get(header::LOCATION) {
        message.push_str(&format!(", see {}", quote(to.as_bytes())));
    }
    let body = quote(body);
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
