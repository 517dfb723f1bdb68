//! The task that sends: it owns a connection with a link for each address, and keeps the host's order.
//!
//! Its connection is made when there is something to send, and made again when it was lost and there is more. What was on its
//! way then is told as unconfirmed; what was not, is sent. A busy server is left alone for as long as it says, and gets what
//! it refused before anything else.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use fe2o3_amqp::link::{LinkStateError, SendError, Sender};
use fe2o3_amqp_types::definitions::SenderSettleMode;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tracemq_plugin_api::prelude::*;

use super::backoff::Backoff;
use super::dial::{Dial, Opened};
use super::ledger::{Delivery, Flights, Item, Ledger, Order};
use super::packing::{Packed, pack, too_large};
use super::{GOODBYE, QUEUED_FRAMES, Spare, stopped, unique};
use crate::config::Settings;
use crate::endpoint::Dialect;
use crate::error::Broken;
use crate::publish::PublishOptions;

/// Links that are kept open at once.
const MOST_LANES: usize = 32;
/// When nothing could be sent for so long, it is told.
const STANDSTILL: Duration = Duration::from_secs(10);

/// A link, and where it leads.
type Lane = (Arc<Place>, Sender);

/// We were told to stop.
struct Stopped;

/// Why nothing more is sent.
enum Halt {
    Stopped,
    /// It failed for what was to be sent.
    Failed(Error),
}

pub(super) struct Publisher {
    dial: Arc<Dial>,
    events: Events,
    reconnect: bool,
    spare: Spare,
    stop: watch::Receiver<bool>,
    link: Option<Opened>,
    /// Why there is no connection any more, and will be none.
    over: Option<Error>,
    /// The oldest first.
    lanes: VecDeque<Lane>,
    flights: Flights,
    ledger: Ledger,
}

impl Publisher {
    pub(super) fn new(
        dial: Arc<Dial>,
        events: Events,
        reconnect: bool,
        spare: Spare,
        stop: watch::Receiver<bool>,
    ) -> Publisher {
        Publisher {
            dial,
            events,
            reconnect,
            spare,
            stop,
            link: None,
            over: None,
            lanes: VecDeque::new(),
            flights: Flights::default(),
            ledger: Ledger::default(),
        }
    }

    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            if self.catch_up().await.is_err() {
                break;
            }
            let Publisher { stop, flights, ledger, link, lanes, .. } = &mut self;
            tokio::select! {
                biased;
                () = stopped(stop) => break,
                landed = flights.next(), if !flights.is_empty() => ledger.land(landed),
                (place, broken) = ended(lanes) => self.part(&place, &broken).await,
                () = due(link) => renew(link).await,
                order = orders.recv() => match order {
                    Some(order) => if self.take(order).await.is_err() { break },
                    None => break,
                },
            }
        }
        self.end().await;
    }

    /// Sends a call's messages.
    async fn take(&mut self, order: Order) -> Result<(), Stopped> {
        let job = self.ledger.open(order.batch.len(), order.done);
        let (batch, options) = (order.batch, order.options);
        let mut at = 0;
        while at < batch.len() {
            let run = run_of_topic(&batch, at);
            at = run.end;
            let topic =
                batch.get(run.start).map(|message| message.topic_text().into_owned()).unwrap_or_default();
            match Place::new(&self.dial.settings, &topic, &options) {
                Ok(place) => self.take_run(job, &batch, run, &options, &Arc::new(place)).await?,
                Err(error) => {
                    self.ledger.fail(job, error);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Sends those of a call's messages that go to one place.
    async fn take_run(
        &mut self,
        job: u64,
        batch: &Batch,
        mut run: Range<usize>,
        options: &PublishOptions,
        place: &Arc<Place>,
    ) -> Result<(), Stopped> {
        while !run.is_empty() && self.ledger.is_open(job) {
            let limit = match self.lane(place).await {
                Ok(sender) => sender.max_message_size().and_then(|limit| usize::try_from(limit).ok()),
                Err(Halt::Stopped) => return Err(Stopped),
                Err(Halt::Failed(error)) => {
                    self.ledger.fail(job, error);
                    break;
                }
            };
            match pack(batch, run.clone(), options, limit, self.dial.is_hubs()) {
                Packed::Refused { message, reason } => {
                    self.ledger.settle(job, message..message + 1, &Outcome::refused(reason));
                    run.start = message + 1;
                }
                Packed::Transfer { messages, sendable, size } => {
                    run.start = messages.end;
                    self.send(Item::new(job, messages, Arc::clone(place), sendable, size)).await?;
                }
            }
        }
        Ok(())
    }

    /// Sends after everything that has to go before it.
    async fn send(&mut self, item: Item) -> Result<(), Stopped> {
        self.catch_up().await?;
        while !self.flights.has_room() {
            self.wait().await?;
        }
        self.put(item).await
    }

    /// Sends what a busy server has refused, once the rest has landed and the pause is over.
    async fn catch_up(&mut self) -> Result<(), Stopped> {
        while self.ledger.has_again() {
            while !self.flights.is_empty() {
                self.wait().await?;
            }
            let Some((items, pause)) = self.ledger.take_again() else { return Ok(()) };
            let text = format!("the server is busy: waiting {:.1} s", pause.as_secs_f64());
            self.events.emit(Event::new(EventKind::WARNING, text));
            self.pause(pause).await?;
            for item in items {
                self.put(item).await?;
            }
        }
        Ok(())
    }

    /// Waits for something to land.
    async fn wait(&mut self) -> Result<(), Stopped> {
        let Publisher { stop, flights, ledger, link, lanes, .. } = self;
        tokio::select! {
            biased;
            () = stopped(stop) => return Err(Stopped),
            landed = flights.next() => ledger.land(landed),
            (place, broken) = ended(lanes) => self.part(&place, &broken).await,
            () = due(link) => renew(link).await,
        }
        Ok(())
    }

    async fn pause(&mut self, time: Duration) -> Result<(), Stopped> {
        tokio::select! {
            biased;
            () = stopped(&mut self.stop) => Err(Stopped),
            () = sleep(time) => Ok(()),
        }
    }

    /// Gives an item to its link, which may have to be made again for it.
    async fn put(&mut self, item: Item) -> Result<(), Stopped> {
        let mut backoff = Backoff::default();
        loop {
            match self.lane(&item.place).await {
                Ok(_) => {}
                Err(Halt::Stopped) => return Err(Stopped),
                Err(Halt::Failed(error)) => {
                    self.ledger.fail(item.job, error);
                    return Ok(());
                }
            }
            let error = match self.transfer(&item).await? {
                Ok(delivery) => {
                    self.flights.push(item, delivery);
                    return Ok(());
                }
                Err(SendError::MessageSizeExceeded(exceeded)) => {
                    let reason = too_large(exceeded.size, exceeded.max_size);
                    self.ledger.settle_item(&item, &Outcome::refused(reason));
                    return Ok(());
                }
                Err(error) => error,
            };
            let broken = Broken::from(&error);
            let told = broken.error(&item.place.subject);
            self.part(&item.place, &broken).await;
            if let Broken::Link(condition) = &broken
                && condition.busy().is_some()
            {
                self.ledger.refused(item, condition);
                return Ok(());
            }
            if !told.is_temporary() || !self.reconnect {
                self.ledger.fail(item.job, told);
                return Ok(());
            }
            self.pause(backoff.next()).await?;
        }
    }

    /// Sends on the link that is there. It may have to wait for credit.
    async fn transfer(&mut self, item: &Item) -> Result<Result<Delivery, SendError>, Stopped> {
        let Publisher { lanes, flights, ledger, link, stop, events, .. } = self;
        let Some((_, sender)) = lanes.iter_mut().find(|(place, _)| place.address == item.place.address)
        else {
            return Ok(Err(LinkStateError::IllegalState.into()));
        };
        let mut sending = pin!(sender.send_batchable_ref(&*item.sendable));
        let mut patience = pin!(sleep(STANDSTILL));
        let mut told = false;
        loop {
            tokio::select! {
                biased;
                sent = &mut sending => return Ok(sent),
                () = stopped(stop) => return Err(Stopped),
                landed = flights.next(), if !flights.is_empty() => ledger.land(landed),
                () = due(link) => renew(link).await,
                () = &mut patience, if !told => {
                    told = true;
                    let text = format!("{}: the server lets nothing more be sent for now", item.place.subject);
                    events.emit(Event::new(EventKind::WARNING, text));
                }
            }
        }
    }

    /// The link to a place, made if need be.
    async fn lane(&mut self, place: &Arc<Place>) -> Result<&mut Sender, Halt> {
        if let Some(at) = self.lanes.iter().position(|(lane, _)| lane.address == place.address) {
            return Ok(&mut self.lanes[at].1);
        }
        let mut backoff = Backoff::default();
        let sender = loop {
            let error = match self.attach(place).await {
                Ok(sender) => break sender,
                Err(Halt::Failed(error)) => error,
                Err(Halt::Stopped) => return Err(Halt::Stopped),
            };
            if !error.is_temporary() || !self.reconnect {
                return Err(Halt::Failed(error));
            }
            let wait = backoff.next();
            let text = format!("{error}; next attempt in {:.1} s", wait.as_secs_f64());
            self.events.emit(Event::new(EventKind::RECONNECTING, text));
            self.pause(wait).await.map_err(|Stopped| Halt::Stopped)?;
        };
        while self.lanes.len() >= MOST_LANES {
            while !self.flights.is_empty() {
                self.wait().await.map_err(|Stopped| Halt::Stopped)?;
            }
            if let Some((_, oldest)) = self.lanes.pop_front() {
                drop(timeout(GOODBYE, oldest.close()).await);
            }
        }
        self.lanes.push_back((Arc::clone(place), sender));
        let at = self.lanes.len() - 1;
        Ok(&mut self.lanes[at].1)
    }

    async fn attach(&mut self, place: &Place) -> Result<Sender, Halt> {
        let hubs = self.dial.is_hubs();
        if self.link.as_ref().is_some_and(|link| !link.is_open()) {
            let gone = Error::new(ErrorKind::CLOSED, "the connection broke");
            self.lost(&gone).await;
        }
        if let Some(over) = &self.over {
            return Err(Halt::Failed(over.clone()));
        }
        let Publisher { link, dial, spare, stop, .. } = self;
        let attach = async {
            let entity = hubs.then_some(place.entity.as_str());
            let opened = match link {
                Some(opened) => opened,
                None => link.insert(spare.take_or_connect(dial, entity).await?),
            };
            if let Some(hub) = entity {
                opened.authorize(hub).await?;
            }
            let patience = dial.settings.net.timeout.connect_timeout.duration();
            let mut builder = Sender::builder()
                .name(format!("tracemq-{}", unique()))
                .target(&*place.address)
                .sender_settle_mode(SenderSettleMode::Unsettled);
            builder.buffer_size = QUEUED_FRAMES;
            match timeout(patience, builder.attach(&mut opened.data)).await {
                Ok(sender) => sender.map_err(|error| Broken::from(&error).error(&place.subject)),
                Err(_) => {
                    let text = format!("{}: the server does not answer", place.subject);
                    Err(Error::new(ErrorKind::TIMEOUT, text).temporary())
                }
            }
        };
        tokio::select! {
            biased;
            () = stopped(stop) => Err(Halt::Stopped),
            attached = attach => attached.map_err(Halt::Failed),
        }
    }

    /// A link has ended, maybe with the whole connection.
    async fn part(&mut self, place: &Place, broken: &Broken) {
        match broken {
            Broken::Link(_) => self.lanes.retain(|(lane, _)| lane.address != place.address),
            _ => self.lost(&broken.error(&place.subject)).await,
        }
    }

    /// The connection is gone, and with it what was on its way.
    async fn lost(&mut self, why: &Error) {
        // A link that is held keeps its deliveries waiting; one that is dropped tells what it knows of them.
        self.lanes.clear();
        let text = format!("the connection is lost: {why}");
        let kind = if self.reconnect { EventKind::RECONNECTING } else { EventKind::DISCONNECTED };
        self.events.emit(Event::new(kind, text.as_str()));
        if !self.reconnect {
            self.over = Some(Error::new(ErrorKind::CLOSED, text));
        }
        if let Some(link) = self.link.take() {
            link.close().await;
        }
        let landing = async {
            while !self.flights.is_empty() {
                self.ledger.land(self.flights.next().await);
            }
        };
        // Without an answer in time, nothing more will be heard.
        let _ = timeout(GOODBYE, landing).await;
        self.ledger.lost(self.flights.forget(), why.message());
    }

    /// Ends the links and the connection; whoever waits is told.
    async fn end(mut self) {
        let why = "the connection was closed";
        self.ledger.lost(self.flights.forget(), why);
        self.ledger.give_up(why);
        for (_, sender) in self.lanes.drain(..) {
            drop(timeout(GOODBYE, sender.close()).await);
        }
        if let Some(link) = self.link.take() {
            link.close().await;
        }
    }
}

/// Where messages go.
pub(super) struct Place {
    /// Hub or queue.
    entity: String,
    /// Of the link.
    pub(super) address: Arc<str>,
    /// How errors name it.
    pub(super) subject: String,
}

impl Place {
    fn new(settings: &Settings, topic: &str, options: &PublishOptions) -> Result<Place> {
        let entity = settings.entity(topic)?;
        if settings.dialect == Dialect::Hubs && entity.contains('/') {
            return Err(Error::config(format!("TOPIC {entity:?}: this is no hub's name")));
        }
        let address = options.address(settings.dialect, &entity).into();
        let subject = match (settings.dialect, &options.partition) {
            (Dialect::Queues, _) => format!("the queue {entity:?}"),
            (Dialect::Hubs, None) => format!("the hub {entity:?}"),
            (Dialect::Hubs, Some(partition)) => format!("partition {partition} of the hub {entity:?}"),
        };
        Ok(Place { entity, address, subject })
    }
}

/// The messages from `start` on that go to the same topic.
fn run_of_topic(batch: &Batch, start: usize) -> Range<usize> {
    let topic = batch.get(start).map(|message| message.topic());
    let end = (start..batch.len()).find(|index| batch.get(*index).map(|message| message.topic()) != topic);
    start..end.unwrap_or(batch.len())
}

/// The first of the links that ends without being asked to. fe2o3-amqp leaves what was sent on a link in the moment of its end
/// waiting for as long as the link is held.
async fn ended(lanes: &mut VecDeque<Lane>) -> (Arc<Place>, Broken) {
    poll_fn(|context| {
        for (place, sender) in lanes.iter_mut() {
            if let Poll::Ready(error) = pin!(sender.on_detach()).poll(context) {
                return Poll::Ready((Arc::clone(place), Broken::from(&error)));
            }
        }
        Poll::Pending
    })
    .await
}

/// Waits until the connection's tokens have to be renewed.
async fn due(link: &Option<Opened>) {
    match link {
        Some(link) => link.due().await,
        None => std::future::pending().await,
    }
}

/// Without a token the server ends the link, and the next one begins with a new token.
async fn renew(link: &mut Option<Opened>) {
    if let Some(opened) = link
        && let Err(error) = opened.renew().await
    {
        log::warn!("{}", error.while_doing("renew the token"));
        if let Some(opened) = link.take() {
            opened.close().await;
        }
    }
}
