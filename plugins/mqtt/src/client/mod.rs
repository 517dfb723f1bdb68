//! The client: a task that owns the connection and the session, and a handle that talks to it.
//!
//! `dial` makes a connection, `link` moves bytes over it, `sinks` hands messages out, `publishing` keeps track of what is
//! to be sent, `driver` puts them together and reconnects. The state is `crate::session`, which does no I/O.

mod dial;
mod driver;
mod link;
mod publishing;
mod sinks;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::spawn;

use crate::config::ConnectOptions;
use crate::publish::PublishOptions;
use crate::wire::Version;
use crate::wire::request::Subscribe;

/// Batches to publish that may wait for the task.
const COMMANDS: usize = 16;
/// Batches of received messages that may wait for the host.
const RECEIVED: usize = 8;
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// What the handle asks of the task.
enum Command {
    Publish { batch: Batch, options: Arc<PublishOptions>, done: oneshot::Sender<Vec<Outcome>> },
    Subscribe { subscribe: Subscribe, sink: BatchSender, done: oneshot::Sender<Result<()>> },
    Close { done: oneshot::Sender<()> },
}

/// What is known once the server has accepted us, and may change with a reconnect.
#[derive(Clone, Debug)]
struct Facts {
    version: Version,
    client_id: String,
    response_information: Option<String>,
}

/// An open connection to a server. Dropping it closes the connection without a goodbye.
pub struct Client {
    commands: mpsc::Sender<Command>,
    facts: Arc<Mutex<Facts>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// Returns when the server has accepted the connection. The first connection is tried once.
    pub async fn connect(options: ConnectOptions, context: Context) -> Result<Client> {
        let (driver, facts) = driver::Driver::connect(options, context).await?;
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let facts = Arc::new(Mutex::new(facts));
        let task = spawn(driver.run(receiver, Arc::clone(&facts)));
        Ok(Client { commands, facts, task })
    }

    pub fn version(&self) -> Version {
        self.facts().version
    }

    pub fn client_id(&self) -> String {
        self.facts().client_id
    }

    /// What the server wants response topics to start with (5.0).
    pub fn response_information(&self) -> Option<String> {
        self.facts().response_information
    }

    fn facts(&self) -> Facts {
        self.facts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// One outcome for each message: at QoS 0 when it was written, at QoS 1 and 2 when the server confirmed it, across
    /// reconnects.
    pub async fn publish(&self, batch: Batch, options: Arc<PublishOptions>) -> Result<Vec<Outcome>> {
        self.ask(|done| Command::Publish { batch, options, done }).await
    }

    /// Returns when the server has granted the subscription.
    pub async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription> {
        let (sink, subscription) = queue(RECEIVED);
        self.ask(|done| Command::Subscribe { subscribe, sink, done }).await??;
        Ok(subscription)
    }

    /// Acknowledges what was dealt with, and says DISCONNECT.
    pub async fn close(&self) -> Result<()> {
        // A server that does not take the goodbye is left without one.
        let _ = tokio::time::timeout(GOODBYE, self.ask(|done| Command::Close { done })).await;
        self.task.abort();
        Ok(())
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let closed = || Error::new(ErrorKind::CLOSED, "the connection is closed");
        let (done, answer) = oneshot::channel();
        self.commands.send(command(done)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())
    }
}
