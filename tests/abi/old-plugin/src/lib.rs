//! Every call of the 1.0 API, in a plugin of its time.

use std::sync::{Arc, Mutex};
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::schemars::{self, JsonSchema};
use tracemq_plugin_api::serde::{self, Deserialize};

struct Old;

#[derive(Default, Deserialize, JsonSchema)]
#[serde(crate = "serde", default)]
#[schemars(crate = "schemars")]
struct Options {
    /// Text to put before each payload
    prefix: String,
}

impl Protocol for Old {
    type Connect = Options;
    type Serve = NoOptions;
    type Connection = OldConnection;
    type Server = OldServer;

    fn about() -> About {
        About::new("old", "Old", env!("CARGO_PKG_VERSION")).scheme("old", None).verbs(&[
            Verb::Publish,
            Verb::Subscribe,
            Verb::Request,
            Verb::Serve,
            Verb::List,
        ])
    }

    async fn connect(options: Options, context: Context) -> Result<OldConnection> {
        context.events().emit(Event::new(EventKind::CONNECTED, "the old plugin is connected"));
        if context.url().is_some_and(|url| url.ends_with("://nowhere")) {
            return Err(Error::new(ErrorKind::CONNECT, "nobody lives there")
                .while_doing("connect")
                .code("0x01"));
        }
        Ok(OldConnection { options })
    }

    async fn serve(_: NoOptions, _: Context) -> Result<OldServer> {
        let (sender, subscription) = queue(1);
        sender.send(numbered("served", "", 3)).await;
        Ok(OldServer { messages: Mutex::new(Some(subscription)), _sender: sender })
    }
}

struct OldConnection {
    options: Options,
}

impl Connection for OldConnection {
    type Publish = NoOptions;
    type Subscribe = NoOptions;

    async fn publish(&self, batch: Batch, _: Arc<NoOptions>) -> Result<Vec<Outcome>> {
        let outcome = |payload: &[u8]| match payload {
            b"refuse" => Outcome::refused("it asked for it"),
            _ => Outcome::acknowledged(),
        };
        Ok(batch.iter().map(|message| outcome(message.payload())).collect())
    }

    async fn subscribe(&self, topics: Vec<String>, _: NoOptions) -> Result<Subscription> {
        let (sender, subscription) = queue(1);
        let topic = topics.into_iter().next().unwrap_or_default();
        sender.send(numbered(&topic, &self.options.prefix, 3)).await;
        Ok(subscription)
    }

    async fn request(&self, batch: Batch, _: Arc<NoOptions>) -> Result<Subscription> {
        let (sender, subscription) = queue(1);
        sender.send(batch).await;
        Ok(subscription)
    }

    async fn list(&self, _: Option<String>) -> Result<tracemq_plugin_api::serde_json::Value> {
        Ok(tracemq_plugin_api::serde_json::json!({"columns": ["name"], "rows": [["old"]]}))
    }
}

struct OldServer {
    messages: Mutex<Option<Subscription>>,
    _sender: BatchSender,
}

impl Server for OldServer {
    type Publish = NoOptions;

    fn addresses(&self) -> Vec<String> {
        vec!["old://here".into()]
    }

    fn messages(&self) -> Result<Subscription> {
        let messages = self.messages.lock().ok().and_then(|mut messages| messages.take());
        messages.ok_or_else(|| Error::new(ErrorKind::OTHER, "taken already"))
    }
}

fn numbered(topic: &str, prefix: &str, count: u64) -> Batch {
    let mut batch = BatchBuilder::new();
    for number in 1..=count {
        batch
            .add(topic, &format!("{prefix}{number}"))
            .header("age", "old")
            .meta("number", MetaValue::Uint(number));
    }
    batch.finish()
}

export_plugin!(Old);
