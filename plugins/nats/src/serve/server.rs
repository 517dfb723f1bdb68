//! The server as the host sees it, whichever of the two it is: our own, or a nats-server with JetStream.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::task::spawn_blocking;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::spawn;
use tracemq_plugin_api::{schemars, serde};

use super::core::{Core, closed};
use super::jetstream::JetStream;
use super::options::ServeOptions;

/// Batches that wait for the host; what is beyond waits in the server's own bounded queue.
const BATCHES: usize = 4;

/// With what the host publishes through the server.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OutgoingOptions {
    /// Subject to answer to, for messages that don't bring their own
    pub reply: Option<String>,
}

/// A running server.
pub struct NatsServer {
    url: String,
    /// `None` once closed.
    running: Mutex<Option<Running>>,
    read: Mutex<bool>,
}

enum Running {
    Core(Arc<Core>),
    JetStream(JetStream),
}

impl NatsServer {
    /// Starts the server. Clients can connect when this returns.
    ///
    /// # Errors
    /// A bad option or file, or no nats-server for `--jetstream` (config), an address that cannot be listened on (connect).
    pub async fn start(options: ServeOptions, context: Context) -> Result<Self> {
        options.check()?;
        let events = context.events().clone();
        let (url, running) = spawn_blocking(move || -> Result<(String, Running)> {
            let state_dir = context.state_dir();
            if options.jetstream {
                let server = JetStream::start(&options, events, state_dir)?;
                Ok((server.url(), Running::JetStream(server)))
            } else {
                let server = Core::start(&options, events, state_dir)?;
                Ok((server.url(), Running::Core(Arc::new(server))))
            }
        })
        .await
        .map_err(panicked)??;
        Ok(Self { url, running: Mutex::new(Some(running)), read: Mutex::new(false) })
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn panicked(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::PANIC, error.to_string())
}

impl Server for NatsServer {
    type Publish = OutgoingOptions;

    fn addresses(&self) -> Vec<String> {
        vec![self.url.clone()]
    }

    fn messages(&self) -> Result<Subscription> {
        if std::mem::replace(&mut *self.read.lock().unwrap_or_else(PoisonError::into_inner), true) {
            return Err(Error::unsupported("the messages of a server can be read only once"));
        }
        let (sender, subscription) = queue(BATCHES);
        match &*self.running() {
            None => return Err(closed()),
            Some(Running::Core(core)) => {
                let feed = core.feed();
                spawn(async move {
                    // Room first, messages then: those that wait for the host stay where they are counted when dropped.
                    while let Some(permit) = sender.reserve().await {
                        let batch = tokio::select! {
                            batch = feed.next() => batch,
                            () = sender.closed() => None,
                        };
                        let Some(batch) = batch else { return };
                        permit.send(batch);
                    }
                });
            }
            // Its clients' messages don't pass through here, but that it is gone has to be told.
            Some(Running::JetStream(server)) => {
                let gone = server.gone();
                spawn(async move {
                    tokio::select! {
                        error = gone => sender.fail(error).await,
                        () = sender.closed() => {}
                    }
                });
            }
        }
        Ok(subscription)
    }

    async fn publish(&self, batch: Batch, options: Arc<OutgoingOptions>) -> Result<Vec<Outcome>> {
        let core = match &*self.running() {
            None => return Err(closed()),
            Some(Running::JetStream(_)) => {
                return Err(Error::unsupported(
                    "a nats-server started with --jetstream is published to as a client of it",
                ));
            }
            Some(Running::Core(core)) => Arc::clone(core),
        };
        let mut outcomes = Vec::with_capacity(batch.len());
        for message in batch.iter() {
            let reply = message.reply().or(options.reply.as_deref().map(str::as_bytes));
            outcomes.push(match core.publish(&message, reply).await {
                Ok(()) => Outcome::sent(),
                Err(reason) => Outcome::refused(reason),
            });
        }
        Ok(outcomes)
    }

    async fn close(&self) -> Result<()> {
        let running = self.running().take();
        // Ends threads, which may take a moment; not on a thread that serves others.
        spawn_blocking(move || drop(running)).await.map_err(panicked)
    }
}
