//! MQTT over WebSocket (MQTT 5.0 section 6): the handshake, and the binary messages as a byte stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{Sink, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

/// The two names of MQTT as a sub-protocol: of 3.1.1 and 5.0, and of 3.1.
const PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// Answers the handshake and splits the connection. The error is the text for the user.
pub(super) async fn accept<S>(
    stream: S,
    max_packet_size: usize,
) -> Result<(Incoming<S>, Outgoing<S>), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // A message may hold several packets or a part of one, so the bound leaves room beside the largest.
    let max = max_packet_size.saturating_mul(2);
    let config = WebSocketConfig::default().max_message_size(Some(max)).max_frame_size(Some(max));
    let stream = accept_hdr_async_with_config(stream, choose_protocol, Some(config))
        .await
        .map_err(|error| error.to_string())?;
    let (sink, stream) = stream.split();
    Ok((Incoming { stream, rest: Bytes::new() }, Outgoing { sink }))
}

/// Section 6.0-4: the client offers "mqtt", and the server answers with it.
#[expect(clippy::result_large_err, reason = "the signature is the library's")]
fn choose_protocol(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let offered = request
        .headers()
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim);
    for name in offered {
        if let Some(protocol) = PROTOCOLS.into_iter().find(|protocol| *protocol == name) {
            response
                .headers_mut()
                .insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
            return Ok(response);
        }
    }
    let mut refusal = ErrorResponse::new(Some("the WebSocket sub-protocol \"mqtt\" is required\n".to_owned()));
    *refusal.status_mut() = StatusCode::BAD_REQUEST;
    Err(refusal)
}

/// The bytes a client sends.
pub(super) struct Incoming<S> {
    stream: SplitStream<WebSocketStream<S>>,
    rest: Bytes,
}

impl<S> AsyncRead for Incoming<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
                Some(Ok(Message::Binary(payload))) => self.rest = payload,
                // Section 6.0-1: anything but binary frames ends the connection.
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "a text frame, where MQTT wants binary ones",
                    )));
                }
                // The library answers pings itself.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(into_io(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..count]);
        self.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

/// The bytes for a client; each write is one binary message.
pub(super) struct Outgoing<S> {
    sink: SplitSink<WebSocketStream<S>, Message>,
}

impl<S> AsyncWrite for Outgoing<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.sink).poll_ready(cx)).map_err(into_io)?;
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        Pin::new(&mut self.sink).start_send(message).map_err(into_io)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.sink).poll_flush(cx).map_err(into_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.sink).poll_close(cx)) {
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(into_io(error))),
        }
    }
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}
