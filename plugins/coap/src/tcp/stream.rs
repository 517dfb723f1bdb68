//! A connection, without its socket.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;

use super::frame::{Deframer, write_frame};
use super::signal::{self, BASE_SIZE, Signal};
use crate::blockwise::Room;
use crate::message::{self, Packet};

/// What has happened.
#[derive(Debug)]
pub enum StreamEvent {
    /// The other end has told its limits, which is the first thing it says.
    Ready,
    Request(Packet),
    Response(Packet),
    Pong,
    /// The other end wants no more requests, and closes when all are answered.
    Released,
    /// The connection can't be used any more, and why. What is to be sent yet says so to the other end.
    Over(String),
}

/// A message is longer than the other end takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    pub length: usize,
    pub limit: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message of {} bytes is longer than the {} that the peer takes", self.length, self.limit)
    }
}

/// What both ends of a connection do.
pub struct Stream {
    deframer: Deframer,
    outgoing: Vec<u8>,
    events: VecDeque<StreamEvent>,
    /// The longest message that the other end takes; what it told.
    theirs: usize,
    /// It has told that it knows blocks.
    blocks: bool,
    ready: bool,
    over: bool,
}

impl Stream {
    /// `limit` is the longest message that is taken, which is told to the other end.
    pub fn new(limit: usize) -> Stream {
        let limit = limit.max(BASE_SIZE);
        let mut stream = Stream {
            deframer: Deframer::new(limit),
            outgoing: Vec::new(),
            events: VecDeque::new(),
            theirs: BASE_SIZE,
            blocks: false,
            ready: false,
            over: false,
        };
        stream.write(&signal::csm(limit));
        stream
    }

    /// Takes what came.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.deframer.add(bytes);
        while !self.over {
            match self.deframer.next_message() {
                Ok(Some(packet)) => self.received(packet),
                Ok(None) => return,
                Err(error) => return self.abort(&error.to_string(), None),
            }
        }
    }

    /// The other end has closed.
    pub fn ended(&mut self) {
        if !self.over {
            self.over = true;
            let why = match self.deframer.is_between_messages() {
                true => "the connection was closed",
                false => "the connection was closed in the middle of a message",
            };
            self.events.push_back(StreamEvent::Over(why.to_owned()));
        }
    }

    fn received(&mut self, packet: Packet) {
        let signal = Signal::of(&packet);
        if !self.ready && !matches!(signal, Some(Signal::Csm { .. } | Signal::Abort(_))) {
            return self.abort("the first message must be a CSM", None);
        }
        match signal {
            None if message::is_request(packet.header.code) => {
                self.events.push_back(StreamEvent::Request(packet));
            }
            None if message::is_response(packet.header.code) => {
                self.events.push_back(StreamEvent::Response(packet));
            }
            // An empty message keeps a connection alive (section 3.4); classes 1 and 6 are reserved.
            None => {}
            Some(Signal::Csm { unknown: Some(number), .. }) => {
                self.abort("a critical option of the CSM is not understood", Some(number));
            }
            Some(Signal::Csm { max_message_size, block_wise, .. }) => {
                if let Some(size) = max_message_size {
                    self.theirs = size;
                }
                self.blocks |= block_wise;
                if !std::mem::replace(&mut self.ready, true) {
                    self.events.push_back(StreamEvent::Ready);
                }
            }
            Some(Signal::Ping { custody }) => {
                self.write(&signal::pong(&packet, custody));
            }
            Some(Signal::Pong) => self.events.push_back(StreamEvent::Pong),
            Some(Signal::Release) => self.events.push_back(StreamEvent::Released),
            Some(Signal::Abort(why)) => {
                self.over = true;
                let why = match why.trim() {
                    "" => "the peer aborted the connection".to_owned(),
                    why => format!("the peer aborted the connection: {why:?}"),
                };
                self.events.push_back(StreamEvent::Over(why));
            }
            Some(Signal::Unknown(_)) => {}
        }
    }

    fn abort(&mut self, why: &str, bad_csm_option: Option<u16>) {
        self.write(&signal::abort(why, bad_csm_option));
        self.over = true;
        self.events.push_back(StreamEvent::Over(why.to_owned()));
    }

    /// Sends a request or response; type and message id do not count.
    ///
    /// # Errors
    /// It is longer than the other end takes.
    pub fn send(&mut self, packet: &Packet) -> Result<(), TooLarge> {
        let before = self.outgoing.len();
        let length = self.write(packet);
        if length > self.theirs {
            self.outgoing.truncate(before);
            return Err(TooLarge { length, limit: self.theirs });
        }
        Ok(())
    }

    /// Asks whether the other end is there.
    pub fn ping(&mut self) {
        self.write(&signal::ping());
    }

    /// Says that this end is about to close.
    pub fn release(&mut self) {
        if !self.over {
            self.write(&signal::release());
        }
    }

    /// The longest message that the other end takes.
    pub fn their_limit(&self) -> usize {
        self.theirs
    }

    /// What goes into one message to the other end, of at most so many bytes: blocks of any size (BERT) where it knows them
    /// (section 6).
    pub fn room(&self, most: usize) -> Room {
        Room::of_stream(self.theirs.min(most), self.blocks && self.theirs > BASE_SIZE)
    }

    /// Bytes that wait to be sent.
    pub fn waiting(&self) -> usize {
        self.outgoing.len()
    }

    /// What is to be sent. Ask after every other call.
    pub fn take_outgoing(&mut self) -> Bytes {
        std::mem::take(&mut self.outgoing).into()
    }

    /// What happened next. Ask until there is nothing, after every other call.
    pub fn poll_event(&mut self) -> Option<StreamEvent> {
        self.events.pop_front()
    }

    fn write(&mut self, packet: &Packet) -> usize {
        write_frame(packet, &mut self.outgoing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{CoapOption, Method};

    fn connected() -> (Stream, Stream) {
        let (mut one, mut other) = (Stream::new(10_000), Stream::new(5000));
        one.receive(&other.take_outgoing());
        other.receive(&one.take_outgoing());
        assert!(matches!(one.poll_event(), Some(StreamEvent::Ready)));
        assert!(matches!(other.poll_event(), Some(StreamEvent::Ready)));
        (one, other)
    }

    fn request(payload: usize) -> Packet {
        let mut packet = Packet::new();
        packet.header.code = Method::Put.class();
        packet.payload = vec![1; payload];
        packet
    }

    #[test]
    fn limits_are_told_and_kept() {
        let (mut one, mut other) = connected();
        assert_eq!((one.their_limit(), other.their_limit()), (5000, 10_000));
        assert_eq!(one.send(&request(5000)), Err(TooLarge { length: 5005, limit: 5000 }));
        assert_eq!(one.waiting(), 0);
        one.send(&request(4000)).unwrap();
        other.receive(&one.take_outgoing());
        assert!(
            matches!(other.poll_event(), Some(StreamEvent::Request(packet)) if packet.payload.len() == 4000)
        );
        assert_eq!(Stream::new(0).their_limit(), BASE_SIZE);
    }

    #[test]
    fn pings_are_answered_with_their_token() {
        let (mut one, mut other) = connected();
        let mut ping = signal::ping();
        ping.set_token(vec![7]);
        message::add(&mut ping, CoapOption::Unknown(2), Vec::new());
        other.write(&ping);
        one.receive(&other.take_outgoing());
        assert_eq!(one.take_outgoing()[..], [0x11, 0xE3, 7, 0x20]);
        one.ping();
        other.receive(&one.take_outgoing());
        one.receive(&other.take_outgoing());
        assert!(matches!(one.poll_event(), Some(StreamEvent::Pong)));
    }

    #[test]
    fn what_does_not_conform_is_aborted() {
        let bad_csm = {
            let mut packet = signal::csm(2000);
            message::add(&mut packet, CoapOption::Unknown(9), Vec::new());
            packet
        };
        let frame = |packet: &Packet| {
            let mut out = Vec::new();
            write_frame(packet, &mut out);
            out
        };
        for bytes in [frame(&request(1)), frame(&bad_csm), vec![0x09], b"GET / HTTP/1.1\r\n".to_vec()] {
            let mut stream = Stream::new(2000);
            stream.take_outgoing();
            stream.receive(&bytes);
            assert!(matches!(stream.poll_event(), Some(StreamEvent::Over(_))), "{bytes:02x?}");
            let mut abort = Deframer::new(2000);
            abort.add(&stream.take_outgoing());
            let abort = abort.next_message().unwrap().expect("an abort");
            assert!(matches!(Signal::of(&abort), Some(Signal::Abort(_))));
            // It does not go on.
            stream.receive(&frame(&request(1)));
            assert!(stream.poll_event().is_none());
        }
    }

    #[test]
    fn the_end_says_whether_anything_is_missing() {
        let (mut one, _) = connected();
        one.receive(&[0x50]);
        one.ended();
        assert!(matches!(one.poll_event(), Some(StreamEvent::Over(why)) if why.contains("middle")));
        let (mut one, mut other) = connected();
        other.release();
        one.receive(&other.take_outgoing());
        one.ended();
        assert!(matches!(one.poll_event(), Some(StreamEvent::Released)));
        assert!(
            matches!(one.poll_event(), Some(StreamEvent::Over(why)) if why == "the connection was closed")
        );
    }
}
