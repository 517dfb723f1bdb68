//! The plugin's two entry points, and the connection that the host holds.

use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{NoOptions, NoServer};

/// Event Hubs.
pub struct EventHubs;

impl Protocol for EventHubs {
    type Connect = NoOptions;
    type Serve = NoOptions;
    type Connection = Open;
    type Server = NoServer;

    fn about() -> About {
        About::new("eventhubs", "Event Hubs", env!("CARGO_PKG_VERSION"))
            .about("Azure Event Hubs, and queues of other AMQP 1.0 brokers")
    }

    async fn connect(_: NoOptions, _: Context) -> Result<Open> {
        Err(Error::unsupported("not yet"))
    }
}

/// An open connection.
pub struct Open {}

impl Connection for Open {
    type Publish = NoOptions;
    type Subscribe = NoOptions;
}
