//! From the peer to tungstenite: compressed messages become plain ones.
//!
//! A message is inflated as its bytes come, and handed on in fragments when it is larger than [`CHUNK`]; so tungstenite's
//! own checks (message size, UTF-8) find what is wrong before the rest has been inflated, and a message in one frame that
//! inflates to little is one frame again.

use tokio_tungstenite::tungstenite::protocol::Role;

use super::codec::{DeflateError, FIN, Head, HeadReader, Inflater, RSV1, TAIL, apply_mask};
use super::negotiate::Params;
use super::sizes::MessageSize;

/// How much is inflated at a time.
const CHUNK: usize = 64 * 1024;
/// How much is unmasked at a time.
const PIECE: usize = 4096;

/// Translates what a peer sends; does no input or output itself.
pub struct Incoming {
    /// What this end is: a server's peer masks its frames.
    role: Role,
    inflater: Inflater,
    limit: usize,
    head: HeadReader,
    state: State,
    message: Option<Message>,
    chunk: Vec<u8>,
    finished: Vec<MessageSize>,
}

enum State {
    Head,
    /// Passing on the payload of a frame as it is.
    Plain {
        left: u64,
    },
    Compressed(Payload),
    /// Reading what was left out at the end of the message, from this byte of it on.
    Tail(usize),
    /// A frame came that is wrong: tungstenite is shown it and all that follows.
    Verbatim,
    Failed(DeflateError),
}

/// Where in a compressed frame the reader is.
struct Payload {
    head: Head,
    read: u64,
}

/// The text or binary message being read.
struct Message {
    compressed: bool,
    opcode: u8,
    /// Bytes of payload that have come.
    wire: u64,
    /// Bytes of payload that were handed on.
    plain: u64,
    /// A fragment was handed on.
    begun: bool,
}

impl Incoming {
    /// For the end that is `role`, with messages of `limit` bytes at most once they are inflated.
    pub fn new(role: Role, params: &Params, limit: usize) -> Self {
        let peer = match role {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        };
        let (window_bits, takeover) = params.sent_by(peer);
        Self {
            role,
            inflater: Inflater::new(window_bits, takeover),
            limit,
            head: HeadReader::default(),
            state: State::Head,
            message: None,
            chunk: Vec::new(),
            finished: Vec::new(),
        }
    }

    /// Reads from `input` and adds frames without compression to `output`, until all is read or about 64 KiB were added.
    /// When it leaves nothing of `input` unread and adds nothing, it needs more.
    ///
    /// # Errors
    ///
    /// When a compressed message can't be inflated, or goes on after more than the limit was handed on. All later calls
    /// give the same error.
    pub fn translate(&mut self, input: &mut &[u8], output: &mut Vec<u8>) -> Result<(), DeflateError> {
        let enough = output.len() + CHUNK;
        while output.len() < enough {
            match &mut self.state {
                State::Head => match self.head.read(input) {
                    Some(head) => self.begin_frame(head, output),
                    None => return Ok(()),
                },
                State::Plain { left } => {
                    let count = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX)).min(CHUNK);
                    output.extend_from_slice(take(input, count));
                    *left -= count as u64;
                    if *left == 0 {
                        self.state = State::Head;
                    } else if input.is_empty() {
                        return Ok(());
                    }
                }
                State::Verbatim => {
                    let count = input.len().min(CHUNK);
                    output.extend_from_slice(take(input, count));
                    if input.is_empty() {
                        return Ok(());
                    }
                }
                State::Compressed(_) | State::Tail(_) => {
                    if let Err(error) = self.inflate(input, output) {
                        self.state = State::Failed(error);
                    } else if input.is_empty() && matches!(self.state, State::Compressed(_)) {
                        return Ok(());
                    }
                }
                State::Failed(error) => return Err(error.clone()),
            }
        }
        Ok(())
    }

    /// The sizes of the messages that ended since the list was last emptied.
    pub fn finished(&mut self) -> &mut Vec<MessageSize> {
        &mut self.finished
    }

    fn begin_frame(&mut self, head: Head, output: &mut Vec<u8>) {
        let first_of_message = matches!(head.opcode(), 1 | 2);
        let continues = head.opcode() == 0;
        let compressed = match &self.message {
            Some(message) => continues && message.compressed,
            None => first_of_message && head.rsv1(),
        };
        let wrong = head.other_reserved()
            || (head.rsv1() && !(first_of_message && self.message.is_none()))
            || (!head.is_control() && continues != self.message.is_some());
        if wrong {
            head.write(output);
            self.state = State::Verbatim;
            return;
        }
        if compressed && head.mask.is_some() != (self.role == Role::Server) {
            // The mask is what is wrong with it, not the compression.
            Head { first: head.first & !RSV1, ..head }.write(output);
            self.state = State::Verbatim;
            return;
        }
        if compressed {
            let message = self.message.get_or_insert(Message::new(head.opcode(), true));
            message.wire = message.wire.saturating_add(head.length);
            self.state = State::Compressed(Payload { head, read: 0 });
            return;
        }
        head.write(output);
        self.state = State::Plain { left: head.length };
        if !head.is_control() {
            let mut message = self.message.take().unwrap_or(Message::new(head.opcode(), false));
            message.plain = message.plain.saturating_add(head.length);
            if head.fin() {
                self.finished.push(MessageSize { compressed: None, plain: message.plain });
            } else {
                self.message = Some(message);
            }
        }
    }

    /// One step in a compressed frame: inflates until the chunk is full, the piece at hand is read or the frame ends.
    fn inflate(&mut self, input: &mut &[u8], output: &mut Vec<u8>) -> Result<(), DeflateError> {
        if self.chunk.capacity() == 0 {
            self.chunk.reserve_exact(CHUNK);
        }
        match &mut self.state {
            State::Compressed(payload) => {
                let left = usize::try_from(payload.head.length - payload.read).unwrap_or(usize::MAX);
                let count = match payload.head.mask {
                    None => self.inflater.inflate(&input[..input.len().min(left)], &mut self.chunk)?,
                    Some(mask) => {
                        let mut piece = [0; PIECE];
                        let piece = &mut piece[..input.len().min(left).min(PIECE)];
                        piece.copy_from_slice(&input[..piece.len()]);
                        apply_mask(piece, mask, payload.read);
                        self.inflater.inflate(piece, &mut self.chunk)?
                    }
                };
                take(input, count);
                payload.read += count as u64;
                if self.chunk.len() == self.chunk.capacity() {
                    return self.hand_on(false, output);
                }
                if payload.read < payload.head.length {
                    return Ok(());
                }
                if payload.head.fin() {
                    self.state = State::Tail(0);
                } else {
                    self.state = State::Head;
                    // Even when it is empty: tungstenite then knows that a message has begun.
                    self.hand_on(false, output)?;
                }
            }
            State::Tail(read) => {
                let tail = if *read == 0 { self.inflater.tail() } else { &TAIL[*read..] };
                let count = self.inflater.inflate(tail, &mut self.chunk)?;
                *read += count;
                if self.chunk.len() == self.chunk.capacity() {
                    return self.hand_on(false, output);
                }
                self.inflater.end_message();
                self.state = State::Head;
                self.hand_on(true, output)?;
            }
            State::Head | State::Plain { .. } | State::Verbatim | State::Failed(_) => {}
        }
        Ok(())
    }

    /// The chunk as a frame. One that goes over the limit is handed on too, as a fragment: tungstenite has the same limit
    /// and reports it in its own words.
    fn hand_on(&mut self, last: bool, output: &mut Vec<u8>) -> Result<(), DeflateError> {
        let Some(message) = &mut self.message else { return Ok(()) };
        if message.plain > self.limit as u64 {
            return Err(DeflateError::TooLarge(self.limit));
        }
        message.plain += self.chunk.len() as u64;
        let opcode = if message.begun { 0 } else { message.opcode };
        let fin = if last { FIN } else { 0 };
        // A mask of zeroes changes nothing and is a mask all the same.
        let mask = (self.role == Role::Server).then_some([0; 4]);
        Head { first: fin | opcode, length: self.chunk.len() as u64, mask }.write(output);
        output.extend_from_slice(&self.chunk);
        self.chunk.clear();
        message.begun = true;
        if last {
            self.finished.push(MessageSize { compressed: Some(message.wire), plain: message.plain });
            self.message = None;
        }
        Ok(())
    }
}

impl Message {
    fn new(opcode: u8, compressed: bool) -> Self {
        Self { compressed, opcode, wire: 0, plain: 0, begun: false }
    }
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(count);
    *input = rest;
    taken
}
