//! The plugin's two entry points, and the connection that the host holds.

use std::sync::Arc;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{Call, Wanted};
#[cfg(feature = "import")]
use tracemq_plugin_api::sdk::{Import, ImportFile};

use crate::client::{Client, Service};
use crate::config::{ConnectOptions, Settings};
use crate::endpoint::Server as Endpoint;
#[cfg(feature = "import")]
use crate::import;
use crate::jetstream::{JetStream, List};
use crate::publish::PublishOptions;
use crate::request;
use crate::subscribe::SubscribeOptions;

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

    /// Each attempt to come back is an error to async-nats, and names no server.
    const QUIETED: &'static [&'static str] = &["async_nats"];

    fn about() -> About {
        let client = [Verb::Publish, Verb::Subscribe, Verb::Request, Verb::List];
        let all = [Verb::Publish, Verb::Subscribe, Verb::Request, Verb::List, Verb::Serve];
        let about = About::new("nats", "NATS", env!("CARGO_PKG_VERSION"))
            .about("NATS with JetStream and key-value, over TCP, TLS and WebSocket")
            .verbs(if cfg!(feature = "serve") { &all } else { &client })
            .topics(Wanted::Required, Wanted::Optional)
            .capabilities(&[
                "headers",
                "wildcards",
                "queue-group",
                "default-host",
                "acknowledged",
                "user-is-token",
            ]);
        #[cfg(feature = "import")]
        let about = import::formats(about);
        Endpoint::schemes(about)
    }

    #[cfg(feature = "import")]
    fn import(file: &ImportFile<'_>) -> Result<Option<Import>> {
        import::read(file)
    }

    async fn connect(options: ConnectOptions, context: Context) -> Result<NatsConnection> {
        let settings = Settings::new(&options, context.url(), environment)?;
        let client = Arc::new(Client::connect(settings.clone(), &context).await?);
        let jetstream = Arc::new(JetStream::new(Arc::clone(&client), settings, &context));
        Ok(NatsConnection { client, jetstream })
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
            options.check_topics(call.verb, call.topics)?;
        }
        if let Some(options) = call.subscribe
            && options.wish(call.topics, &settings.prefix)?.is_none()
        {
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
    client: Arc<Client>,
    jetstream: Arc<JetStream>,
}

impl Connection for NatsConnection {
    type Publish = PublishOptions;
    type Subscribe = SubscribeOptions;

    async fn publish(&self, batch: Batch, options: Arc<PublishOptions>) -> Result<Vec<Outcome>> {
        if options.is_stored() {
            return self.jetstream.publish(batch, &options).await;
        }
        self.client.publish(batch, options.reply.clone()).await
    }

    async fn subscribe(&self, topics: Vec<String>, options: SubscribeOptions) -> Result<Subscription> {
        if let Some(wish) = options.wish(&topics, self.client.prefix())? {
            return self.jetstream.subscribe(wish).await;
        }
        let patterns = options.patterns(&topics, self.client.prefix())?;
        let service = Service {
            buffer: options.buffer as usize,
            lossless: options.lossless,
            request: None,
            gapless: false,
        };
        self.client.subscribe(patterns, service).await
    }

    async fn request(&self, batch: Batch, options: Arc<PublishOptions>) -> Result<Subscription> {
        if let Some(bucket) = &options.bucket {
            let Some(message) = batch.get(0) else { return Err(Error::config("there is no key to read")) };
            if !message.payload().is_empty() {
                return Err(Error::config(
                    "a request with --bucket reads a key: there is no place for PAYLOAD",
                )
                .hint("leave it out; `tracemq pub` with --bucket puts a value"));
            }
            return self.jetstream.get(bucket, &message.topic_text()).await;
        }
        request::ask(&self.client, batch, &options).await
    }

    async fn list(&self, what: Option<String>) -> Result<serde_json::Value> {
        self.jetstream.list(List::parse(what.as_deref())?).await
    }

    async fn close(&self) -> Result<()> {
        self.jetstream.close().await;
        self.client.close().await
    }
}
