//! What a client sends: CONNECT, PUB, HPUB, SUB, UNSUB, PING, PONG.

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use tracemq_plugin_api::serde;

use super::headers;

/// The fields of CONNECT. Those that are `None` are left out. No `Debug`: it holds secrets.
#[derive(Clone, Default, Serialize)]
pub struct Connect {
    pub verbose: bool,
    pub pedantic: bool,
    pub tls_required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub lang: &'static str,
    pub version: &'static str,
    /// 1: asynchronous INFO is understood.
    pub protocol: u8,
    /// Whether our own messages come back to our own subscriptions.
    pub echo: bool,
    pub headers: bool,
    pub no_responders: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sig: Option<String>,
}

/// Appends operations to a write buffer. Subjects, replies and headers have been checked.
pub struct Encoder<'b>(pub &'b mut BytesMut);

impl Encoder<'_> {
    pub fn connect(&mut self, connect: &Connect) {
        let json = tracemq_plugin_api::serde_json::to_string(connect)
            .expect("texts and booleans can be written as JSON");
        self.line(&[b"CONNECT ", json.as_bytes()]);
    }

    pub fn ping(&mut self) {
        self.line(&[b"PING"]);
    }

    pub fn pong(&mut self) {
        self.line(&[b"PONG"]);
    }

    pub fn subscribe(&mut self, pattern: &str, queue: Option<&str>, sid: u64) {
        let mut digits = Digits::default();
        let queue = queue.unwrap_or_default();
        let space: &[u8] = if queue.is_empty() { b"" } else { b" " };
        self.line(&[b"SUB ", pattern.as_bytes(), space, queue.as_bytes(), b" ", digits.of(sid)]);
    }

    /// `max`: only after so many messages, counted from the start of the subscription.
    pub fn unsubscribe(&mut self, sid: u64, max: Option<u64>) {
        let (mut digits, mut most) = (Digits::default(), Digits::default());
        match max {
            Some(max) => self.line(&[b"UNSUB ", digits.of(sid), b" ", most.of(max)]),
            None => self.line(&[b"UNSUB ", digits.of(sid)]),
        }
    }

    /// The subject is given as prefix and rest.
    pub fn publish(&mut self, subject: (&[u8], &[u8]), reply: Option<&[u8]>, payload: &[u8]) {
        let mut digits = Digits::default();
        let size = digits.of(payload.len() as u64);
        self.0.reserve(subject.0.len() + subject.1.len() + payload.len() + reply.map_or(0, <[u8]>::len) + 32);
        self.address(b"PUB ", subject, reply);
        self.0.put_slice(size);
        self.0.put_slice(b"\r\n");
        self.0.put_slice(payload);
        self.0.put_slice(b"\r\n");
    }

    pub fn publish_with_headers<'a>(
        &mut self,
        subject: (&[u8], &[u8]),
        reply: Option<&[u8]>,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        payload: &[u8],
    ) {
        let mut block = BytesMut::new();
        headers::encode(fields, &mut block);
        let (mut digits, mut whole) = (Digits::default(), Digits::default());
        self.address(b"HPUB ", subject, reply);
        let sizes = [digits.of(block.len() as u64), b" ", whole.of((block.len() + payload.len()) as u64)];
        sizes.into_iter().for_each(|part| self.0.put_slice(part));
        [b"\r\n", &block[..], payload, b"\r\n"].into_iter().for_each(|part| self.0.put_slice(part));
    }

    fn address(&mut self, verb: &[u8], subject: (&[u8], &[u8]), reply: Option<&[u8]>) {
        [verb, subject.0, subject.1, b" "].into_iter().for_each(|part| self.0.put_slice(part));
        if let Some(reply) = reply {
            self.0.put_slice(reply);
            self.0.put_u8(b' ');
        }
    }

    fn line(&mut self, parts: &[&[u8]]) {
        parts.iter().for_each(|part| self.0.put_slice(part));
        self.0.put_slice(b"\r\n");
    }
}

/// A number in decimal digits, without an allocation.
#[derive(Default)]
struct Digits([u8; 20]);

impl Digits {
    fn of(&mut self, mut number: u64) -> &[u8] {
        let mut at = self.0.len();
        loop {
            at -= 1;
            self.0[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return &self.0[at..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Encoder<'_>)) -> String {
        let mut out = BytesMut::new();
        write(&mut Encoder(&mut out));
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn operations() {
        assert_eq!(written(|out| out.publish((b"a.", b"b"), None, b"hello")), "PUB a.b 5\r\nhello\r\n");
        assert_eq!(written(|out| out.publish((b"", b"a"), Some(b"r"), b"")), "PUB a r 0\r\n\r\n");
        assert_eq!(written(|out| out.subscribe("a.*", None, 7)), "SUB a.* 7\r\n");
        assert_eq!(written(|out| out.subscribe(">", Some("q"), 10)), "SUB > q 10\r\n");
        assert_eq!(written(|out| out.unsubscribe(7, None)), "UNSUB 7\r\n");
        assert_eq!(written(|out| out.unsubscribe(7, Some(u64::MAX))), "UNSUB 7 18446744073709551615\r\n");
        let fields = [(&b"k"[..], &b"v"[..])];
        assert_eq!(
            written(|out| out.publish_with_headers((b"", b"a"), None, fields.into_iter(), b"x")),
            "HPUB a 18 19\r\nNATS/1.0\r\nk: v\r\n\r\nx\r\n"
        );
        let connect = Connect { lang: "rust", user: Some("u\"".into()), ..Connect::default() };
        let text = written(|out| out.connect(&connect));
        assert!(text.starts_with("CONNECT {") && text.contains(r#""user":"u\"""#) && !text.contains("pass"));
    }
}
