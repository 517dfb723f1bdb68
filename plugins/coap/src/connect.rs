//! The plugin's two entry points, and the connection that the host holds.

use std::sync::Arc;

use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{Call, Wanted};
#[cfg(not(feature = "serve"))]
use tracemq_plugin_api::sdk::{NoOptions, NoServer};

use crate::client::Client;
use crate::config::ConnectOptions;
use crate::publish::PublishOptions;
use crate::subscribe::SubscribeOptions;
use crate::target::Target;
use crate::{list, request};

/// CoAP.
pub struct Coap;

impl Protocol for Coap {
    type Connect = ConnectOptions;
    type Connection = CoapConnection;
    #[cfg(feature = "serve")]
    type Serve = crate::serve::ServeOptions;
    #[cfg(feature = "serve")]
    type Server = crate::serve::CoapServer;
    #[cfg(not(feature = "serve"))]
    type Serve = NoOptions;
    #[cfg(not(feature = "serve"))]
    type Server = NoServer;

    fn about() -> About {
        let all = [Verb::Publish, Verb::Subscribe, Verb::Request, Verb::List, Verb::Serve];
        let client = &all[..4];
        let about = About::new("coap", "CoAP", env!("CARGO_PKG_VERSION"))
            .about("CoAP: constrained devices over UDP, DTLS, TCP and TLS")
            .verbs(if cfg!(feature = "serve") { &all } else { client })
            .topics(Wanted::Required, Wanted::Optional)
            .capabilities(&["acknowledged", "path-is-topic"]);
        Target::schemes(about)
    }

    async fn connect(options: ConnectOptions, context: Context) -> Result<CoapConnection> {
        let target = Target::of_peer(url(context.url())?)?;
        let client = Client::connect(&options, target.clone(), &context).await?;
        Ok(CoapConnection { client, target })
    }

    #[cfg(feature = "serve")]
    async fn serve(options: Self::Serve, context: Context) -> Result<Self::Server> {
        crate::serve::CoapServer::start(options, context).await
    }

    fn check(call: &Call<'_, Coap>) -> Result<()> {
        #[cfg(feature = "serve")]
        if let Some(serve) = call.serve {
            return serve.check(call.url);
        }
        let Some(connect) = call.connect else { return Ok(()) };
        let target = Target::of_peer(url(call.url)?)?;
        connect.check(target.transport)?;
        if let Some(options) = call.publish {
            options.check(&target, call.topics)?;
        }
        if let Some(options) = call.subscribe {
            options.check(&target, call.topics)?;
        }
        Ok(())
    }
}

fn url(url: Option<&str>) -> Result<&str> {
    url.ok_or_else(|| {
        Error::config("there is no URL").hint("write coap://HOST, or name a profile that has one")
    })
}

/// An open connection: its loop runs as a task of its own.
pub struct CoapConnection {
    client: Client,
    target: Target,
}

impl Connection for CoapConnection {
    type Publish = PublishOptions;
    type Subscribe = SubscribeOptions;

    async fn publish(&self, batch: Batch, options: Arc<PublishOptions>) -> Result<Vec<Outcome>> {
        self.client.publish(batch, options).await
    }

    async fn subscribe(&self, topics: Vec<String>, options: SubscribeOptions) -> Result<Subscription> {
        let requests = options.requests(&self.target, &topics)?;
        self.client.observe(requests, !options.non_confirmable).await
    }

    async fn request(&self, batch: Batch, options: Arc<PublishOptions>) -> Result<Subscription> {
        request::ask(&self.client, &self.target, &batch, &options).await
    }

    async fn list(&self, what: Option<String>) -> Result<serde_json::Value> {
        let filter = list::query(what.as_deref())?;
        list::resources(&self.client, &self.target, filter).await
    }

    async fn close(&self) -> Result<()> {
        self.client.close().await
    }
}
