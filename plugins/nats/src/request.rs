//! Request and reply: an inbox of our own, the question with the inbox as its reply, and whatever comes back.

use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::OutcomeStatus;

use crate::client::{Client, Service};
use crate::publish::PublishOptions;
use crate::session::Pattern;

/// Bytes of answers that may wait for the host.
const BUFFER: usize = 64 << 20;

/// Subscribes to an inbox, publishes the question, and returns the stream of answers.
///
/// # Errors
/// The subscription or the question was refused. That nobody is there to answer comes through the stream.
pub(crate) async fn ask(client: &Client, batch: Batch, options: &PublishOptions) -> Result<Subscription> {
    let subject = batch.get(0).map(|message| message.topic_text().into_owned()).unwrap_or_default();
    let inbox = options.reply.clone().unwrap_or_else(|| client.inbox());
    let pattern = Pattern { subject: client.prefix().on_wire(&inbox), queue: None, max: None };
    let service = Service { buffer: BUFFER, lossless: false, request: Some(subject), gapless: false };
    // Both at once: the server takes them in order, so the inbox is there before the question.
    let (answers, outcomes) =
        tokio::join!(biased; client.subscribe(vec![pattern], service), client.publish(batch, Some(inbox)));
    let answers = answers?;
    if let Some(outcome) = outcomes?.iter().find(|outcome| !outcome.is_success()) {
        let kind = match outcome.status() {
            OutcomeStatus::UNAUTHORIZED => ErrorKind::AUTH,
            OutcomeStatus::UNCONFIRMED => ErrorKind::CLOSED,
            _ => ErrorKind::PROTOCOL,
        };
        return Err(Error::new(kind, format!("the request was not taken: {}", outcome.reason())));
    }
    Ok(answers)
}
