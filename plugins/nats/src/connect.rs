//! The plugin's two entry points, and the connection that the host holds.

use std::sync::Arc;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::Call;

use crate::client::{Client, Service};
use crate::config::{ConnectOptions, Settings};
use crate::endpoint::Server as Endpoint;
use crate::publish::PublishOptions;
use crate::request;
use crate::subscribe::SubscribeOptions;
use crate::wire::subject;

/// NATS, core and JetStream.
pub struct Nats;

impl Protocol for Nats {
    type Connect = ConnectOptions;
    type Connection = NatsConnection;
    #[cfg(feature = "serve")]
    type Serve = crate::serve::ServeOptions;
    #[cfg(feature = "serve")]
    type Server = crate::serve::NatsServer;
    #[cfg(not(feature = "serve"))]
    type Serve = NoOptions;
    #[cfg(not(feature = "serve"))]
    type Server = NoServer;

    fn about() -> About {
        let client = [Verb::Publish, Verb::Subscribe, Verb::Request];
        let all = [Verb::Publish, Verb::Subscribe, Verb::Request, Verb::Serve];
        let about = About::new("nats", "NATS", env!("CARGO_PKG_VERSION"))
            .about("NATS over TCP, TLS and WebSocket")
            .verbs(if cfg!(feature = "serve") { &all } else { &client })
            .capabilities(&["headers", "wildcards", "queue-group", "default-host"]);
        Endpoint::schemes(about)
    }

    async fn connect(options: ConnectOptions, context: Context) -> Result<NatsConnection> {
        let settings = Settings::new(&options, context.url(), environment)?;
        Ok(NatsConnection { client: Client::connect(settings, &context).await? })
    }

    #[cfg(feature = "serve")]
    async fn serve(options: Self::Serve, context: Context) -> Result<Self::Server> {
        crate::serve::NatsServer::start(options, context).await
    }

    fn check(call: &Call<'_, Nats>) -> Result<()> {
        #[cfg(feature = "serve")]
        if let Some(serve) = call.serve {
            return serve.check();
        }
        let Some(connect) = call.connect else { return Ok(()) };
        let settings = Settings::new(connect, call.url, environment)?;
        if let Some(options) = call.publish {
            for topic in call.topics {
                subject::check_subject(topic)
                    .map_err(|error| Error::config(format!("TOPIC {topic:?}: {error}")))?;
            }
            options.check()?;
        }
        if let Some(options) = call.subscribe {
            options.patterns(call.topics, &settings.prefix)?;
        }
        Ok(())
    }
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// An open connection: its loop runs as a task of its own.
pub struct NatsConnection {
    client: Client,
}

impl Connection for NatsConnection {
    type Publish = PublishOptions;
    type Subscribe = SubscribeOptions;

    async fn publish(&self, batch: Batch, options: Arc<PublishOptions>) -> Result<Vec<Outcome>> {
        self.client.publish(batch, options.reply.clone()).await
    }

    async fn subscribe(&self, topics: Vec<String>, options: SubscribeOptions) -> Result<Subscription> {
        let patterns = options.patterns(&topics, self.client.prefix())?;
        let service = Service { buffer: options.buffer as usize, lossless: options.lossless, request: None };
        self.client.subscribe(patterns, service).await
    }

    async fn request(&self, batch: Batch, options: Arc<PublishOptions>) -> Result<Subscription> {
        request::ask(&self.client, batch, &options).await
    }

    async fn close(&self) -> Result<()> {
        self.client.close().await
    }
}
