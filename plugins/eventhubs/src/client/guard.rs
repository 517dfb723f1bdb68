//! What stands between the network and fe2o3-amqp: it reads many frames at once, and hands on only whole ones whose values
//! lie no deeper than a decoder takes. What transfers carry goes another way.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracemq_plugin_api::net::{Buffered, Stream};

use super::payloads::{Payloads, Shelf};
use crate::nesting::Nesting;
use crate::wire::{Disposition, Flow, Frame, Header, Performative};

/// Bytes that one read asks for: fe2o3-amqp by itself asks for eight kilobytes.
const READ: usize = 128 * 1024;

/// Deliveries that a disposition may be about: more are not on their way. fe2o3-amqp looks for each of them.
const MOST_SETTLED: u32 = 1 << 20;

pub(super) struct Guard {
    bytes: Buffered,
    sieve: Sieve,
    payloads: Payloads,
    /// What is told when all that was good has been handed on.
    failed: Option<io::Error>,
}

/// What the guard does, without I/O.
pub(super) struct Sieve {
    /// What may be handed on.
    pub(super) good: BytesMut,
    /// The largest frame that was agreed on.
    most: usize,
    payloads: Payloads,
    /// The links that are read, by the peer's channel and handle.
    links: HashMap<Place, Arc<Shelf>>,
}

type Place = (u16, u32);

/// What a frame means to us.
enum Meaning {
    Transfer { handle: u32, more: bool, aborted: bool },
    Attach { handle: u32, shelf: Arc<Shelf> },
    Detach { handle: u32 },
    Drained { handle: u32 },
    End,
    Other,
}

impl Sieve {
    /// `most`: the largest frame that we take, in bytes.
    pub(super) fn new(most: usize, payloads: Payloads) -> Sieve {
        Sieve { good: BytesMut::new(), most, payloads, links: HashMap::new() }
    }

    /// Looks through the frames that are there in full. Says how large the next one is, as soon as that is known.
    ///
    /// # Errors
    /// What follows is no frame, or one that breaks the protocol.
    pub(super) fn look(&mut self, input: &mut BytesMut) -> io::Result<Option<usize>> {
        loop {
            // What both sides begin with.
            if input.starts_with(b"AMQP") {
                if input.len() < 8 {
                    return Ok(None);
                }
                self.good.extend_from_slice(&input.split_to(8));
                continue;
            }
            let Some(header) = Frame::header(input, self.most).map_err(bad)? else { return Ok(None) };
            if input.len() < header.size {
                return Ok(Some(header.size));
            }
            let frame = input.split_to(header.size);
            self.frame(header, frame)?;
        }
    }

    fn frame(&mut self, header: Header, mut frame: BytesMut) -> io::Result<()> {
        if header.body == header.size {
            self.good.extend_from_slice(&frame);
            return Ok(());
        }
        let (performative, payload) = Performative::read(&frame[header.body..]).map_err(bad)?;
        let payload = frame.len() - payload.len();
        let meaning = match performative {
            Performative::Transfer(transfer) => {
                Meaning::Transfer { handle: transfer.handle, more: transfer.more, aborted: transfer.aborted }
            }
            Performative::Attach(attach) => {
                match attach.name.text().and_then(|name| self.payloads.attached(name)) {
                    Some(shelf) => Meaning::Attach { handle: attach.handle, shelf },
                    None => Meaning::Other,
                }
            }
            Performative::Detach(detach) => Meaning::Detach { handle: detach.handle },
            // Only when it was asked to drain the link does a sender say so.
            Performative::Flow(Flow { handle: Some(handle), link_credit, drain: true, .. })
                if link_credit.unwrap_or(0) == 0 =>
            {
                Meaning::Drained { handle }
            }
            Performative::Disposition(Disposition { first, last })
                if last.saturating_sub(first) > MOST_SETTLED =>
            {
                return Err(bad("a disposition of more deliveries than there are"));
            }
            Performative::End => Meaning::End,
            _ => Meaning::Other,
        };
        Nesting::default().pass(&mut frame[header.body..payload]);
        match meaning {
            Meaning::Transfer { handle, more, aborted } => {
                return self.transfer((header.channel, handle), frame, payload, more, aborted);
            }
            Meaning::Attach { handle, shelf } => drop(self.links.insert((header.channel, handle), shelf)),
            Meaning::Drained { handle } => {
                if let Some(shelf) = self.links.get(&(header.channel, handle)) {
                    shelf.drained();
                }
            }
            Meaning::Detach { handle } => drop(self.links.remove(&(header.channel, handle))),
            Meaning::End => self.links.retain(|(channel, _), _| *channel != header.channel),
            Meaning::Other => {}
        }
        self.good.extend_from_slice(&frame);
        Ok(())
    }

    /// Hands on a transfer without its payload, which begins at `payload`.
    fn transfer(
        &mut self,
        place: Place,
        frame: BytesMut,
        payload: usize,
        more: bool,
        aborted: bool,
    ) -> io::Result<()> {
        let start = self.good.len();
        self.good.extend_from_slice(&frame[..payload]);
        match self.links.get(&place) {
            // What it still carries is to be ignored.
            Some(shelf) if aborted => shelf.abort(),
            Some(shelf) => {
                let mut rest = frame.freeze();
                rest.advance(payload);
                shelf.put(rest, more, &mut self.good).map_err(bad)?;
            }
            // For a link that is closed, or never was. fe2o3-amqp knows what that means.
            None => {}
        }
        let size = self.good.len() - start;
        if size > self.most {
            return Err(bad("a transfer without room for what it transfers"));
        }
        (&mut self.good[start..start + 4]).put_u32(size as u32);
        Ok(())
    }
}

impl Guard {
    /// `input` was read from the stream already. `most`: the largest frame that we take, in bytes.
    pub(super) fn new(stream: Stream, input: &[u8], most: usize, payloads: Payloads) -> Guard {
        let bytes = Buffered::new(stream, BytesMut::from(input), READ);
        Guard { bytes, sieve: Sieve::new(most, payloads.clone()), payloads, failed: None }
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
        while this.sieve.good.is_empty() {
            if this.payloads.is_full(context) {
                return Poll::Pending;
            }
            if let Some(error) = this.failed.take() {
                return Poll::Ready(Err(error));
            }
            match this.sieve.look(&mut this.bytes.input) {
                Ok(size) => this.bytes.expect(size.unwrap_or(0)),
                Err(error) => {
                    this.failed = Some(error);
                    continue;
                }
            }
            if !this.sieve.good.is_empty() {
                break;
            }
            match ready!(this.bytes.poll_read(context)) {
                Ok(()) => {}
                // What is left is no frame: the end is all there is to hand on.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let good = &mut this.sieve.good;
        let now = good.len().min(output.remaining());
        output.put_slice(&good[..now]);
        good.advance(now);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Body, Outbox, code};
    use fe2o3_amqp_types::messaging::{Batch as Sections, Data};
    use serde_amqp::primitives::Binary;

    fn attach(out: &mut Outbox, name: &str, handle: u32) {
        out.performative(0, code::ATTACH, |w| {
            w.string(name);
            w.uint(handle);
            w.bool(false);
        });
    }

    /// What fe2o3-amqp gets: performatives, with the payloads of transfers.
    fn handed_on(sieve: &mut Sieve) -> Vec<(&'static str, Vec<u8>)> {
        let bytes = sieve.good.split();
        let (mut rest, mut found) = (&bytes[..], Vec::new());
        while let Ok(Some(header)) = Frame::header(rest, 1 << 20) {
            let (performative, payload) =
                Performative::read(&rest[header.body..header.size]).expect("a performative");
            let name = match performative {
                Performative::Attach(_) => "attach",
                Performative::Transfer(_) => "transfer",
                Performative::Detach(_) => "detach",
                _ => "other",
            };
            found.push((name, payload.to_vec()));
            rest = &rest[header.size..];
        }
        assert!(rest.is_empty());
        found
    }

    #[test]
    fn payloads_of_links_that_are_read_go_their_own_way() {
        let payloads = Payloads::default();
        let inbox = payloads.link("ours", 1000);
        let mut sieve = Sieve::new(1000, payloads);
        let mut out = Outbox::default();
        attach(&mut out, "ours", 3);
        attach(&mut out, "other", 4);
        for (handle, delivery, more) in [(3, 0, false), (3, 1, true), (3, 1, false), (4, 2, false)] {
            out.transfer(Body { channel: 0, handle, delivery, more }, &[b"payload"]);
        }
        out.performative(0, code::DETACH, |w| w.uint(3));
        out.transfer(Body { channel: 0, handle: 3, delivery: 3, more: false }, &[b"too late"]);
        // In whatever pieces it comes.
        let mut input = BytesMut::new();
        for piece in out.unsent().chunks(7) {
            input.extend_from_slice(piece);
            sieve.look(&mut input).expect("good frames");
        }
        let frames = handed_on(&mut sieve);
        let names: Vec<_> = frames.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            ["attach", "attach", "transfer", "transfer", "transfer", "transfer", "detach", "transfer"]
        );
        let data = |at: usize| Data(Binary::from(frames[at].1[5..].to_vec()));
        assert_eq!(inbox.take(&Sections::new(vec![data(2)])).as_deref(), Ok(&b"payload"[..]));
        assert_eq!(inbox.take(&Sections::new(vec![data(3), data(4)])).as_deref(), Ok(&b"payloadpayload"[..]));
        assert!(frames[5].1.is_empty() && frames[7].1.is_empty(), "{frames:?}");
    }

    #[test]
    fn a_link_is_drained_when_the_peer_has_said_so_and_all_was_taken() {
        let payloads = Payloads::default();
        let inbox = payloads.link("ours", 1000);
        let mut sieve = Sieve::new(1000, payloads);
        let flow = |out: &mut Outbox, handle: u32, credit: u32| {
            out.performative(0, code::FLOW, |w| {
                (0..4).for_each(|number| w.uint(number));
                w.uint(handle);
                w.uint(7);
                w.uint(credit);
                w.uint(0);
                w.bool(true);
            });
        };
        let mut look = |fill: &dyn Fn(&mut Outbox)| {
            let mut out = Outbox::default();
            fill(&mut out);
            sieve.look(&mut BytesMut::from(out.unsent())).expect("good frames");
            handed_on(&mut sieve)
        };
        look(&|out| attach(out, "ours", 3));
        let transfer = look(&|out| {
            out.transfer(Body { channel: 0, handle: 3, delivery: 0, more: false }, &[b"payload"])
        });
        look(&|out| {
            flow(out, 4, 0);
            flow(out, 3, 5);
        });
        assert!(!inbox.is_drained(), "another link's, and one that has credit still");
        look(&|out| flow(out, 3, 0));
        assert!(!inbox.is_drained(), "something was not taken");
        let number = Data(Binary::from(transfer[0].1[5..].to_vec()));
        assert_eq!(inbox.take(&Sections::new(vec![number])).as_deref(), Ok(&b"payload"[..]));
        assert!(inbox.is_drained());
    }

    #[test]
    fn what_is_no_frame_is_told_behind_what_was_good() {
        let mut sieve = Sieve::new(1000, Payloads::default());
        let mut input = BytesMut::from(&b"AMQP\0\x01\0\0\0\0\0\x08\x02\0\0\0\0\0\0\x02\x02\0\0\0"[..]);
        assert!(sieve.look(&mut input).is_err());
        assert_eq!(sieve.good, &b"AMQP\0\x01\0\0\0\0\0\x08\x02\0\0\0"[..]);
        // Only as much is waited for as may come.
        let mut sieve = Sieve::new(1000, Payloads::default());
        assert_eq!(sieve.look(&mut BytesMut::from(&b"\0\0\x03\xe8\x02\0\0\0"[..])).ok(), Some(Some(1000)));
        assert!(sieve.look(&mut BytesMut::from(&b"\0\0\x03\xe9\x02\0\0\0"[..])).is_err());
    }
}
