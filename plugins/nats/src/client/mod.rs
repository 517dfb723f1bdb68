//! The client: a handle for the host, and a task that owns the connection.
//!
//! Not async-nats: what it can't deliver it loses, mostly unheard, and it drops the connection over a message that it can't
//! read. An inspector has to show such a message, and to count each that it lost.

mod dial;
mod driver;
mod gateway;
mod pool;
mod publishing;
mod ring;
mod sinks;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::spawn;

use crate::config::{Prefix, Settings};
use crate::session::Pattern;
use driver::Driver;

pub(crate) use gateway::Gateway;
pub(crate) use publishing::Subjects;
pub(crate) use sinks::Service;

/// Batches in the queue to the host. What is beyond waits in a ring.
const BATCHES: usize = 8;
/// How long a connection may take to be drained and closed.
const GOODBYE: Duration = Duration::from_secs(2);
/// Calls on their way to the task.
const COMMANDS: usize = 16;

enum Command {
    Publish {
        batch: Batch,
        reply: Option<String>,
        subjects: Subjects,
        done: oneshot::Sender<Vec<Outcome>>,
    },
    Subscribe {
        patterns: Vec<Pattern>,
        service: Service,
        sink: BatchSender,
        done: oneshot::Sender<Result<()>>,
    },
    Close {
        done: oneshot::Sender<()>,
    },
}

/// An open connection.
pub(crate) struct Client {
    commands: mpsc::Sender<Command>,
    prefix: Prefix,
    inboxes: AtomicU64,
    /// Of this connection alone, so that nobody else's answers come to it.
    inbox: String,
    connections: watch::Receiver<u64>,
}

impl Client {
    pub(crate) async fn connect(settings: Settings, context: &Context) -> Result<Client> {
        let prefix = settings.prefix.clone();
        let driver = Driver::connect(settings, context).await?;
        let connections = driver.connections();
        let (commands, receiver) = mpsc::channel(COMMANDS);
        spawn(driver.run(receiver));
        let inbox = format!("_INBOX.{}", nuid());
        Ok(Client { commands, prefix, inboxes: AtomicU64::new(0), inbox, connections })
    }

    pub(crate) fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// A subject for answers that nobody has used before, without the prefix.
    pub(crate) fn inbox(&self) -> String {
        format!("{}.{}", self.inbox, self.inboxes.fetch_add(1, Ordering::Relaxed))
    }

    /// `reply` is the subject for answers, without the prefix.
    pub(crate) async fn publish(&self, batch: Batch, reply: Option<String>) -> Result<Vec<Outcome>> {
        let (done, answer) = oneshot::channel();
        self.order(Command::Publish { batch, reply, subjects: Subjects::Prefixed, done }).await?;
        answer.await.map_err(|_| gone())
    }

    /// Subjects and replies go out as they are: those of JetStream have no prefix.
    pub(crate) async fn publish_as_it_is(&self, batch: Batch) -> Result<Vec<Outcome>> {
        let (done, answer) = oneshot::channel();
        self.order(Command::Publish { batch, reply: None, subjects: Subjects::OnWire, done }).await?;
        answer.await.map_err(|_| gone())
    }

    /// Changes with each new connection: what waited for an answer on the one before will not get it.
    pub(crate) fn connections(&self) -> watch::Receiver<u64> {
        self.connections.clone()
    }

    /// Returns when the server has taken the subscription.
    pub(crate) async fn subscribe(&self, patterns: Vec<Pattern>, service: Service) -> Result<Subscription> {
        let (sink, subscription) = queue(BATCHES);
        let (done, answer) = oneshot::channel();
        self.order(Command::Subscribe { patterns, service, sink, done }).await?;
        answer.await.map_err(|_| gone())??;
        Ok(subscription)
    }

    /// Ends subscriptions, writes and confirms what is on its way, and closes.
    pub(crate) async fn close(&self) -> Result<()> {
        let (done, answer) = oneshot::channel();
        // When the task has ended, there is nothing to close.
        if self.commands.send(Command::Close { done }).await.is_ok() {
            let _ = tokio::time::timeout(2 * GOODBYE, answer).await;
        }
        Ok(())
    }

    async fn order(&self, command: Command) -> Result<()> {
        self.commands.send(command).await.map_err(|_| gone())
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::CLOSED, "the connection is closed")
}

/// 22 letters and digits that nobody else has made up.
pub(crate) fn nuid() -> String {
    use std::hash::{BuildHasher, Hasher};
    const DIGITS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    // Seeded by the system for each value.
    let random = || std::collections::hash_map::RandomState::new().build_hasher().finish();
    let mut number = u128::from(random()) << 64 | u128::from(random());
    (0..22)
        .map(|_| {
            let digit = DIGITS[(number % 62) as usize];
            number /= 62;
            char::from(digit)
        })
        .collect()
}
