//! The plugin's two entry points, and the connection that the host holds.

use std::sync::Arc;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::Call;
#[cfg(feature = "import")]
use tracemq_plugin_api::sdk::{Import, ImportFile};

use crate::client::Client;
use crate::config::ConnectOptions;
use crate::endpoint::Endpoint;
#[cfg(feature = "import")]
use crate::import;
use crate::publish::PublishOptions;
use crate::request::Replies;
use crate::subscribe::SubscribeOptions;
use crate::wire::topic;

/// MQTT 3.1, 3.1.1 and 5.0.
pub struct Mqtt;

impl Protocol for Mqtt {
    type Connect = ConnectOptions;
    type Connection = MqttConnection;
    #[cfg(feature = "serve")]
    type Serve = crate::serve::ServeOptions;
    #[cfg(feature = "serve")]
    type Server = crate::serve::MqttServer;
    #[cfg(not(feature = "serve"))]
    type Serve = NoOptions;
    #[cfg(not(feature = "serve"))]
    type Server = NoServer;

    fn about() -> About {
        let client = [Verb::Publish, Verb::Subscribe, Verb::Request];
        let all = [Verb::Publish, Verb::Subscribe, Verb::Request, Verb::Serve];
        let about = About::new("mqtt", "MQTT", env!("CARGO_PKG_VERSION"))
            .about("MQTT 3.1, 3.1.1 and 5.0 over TCP, TLS and WebSocket")
            .verbs(if cfg!(feature = "serve") { &all } else { &client })
            .capabilities(&[
                "headers",
                "wildcards",
                "retained",
                "acknowledged",
                "persistent-session",
                "shared-subscription",
            ]);
        #[cfg(feature = "import")]
        let about = import::formats(about);
        Endpoint::schemes(about)
    }

    #[cfg(feature = "import")]
    fn import(file: &ImportFile<'_>) -> Result<Option<Import>> {
        import::read(file)
    }

    async fn connect(options: ConnectOptions, context: Context) -> Result<MqttConnection> {
        Ok(MqttConnection { client: Client::connect(options, context).await? })
    }

    #[cfg(feature = "serve")]
    async fn serve(options: Self::Serve, context: Context) -> Result<Self::Server> {
        crate::serve::MqttServer::start(options, context).await
    }

    fn check(call: &Call<'_, Mqtt>) -> Result<()> {
        #[cfg(feature = "serve")]
        if let Some(serve) = call.serve {
            return serve.check();
        }
        let Some(connect) = call.connect else { return Ok(()) };
        if let Some(url) = call.url {
            Endpoint::parse(url)?;
        }
        connect.check()?;
        // An option that only the fallback's older version lacks is a matter of which version the server takes.
        let version = connect.version();
        if let Some(options) = call.publish {
            for name in call.topics {
                topic::check_topic(name).map_err(|error| crate::error::invalid("TOPIC", &error))?;
            }
            options.check(version)?;
            if call.verb == Verb::Request && !version.is_v5() && options.response_topic.is_none() {
                return Err(crate::config::needs_v5("request", version));
            }
        }
        if let Some(options) = call.subscribe {
            options.subscribe(call.topics, version)?;
        }
        Ok(())
    }
}

/// An open connection: the session's loop runs as a task of its own.
pub struct MqttConnection {
    client: Client,
}

impl Connection for MqttConnection {
    type Publish = PublishOptions;
    type Subscribe = SubscribeOptions;

    async fn publish(&self, batch: Batch, options: Arc<PublishOptions>) -> Result<Vec<Outcome>> {
        self.client.publish(batch, options).await
    }

    async fn subscribe(&self, topics: Vec<String>, options: SubscribeOptions) -> Result<Subscription> {
        self.client.subscribe(options.subscribe(&topics, self.client.version())?).await
    }

    async fn request(&self, batch: Batch, options: Arc<PublishOptions>) -> Result<Subscription> {
        Replies::ask(&self.client, batch, &options).await
    }

    async fn close(&self) -> Result<()> {
        self.client.close().await
    }
}
