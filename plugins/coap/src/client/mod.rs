//! The client: a task that owns the link, and a handle that talks to it.
//!
//! `udp` is the `socket` with the message layer, `patience` how it waits, `secure` DTLS between them, `connection` TCP and
//! TLS, `address` finds out where to, `link` is what all transports have in common. `calls` keeps track of what is
//! published, `asking` of requests, `observing` of subscriptions, `stream` hands their messages over, `driver` puts them
//! together. `reply` makes messages, outcomes and failures of responses, and `order` tells new notifications from old ones.

mod address;
mod asking;
mod calls;
mod connection;
mod driver;
mod link;
mod observing;
mod order;
mod patience;
mod reply;
#[cfg_attr(not(feature = "dtls"), path = "no_dtls.rs")]
mod secure;
mod socket;
mod stream;
mod udp;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::spawn;

use crate::config::ConnectOptions;
use crate::message::Packet;
use crate::publish::PublishOptions;
use crate::target::Target;
pub(crate) use calls::request;
use link::Link;
#[cfg(feature = "dtls")]
pub(crate) use udp::reason;

/// Calls that may wait for the task.
const COMMANDS: usize = 16;
/// Batches of received messages that may wait for the host.
const RECEIVED: usize = 64;
/// How long goodbyes may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// What the handle asks of the task.
enum Command {
    Publish {
        batch: Batch,
        options: Arc<PublishOptions>,
        done: oneshot::Sender<Result<Vec<Outcome>>>,
    },
    /// A request whose answers go to a stream.
    Request {
        packet: Packet,
        confirmable: bool,
        topic: String,
        sink: BatchSender,
    },
    /// A GET whose answer is the payload.
    Fetch {
        packet: Packet,
        done: oneshot::Sender<Result<Packet>>,
    },
    Observe {
        requests: Vec<Packet>,
        confirmable: bool,
        sink: BatchSender,
        done: oneshot::Sender<Result<()>>,
    },
    /// The host wants no more of what this stream is of.
    Gone(u64),
    Close {
        done: oneshot::Sender<()>,
    },
}

/// An open connection. Dropping it closes it without goodbyes.
pub(crate) struct Client {
    commands: mpsc::Sender<Command>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// Opens the link. Over datagrams nothing is sent yet, unless the host wants to know whether there is a server: else that
    /// shows with the first request.
    pub(crate) async fn connect(
        options: &ConnectOptions,
        target: Target,
        context: &Context,
    ) -> Result<Client> {
        let mut link = Link::open(&target, options, context).await?;
        if context.probing() {
            link.ping(options.net.timeout.connect_timeout.duration()).await?;
        }
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let driver = driver::Driver::new(link, target, options, context, commands.downgrade())?;
        let task = spawn(driver.run(receiver));
        Ok(Client { commands, task })
    }

    /// One outcome for each message, when it was answered.
    pub(crate) async fn publish(&self, batch: Batch, options: Arc<PublishOptions>) -> Result<Vec<Outcome>> {
        self.ask(|done| Command::Publish { batch, options, done }).await?
    }

    /// The answers to a request, of a group those of all its servers.
    pub(crate) async fn request(
        &self,
        packet: Packet,
        confirmable: bool,
        topic: String,
    ) -> Result<Subscription> {
        let (sink, subscription) = queue(RECEIVED);
        let command = Command::Request { packet, confirmable, topic, sink };
        self.commands.send(command).await.map_err(|_| closed())?;
        Ok(subscription)
    }

    pub(crate) async fn fetch(&self, packet: Packet) -> Result<Packet> {
        self.ask(|done| Command::Fetch { packet, done }).await?
    }

    /// Returns when the server has answered all registrations, and has taken one of them at least.
    pub(crate) async fn observe(&self, requests: Vec<Packet>, confirmable: bool) -> Result<Subscription> {
        let (sink, subscription) = queue(RECEIVED);
        self.ask(|done| Command::Observe { requests, confirmable, sink, done }).await??;
        Ok(subscription)
    }

    /// Ends the observations at the server.
    pub(crate) async fn close(&self) -> Result<()> {
        // A server that does not answer is left without a goodbye.
        let _ = tokio::time::timeout(2 * GOODBYE, self.ask(|done| Command::Close { done })).await;
        self.task.abort();
        Ok(())
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let (done, answer) = oneshot::channel();
        self.commands.send(command(done)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::CLOSED, "the connection is closed")
}

/// Hands over the last of a stream: what fits at once, and an error behind it.
fn finish(sink: BatchSender, batch: Option<Batch>, error: Option<Error>) {
    spawn(async move {
        if let Some(batch) = batch
            && !sink.send(batch).await
        {
            return;
        }
        if let Some(error) = error {
            sink.fail(error).await;
        }
    });
}
