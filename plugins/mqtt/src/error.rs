//! From the plugin's own errors to the one that crosses to the host.

use tracemq_plugin_api::prelude::Error;

use crate::wire::Invalid;

/// What the user wrote where: an option or an argument that MQTT has no place for.
pub fn invalid(place: &str, error: &Invalid) -> Error {
    Error::config(format!("{place}: {error}"))
}
