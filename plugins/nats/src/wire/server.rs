//! What a server sends: INFO, MSG, HMSG, PING, PONG, +OK, -ERR.
//!
//! [`scan`] looks for one complete operation and says where its parts are. It holds no state: an operation that is not yet
//! complete is looked at again when more has come, which is cheap, for a line is short and a payload is counted.

use std::ops::Range;

use super::{WireError, quote};

/// What is taken from a server. What is above is a broken or hostile server, and the end of the connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a line other than INFO's.
    pub line: usize,
    /// Bytes of an INFO line.
    pub info: usize,
    /// Bytes of headers and payload together.
    pub message: usize,
}

impl Default for Limits {
    /// A server's own limits are 4 KiB for a control line and 64 MiB for a payload, if its administrator has not raised them.
    fn default() -> Limits {
        Limits { line: 64 << 10, info: 1 << 20, message: 64 << 20 }
    }
}

/// Where the parts of a message stand, counted from the start of the buffer that was scanned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageAt {
    pub sid: u64,
    subject: (u32, u32),
    reply: (u32, u32),
    headers: u32,
    payload: u32,
    end: u32,
}

impl MessageAt {
    pub fn subject(&self) -> Range<usize> {
        self.subject.0 as usize..self.subject.1 as usize
    }

    pub fn reply(&self) -> Option<Range<usize>> {
        (self.reply.1 > 0).then_some(self.reply.0 as usize..self.reply.1 as usize)
    }

    /// The header block; empty for a message without one.
    pub fn headers(&self) -> Range<usize> {
        self.headers as usize..self.payload as usize
    }

    pub fn has_headers(&self) -> bool {
        self.headers < self.payload
    }

    pub fn payload(&self) -> Range<usize> {
        self.payload as usize..self.end as usize
    }

    /// Moves all positions: for a buffer that begins `by` bytes before the one that was scanned.
    pub fn shift(&mut self, by: u32) {
        for at in
            [&mut self.subject.0, &mut self.subject.1, &mut self.headers, &mut self.payload, &mut self.end]
        {
            *at += by;
        }
        if self.reply.1 > 0 {
            self.reply.0 += by;
            self.reply.1 += by;
        }
    }
}

/// One operation. Ranges are counted from the start of the buffer that was scanned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Message(MessageAt),
    Info(Range<usize>),
    /// The text between the quotes.
    Err(Range<usize>),
    Ping,
    Pong,
    Ok,
}

/// What [`scan`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scan {
    /// An operation, and where the next one begins.
    Op(Op, usize),
    /// More is needed: at least so many bytes from the start of the operation, as far as is known.
    More(usize),
}

/// Looks at what begins at the start of `input`.
///
/// # Errors
/// It is no operation, or one above the limits: nothing that follows can be understood.
#[inline]
pub fn scan(input: &[u8], limits: &Limits) -> Result<Scan, WireError> {
    match input {
        [b'M', b'S', b'G', b' ' | b'\t', ..] => message(input, 4, false, limits),
        [b'H', b'M', b'S', b'G', b' ' | b'\t', ..] => message(input, 5, true, limits),
        _ => other(input, limits),
    }
}

#[inline]
fn message(input: &[u8], verb: usize, with_headers: bool, limits: &Limits) -> Result<Scan, WireError> {
    let window = &input[..input.len().min(limits.line)];
    let Some(line_end) = memchr::memchr(b'\n', window) else {
        return match input.len() >= limits.line {
            true => Err(too_long(input, limits.line)),
            false => Ok(Scan::More(input.len() + 1)),
        };
    };
    let end = line_end - usize::from(input[line_end - 1] == b'\r');
    let line = &input[..end];
    let bad = || WireError::new(format!("a message whose first line can't be read: {}", quote(line)));
    // At most: subject, sid, reply, header bytes, total bytes.
    let mut parts = [(0_u32, 0_u32); 5];
    let mut count = 0;
    let mut at = verb;
    while at < end {
        if matches!(line[at], b' ' | b'\t') {
            at += 1;
            continue;
        }
        let start = at;
        while at < end && !matches!(line[at], b' ' | b'\t') {
            at += 1;
        }
        *parts.get_mut(count).ok_or_else(bad)? = (start as u32, at as u32);
        count += 1;
    }
    let numbers = if with_headers { 2 } else { 1 };
    let reply = match count.checked_sub(2 + numbers) {
        Some(0) => (0, 0),
        Some(1) => parts[2],
        _ => return Err(bad()),
    };
    let number = |(start, end): (u32, u32)| decimal(&line[start as usize..end as usize]);
    let sid = number(parts[1]).ok_or_else(bad)?;
    let total = usize::try_from(number(parts[count - 1]).ok_or_else(bad)?).map_err(|_| bad())?;
    let headers = match with_headers {
        true => usize::try_from(number(parts[count - 2]).ok_or_else(bad)?).map_err(|_| bad())?,
        false => 0,
    };
    if headers > total {
        return Err(bad());
    }
    if total > limits.message {
        return Err(WireError::new(format!(
            "a message of {total} bytes, more than the {} that are taken",
            limits.message
        )));
    }
    let start = line_end + 1;
    let body_end = start + total;
    let next = body_end + 2;
    if input.len() < next {
        return Ok(Scan::More(next));
    }
    if &input[body_end..next] != b"\r\n" {
        return Err(WireError::new(format!(
            "a message of {total} bytes that does not end where it should: {}",
            quote(line)
        )));
    }
    let found = MessageAt {
        sid,
        subject: parts[0],
        reply,
        headers: start as u32,
        payload: (start + headers) as u32,
        end: body_end as u32,
    };
    Ok(Scan::Op(Op::Message(found), next))
}

#[cold]
fn other(input: &[u8], limits: &Limits) -> Result<Scan, WireError> {
    let limit = match starts_with_ignoring_case(input, b"INFO") {
        true => limits.info,
        false => limits.line,
    };
    let window = &input[..input.len().min(limit)];
    let Some(line_end) = memchr::memchr(b'\n', window) else {
        if input.len() >= limit {
            return Err(too_long(input, limit));
        }
        // A server of another protocol may say something and then wait: it is found out as soon as it can be.
        return match could_be_an_operation(input) {
            true => Ok(Scan::More(input.len() + 1)),
            false => Err(unknown(input)),
        };
    };
    let end = line_end - usize::from(line_end > 0 && input[line_end - 1] == b'\r');
    let line = &input[..end];
    let verb_end = line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(end);
    let (verb, rest) = line.split_at(verb_end);
    let lead = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let rest = verb_end + lead..end;
    let op = match verb.to_ascii_uppercase().as_slice() {
        b"PING" => Op::Ping,
        b"PONG" => Op::Pong,
        b"+OK" => Op::Ok,
        b"INFO" => Op::Info(rest),
        b"-ERR" => {
            let text = &input[rest.clone()];
            let quoted = text.len() >= 2 && text.starts_with(b"'") && text.ends_with(b"'");
            let cut = usize::from(quoted);
            Op::Err(rest.start + cut..rest.end - cut)
        }
        // In letters of another case.
        b"MSG" => return message(input, verb_end, false, limits),
        b"HMSG" => return message(input, verb_end, true, limits),
        _ => return Err(unknown(line)),
    };
    Ok(Scan::Op(op, line_end + 1))
}

fn could_be_an_operation(input: &[u8]) -> bool {
    const VERBS: [&[u8]; 7] = [b"MSG", b"HMSG", b"INFO", b"PING", b"PONG", b"+OK", b"-ERR"];
    VERBS.iter().any(|verb| {
        let shared = verb.len().min(input.len());
        verb[..shared].eq_ignore_ascii_case(&input[..shared])
    })
}

fn starts_with_ignoring_case(input: &[u8], verb: &[u8]) -> bool {
    input.get(..verb.len()).is_some_and(|start| start.eq_ignore_ascii_case(verb))
}

#[inline]
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
    })
}

#[cold]
fn unknown(line: &[u8]) -> WireError {
    WireError::new(format!("something that is no operation of NATS: {}", quote(line)))
}

#[cold]
fn too_long(line: &[u8], limit: usize) -> WireError {
    WireError::new(format!(
        "a line of more than {limit} bytes, which begins {}",
        quote(&line[..line.len().min(40)])
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &[u8]) -> Result<Scan, WireError> {
        scan(text, &Limits::default())
    }

    fn op(text: &[u8]) -> Op {
        match one(text) {
            Ok(Scan::Op(op, next)) if next == text.len() => op,
            other => panic!("{other:?} of {}", quote(text)),
        }
    }

    fn parts(text: &[u8]) -> (String, u64, Option<String>, String, String) {
        let Op::Message(at) = op(text) else { panic!("no message") };
        let part = |range: Range<usize>| String::from_utf8_lossy(&text[range]).into_owned();
        (part(at.subject()), at.sid, at.reply().map(part), part(at.headers()), part(at.payload()))
    }

    #[test]
    fn messages() {
        let expect = |subject: &str, sid, reply: Option<&str>, headers: &str, payload: &str| {
            (subject.to_owned(), sid, reply.map(str::to_owned), headers.to_owned(), payload.to_owned())
        };
        assert_eq!(parts(b"MSG a.b 9 5\r\nhello\r\n"), expect("a.b", 9, None, "", "hello"));
        assert_eq!(parts(b"MSG a 1 r.x 0\r\n\r\n"), expect("a", 1, Some("r.x"), "", ""));
        assert_eq!(parts(b"MSG\ta  1\t2 \r\n\r\n\r\n"), expect("a", 1, None, "", "\r\n"));
        assert_eq!(parts(b"msg a 1 1\r\nx\r\n"), expect("a", 1, None, "", "x"));
        assert_eq!(
            parts(b"HMSG a 1 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"),
            expect("a", 1, Some("r"), "NATS/1.0\r\n\r\n", "hi")
        );
        assert_eq!(parts(b"HMSG a 1 12 12\r\nNATS/1.0\r\n\r\n\r\n").4, "");
    }

    #[test]
    fn the_rest() {
        assert_eq!(op(b"PING\r\n"), Op::Ping);
        assert_eq!(op(b"pong\n"), Op::Pong);
        assert_eq!(op(b"+OK\r\n"), Op::Ok);
        assert_eq!(op(b"INFO {}\r\n"), Op::Info(5..7));
        assert_eq!(op(b"-ERR 'No'\r\n"), Op::Err(6..8));
        assert_eq!(op(b"-ERR\r\n"), Op::Err(4..4));
    }

    #[test]
    fn broken_ones_end_it() {
        for text in [
            &b"MSG a\r\n"[..],
            b"MSG a 1 r x 5\r\n",
            b"MSG a b 5\r\nhello\r\n",
            b"MSG a 1 -5\r\n",
            b"MSG a 1 99999999999999999999\r\n",
            b"MSG a 1 5\r\nhello!!",
            b"HMSG a 1 9 5\r\nhello\r\n",
            b"MSG a 1 99999999\r\n",
            b"HTTP/1.1 400 Bad Request",
            b"SSH-2.0-x\r\n",
            b"\r\n",
            b"\x16\x03\x01",
        ] {
            let error = one(text).expect_err(&quote(text)).to_string();
            assert!(!error.contains(['\r', '\n']), "{error}");
        }
        assert!(one(&[b'M', b'S', b'G', b' '].repeat(20_000)).is_err(), "an endless line");
        assert!(one(&b"INFO ".repeat(300_000)).is_err());
        assert!(matches!(one(&b"INFO ".repeat(100_000)), Ok(Scan::More(_))));
    }

    fn operation() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            (
                "[a-c.]{1,6}",
                0_u64..9,
                proptest::option::of("[a-c]{1,4}"),
                proptest::collection::vec(any::<u8>(), 0..40)
            )
                .prop_map(|(subject, sid, reply, payload)| {
                    let reply = reply.map_or_else(String::new, |reply| format!("{reply} "));
                    let mut text = format!("MSG {subject} {sid} {reply}{}\r\n", payload.len()).into_bytes();
                    text.extend(payload);
                    text.extend(b"\r\n");
                    text
                }),
            Just(b"PING\r\n".to_vec()),
            Just(b"-ERR 'x'\r\n".to_vec()),
            Just(b"INFO {}\r\n".to_vec()),
        ]
    }

    proptest! {
        #[test]
        fn a_cut_operation_waits_for_the_rest(text in operation(), cut in any::<prop::sample::Index>()) {
            let cut = cut.index(text.len());
            match one(&text[..cut]) {
                Ok(Scan::More(needed)) => prop_assert!(needed > cut && needed <= text.len()),
                other => prop_assert!(false, "{other:?}"),
            }
            prop_assert!(matches!(one(&text), Ok(Scan::Op(_, next)) if next == text.len()));
        }

        #[test]
        fn any_bytes_are_survived(text in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(Scan::Op(_, next)) = one(&text) {
                prop_assert!(next > 0 && next <= text.len());
            }
        }
    }
}
