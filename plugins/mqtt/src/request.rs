//! Request and response (5.0, section 4.10): a response topic of our own, and correlation data that the answers repeat.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tracemq_plugin_api::prelude::*;

use crate::client::Client;
use crate::publish::PublishOptions;
use crate::wire::QoS;
use crate::wire::request::{Filter, Subscribe};

/// Answers that may wait for the host, in batches.
const ANSWERS: usize = 4;

static REQUESTS: AtomicU64 = AtomicU64::new(0);

pub struct Replies;

impl Replies {
    /// Subscribes to the response topic, publishes the question, and returns the stream of answers to it.
    ///
    /// # Errors
    /// The subscription or the question was refused; nobody subscribes to the question's topic, where the server says so
    /// (5.0, reason code 0x10).
    pub async fn ask(client: &Client, batch: Batch, options: &PublishOptions) -> Result<Subscription> {
        let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
        let topic = match &options.response_topic {
            Some(topic) => topic.clone(),
            None => match client.response_information() {
                Some(prefix) => format!("{}/{number}", prefix.trim_end_matches('/')),
                None => format!("tracemq/reply/{}/{number}", client.client_id()),
            },
        };
        let correlation =
            options.correlation_data.clone().unwrap_or_else(|| format!("{}-{number}", client.client_id()));
        let answers = client
            .subscribe(Subscribe {
                filters: vec![Filter { filter: topic.clone(), qos: QoS::AtLeastOnce, ..Filter::default() }],
                id: None,
                user_properties: Vec::new(),
            })
            .await?;
        let version_5 = client.version().is_v5();
        let question = PublishOptions {
            response_topic: version_5.then_some(topic),
            correlation_data: version_5.then(|| correlation.clone()),
            // At QoS 0 the server could not say that nobody listens.
            qos: options.qos.max(u8::from(version_5)),
            ..options.clone()
        };
        for outcome in client.publish(batch, Arc::new(question)).await? {
            if outcome.is_success() {
                if outcome.reason().starts_with("0x10") {
                    return Err(Error::new(ErrorKind::NO_RESPONDERS, "nobody subscribes to the topic")
                        .code(outcome.reason()));
                }
                continue;
            }
            let kind = match outcome.status() {
                tracemq_plugin_api::sdk::OutcomeStatus::UNAUTHORIZED => ErrorKind::AUTH,
                _ => ErrorKind::PROTOCOL,
            };
            return Err(Error::new(kind, format!("the request was not taken: {}", outcome.reason())));
        }
        Ok(matching(answers, version_5.then_some(correlation)))
    }
}

/// Only the answers with our correlation data: another client may use the same response topic.
fn matching(answers: Subscription, correlation: Option<String>) -> Subscription {
    let Some(correlation) = correlation else { return answers };
    let (sender, filtered) = queue(ANSWERS);
    tracemq_plugin_api::sdk::spawn(async move {
        loop {
            let batch = tokio::select! {
                () = sender.closed() => return,
                batch = answers.next_batch(256) => batch,
            };
            match batch {
                Ok(batch) if batch.is_end() => return,
                Ok(batch) => {
                    let ours = batch.filter(|message| {
                        message.meta().any(|(name, value)| {
                            name == "correlation_data" && value == MetaValue::Text(&correlation)
                        })
                    });
                    if !ours.is_empty() && !sender.send(ours).await {
                        return;
                    }
                }
                Err(error) => return sender.fail(error).await,
            }
        }
    });
    filtered
}
