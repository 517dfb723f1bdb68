//! Reading a stream: requests for messages go out as the host takes them, acknowledgements as it has dealt with them.
//!
//! A durable consumer goes on where it was, whatever happens to the connection. One of our own that wants no acknowledgements
//! would lose what was on its way when the connection broke: it is made anew, behind the last message that came.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::Instant;
use tracemq_plugin_api::prelude::*;
use tracemq_plugin_api::sdk::{MAX_BATCH, MessageView, OutcomeStatus, Permit, spawn};

use super::JetStream;
use super::acks::Acks;
use super::consumer::{Consumer, Found, State, Wish};
use super::position::Position;
use super::pulls::{Pulls, SILENCE};
use super::shown::show;
use crate::client::Service;
use crate::session::Pattern;

/// Batches in the queue to the host.
const BATCHES: usize = 8;
/// How long to try to get a consumer at all.
const FIRST: Duration = Duration::from_secs(30);
/// Calls that may be on their way to the server.
const WRITES: usize = 16;
/// With --to-end: nothing came for so long, so the end is asked for.
const QUIET: Duration = Duration::from_secs(1);
/// With --to-end: how long to wait for what others have and may give back.
const GIVEN_BACK: Duration = Duration::from_secs(3);
/// At the end: how long to wait for what was asked for and has not come.
const LAST: Duration = Duration::from_millis(200);
/// Between attempts to find a consumer that does not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a cluster may take to have JetStream again.
const AWAY: Duration = Duration::from_secs(120);

type Write = Pin<Box<dyn Future<Output = Result<Vec<Outcome>>> + Send>>;

struct Reader {
    jetstream: Arc<JetStream>,
    wish: Wish,
    consumer: Consumer,
    pulls: Pulls,
    acks: Acks,
    sender: BatchSender,
    arriving: Subscription,
    inbox: String,
    writes: FuturesUnordered<Write>,
    connections: watch::Receiver<u64>,
    /// Waits for room in the queue.
    held: Option<Batch>,
    /// Messages given to the host.
    given: u64,
    /// The last message that came.
    sequence: u64,
    /// The number that the consumer gave it.
    consumer_sequence: u64,
    heard: Instant,
    /// When a message came last.
    moved: Instant,
    /// No pulls before this.
    pause: Option<Instant>,
    /// Nothing is left, as far as the last message said.
    at_end: bool,
}

impl JetStream {
    /// Returns when the consumer is there.
    ///
    /// # Errors
    /// No JetStream, no such stream, or a consumer that can't be made or does something else.
    pub(crate) async fn subscribe(self: &Arc<Self>, wish: Wish) -> Result<Subscription> {
        let consumer = self.first_consumer(&wish).await?;
        let inbox = self.client.inbox();
        // Without the prefix: a stream of all its subjects would store what it delivers, again and again.
        let pattern = Pattern { subject: format!("{inbox}.*"), queue: None, max: None };
        // Never more comes than was asked for.
        let service = Service { buffer: wish.buffer, lossless: true, request: None, gapless: true };
        let arriving = self.client.subscribe(vec![pattern], service).await?;
        let (sender, subscription) = queue(BATCHES);
        let mut connections = self.client.connections();
        connections.mark_unchanged();
        let reader = Reader {
            pulls: Pulls::new(consumer.most, wish.buffer),
            acks: Acks::default(),
            connections,
            jetstream: Arc::clone(self),
            wish,
            consumer,
            sender,
            arriving,
            inbox,
            writes: FuturesUnordered::new(),
            held: None,
            given: 0,
            sequence: 0,
            consumer_sequence: 0,
            heard: Instant::now(),
            moved: Instant::now(),
            pause: None,
            at_end: false,
        };
        let task = spawn(reader.run());
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|reader| !reader.is_finished());
        readers.push(task);
        Ok(subscription)
    }
}

impl JetStream {
    /// A cluster may place a new consumer on a server that has just gone, or be electing a leader: it is asked again.
    async fn first_consumer(&self, wish: &Wish) -> Result<Consumer> {
        let begun = Instant::now();
        loop {
            match self.consumer(wish, None).await {
                Err(error) if error.is_temporary() && begun.elapsed() < FIRST => {
                    let text = format!("{}: {error}; trying again", wish.stream);
                    self.events.emit(Event::new(EventKind::WARNING, text));
                    tokio::time::sleep(PAUSE).await;
                }
                result => return result,
            }
        }
    }
}

/// What a turn waited for.
enum Step {
    Gone,
    Written(Result<Vec<Outcome>>),
    Consumed,
    Connected,
    Arrived(Result<Batch>),
    Room(Option<Permit>),
    Alarm,
}

impl Reader {
    async fn run(mut self) {
        let result = self.read().await;
        if result.is_ok() && self.consumer.explicit {
            self.give_back().await;
        }
        self.arriving.close().await;
        if !self.consumer.durable && result.is_ok() {
            self.jetstream.forget(&self.wish, &self.consumer.name).await;
        }
        if let Err(error) = result {
            self.sender.fail(error).await;
        }
    }

    /// Acknowledges what was shown, and gives back what was not: the next run, or another, has it at once.
    async fn give_back(&mut self) {
        let acks = self.acks.consumed(self.sender.consumed());
        acks.into_iter().for_each(|batch| self.write(batch));
        // What the server still has to send for requests would come to nobody.
        while self.pulls.is_waiting() {
            let arriving = tokio::time::timeout(LAST, self.arriving.next_batch(MAX_BATCH));
            let Ok(Ok(batch)) = arriving.await else { break };
            for message in batch.iter() {
                if let Some(reply) = message.reply().filter(|reply| Position::read(reply).is_some()) {
                    self.pulls.delivered();
                    self.acks.add(reply);
                }
            }
            if batch.is_end() {
                break;
            }
        }
        // No more requests: what is given back must not come here again.
        self.arriving.close().await;
        while self.writes.next().await.is_some() {}
        if self.pulls.is_waiting() && !self.acks.is_empty() {
            self.withdraw().await;
        }
        for batch in self.acks.give_back() {
            // One after the other: they are delivered again in this order.
            if self.jetstream.client.publish_as_it_is(batch).await.is_err() {
                return;
            }
        }
    }

    /// Has the server forget a request that it still keeps. To a message that comes back it would look for the one who asked, find
    /// nobody, and leave the message for the time when its acknowledgement is late (2.9) or behind all others (2.10). Asked for
    /// the consumer's state, it first drops the requests that nobody waits for.
    async fn withdraw(&mut self) {
        // The question comes on another connection: when this is confirmed, the subscription is gone.
        let nothing = BatchBuilder::new().finish();
        if self.jetstream.client.publish_as_it_is(nothing).await.is_ok() {
            // Without an answer it is as it was.
            let _ = self.jetstream.look_for(&self.wish, &self.consumer.name).await;
        }
    }

    async fn read(&mut self) -> Result<()> {
        if self.wish.to_end && self.consumer.state.is_empty() {
            return Ok(());
        }
        loop {
            if self.consumer.explicit && !self.acks.is_empty() {
                let acks = self.acks.consumed(self.sender.consumed());
                acks.into_iter().for_each(|batch| self.write(batch));
            }
            if self.held.is_none() && self.at_end && self.is_at_end().await? {
                return Ok(());
            }
            self.pull();
            let flow = match self.step().await {
                Step::Gone => return Ok(()),
                Step::Consumed => ControlFlow::Continue(()),
                Step::Written(outcomes) => self.written(outcomes)?,
                Step::Connected => self.connected().await?,
                Step::Arrived(batch) => self.arrived(&batch?).await?,
                Step::Room(None) => return Ok(()),
                Step::Room(Some(permit)) => {
                    if let Some(batch) = self.held.take() {
                        self.given += batch.len() as u64;
                        permit.send(batch);
                    }
                    ControlFlow::Continue(())
                }
                Step::Alarm => self.alarm().await?,
            };
            if flow.is_break() {
                return Ok(());
            }
        }
    }

    async fn step(&mut self) -> Step {
        let silence = self.heard + SILENCE;
        let mut alarm = self.pause.map_or(silence, |pause| pause.min(silence));
        if self.wish.to_end {
            alarm = alarm.min(self.moved.max(self.heard) + QUIET);
        }
        tokio::select! {
            biased;
            () = self.sender.closed() => Step::Gone,
            Some(outcomes) = self.writes.next(), if !self.writes.is_empty() => Step::Written(outcomes),
            () = self.sender.progress(), if !self.acks.is_empty() => Step::Consumed,
            Ok(()) = self.connections.changed() => Step::Connected,
            permit = self.sender.reserve(), if self.held.is_some() => Step::Room(permit),
            batch = self.arriving.next_batch(MAX_BATCH), if self.held.is_none() && self.writes.len() < WRITES => {
                Step::Arrived(batch)
            }
            () = tokio::time::sleep_until(alarm), if self.held.is_none() => Step::Alarm,
        }
    }

    fn write(&mut self, batch: Batch) {
        let client = Arc::clone(&self.jetstream.client);
        self.writes.push(Box::pin(async move { client.publish_as_it_is(batch).await }));
    }

    /// Asks for more, when it is time.
    fn pull(&mut self) {
        if self.held.is_some() || self.pause.is_some_and(|pause| pause > Instant::now()) {
            return;
        }
        self.pause = None;
        let Some(pull) = self.pulls.next(self.acks.len()) else { return };
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.wish.stream, self.consumer.name);
        let reply = format!("{}.{}", self.inbox, pull.number);
        let mut batch = BatchBuilder::new();
        batch.add(&subject, &pull.body).reply(&reply);
        self.write(batch.finish());
    }

    fn written(&mut self, outcomes: Result<Vec<Outcome>>) -> Result<ControlFlow<()>> {
        // That the connection is gone is told by the messages that do not come.
        let refused = outcomes
            .ok()
            .into_iter()
            .flatten()
            .find(|outcome| outcome.status() == OutcomeStatus::UNAUTHORIZED);
        match refused {
            None => Ok(ControlFlow::Continue(())),
            Some(outcome) => Err(Error::new(
                ErrorKind::AUTH,
                format!("the server does not allow this user to read the stream: {}", outcome.reason()),
            )
            .hint("a user who reads a stream publishes to $JS.API.CONSUMER.MSG.NEXT.> and $JS.ACK.>")),
        }
    }

    /// Nothing that was asked for on the connection before will come.
    async fn connected(&mut self) -> Result<ControlFlow<()>> {
        self.pulls.lost();
        self.heard = Instant::now();
        if !self.consumer.durable && !self.consumer.explicit {
            self.renew().await?;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Makes a consumer that begins behind the last message.
    async fn renew(&mut self) -> Result<()> {
        let from = match self.sequence {
            // Only what is new: what came while there was no consumer is.
            0 if self.wish.begin() == super::Deliver::New => Some(self.consumer.last + 1),
            0 => None,
            sequence => Some(sequence + 1),
        };
        let (mut told, begun) = (false, Instant::now());
        loop {
            match self.jetstream.consumer(&self.wish, from).await {
                Ok(mut consumer) => {
                    consumer.last = self.consumer.last;
                    self.consumer = consumer;
                    self.consumer_sequence = 0;
                    self.pulls.lost();
                    self.heard = Instant::now();
                    return Ok(());
                }
                Err(error) if may_pass(&error) && begun.elapsed() < AWAY => {
                    self.tell_waiting(&error, &mut told);
                    tokio::time::sleep(PAUSE).await;
                    if self.sender.is_closed() {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn tell_waiting(&self, error: &Error, told: &mut bool) {
        if !std::mem::replace(told, true) {
            let text = format!("{}: {error}; trying again", self.wish.stream);
            self.jetstream.events.emit(Event::new(EventKind::RECONNECTING, text));
        }
    }

    /// Nothing was heard for too long, or a pause is over.
    async fn alarm(&mut self) -> Result<ControlFlow<()>> {
        let now = Instant::now();
        if now >= self.heard + SILENCE {
            return self.look().await;
        }
        if self.wish.to_end && now >= self.moved.max(self.heard) + QUIET {
            self.heard = now;
            self.at_end = true;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Looks whether the consumer is there, and asks it again.
    async fn look(&mut self) -> Result<ControlFlow<()>> {
        match self.jetstream.look_for(&self.wish, &self.consumer.name).await {
            Ok(Found::There(_)) => {
                self.pulls.lost();
                self.heard = Instant::now();
            }
            Ok(Found::NoConsumer) if self.consumer.durable || self.consumer.explicit => {
                return Err(self.wish.consumer_deleted(&self.consumer.name));
            }
            // The server that kept it is gone, or was started again.
            Ok(Found::NoConsumer) => self.renew().await?,
            Err(error) if may_pass(&error) => {
                self.tell_waiting(&error, &mut false);
                self.heard = Instant::now();
            }
            Err(error) => return Err(error),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Whether there is nothing left, and all that was given is acknowledged.
    async fn is_at_end(&mut self) -> Result<bool> {
        if !self.consumer.explicit {
            let state = self.state().await?;
            self.at_end = state.is_none_or(|state| state.pending == 0);
            return Ok(self.at_end);
        }
        if !self.acks.is_empty() || !self.writes.is_empty() {
            return Ok(false);
        }
        let Some(state) = self.state().await? else { return Ok(false) };
        if state.is_empty() {
            return Ok(true);
        }
        self.at_end = false;
        if state.pending == 0 && self.moved.elapsed() >= GIVEN_BACK {
            let text = format!(
                "{} messages were delivered before and not acknowledged: they are delivered again later",
                state.unacknowledged
            );
            self.jetstream.events.emit(Event::new(EventKind::WARNING, text));
            return Ok(true);
        }
        Ok(false)
    }

    async fn state(&mut self) -> Result<Option<State>> {
        match self.jetstream.look_for(&self.wish, &self.consumer.name).await {
            Ok(Found::There(state)) => Ok(Some(state)),
            Ok(Found::NoConsumer) => Err(self.wish.consumer_deleted(&self.consumer.name)),
            Err(error) if may_pass(&error) => {
                self.at_end = false;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn arrived(&mut self, arrived: &Batch) -> Result<ControlFlow<()>> {
        self.heard = Instant::now();
        let mut batch = BatchBuilder::with_capacity(arrived.len());
        for message in arrived.iter() {
            if let Some(position) = message.reply().and_then(Position::read) {
                self.pulls.delivered();
                // What an earlier consumer had sent comes again.
                if position.consumer == self.consumer.name {
                    self.add(&mut batch, &message, &position);
                }
            } else if let ControlFlow::Break(()) = self.status(&message).await? {
                return Ok(ControlFlow::Break(()));
            }
        }
        if !batch.is_empty() {
            self.moved = Instant::now();
            self.held = Some(batch.finish());
        }
        if arrived.is_end() {
            return Err(Error::new(ErrorKind::CLOSED, "the connection is closed"));
        }
        Ok(ControlFlow::Continue(()))
    }

    fn add(&mut self, batch: &mut BatchBuilder, message: &MessageView<'_>, position: &Position<'_>) {
        let expected = self.consumer_sequence + 1;
        // Without acknowledgements, what a broken connection swallowed does not come again.
        let gap =
            !self.consumer.explicit && self.consumer_sequence > 0 && position.consumer_sequence > expected;
        self.consumer_sequence = self.consumer_sequence.max(position.consumer_sequence);
        self.sequence = self.sequence.max(position.sequence);
        if let (true, Some(reply)) = (self.consumer.explicit, message.reply()) {
            self.acks.add(reply);
        }
        self.at_end = self.wish.to_end && position.pending == 0;
        show(batch, message, position, self.wish.bucket.as_deref(), gap);
    }

    /// What the server says of a request (ADR-13 of NATS).
    async fn status(&mut self, message: &MessageView<'_>) -> Result<ControlFlow<()>> {
        let mut code = 0;
        let mut text = String::new();
        for (name, value) in message.meta() {
            match (name, value) {
                ("status", MetaValue::Uint(value)) => code = value,
                ("description", MetaValue::Text(value)) => text = value.to_ascii_lowercase(),
                _ => {}
            }
        }
        let number = message.topic_text().rsplit('.').next().and_then(|token| token.parse().ok());
        let (Some(number), 1..) = (number, code) else {
            log::debug!("{} is no answer to a request for messages", message.topic_text());
            return Ok(ControlFlow::Continue(()));
        };
        let left = message.headers().find(|(name, _)| *name == b"Nats-Pending-Messages");
        let left = left.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok());
        match code {
            // A heartbeat.
            100 => {}
            409 if text.contains("consumer deleted") => {
                // Or its stream, with everything in it.
                self.jetstream.look_for(&self.wish, &self.consumer.name).await?;
                return Err(self.wish.consumer_deleted(&self.consumer.name));
            }
            409 if text.contains("push based") => {
                return Err(
                    Error::new(ErrorKind::PROTOCOL, format!("{}: {text}", self.consumer.name)).code("409")
                );
            }
            409 if text.contains("message size exceeds") => {
                self.pulls.ended(number, left);
                if left.is_none_or(|left| left > 0) {
                    self.pulls.too_large();
                }
            }
            // It was full, or a new leader knows nothing of it.
            409 => {
                self.pulls.ended(number, left);
                self.pause = Some(Instant::now() + PAUSE);
            }
            // Nobody is there now: a server that starts, or a leader that is elected.
            503 => {
                self.pulls.ended(number, None);
                self.pause = Some(Instant::now() + PAUSE);
                return self.look().await;
            }
            _ => self.pulls.ended(number, left),
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// A server that starts, or a cluster that elects, is as one without JetStream for a while.
fn may_pass(error: &Error) -> bool {
    error.is_temporary() || error.kind() == ErrorKind::TIMEOUT || error.code_text() == "503"
}
