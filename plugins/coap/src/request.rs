//! Request and response: one message, and whatever comes back.

use tracemq_plugin_api::prelude::*;

use crate::client::{Client, request};
use crate::message::{Method, uri_of};
use crate::publish::PublishOptions;
use crate::target::Target;

/// GET, or POST of a payload, unless `--method` says otherwise.
///
/// # Errors
/// The topic is no path, an option or header can't be. That there is no answer, or none that is well, comes through the
/// stream.
pub(crate) async fn ask(
    client: &Client,
    target: &Target,
    batch: &Batch,
    options: &PublishOptions,
) -> Result<Subscription> {
    let message = batch.get(0).ok_or_else(|| Error::config("there is no message to send"))?;
    let default = if message.payload().is_empty() { Method::Get } else { Method::Post };
    let packet = request(&message, options, target, default)?;
    let topic = uri_of(&packet);
    client.request(packet, !options.non_confirmable, topic).await
}
