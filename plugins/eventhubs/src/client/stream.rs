//! A subscription: a connection of its own, on which each partition or queue has a link.
//!
//! On one connection for all of them a fault of one link could reach the events of another view. After a lost connection
//! each partition goes on behind the last event that was handed over, by its sequence number: never by time, which several
//! events may share. To be able to do so even before the first event, "latest" is made a sequence number at the start.

use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::link::{CreditMode, Receiver};
use fe2o3_amqp_types::definitions::{Fields, ReceiverSettleMode, SenderSettleMode};
use fe2o3_amqp_types::messaging::{FilterSet, Source as AmqpSource};
use serde_amqp::Value;
use serde_amqp::described::Described;
use serde_amqp::descriptor::Descriptor;
use serde_amqp::primitives::Symbol;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracemq_plugin_api::prelude::*;

use super::backoff::Backoff;
use super::dial::{Dial, Opened};
use super::filler::Filler;
use super::payloads::Inbox;
use super::reader::{Ended, Output, Progress, Reader, Settling};
use super::window::Window;
use super::{GOODBYE, LARGEST, QUEUED_FRAMES, stopped, unique};
use crate::address::Address;
use crate::error::{Broken, Condition};
use crate::position::{Position, Start};
use crate::subscribe::Wish;

/// Bytes on their way on all links of a subscription together.
const BUDGET: usize = 64 << 20;
const FILTER: &str = "apache.org:selector-filter:string";
const FILTER_CODE: u64 = 0x0000_468c_0000_0004;
const EPOCH: &str = "com.microsoft:epoch";
const RECEIVER_NAME: &str = "com.microsoft:receiver-name";
const METRICS: &str = "com.microsoft:enable-receiver-runtime-metric";
/// A link that lived so long was a good one: what ends it may not end the next.
const GOOD_LIFE: Duration = Duration::from_secs(10);

/// What one link reads.
#[derive(Clone, Debug)]
struct Source {
    entity: String,
    /// `None` for a queue.
    partition: Option<String>,
    start: Start,
    /// Taken over by another reader: not read any more.
    stolen: bool,
}

impl Source {
    fn name(&self, wish: &Wish) -> String {
        match &self.partition {
            Some(partition) => format!(
                "partition {partition} of the hub {:?} (consumer group {:?})",
                self.entity, wish.group
            ),
            None => format!("the queue {:?}", self.entity),
        }
    }
}

pub(super) struct Stream {
    dial: Arc<Dial>,
    events: Events,
    reconnect: bool,
    wish: Wish,
    sources: Vec<Source>,
    output: Output,
    /// Tells the links' tasks to stop.
    stop: watch::Sender<bool>,
    /// How much the host has dealt with.
    consumed: watch::Sender<u64>,
    /// The client closes.
    closing: watch::Receiver<bool>,
}

/// A connection with its links at work.
struct Attached {
    opened: Opened,
    readers: JoinSet<Ended>,
    /// Links to be made again, and when.
    again: Vec<(Instant, usize)>,
}

/// Why a connection was given up.
enum End {
    /// Nobody listens any more.
    Done,
    Failed(Error),
    /// Another connection may do better.
    Lost(Error),
}

impl Stream {
    /// Attaches all links, and returns what is to be run.
    pub(super) async fn open(
        dial: Arc<Dial>,
        events: Events,
        reconnect: bool,
        wish: Wish,
        mut opened: Opened,
        sender: BatchSender,
        closing: watch::Receiver<bool>,
    ) -> Result<impl Future<Output = ()> + Send + use<>> {
        let sources = match sources(&dial, &wish, &mut opened).await {
            Ok(sources) => sources,
            Err(error) => {
                opened.close().await;
                return Err(error);
            }
        };
        let mut stream = Stream {
            dial,
            events,
            reconnect,
            wish,
            sources,
            output: Output::new(sender),
            stop: watch::Sender::new(false),
            consumed: watch::Sender::new(0),
            closing,
        };
        let attached = stream.attach(opened).await?;
        Ok(stream.run(attached))
    }

    async fn run(mut self, mut attached: Attached) {
        loop {
            let since = Instant::now();
            let end = self.attend(&mut attached).await;
            self.detach(attached).await;
            let error = match end {
                End::Done => return,
                End::Lost(error) if self.reconnect && error.is_temporary() => error,
                End::Failed(error) | End::Lost(error) => return self.fail(error).await,
            };
            let mut backoff = Backoff::default();
            if since.elapsed() < GOOD_LIFE {
                backoff.next();
            }
            attached = match self.again(error, backoff).await {
                Ok(attached) => attached,
                Err(End::Done) => return,
                Err(End::Failed(error) | End::Lost(error)) => return self.fail(error).await,
            };
        }
    }

    /// Connects and attaches again, as long as it takes.
    async fn again(&mut self, mut error: Error, mut backoff: Backoff) -> Result<Attached, End> {
        loop {
            let wait = backoff.next();
            let text = format!("{error}; next attempt in {:.1} s", wait.as_secs_f64());
            self.events.emit(Event::new(EventKind::RECONNECTING, text));
            let attempt = async {
                sleep(wait).await;
                let entity = self.sources.first().map(|source| source.entity.clone());
                self.dial.connect(entity.as_deref()).await
            };
            let mut closing = self.closing.clone();
            let opened = tokio::select! {
                biased;
                () = self.output.sender.closed() => return Err(End::Done),
                () = stopped(&mut closing) => return Err(End::Done),
                opened = attempt => opened,
            };
            error = match opened {
                Ok(opened) => match self.attach(opened).await {
                    Ok(attached) => {
                        let text = format!("connected to {} again", self.dial.settings.shown());
                        self.events.emit(Event::new(EventKind::CONNECTED, text));
                        return Ok(attached);
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if !error.is_temporary() {
                return Err(End::Failed(error));
            }
        }
    }

    /// Attaches all links that are not stolen. When it fails, the connection is closed.
    async fn attach(&mut self, mut opened: Opened) -> Result<Attached> {
        self.stop = watch::Sender::new(false);
        let mut readers = JoinSet::new();
        for index in 0..self.sources.len() {
            if self.sources[index].stolen {
                continue;
            }
            match self.link(&mut opened, index).await {
                Ok(reader) => drop(readers.spawn(reader.run())),
                Err(error) => {
                    self.detach(Attached { opened, readers, again: Vec::new() }).await;
                    return Err(error);
                }
            }
        }
        Ok(Attached { opened, readers, again: Vec::new() })
    }

    /// Ends the links well, then the connection.
    async fn detach(&mut self, mut attached: Attached) {
        self.stop.send_replace(true);
        let all = async {
            while let Some(ended) = attached.readers.join_next().await {
                if let Ok(ended) = ended {
                    self.note(&ended);
                }
            }
        };
        // Each bounds its own end; this is for what none foresees.
        if timeout(4 * GOODBYE, all).await.is_err() {
            log::debug!("links were not closed in time");
            attached.readers.detach_all();
        }
        attached.opened.close().await;
    }

    /// Watches over the links until there is nothing left to do on this connection.
    async fn attend(&mut self, attached: &mut Attached) -> End {
        let queues = !self.dial.is_hubs();
        loop {
            let next = attached.again.iter().map(|(at, _)| *at).min();
            tokio::select! {
                biased;
                () = self.output.sender.closed() => return End::Done,
                () = stopped(&mut self.closing) => return End::Done,
                ended = attached.readers.join_next(), if !attached.readers.is_empty() => {
                    let end = match ended {
                        Some(Ok(ended)) => self.ended(ended, attached),
                        // It panicked.
                        Some(Err(error)) => Some(End::Failed(Error::new(ErrorKind::OTHER, error.to_string()))),
                        None => None,
                    };
                    if let Some(end) = end {
                        return end;
                    }
                }
                () = attached.opened.due() => {
                    if let Err(error) = attached.opened.renew().await {
                        let error = error.while_doing("renew the token");
                        return if error.is_temporary() { End::Lost(error) } else { End::Failed(error) };
                    }
                    log::debug!("the token was renewed");
                }
                () = self.output.sender.progress(), if queues => {
                    self.consumed.send_replace(self.output.sender.consumed());
                }
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    if let Err(error) = self.relink(attached).await {
                        return if error.is_temporary() { End::Lost(error) } else { End::Failed(error) };
                    }
                }
            }
        }
    }

    fn note(&mut self, ended: &Ended) {
        if let Some(last) = ended.progress.last {
            self.sources[ended.index].start = Start::after(last);
        }
    }

    /// What the end of one link means for the rest.
    fn ended(&mut self, ended: Ended, attached: &mut Attached) -> Option<End> {
        self.note(&ended);
        let name = self.sources[ended.index].name(&self.wish);
        let condition = match ended.result {
            Ok(()) => return None,
            Err(Broken::Link(condition)) => condition,
            Err(broken) => return Some(End::Lost(broken.error(&name))),
        };
        let error = condition.error(&name);
        if condition.is_stolen() {
            self.sources[ended.index].stolen = true;
            if self.sources.iter().all(|source| source.stolen) {
                return Some(End::Failed(error));
            }
            self.events.emit(Event::new(EventKind::SUBSCRIPTION_REFUSED, error.to_string()));
            return None;
        }
        let lived = ended.progress.since.elapsed() >= GOOD_LIFE;
        if error.kind() == ErrorKind::AUTH && lived {
            // A token may have ended while this computer slept: a new connection brings a new one.
            return Some(End::Lost(error.temporary()));
        }
        if !error.is_temporary() || !self.reconnect {
            return Some(End::Failed(error));
        }
        let wait = pause(&condition, lived);
        let text = format!("{error}; next attempt in {:.1} s", wait.as_secs_f64());
        self.events.emit(Event::new(EventKind::RECONNECTING, text));
        attached.again.push((Instant::now() + wait, ended.index));
        None
    }

    /// Makes the links again for which it is time.
    async fn relink(&mut self, attached: &mut Attached) -> Result<()> {
        let now = Instant::now();
        let (due, later) = attached.again.drain(..).partition(|(at, _)| *at <= now);
        attached.again = later;
        for (_, index) in due {
            let reader = self.link(&mut attached.opened, index).await?;
            attached.readers.spawn(reader.run());
        }
        Ok(())
    }

    async fn link(&mut self, opened: &mut Opened, index: usize) -> Result<Reader> {
        let source = &self.sources[index];
        let name = source.name(&self.wish);
        opened.authorize(&source.entity).await?;
        let patience = self.dial.settings.net.timeout.connect_timeout.duration();
        let receiver = match timeout(patience, receiver(source, &self.wish, opened)).await {
            Ok(receiver) => receiver.map_err(|broken| broken.error(&name)),
            Err(_) => {
                Err(Error::new(ErrorKind::TIMEOUT, format!("{name}: the server does not answer")).temporary())
            }
        };
        let (receiver, inbox) = receiver?;
        let budget = BUDGET / self.sources.len().max(1);
        Ok(Reader {
            index,
            receiver,
            inbox,
            filler: Filler::new(source.entity.clone(), source.partition.clone()),
            window: Window::new(self.wish.prefetch, budget),
            output: self.output.clone(),
            settling: match source.partition {
                Some(_) => Settling::AtOnce,
                None => Settling::WhenShown(self.consumed.subscribe()),
            },
            stop: self.stop.subscribe(),
            progress: Progress { last: None, since: Instant::now() },
        })
    }

    async fn fail(&mut self, error: Error) {
        self.events.emit(Event::new(EventKind::DISCONNECTED, error.to_string()));
        self.output.sender.fail(error).await;
    }
}

/// How long to leave the server alone before a link is made again.
fn pause(condition: &Condition, lived: bool) -> Duration {
    let usual = Duration::from_millis(if lived { 250 } else { 2000 });
    condition.busy().unwrap_or(usual)
}

/// What there is to read, as the service tells.
async fn sources(dial: &Dial, wish: &Wish, opened: &mut Opened) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for entity in &wish.entities {
        let source = |partition: Option<&String>, start: Start| Source {
            entity: entity.clone(),
            partition: partition.cloned(),
            start,
            stolen: false,
        };
        if !dial.is_hubs() {
            sources.push(source(None, wish.start.clone()));
            continue;
        }
        let known = opened.hub(entity).await?.partitions;
        if let Some(unknown) = wish.partitions.iter().find(|id| !known.contains(id)) {
            return Err(Error::new(
                ErrorKind::PROTOCOL,
                format!("the hub {entity:?} has no partition {unknown}"),
            )
            .code("amqp:not-found")
            .hint(format!("it has {}", known.join(", "))));
        }
        if known.is_empty() {
            return Err(Error::new(
                ErrorKind::PROTOCOL,
                format!("the hub {entity:?} has no partitions to read"),
            ));
        }
        let ids = if wish.partitions.is_empty() { known } else { wish.partitions.clone() };
        if wish.start.position != Position::Latest {
            sources.extend(ids.iter().map(|id| source(Some(id), wish.start.clone())));
            continue;
        }
        let states = opened.partitions(entity, &ids).await?;
        sources.extend(ids.iter().zip(states).map(|(id, state)| source(Some(id), Start::after(state.last))));
    }
    Ok(sources)
}

async fn receiver(source: &Source, wish: &Wish, opened: &mut Opened) -> Result<(Receiver, Inbox), Broken> {
    let name = format!("tracemq-{}", unique());
    let inbox = opened.payloads.link(&name, LARGEST);
    let Some(partition) = &source.partition else {
        let mut builder = Receiver::builder()
            .name(name)
            .source(AmqpSource::builder().address(source.entity.as_str()).build())
            .receiver_settle_mode(ReceiverSettleMode::First)
            .credit_mode(CreditMode::Manual)
            .max_message_size(LARGEST as u64)
            .verify_incoming_source(false);
        builder.buffer_size = QUEUED_FRAMES;
        let receiver = builder.attach(&mut opened.data).await.map_err(|error| Broken::from(&error))?;
        return Ok((receiver, inbox));
    };
    let address = Address::Reader {
        hub: source.entity.clone(),
        group: wish.group.clone(),
        partition: partition.clone(),
    };
    let filter = Described {
        descriptor: Descriptor::Code(FILTER_CODE),
        value: Value::String(source.start.to_string()),
    };
    let mut filters = FilterSet::new();
    filters.insert(Symbol::from(FILTER), Value::Described(Box::new(filter)));
    let mut properties = Fields::new();
    properties.insert(Symbol::from(RECEIVER_NAME), Value::String(name.clone()));
    if let Some(level) = wish.owner_level {
        properties.insert(Symbol::from(EPOCH), Value::Long(level));
    }
    let mut builder = Receiver::builder()
        .name(name)
        .source(AmqpSource::builder().address(address.to_string()).filter(filters).build())
        .sender_settle_mode(SenderSettleMode::Settled)
        .receiver_settle_mode(ReceiverSettleMode::First)
        .credit_mode(CreditMode::Manual)
        .max_message_size(LARGEST as u64)
        .properties(properties)
        .verify_incoming_source(false);
    if wish.lag {
        builder = builder.add_desired_capabilities(METRICS);
    }
    builder.buffer_size = QUEUED_FRAMES;
    let receiver = builder.attach(&mut opened.data).await.map_err(|error| Broken::from(&error))?;
    Ok((receiver, inbox))
}
