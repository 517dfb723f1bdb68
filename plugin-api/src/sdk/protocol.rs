//! The traits that a plugin implements.

use super::{About, Batch, Error, Events, Import, ImportFile, Outcome, Result, Subscription, Verb};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

/// A struct of options: flat, of texts, numbers, booleans, choices, lists of texts and name-value pairs.
pub trait Options: DeserializeOwned + JsonSchema + Send + Sync + 'static {}

impl<T: DeserializeOwned + JsonSchema + Send + Sync + 'static> Options for T {}

/// For what has no options.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct NoOptions {}

/// A protocol: what [`crate::export_plugin!`] exports.
pub trait Protocol: Sized + 'static {
    /// The options of a connection. The target's URL is in `Context`.
    type Connect: Options;
    type Serve: Options;
    type Connection: Connection;
    /// [`NoServer`] for a plugin that does not serve.
    type Server: Server;

    /// Threads of the plugin's runtime, at least 1. One is best where the work is I/O: a second one that is woken for each
    /// packet costs more than it brings. More are for a protocol whose tasks hand much to one another.
    const WORKERS: usize = 1;

    /// How the log targets begin of libraries that cry over what the plugin itself tells of: their records reach the host as debug
    /// at most.
    const QUIETED: &'static [&'static str] = &[];

    fn about() -> About;

    /// Opens a connection: it returns when the peer has accepted it.
    fn connect(
        options: Self::Connect,
        context: Context,
    ) -> impl Future<Output = Result<Self::Connection>> + Send;

    /// Starts a server: it returns when it listens.
    fn serve(options: Self::Serve, context: Context) -> impl Future<Output = Result<Self::Server>> + Send {
        let _ = (options, context);
        async { Err(Error::unsupported("this plugin can't serve")) }
    }

    /// Looks at a call before anything is opened. The sdk has already checked that the options fit their types.
    fn check(call: &Call<'_, Self>) -> Result<()> {
        let _ = call;
        Ok(())
    }

    /// Reads a file of another program: one of the formats that [`About::import`] names, or, when none is given, whichever it
    /// turns out to be. `None`: it is a file of none of them. Since 1.1.
    ///
    /// # Errors
    /// The file is of a known format but can't be used: kind config, naming the place and repeating no value.
    fn import(file: &ImportFile<'_>) -> Result<Option<Import>> {
        let _ = file;
        Ok(None)
    }
}

/// A call that is about to be made.
pub struct Call<'a, P: Protocol> {
    pub verb: Verb,
    /// The target's URL, when there is one.
    pub url: Option<&'a str>,
    /// `None` when serving.
    pub connect: Option<&'a P::Connect>,
    pub topics: &'a [String],
    pub publish: Option<&'a <P::Connection as Connection>::Publish>,
    pub subscribe: Option<&'a <P::Connection as Connection>::Subscribe>,
    pub serve: Option<&'a P::Serve>,
}

/// What the host tells about the place and manner of a connection or server.
#[derive(Clone)]
pub struct Context {
    pub(super) facts: Facts,
    pub(super) events: Events,
}

/// The JSON form of a context. Fields added later have defaults.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Facts {
    #[serde(default)]
    pub url: Option<String>,
    #[serde(default)]
    pub target: String,
    #[serde(default)]
    pub reconnect: bool,
    #[serde(default)]
    pub state_dir: Option<PathBuf>,
    #[serde(default)]
    pub host: String,
    #[serde(default)]
    pub guarded: bool,
    #[serde(default)]
    pub probing: bool,
}

impl Context {
    /// The target's URL, with user and password if it was written with them.
    pub fn url(&self) -> Option<&str> {
        self.facts.url.as_deref()
    }

    /// The target as it may be shown: a profile's name, or the URL without its password.
    pub fn target(&self) -> &str {
        &self.facts.target
    }

    /// Whether a lost connection is to be made again.
    pub fn reconnect(&self) -> bool {
        self.facts.reconnect
    }

    /// A folder of the user's, mode 0700, for what must outlive the process. `None`: nothing may be kept.
    pub fn state_dir(&self) -> Option<&std::path::Path> {
        self.facts.state_dir.as_deref()
    }

    /// The host's name and version, for where a protocol carries such a thing.
    pub fn host(&self) -> &str {
        &self.facts.host
    }

    /// Whether the target is a profile that its owner guards: nothing may be done with it that would weaken it.
    pub fn guarded(&self) -> bool {
        self.facts.guarded
    }

    /// Whether the connection is made only to find out if there is somebody who answers. A protocol that would say nothing
    /// to the peer before the first message asks it for a sign of life then, and returns when it has come.
    pub fn probing(&self) -> bool {
        self.facts.probing
    }

    pub fn events(&self) -> &Events {
        &self.events
    }
}

/// An open connection. Dropping it closes it, `close` closes it well.
pub trait Connection: Send + Sync + 'static {
    type Publish: Options;
    type Subscribe: Options;

    /// Sends the messages in order and waits until the protocol's own confirmation of each, where it has one. Several calls
    /// may be under way: each is polled for the first time after the one before it, so what is put into a queue before the
    /// first wait stays in order.
    fn publish(
        &self,
        batch: Batch,
        options: Arc<Self::Publish>,
    ) -> impl Future<Output = Result<Vec<Outcome>>> + Send {
        let _ = (batch, options);
        async { Err(Error::unsupported("this plugin can't publish")) }
    }

    /// Returns when the peer has accepted the subscription.
    fn subscribe(
        &self,
        topics: Vec<String>,
        options: Self::Subscribe,
    ) -> impl Future<Output = Result<Subscription>> + Send {
        let _ = (topics, options);
        async { Err(Error::unsupported("this plugin can't subscribe")) }
    }

    /// Sends one message and returns the stream of its answers, which ends when there can be no more.
    fn request(
        &self,
        batch: Batch,
        options: Arc<Self::Publish>,
    ) -> impl Future<Output = Result<Subscription>> + Send {
        let _ = (batch, options);
        async { Err(Error::unsupported("this plugin can't send requests")) }
    }

    /// What is there, as `{"columns": [..], "rows": [[..]..]}`.
    fn list(&self, what: Option<String>) -> impl Future<Output = Result<serde_json::Value>> + Send {
        let _ = what;
        async { Err(Error::unsupported("this plugin can't list anything")) }
    }

    /// Flushes, says goodbye and closes.
    ///
    /// # Errors
    /// The peer refused in the end what `publish` had called sent: the command that published fails with it.
    fn close(&self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }
}

/// A running server. Dropping it stops it.
pub trait Server: Send + Sync + 'static {
    type Publish: Options;

    /// The URLs at which it can be reached, the most useful first.
    fn addresses(&self) -> Vec<String>;

    /// What clients send to it. Called once.
    fn messages(&self) -> Result<Subscription>;

    fn publish(
        &self,
        batch: Batch,
        options: Arc<Self::Publish>,
    ) -> impl Future<Output = Result<Vec<Outcome>>> + Send {
        let _ = (batch, options);
        async { Err(Error::unsupported("this server can't publish")) }
    }

    fn close(&self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }
}

/// The server of a plugin that has none.
pub enum NoServer {}

impl Server for NoServer {
    type Publish = NoOptions;

    fn addresses(&self) -> Vec<String> {
        match *self {}
    }

    fn messages(&self) -> Result<Subscription> {
        match *self {}
    }
}
