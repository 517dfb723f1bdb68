//! The client: what the host holds, and the tasks behind it.
//!
//! A connection for what is sent, made when something is; one for each subscription. The connection that proves at the start
//! that server and key are good is kept for the first that wants one.

mod backoff;
mod dial;
mod filler;
mod guard;
pub mod hostile;
mod hubs;
mod ledger;
mod node;
mod packing;
mod payloads;
mod publisher;
mod reader;
mod sasl;
mod stream;
mod token;
mod window;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::spawn;

use crate::config::Settings;
use crate::publish::PublishOptions;
use crate::subscribe::Wish;
use dial::{Dial, Opened};
use ledger::Order;
use publisher::Publisher;
use stream::Stream;

pub(crate) use hubs::List;

/// Batches in the queue to the host.
const BATCHES: usize = 8;
/// Calls on their way to the task that sends.
const ORDERS: usize = 16;
/// How long a goodbye may take, at each step.
const GOODBYE: Duration = Duration::from_secs(2);
/// The largest message that is taken, in bytes: no event of a hub comes near it.
const LARGEST: usize = 128 << 20;
/// Frames that may wait inside of a session or a link.
const QUEUED_FRAMES: usize = 2048;

/// The client's connections.
pub(crate) struct Client {
    dial: Arc<Dial>,
    events: Events,
    reconnect: bool,
    spare: Spare,
    orders: Mutex<Option<mpsc::Sender<Order>>>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// A connection that nobody uses yet.
#[derive(Clone, Default)]
struct Spare(Arc<Mutex<Option<Opened>>>);

impl Spare {
    fn put(&self, opened: Opened) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
    }

    fn take(&self) -> Option<Opened> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The spare connection if it is good still, or a new one.
    async fn take_or_connect(&self, dial: &Dial, hub: Option<&str>) -> Result<Opened> {
        match self.take() {
            Some(opened) if opened.is_fresh() => Ok(opened),
            stale => {
                if let Some(stale) = stale {
                    stale.close().await;
                }
                dial.connect(hub).await
            }
        }
    }
}

impl Client {
    pub(crate) async fn connect(settings: Settings, context: &Context) -> Result<Client> {
        let dial = Dial::new(settings)?;
        let hub = dial.settings.entity.clone().filter(|_| dial.is_hubs());
        let opened = match dial.connect(hub.as_deref()).await {
            // The server is there, and so is our right: what it does not know is told by the call that wants it.
            Err(error) if error.kind() == ErrorKind::PROTOCOL => dial.connect(None).await?,
            opened => opened?,
        };
        let spare = Spare::default();
        spare.put(opened);
        let events = context.events().clone();
        let text = format!("connected to {}", dial.settings.shown());
        events.emit(Event::new(EventKind::CONNECTED, text));
        let (dial, stop) = (Arc::new(dial), watch::Sender::new(false));
        let (orders, receiver) = mpsc::channel(ORDERS);
        let reconnect = context.reconnect();
        let publisher =
            Publisher::new(Arc::clone(&dial), events.clone(), reconnect, spare.clone(), stop.subscribe());
        let tasks = Mutex::new(vec![spawn(publisher.run(receiver))]);
        let orders = Mutex::new(Some(orders));
        Ok(Client { dial, events, reconnect, spare, orders, stop, tasks })
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.dial.settings
    }

    pub(crate) async fn publish(&self, batch: Batch, options: Arc<PublishOptions>) -> Result<Vec<Outcome>> {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (done, answer) = oneshot::channel();
        orders.ok_or_else(gone)?.send(Order { batch, options, done }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Returns when the server has accepted all links.
    pub(crate) async fn subscribe(&self, wish: Wish) -> Result<Subscription> {
        let hub = wish.entities.first().filter(|_| self.dial.is_hubs());
        let opened = self.spare.take_or_connect(&self.dial, hub.map(String::as_str)).await?;
        let (sender, subscription) = queue(BATCHES);
        let (dial, events) = (Arc::clone(&self.dial), self.events.clone());
        let stream =
            Stream::open(dial, events, self.reconnect, wish, opened, sender, self.stop.subscribe()).await?;
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(spawn(stream));
        Ok(subscription)
    }

    pub(crate) async fn list(&self, what: List) -> Result<serde_json::Value> {
        if !self.dial.is_hubs() {
            return Err(Error::unsupported("a broker of queues tells nothing of them by AMQP"));
        }
        let hub = self.dial.settings.entity("").map_err(|error| {
            error.hint(
                "give it in the URL (sb://HOST/HUB, or sb:///HUB with --connection-string), or as EntityPath in the connection string",
            )
        })?;
        let mut opened = self.spare.take_or_connect(&self.dial, Some(&hub)).await?;
        let listing = opened.list(&hub, what).await;
        self.spare.put(opened);
        listing
    }

    /// Ends everything that runs, well.
    pub(crate) async fn close(&self) -> Result<()> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async {
            for task in tasks {
                // A task that panicked has nothing left to close.
                let _ = task.await;
            }
        };
        // Each bounds its own end; this is for what none foresees.
        let _ = tokio::time::timeout(6 * GOODBYE, all).await;
        if let Some(opened) = self.spare.take() {
            opened.close().await;
        }
        Ok(())
    }
}

/// Dropped without a goodbye, it still ends what runs.
impl Drop for Client {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// Waits until we are told to stop; also when nobody is left to tell it.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn gone() -> Error {
    Error::new(ErrorKind::CLOSED, "the connection is closed")
}

/// 16 hexadecimal digits that nobody else has made up.
fn unique() -> String {
    use std::hash::{BuildHasher, Hasher};
    // Seeded by the system for each value.
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    format!("{random:016x}")
}
