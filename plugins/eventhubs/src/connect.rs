//! The plugin's two entry points, and the connection that the host holds.

use std::sync::Arc;

use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{Call, Wanted};

use crate::client::{Client, List};
use crate::config::{ConnectOptions, Settings};
use crate::endpoint::Endpoint;
use crate::publish::PublishOptions;
use crate::subscribe::SubscribeOptions;

/// Event Hubs.
pub struct EventHubs;

impl Protocol for EventHubs {
    type Connect = ConnectOptions;
    type Connection = HubConnection;
    #[cfg(feature = "serve")]
    type Serve = crate::serve::ServeOptions;
    #[cfg(feature = "serve")]
    type Server = crate::serve::HubServer;
    #[cfg(not(feature = "serve"))]
    type Serve = NoOptions;
    #[cfg(not(feature = "serve"))]
    type Server = NoServer;

    /// In fe2o3-amqp a message passes through three tasks before it is ours.
    const WORKERS: usize = 2;

    fn about() -> About {
        let client = [Verb::Publish, Verb::Subscribe, Verb::List];
        let all = [Verb::Publish, Verb::Subscribe, Verb::List, Verb::Serve];
        let about = About::new("eventhubs", "Event Hubs", env!("CARGO_PKG_VERSION"))
            .about("Azure Event Hubs, and queues of other AMQP 1.0 brokers")
            .verbs(if cfg!(feature = "serve") { &all } else { &client })
            .topics(Wanted::Optional, Wanted::Optional)
            .capabilities(&["headers", "acknowledged", "default-host"]);
        Endpoint::schemes(about)
    }

    async fn connect(options: ConnectOptions, context: Context) -> Result<HubConnection> {
        let settings = Settings::new(&options, context.url())?;
        Ok(HubConnection { client: Client::connect(settings, &context).await? })
    }

    #[cfg(feature = "serve")]
    async fn serve(options: Self::Serve, context: Context) -> Result<Self::Server> {
        crate::serve::HubServer::start(options, context).await
    }

    fn check(call: &Call<'_, EventHubs>) -> Result<()> {
        #[cfg(feature = "serve")]
        if let Some(serve) = call.serve {
            return serve.check(call.url);
        }
        let Some(connect) = call.connect else { return Ok(()) };
        let settings = Settings::new(connect, call.url)?;
        if let Some(options) = call.publish {
            options.check(settings.dialect)?;
        }
        if let Some(options) = call.subscribe {
            options.wish(call.topics, &settings)?;
        }
        Ok(())
    }
}

/// An open connection.
pub struct HubConnection {
    client: Client,
}

impl Connection for HubConnection {
    type Publish = PublishOptions;
    type Subscribe = SubscribeOptions;

    async fn publish(&self, batch: Batch, options: Arc<PublishOptions>) -> Result<Vec<Outcome>> {
        self.client.publish(batch, options).await
    }

    async fn subscribe(&self, topics: Vec<String>, options: SubscribeOptions) -> Result<Subscription> {
        let wish = options.wish(&topics, self.client.settings())?;
        self.client.subscribe(wish).await
    }

    async fn list(&self, what: Option<String>) -> Result<serde_json::Value> {
        self.client.list(List::parse(what.as_deref())?).await
    }

    async fn close(&self) -> Result<()> {
        self.client.close().await
    }
}
