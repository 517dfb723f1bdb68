//! Publishing to a stream, or putting into a bucket, which is the same: a message, and an answer that says where it stands.
//!
//! Nothing is confirmed before that answer. What was certainly not stored (nobody there, no leader) is sent again, and so is
//! what may or may not be stored if it has a message id, since the stream then takes it only once. Whatever has to be sent
//! again comes after what was sent in the meantime.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{MessageView, OutcomeStatus};
use tracemq_plugin_api::serde;

use super::JetStream;
use super::answers::{Answer, Waiting};
use super::bucket::{check_key, subject_of};
use crate::client::Client;
use crate::publish::PublishOptions;
use crate::wire::subject;

/// How long to wait for an acknowledgement. One that comes later is one too many only where there is no id.
const ACKNOWLEDGED: Duration = Duration::from_secs(10);
const ACKNOWLEDGED_WITH_ID: Duration = Duration::from_secs(5);
/// How long to go on with what could not be stored: a cluster elects a new leader in seconds. It is less than the two minutes
/// for which streams remember ids unless told otherwise.
const KEEP_ON: Duration = Duration::from_secs(60);
/// How often, when nothing was ever acknowledged: then it is rather that there is no stream.
const FIRST_ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

const MSG_ID: &str = "Nats-Msg-Id";
const WRONG_LAST_SEQUENCE: u64 = 10071;

/// What all publish calls of a connection share.
#[derive(Default)]
pub(super) struct Run {
    /// Calls are written in the order in which they are made. `true`: the bucket is known to be there.
    turn: Mutex<bool>,
    sent: AtomicU64,
    acknowledged: AtomicBool,
    id: OnceLock<String>,
}

/// A stream's answer.
#[derive(Deserialize)]
#[serde(crate = "serde", default)]
#[derive(Default)]
struct Ack {
    stream: String,
    seq: u64,
    duplicate: bool,
    domain: Option<String>,
    error: Option<Refused>,
}

#[derive(Deserialize)]
#[serde(crate = "serde", default)]
#[derive(Default)]
struct Refused {
    code: u64,
    err_code: u64,
    description: String,
}

enum Verdict {
    Final(Outcome),
    /// The outcome, if it is not tried again.
    Again(Outcome),
    Nobody,
    WrongSequence(Outcome),
}

impl JetStream {
    /// # Errors
    /// The connection is closed, or a bucket could not be made.
    pub(crate) async fn publish(&self, batch: Batch, options: &PublishOptions) -> Result<Vec<Outcome>> {
        let mut turn = self.run.turn.lock().await;
        if let Some(bucket) = &options.bucket
            && options.create_bucket
            && !*turn
        {
            self.make_bucket(bucket).await?;
            *turn = true;
        }
        let first = self.run.sent.fetch_add(batch.len() as u64, Ordering::Relaxed) + 1;
        let mut letters = Letters::new(&batch, options, self.client.prefix().as_str(), first, &self.run);
        let mut outcomes: Vec<Option<Outcome>> = vec![None; batch.len()];
        let mut left = Vec::with_capacity(batch.len());
        for (index, message) in batch.iter().enumerate() {
            match letters.check(&message) {
                Ok(()) => left.push(index),
                Err(outcome) => outcomes[index] = Some(outcome),
            }
        }
        let mut turn = Some(turn);
        let mut nobody = Vec::new();
        let begun = Instant::now();
        let mut attempt = 0;
        while !left.is_empty() {
            let waiting = self.answers.expect(left.len());
            let sent = match self.send(letters.batch(&left, &waiting), turn.take()).await {
                Ok(sent) => sent,
                Err(error) if attempt == 0 => return Err(error),
                // What became of the attempts before is known.
                Err(_) => break,
            };
            sent.iter()
                .enumerate()
                .filter(|(_, outcome)| !outcome.is_success())
                .for_each(|(slot, _)| waiting.excuse(slot));
            let with_id = left.iter().any(|index| letters.has_id(*index));
            waiting.wait(if with_id { ACKNOWLEDGED_WITH_ID } else { ACKNOWLEDGED }).await;
            let mut again = Vec::new();
            nobody.clear();
            for (slot, index) in left.iter().copied().enumerate() {
                let verdict = self.judge(waiting.take(slot), &sent[slot], &letters, index, attempt > 0);
                outcomes[index] = Some(match verdict {
                    Verdict::Final(outcome) => outcome,
                    Verdict::Again(outcome) => {
                        again.push(index);
                        outcome
                    }
                    Verdict::Nobody => {
                        again.push(index);
                        nobody.push(index);
                        Outcome::refused("")
                    }
                    Verdict::WrongSequence(outcome) => match self.replaces(&mut letters, index).await {
                        Ok(true) => {
                            again.push(index);
                            outcome
                        }
                        Ok(false) => outcome,
                        Err(exists) => exists,
                    },
                });
            }
            attempt += 1;
            let goes_on = self.run.acknowledged.load(Ordering::Relaxed) || nobody.len() < again.len();
            if again.is_empty()
                || !goes_on && attempt >= FIRST_ATTEMPTS
                || goes_on && begun.elapsed() >= KEEP_ON
            {
                break;
            }
            tokio::time::sleep((PAUSE * attempt).min(LONGEST_PAUSE)).await;
            left = again;
        }
        if !nobody.is_empty() {
            let outcome = self.nobody(&letters, nobody[0]).await;
            nobody.into_iter().for_each(|index| outcomes[index] = Some(outcome.clone()));
        }
        Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Outcome::unconfirmed(""))).collect())
    }

    /// Publishes; whoever comes next may begin when this has begun.
    async fn send(&self, batch: Batch, turn: Option<MutexGuard<'_, bool>>) -> Result<Vec<Outcome>> {
        let client: &Client = &self.client;
        let mut sending = pin!(self.answers.publish(client, batch));
        if let Some(turn) = turn {
            let begun = poll_fn(|context| Poll::Ready(sending.as_mut().poll(context))).await;
            drop(turn);
            if let Poll::Ready(result) = begun {
                return result;
            }
        }
        sending.await
    }

    fn judge(
        &self,
        answer: Option<Answer>,
        sent: &Outcome,
        letters: &Letters<'_>,
        index: usize,
        resent: bool,
    ) -> Verdict {
        let text = match answer {
            Some(Answer::Text(text)) => text,
            Some(Answer::Nobody) => return Verdict::Nobody,
            None if sent.is_success() => {
                let late = "no acknowledgement came in time; it may or may not be stored";
                return match letters.has_id(index) {
                    true => Verdict::Again(Outcome::unconfirmed(late)),
                    false => Verdict::Final(Outcome::unconfirmed(format!(
                        "{late}; with --msg-id auto it would be sent again and stored once"
                    ))),
                };
            }
            None if sent.status() == OutcomeStatus::UNCONFIRMED && letters.has_id(index) => {
                return Verdict::Again(sent.clone());
            }
            None => return Verdict::Final(sent.clone()),
        };
        let Ok(ack) = serde_json::from_slice::<Ack>(&text) else {
            return Verdict::Final(Outcome::unconfirmed(
                "what answered is no stream: the answer is no acknowledgement",
            ));
        };
        if let Some(Refused { code, err_code, description }) = ack.error {
            let text = format!("{} ({err_code})", description.escape_debug());
            return match (code, err_code) {
                (_, WRONG_LAST_SEQUENCE) => Verdict::WrongSequence(Outcome::refused(text)),
                (503, _) => Verdict::Again(Outcome::refused(text)),
                (403, _) => Verdict::Final(Outcome::unauthorized(text)),
                _ => Verdict::Final(Outcome::refused(text)),
            };
        }
        if ack.stream.is_empty() {
            return Verdict::Final(Outcome::unconfirmed("what answered is no stream: the answer names none"));
        }
        self.run.acknowledged.store(true, Ordering::Relaxed);
        let mut details = match &letters.options.bucket {
            Some(bucket) => serde_json::json!({ "bucket": bucket, "revision": ack.seq }),
            None => serde_json::json!({ "stream": ack.stream, "sequence": ack.seq }),
        };
        if let Some(id) = letters.id(index) {
            details["msg_id"] = id.into();
        }
        if ack.duplicate {
            // The stream had it: of an earlier run, or of an attempt whose answer was lost.
            details["duplicate"] = true.into();
        }
        if resent {
            details["resent"] = true.into();
        }
        if let Some(domain) = ack.domain {
            details["domain"] = domain.into();
        }
        Verdict::Final(Outcome::acknowledged().details(details))
    }

    /// Whether `--create` found a key that was deleted: then it may take the place of the mark that was left.
    async fn replaces(&self, letters: &mut Letters<'_>, index: usize) -> Result<bool, Outcome> {
        let (Some(bucket), true) = (&letters.options.bucket, letters.options.create) else {
            return Ok(false);
        };
        if letters.revisions.contains_key(&index) {
            return Ok(false);
        }
        let key =
            letters.batch.get(index).map(|message| message.topic_text().into_owned()).unwrap_or_default();
        match self.entry(bucket, &key).await {
            Ok(Some(entry)) if entry.is_deleted() => {
                letters.revisions.insert(index, entry.revision);
                Ok(true)
            }
            Ok(Some(entry)) => Err(Outcome::refused(format!(
                "bucket {bucket} has the key {key:?} already, at revision {}",
                entry.revision
            ))),
            Ok(None) | Err(_) => Ok(false),
        }
    }

    /// Why nobody took a message.
    async fn nobody(&self, letters: &Letters<'_>, index: usize) -> Outcome {
        if let Err(error) = self.is_enabled().await {
            return match error.kind() {
                ErrorKind::AUTH => Outcome::unauthorized(error.to_string()),
                _ => Outcome::refused(error.to_string()),
            };
        }
        Outcome::refused(match &letters.options.bucket {
            Some(bucket) => format!("there is no bucket {bucket}; --create-bucket makes it"),
            None => {
                let topic = letters.batch.get(index).map(|message| message.topic_text().into_owned());
                format!("no stream takes messages to {:?} (503)", topic.unwrap_or_default())
            }
        })
    }
}

/// Messages of one call, as they go out.
struct Letters<'a> {
    batch: &'a Batch,
    options: &'a PublishOptions,
    prefix: &'a str,
    /// The number of the first in the run, from 1.
    first: u64,
    /// With `{number}` in it.
    id: Option<String>,
    /// Of deleted keys that are made anew.
    revisions: HashMap<usize, u64>,
}

impl<'a> Letters<'a> {
    fn new(
        batch: &'a Batch,
        options: &'a PublishOptions,
        prefix: &'a str,
        first: u64,
        run: &Run,
    ) -> Letters<'a> {
        let id = options.msg_id.as_ref().map(|id| match id.as_str() {
            "auto" => format!("{}-{{number}}", run.id.get_or_init(crate::client::nuid)),
            id => id.to_owned(),
        });
        Letters { batch, options, prefix, first, id, revisions: HashMap::new() }
    }

    fn check(&self, message: &MessageView<'_>) -> Result<(), Outcome> {
        let topic =
            std::str::from_utf8(message.topic()).map_err(|_| Outcome::refused("the subject is not UTF-8"))?;
        match &self.options.bucket {
            Some(_) => check_key(topic).map_err(|error| Outcome::refused(error.message())),
            None => subject::check_subject(topic).map_err(|error| Outcome::refused(error.to_string())),
        }
    }

    fn id(&self, index: usize) -> Option<String> {
        let number = self.first + index as u64;
        self.id.as_ref().map(|id| id.replace("{number}", &number.to_string()))
    }

    /// Whether a stream takes it only once.
    fn has_id(&self, index: usize) -> bool {
        self.id.is_some()
            || self.batch.get(index).is_some_and(|message| {
                message.headers().any(|(name, _)| name.eq_ignore_ascii_case(MSG_ID.as_bytes()))
            })
    }

    fn batch(&self, indexes: &[usize], waiting: &Waiting<'_>) -> Batch {
        let mut batch = BatchBuilder::with_capacity(indexes.len());
        for (slot, index) in indexes.iter().copied().enumerate() {
            let Some(message) = self.batch.get(index) else { continue };
            let subject = match &self.options.bucket {
                Some(bucket) => subject_of(bucket, &message.topic_text()),
                None => format!("{}{}", self.prefix, message.topic_text()),
            };
            let mut letter =
                batch.add(&subject, Part::Shared(message.payload_bytes())).reply(&waiting.reply(slot));
            for (name, value) in message.headers() {
                letter = letter.header(name, value);
            }
            for (name, value) in self.headers(index) {
                letter = letter.header(name, &value);
            }
        }
        batch.finish()
    }

    fn headers(&self, index: usize) -> Vec<(&'static str, String)> {
        let options = self.options;
        let mut headers = Vec::new();
        if let Some(id) = self.id(index) {
            headers.push((MSG_ID, id));
        }
        if let Some(stream) = &options.expect_stream {
            headers.push(("Nats-Expected-Stream", stream.clone()));
        }
        let revision = "Nats-Expected-Last-Subject-Sequence";
        match (options.expect_last_sequence, options.bucket.is_some()) {
            (Some(sequence), true) => headers.push((revision, sequence.to_string())),
            // Each after the one before it.
            (Some(sequence), false) => headers.push((
                "Nats-Expected-Last-Sequence",
                sequence.saturating_add(self.first - 1 + index as u64).to_string(),
            )),
            (None, _) if options.create => {
                let replaced = self.revisions.get(&index).copied().unwrap_or(0);
                headers.push((revision, replaced.to_string()));
            }
            (None, _) => {}
        }
        if options.delete {
            headers.push(("KV-Operation", "DEL".into()));
        }
        if options.purge {
            headers.push(("KV-Operation", "PURGE".into()));
            headers.push(("Nats-Rollup", "sub".into()));
        }
        headers
    }
}
