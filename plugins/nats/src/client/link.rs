//! The bytes of one connection: a read buffer out of which operations are cut, a write buffer that is flushed.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracemq_plugin_api::net::Stream;

/// How much one read asks for: many small messages share such a block, and a batch keeps it alive.
const BLOCK: usize = 128 * 1024;
/// Less room than this is not worth a read.
const LEAST: usize = BLOCK / 4;

pub(super) struct Link {
    stream: Stream,
    pub(super) input: BytesMut,
    pub(super) output: BytesMut,
    unflushed: bool,
}

/// What a turn of the loop brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    Read,
    /// Everything that was to be written has left.
    Written,
}

impl Link {
    pub(super) fn new(stream: Stream, input: BytesMut) -> Link {
        Link { stream, input, output: BytesMut::new(), unflushed: false }
    }

    /// The stream and what was read and not used, for another layer on top of it.
    pub(super) fn into_parts(self) -> (Stream, BytesMut) {
        (self.stream, self.input)
    }

    /// Makes room for an operation of so many bytes. The size was said by the peer: it is believed only as far as bytes come
    /// in.
    pub(super) fn expect(&mut self, size: usize) {
        let missing = size.saturating_sub(self.input.len());
        if missing > self.input.capacity() - self.input.len() {
            self.input.reserve(missing.min(self.input.len().max(BLOCK)));
        }
    }

    pub(super) async fn read(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_read(context)).await
    }

    /// Writes all that is there.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_flush(context)).await
    }

    /// Ends the stream, each of its layers in turn.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        poll_fn(|context| Pin::new(&mut self.stream).poll_shutdown(context)).await
    }

    /// Moves bytes: writes what there is to write, and reads if `reading`.
    pub(super) fn moved(&mut self, reading: bool) -> impl Future<Output = io::Result<Moved>> + '_ {
        poll_fn(move |context| {
            if (!self.output.is_empty() || self.unflushed) && self.poll_flush(context)?.is_ready() {
                return Poll::Ready(Ok(Moved::Written));
            }
            if reading {
                ready!(self.poll_read(context))?;
                return Poll::Ready(Ok(Moved::Read));
            }
            Poll::Pending
        })
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A buffer that a batch still holds is not written again: then this allocates a new one.
        if self.input.capacity() - self.input.len() < LEAST {
            self.input.reserve(BLOCK);
        }
        let mut buffer = ReadBuf::uninit(self.input.spare_capacity_mut());
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        let read = buffer.filled().len();
        if read == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        // SAFETY: `poll_read` has initialised that many bytes behind the present end.
        unsafe { self.input.set_len(self.input.len() + read) };
        Poll::Ready(Ok(()))
    }
}
