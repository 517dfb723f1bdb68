//! The command line: one file per command. Only here is anything printed.

mod args;
mod ask;
mod bench;
mod completions;
mod guard;
mod help;
pub mod job;
mod lines;
mod list;
mod outcomes;
mod payload;
mod pipeline;
mod plugin;
mod prepare;
mod profile;
mod publish;
mod request;
mod run;
mod secret;
mod serve;
pub mod signals;
mod subscribe;
mod target;
pub mod url;
mod usage;

use crate::failure::{Exit, Failure};
use crate::logging;
use crate::output::{Sink, WriteError, events};
use crate::plugins::Catalog;
use crate::redact;
use clap::Command;
use job::Job;
use std::ffi::OsString;
use std::process::ExitCode;

/// A command that acts on a target.
struct Verb {
    name: &'static str,
    command: fn() -> Command,
    run: fn(Job) -> Result<(), Failure>,
}

/// In the order of the help.
const VERBS: &[Verb] = &[
    Verb { name: "pub", command: publish::command, run: publish::run },
    Verb { name: "sub", command: subscribe::command, run: subscribe::run },
    Verb { name: "request", command: request::command, run: request::run },
    Verb { name: "serve", command: serve::command, run: serve::run },
    Verb { name: "list", command: list::command, run: list::run },
    Verb { name: "bench", command: bench::command, run: bench::run },
];

pub fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    match run(&argv) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                events::line(&format!("tracemq: {failure}"));
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn run(argv: &[OsString]) -> Result<(), Failure> {
    let words = argv.get(1..).unwrap_or_default();
    match words {
        [] => {
            let help = args::root().render_help().to_string();
            help.lines().for_each(events::line);
            return Err(Failure::new(Exit::Usage, ""));
        }
        // Before anything else, since scripts ask this first and often.
        [only] if only == "--version" || only == "-V" => {
            return print(concat!("tracemq ", env!("CARGO_PKG_VERSION"), "\n"));
        }
        _ => {}
    }
    // Wherever it was typed: in the place of a name, say.
    let urls = words.iter().filter_map(|word| word.to_str()).filter(|word| word.contains("://"));
    urls.for_each(redact::register_url);
    let dirs = args::plugin_dirs(words);
    let places = args::Flags::of(&Command::new("tracemq")).positionals(words);
    let name = places.first().and_then(|place| words[*place].to_str()).unwrap_or_default();
    let after = places.first().map_or(&[][..], |place| &words[place + 1..]);
    if let Some(verb) = verb(name) {
        let mut catalog = Catalog::open(&dirs);
        let job = prepare::job(&mut catalog, argv, name, after)?;
        return (verb.run)(job);
    }
    if name == "profile" {
        let adds = places.get(1).is_some_and(|place| words[*place] == "add");
        let after = if adds { &words[places[1] + 1..] } else { after };
        return profile::run(argv, after, adds, &dirs);
    }
    if name == "secret" {
        return secret::run(argv);
    }
    let known = [name].into_iter().find(|name| args::root().find_subcommand(name).is_some());
    let matches = usage::parse(args::root(), argv, known.unwrap_or_default(), None)?;
    match matches.subcommand() {
        Some(("plugin", matches)) => {
            logging::start(&prepare::global(matches));
            plugin::run(matches, &dirs)
        }
        Some(("completions", matches)) => completions::run(matches),
        _ => Ok(()),
    }
}

fn verbs() -> &'static [Verb] {
    VERBS
}

fn verb(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}

/// Writes text to stdout, secrets masked. A reader that is gone ends the command quietly.
fn print(text: impl AsRef<str>) -> Result<(), Failure> {
    print_unmasked(&redact::text(text.as_ref()))
}

/// As [`print`], for what is meant to hold a secret.
fn print_unmasked(text: &str) -> Result<(), Failure> {
    Sink::stdout().write_all(text.as_bytes()).or_else(|error| match error {
        WriteError::Closed => Ok(()),
        WriteError::Interrupted => Err(run::interrupted()),
        WriteError::Failed(error) => Err(Failure::new(Exit::Failed, format!("write to stdout: {error}"))),
    })
}
