//! One connection, of either side and either kind: messages in, messages out.
//!
//! Client and server share it. It is polled from one task, which reads and writes in turn: what is queued waits for a flush,
//! so that many messages leave in one write, and what is read comes as many messages at once.

mod clock;
mod raw;
mod ws;

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tracemq_plugin_api::net::explain_io;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::MAX_BATCH;

pub(crate) use clock::{Clock, Due, until};
pub(crate) use raw::RawLink;
pub(crate) use ws::{WsLink, limits};

use crate::deflate::MessageSize;

/// Bytes of payload that are handed on together, or one message.
const MOST_BYTES: usize = 256 * 1024;

/// Up to so many bytes, copying a payload into the batch costs less than counting one more owner of it.
const COPIED: usize = 512;

/// What our own pings say.
const PING: &[u8] = b"tracemq";

/// The number of a ping of ours, from its answer.
pub(crate) fn mark(payload: &[u8]) -> Option<u64> {
    payload.strip_prefix(PING)?.try_into().map(u64::from_be_bytes).ok()
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Binary,
    Ping,
    Pong,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Binary => "binary",
            Kind::Ping => "ping",
            Kind::Pong => "pong",
        }
    }

    pub fn is_control(self) -> bool {
        matches!(self, Kind::Ping | Kind::Pong)
    }
}

/// A message of a WebSocket.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) kind: Kind,
    pub(crate) payload: Bytes,
    pub(crate) size: Option<MessageSize>,
}

/// What was read in one go: of a WebSocket messages, of a raw socket ranges of a buffer.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) messages: Vec<Received>,
    pub(crate) buffer: Bytes,
    pub(crate) ranges: Vec<Range<usize>>,
    /// Of all payloads.
    pub(crate) bytes: usize,
}

impl Taken {
    pub(crate) fn len(&self) -> usize {
        self.messages.len() + self.ranges.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_full(&self) -> bool {
        self.len() >= MAX_BATCH || self.bytes >= MOST_BYTES
    }

    pub(crate) fn clear(&mut self) {
        self.messages.clear();
        self.ranges.clear();
        self.buffer = Bytes::new();
        self.bytes = 0;
    }

    /// The answers to our own pings are nobody's business.
    pub(crate) fn forget_own_pongs(&mut self) {
        let own = |payload: &Bytes| payload == PING || mark(payload).is_some();
        self.messages.retain(|message| message.kind != Kind::Pong || !own(&message.payload));
    }

    /// Each message that is no ping or pong, with its payload: of a raw socket as [`Kind::Binary`].
    pub(crate) fn data(&self) -> impl Iterator<Item = (Kind, Bytes)> {
        let messages = self.messages.iter().filter(|message| !message.kind.is_control());
        let messages = messages.map(|message| (message.kind, message.payload.clone()));
        messages.chain(self.ranges.iter().map(|range| (Kind::Binary, self.buffer.slice(range.clone()))))
    }

    /// A batch for the host; `None` if there is nothing in it for whoever does not want pings.
    pub(crate) fn batch(&self, pings: bool) -> Option<Batch> {
        let mut batch = BatchBuilder::with_capacity(self.len());
        self.add_to(&mut batch, pings, None);
        (!batch.is_empty()).then(|| batch.finish())
    }

    /// Adds the messages to a batch. A server names the client, which is the topic.
    pub(crate) fn add_to(&self, batch: &mut BatchBuilder, pings: bool, client: Option<&str>) {
        let topic = client.map(|client| batch.buffer(Bytes::copy_from_slice(client.as_bytes())));
        let topic = || match (topic, client) {
            (Some(buffer), Some(client)) => Part::In(buffer, 0..client.len()),
            _ => Part::from(""),
        };
        let kinds = [Kind::Text, Kind::Binary, Kind::Ping, Kind::Pong];
        let shared = match self.messages.is_empty() {
            true => None,
            false => Some(kinds.map(|kind| batch.meta_range(&[("type", MetaValue::Text(kind.name()))]))),
        };
        for message in self.messages.iter().filter(|message| pings || !message.kind.is_control()) {
            let payload = match message.payload.len() {
                ..=COPIED => Part::Copied(&message.payload),
                _ => Part::Shared(message.payload.clone()),
            };
            let record = batch.add(topic(), payload);
            match (message.size, shared) {
                (Some(size), _) => {
                    let record = record
                        .meta("type", MetaValue::Text(message.kind.name()))
                        .meta("size", MetaValue::Uint(size.plain));
                    if let Some(compressed) = size.compressed {
                        record.meta("compressed_size", MetaValue::Uint(compressed));
                    }
                }
                (None, Some(shared)) => drop(record.shared_meta(shared[message.kind as usize])),
                (None, None) => {}
            }
        }
        if !self.ranges.is_empty() {
            let buffer = batch.buffer(self.buffer.clone());
            for range in &self.ranges {
                batch.add(topic(), Part::In(buffer, range.clone()));
            }
        }
    }
}

/// Why a connection is at its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The peer closed the WebSocket, with a code unless it gave none.
    Closed {
        code: Option<u16>,
        reason: String,
    },
    /// The stream ended: of a raw socket the usual end, of a WebSocket one without a goodbye.
    Ended,
    Io(io::Error),
    /// The peer broke the rules, and is told so with this code.
    Violation {
        code: u16,
        text: String,
    },
}

/// RFC 6455 section 7.4.1, and those of IANA's registry that are in use.
pub(crate) fn close_name(code: u16) -> &'static str {
    match code {
        1000 => "normal",
        1001 => "going away",
        1002 => "protocol error",
        1003 => "unsupported data",
        1007 => "invalid data",
        1008 => "policy violation",
        1009 => "message too big",
        1010 => "extension missing",
        1011 => "internal error",
        1012 => "service restart",
        1013 => "try again later",
        1014 => "bad gateway",
        3000 => "unauthorized",
        3003 => "forbidden",
        3008 => "timeout",
        _ => "",
    }
}

impl Broken {
    /// What it says, after the peer's name.
    pub(crate) fn describe(&self) -> String {
        match self {
            Broken::Closed { code: None, .. } => "closed the connection without a code".to_owned(),
            Broken::Closed { code: Some(code), reason } => {
                let name = close_name(*code);
                let name = if name.is_empty() { String::new() } else { format!(" {name}") };
                let reason =
                    if reason.is_empty() { String::new() } else { format!(": {}", reason.escape_debug()) };
                format!("closed the connection with code {code}{name}{reason}")
            }
            Broken::Ended => "closed the connection".to_owned(),
            Broken::Io(error) => match explain_io(error) {
                Some(error) => error.message,
                None => format!("the connection broke: {error}"),
            },
            Broken::Violation { text, .. } => text.clone(),
        }
    }

    /// What TLS refused for good: another connection would fare no better. In TLS 1.3 a server looks at a client's certificate
    /// when the client has long begun to talk.
    pub(crate) fn refused_by_tls(&self) -> Option<Error> {
        let Broken::Io(error) = self else { return None };
        explain_io(error).map(Error::from).filter(|error| !error.is_temporary())
    }

    /// Code and reason of a close frame, for the details of an event.
    pub(crate) fn close_frame(&self) -> (Option<u16>, Option<&str>) {
        match self {
            Broken::Closed { code, reason } => (*code, Some(reason)),
            _ => (None, None),
        }
    }
}

/// The bytes beneath, of whatever transport: one type, so that all that is above exists once.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

pub(crate) type BoxSocket = Box<dyn Socket>;

/// A connection.
pub(crate) enum Link {
    Ws(Box<WsLink>),
    Raw(Box<RawLink>),
}

/// What a turn brought.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    /// Messages are in the `Taken`.
    pub(crate) read: bool,
    /// All that was queued has left.
    pub(crate) flushed: bool,
}

impl Link {
    /// Queues a message; it leaves with the next flush.
    ///
    /// # Errors
    /// The inner error: this message can't be sent, the connection is as it was. The outer one: nothing can be sent.
    pub(crate) fn send(
        &mut self,
        kind: Kind,
        payload: Bytes,
    ) -> std::result::Result<std::result::Result<(), String>, Broken> {
        match self {
            Link::Ws(link) => link.send(kind, payload),
            Link::Raw(link) => Ok(link.send(&payload)),
        }
    }

    /// Queues a ping of our own. What can't be queued shows when the link is used next.
    pub(crate) fn ping(&mut self) {
        let _ = self.send(Kind::Ping, Bytes::from_static(PING));
    }

    /// Queues a ping whose answer [`mark`] recognises.
    ///
    /// # Errors
    /// Nothing can be sent.
    pub(crate) fn mark(&mut self, number: u64) -> std::result::Result<(), Broken> {
        let payload = [PING, &number.to_be_bytes()].concat();
        self.send(Kind::Ping, payload.into()).map(drop)
    }

    /// Bytes queued since the last flush.
    pub(crate) fn queued(&self) -> usize {
        match self {
            Link::Ws(link) => link.queued(),
            Link::Raw(link) => link.queued(),
        }
    }

    /// What the oldest text or binary message took that was flushed and not yet asked for; `None` without compression.
    /// Whoever sends has to ask for each.
    pub(crate) fn take_sent(&mut self) -> Option<MessageSize> {
        match self {
            Link::Ws(link) => link.take_sent(),
            Link::Raw(_) => None,
        }
    }

    /// Waits until what is queued has left or, if `reading`, messages have come.
    ///
    /// # Errors
    /// The connection is at its end. What came before is given first.
    pub(crate) async fn moved(
        &mut self,
        reading: bool,
        taken: &mut Taken,
    ) -> std::result::Result<Moved, Broken> {
        poll_fn(|context| {
            let mut moved = Moved::default();
            let mut failed = None;
            if self.queued() > 0 {
                match self.poll_flush(context) {
                    Poll::Ready(Ok(())) => moved.flushed = true,
                    Poll::Ready(Err(broken)) => failed = Some(broken),
                    Poll::Pending => {}
                }
            }
            if reading || failed.is_some() {
                match self.poll_take(context, taken) {
                    Poll::Ready(Ok(())) => moved.read = true,
                    // Why the peer is gone says more than that it can't be written to.
                    Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
                    Poll::Pending => {}
                }
            }
            match failed {
                Some(broken) if !moved.read => Poll::Ready(Err(broken)),
                _ if moved.read || moved.flushed => Poll::Ready(Ok(moved)),
                _ => Poll::Pending,
            }
        })
        .await
    }

    fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        taken: &mut Taken,
    ) -> Poll<std::result::Result<(), Broken>> {
        match self {
            Link::Ws(link) => link.poll_take(context, taken),
            Link::Raw(link) => link.poll_take(context, taken),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<std::result::Result<(), Broken>> {
        match self {
            Link::Ws(link) => link.poll_flush(context),
            Link::Raw(link) => link.poll_flush(context),
        }
    }

    /// Sends of what is queued as much as leaves at once.
    ///
    /// # Errors
    /// Nothing can be sent.
    pub(crate) async fn push(&mut self) -> std::result::Result<(), Broken> {
        poll_fn(|context| match self.poll_flush(context) {
            Poll::Ready(Err(broken)) => Poll::Ready(Err(broken)),
            _ => Poll::Ready(Ok(())),
        })
        .await
    }

    /// Sends what is queued.
    pub(crate) async fn flush(&mut self) -> std::result::Result<(), Broken> {
        poll_fn(|context| self.poll_flush(context)).await
    }

    /// Says goodbye with this code and reason, and reads until the peer has said so too. The caller bounds the time.
    /// Returns how the peer ended it.
    pub(crate) async fn close(&mut self, code: u16, reason: &str) -> Broken {
        let said = match self {
            Link::Ws(link) => link.say_close(code, reason).await,
            Link::Raw(link) => link.shut_down().await,
        };
        let mut taken = Taken::default();
        let ended = loop {
            match poll_fn(|context| self.poll_take(context, &mut taken)).await {
                Ok(()) => taken.clear(),
                Err(broken) => break broken,
            }
        };
        match said {
            // Why the peer is gone says more than that it can't be written to.
            Err(broken) if matches!(ended, Broken::Ended) => broken,
            _ => ended,
        }
    }
}
