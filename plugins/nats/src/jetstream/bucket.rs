//! Key-value buckets: a bucket `B` is the stream `KV_B`, a key `k` its subject `$KV.B.k` (ADR-8 of NATS).

use std::collections::HashMap;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::kv::Operation;
use async_nats::jetstream::stream::{Config, DiscardPolicy};
use bytes::Bytes;
use tracemq_plugin_api::prelude::*;

use super::{JetStream, error};
use crate::wire::subject;

pub(super) const STREAM: &str = "KV_";
const NAME_IN_USE: u64 = 10058;

/// The last value of a key.
pub(super) struct Entry {
    value: Bytes,
    pub(super) revision: u64,
    created: i64,
    operation: Operation,
}

impl Entry {
    pub(super) fn is_deleted(&self) -> bool {
        self.operation != Operation::Put
    }
}

pub(super) fn stream_of(bucket: &str) -> String {
    format!("{STREAM}{bucket}")
}

pub(super) fn subject_of(bucket: &str, key: &str) -> String {
    format!("$KV.{bucket}.{key}")
}

/// # Errors
/// The name is empty, or has something else than letters, digits, `-` and `_` in it.
pub(crate) fn check_bucket(name: &str) -> Result<()> {
    match !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        true => Ok(()),
        false => {
            Err(Error::config(format!("--bucket {name:?}: a bucket's name is of letters, digits, - and _")))
        }
    }
}

/// # Errors
/// The key has something else in it than keys may have.
pub(crate) fn check_key(key: &str) -> Result<()> {
    subject::check_subject(key)
        .map_err(|error| wrong_key(key, &error.to_string().replace("subject", "key")))?;
    check_letters(key, b"-/_=.")
}

/// As [`check_key`], with the wildcards of a watch.
///
/// # Errors
/// As [`check_key`].
pub(crate) fn check_key_pattern(key: &str) -> Result<()> {
    subject::check_pattern(key)
        .map_err(|error| wrong_key(key, &error.to_string().replace("subject", "key")))?;
    check_letters(key, b"-/_=.*>")
}

fn check_letters(key: &str, others: &[u8]) -> Result<()> {
    match key.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte)) {
        true => Ok(()),
        false => Err(wrong_key(key, "a key is of letters, digits and - / _ = .")),
    }
}

fn wrong_key(key: &str, why: &str) -> Error {
    Error::config(format!("key {key:?}: {why}"))
}

impl JetStream {
    /// Makes a bucket if there is none of that name. As a plain stream: what async-nats sends for a bucket, nats-server 2.9
    /// answers with what it can't read.
    pub(super) async fn make_bucket(&self, bucket: &str) -> Result<()> {
        let name = stream_of(bucket);
        let config = Config {
            name: name.clone(),
            subjects: vec![subject_of(bucket, ">")],
            max_messages_per_subject: 1,
            max_messages: -1,
            max_bytes: -1,
            discard: DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            num_replicas: 1,
            metadata: HashMap::new(),
            ..Config::default()
        };
        self.ask(async |api| {
            match api.get_stream(&name).await {
                Ok(_) => return Ok(()),
                Err(error) if matches!(error.kind(), GetStreamErrorKind::JetStream(_)) => {}
                Err(error) => return Err(error::any(&error)),
            }
            match api.create_stream(config).await {
                Ok(_) => Ok(()),
                Err(error) => match error::any(&error) {
                    // Somebody else was faster.
                    error if error.code_text() == NAME_IN_USE.to_string() => Ok(()),
                    error => Err(error.while_doing(format!("make the bucket {bucket}"))),
                },
            }
        })
        .await
    }

    /// The last value of a key, or the mark that its deletion left.
    ///
    /// # Errors
    /// There is no such bucket.
    pub(super) async fn entry(&self, bucket: &str, key: &str) -> Result<Option<Entry>> {
        // For the error that tells which buckets there are.
        self.stream(&stream_of(bucket), Some(bucket)).await?;
        self.ask(async |api| {
            let store = api.get_key_value(bucket).await.map_err(|error| error::any(&error))?;
            let entry = store.entry(key).await.map_err(|error| error::any(&error))?;
            Ok(entry.map(|entry| Entry {
                value: entry.value,
                revision: entry.revision,
                created: i64::try_from(entry.created.unix_timestamp_nanos()).unwrap_or_default(),
                operation: entry.operation,
            }))
        })
        .await
    }

    /// The value of a key, as the only message of a stream.
    pub(crate) async fn get(&self, bucket: &str, key: &str) -> Result<Subscription> {
        let none = |text: String| {
            Error::new(ErrorKind::NO_RESPONDERS, text)
                .hint("`tracemq sub TARGET --bucket …` with --to-end shows which keys there are")
        };
        let entry = match self.entry(bucket, key).await? {
            None => return Err(none(format!("bucket {bucket} has no key {key:?}"))),
            Some(entry) if entry.is_deleted() => {
                let text = format!(
                    "bucket {bucket} has no key {key:?}: it was deleted at revision {}",
                    entry.revision
                );
                return Err(none(text));
            }
            Some(entry) => entry,
        };
        let mut batch = BatchBuilder::new();
        batch
            .add(key, Part::Shared(entry.value))
            .meta("bucket", MetaValue::Text(bucket))
            .meta("operation", MetaValue::Text("PUT"))
            .meta("revision", MetaValue::Uint(entry.revision))
            .meta("timestamp", MetaValue::Text(&super::position::timestamp(entry.created)));
        let (sender, answer) = queue(1);
        sender.send(batch.finish()).await;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_keys() {
        for key in ["a", "a.b/c_d=e-f", "A9"] {
            check_key(key).unwrap();
        }
        for key in ["", ".a", "a.", "a..b", "a b", "a.*", ">", "ä", "a\n"] {
            assert!(check_key(key).is_err(), "{key:?}");
        }
        check_key_pattern("a.*.>").unwrap();
        assert!(check_key_pattern("a.>.b").is_err() && check_key_pattern("a b").is_err());
        check_bucket("a-B_9").unwrap();
        assert!(check_bucket("").is_err() && check_bucket("a.b").is_err() && check_bucket("*").is_err());
    }
}
