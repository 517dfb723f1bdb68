//! What a client sends, read in place: no copy, no allocation, no I/O.
//!
//! Positions instead of slices come out, because the same bytes go on to subscribers and to the host after the buffer has
//! been handed over. What comes after the subject of a PUB (reply, size, payload) is what a MSG ends with too: where it is
//! written in the usual way, one copy of it makes the delivery.
//!
//! The leniency is nats-server's: operations in any case, tabs and several spaces between words, a line feed without a
//! carriage return, unknown text after PING and PONG. Everything is bounded: a line by the maximum control line, a payload by
//! the maximum payload, and both are refused before their bytes have come.

use memchr::memchr;

/// The longest control line, as in nats-server.
pub const MAX_CONTROL_LINE: usize = 4096;
/// Room for the operation's name before its arguments, to which alone the bound applies.
const NAME_ROOM: usize = 16;
const MAX_WORDS: usize = 5;

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op<'a> {
    /// The JSON text.
    Connect(&'a [u8]),
    Publish(Publish),
    Subscribe {
        subject: &'a [u8],
        queue: Option<&'a [u8]>,
        sid: &'a [u8],
    },
    /// `max`: messages after which the subscription ends, counted from its beginning.
    Unsubscribe {
        sid: &'a [u8],
        max: Option<u64>,
    },
    Ping,
    Pong,
    /// INFO, +OK and -ERR, which mean nothing when a client says them.
    Ignored,
}

/// A PUB or HPUB, by positions in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish {
    pub subject: Span,
    pub reply: Option<Span>,
    /// Where the rest of the line begins, with the reply or the first size.
    pub tail: u32,
    /// Whether the rest can go out as it stands.
    pub canonical: bool,
    /// The length of the header block of an HPUB.
    pub headers: Option<u32>,
    /// Header block and payload.
    pub body: Span,
}

/// A range of the buffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    fn new(start: usize, end: usize) -> Span {
        Span { start: start as u32, end: end as u32 }
    }

    pub fn of(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.range()]
    }

    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    pub fn length(self) -> usize {
        (self.end - self.start) as usize
    }
}

impl Publish {
    /// The payload without headers.
    pub fn payload(&self) -> Span {
        Span { start: self.body.start + self.headers.unwrap_or(0), end: self.body.end }
    }

    /// Where the operation ends, its last line break included.
    pub fn end(&self) -> usize {
        self.body.end as usize + 2
    }
}

/// What stands at a position.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// An operation, and where the next one begins.
    Op(Op<'a>, usize),
    /// Nothing can be said before the buffer holds so many bytes.
    More(usize),
}

/// Why the connection can't go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    UnknownOperation,
    ControlLine,
    Payload,
}

/// Reads the operation at `at`. The buffer must stay below 4 GiB.
pub fn parse(buffer: &[u8], at: usize, max_payload: usize) -> Result<Step<'_>, Fault> {
    let rest = &buffer[at..];
    let window = &rest[..rest.len().min(MAX_CONTROL_LINE + NAME_ROOM)];
    let Some(feed) = memchr(b'\n', window) else {
        return match rest.first() {
            Some(first) if !b"CHIPSU+-".contains(&first.to_ascii_uppercase()) => Err(Fault::UnknownOperation),
            _ if window.len() == MAX_CONTROL_LINE + NAME_ROOM => Err(Fault::ControlLine),
            _ => Ok(Step::More(buffer.len() + 1)),
        };
    };
    let next = at + feed + 1;
    let end = if feed > 0 && rest[feed - 1] == b'\r' { at + feed - 1 } else { at + feed };
    let line = &buffer[..end];
    let name = line[at..].iter().position(|byte| is_blank(*byte)).map_or(end, |length| at + length);
    let is = |known: &[u8]| line[at..name].eq_ignore_ascii_case(known);
    if is(b"PUB") {
        return publish(buffer, line, name, next, false, max_payload);
    }
    if is(b"HPUB") {
        return publish(buffer, line, name, next, true, max_payload);
    }
    let words = Words::of(line, name)?;
    let op = if is(b"SUB") {
        match *words.spans() {
            [subject, sid] => Op::Subscribe { subject: subject.of(line), queue: None, sid: sid.of(line) },
            [subject, queue, sid] => {
                Op::Subscribe { subject: subject.of(line), queue: Some(queue.of(line)), sid: sid.of(line) }
            }
            _ => return Err(Fault::UnknownOperation),
        }
    } else if is(b"UNSUB") {
        match *words.spans() {
            [sid] => Op::Unsubscribe { sid: sid.of(line), max: None },
            [sid, max] => Op::Unsubscribe { sid: sid.of(line), max: number(max.of(line)) },
            _ => return Err(Fault::UnknownOperation),
        }
    } else if is(b"PING") {
        Op::Ping
    } else if is(b"PONG") {
        Op::Pong
    } else if is(b"CONNECT") {
        Op::Connect(line[name..].trim_ascii())
    } else if is(b"INFO") || is(b"+OK") || is(b"-ERR") {
        Op::Ignored
    } else {
        return Err(Fault::UnknownOperation);
    };
    Ok(Step::Op(op, next))
}

fn publish<'a>(
    buffer: &[u8],
    line: &[u8],
    name: usize,
    body: usize,
    has_headers: bool,
    max_payload: usize,
) -> Result<Step<'a>, Fault> {
    let words = Words::of(line, name)?;
    let sizes = if has_headers { 2 } else { 1 };
    let spans = words.spans();
    let (subject, reply, first_size) = match spans.len().checked_sub(sizes) {
        Some(1) => (spans[0], None, spans[1]),
        Some(2) => (spans[0], Some(spans[1]), spans[2]),
        _ => return Err(Fault::UnknownOperation),
    };
    let last_size = spans[spans.len() - 1];
    let size = |span: Span| number(span.of(line)).and_then(|size| usize::try_from(size).ok());
    let total = size(last_size).ok_or(Fault::UnknownOperation)?;
    let headers = if has_headers { size(first_size).ok_or(Fault::UnknownOperation)? } else { 0 };
    if headers > total {
        return Err(Fault::UnknownOperation);
    }
    if total > max_payload {
        return Err(Fault::Payload);
    }
    let end = body + total;
    if buffer.len() < end + 2 {
        return Ok(Step::More(end + 2));
    }
    if buffer[end..end + 2] != *b"\r\n" {
        return Err(Fault::UnknownOperation);
    }
    let publish = Publish {
        subject,
        reply,
        tail: reply.unwrap_or(first_size).start,
        canonical: words.single_spaces && last_size.end as usize + 2 == body,
        headers: has_headers.then_some(headers as u32),
        body: Span::new(body, end),
    };
    Ok(Step::Op(Op::Publish(publish), end + 2))
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// The words of a line after the operation's name.
struct Words {
    spans: [Span; MAX_WORDS],
    count: usize,
    /// Whether exactly one space stands between any two.
    single_spaces: bool,
}

impl Words {
    fn of(line: &[u8], from: usize) -> Result<Words, Fault> {
        let mut words = Words { spans: [Span::default(); MAX_WORDS], count: 0, single_spaces: true };
        let end = line.len();
        let mut at = from;
        loop {
            let gap = at;
            while at < end && is_blank(line[at]) {
                at += 1;
            }
            if at == end {
                break;
            }
            if words.count > 0 && (at != gap + 1 || line[gap] != b' ') {
                words.single_spaces = false;
            }
            let start = at;
            while at < end && !is_blank(line[at]) {
                if line[at] == b'\r' {
                    return Err(Fault::UnknownOperation);
                }
                at += 1;
            }
            if words.count == MAX_WORDS {
                // CONNECT's JSON has as many as it likes, and everything else fewer.
                break;
            }
            words.spans[words.count] = Span::new(start, at);
            words.count += 1;
        }
        if end - from > MAX_CONTROL_LINE + 1 {
            return Err(Fault::ControlLine);
        }
        Ok(words)
    }

    fn spans(&self) -> &[Span] {
        &self.spans[..self.count]
    }
}

/// A decimal number of at most ten digits.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 10 {
        return None;
    }
    text.iter()
        .try_fold(0, |value: u64, byte| byte.is_ascii_digit().then(|| value * 10 + u64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 100;

    fn op(text: &[u8]) -> Result<Step<'_>, Fault> {
        parse(text, 0, MAX)
    }

    fn published(text: &[u8]) -> Publish {
        match op(text) {
            Ok(Step::Op(Op::Publish(publish), end)) => {
                assert_eq!(end, text.len());
                assert_eq!(publish.end(), text.len());
                publish
            }
            other => panic!("{other:?} of {:?}", String::from_utf8_lossy(text)),
        }
    }

    #[test]
    fn publishes_give_positions() {
        let text = b"PUB a.b 5\r\nhello\r\n";
        let publish = published(text);
        assert_eq!((publish.subject.of(text), publish.payload().of(text)), (&b"a.b"[..], &b"hello"[..]));
        assert_eq!(&text[publish.tail as usize..], b"5\r\nhello\r\n");
        assert!(publish.canonical && publish.headers.is_none() && publish.reply.is_none());

        let text = b"hpub a r 4 6\r\nh\r\nxhi\r\n";
        let publish = published(text);
        assert_eq!((publish.reply.unwrap().of(text), publish.headers), (&b"r"[..], Some(4)));
        assert_eq!(publish.payload().of(text), b"hi");
        assert!(publish.canonical);

        for text in [
            &b"PUB a  5\r\nhello\r\n"[..],
            b"PUB a\t5\r\nhello\r\n",
            b"PUB a 5 \r\nhello\r\n",
            b"PUB a 5\nhello\r\n",
        ] {
            assert!(!published(text).canonical);
        }
        assert!(published(b"PUB \t a 0\r\n\r\n").canonical, "what stands before the subject is not sent on");
    }

    #[test]
    fn other_operations() {
        let subscribe = |queue| Op::Subscribe { subject: b"a.*", queue, sid: b"7" };
        assert_eq!(op(b"SUB a.* 7\r\n"), Ok(Step::Op(subscribe(None), 11)));
        assert_eq!(op(b"sub a.* q 7\n"), Ok(Step::Op(subscribe(Some(b"q")), 12)));
        assert_eq!(op(b"UNSUB 7 3\r\n"), Ok(Step::Op(Op::Unsubscribe { sid: b"7", max: Some(3) }, 11)));
        assert_eq!(op(b"UNSUB 7\r\n"), Ok(Step::Op(Op::Unsubscribe { sid: b"7", max: None }, 9)));
        assert_eq!(op(b"PING\r\nPO"), Ok(Step::Op(Op::Ping, 6)));
        assert_eq!(
            op(b"CONNECT {\"a\": 1, \"b\" : [ 1 , 2 , 3 ]}\r\n")
                .map(|step| matches!(step, Step::Op(Op::Connect(json), _) if json.ends_with(b"]}"))),
            Ok(true)
        );
        assert_eq!(op(b"+OK\r\n"), Ok(Step::Op(Op::Ignored, 5)));
    }

    #[test]
    fn what_is_not_there_yet_is_asked_for() {
        assert_eq!(op(b""), Ok(Step::More(1)));
        assert_eq!(op(b"PUB a"), Ok(Step::More(6)));
        assert_eq!(op(b"PUB a 5\r\nhe"), Ok(Step::More(16)));
        assert_eq!(parse(b"PING\r\nPUB a 50\r\n", 6, MAX), Ok(Step::More(6 + 10 + 52)));
    }

    #[test]
    fn faults() {
        for text in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x03\x01",
            b"PUB\r\n",
            b"PUB a\r\n",
            b"PUB a x\r\n",
            b"PUB a -1\r\n",
            b"PUB a b c d\r\n",
            b"PUB a 2\r\nhello\r\n",
            b"HPUB a 3\r\n",
            b"HPUB a 5 3\r\n",
            b"SUB a\r\n",
            b"SUB a b c d\r\n",
            b"UNSUB\r\n",
            b"PUB a\rb 1\r\nx\r\n",
            b"MSG a 1 1\r\nx\r\n",
            b"\r\n",
        ] {
            assert_eq!(op(text), Err(Fault::UnknownOperation), "{:?}", String::from_utf8_lossy(text));
        }
        assert_eq!(op(b"PUB a 101\r\n"), Err(Fault::Payload));
        assert_eq!(op(b"PUB a 9999999999\r\n"), Err(Fault::Payload));
        let long = [b"PUB ", [b'a'; MAX_CONTROL_LINE + 20].as_slice()].concat();
        assert_eq!(op(&long), Err(Fault::ControlLine));
        assert_eq!(op(&[&long[..MAX_CONTROL_LINE + 6], b" 1\r\n"].concat()), Err(Fault::ControlLine));
    }

    /// Pieces of operations, so that many of them fit together.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        const PIECES: &[&[u8]] = &[
            b"PUB ",
            b"PUB a 2\r\nxy\r\n",
            b"HPUB ",
            b"SUB ",
            b"UNSUB ",
            b"PING",
            b"CONNECT {}",
            b"\r\n",
            b"\n",
            b" ",
            b"\t",
            b"a.b ",
            b"0",
            b"2",
            b"xy",
            b"\xff",
        ];
        let piece = proptest::sample::select(PIECES);
        proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_positions_lie_in_their_operation(bytes in pieces()) {
            let mut at = 0;
            while let Ok(step) = parse(&bytes, at, MAX) {
                let Step::Op(op, next) = step else { break };
                prop_assert!(at < next && next <= bytes.len());
                if let Op::Publish(publish) = op {
                    let line = publish.body.start as usize;
                    prop_assert!(at < publish.subject.start as usize && publish.subject.length() > 0);
                    prop_assert!((publish.tail as usize) < line && publish.subject.end < publish.tail);
                    prop_assert!(publish.payload().start <= publish.payload().end);
                    prop_assert_eq!(publish.end(), next);
                }
                // The same is found when nothing stands behind it, and no less is enough.
                prop_assert!(matches!(parse(&bytes[..next], at, MAX), Ok(Step::Op(_, end)) if end == next));
                for cut in at..next {
                    prop_assert!(matches!(parse(&bytes[..cut], at, MAX), Ok(Step::More(more)) if more > cut));
                }
                at = next;
            }
        }
    }
}
