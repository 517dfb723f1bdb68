//! A stream with a read buffer out of which messages are cut, and a write buffer that is flushed.
//!
//! Read bytes are never moved: messages are split off as shared parts of the buffer, and a new one is taken when a message
//! of the old one is still held. Both directions are polled from one task, without a lock.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Stream;

pub struct Buffered {
    stream: Stream,
    /// How much one read asks for: many small messages share such a block, and a batch keeps it alive.
    block: usize,
    pub input: BytesMut,
    pub output: BytesMut,
    unflushed: bool,
}

/// What [`Buffered::moved`] brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    Read,
    /// Everything that was to be written has left.
    Written,
}

impl Buffered {
    /// `input` was read from the stream already. One read asks for about `block` bytes.
    pub fn new(stream: Stream, input: BytesMut, block: usize) -> Buffered {
        Buffered { stream, block, input, output: BytesMut::new(), unflushed: false }
    }

    /// The stream itself, for whoever writes without the buffer.
    pub fn stream(&mut self) -> Pin<&mut Stream> {
        Pin::new(&mut self.stream)
    }

    /// The stream and what was read and not used, for another layer on top of it.
    pub fn into_parts(self) -> (Stream, BytesMut) {
        (self.stream, self.input)
    }

    /// Makes room for a message of so many bytes. The size was said by the peer: it is believed only as far as bytes come in.
    pub fn expect(&mut self, size: usize) {
        let missing = size.saturating_sub(self.input.len());
        if missing > self.input.capacity() - self.input.len() {
            self.input.reserve(missing.min(self.input.len().max(self.block)));
        }
    }

    /// Reads at least a byte.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] at the end of the stream.
    pub async fn read(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_read(context)).await
    }

    /// Reads what is there, without waiting. An end or an error is met again by the next read.
    pub async fn read_now(&mut self) {
        poll_fn(|context| {
            let _ = self.poll_read(context);
            Poll::Ready(())
        })
        .await;
    }

    /// Writes all that is there.
    ///
    /// # Errors
    /// The stream's.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_flush(context)).await
    }

    /// Ends the stream, each of its layers in turn.
    ///
    /// # Errors
    /// The stream's.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        poll_fn(|context| Pin::new(&mut self.stream).poll_shutdown(context)).await
    }

    /// Lets go by what still comes, until the peer has closed too. A socket that is closed with bytes unread resets the
    /// connection, and the peer may lose what was sent before (RFC 1122, section 4.2.2.13): the goodbye, for one.
    pub async fn drain(&mut self) {
        while self.read().await.is_ok() {
            self.input.clear();
        }
    }

    /// Moves bytes: writes what there is to write, and reads if `reading`.
    pub fn moved(&mut self, reading: bool) -> impl Future<Output = io::Result<Moved>> + '_ {
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

    /// # Errors
    /// The stream's.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
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

    /// Reads at least a byte.
    ///
    /// # Errors
    /// As [`Buffered::read`].
    pub fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Less room is not worth a read. A buffer that a batch still holds is not written again: then this allocates anew.
        if self.input.capacity() - self.input.len() < self.block / 4 {
            self.input.reserve(self.block);
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
