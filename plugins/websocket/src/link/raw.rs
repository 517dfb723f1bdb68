//! A raw socket: a read buffer out of which messages are cut, a write buffer that is flushed.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tracemq_plugin_api::sdk::MAX_BATCH;

use super::{BoxSocket, Broken, Taken};
use crate::framing::{Framing, FramingError, Splitter};

/// How much one read asks for. Small messages share such a buffer, and a batch keeps it alive.
const READ: usize = 64 * 1024;

pub(crate) struct RawLink {
    stream: BoxSocket,
    framing: Framing,
    splitter: Splitter,
    input: BytesMut,
    output: BytesMut,
    queued: usize,
    ended: bool,
}

impl RawLink {
    pub(crate) fn new(stream: BoxSocket, framing: Framing, max_message: usize) -> RawLink {
        // A fixed size that the user gives is a limit of its own.
        let max = match framing {
            Framing::Raw => READ.min(max_message),
            _ => max_message,
        };
        let splitter = Splitter::new(framing, max);
        let (input, output) = (BytesMut::new(), BytesMut::new());
        RawLink { stream, framing, splitter, input, output, queued: 0, ended: false }
    }

    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    pub(super) fn send(&mut self, payload: &[u8]) -> Result<(), String> {
        self.framing.check(payload).map_err(|error| error.to_string())?;
        let before = self.output.len();
        self.framing.write(payload, &mut self.output);
        // At least one, so that it is flushed and told of.
        self.queued += (self.output.len() - before).max(1);
        Ok(())
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.output));
            match written {
                Ok(0) => return Poll::Ready(Err(Broken::Io(io::ErrorKind::WriteZero.into()))),
                Ok(count) => self.output.advance(count),
                Err(error) => return Poll::Ready(Err(Broken::Io(error))),
            }
        }
        ready!(Pin::new(&mut self.stream).poll_flush(context)).map_err(Broken::Io)?;
        self.queued = 0;
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        taken: &mut Taken,
    ) -> Poll<Result<(), Broken>> {
        loop {
            let count = self.splitter.split(&self.input, MAX_BATCH, &mut taken.ranges).map_err(broken)?;
            if count > 0 {
                taken.bytes = count;
                taken.buffer = self.input.split_to(count).freeze();
                return Poll::Ready(Ok(()));
            }
            if self.ended {
                return Poll::Ready(self.finish(taken));
            }
            match ready!(self.poll_read(context)) {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                // TLS peers often leave without a goodbye, and TCP ones with a reset: what was whole is handed on.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.ended = true,
                Err(error) => return Poll::Ready(Err(Broken::Io(error))),
            }
        }
    }

    /// After the end of the stream: what is left, then the end.
    fn finish(&mut self, taken: &mut Taken) -> Result<(), Broken> {
        let rest = self.splitter.rest(&self.input);
        let left = self.input.split().freeze();
        match rest.map_err(broken)? {
            Some(range) => {
                taken.bytes = range.len();
                taken.ranges.push(range);
                taken.buffer = left;
                Ok(())
            }
            None => Err(Broken::Ended),
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Grows with what has come in, never with what a peer announces.
        let room = self.input.len().clamp(READ, 16 * READ);
        if self.input.capacity() - self.input.len() < READ / 4 {
            self.input.reserve(room);
        }
        pin!(self.stream.read_buf(&mut self.input)).poll(context)
    }

    /// Sends what is queued and says that nothing more will come.
    pub(super) async fn shut_down(&mut self) -> Result<(), Broken> {
        std::future::poll_fn(|context| self.poll_flush(context)).await?;
        self.stream.shutdown().await.map_err(Broken::Io)
    }
}

fn broken(error: FramingError) -> Broken {
    let hint = if matches!(error, FramingError::TooLong { .. }) {
        " (--max-message-size, or another --framing)"
    } else {
        ""
    };
    // A raw socket has no codes: the number is not sent.
    Broken::Violation { code: 0, text: format!("{error}{hint}") }
}
