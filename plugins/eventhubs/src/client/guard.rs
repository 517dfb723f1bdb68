//! What stands between the network and fe2o3-amqp: it reads many frames at once, and hands on only whole ones whose values
//! lie no deeper than a decoder takes.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracemq_plugin_api::net::{Buffered, Stream};

use crate::nesting::Nesting;
use crate::wire::{Frame, Header, Performative};

/// Bytes that one read asks for: fe2o3-amqp by itself asks for eight kilobytes.
const READ: usize = 128 * 1024;
/// Deliveries of which frames are still to come.
const UNFINISHED: usize = 4096;

pub(super) struct Guard {
    bytes: Buffered,
    /// Bytes of the input that may be handed on.
    good: usize,
    /// The largest frame that was agreed on.
    most: usize,
    /// By channel and handle.
    unfinished: HashMap<(u16, u32), Nesting>,
}

impl Guard {
    /// `input` was read from the stream already. `most`: the largest frame that we take, in bytes.
    pub(super) fn new(stream: Stream, input: &[u8], most: usize) -> Guard {
        let bytes = Buffered::new(stream, BytesMut::from(input), READ);
        Guard { bytes, good: 0, most, unfinished: HashMap::new() }
    }

    /// Looks through the frames that are there in full.
    fn look(&mut self) -> io::Result<()> {
        loop {
            let rest = &self.bytes.input[self.good..];
            // What both sides begin with.
            if rest.starts_with(b"AMQP") {
                if rest.len() < 8 {
                    return Ok(());
                }
                self.good += 8;
                continue;
            }
            let Some(header) = Frame::header(rest, self.most).map_err(bad)? else { return Ok(()) };
            if rest.len() < header.size {
                return Ok(());
            }
            let start = self.good;
            self.good += header.size;
            if header.body < header.size {
                self.frame(header, start)?;
            }
        }
    }

    fn frame(&mut self, header: Header, start: usize) -> io::Result<()> {
        let body = &mut self.bytes.input[start + header.body..start + header.size];
        let (performative, payload) = Performative::read(body).map_err(bad)?;
        let transfer =
            if let Performative::Transfer(transfer) = performative { Some(transfer) } else { None };
        let payload = body.len() - payload.len();
        let (fields, payload) = body.split_at_mut(payload);
        Nesting::default().pass(fields);
        let Some(transfer) = transfer else { return Ok(()) };
        let place = (header.channel, transfer.handle);
        let mut message = self.unfinished.remove(&place).unwrap_or_default();
        message.pass(payload);
        if transfer.more && !transfer.aborted {
            if self.unfinished.len() >= UNFINISHED {
                return Err(bad("more deliveries begun than can be"));
            }
            self.unfinished.insert(place, message);
        }
        Ok(())
    }
}

fn bad(why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

/// fe2o3-amqp asks for it; what was read is nobody's business.
impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

impl AsyncRead for Guard {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        output: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            this.look()?;
            if this.good > 0 {
                break;
            }
            match ready!(this.bytes.poll_read(context)) {
                Ok(()) => {}
                // What is left is no frame: the end is all there is to hand on.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let now = this.good.min(output.remaining());
        output.put_slice(&this.bytes.input[..now]);
        this.bytes.input.advance(now);
        this.good -= now;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guard {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().bytes.stream().poll_write(context, data)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().bytes.stream().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().bytes.stream().poll_shutdown(context)
    }
}
