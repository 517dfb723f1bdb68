//! The life of a connection: reads frames, has the engine move, writes what it puts out.
//!
//! One task, and one buffer each way: while a client does not take what it is owed, nothing more is read from it and nothing
//! more is added, so that it costs a bounded amount however slow it is.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::engine::{Engine, Fault, IDLE, MAX_FRAME, Next};
use super::outgoing::FULL;
use crate::wire::{Frame, Outbox};

/// What is read at once, at least.
const READ: usize = 64 * 1024;
/// How long a client may take to open the connection, after the handshake.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take nothing of what it is owed.
const STALL: Duration = Duration::from_millis(IDLE as u64);
/// How often the clock is looked at, unless the client wants to hear of us more often.
const TICK: Duration = Duration::from_secs(1);
const SHORTEST_TICK: Duration = Duration::from_millis(50);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Why a connection is over.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) text: String,
    /// The condition that the client was told.
    pub(super) code: Option<&'static str>,
}

enum End {
    /// Both have said so.
    Closed,
    /// The client is gone.
    Gone(String),
    Fault(Fault),
}

struct Connection<'e, S> {
    engine: &'e mut Engine,
    from: ReadHalf<S>,
    to: WriteHalf<S>,
    inbox: BytesMut,
    /// Something was written and not flushed.
    dirty: bool,
    heard: Instant,
    wrote: Instant,
}

/// Serves a client, after the handshake, until it is gone.
pub(super) async fn run<S>(stream: S, engine: &mut Engine, stopping: &mut watch::Receiver<bool>) -> Left
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (from, to) = tokio::io::split(stream);
    let now = Instant::now();
    let inbox = BytesMut::new();
    let mut connection = Connection { engine, from, to, inbox, dirty: false, heard: now, wrote: now };
    let end = connection.serve(stopping).await;
    connection.leave(end).await
}

/// Writes some of what waits; flushes when all is written. Nothing is lost when it is dropped.
async fn push<W: AsyncWrite + Unpin>(to: &mut W, out: &mut Outbox, dirty: &mut bool) -> io::Result<usize> {
    let mut count = 0;
    if !out.is_empty() {
        count = to.write(out.unsent()).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        out.advance(count);
        *dirty = true;
    }
    if out.is_empty() {
        to.flush().await?;
        *dirty = false;
    }
    Ok(count)
}

fn gone(error: &io::Error) -> End {
    End::Gone(match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "the connection was reset".to_owned(),
        _ => error.to_string(),
    })
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    async fn serve(&mut self, stopping: &mut watch::Receiver<bool>) -> End {
        let mailbox = std::sync::Arc::clone(&self.engine.mailbox);
        let opening = Instant::now() + OPEN_PATIENCE;
        let mut tick = Instant::now() + TICK;
        loop {
            match self.frames() {
                Ok(Next::Open) => {}
                Ok(Next::Closed) => return End::Closed,
                Err(fault) => return End::Fault(fault),
            }
            self.engine.notes();
            self.engine.pump();
            let reading = self.engine.out.len() < FULL;
            let writing = !self.engine.out.is_empty() || self.dirty;
            if self.inbox.capacity() - self.inbox.len() < READ / 4 {
                self.inbox.reserve(READ);
            }
            tokio::select! {
                read = self.from.read_buf(&mut self.inbox), if reading => match read {
                    Ok(0) => return End::Gone("it ended the connection without saying so".to_owned()),
                    Ok(_) => self.heard = Instant::now(),
                    Err(error) => return gone(&error),
                },
                wrote = push(&mut self.to, &mut self.engine.out, &mut self.dirty), if writing => match wrote {
                    Ok(_) => self.wrote = Instant::now(),
                    Err(error) => return gone(&error),
                },
                () = mailbox.filled() => {}
                () = sleep_until(tick) => {
                    let now = Instant::now();
                    if let Err(fault) = self.clock(now, opening, reading) {
                        return End::Fault(fault);
                    }
                    let often = self.engine.peer_idle.map_or(TICK, |idle| (idle / 4).clamp(SHORTEST_TICK, TICK));
                    tick = now + often;
                }
                // An error says that the server is gone altogether.
                _ = stopping.wait_for(|stopping| *stopping) => {
                    return End::Fault(Fault::new("amqp:connection:forced", "the server is shutting down"));
                }
            }
        }
    }

    /// Has the engine take in the frames that are there, while there is room for what they bring about.
    fn frames(&mut self) -> Result<Next, Fault> {
        while self.engine.out.len() < FULL {
            let header = Frame::header(&self.inbox, MAX_FRAME)
                .map_err(|error| Fault::new("amqp:connection:framing-error", error.to_string()))?;
            let Some(header) = header else { break };
            if self.inbox.len() < header.size {
                self.inbox.reserve(header.size - self.inbox.len());
                break;
            }
            let frame = self.inbox.split_to(header.size).freeze();
            if self.engine.frame(header, &frame)? == Next::Closed {
                return Ok(Next::Closed);
            }
        }
        Ok(Next::Open)
    }

    /// What is due by time.
    fn clock(&mut self, now: Instant, opening: Instant, reading: bool) -> Result<(), Fault> {
        if !self.engine.is_open() && now >= opening {
            return Err(Fault::new("amqp:connection:forced", "no open came in time"));
        }
        if !self.engine.out.is_empty() && now - self.wrote >= STALL {
            return Err(Fault::new("amqp:resource-limit-exceeded", "nothing was taken of what waits"));
        }
        if !reading {
            self.heard = now;
        }
        if now - self.heard >= STALL * 2 {
            return Err(Fault::new("amqp:resource-limit-exceeded", "nothing was heard for too long"));
        }
        self.engine.expire();
        if let Some(idle) = self.engine.peer_idle
            && self.engine.out.is_empty()
            && now - self.wrote >= idle / 2
        {
            self.engine.out.heartbeat();
        }
        Ok(())
    }

    /// Says goodbye, as far as the client takes it.
    async fn leave(&mut self, end: End) -> Left {
        let left = match end {
            End::Gone(text) => return Left { text, code: None },
            End::Closed => Left { text: "it closed the connection".to_owned(), code: None },
            End::Fault(Fault { condition, text }) => {
                self.engine.close(Some((condition, &text)));
                Left { text, code: Some(condition) }
            }
        };
        let goodbye = async {
            while !self.engine.out.is_empty() || self.dirty {
                push(&mut self.to, &mut self.engine.out, &mut self.dirty).await?;
            }
            self.to.shutdown().await?;
            // Closing while the client still sends would reset the connection, and the reason with it.
            self.inbox.clear();
            while self.from.read_buf(&mut self.inbox).await? > 0 {
                self.inbox.clear();
            }
            io::Result::Ok(())
        };
        // Who does not take it is left without one.
        let _ = timeout(GOODBYE, goodbye).await;
        left
    }
}
