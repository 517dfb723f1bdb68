//! What the service says of hubs and their partitions: `$management`.

use fe2o3_amqp_types::messaging::ApplicationProperties;
use serde_amqp::Value;
use serde_json::json;
use tracemq_plugin_api::prelude::*;

use super::dial::Opened;
use super::node::{Answer, Question};
use crate::value;

/// The most partitions that a hub may have.
const MOST_PARTITIONS: usize = 2048;
/// Partitions that are asked for at once: fewer than the credit for answers.
const AT_ONCE: usize = 64;

/// A hub, as the service tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hub {
    pub(super) name: String,
    created: Option<i64>,
    pub(super) partitions: Vec<String>,
}

/// A partition, as the service tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Partition {
    id: String,
    first: i64,
    /// -1 when nothing has ever been in it.
    pub(super) last: i64,
    last_offset: String,
    last_time: Option<i64>,
    empty: bool,
}

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    Hubs,
    Partitions,
}

impl List {
    /// # Errors
    /// There is no such list.
    pub(crate) fn parse(what: Option<&str>) -> Result<List> {
        match what.unwrap_or("partitions") {
            "hubs" => Ok(List::Hubs),
            "partitions" => Ok(List::Partitions),
            other => Err(Error::config(format!("WHAT {other:?}: there is no such list"))
                .hint("it is one of hubs, partitions")),
        }
    }
}

impl Opened {
    pub(super) async fn hub(&mut self, hub: &str) -> Result<Hub> {
        let answers = self.read(hub, &[None]).await?;
        let answer = answers.into_iter().next().ok_or_else(unreadable)?;
        if !answer.is_good() {
            return Err(answer.condition.error(&format!("the hub {hub:?}")));
        }
        Hub::read(&answer.body)
    }

    /// In the order of `ids`.
    pub(super) async fn partitions(&mut self, hub: &str, ids: &[String]) -> Result<Vec<Partition>> {
        let mut partitions = Vec::with_capacity(ids.len());
        for ids in ids.chunks(AT_ONCE) {
            let wanted: Vec<Option<&str>> = ids.iter().map(|id| Some(id.as_str())).collect();
            for (answer, id) in self.read(hub, &wanted).await?.into_iter().zip(ids) {
                if !answer.is_good() {
                    return Err(answer.condition.error(&format!("partition {id} of the hub {hub:?}")));
                }
                partitions.push(Partition::read(&answer.body)?);
            }
        }
        Ok(partitions)
    }

    pub(super) async fn list(&mut self, hub: &str, what: List) -> Result<serde_json::Value> {
        let found = self.hub(hub).await?;
        if what == List::Hubs {
            return Ok(json!({
                "columns": ["hub", "partitions", "partition_ids", "created"],
                "rows": [[found.name, found.partitions.len(), found.partitions.join(","), found.created.map(value::time)]],
            }));
        }
        let rows: Vec<_> = self
            .partitions(hub, &found.partitions)
            .await?
            .into_iter()
            .map(|one| {
                json!([
                    one.id,
                    one.first,
                    one.last,
                    one.last_offset,
                    one.last_time.map(value::time),
                    one.empty
                ])
            })
            .collect();
        Ok(json!({
            "columns": ["partition", "first_sequence", "last_sequence", "last_offset", "last_enqueued", "empty"],
            "rows": rows,
        }))
    }

    async fn read(&mut self, hub: &str, partitions: &[Option<&str>]) -> Result<Vec<Answer>> {
        self.authorize(hub).await?;
        let (node, token) = self.management(hub).await?;
        let question = |partition: &Option<&str>| -> Question {
            let kind = if partition.is_some() { "com.microsoft:partition" } else { "com.microsoft:eventhub" };
            let mut properties = ApplicationProperties::builder()
                .insert("operation", "READ")
                .insert("name", hub)
                .insert("type", kind)
                .insert("security_token", token.as_str());
            if let Some(partition) = partition {
                properties = properties.insert("partition", *partition);
            }
            (properties.build(), Value::Null)
        };
        node.ask(partitions.iter().map(question).collect()).await
    }
}

impl Hub {
    fn read(body: &Value) -> Result<Hub> {
        let partitions = match field(body, "partition_ids") {
            Some(Value::Array(ids)) => ids.0.iter().map(text).collect::<Option<Vec<_>>>(),
            Some(Value::List(ids)) => ids.iter().map(text).collect(),
            _ => None,
        };
        match partitions {
            Some(partitions) if partitions.len() <= MOST_PARTITIONS => Ok(Hub {
                name: field(body, "name").and_then(text).unwrap_or_default(),
                created: field(body, "created_at").and_then(time),
                partitions,
            }),
            _ => Err(unreadable()),
        }
    }
}

impl Partition {
    fn read(body: &Value) -> Result<Partition> {
        Ok(Partition {
            id: field(body, "partition").and_then(text).ok_or_else(unreadable)?,
            first: field(body, "begin_sequence_number").and_then(number).ok_or_else(unreadable)?,
            last: field(body, "last_enqueued_sequence_number").and_then(number).ok_or_else(unreadable)?,
            last_offset: field(body, "last_enqueued_offset").and_then(text).unwrap_or_default(),
            // An empty partition's is the year 1.
            last_time: field(body, "last_enqueued_time_utc").and_then(time).filter(|time| *time > 0),
            empty: matches!(field(body, "is_partition_empty"), Some(Value::Bool(true))),
        })
    }
}

fn field<'a>(body: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Map(map) = body else { return None };
    let found = map.iter().find(|(key, _)| match key {
        Value::String(key) => key == name,
        Value::Symbol(key) => key.as_str() == name,
        _ => false,
    });
    found.map(|(_, value)| value)
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Symbol(text) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Long(number) => Some(*number),
        Value::Int(number) => Some(i64::from(*number)),
        _ => None,
    }
}

fn time(value: &Value) -> Option<i64> {
    match value {
        Value::Timestamp(time) => Some(time.milliseconds()),
        _ => None,
    }
}

fn unreadable() -> Error {
    Error::new(ErrorKind::PROTOCOL, "the service's answer can't be read")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_amqp::primitives::{Array, OrderedMap, Timestamp};

    fn map(fields: Vec<(&str, Value)>) -> Value {
        let mut map = OrderedMap::new();
        for (name, value) in fields {
            map.insert(Value::String(name.into()), value);
        }
        Value::Map(map)
    }

    #[test]
    fn answers_are_read() {
        let ids = Value::Array(Array(vec![Value::String("0".into()), Value::String("1".into())]));
        let hub = Hub::read(&map(vec![("name", Value::String("h".into())), ("partition_ids", ids)]))
            .expect("a hub");
        assert_eq!((hub.name.as_str(), hub.partitions.len()), ("h", 2));
        let empty = map(vec![
            ("partition", Value::String("0".into())),
            ("begin_sequence_number", Value::Long(-1)),
            ("last_enqueued_sequence_number", Value::Long(-1)),
            ("last_enqueued_time_utc", Value::Timestamp(Timestamp::from_milliseconds(-62_135_596_800_000))),
            ("is_partition_empty", Value::Bool(true)),
        ]);
        let partition = Partition::read(&empty).expect("a partition");
        assert_eq!((partition.last, partition.last_time, partition.empty), (-1, None, true));
        for wrong in [Value::Null, map(vec![("partition_ids", Value::Int(3))])] {
            assert!(Hub::read(&wrong).is_err() && Partition::read(&wrong).is_err());
        }
    }
}
