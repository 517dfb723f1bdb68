//! `tracemq pub`: messages to a peer, each with its outcome.
//!
//! Several batches are on their way at once, so that a protocol that confirms each message is not waited for batch by
//! batch. Outcomes are taken in the order of the messages. What was not confirmed when the connection ended for good is
//! reported message by message: nothing is lost in silence.

use super::job::Job;
use super::lines::Lines;
use super::outcomes::{Report, Unit};
use super::payload::{self, Envelope, Letter, Need};
use super::pipeline::{DEPTH, Pipeline, Sent};
use super::run::{self, Cut, Ending, Limits, Session};
use crate::failure::{Exit, Failure};
use crate::output::events;
use bytes::Bytes;
use clap::{Arg, ArgAction, Command, value_parser};
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracemq_plugin_api::sdk::{Batch, Error, MAX_BATCH, Outcome, Span};

/// After a signal, what is on its way may still be confirmed for so long.
const LAST_CONFIRMATIONS: Duration = Duration::from_secs(1);

pub fn command() -> Command {
    Command::new("pub")
        .about("Publish messages, and wait until what the protocol can confirm is confirmed")
        .arg(run::target())
        .args(payload::args())
        .arg(
            Arg::new("lines")
                .long("lines")
                .action(ArgAction::SetTrue)
                .conflicts_with_all(["source", "repeat"])
                .help("Send each line of stdin as a message, as it comes"),
        )
        .group(payload::group())
        .arg(
            Arg::new("repeat")
                .long("repeat")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..))
                .help("Send the message so many times"),
        )
        .arg(
            Arg::new("interval")
                .long("interval")
                .value_name("D")
                .value_parser(value_parser!(Span))
                .help("Wait so long between two messages, like 500ms or 5s"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print the outcome of each message to stdout, an object a line"),
        )
}

pub fn run(job: Job) -> Result<(), Failure> {
    let lines = job.matches.get_flag("lines");
    let letter = Letter::new(&job, if lines { Need::Lines } else { Need::Payload })?;
    let repeat = job.matches.get_one::<u64>("repeat").copied();
    let interval = job.matches.get_one::<Span>("interval").map(|span| span.duration());
    let source = match &letter.payload {
        Some(payload) => Source::Copies { payload: payload.clone(), left: repeat.unwrap_or(1) },
        None => Source::Lines(
            Lines::of_stdin().map_err(|error| Failure::new(Exit::Failed, format!("read stdin: {error}")))?,
        ),
    };
    let mut feed = Feed { envelope: &letter.envelope, source, interval, next: None };
    let unit = match (lines, repeat) {
        (true, _) => Unit::Line,
        (false, Some(2..)) => Unit::Message,
        (false, _) => Unit::Only,
    };
    let mut report = Report::new(unit, job.matches.get_flag("json"), job.global.verbose > 0);
    let doing = letter.doing("publish");
    let options =
        serde_json::to_string(&job.options).expect("options have text keys and no infinite numbers");

    run::block_on(Ending::Interrupts, async {
        let limits = Limits::new(None);
        let session = Session::open(&job, &limits).await?;
        let publish = |batch| session.connection().publish(batch, &options);
        let outcome = send_all(&mut feed, publish, &mut report, &limits, &doing, &job.target).await;
        let last_word = session.last_word().await;
        let verdict = report.verdict(outcome, &doing, &job.target);
        let Err(error) = last_word else { return verdict };
        // Why the peer took no more says more than that it did not.
        if let Err(failure) = verdict {
            events::line(&failure.to_string());
        }
        Err(Failure::from_plugin(&error, &doing, &job.target, false))
    })
}

enum Step {
    Sent(Sent),
    Feed(std::io::Result<Option<Batch>>),
}

/// Where the messages come from.
enum Source {
    Copies { payload: Bytes, left: u64 },
    Lines(Lines),
}

/// Batches of messages at their time.
struct Feed<'a> {
    envelope: &'a Envelope,
    source: Source,
    interval: Option<Duration>,
    next: Option<Instant>,
}

impl Feed<'_> {
    /// The next batch, `None` after the last. Cancel-safe.
    async fn next(&mut self) -> std::io::Result<Option<Batch>> {
        let Some(interval) = self.interval else {
            return self.source.next(self.envelope, MAX_BATCH).await;
        };
        if let Some(next) = self.next
            && !self.source.has_ended()
        {
            sleep_until(next).await;
        }
        let batch = self.source.next(self.envelope, 1).await;
        self.next = Some(Instant::now() + interval);
        batch
    }
}

impl Source {
    /// Whether it is known that there is no more.
    fn has_ended(&self) -> bool {
        matches!(self, Source::Copies { left: 0, .. })
    }

    async fn next(&mut self, envelope: &Envelope, most: usize) -> std::io::Result<Option<Batch>> {
        match self {
            Source::Copies { left: 0, .. } => Ok(None),
            Source::Copies { payload, left } => {
                let count = usize::try_from(*left).unwrap_or(most).min(most);
                *left -= count as u64;
                Ok(Some(envelope.copies(payload, count)))
            }
            Source::Lines(lines) => lines.next(envelope, most).await,
        }
    }
}

/// Sends until the feed ends, a call fails or a signal comes, and tells every outcome.
async fn send_all<F>(
    feed: &mut Feed<'_>,
    publish: impl Fn(Batch) -> F,
    report: &mut Report,
    limits: &Limits,
    doing: &str,
    target: &str,
) -> Result<(), Cut>
where
    F: Future<Output = Result<Vec<Outcome>, Error>>,
{
    let mut pipeline = Pipeline::new(DEPTH);
    let mut outcome = Ok(());
    while outcome.is_ok() {
        let step = limits.keep(async {
            tokio::select! {
                biased;
                sent = pipeline.next(), if !pipeline.is_empty() => Step::Sent(sent),
                batch = feed.next(), if pipeline.has_room() => Step::Feed(batch),
            }
        });
        outcome = match step.await {
            Ok(Step::Sent(sent)) => report.tell(&sent, doing, target),
            Ok(Step::Feed(Ok(Some(batch)))) => {
                let count = batch.len();
                pipeline.push(count, publish(batch)).await;
                Ok(())
            }
            Ok(Step::Feed(Ok(None))) => break,
            Ok(Step::Feed(Err(error))) => {
                Err(Failure::new(Exit::Failed, format!("read stdin: {error}")).into())
            }
            Err(cut) => Err(cut),
        };
    }

    // What is on its way still has an outcome. Once something has gone wrong it has to come soon.
    let mut last = None;
    while !pipeline.is_empty() {
        if outcome.is_err() {
            last.get_or_insert_with(|| Instant::now() + LAST_CONFIRMATIONS);
        }
        let sent = match last {
            Some(last) => match timeout_at(last, pipeline.next()).await {
                Ok(sent) => sent,
                Err(_) => break,
            },
            None => match limits.keep(pipeline.next()).await {
                Ok(sent) => sent,
                Err(cut) => {
                    outcome = Err(cut);
                    continue;
                }
            },
        };
        let told = report.tell(&sent, doing, target);
        outcome = outcome.and(told);
    }
    for (first, count) in pipeline.abandon() {
        report.unconfirmed(first, count, "not confirmed before the end");
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(repeat: u64, interval: Option<Duration>) -> Vec<usize> {
        let envelope = Envelope::new("t");
        let source = Source::Copies { payload: Bytes::from_static(b"x"), left: repeat };
        let mut feed = Feed { envelope: &envelope, source, interval, next: None };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut counts = Vec::new();
            while let Some(batch) = feed.next().await.unwrap() {
                counts.push(batch.len());
            }
            counts
        })
    }

    #[test]
    fn repeated_messages_go_in_full_batches() {
        assert_eq!(counts(1, None), [1]);
        assert_eq!(counts(600, None), [256, 256, 88]);
    }

    #[test]
    fn an_interval_lies_between_messages_and_not_after_the_last() {
        let interval = Duration::from_millis(60);
        let start = std::time::Instant::now();
        assert_eq!(counts(3, Some(interval)), [1, 1, 1]);
        let took = start.elapsed();
        assert!(took >= 2 * interval, "{took:?}");
        let start = std::time::Instant::now();
        assert_eq!(counts(1, Some(Duration::from_secs(3600))), [1]);
        assert!(start.elapsed() < Duration::from_secs(60));
    }

    /// Answers as told, and notes what it was asked.
    fn run(
        source: Source,
        answer: impl Fn(usize) -> Result<Vec<Outcome>, Error>,
    ) -> (Result<(), Cut>, Report, usize) {
        let envelope = Envelope::new("t");
        let mut feed = Feed { envelope: &envelope, source, interval: None, next: None };
        let mut report = Report::new(Unit::Line, false, false);
        let calls = std::cell::Cell::new(0);
        let publish = |batch: Batch| {
            let call = calls.get();
            calls.set(call + 1);
            let answer = answer(call).map(|_| vec![Outcome::acknowledged(); batch.len()]);
            async move {
                tokio::task::yield_now().await;
                answer
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let outcome = runtime.block_on(send_all(&mut feed, publish, &mut report, &Limits::new(None), "", ""));
        (outcome, report, calls.get())
    }

    #[test]
    fn every_message_is_sent_and_answered() {
        let source = Source::Copies { payload: Bytes::from_static(b"x"), left: 10_000 };
        let (outcome, report, calls) = run(source, |_| Ok(Vec::new()));
        outcome.unwrap();
        assert_eq!((calls, report.told()), (40, 10_000));
        report.verdict(Ok(()), "", "").unwrap();
    }

    #[test]
    fn after_a_call_that_failed_no_other_is_made_and_all_that_were_made_are_told() {
        let source = Source::Copies { payload: Bytes::from_static(b"x"), left: 1_000_000 };
        let (outcome, report, calls) = run(source, |call| match call {
            5.. => Err(Error::new(tracemq_plugin_api::sdk::ErrorKind::CLOSED, "gone")),
            _ => Ok(Vec::new()),
        });
        assert!(matches!(outcome, Err(Cut::Failed(_))), "{outcome:?}");
        assert!(calls <= 5 + DEPTH + 1, "{calls}");
        assert_eq!(report.told(), calls as u64 * 256);
    }
}
