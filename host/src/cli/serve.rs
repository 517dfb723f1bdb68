//! `tracemq serve`: a server for a protocol's clients.
//!
//! The first line on stdout tells where it is, so that whoever started it with port 0 can read it there; after it come the
//! messages that clients send. What the clients do stands on stderr. A signal is the only end there is, so that it is
//! success: status 0.

use super::job::Job;
use super::lines::Lines;
use super::outcomes;
use super::payload::Envelope;
use super::run::{self, Cut, Ending, Limits, Serving, Stop};
use super::subscribe::{self, Receiver};
use crate::failure::{Exit, Failure};
use crate::output::{Formatter, Printer, Sink, Style, events};
use crate::redact;
use clap::{Arg, ArgAction, Command};
use serde_json::json;
use std::future::pending;
use tracemq_plugin_api::sdk::{ErrorKind, MAX_BATCH, Wanted};

pub fn command() -> Command {
    Command::new("serve")
        .about("Run a server and print its URL, then what clients send; Ctrl-C ends it, with status 0")
        .arg(
            Arg::new("target")
                .value_name("PROTOCOL|TARGET")
                .required(true)
                .help("A protocol's name, a profile's name, or a URL whose scheme names the protocol"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .conflicts_with("format")
                .help("Addresses and messages as JSON on stdout, events as JSON on stderr, an object a line"),
        )
        .arg(
            Arg::new("lines")
                .long("lines")
                .action(ArgAction::SetTrue)
                .help("Send each line of stdin to the clients, as it comes"),
        )
        .arg(
            Arg::new("topic")
                .value_name("TOPIC")
                .requires("lines")
                .help("Where the lines go, in the protocol's own terms"),
        )
        .args(subscribe::format_args())
}

pub fn run(job: Job) -> Result<(), Failure> {
    let json = job.matches.get_flag("json");
    let needs_topic = job.plugin.descriptor().topics.publish == Wanted::Required;
    if job.matches.get_flag("lines") && needs_topic && job.topics.is_empty() {
        return Err(Failure::usage(format!("serve {}: --lines needs TOPIC, where the lines go", job.target)));
    }
    let formatter = if json {
        let style = Style { format: "json", topic: true, newline: true };
        Formatter::new(&style, &job.plugin.descriptor().id, &job.target)?
    } else {
        subscribe::formatter(&job)?
    };
    let mut printer = Printer::new(formatter, Sink::stdout());
    run::block_on(Ending::Completes, async {
        let outcome = match Serving::start(&job, json).await {
            Ok(serving) => {
                let outcome = serve(&job, &serving, json, &mut printer).await;
                serving.close().await;
                outcome
            }
            Err(cut) => Err(cut),
        };
        match outcome {
            Ok(()) | Err(Cut::Stop(_)) => Ok(()),
            Err(Cut::Failed(failure)) => Err(failure),
        }
    })
}

async fn serve(job: &Job, serving: &Serving, json: bool, printer: &mut Printer) -> Result<(), Cut> {
    address(job, serving, json, printer)?;
    tokio::select! {
        outcome = receive(job, serving, printer) => outcome,
        outcome = feed(job, serving), if job.matches.get_flag("lines") => outcome,
    }
}

/// Tells where the server is.
fn address(job: &Job, serving: &Serving, json: bool, printer: &mut Printer) -> Result<(), Cut> {
    let addresses = serving.server().addresses();
    let first = addresses.first().map_or("", String::as_str);
    let masked = |text: String| if reveals(job) { text } else { redact::text(&text).into_owned() };
    if json {
        printer.line_unmasked(&masked(json!({"url": first, "urls": addresses}).to_string()))?;
    } else {
        printer.line_unmasked(&masked(first.to_owned()))?;
        for other in addresses.iter().skip(1) {
            if !job.global.quiet {
                events::line_unmasked(&masked(format!("also at {other}")));
            }
        }
    }
    Ok(())
}

/// Whether an option was given that is there to have the addresses show a secret: `x-reveals` in the plugin's schema.
fn reveals(job: &Job) -> bool {
    let properties = &job.plugin.descriptor().schemas.serve["properties"];
    job.options.iter().any(|(name, value)| *value == true && properties[name]["x-reveals"] == true)
}

/// Sends the lines of stdin. A message that is not taken is told of, and does not keep the others.
async fn feed(job: &Job, serving: &Serving) -> Result<(), Cut> {
    let failed = |error: std::io::Error| Failure::new(Exit::Failed, format!("read stdin: {error}"));
    let topic = job.topics.first().map_or("", String::as_str);
    let (envelope, limits) = (Envelope::new(topic), Limits::new(None));
    let mut lines = Lines::of_stdin().map_err(failed)?;
    let mut number: u64 = 0;
    while let Some(batch) = limits.keep(lines.next(&envelope, MAX_BATCH)).await?.map_err(failed)? {
        let outcomes = limits.call("publish on", &job.target, serving.server().publish(batch, "{}")).await?;
        for outcome in &outcomes {
            number += 1;
            if let Some(fault) = outcomes::fault(outcome) {
                events::line(&format!("line {number}: {fault}"));
            }
        }
    }
    // The server goes on.
    limits.keep(pending()).await
}

async fn receive(job: &Job, serving: &Serving, printer: &mut Printer) -> Result<(), Cut> {
    let limits = Limits::new(None);
    let messages = match limits.keep(serving.server().messages()).await? {
        Ok(messages) => messages,
        // A server whose clients' messages can't be seen is a server nevertheless.
        Err(error) if error.kind() == ErrorKind::UNSUPPORTED => {
            log::info!("messages are not shown: {error}");
            return limits.keep(pending()).await;
        }
        Err(error) => return Err(Failure::from_plugin(&error, "serve", &job.target, false).into()),
    };
    let mut receiver = Receiver::new("serve", &job.target, limits, printer, None);
    match receiver.run_and_close(messages).await {
        // The stream of messages may end before the server does.
        Ok(()) => Err(limits.keep(pending::<()>()).await.err().unwrap_or(Cut::Stop(Stop::Signal))),
        cut => cut,
    }
}
