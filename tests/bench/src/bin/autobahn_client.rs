//! The client that Autobahn's fuzzing server tests: `autobahn_client LIBRARY ws://ADDRESS AGENT`.
//!
//! The plugin is loaded as the host loads it, and a connection made for each case the server has: what comes is sent back as
//! the kind of message it came as, until the server closes. Nothing here knows of frames.

use std::error::Error;

use serde_json::json;
use tokio::time::{Duration, timeout};
use tracemq_plugin_api::abi::{Batch, ConnectionBox, MAX_BATCH, MetaValue, PluginRef, SubscriptionBox};
use tracemq_plugin_api::sdk::{BatchBuilder, Part};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Beyond this a case has hung; the longest of the suite is given some minutes by the suite itself.
const LONGEST_CASE: Duration = Duration::from_secs(600);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [library, server, agent] = arguments.as_slice() else {
        return Err("usage: autobahn_client LIBRARY ws://ADDRESS AGENT".into());
    };
    let plugin = tracemq_bench::load(library)?;
    let (connection, subscription) = connect(&plugin, &format!("{server}/getCaseCount")).await?;
    let answer = subscription.next_batch(MAX_BATCH as u32).await.into_result()?;
    let count = answer.get(0).ok_or("the server does not say how many cases it has")?;
    let count: u32 = std::str::from_utf8(count.payload())?.parse()?;
    connection.close().await.into_result()?;
    for case in 1..=count {
        let url = format!("{server}/runCase?case={case}&agent={agent}");
        timeout(LONGEST_CASE, echo(&plugin, &url)).await.map_err(|_| format!("case {case} has hung"))??;
    }
    let (connection, subscription) =
        connect(&plugin, &format!("{server}/updateReports?agent={agent}")).await?;
    // The server closes when it has written them.
    while subscription.next_batch(MAX_BATCH as u32).await.into_result().is_ok_and(|batch| !batch.is_end()) {}
    let _ = connection.close().await;
    Ok(())
}

async fn connect(plugin: &PluginRef, url: &str) -> Result<(ConnectionBox, SubscriptionBox)> {
    let options = json!({"max_message_size": 64 << 20}).to_string();
    let context = json!({"url": url, "target": url, "host": "autobahn_client"}).to_string();
    let connection = plugin.connect()(options.into(), context.into()).await.into_result()?;
    let subscription = connection.subscribe("[]".into(), "{}".into()).await.into_result()?;
    Ok((connection, subscription))
}

/// Many cases end with an error, as they should: the server's report judges, not we.
async fn echo(plugin: &PluginRef, url: &str) -> Result<()> {
    let (connection, subscription) = connect(plugin, url).await?;
    while let Ok(batch) = subscription.next_batch(MAX_BATCH as u32).await.into_result() {
        if batch.is_end() || send_back(&connection, &batch).await.is_err() {
            break;
        }
    }
    let _ = connection.close().await;
    Ok(())
}

async fn send_back(connection: &ConnectionBox, batch: &Batch) -> Result<()> {
    for message in batch.iter() {
        let binary = message.meta().any(|meta| meta == ("type", MetaValue::Text("binary")));
        let mut single = BatchBuilder::new();
        single.add("", Part::Shared(message.payload_bytes()));
        let options = json!({"binary": binary}).to_string();
        connection.publish(single.finish(), options.into()).await.into_result()?;
    }
    Ok(())
}
