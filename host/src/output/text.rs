//! `topic payload`, for people.
//!
//! What is not UTF-8 stands as `base64:…`, and so does a text that itself starts with `base64:`, so that the form never
//! lies. On a terminal, what would act on it is escaped; in a pipe the text is the payload, byte for byte.

use super::{base64_into, escape};
use tracemq_plugin_api::sdk::MessageView;

pub struct Text {
    topic: bool,
    terminal: bool,
}

const MARK: &str = "base64:";

impl Text {
    pub fn new(topic: bool, terminal: bool) -> Text {
        Text { topic, terminal }
    }

    pub fn append(&self, message: &MessageView<'_>, out: &mut Vec<u8>) {
        if self.topic && !message.topic().is_empty() {
            self.part(message.topic(), out);
            out.push(b' ');
        }
        self.part(message.payload(), out);
    }

    fn part(&self, bytes: &[u8], out: &mut Vec<u8>) {
        match std::str::from_utf8(bytes) {
            Ok(text) if text.starts_with(MARK) => encoded(bytes, out),
            Ok(text) if self.terminal => escape::block_into(text, out),
            Ok(_) => out.extend_from_slice(bytes),
            Err(_) => encoded(bytes, out),
        }
    }
}

fn encoded(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(MARK.as_bytes());
    base64_into(bytes, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracemq_plugin_api::sdk::BatchBuilder;

    fn text(topic: &[u8], payload: &[u8], form: &Text) -> String {
        let mut batch = BatchBuilder::new();
        batch.add(topic, payload);
        let batch = batch.finish();
        let mut out = Vec::new();
        form.append(&batch.get(0).unwrap(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn topic_then_payload() {
        assert_eq!(text(b"a/b", b"21.5", &Text::new(true, false)), "a/b 21.5");
        assert_eq!(text(b"a/b", b"21.5", &Text::new(false, false)), "21.5");
        assert_eq!(
            text(b"", b"no topic in this protocol", &Text::new(true, false)),
            "no topic in this protocol"
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_marked_and_a_text_can_not_pass_for_them() {
        let form = Text::new(true, false);
        assert_eq!(text(b"t", &[0xff, 0x00], &form), "t base64:/wA=");
        assert_eq!(text(b"t", b"base64:/wA=", &form), "t base64:YmFzZTY0Oi93QT0=");
        assert_eq!(text(&[0xc0], b"x", &form), "base64:wA== x");
    }

    #[test]
    fn a_pipe_gets_the_bytes_and_a_terminal_is_protected() {
        assert_eq!(text(b"t", b"\x1b[2J", &Text::new(true, false)), "t \x1b[2J");
        assert_eq!(text(b"t", b"\x1b[2J", &Text::new(true, true)), "t \\x1b[2J");
    }
}
