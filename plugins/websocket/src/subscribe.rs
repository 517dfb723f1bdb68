//! The options of a subscription.

use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::prelude::{Error, Result};
use tracemq_plugin_api::{schemars, serde};

use crate::endpoint::Transport;

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SubscribeOptions {
    /// WebSocket: show pings and pongs too, among the messages
    #[schemars(title = "Show pings", extend(
        "x-group" = "subscription", "x-order" = 120, "x-title-fr" = "Montrer les pings",
        "x-help-fr" = "WebSocket : montrer aussi les pings et les pongs, parmi les messages"
    ))]
    pub show_pings: bool,
}

impl SubscribeOptions {
    /// # Errors
    /// A topic, which neither transport has, or pings of a raw socket.
    pub fn check(&self, topics: &[String], transport: Transport) -> Result<()> {
        if let Some(topic) = topics.first() {
            return Err(Error::config(format!(
                "TOPIC {topic:?}: there are no topics on {}://",
                transport.scheme()
            ))
            .hint(
                "everything that the server sends is shown; what is left of the URL's host may be a path",
            ));
        }
        if self.show_pings && transport.is_raw() {
            return Err(Error::config("--show-pings is for WebSocket (ws, wss)"));
        }
        Ok(())
    }
}
