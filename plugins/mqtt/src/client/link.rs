//! The bytes of one connection: a read buffer out of which packets are cut, a write buffer that is flushed.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracemq_plugin_api::net::Stream;

use crate::wire::frame::complete;
use crate::wire::{Frame, Frames, WireError};

/// How much one read asks for. Many small packets share such a buffer, and a batch keeps it alive.
const READ: usize = 64 * 1024;

/// How much is enough for [`Link::gather`] not to wait for more.
const GATHERED: usize = 4 * 1024;
/// How long it waits. The system adds some 50 us of its own (its timer slack).
const GATHERING: Duration = Duration::from_micros(20);

pub(super) struct Link {
    stream: Stream,
    input: BytesMut,
    pub(super) output: BytesMut,
    unflushed: bool,
    max_packet: usize,
}

/// What a turn of the loop brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    Read,
    /// Everything that was to be written has left.
    Written,
}

impl Link {
    pub(super) fn new(stream: Stream, max_packet: usize) -> Link {
        Link { stream, input: BytesMut::new(), output: BytesMut::new(), unflushed: false, max_packet }
    }

    /// Takes whole packets that have been read, at most `limit`, as one shared buffer; and how many they are.
    pub(super) fn take(&mut self, limit: usize) -> Result<Option<(Bytes, usize)>, WireError> {
        let found = complete(&self.input, self.max_packet, limit)?;
        if found.count == 0 {
            // The size was said by the peer: it is believed only as far as bytes come in.
            if let Some(size) = found.next_size {
                let missing = size.saturating_sub(self.input.len()).min(self.input.len().max(READ));
                self.input.reserve(missing);
            }
            return Ok(None);
        }
        Ok(Some((self.input.split_to(found.end).freeze(), found.count)))
    }

    /// The next packet, for the handshake, where nothing else happens.
    pub(super) async fn next<T>(
        &mut self,
        read: impl FnOnce(&Frame<'_>) -> T,
    ) -> io::Result<Result<T, WireError>> {
        loop {
            match self.take(1) {
                Err(error) => return Ok(Err(error)),
                Ok(Some((buffer, _))) => {
                    if let Some(frame) = Frames::new(&buffer).next() {
                        return Ok(Ok(read(&frame)));
                    }
                }
                Ok(None) => {}
            }
            poll_fn(|context| self.poll_read(context)).await?;
        }
    }

    /// Writes all that is there.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_flush(context)).await
    }

    /// Ends the stream, each of its layers in turn.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        poll_fn(|context| Pin::new(&mut self.stream).poll_shutdown(context)).await
    }

    /// Lets go by what still comes, until the server has closed too. A socket that is closed with bytes unread resets the
    /// connection, and the server may lose what was sent before (RFC 1122, section 4.2.2.13): the goodbye, for one.
    pub(super) async fn drain(&mut self) {
        while poll_fn(|context| self.poll_read(context)).await.is_ok() {
            self.input.clear();
        }
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

    /// Lets more come and reads it. A server that writes packet by packet would otherwise be read packet by packet, and each
    /// time the host woken and an acknowledgement written for one message.
    pub(super) async fn gather(&mut self) {
        if self.input.len() >= GATHERED {
            return;
        }
        // Of the thread, since tokio's timer counts in milliseconds; where cores are short, the server gets them meanwhile.
        std::thread::sleep(GATHERING);
        // tokio learns of new data only when its reactor turns.
        tokio::task::yield_now().await;
        // An end or an error is met again by the next read, after what has come is dealt with.
        poll_fn(|context| {
            let _ = self.poll_read(context);
            Poll::Ready(())
        })
        .await;
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
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
        if self.input.capacity() - self.input.len() < READ / 8 {
            self.input.reserve(READ);
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
