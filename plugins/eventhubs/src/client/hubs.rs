//! What the service says of hubs and their partitions: `$management`.

use fe2o3_amqp_types::messaging::ApplicationProperties;
use serde_amqp::Value as OutgoingValue;
use serde_json::json;
use tracemq_plugin_api::prelude::*;

use super::dial::Opened;
use super::node::{Answer, Question};
use crate::value;
use crate::wire::{Malformed, Value};

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
        Hub::read(answer.body())
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
                partitions.push(Partition::read(answer.body())?);
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
            (properties.build(), OutgoingValue::Null)
        };
        node.ask(partitions.iter().map(question).collect()).await
    }
}

impl Hub {
    fn read(body: Value<'_>) -> Result<Hub> {
        let partitions = body.get("partition_ids").and_then(texts);
        match partitions {
            Some(partitions) if partitions.len() <= MOST_PARTITIONS => Ok(Hub {
                name: body.get("name").map(value::text).unwrap_or_default(),
                created: body.get("created_at").and_then(|time| time.timestamp()),
                partitions,
            }),
            _ => Err(unreadable()),
        }
    }
}

impl Partition {
    fn read(body: Value<'_>) -> Result<Partition> {
        let number = |name| body.get(name).and_then(|number| number.signed()).ok_or_else(unreadable);
        let time = body.get("last_enqueued_time_utc").and_then(|time| time.timestamp());
        Ok(Partition {
            id: body.get("partition").and_then(|id| id.text()).ok_or_else(unreadable)?.to_owned(),
            first: number("begin_sequence_number")?,
            last: number("last_enqueued_sequence_number")?,
            last_offset: body.get("last_enqueued_offset").map(value::text).unwrap_or_default(),
            // An empty partition's is the year 1.
            last_time: time.filter(|time| *time > 0),
            empty: body.get("is_partition_empty").and_then(|empty| empty.bool()) == Some(true),
        })
    }
}

/// The texts of an array or a list.
fn texts(value: Value<'_>) -> Option<Vec<String>> {
    let text = |item: Result<Value<'_>, Malformed>| item.ok()?.text().map(str::to_owned);
    match (value.array(), value.list()) {
        (Some(elements), _) => elements.map(text).collect(),
        (None, Some(items)) => items.map(text).collect(),
        (None, None) => None,
    }
}

fn unreadable() -> Error {
    Error::new(ErrorKind::PROTOCOL, "the service's answer can't be read")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Reader, Writer};

    fn with<T>(fill: impl FnOnce(&mut Writer<'_>), look: impl FnOnce(Value<'_>) -> T) -> T {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes).map(fill);
        look(Reader::new(&bytes).value().expect("a value"))
    }

    #[test]
    fn answers_are_read() {
        for as_list in [false, true] {
            let fill = |w: &mut Writer<'_>| {
                w.string("name");
                w.string("h");
                w.symbol("partition_ids");
                match as_list {
                    true => w.list(|w| ["0", "1"].into_iter().for_each(|id| w.string(id))),
                    false => w.strings(["0", "1"].into_iter()),
                }
            };
            let hub = with(fill, Hub::read).expect("a hub");
            assert_eq!((hub.name.as_str(), hub.partitions.len()), ("h", 2));
        }
        let empty = |w: &mut Writer<'_>| {
            w.string("partition");
            w.string("0");
            w.string("begin_sequence_number");
            w.long(-1);
            w.string("last_enqueued_sequence_number");
            w.long(-1);
            w.string("last_enqueued_time_utc");
            w.timestamp(-62_135_596_800_000);
            w.string("is_partition_empty");
            w.bool(true);
        };
        let partition = with(empty, Partition::read).expect("a partition");
        assert_eq!((partition.last, partition.last_time, partition.empty), (-1, None, true));
        let wrong = |w: &mut Writer<'_>| {
            w.string("partition_ids");
            w.int(3);
        };
        assert!(with(wrong, Hub::read).is_err() && with(wrong, Partition::read).is_err());
        assert!(Hub::read(Value::NULL).is_err() && Partition::read(Value::NULL).is_err());
    }
}
