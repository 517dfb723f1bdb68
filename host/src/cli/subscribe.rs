//! `tracemq sub`: messages to stdout.
//!
//! A batch is written before the next one is asked for, since asking acknowledges it: what a crash or a full disk kept from
//! being written will be delivered again by a protocol that can. For the same reason `-C` never asks for more than is left.

use super::job::Job;
use super::run::{self, Cut, Ending, Limits, Session, Stop};
use crate::failure::{Exit, Failure};
use crate::output::{Formatter, Printer, Sink, Style, events};
use crate::session::Subscription;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tracemq_plugin_api::sdk::{MAX_BATCH, Span};

pub fn command() -> Command {
    Command::new("sub")
        .about("Subscribe and print what arrives")
        .arg(super::run::target())
        .arg(
            Arg::new("topic")
                .value_name("TOPIC")
                .num_args(0..)
                .help("What to subscribe to, in the protocol's own terms"),
        )
        .arg(
            Arg::new("count")
                .short('C')
                .long("count")
                .value_name("COUNT")
                .value_parser(value_parser!(u64).range(1..))
                .help("End after so many messages; no other is taken from the server"),
        )
        .arg(wait(
            "End after so long, with status 5 if the messages of -C, or without -C any message, had not come",
        ))
        .args(format_args())
}

/// `-W`.
pub fn wait(help: &'static str) -> Arg {
    Arg::new("wait")
        .short('W')
        .long("wait")
        .value_name("TIMEOUT")
        .value_parser(value_parser!(Span))
        .help(help)
        .long_help(format!("{help}. Like 500ms, 5s, 2m, or a number of seconds; connecting is part of it"))
}

/// How messages are shown.
pub fn format_args() -> [Arg; 3] {
    [
        Arg::new("format")
            .long("format")
            .value_name("FORMAT")
            .default_value("text")
            .help("text, json, raw, or a template like '{{ topic }} {{ payload }}'")
            .long_help(
                "text: topic and payload; what is not UTF-8 stands as base64:…\n\
                 json: an object a line, with time, headers and what the protocol says of the message\n\
                 raw: the payload as it came\n\
                 a minijinja template, of time protocol target topic payload encoding headers meta reply: \
                 '{{ topic }}\\t{{ (payload | fromjson).value }}'",
            ),
        Arg::new("no-topic")
            .long("no-topic")
            .action(ArgAction::SetTrue)
            .help("Leave the topic out of the text format"),
        Arg::new("no-newline")
            .long("no-newline")
            .action(ArgAction::SetTrue)
            .help("Write no newline after a message (not for json)"),
    ]
}

/// The formatter that the flags ask for.
pub fn formatter(job: &Job) -> Result<Formatter, Failure> {
    let matches = &job.matches;
    let style = Style {
        format: matches.get_one::<String>("format").map_or("text", String::as_str),
        topic: !matches.get_flag("no-topic"),
        newline: !matches.get_flag("no-newline"),
    };
    Formatter::new(&style, &job.plugin.descriptor().id, &job.target)
}

pub fn waited(matches: &ArgMatches) -> Option<Span> {
    matches.get_one::<Span>("wait").copied()
}

pub fn run(job: Job) -> Result<(), Failure> {
    let mut printer = Printer::new(formatter(&job)?, Sink::stdout());
    let count = job.matches.get_one::<u64>("count").copied();
    run::block_on(Ending::Interrupts, async {
        let limits = Limits::new(waited(&job.matches));
        let session = Session::open(&job, &limits).await?;
        let mut receiver = Receiver::new("receive from", &job.target, limits, &mut printer, count);
        let subscribing = session.connection().subscribe(&job.topics, &job.options);
        let outcome = match limits.call(&subscribe_to(&job.topics), &job.target, subscribing).await {
            Ok(subscription) => {
                if !job.global.quiet {
                    events::line(&format!("{} {}", subscribed_to(&job.topics), job.target));
                }
                receiver.run_and_close(subscription).await
            }
            Err(cut) => Err(cut),
        };
        session.close().await;
        receiver.verdict(outcome)
    })
}

fn subscribe_to(topics: &[String]) -> String {
    match topics {
        [] => "subscribe on".into(),
        topics => format!("subscribe to {} on", topics.join(", ")),
    }
}

fn subscribed_to(topics: &[String]) -> String {
    subscribe_to(topics).replacen("subscribe", "subscribed", 1)
}

/// Prints a stream of messages.
pub struct Receiver<'a> {
    /// As in [`Failure::from_plugin`].
    pub doing: &'a str,
    pub target: &'a str,
    limits: Limits,
    printer: &'a mut Printer,
    /// So many and no more.
    pub wanted: Option<u64>,
    pub received: u64,
    dropped: u64,
}

/// After so many batches without a pause the display of events gets its turn.
const BATCHES_AT_ONCE: u32 = 32;

impl<'a> Receiver<'a> {
    pub fn new(
        doing: &'a str,
        target: &'a str,
        limits: Limits,
        printer: &'a mut Printer,
        wanted: Option<u64>,
    ) -> Receiver<'a> {
        Receiver { doing, target, limits, printer, wanted, received: 0, dropped: 0 }
    }

    /// Prints until the stream ends, all wanted messages are there, or a limit is reached, and ends the subscription.
    pub async fn run_and_close(&mut self, subscription: Subscription) -> Result<(), Cut> {
        let outcome = self.run(&subscription).await;
        // Closing acknowledges the last batch: never after a write that was broken off.
        if let Ok(whole) = outcome {
            run::close(subscription.close()).await;
            return whole.map_or(Ok(()), |stop| Err(Cut::Stop(stop)));
        }
        outcome.map(drop)
    }

    /// `Ok` when everything received was written, with the limit if one was reached.
    async fn run(&mut self, subscription: &Subscription) -> Result<Option<Stop>, Cut> {
        let mut turns = 0;
        loop {
            let most = match self.wanted {
                Some(wanted) if wanted == self.received => return Ok(None),
                Some(wanted) => usize::try_from(wanted - self.received).unwrap_or(MAX_BATCH).min(MAX_BATCH),
                None => MAX_BATCH,
            };
            let mut batch =
                match self.limits.call(self.doing, self.target, subscription.next_batch(most)).await {
                    Ok(batch) => batch,
                    Err(Cut::Stop(stop)) => return Ok(Some(stop)),
                    Err(failed) => return Err(failed),
                };
            if batch.dropped() > 0 {
                self.dropped += batch.dropped();
                events::line(&format!(
                    "{} messages were lost here: they came faster than they were read",
                    batch.dropped()
                ));
            }
            let end = batch.is_end();
            if batch.len() > most {
                log::warn!("the plugin handed over {} messages when asked for at most {most}", batch.len());
                batch = batch.split_to(most);
            }
            self.printer.print(&batch)?;
            self.received += batch.len() as u64;
            if end {
                return Ok(None);
            }
            turns += 1;
            if turns % BATCHES_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// What the end of the stream means for the command.
    pub fn verdict(&self, outcome: Result<(), Cut>) -> Result<(), Failure> {
        if self.dropped > 0 {
            events::line(&format!("{} messages were lost in all", self.dropped));
        }
        let what = format!("{} {}", self.doing, self.target);
        let missing = self.wanted.filter(|wanted| self.received < *wanted);
        match (outcome, missing) {
            (Err(Cut::Failed(failure)), _) => Err(failure),
            (Err(Cut::Stop(Stop::Signal)), _) => Err(run::interrupted()),
            (Err(Cut::Stop(Stop::NoReader)), _) => Ok(()),
            (Err(Cut::Stop(Stop::Time)), Some(wanted)) => {
                let text = format!("{what}: time ran out after {} of {wanted} messages", self.received);
                Err(Failure::new(Exit::TimedOut, text).hint("give it more with -W"))
            }
            (Err(Cut::Stop(Stop::Time)), None) if self.received == 0 => {
                Err(Failure::new(Exit::TimedOut, format!("{what}: time ran out before a message came"))
                    .hint("give it more with -W, or check the topic"))
            }
            (Ok(()), Some(wanted)) => {
                let text = format!("{what}: the stream ended after {} of {wanted} messages", self.received);
                Err(Failure::new(Exit::Failed, text))
            }
            _ => self.shown_all(),
        }
    }

    /// A template that failed on a message has hidden it.
    pub fn shown_all(&self) -> Result<(), Failure> {
        match self.printer.unprintable() {
            0 => Ok(()),
            count => Err(Failure::new(
                Exit::Failed,
                format!(
                    "{} {}: --format failed on {count} messages, which were not shown",
                    self.doing, self.target
                ),
            )),
        }
    }
}
