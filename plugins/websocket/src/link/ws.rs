//! A WebSocket: tungstenite over the socket, or over the compression that lies between.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes as WsBytes, Utf8Bytes};

use super::{BoxSocket, Broken, Kind, Received, Taken};
use crate::deflate::{DeflateError, MessageSize, Sizes, Transport};

/// A control frame's payload (RFC 6455 section 5.5).
const LONGEST_CONTROL: usize = 125;
/// What a frame takes beside its payload, at most: counts messages without one too.
const FRAME: usize = 14;

/// The limits of a WebSocket whose messages have at most so many bytes.
pub(crate) fn limits(max_message: usize) -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(Some(max_message)).max_frame_size(Some(max_message))
}

pub(crate) struct WsLink {
    ws: WebSocketStream<Transport<BoxSocket>>,
    sizes: Option<Sizes>,
    queued: usize,
    /// Found after messages that are handed on first.
    end: Option<Broken>,
}

impl WsLink {
    pub(crate) fn new(ws: WebSocketStream<Transport<BoxSocket>>) -> WsLink {
        let sizes = ws.get_ref().sizes();
        WsLink { ws, sizes, queued: 0, end: None }
    }

    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// The size of the oldest text or binary message that was flushed and not yet asked for, if there is compression.
    pub(super) fn take_sent(&mut self) -> Option<MessageSize> {
        self.sizes.as_ref()?.take_sent()
    }

    pub(super) fn send(&mut self, kind: Kind, payload: Bytes) -> Result<Result<(), String>, Broken> {
        let length = payload.len();
        if kind.is_control() && length > LONGEST_CONTROL {
            let kind = kind.name();
            return Ok(Err(format!("a {kind} holds at most {LONGEST_CONTROL} bytes, this one has {length}")));
        }
        let message = match kind {
            Kind::Binary => Message::Binary(payload),
            Kind::Ping => Message::Ping(payload),
            Kind::Pong => Message::Pong(payload),
            Kind::Text => match Utf8Bytes::try_from(payload) {
                Ok(text) => Message::Text(text),
                Err(_) => {
                    return Ok(Err(
                        "it is not UTF-8, which a text message must be (--binary sends any bytes)".to_owned(),
                    ));
                }
            },
        };
        self.queued += length + FRAME;
        Pin::new(&mut self.ws).start_send(message).map_err(explain)?;
        Ok(Ok(()))
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let flushed = Pin::new(&mut self.ws).poll_flush(context);
        if flushed.is_ready() {
            self.queued = 0;
        }
        flushed.map_err(explain)
    }

    pub(super) fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        taken: &mut Taken,
    ) -> Poll<Result<(), Broken>> {
        while self.end.is_none() && !taken.is_full() {
            match Pin::new(&mut self.ws).poll_next(context) {
                Poll::Ready(Some(Ok(message))) => self.take(message, taken),
                Poll::Ready(Some(Err(error))) => self.end = Some(explain(error)),
                Poll::Ready(None) => self.end = Some(Broken::Ended),
                Poll::Pending => break,
            }
        }
        if !taken.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match self.end.take() {
            Some(end) => {
                // The answer to a close frame leaves as far as it goes.
                let _ = Pin::new(&mut self.ws).poll_flush(context);
                Poll::Ready(Err(end))
            }
            None => Poll::Pending,
        }
    }

    fn take(&mut self, message: Message, taken: &mut Taken) {
        let (kind, payload): (Kind, WsBytes) = match message {
            Message::Text(text) => (Kind::Text, text.into()),
            Message::Binary(bytes) => (Kind::Binary, bytes),
            Message::Ping(bytes) => (Kind::Ping, bytes),
            Message::Pong(bytes) => (Kind::Pong, bytes),
            Message::Close(frame) => {
                self.end = Some(closed(frame));
                return;
            }
            // Only written, never read.
            Message::Frame(_) => return,
        };
        let size = match (&self.sizes, kind.is_control()) {
            (Some(sizes), false) => sizes.take_received(),
            _ => None,
        };
        taken.bytes += payload.len();
        taken.messages.push(Received { kind, payload, size });
    }

    /// Sends a close frame, unless the peer was first.
    pub(super) async fn say_close(&mut self, code: u16, reason: &str) -> Result<(), Broken> {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        match self.ws.close(Some(frame)).await {
            Ok(()) | Err(WsError::ConnectionClosed | WsError::AlreadyClosed) => Ok(()),
            Err(error) => Err(explain(error)),
        }
    }
}

fn closed(frame: Option<CloseFrame>) -> Broken {
    match frame {
        Some(frame) => {
            Broken::Closed { code: Some(frame.code.into()), reason: frame.reason.as_str().to_owned() }
        }
        None => Broken::Closed { code: None, reason: String::new() },
    }
}

fn violation(code: CloseCode, text: impl Into<String>) -> Broken {
    Broken::Violation { code: code.into(), text: text.into() }
}

/// What tungstenite says, in words for whoever uses the connection, with the code that tells the peer (RFC 6455 section 7.4).
fn explain(error: WsError) -> Broken {
    match error {
        WsError::Io(error) => {
            let deflate = error.get_ref().and_then(|inner| inner.downcast_ref::<DeflateError>());
            match deflate {
                Some(deflate) => violation(deflate.close_code(), deflate.to_string()),
                None => Broken::Io(error),
            }
        }
        WsError::ConnectionClosed
        | WsError::AlreadyClosed
        | WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Broken::Ended,
        WsError::Protocol(ProtocolError::SendAfterClosing) => Broken::Io(io::ErrorKind::BrokenPipe.into()),
        WsError::Capacity(CapacityError::MessageTooLong { size, max_size }) => violation(
            CloseCode::Size,
            format!("a message of {size} bytes or more is over the limit of {max_size} (--max-message-size)"),
        ),
        WsError::Utf8(_) => violation(CloseCode::Invalid, "a text message is not valid UTF-8"),
        WsError::Protocol(error) => violation(CloseCode::Protocol, told(&error)),
        error => violation(CloseCode::Protocol, error.to_string()),
    }
}

fn told(error: &ProtocolError) -> String {
    match error {
        ProtocolError::MaskedFrameFromServer => {
            "a server's frame is masked (RFC 6455 section 5.1)".to_owned()
        }
        ProtocolError::UnmaskedFrameFromClient => {
            "a client's frame is not masked (RFC 6455 section 5.1)".to_owned()
        }
        ProtocolError::NonZeroReservedBits => {
            "a frame has reserved bits set, though no extension was agreed on that uses them".to_owned()
        }
        error => format!("the WebSocket protocol was broken: {error}"),
    }
}
