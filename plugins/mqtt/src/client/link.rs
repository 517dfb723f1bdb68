//! The bytes of one connection: whole packets are cut out of what is read.

use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tracemq_plugin_api::net::{Buffered, Stream};

use crate::wire::frame::complete;
use crate::wire::{Frame, Frames, WireError};

/// How much one read asks for. Many small packets share such a buffer, and a batch keeps it alive.
const READ: usize = 64 * 1024;

/// How much is enough for [`Link::gather`] not to wait for more.
const GATHERED: usize = 4 * 1024;
/// How long it waits. The system adds some 50 us of its own (its timer slack).
const GATHERING: Duration = Duration::from_micros(20);

pub(super) struct Link {
    bytes: Buffered,
    max_packet: usize,
}

impl Link {
    pub(super) fn new(stream: Stream, max_packet: usize) -> Link {
        Link { bytes: Buffered::new(stream, BytesMut::new(), READ), max_packet }
    }

    /// Takes whole packets that have been read, at most `limit`, as one shared buffer; and how many they are.
    pub(super) fn take(&mut self, limit: usize) -> Result<Option<(Bytes, usize)>, WireError> {
        let found = complete(&self.input, self.max_packet, limit)?;
        if found.count == 0 {
            if let Some(size) = found.next_size {
                self.expect(size);
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
            self.read().await?;
        }
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
        self.read_now().await;
    }
}

impl Deref for Link {
    type Target = Buffered;

    fn deref(&self) -> &Buffered {
        &self.bytes
    }
}

impl DerefMut for Link {
    fn deref_mut(&mut self) -> &mut Buffered {
        &mut self.bytes
    }
}
