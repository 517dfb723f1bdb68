//! What is to be published: the arguments that `pub` and `request` share, and the messages made of them.

use super::job::Job;
use super::target;
use crate::failure::{Exit, Failure};
use bytes::Bytes;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, value_parser};
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use tracemq_plugin_api::sdk::{Batch, BatchBuilder, BufferId, Part, Wanted};

/// The longest payload: its length has 32 bits on the way to a plugin.
pub const LONGEST: usize = u32::MAX as usize;

const SOURCES: [&str; 4] = ["payload", "file", "stdin", "empty"];

/// TOPIC, the sources of one payload, and `-H`.
pub fn args() -> [Arg; 6] {
    [
        Arg::new("topic").value_name("TOPIC").help("Where to, in the protocol's own terms"),
        Arg::new("payload")
            .value_name("PAYLOAD")
            .value_parser(OsStringValueParser::new().map(OsStringExt::into_vec))
            .help("The message"),
        Arg::new("file")
            .long("file")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("Send the contents of a file as one message"),
        Arg::new("stdin").long("stdin").action(ArgAction::SetTrue).help("Send all of stdin as one message"),
        Arg::new("empty").long("empty").action(ArgAction::SetTrue).help("Send a message without a payload"),
        Arg::new("header")
            .short('H')
            .long("header")
            .value_name("NAME=VALUE")
            .action(ArgAction::Append)
            .value_parser(OsStringValueParser::new().try_map(|text| header(text.into_vec())))
            .help("A header of the message; repeat for more"),
    ]
}

/// At most one source.
pub fn group() -> ArgGroup {
    ArgGroup::new("source").args(SOURCES).multiple(false)
}

#[derive(Clone, Debug)]
struct Header {
    name: Bytes,
    value: Bytes,
}

fn header(text: Vec<u8>) -> Result<Header, String> {
    let text = Bytes::from(text);
    match text.iter().position(|&byte| byte == b'=') {
        Some(at) if at > 0 => Ok(Header { name: text.slice(..at), value: text.slice(at + 1..) }),
        _ => Err("write a header as NAME=VALUE".into()),
    }
}

/// Where messages go and what they all carry.
pub struct Envelope {
    topic: Bytes,
    headers: Vec<Header>,
}

impl Envelope {
    /// Without headers.
    pub fn new(topic: &str) -> Envelope {
        Envelope { topic: Bytes::from(topic.to_owned()), headers: Vec::new() }
    }

    /// A batch whose messages share one copy of the topic and the headers.
    pub fn batch(&self, messages: usize) -> Letters<'_> {
        let mut batch = BatchBuilder::with_capacity(messages);
        let topic = batch.buffer(self.topic.clone());
        let headers = self
            .headers
            .iter()
            .map(|header| (batch.buffer(header.name.clone()), batch.buffer(header.value.clone())))
            .collect();
        Letters { envelope: self, batch, topic, headers }
    }

    /// A batch of one message so many times.
    pub fn copies(&self, payload: &Bytes, messages: usize) -> Batch {
        let mut letters = self.batch(messages);
        let buffer = letters.buffer(payload.clone());
        for _ in 0..messages {
            letters.add(Part::In(buffer, 0..payload.len()));
        }
        letters.finish()
    }
}

/// A batch that is being filled.
pub struct Letters<'a> {
    envelope: &'a Envelope,
    batch: BatchBuilder,
    topic: BufferId,
    headers: Vec<(BufferId, BufferId)>,
}

impl Letters<'_> {
    pub fn buffer(&mut self, bytes: Bytes) -> BufferId {
        self.batch.buffer(bytes)
    }

    pub fn add(&mut self, payload: Part<'_>) {
        let envelope = self.envelope;
        let mut message = self.batch.add(Part::In(self.topic, 0..envelope.topic.len()), payload);
        for ((name, value), header) in self.headers.iter().zip(&envelope.headers) {
            message = message
                .header(Part::In(*name, 0..header.name.len()), Part::In(*value, 0..header.value.len()));
        }
    }

    pub fn len(&self) -> usize {
        self.batch.len()
    }

    pub fn finish(self) -> Batch {
        self.batch.finish()
    }
}

/// What a command needs to have a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Payload,
    /// Without one it is empty: a question may lie in the topic alone.
    MayBeEmpty,
    /// `--lines`.
    Lines,
}

/// The command's message: its envelope and its payload, `None` with `--lines`.
pub struct Letter {
    pub envelope: Envelope,
    pub payload: Option<Bytes>,
    /// The topic as it may be shown.
    pub topic: String,
}

impl Letter {
    /// Reads the arguments, and the file or stdin if they say so.
    ///
    /// # Errors
    /// No source, or one that can't be read.
    pub fn new(job: &Job, need: Need) -> Result<Letter, Failure> {
        let matches = &job.matches;
        let mut topic = job.topics.first().cloned();
        let mut argument = matches.get_one::<Vec<u8>>("payload").cloned();
        let other_source = need == Need::Lines || SOURCES[1..].iter().any(|source| is_given(matches, source));
        // A protocol that needs no topic takes a lone argument as the payload.
        let wanted = target::publish_topic(job.plugin.descriptor(), job.context.url.as_deref());
        if argument.is_none() && !other_source && wanted != Wanted::Required {
            argument = topic.take().map(String::into_bytes);
        }
        let payload = match need {
            Need::Lines => None,
            Need::Payload | Need::MayBeEmpty => Some(payload(matches, argument, need)?),
        };
        let headers = matches.get_many::<Header>("header").into_iter().flatten().cloned().collect();
        let topic = topic.unwrap_or_default();
        let envelope = Envelope { topic: Bytes::from(topic.clone()), headers };
        Ok(Letter { envelope, payload, topic })
    }

    /// What is being done, for failures.
    pub fn doing(&self, verb: &str) -> String {
        if self.topic.is_empty() { format!("{verb} on") } else { format!("{verb} to {} on", self.topic) }
    }
}

fn is_given(matches: &ArgMatches, source: &str) -> bool {
    matches.value_source(source).is_some_and(|source| source != clap::parser::ValueSource::DefaultValue)
}

fn payload(matches: &ArgMatches, argument: Option<Vec<u8>>, need: Need) -> Result<Bytes, Failure> {
    let payload = if let Some(argument) = argument {
        argument
    } else if let Some(path) = matches.get_one::<PathBuf>("file") {
        let failed = |error: std::io::Error| Failure::usage(format!("--file {}: {error}", path.display()));
        std::fs::File::open(path).and_then(read_all).map_err(failed)?
    } else if matches.get_flag("stdin") {
        read_all(std::io::stdin())
            .map_err(|error| Failure::new(Exit::Failed, format!("read stdin: {error}")))?
    } else if matches.get_flag("empty") || need == Need::MayBeEmpty {
        Vec::new()
    } else {
        return Err(Failure::usage("there is no message to send")
            .hint("give it as the last argument, or use --file, --stdin or --empty"));
    };
    if payload.len() > LONGEST {
        return Err(Failure::usage(format!(
            "the payload is longer than {LONGEST} bytes, the most that a message holds"
        )));
    }
    Ok(Bytes::from(payload))
}

/// Never more than it takes to know that it is too much.
fn read_all(source: impl Read) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    source.take(LONGEST as u64 + 1).read_to_end(&mut data)?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_cut_at_the_first_equals_sign() {
        let cut =
            |text: &[u8]| header(text.to_vec()).map(|header| (header.name.to_vec(), header.value.to_vec()));
        assert_eq!(cut(b"k=v=w"), Ok((b"k".to_vec(), b"v=w".to_vec())));
        assert_eq!(cut(b"k="), Ok((b"k".to_vec(), Vec::new())));
        assert_eq!(cut(b"k=\xff"), Ok((b"k".to_vec(), vec![0xff])));
        assert!(cut(b"=v").is_err());
        assert!(cut(b"k").is_err());
    }

    #[test]
    fn copies_share_topic_payload_and_headers() {
        let headers = vec![header(b"unit=C".to_vec()).unwrap(), header(b"place=".to_vec()).unwrap()];
        let envelope = Envelope { topic: Bytes::from_static(b"a/b"), headers };
        let batch = envelope.copies(&Bytes::from_static(b"21.5"), 3);
        assert_eq!(batch.len(), 3);
        for message in batch.iter() {
            assert_eq!((message.topic(), message.payload()), (&b"a/b"[..], &b"21.5"[..]));
            let headers: Vec<_> = message.headers().collect();
            assert_eq!(headers, [(&b"unit"[..], &b"C"[..]), (&b"place"[..], &b""[..])]);
        }
    }
}
