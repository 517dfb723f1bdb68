//! From tungstenite to the peer: messages are compressed, frame for frame.

use tokio_tungstenite::tungstenite::protocol::Role;

use super::codec::{Compressor, Head, HeadReader, RSV1, apply_mask};
use super::negotiate::Params;
use super::sizes::MessageSize;

/// Translates what tungstenite writes; does no input or output itself.
///
/// All messages are compressed, however small: a message left out would be lost to the window that the next one refers to.
pub struct Outgoing {
    window_bits: u8,
    takeover: bool,
    /// Made when the first message is sent: it is a quarter of a megabyte.
    compressor: Option<Compressor>,
    head: HeadReader,
    state: State,
    message: MessageSize,
    /// The payload of the frame being compressed.
    payload: Vec<u8>,
    unmasked: Vec<u8>,
    finished: Vec<MessageSize>,
}

enum State {
    Head,
    Plain { left: u64 },
    Compressed { head: Head, read: u64 },
}

impl Outgoing {
    /// For the end that is `role`.
    pub fn new(role: Role, params: &Params) -> Self {
        let (window_bits, takeover) = params.sent_by(role);
        Self {
            window_bits,
            takeover,
            compressor: None,
            head: HeadReader::default(),
            state: State::Head,
            message: MessageSize { compressed: None, plain: 0 },
            payload: Vec::new(),
            unmasked: Vec::new(),
            finished: Vec::new(),
        }
    }

    /// Reads all of `input`, which is tungstenite's and so well-formed, and adds the frames that are complete to `output`.
    pub fn translate(&mut self, mut input: &[u8], output: &mut Vec<u8>) {
        loop {
            match self.state {
                State::Head => match self.head.read(&mut input) {
                    Some(head) => self.begin_frame(head, output),
                    None => return,
                },
                State::Plain { left } => {
                    let (now, rest) = split(input, left);
                    output.extend_from_slice(now);
                    input = rest;
                    let left = left - now.len() as u64;
                    self.state = if left == 0 { State::Head } else { State::Plain { left } };
                }
                State::Compressed { head, read } => {
                    let (now, rest) = split(input, head.length - read);
                    input = rest;
                    self.compress(head, read, now, output);
                }
            }
            if input.is_empty() && !self.owes_an_end() {
                return;
            }
        }
    }

    /// The sizes of the messages that ended since the list was last emptied.
    pub fn finished(&mut self) -> &mut Vec<MessageSize> {
        &mut self.finished
    }

    /// A frame without payload has begun and ends without another byte.
    fn owes_an_end(&self) -> bool {
        match self.state {
            State::Head => false,
            State::Plain { left } => left == 0,
            State::Compressed { head, read } => read == head.length,
        }
    }

    fn begin_frame(&mut self, head: Head, output: &mut Vec<u8>) {
        if !head.is_control() {
            if self.compressor.is_none() {
                self.compressor = Compressor::new(self.window_bits, self.takeover);
            }
            if self.compressor.is_some() {
                self.state = State::Compressed { head, read: 0 };
                return;
            }
            self.message.plain = self.message.plain.saturating_add(head.length);
            if head.fin() {
                self.end_message();
            }
        }
        head.write(output);
        self.state = State::Plain { left: head.length };
    }

    fn compress(&mut self, head: Head, read: u64, now: &[u8], output: &mut Vec<u8>) {
        let Some(compressor) = &mut self.compressor else { return };
        let plain = match head.mask {
            None => now,
            Some(mask) => {
                self.unmasked.clear();
                self.unmasked.extend_from_slice(now);
                apply_mask(&mut self.unmasked, mask, read);
                &self.unmasked
            }
        };
        let read = read + now.len() as u64;
        let frame_ends = read == head.length;
        compressor.compress(plain, frame_ends, &mut self.payload);
        if !frame_ends {
            self.state = State::Compressed { head, read };
            return;
        }
        if head.fin() {
            compressor.end_message(&mut self.payload);
        }
        // The key is tungstenite's: random, and not yet used on the wire.
        if let Some(mask) = head.mask {
            apply_mask(&mut self.payload, mask, 0);
        }
        let rsv1 = if head.opcode() == 0 { 0 } else { RSV1 };
        Head { first: head.first | rsv1, length: self.payload.len() as u64, mask: head.mask }.write(output);
        output.extend_from_slice(&self.payload);
        self.message.plain = self.message.plain.saturating_add(head.length);
        *self.message.compressed.get_or_insert(0) += self.payload.len() as u64;
        self.payload.clear();
        self.state = State::Head;
        if head.fin() {
            self.end_message();
        }
    }

    fn end_message(&mut self) {
        self.finished.push(self.message);
        self.message = MessageSize { compressed: None, plain: 0 };
    }
}

fn split(input: &[u8], most: u64) -> (&[u8], &[u8]) {
    input.split_at(input.len().min(usize::try_from(most).unwrap_or(usize::MAX)))
}
