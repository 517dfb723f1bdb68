//! Connections, subscriptions and servers of a loaded plugin, as the rest of the host uses them.
//!
//! This is the only place that awaits a plugin's futures. They may be dropped at any time: that cancels the work.

use crate::plugins::Plugin;
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::PathBuf;
use tracemq_plugin_api::abi::{ConnectionBox, FfiFuture, ServerBox, SubscriptionBox};
use tracemq_plugin_api::sdk::{Batch, Error, ErrorKind, Event, Import, MAX_BATCH, Outcome, Verb};

/// What the plugin is told beside its options. The field names are the ABI's. No `Debug`: the URL may hold a secret.
#[derive(Clone, Default, Serialize)]
pub struct Context {
    /// The target's URL, secrets resolved.
    pub url: Option<String>,
    /// The target as it may be shown.
    pub target: String,
    pub reconnect: bool,
    pub state_dir: Option<PathBuf>,
    pub host: String,
    /// The target is a profile with a guard.
    pub guarded: bool,
    /// The connection is made only to find out whether somebody answers.
    pub probing: bool,
}

/// A call to be looked at by the plugin before anything is opened.
#[derive(Serialize)]
pub struct Call<'a> {
    pub verb: Verb,
    pub url: Option<&'a str>,
    pub connection: Option<&'a Map<String, Value>>,
    pub options: &'a Map<String, Value>,
    pub topics: &'a [String],
}

/// Asks the plugin whether a call makes sense: types, topics, options that exclude each other.
pub fn check(plugin: &Plugin, call: &Call<'_>) -> Result<(), Error> {
    (plugin.module().check())(json(call).into()).into_result()
}

/// What the plugin makes of a file of another program; `None`: it does not know such files. `format` may be empty.
pub fn import(plugin: &Plugin, format: &str, name: &str, content: &[u8]) -> Result<Option<Import>, Error> {
    let Some(import) = plugin.module().import() else { return Ok(None) };
    let call = serde_json::json!({"format": format, "name": name});
    let text = import(json(&call).into(), content.to_vec().into()).into_result()?;
    serde_json::from_str(&text).map_err(|_| {
        Error::new(ErrorKind::PANIC, "what the plugin read is not in the form that was agreed on")
    })
}

/// An open connection.
pub struct Connection(ConnectionBox);

impl Connection {
    pub async fn open(
        plugin: &Plugin,
        options: &Map<String, Value>,
        context: &Context,
    ) -> Result<Connection, Error> {
        answer((plugin.module().connect())(json(options).into(), json(context).into())).await.map(Connection)
    }

    /// Publishes at most [`MAX_BATCH`] messages. `options` is JSON by the publish schema and stays the same for a run.
    pub async fn publish(&self, batch: Batch, options: &str) -> Result<Vec<Outcome>, Error> {
        let expected = batch.len();
        all_told(expected, answer(self.0.publish(batch, options.into())).await?.into_vec())
    }

    pub async fn subscribe(
        &self,
        topics: &[String],
        options: &Map<String, Value>,
    ) -> Result<Subscription, Error> {
        answer(self.0.subscribe(json(topics).into(), json(options).into())).await.map(Subscription)
    }

    pub async fn request(&self, batch: Batch, options: &str) -> Result<Subscription, Error> {
        answer(self.0.request(batch, options.into())).await.map(Subscription)
    }

    pub async fn list(&self, what: &str) -> Result<Value, Error> {
        let text = answer(self.0.list(what.into())).await?;
        serde_json::from_str(&text).map_err(|error| {
            Error::new(ErrorKind::PANIC, format!("the plugin's listing is not JSON: {error}"))
        })
    }

    /// The next events; empty when there will be no more.
    pub async fn events(&self) -> Result<Vec<Event>, Error> {
        answer(self.0.events()).await.map(|events| events.into_vec())
    }

    pub async fn close(&self) -> Result<(), Error> {
        answer(self.0.close()).await
    }
}

/// A stream of messages.
pub struct Subscription(SubscriptionBox);

impl Subscription {
    /// At most `max` messages, at least one, or a batch for which `is_end` holds. Calling it again tells the plugin that
    /// the messages before are dealt with, so it must not be called before they are written.
    pub async fn next_batch(&self, max: usize) -> Result<Batch, Error> {
        answer(self.0.next_batch(max.min(MAX_BATCH) as u32)).await
    }

    pub async fn close(&self) -> Result<(), Error> {
        answer(self.0.close()).await
    }
}

/// A running server.
pub struct Server(ServerBox);

impl Server {
    pub async fn start(
        plugin: &Plugin,
        options: &Map<String, Value>,
        context: &Context,
    ) -> Result<Server, Error> {
        answer((plugin.module().serve())(json(options).into(), json(context).into())).await.map(Server)
    }

    pub fn addresses(&self) -> Vec<String> {
        self.0.addresses().into_iter().map(Into::into).collect()
    }

    pub async fn messages(&self) -> Result<Subscription, Error> {
        answer(self.0.messages()).await.map(Subscription)
    }

    /// Sends to the server's clients. `options` is JSON by the publish schema.
    pub async fn publish(&self, batch: Batch, options: &str) -> Result<Vec<Outcome>, Error> {
        let expected = batch.len();
        all_told(expected, answer(self.0.publish(batch, options.into())).await?.into_vec())
    }

    pub async fn events(&self) -> Result<Vec<Event>, Error> {
        answer(self.0.events()).await.map(|events| events.into_vec())
    }

    pub async fn close(&self) -> Result<(), Error> {
        answer(self.0.close()).await
    }
}

/// Each message has an outcome.
fn all_told(expected: usize, outcomes: Vec<Outcome>) -> Result<Vec<Outcome>, Error> {
    if outcomes.len() != expected {
        let text =
            format!("the plugin told of {} messages, not of the {expected} it was given", outcomes.len());
        return Err(Error::new(ErrorKind::PANIC, text));
    }
    Ok(outcomes)
}

async fn answer<T>(future: FfiFuture<T>) -> Result<T, Error> {
    future.await.into_result()
}

fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("what the host hands over has text keys and no infinite numbers")
}
