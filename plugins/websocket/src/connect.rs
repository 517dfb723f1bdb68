//! The plugin's two entry points, and the connection that the host holds.

use std::sync::Arc;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{Call, Wanted};

use crate::client::Client;
use crate::config::ConnectOptions;
use crate::endpoint::Endpoint;
use crate::publish::PublishOptions;
use crate::serve::{ServeOptions, SocketServer};
use crate::subscribe::SubscribeOptions;

/// WebSocket and raw sockets.
pub struct WebSocket;

impl Protocol for WebSocket {
    type Connect = ConnectOptions;
    type Serve = ServeOptions;
    type Connection = SocketConnection;
    type Server = SocketServer;

    fn about() -> About {
        let about = About::new("websocket", "WebSocket", env!("CARGO_PKG_VERSION"))
            .about("WebSocket, and raw TCP and TLS sockets")
            .verbs(&[Verb::Publish, Verb::Subscribe, Verb::Request, Verb::Serve])
            .topics(Wanted::No, Wanted::No);
        Endpoint::schemes(about)
    }

    async fn connect(options: ConnectOptions, context: Context) -> Result<SocketConnection> {
        Ok(SocketConnection { client: Client::connect(options, context).await? })
    }

    async fn serve(options: ServeOptions, context: Context) -> Result<SocketServer> {
        SocketServer::start(options, context).await
    }

    fn check(call: &Call<'_, WebSocket>) -> Result<()> {
        if let Some(serve) = call.serve {
            return serve.check(call.url);
        }
        let (Some(connect), Some(url)) = (call.connect, call.url) else { return Ok(()) };
        let transport = Endpoint::of_peer(url)?.transport;
        connect.check(transport)?;
        if let Some(options) = call.publish {
            options.check(transport)?;
        }
        if let Some(options) = call.subscribe {
            options.check(call.topics, transport)?;
        }
        Ok(())
    }
}

/// An open connection: it runs as a task of its own.
pub struct SocketConnection {
    client: Client,
}

impl Connection for SocketConnection {
    type Publish = PublishOptions;
    type Subscribe = SubscribeOptions;

    async fn publish(&self, batch: Batch, options: Arc<PublishOptions>) -> Result<Vec<Outcome>> {
        self.client.publish(batch, options).await
    }

    async fn subscribe(&self, _: Vec<String>, options: SubscribeOptions) -> Result<Subscription> {
        self.client.subscribe(options.show_pings).await
    }

    async fn request(&self, batch: Batch, options: Arc<PublishOptions>) -> Result<Subscription> {
        self.client.request(batch, options).await
    }

    async fn close(&self) -> Result<()> {
        self.client.close().await
    }
}
