//! The options of a publish.

use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::prelude::{Error, Result};
use tracemq_plugin_api::{schemars, serde};

use crate::wire::subject;

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PublishOptions {
    /// Subject to answer to
    #[schemars(title = "Reply subject", extend(
        "x-group" = "message", "x-order" = 110, "x-title-fr" = "Sujet de réponse",
        "x-help-fr" = "Sujet où répondre"
    ))]
    pub reply: Option<String>,
}

impl PublishOptions {
    /// # Errors
    /// The reply is no subject.
    pub fn check(&self) -> Result<()> {
        match &self.reply {
            Some(reply) => subject::check_subject(reply)
                .map_err(|error| Error::config(format!("--reply {reply:?}: {error}"))),
            None => Ok(()),
        }
    }
}
