//! What every command that talks to a peer has in common: the runtime, the limits of its time, events, a clean end.
//!
//! The host runs on one thread. Plugins have runtimes and threads of their own; here a future of theirs is only awaited, so
//! there is nothing to gain from more. The host sets no limit to a call by itself: `-W` does, a signal does, and the end of
//! a command is bounded, since a peer that has gone silent must not keep it.

use super::job::Job;
use super::signals;
use crate::failure::{Exit, Failure};
use crate::output::WriteError;
use crate::output::events::{Show, Shown};
use crate::plugins::Plugin;
use crate::session::{Connection, Context, Server};
use clap::Arg;
use serde_json::{Map, Value};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracemq_plugin_api::sdk::{Error, ErrorKind, Event, Span};

/// How long the goodbye may take: unsubscribe, flush, disconnect.
pub const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// `TARGET`, of which the rest of the command line depends.
pub fn target() -> Arg {
    Arg::new("target")
        .value_name("TARGET")
        .required(true)
        .help("A profile's name, or a URL whose scheme names the protocol")
}

/// What a signal means to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It breaks the command off: status 130.
    Interrupts,
    /// There is no other end: status 0.
    Completes,
}

/// Runs a command to its end.
pub fn block_on(ending: Ending, command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let status = if ending == Ending::Completes { Exit::Done } else { Exit::Interrupted };
    let failed = |what: &str, error: std::io::Error| Failure::new(Exit::Failed, format!("{what}: {error}"));
    signals::watch(status as i32).map_err(|error| failed("watch for signals", error))?;
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| failed("start", error))?
        .block_on(command)
}

/// Why a command stops although nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Signal,
    /// `-W` ran out.
    Time,
    /// The reader of stdout is gone.
    NoReader,
}

/// Why the work of a command ended before its end.
#[derive(Debug)]
pub enum Cut {
    Stop(Stop),
    Failed(Failure),
}

impl From<Failure> for Cut {
    fn from(failure: Failure) -> Cut {
        Cut::Failed(failure)
    }
}

impl From<WriteError> for Cut {
    fn from(error: WriteError) -> Cut {
        match error {
            WriteError::Closed => Cut::Stop(Stop::NoReader),
            WriteError::Interrupted => Cut::Stop(Stop::Signal),
            WriteError::Failed(error) => {
                Cut::Failed(Failure::new(Exit::Failed, format!("write to stdout: {error}")))
            }
        }
    }
}

/// The limits of a command: signals, and the time of `-W`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    deadline: Option<Instant>,
}

impl Limits {
    /// The time starts now.
    pub fn new(wait: Option<Span>) -> Limits {
        Limits { deadline: wait.map(|span| Instant::now() + span.duration()) }
    }

    /// Awaits something within the limits. When they are reached first it is dropped, which cancels it.
    pub async fn keep<T>(&self, future: impl Future<Output = T>) -> Result<T, Cut> {
        let Some(deadline) = self.deadline else {
            return tokio::select! {
                biased;
                () = signals::interrupted() => Err(Cut::Stop(Stop::Signal)),
                value = future => Ok(value),
            };
        };
        tokio::select! {
            biased;
            () = signals::interrupted() => Err(Cut::Stop(Stop::Signal)),
            // Before the value: a flood always has one ready.
            () = tokio::time::sleep_until(deadline) => Err(Cut::Stop(Stop::Time)),
            value = future => Ok(value),
        }
    }

    /// As [`Limits::keep`], for a call of the plugin. `doing` is as in [`Failure::from_plugin`].
    pub async fn call<T>(
        &self,
        doing: &str,
        target: &str,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Cut> {
        self.keep(future).await?.map_err(|error| Failure::from_plugin(&error, doing, target, false).into())
    }
}

/// The status of a command that a signal broke off; nothing is said.
pub fn interrupted() -> Failure {
    Failure::new(Exit::Interrupted, "")
}

/// Connects within the limits.
///
/// # Errors
/// Also when the limits are reached, since there is nothing yet to be ended well.
pub async fn connect(
    plugin: &Plugin,
    options: &Map<String, Value>,
    context: &Context,
    limits: &Limits,
) -> Result<Connection, Failure> {
    let target = &context.target;
    match limits.keep(Connection::open(plugin, options, context)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(Failure::from_plugin(&error, "connect to", target, true)),
        Err(Cut::Stop(Stop::Time)) => {
            Err(Failure::new(Exit::TimedOut, format!("connect to {target}: time ran out"))
                .hint("give it more with -W, or see with -vv how far it gets"))
        }
        Err(Cut::Stop(_)) => Err(interrupted()),
        Err(Cut::Failed(failure)) => Err(failure),
    }
}

/// A connection and the display of its events.
pub struct Session {
    connection: Arc<Connection>,
    events: Display,
}

impl Session {
    /// As [`connect`].
    pub async fn open(job: &Job, limits: &Limits) -> Result<Session, Failure> {
        let connection = Arc::new(connect(&job.plugin, &job.connection, &job.context, limits).await?);
        let source = Arc::clone(&connection);
        let events = Display::start(job, false, move || {
            let source = Arc::clone(&source);
            async move { source.events().await }
        });
        Ok(Session { connection, events })
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Says goodbye, if the peer lets us.
    pub async fn close(self) {
        if let Err(error) = self.last_word().await {
            log::warn!("{error}");
        }
    }

    /// Says goodbye. The error is what the peer had to say of what counted as sent.
    pub async fn last_word(self) -> Result<(), Error> {
        self.events.closing.store(true, Ordering::Relaxed);
        let last_word = goodbye(self.connection.close()).await;
        self.events.finish().await;
        // A plugin that fails at the end has nothing to tell of what it did before.
        last_word.or_else(|error| if error.kind() == ErrorKind::PANIC { Ok(()) } else { Err(error) })
    }
}

/// A running server and the display of its events.
pub struct Serving {
    server: Arc<Server>,
    events: Display,
}

impl Serving {
    pub async fn start(job: &Job, json: bool) -> Result<Serving, Cut> {
        let starting = Server::start(&job.plugin, &job.options, &job.context);
        let server = Limits::new(None)
            .keep(starting)
            .await?
            .map_err(|error| Failure::from_plugin(&error, "serve", &job.target, false))?;
        let server = Arc::new(server);
        let source = Arc::clone(&server);
        let events = Display::start(job, json, move || {
            let source = Arc::clone(&source);
            async move { source.events().await }
        });
        Ok(Serving { server, events })
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    pub async fn close(self) {
        self.events.closing.store(true, Ordering::Relaxed);
        close(self.server.close()).await;
        self.events.finish().await;
    }
}

/// The display of events.
struct Display {
    task: JoinHandle<()>,
    closing: Arc<AtomicBool>,
}

impl Display {
    fn start<F>(job: &Job, json: bool, next: impl Fn() -> F + Send + 'static) -> Display
    where
        F: Future<Output = Result<Vec<Event>, Error>> + Send,
    {
        let show = Show { verbose: job.global.verbose > 0, quiet: job.global.quiet, json };
        let closing = Arc::new(AtomicBool::new(false));
        let mut shown = Shown::new(show, Arc::clone(&closing));
        let task = tokio::spawn(async move {
            loop {
                match next().await {
                    Ok(events) if events.is_empty() => return,
                    Ok(events) => events.iter().for_each(|event| shown.event(event)),
                    Err(error) => return log::warn!("no more events will be shown: {error}"),
                }
            }
        });
        Display { task, closing }
    }

    /// Shows what is there already: the reason for an end often is among it.
    async fn finish(self) {
        tokio::task::yield_now().await;
        self.task.abort();
    }
}

/// Awaits a part of the goodbye for as long as it may take. By now the command has done its work, so that what goes wrong
/// here is not its failure.
pub async fn close(closing: impl Future<Output = Result<(), Error>>) {
    let _ = goodbye(closing).await;
}

async fn goodbye(closing: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    match tokio::time::timeout(CLOSE_LIMIT, closing).await {
        Ok(closed) => closed.inspect_err(|error| log::info!("while closing: {error}")),
        Err(_) => {
            log::warn!("the peer did not answer the goodbye within {} s", CLOSE_LIMIT.as_secs());
            Ok(())
        }
    }
}
