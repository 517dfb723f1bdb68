//! What is written: messages to stdout in the form asked for, everything else to stderr, a line each.
//!
//! Messages are formatted a batch at a time into one buffer that is kept, and go out in one write: neither an allocation
//! nor a system call per message.

pub mod escape;
pub mod events;
mod json;
mod outcome;
mod sink;
mod template;
mod text;
pub mod time;

pub use outcome::{append_outcome, status_name};
pub use sink::{Sink, WriteError};
use time::write_time;

use crate::failure::Failure;
use std::io::IsTerminal;
use tracemq_plugin_api::sdk::{Batch, MessageView};

/// How messages are shown: `--format`, `--no-topic`, `--no-newline`.
#[derive(Clone, Debug)]
pub struct Style<'a> {
    pub format: &'a str,
    pub topic: bool,
    pub newline: bool,
}

/// Formats messages into a buffer.
pub struct Formatter {
    form: Form,
    newline: bool,
}

enum Form {
    Text(text::Text),
    Json(json::Json),
    Raw,
    Template(Box<template::Template>),
}

impl Formatter {
    /// `protocol` and `target` are what the messages' own forms say of where they come from.
    ///
    /// # Errors
    /// A format that does not exist and a template that can't be right, both with status 2.
    pub fn new(style: &Style<'_>, protocol: &str, target: &str) -> Result<Formatter, Failure> {
        let form = match style.format {
            "text" => Form::Text(text::Text::new(style.topic, std::io::stdout().is_terminal())),
            "json" => Form::Json(json::Json::new(protocol, target)),
            "raw" => Form::Raw,
            template if template.contains('{') => {
                Form::Template(Box::new(template::Template::new(template, protocol, target)?))
            }
            other => {
                return Err(Failure::usage(format!("--format {other}: there is no such format"))
                    .hint("use text, json, raw, or a template like '{{ topic }} {{ payload }}'"));
            }
        };
        // An object a line is the whole point of the format: `--no-newline` has no meaning for it.
        let newline = style.newline || matches!(form, Form::Json(_));
        Ok(Formatter { form, newline })
    }

    /// Appends one message. A template that fails on it appends nothing and says why.
    fn append(&mut self, message: &MessageView<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        match &mut self.form {
            Form::Text(text) => text.append(message, out),
            Form::Json(json) => json.append(message, out),
            Form::Raw => out.extend_from_slice(message.payload()),
            Form::Template(template) => template.append(message, out)?,
        }
        if self.newline {
            out.push(b'\n');
        }
        Ok(())
    }
}

/// Writes batches to stdout.
pub struct Printer {
    formatter: Formatter,
    sink: Sink,
    buffer: Vec<u8>,
    unprintable: u64,
}

/// The buffer is written out at this size, so that a batch of large payloads is not held twice.
const FLUSH_AT: usize = 256 * 1024;

impl Printer {
    pub fn new(formatter: Formatter, sink: Sink) -> Printer {
        Printer { formatter, sink, buffer: Vec::new(), unprintable: 0 }
    }

    /// Writes a whole batch, as a rule in one system call.
    pub fn print(&mut self, batch: &Batch) -> Result<(), WriteError> {
        for message in batch.iter() {
            if let Err(reason) = self.formatter.append(&message, &mut self.buffer) {
                self.unprintable += 1;
                events::line(&format!("a message on {} could not be shown: {reason}", message.topic_text()));
            }
            if self.buffer.len() >= FLUSH_AT {
                self.flush()?;
            }
        }
        self.flush()
    }

    /// Writes a line of our own before any message. It may be meant to hold a secret: to mask others is the caller's.
    pub fn line_unmasked(&mut self, text: &str) -> Result<(), WriteError> {
        self.buffer.extend_from_slice(text.as_bytes());
        self.buffer.push(b'\n');
        self.flush()
    }

    /// How many messages the template failed on.
    pub fn unprintable(&self) -> u64 {
        self.unprintable
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        let written = if self.buffer.is_empty() { Ok(()) } else { self.sink.write_all(&self.buffer) };
        self.buffer.clear();
        // One huge payload must not keep its room for the rest of the run.
        self.buffer.shrink_to(2 * FLUSH_AT);
        written
    }
}

/// Bytes that have no text form.
fn base64_into(bytes: &[u8], out: &mut Vec<u8>) {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    STANDARD.encode_slice(bytes, &mut out[start..]).expect("room for the whole text was made");
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracemq_plugin_api::sdk::BatchBuilder;

    fn formatted(style: &Style<'_>, topic: &str, payload: &[u8]) -> String {
        let mut batch = BatchBuilder::new();
        batch.add(topic, payload);
        let batch = batch.finish();
        let mut out = Vec::new();
        let mut formatter = Formatter::new(style, "test", "here").unwrap();
        formatter.append(&batch.get(0).unwrap(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn raw_is_the_payload_and_a_newline_unless_told_otherwise() {
        let mut style = Style { format: "raw", topic: true, newline: true };
        assert_eq!(formatted(&style, "a/b", b"21.5"), "21.5\n");
        style.newline = false;
        assert_eq!(formatted(&style, "a/b", b"21.5"), "21.5");
    }

    #[test]
    fn an_object_a_line_keeps_its_newline() {
        let style = Style { format: "json", topic: true, newline: false };
        assert!(formatted(&style, "a/b", b"21.5").ends_with("}\n"));
    }

    #[test]
    fn a_misspelt_format_is_a_usage_error() {
        let style = Style { format: "jsno", topic: true, newline: true };
        let failure = Formatter::new(&style, "test", "here").err().unwrap();
        assert_eq!(failure.exit, crate::failure::Exit::Usage);
        assert!(failure.to_string().contains("jsno"), "{failure}");
    }
}
