//! `tracemq bench`: how fast a peer takes and gives messages, through the same path as `pub` and `sub`.
//!
//! `pub` measures until confirmations, `sub` what arrives, `echo` both at once on one connection, with the time of sending
//! in each payload. The clock is this machine's monotonic one, so that nothing has to be in step.

mod echo;
mod result;

use super::job::Job;
use super::payload::Envelope;
use super::pipeline::{DEPTH, Pipeline};
use super::run::{self, Cut, Ending, Limits, Session, Stop};
use crate::failure::{Exit, Failure};
use crate::output::{Sink, WriteError};
use crate::session::{Connection, Subscription};
use bytes::Bytes;
use clap::{Arg, ArgAction, Command, value_parser};
use echo::Stamp;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use result::Figures;
use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::io::IsTerminal;
use std::time::{Duration, Instant};
use tracemq_plugin_api::sdk::{Batch, MAX_BATCH, Span};

/// How many messages are sent when neither their number nor a time is given.
const MESSAGES: u64 = 100_000;
/// After the last message was sent, or the time has run out, confirmations may still come for so long.
const DRAIN: Duration = Duration::from_secs(2);

pub fn command() -> Command {
    let number = |name: &'static str, value: &'static str| Arg::new(name).long(name).value_name(value);
    Command::new("bench")
        .about("Measure how fast messages are taken, given, or both")
        .arg(
            Arg::new("mode")
                .value_name("MODE")
                .required(true)
                .value_parser(["pub", "sub", "echo"])
                .help("pub: until confirmed; sub: what arrives; echo: send and receive the same messages"),
        )
        .arg(run::target())
        .arg(
            Arg::new("topic")
                .value_name("TOPIC")
                .help("What to publish or subscribe to, in the protocol's own terms"),
        )
        .arg(
            number("count", "N")
                .value_parser(value_parser!(u64).range(1..))
                .help("End after so many messages; when sending, 100000 unless --duration is given"),
        )
        .arg(number("duration", "D").value_parser(value_parser!(Span)).help("End after so long, like 10s"))
        .arg(
            number("size", "BYTES")
                .value_parser(value_parser!(u32).range(..=64 * 1024 * 1024))
                .default_value("100")
                .help("Length of a payload; echo needs at least 48"),
        )
        .arg(
            number("batch", "N")
                .value_parser(value_parser!(u16).range(1..=MAX_BATCH as i64))
                .default_value("256")
                .help("Messages handed over at once, at most 256"),
        )
        .arg(
            number("in-flight", "N")
                .value_parser(value_parser!(u16).range(1..=DEPTH as i64))
                .default_value("16")
                .help("Batches not yet confirmed, at most 16; with 1 each batch waits for the one before"),
        )
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("The result as a JSON object"))
}

pub fn run(job: Job) -> Result<(), Failure> {
    let mode = job.matches.get_one::<String>("mode").cloned().unwrap_or_default();
    let plan = Plan::new(&job, &mode)?;
    run::block_on(Ending::Interrupts, async {
        let session = Session::open(&job, &Limits::new(None)).await?;
        let mut figures = Figures::new(plan.size);
        let bar = plan.bar(&job);
        let bench = Bench {
            job: &job,
            plan: &plan,
            connection: session.connection(),
            limits: Limits::new(plan.duration),
            bar: &bar,
            echo: mode == "echo",
            sent: Cell::new(0),
        };
        let outcome = match mode.as_str() {
            "pub" => bench.publish(None, &mut figures).await,
            "sub" => bench.subscribe(&mut figures).await,
            _ => bench.echo(&mut figures).await,
        };
        bar.finish_and_clear();
        session.close().await;
        let outcome = match outcome {
            Ok(()) | Err(Cut::Stop(Stop::Time | Stop::NoReader)) => Ok(()),
            Err(Cut::Stop(Stop::Signal)) => Err(run::interrupted()),
            Err(Cut::Failed(failure)) => Err(failure),
        };
        // What was measured until then is worth showing, however it ended.
        let text = figures.result(&mode, &job.target, &plan.topic).text(job.matches.get_flag("json"));
        let printed = match Sink::stdout().write_all(text.as_bytes()) {
            Ok(()) | Err(WriteError::Closed | WriteError::Interrupted) => Ok(()),
            Err(WriteError::Failed(error)) => {
                Err(Failure::new(Exit::Failed, format!("write to stdout: {error}")))
            }
        };
        outcome.and(printed).and_then(|()| figures.verdict(&mode, &job.target))
    })
}

/// What the arguments ask for.
struct Plan {
    topic: String,
    envelope: Envelope,
    count: Option<u64>,
    duration: Option<Span>,
    size: usize,
    batch: usize,
    in_flight: usize,
}

impl Plan {
    fn new(job: &Job, mode: &str) -> Result<Plan, Failure> {
        let matches = &job.matches;
        let duration = matches.get_one::<Span>("duration").copied();
        let mut count = matches.get_one::<u64>("count").copied();
        if mode != "sub" && duration.is_none() {
            count = count.or(Some(MESSAGES));
        }
        let number = |name| matches.get_one::<u16>(name).map_or(1, |number| usize::from(*number));
        let size = matches.get_one::<u32>("size").map_or(0, |size| *size as usize);
        if mode == "echo" && size < Stamp::LENGTH {
            return Err(Failure::usage(format!(
                "--size {size}: echo needs at least {} bytes",
                Stamp::LENGTH
            )));
        }
        let topic = job.topics.first().cloned().unwrap_or_default();
        Ok(Plan {
            envelope: Envelope::new(&topic),
            topic,
            count,
            duration,
            size,
            batch: number("batch"),
            in_flight: number("in-flight"),
        })
    }

    fn bar(&self, job: &Job) -> ProgressBar {
        if job.global.quiet || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let (bar, template) = match self.count {
            Some(count) => (ProgressBar::new(count), "{bar:40} {human_pos}/{human_len} {per_sec} {eta}"),
            None => (ProgressBar::new_spinner(), "{spinner} {human_pos} {per_sec} {elapsed}"),
        };
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        bar.with_style(ProgressStyle::with_template(template).expect("the template is a constant"))
    }
}

/// One run.
struct Bench<'a> {
    job: &'a Job,
    plan: &'a Plan,
    connection: &'a Connection,
    limits: Limits,
    bar: &'a ProgressBar,
    echo: bool,
    /// How many messages have been handed over.
    sent: Cell<u64>,
}

impl Bench<'_> {
    fn doing(&self, verb: &str) -> String {
        match self.plan.topic.as_str() {
            "" => format!("bench: {verb} on"),
            topic => format!("bench: {verb} {topic} on"),
        }
    }

    /// Sends until the count, the time or the connection is at its end. With a stamp each payload tells when it was sent.
    async fn publish(&self, stamp: Option<&Stamp>, figures: &mut Figures) -> Result<(), Cut> {
        let doing = self.doing("publish to");
        let options = serde_json::to_string(&self.job.options).expect("options have text keys");
        let filler = Bytes::from(vec![b'x'; self.plan.size]);
        let mut pipeline = Pipeline::new(self.plan.in_flight);
        let mut started = VecDeque::with_capacity(self.plan.in_flight);
        let mut left = self.plan.count;
        let mut outcome = Ok(());
        figures.start();
        while outcome.is_ok() && left != Some(0) {
            if pipeline.has_room() {
                let count = left.map_or(self.plan.batch, |left| {
                    usize::try_from(left).unwrap_or(self.plan.batch).min(self.plan.batch)
                });
                left = left.map(|left| left - count as u64);
                let batch = match stamp {
                    Some(stamp) => stamp.batch(&self.plan.envelope, &filler, self.sent.get(), count),
                    None => self.plan.envelope.copies(&filler, count),
                };
                self.sent.set(self.sent.get() + count as u64);
                started.push_back(Instant::now());
                pipeline.push(count, self.connection.publish(batch, &options)).await;
                continue;
            }
            outcome = self.confirmed(&mut pipeline, &mut started, &self.limits, &doing, figures).await;
        }
        let rest = Limits::new(Some(DRAIN.into()));
        while !pipeline.is_empty() && !matches!(outcome, Err(Cut::Failed(_) | Cut::Stop(Stop::Signal))) {
            let drained = self.confirmed(&mut pipeline, &mut started, &rest, &doing, figures).await;
            if drained.is_err() {
                outcome = outcome.and(drained);
                break;
            }
        }
        let unconfirmed: usize = pipeline.abandon().map(|(_, count)| count).sum();
        figures.unconfirmed += unconfirmed as u64;
        outcome
    }

    /// Waits for the oldest batch.
    async fn confirmed<F>(
        &self,
        pipeline: &mut Pipeline<F>,
        started: &mut VecDeque<Instant>,
        limits: &Limits,
        doing: &str,
        figures: &mut Figures,
    ) -> Result<(), Cut>
    where
        F: Future<Output = super::pipeline::Outcomes>,
    {
        let sent = limits.keep(pipeline.next()).await?;
        let latency = started.pop_front().map(|started| started.elapsed()).unwrap_or_default();
        let outcomes =
            sent.outcomes.map_err(|error| Failure::from_plugin(&error, doing, &self.job.target, false))?;
        let failed = outcomes.iter().filter(|outcome| !outcome.is_success()).count() as u64;
        if let Some(outcome) = outcomes.iter().find(|outcome| !outcome.is_success()) {
            figures.refused(outcome.reason());
        }
        figures.confirmed(sent.count as u64 - failed, failed, latency);
        self.bar.inc(sent.count as u64);
        Ok(())
    }

    async fn subscription(&self) -> Result<Subscription, Cut> {
        let options = if self.echo { &self.job.subscribe } else { &self.job.options };
        let subscribing = self.connection.subscribe(&self.job.topics, options);
        self.limits.call(&self.doing("subscribe to"), &self.job.target, subscribing).await
    }

    /// Counts what arrives, until the count or the time is over or the stream ends.
    async fn subscribe(&self, figures: &mut Figures) -> Result<(), Cut> {
        let subscription = self.subscription().await?;
        let doing = self.doing("receive from");
        let outcome = loop {
            let left = self.plan.count.map_or(u64::MAX, |count| count.saturating_sub(figures.received));
            if left == 0 {
                break Ok(());
            }
            let most = usize::try_from(left).unwrap_or(self.plan.batch).min(self.plan.batch);
            let next = subscription.next_batch(most);
            let batch: Batch = match self.limits.call(&doing, &self.job.target, next).await {
                Ok(batch) => batch,
                Err(cut) => break Err(cut),
            };
            figures.arrived(&batch);
            self.bar.inc(batch.len() as u64);
            if batch.is_end() {
                break Ok(());
            }
        };
        run::close(subscription.close()).await;
        outcome
    }
}
