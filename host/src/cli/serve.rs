//! `tracemq serve`: a server for a protocol's clients.
//!
//! The first line on stdout tells where it is, so that whoever started it with port 0 can read it there; after it come the
//! messages that clients send. What the clients do stands on stderr. A signal is the only end there is, so that it is
//! success: status 0.

use super::job::Job;
use super::run::{self, Cut, Ending, Limits, Serving, Stop};
use super::subscribe::{self, Receiver};
use crate::failure::Failure;
use crate::output::{Formatter, Printer, Sink, Style, events};
use clap::{Arg, ArgAction, Command};
use serde_json::json;
use std::future::pending;
use tracemq_plugin_api::sdk::ErrorKind;

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
        .args(subscribe::format_args())
}

pub fn run(job: Job) -> Result<(), Failure> {
    let json = job.matches.get_flag("json");
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
    let addresses = serving.server().addresses();
    let first = addresses.first().map_or("", String::as_str);
    if json {
        printer.line(&json!({"url": first, "urls": addresses}).to_string())?;
    } else {
        printer.line(first)?;
        for other in addresses.iter().skip(1) {
            if !job.global.quiet {
                events::line(&format!("also at {other}"));
            }
        }
    }
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
