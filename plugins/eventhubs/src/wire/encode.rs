//! Writing: values, performatives, frames.
//!
//! All goes into one [`Outbox`], of which whoever owns the socket takes as much as it will have. Sizes and counts are filled
//! in afterwards, so that nothing is built twice.

use super::performative::code;

/// What a transfer's frame takes beside its payload, at most.
const TRANSFER: usize = 40;
/// Of the outbox, what is kept once it has all been sent.
const KEPT: usize = 1 << 20;

/// Writes values one after the other, and counts them.
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut Vec<u8>,
    items: u32,
}

impl<'o> Writer<'o> {
    pub fn new(out: &'o mut Vec<u8>) -> Writer<'o> {
        Writer { out, items: 0 }
    }

    fn fixed(&mut self, code: u8, data: &[u8]) {
        self.out.push(code);
        self.out.extend_from_slice(data);
        self.items += 1;
    }

    fn sized(&mut self, code: u8, data: &[u8]) {
        match u8::try_from(data.len()) {
            Ok(size) => self.out.extend_from_slice(&[code, size]),
            Err(_) => {
                self.out.push(code | 0x10);
                // A frame is never that long.
                self.out.extend_from_slice(&(data.len() as u32).to_be_bytes());
            }
        }
        self.out.extend_from_slice(data);
        self.items += 1;
    }

    fn compound(&mut self, code: u8, fill: impl FnOnce(&mut Writer<'_>)) {
        self.out.push(code);
        let at = self.out.len();
        self.out.extend_from_slice(&[0; 8]);
        let mut inner = Writer::new(self.out);
        fill(&mut inner);
        let items = inner.items;
        let size = (self.out.len() - at - 4) as u32;
        self.out[at..at + 4].copy_from_slice(&size.to_be_bytes());
        self.out[at + 4..at + 8].copy_from_slice(&items.to_be_bytes());
        self.items += 1;
    }

    pub fn null(&mut self) {
        self.fixed(0x40, &[]);
    }

    pub fn bool(&mut self, value: bool) {
        self.fixed(if value { 0x41 } else { 0x42 }, &[]);
    }

    pub fn ubyte(&mut self, value: u8) {
        self.fixed(0x50, &[value]);
    }

    pub fn ushort(&mut self, value: u16) {
        self.fixed(0x60, &value.to_be_bytes());
    }

    pub fn uint(&mut self, value: u32) {
        match u8::try_from(value) {
            Ok(0) => self.fixed(0x43, &[]),
            Ok(small) => self.fixed(0x52, &[small]),
            Err(_) => self.fixed(0x70, &value.to_be_bytes()),
        }
    }

    pub fn ulong(&mut self, value: u64) {
        self.fixed(0x80, &value.to_be_bytes());
    }

    pub fn int(&mut self, value: i32) {
        self.fixed(0x71, &value.to_be_bytes());
    }

    pub fn long(&mut self, value: i64) {
        self.fixed(0x81, &value.to_be_bytes());
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub fn timestamp(&mut self, value: i64) {
        self.fixed(0x83, &value.to_be_bytes());
    }

    pub fn string(&mut self, value: &str) {
        self.sized(0xA1, value.as_bytes());
    }

    pub fn symbol(&mut self, value: &str) {
        self.sized(0xA3, value.as_bytes());
    }

    pub fn binary(&mut self, value: &[u8]) {
        self.sized(0xA0, value);
    }

    /// A value that is encoded already.
    pub fn raw(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
        self.items += 1;
    }

    pub fn list(&mut self, fill: impl FnOnce(&mut Writer<'_>)) {
        self.compound(0xD0, fill);
    }

    /// Keys and values are written in turn.
    pub fn map(&mut self, fill: impl FnOnce(&mut Writer<'_>)) {
        self.compound(0xD1, fill);
    }

    pub fn strings<'t>(&mut self, values: impl ExactSizeIterator<Item = &'t str>) {
        self.array(0xB1, values);
    }

    pub fn symbols<'t>(&mut self, values: impl ExactSizeIterator<Item = &'t str>) {
        self.array(0xB3, values);
    }

    fn array<'t>(&mut self, code: u8, values: impl ExactSizeIterator<Item = &'t str>) {
        let count = values.len() as u32;
        self.compound(0xF0, |inner| {
            inner.out.push(code);
            for value in values {
                inner.out.extend_from_slice(&(value.len() as u32).to_be_bytes());
                inner.out.extend_from_slice(value.as_bytes());
            }
            inner.items = count;
        });
    }

    /// The next value is described by this.
    pub fn describe(&mut self, descriptor: u8) -> &mut Self {
        self.out.extend_from_slice(&[0, 0x53, descriptor]);
        self
    }

    /// An error (part 2, section 2.8.14), with all of its fields.
    pub fn error(&mut self, condition: &str, description: &str) {
        self.describe(code::ERROR).list(|fields| {
            fields.symbol(condition);
            fields.string(description);
            fields.null();
        });
    }
}

/// Bytes that wait for the socket.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// What the socket has taken.
    sent: usize,
}

/// Where a transfer belongs.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    pub channel: u16,
    pub handle: u32,
    pub delivery: u32,
    /// Another transfer of the same delivery follows.
    pub more: bool,
}

impl Body {
    /// How much payload fits into a frame.
    pub fn room(max_frame: usize) -> usize {
        max_frame.saturating_sub(TRANSFER)
    }
}

impl Outbox {
    /// How much waits.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// The socket has taken so many bytes.
    pub fn advance(&mut self, count: usize) {
        self.sent += count;
        if self.sent >= self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
            self.sent = 0;
        }
    }

    /// Bytes that are no frame: a protocol header.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn frame(&mut self, kind: u8, channel: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        // What the socket took long ago must not pile up before what it still takes.
        if self.sent > KEPT {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        let at = self.bytes.len();
        let [high, low] = channel.to_be_bytes();
        self.bytes.extend_from_slice(&[0, 0, 0, 0, 2, kind, high, low]);
        fill(&mut self.bytes);
        let size = (self.bytes.len() - at) as u32;
        self.bytes[at..at + 4].copy_from_slice(&size.to_be_bytes());
    }

    /// A performative. All of its fields are to be written.
    pub fn performative(&mut self, channel: u16, code: u8, fields: impl FnOnce(&mut Writer<'_>)) {
        self.frame(0, channel, |out| Writer::new(out).describe(code).list(fields));
    }

    /// A frame of the security layer (part 5, section 5.3).
    pub fn sasl(&mut self, code: u8, fields: impl FnOnce(&mut Writer<'_>)) {
        self.frame(1, 0, |out| Writer::new(out).describe(code).list(fields));
    }

    /// An empty frame, which says only that we are there.
    pub fn heartbeat(&mut self) {
        self.frame(0, 0, |_| {});
    }

    /// A settled transfer, whose payload is these parts. This is what reading events costs, so it is written by hand.
    #[inline]
    pub fn transfer(&mut self, body: Body, parts: &[&[u8]]) {
        let payload: usize = parts.iter().map(|part| part.len()).sum();
        self.bytes.reserve(TRANSFER + payload);
        self.frame(0, body.channel, |out| {
            out.extend_from_slice(&[0, 0x53, code::TRANSFER, 0xC0, 25, 11, 0x70]);
            out.extend_from_slice(&body.handle.to_be_bytes());
            let delivery = body.delivery.to_be_bytes();
            out.push(0x70);
            out.extend_from_slice(&delivery);
            out.extend_from_slice(&[0xA0, 4]);
            out.extend_from_slice(&delivery);
            let more = if body.more { 0x41 } else { 0x42 };
            // message-format, settled, more, rcv-settle-mode, state, resume, aborted, batchable
            out.extend_from_slice(&[0x43, 0x41, more, 0x40, 0x40, 0x42, 0x42, 0x42]);
            for part in parts {
                out.extend_from_slice(part);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Frame, Reader, Value};
    use super::*;

    fn written(fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut out = Vec::new();
        fill(&mut Writer::new(&mut out));
        out
    }

    fn read(bytes: &[u8]) -> Value<'_> {
        let mut reader = Reader::new(bytes);
        let value = reader.value().expect("a value");
        assert!(reader.is_empty(), "{bytes:?}");
        value
    }

    #[test]
    fn what_is_written_is_read() {
        for number in [0, 1, 255, 256, u32::MAX] {
            assert_eq!(read(&written(|w| w.uint(number))).unsigned(), Some(u64::from(number)));
        }
        assert_eq!(read(&written(|w| w.ulong(u64::MAX))).unsigned(), Some(u64::MAX));
        assert_eq!(read(&written(|w| w.long(-5))).signed(), Some(-5));
        assert_eq!(
            read(&written(|w| w.timestamp(-62_135_596_800_000))).timestamp(),
            Some(-62_135_596_800_000)
        );
        let long = "x".repeat(300);
        assert_eq!(read(&written(|w| w.string(&long))).text(), Some(long.as_str()));
        let map = written(|w| {
            w.map(|w| {
                w.symbol("ids");
                w.symbols(["0", "1"].into_iter());
                w.symbol("none");
                w.null();
            });
        });
        let ids = read(&map).get("ids").expect("the key");
        assert!(ids.has_symbol("0") && ids.has_symbol("1") && !ids.has_symbol("2"));
        assert!(read(&map).get("none").is_some_and(|value| value.is_null()));
    }

    #[test]
    fn a_transfer_has_all_its_fields_and_fits_its_frame() {
        let mut out = Outbox::default();
        let body = Body { channel: 3, handle: 7, delivery: 70_000, more: true };
        out.transfer(body, &[b"ab", b"cde"]);
        let header = Frame::header(out.unsent(), 1000).expect("a frame").expect("all of it");
        assert_eq!((header.size, header.channel), (out.len(), 3));
        assert!(header.size <= TRANSFER + 5);
        let mut reader = Reader::new(&out.unsent()[header.body..]);
        let transfer = reader.value().expect("a performative");
        assert_eq!(reader.rest(), b"abcde");
        assert_eq!(transfer.list().expect("a list").count(), 11);
        let fields: [Value<'_>; 11] = transfer.list().expect("a list").fields().expect("fields");
        assert_eq!((fields[0].unsigned(), fields[1].unsigned()), (Some(7), Some(70_000)));
        assert_eq!((fields[4].bool(), fields[5].bool()), (Some(true), Some(true)));
    }

    #[test]
    fn what_was_sent_is_forgotten() {
        let mut out = Outbox::default();
        for _ in 0..100 {
            for _ in 0..100 {
                out.heartbeat();
            }
            assert_eq!(out.unsent()[..8], *b"\0\0\0\x08\x02\0\0\0");
            out.advance(out.len() - 8);
            out.advance(8);
        }
        assert!(out.is_empty() && out.bytes.capacity() <= KEPT);
    }
}
