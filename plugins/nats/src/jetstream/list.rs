//! `tracemq list`: streams, consumers, key-value buckets, object stores, with their state.

use async_nats::jetstream::stream::{Info, RetentionPolicy, StorageType};
use async_nats::jetstream::{consumer, consumer::AckPolicy};
use futures_util::TryStreamExt;
use serde_json::{Value, json};
use tracemq_plugin_api::prelude::*;

use super::{JetStream, error};

const BUCKET: &str = super::bucket::STREAM;
const OBJECTS: &str = "OBJ_";

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    Streams,
    Consumers,
    Buckets,
    Objects,
}

impl List {
    /// # Errors
    /// There is no such list.
    pub(crate) fn parse(what: Option<&str>) -> Result<List> {
        match what.unwrap_or("streams") {
            "streams" => Ok(List::Streams),
            "consumers" => Ok(List::Consumers),
            "buckets" => Ok(List::Buckets),
            "objects" => Ok(List::Objects),
            other => Err(Error::config(format!("WHAT {other:?}: there is no such list"))
                .hint("it is one of streams, consumers, buckets, objects")),
        }
    }
}

impl JetStream {
    pub(crate) async fn list(&self, what: List) -> Result<Value> {
        let mut streams: Vec<Info> = self
            .ask(async |api| api.streams().try_collect().await.map_err(|error| error::any(&error)))
            .await
            .map_err(|error| error.while_doing("list streams"))?;
        streams.sort_by(|one, other| one.config.name.cmp(&other.config.name));
        Ok(match what {
            List::Streams => table(
                &[
                    "stream",
                    "subjects",
                    "messages",
                    "bytes",
                    "first_sequence",
                    "last_sequence",
                    "consumers",
                    "last_time",
                    "retention",
                    "storage",
                    "replicas",
                    "leader",
                ],
                streams.iter().map(stream).collect(),
            ),
            List::Buckets => table(
                &[
                    "bucket",
                    "values",
                    "bytes",
                    "history",
                    "max_age_seconds",
                    "last_revision",
                    "storage",
                    "replicas",
                ],
                named(&streams, BUCKET).map(|(name, info)| bucket(name, info)).collect(),
            ),
            List::Objects => table(
                &["store", "bytes", "messages", "storage", "replicas", "sealed"],
                named(&streams, OBJECTS)
                    .map(|(name, info)| {
                        json!([
                            name,
                            info.state.bytes,
                            info.state.messages,
                            storage(info),
                            info.config.num_replicas,
                            info.config.sealed
                        ])
                    })
                    .collect(),
            ),
            List::Consumers => {
                let mut rows = Vec::new();
                for info in &streams {
                    rows.extend(self.consumers(&info.config.name).await?.iter().map(consumer));
                }
                table(
                    &[
                        "stream",
                        "consumer",
                        "durable",
                        "filter",
                        "ack",
                        "pending",
                        "ack_pending",
                        "redelivered",
                        "waiting",
                        "delivered",
                        "ack_floor",
                    ],
                    rows,
                )
            }
        })
    }

    async fn consumers(&self, stream: &str) -> Result<Vec<consumer::Info>> {
        self.ask(async |api| {
            let stream = api.get_stream_no_info(stream).await.map_err(|error| error::any(&error))?;
            stream.consumers().try_collect().await.map_err(|error| error::any(&error))
        })
        .await
        .map_err(|error| error.while_doing(format!("list the consumers of {stream}")))
    }
}

fn table(columns: &[&str], rows: Vec<Value>) -> Value {
    json!({ "columns": columns, "rows": rows })
}

fn named<'a>(streams: &'a [Info], prefix: &str) -> impl Iterator<Item = (&'a str, &'a Info)> {
    streams.iter().filter_map(move |info| Some((info.config.name.strip_prefix(prefix)?, info)))
}

fn stream(info: &Info) -> Value {
    let state = &info.state;
    let last = i64::try_from(state.last_timestamp.unix_timestamp_nanos()).ok();
    let last = last.filter(|_| state.last_sequence > 0).map(super::position::timestamp);
    json!([
        info.config.name,
        info.config.subjects.join(","),
        state.messages,
        state.bytes,
        state.first_sequence,
        state.last_sequence,
        state.consumer_count,
        last,
        match info.config.retention {
            RetentionPolicy::Limits => "limits",
            RetentionPolicy::Interest => "interest",
            RetentionPolicy::WorkQueue => "workqueue",
        },
        storage(info),
        info.config.num_replicas,
        info.cluster.as_ref().and_then(|cluster| cluster.leader.clone()),
    ])
}

fn bucket(name: &str, info: &Info) -> Value {
    json!([
        name,
        info.state.messages,
        info.state.bytes,
        info.config.max_messages_per_subject,
        info.config.max_age.as_secs(),
        info.state.last_sequence,
        storage(info),
        info.config.num_replicas,
    ])
}

fn consumer(info: &consumer::Info) -> Value {
    let config = &info.config;
    let filter = match config.filter_subjects.is_empty() {
        true => config.filter_subject.clone(),
        false => config.filter_subjects.join(","),
    };
    json!([
        info.stream_name,
        info.name,
        config.durable_name.is_some(),
        filter,
        match config.ack_policy {
            AckPolicy::None => "none",
            AckPolicy::All => "all",
            AckPolicy::Explicit => "explicit",
        },
        info.num_pending,
        info.num_ack_pending,
        info.num_redelivered,
        info.num_waiting,
        info.delivered.stream_sequence,
        info.ack_floor.stream_sequence,
    ])
}

fn storage(info: &Info) -> &'static str {
    match info.config.storage {
        StorageType::File => "file",
        StorageType::Memory => "memory",
    }
}
