//! `tracemq request`: one message, and its answers to stdout.

use super::job::Job;
use super::payload::{self, Letter, Need};
use super::run::{self, Cut, Ending, Limits, Session, Stop};
use super::subscribe::{self, Receiver};
use crate::failure::{Exit, Failure};
use crate::output::{Printer, Sink};
use bytes::Bytes;
use clap::{Arg, Command, value_parser};
use tracemq_plugin_api::sdk::Span;

/// Long enough for a busy service, short enough for a script that would wait for ever.
const WAIT: Span = Span::from_secs(10);

pub fn command() -> Command {
    Command::new("request")
        .about("Send a request and print the answers")
        .arg(run::target())
        .args(payload::args())
        .group(payload::group())
        .arg(subscribe::wait(
            "End after so long, with status 5 if the answers had not come; 10s unless said otherwise",
        ))
        .arg(
            Arg::new("replies")
                .long("replies")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..))
                .default_value("1")
                .help("Wait for so many answers"),
        )
        .args(subscribe::format_args())
}

pub fn run(job: Job) -> Result<(), Failure> {
    let mut printer = Printer::new(subscribe::formatter(&job)?, Sink::stdout());
    let letter = Letter::new(&job, Need::MayBeEmpty)?;
    let batch = letter.envelope.copies(letter.payload.as_ref().unwrap_or(&Bytes::new()), 1);
    let wanted = job.matches.get_one::<u64>("replies").copied().unwrap_or(1);
    let options =
        serde_json::to_string(&job.options).expect("options have text keys and no infinite numbers");
    let doing = letter.doing("request");
    run::block_on(Ending::Interrupts, async {
        let limits = Limits::new(Some(subscribe::waited(&job.matches).unwrap_or(WAIT)));
        let session = Session::open(&job, &limits).await?;
        let mut receiver = Receiver::new(&doing, &job.target, limits, &mut printer, Some(wanted));
        let answers = session.connection().request(batch, &options);
        let outcome = match limits.call(&doing, &job.target, answers).await {
            Ok(answers) => receiver.run_and_close(answers).await,
            Err(cut) => Err(cut),
        };
        let verdict = verdict(&receiver, outcome);
        session.close().await;
        verdict
    })
}

fn verdict(receiver: &Receiver<'_>, outcome: Result<(), Cut>) -> Result<(), Failure> {
    let what = format!("{} {}", receiver.doing, receiver.target);
    let (received, wanted) = (receiver.received, receiver.wanted.unwrap_or(1));
    match outcome {
        Err(Cut::Failed(failure)) => Err(failure),
        Err(Cut::Stop(Stop::Signal)) => Err(run::interrupted()),
        Err(Cut::Stop(Stop::NoReader)) => Ok(()),
        Err(Cut::Stop(Stop::Time)) => {
            let text = match received {
                0 => format!("{what}: no answer came in time"),
                _ => format!("{what}: time ran out after {received} of {wanted} answers"),
            };
            Err(Failure::new(Exit::TimedOut, text).hint("give it more with -W"))
        }
        Ok(()) if received == 0 => {
            Err(Failure::new(Exit::NoAnswer, format!("{what}: nobody answered")).hint("check the topic"))
        }
        Ok(()) if received < wanted => {
            Err(Failure::new(Exit::NoAnswer, format!("{what}: there were {received} answers, not {wanted}")))
        }
        Ok(()) => receiver.shown_all(),
    }
}
