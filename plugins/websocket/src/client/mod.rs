//! The client: a task that owns the connection, and a handle that talks to it.
//!
//! `dial` makes a connection, `sinks` hands messages out, `publishing` keeps track of what is to be sent, `window` of how
//! far the server lags behind it, `driver` puts them together and reconnects. The connection itself is `crate::link`.

mod dial;
mod driver;
mod publishing;
mod sinks;
mod window;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{OutcomeStatus, spawn};

use crate::config::ConnectOptions;
use crate::publish::PublishOptions;

/// Batches to publish that may wait for the task.
const COMMANDS: usize = 16;
/// Batches of received messages that may wait for the host.
const RECEIVED: usize = 8;
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// What the handle asks of the task.
enum Command {
    Publish {
        batch: Batch,
        options: Arc<PublishOptions>,
        done: oneshot::Sender<Vec<Outcome>>,
    },
    Subscribe {
        sink: BatchSender,
        pings: bool,
        done: oneshot::Sender<()>,
    },
    /// The messages that come after it was sent are its answers.
    Request {
        batch: Batch,
        options: Arc<PublishOptions>,
        sink: BatchSender,
        done: oneshot::Sender<Vec<Outcome>>,
    },
    /// It is done when the task has ended.
    Close,
}

/// An open connection to a server. Dropping it closes the connection without a goodbye.
pub(crate) struct Client {
    commands: mpsc::Sender<Command>,
    /// Ends with why the server took no more, if it said so.
    task: Mutex<Option<JoinHandle<Result<()>>>>,
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(task) = self.task() {
            task.abort();
        }
    }
}

impl Client {
    /// Returns when the server has accepted the connection. The first connection is tried once.
    pub(crate) async fn connect(options: ConnectOptions, context: Context) -> Result<Client> {
        let driver = driver::Driver::connect(options, context).await?;
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let task = spawn(driver.run(receiver));
        Ok(Client { commands, task: Mutex::new(Some(task)) })
    }

    /// One outcome for each message, when it was written; of a ping, when it was answered.
    pub(crate) async fn publish(&self, batch: Batch, options: Arc<PublishOptions>) -> Result<Vec<Outcome>> {
        self.ask(|done| Command::Publish { batch, options, done }).await
    }

    pub(crate) async fn subscribe(&self, pings: bool) -> Result<Subscription> {
        let (sink, subscription) = queue(RECEIVED);
        self.ask(|done| Command::Subscribe { sink, pings, done }).await?;
        Ok(subscription)
    }

    pub(crate) async fn request(&self, batch: Batch, options: Arc<PublishOptions>) -> Result<Subscription> {
        let (sink, subscription) = queue(RECEIVED);
        let outcomes = self.ask(|done| Command::Request { batch, options, sink, done }).await?;
        let Some(failed) = outcomes.iter().find(|outcome| !outcome.is_success()) else {
            return Ok(subscription);
        };
        let failure = |kind| Error::new(kind, format!("the request was not sent: {}", failed.reason()));
        if failed.status() == OutcomeStatus::REFUSED {
            return Err(failure(ErrorKind::CONFIG));
        }
        // The connection is gone. How it ended is told where the answers would have come from.
        match subscription.next_batch(1).await {
            Err(error) => Err(error),
            Ok(_) => Err(failure(ErrorKind::CLOSED)),
        }
    }

    /// Sends what is waiting, and says goodbye.
    ///
    /// # Errors
    /// The server closed the connection for what it had been sent.
    pub(crate) async fn close(&self) -> Result<()> {
        let Some(mut task) = self.task() else { return Ok(()) };
        let end = async {
            // A task that has ended already has said how.
            let _ = self.commands.send(Command::Close).await;
            (&mut task).await
        };
        match tokio::time::timeout(2 * GOODBYE, end).await {
            Ok(Ok(end)) => end,
            // A task that panicked has been told of.
            Ok(Err(_)) => Ok(()),
            // A server that does not take the goodbye is left without one.
            Err(_) => {
                task.abort();
                Ok(())
            }
        }
    }

    fn task(&self) -> Option<JoinHandle<Result<()>>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let closed = || Error::new(ErrorKind::CLOSED, "the connection is closed");
        let (done, answer) = oneshot::channel();
        self.commands.send(command(done)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())
    }
}
