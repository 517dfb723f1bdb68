//! `tracemq profile test`: whether a connection can be made, and how long each step of it took.
//!
//! Steps are what the plugin tells of ([`crate::plugins::steps`]); what it does not tell of, such as the protocol's own
//! handshake, is the rest of the time. So a plugin that tells of nothing has its total at least.

use crate::cli::run::{self, Ending, Limits};
use crate::cli::{guard, prepare, subscribe};
use crate::failure::{Exit, Failure};
use crate::logging;
use crate::output::{escape, events};
use crate::plugins::{Catalog, steps};
use crate::profiles;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tracemq_plugin_api::sdk::{Span, StepState};

/// The step of all that the plugin does not tell of.
const REST: &str = "protocol";

pub fn command() -> Command {
    Command::new("test")
        .about("Connect, and tell how long each step took")
        .long_about(
            "Connect with each profile or URL in turn, tell how long each step took (name, tcp, proxy, tls and the protocol's \
             own), and disconnect; nothing is sent or subscribed to. A step that failed is named, and why stands on stderr. \
             The exit status is that of the first that failed.",
        )
        .arg(
            Arg::new("targets")
                .value_name("NAME|URL")
                .required(true)
                .action(ArgAction::Append)
                .num_args(1..)
                .help("Profiles' names, or URLs, or references to one, such as vault:NAME"),
        )
        .arg(super::flag("json", "Print an object a line"))
        .arg(subscribe::wait("Give each up after so long, with status 5"))
}

/// What came of one target.
struct Report {
    target: String,
    steps: Vec<Step>,
    total: Option<Duration>,
    failure: Option<Failure>,
}

struct Step {
    name: String,
    good: bool,
    time: Duration,
    detail: String,
}

pub fn run(matches: &ArgMatches, dirs: &[PathBuf]) -> Result<(), Failure> {
    let targets: Vec<&String> = matches.get_many("targets").into_iter().flatten().collect();
    let wait = subscribe::waited(matches);
    let mut catalog = Catalog::open(dirs);
    super::note(catalog.warnings());
    // Before the first plugin is there: then it is too late.
    logging::hear_debug();
    for profile in targets.iter().filter_map(|target| profiles::find(target).ok().flatten()) {
        guard::keep_keys(&profile);
    }
    let mut status = None;
    run::block_on(Ending::Interrupts, async {
        for target in &targets {
            let report = test(&mut catalog, target, wait).await;
            if let Some(failure) = &report.failure {
                if failure.exit == Exit::Interrupted {
                    return Err(run::interrupted());
                }
                events::line(&format!("tracemq: {failure}"));
                status.get_or_insert(failure.exit);
            }
            crate::cli::print(if matches.get_flag("json") { report.json() } else { report.text() })?;
        }
        // What failed has been told of.
        status.map_or(Ok(()), |exit| Err(Failure::new(exit, "")))
    })
}

async fn test(catalog: &mut Catalog, target: &str, wait: Option<Span>) -> Report {
    let contact = match prepare::contact(catalog, target) {
        Ok(contact) => contact,
        Err(failure) => {
            let target = super::shown_url(target);
            return Report { target, steps: Vec::new(), total: None, failure: Some(failure) };
        }
    };
    steps::listen();
    let begun = Instant::now();
    let outcome =
        run::connect(&contact.plugin, &contact.connection, &contact.context, &Limits::new(wait)).await;
    let total = begun.elapsed();
    let taken = steps::heard();
    let failure = match outcome {
        Ok(connection) => {
            run::close(connection.close()).await;
            None
        }
        Err(failure) => Some(failure),
    };
    let mut steps: Vec<Step> = taken
        .into_iter()
        .map(|step| Step {
            name: step.name,
            good: step.state == StepState::Done,
            time: step.time,
            detail: step.detail,
        })
        .collect();
    // When a step failed, and the whole with it, there was nothing after it.
    if failure.is_none() || steps.last().is_none_or(|step| step.good) {
        let told: Duration = steps.iter().map(|step| step.time).sum();
        let (name, detail) = (REST.to_owned(), String::new());
        steps.push(Step { name, good: failure.is_none(), time: total.saturating_sub(told), detail });
    }
    Report { target: contact.target, steps, total: Some(total), failure }
}

impl Report {
    fn text(&self) -> String {
        let mut out = format!("{}\n", escape::line(&self.target));
        let outcome = if self.failure.is_none() { "ok" } else { "failed" };
        let Some(total) = self.total else {
            out.push_str(&format!("  {outcome}\n"));
            return out;
        };
        let width = self.steps.iter().map(|step| step.name.chars().count()).max().unwrap_or(0).max(9);
        let mut line = |name: &str, time: Duration, detail: &str| {
            let line = format!("  {name:<width$}  {:>9}  {detail}", format!("{:.1} ms", ms(time)));
            out.push_str(escape::line(line.trim_end()).as_ref());
            out.push('\n');
        };
        for step in &self.steps {
            line(&step.name, step.time, if step.good { &step.detail } else { "failed" });
        }
        line("total", total, outcome);
        out
    }

    fn json(&self) -> String {
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|step| {
                json!({"step": step.name, "ok": step.good, "ms": rounded(step.time), "detail": step.detail})
            })
            .collect();
        let report = json!({
            "target": self.target,
            "ok": self.failure.is_none(),
            "ms": self.total.map(rounded),
            "steps": steps,
            "error": self.failure.as_ref().map(ToString::to_string),
            "exit": self.failure.as_ref().map_or(0, |failure| failure.exit as u8),
        });
        format!("{report}\n")
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Milliseconds to three places.
fn rounded(time: Duration) -> f64 {
    (ms(time) * 1000.0).round() / 1000.0
}
