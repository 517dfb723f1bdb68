//! The functions of a plugin and the objects they return.
//!
//! Options, descriptors and listings cross as JSON texts: they are rare, and JSON may grow without breaking anyone.
//! Messages cross as [`Batch`]es. Dropping a future cancels what it stands for.

use super::{Batch, Error, Event, Outcome};
use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::package_version_strings;
use abi_stable::sabi_trait;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{RBox, RResult, RStr, RString, RVec};

pub type FfiResult<T> = RResult<T, Error>;
pub type FfiFuture<T> = async_ffi::FfiFuture<FfiResult<T>>;
pub type HostBox = HostApi_TO<'static, RBox<()>>;
pub type ConnectionBox = ConnectionApi_TO<'static, RBox<()>>;
pub type SubscriptionBox = SubscriptionApi_TO<'static, RBox<()>>;
pub type ServerBox = ServerApi_TO<'static, RBox<()>>;

/// What a library exports. New functions are added after the last one, and read as absent in an older library.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginRef)))]
#[sabi(missing_field(option))]
pub struct Plugin {
    /// The descriptor, JSON: see [`crate::sdk::Descriptor`]. Callable before `start`.
    pub describe: extern "C" fn() -> FfiResult<RString>,
    /// Called once, before anything below it.
    pub start: extern "C" fn(host: HostBox) -> FfiResult<()>,
    /// Looks at the options and topics of a call without opening anything. `call` is `{"verb", "connection", "options",
    /// "topics"}`.
    pub check: extern "C" fn(call: RString) -> FfiResult<()>,
    pub connect: extern "C" fn(options: RString, context: RString) -> FfiFuture<ConnectionBox>,
    #[sabi(last_prefix_field)]
    pub serve: extern "C" fn(options: RString, context: RString) -> FfiFuture<ServerBox>,
    /// Since 1.1: reads a file of another program, without opening anything. `call` is `{"format", "name"}`; the answer is a
    /// [`crate::sdk::Import`], or `null` when the plugin does not know such files.
    pub import: extern "C" fn(call: RString, content: RVec<u8>) -> FfiResult<RString>,
}

impl RootModule for PluginRef {
    abi_stable::declare_root_module_statics! {PluginRef}
    const BASE_NAME: &'static str = "tracemq_plugin";
    const NAME: &'static str = "tracemq plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

/// What the host offers to a plugin.
#[sabi_trait]
pub trait HostApi: Send + Sync {
    /// `level` is that of the `log` crate: 1 error to 5 trace.
    fn log(&self, level: u32, target: RStr<'_>, message: RStr<'_>);

    /// The most detailed level that the host wants; 0 for none.
    #[sabi(last_prefix_field)]
    fn log_level(&self) -> u32;
}

/// An open connection.
#[sabi_trait]
pub trait ConnectionApi: Send + Sync {
    /// One outcome for each message of the batch, in its order. `options` is JSON by the publish schema.
    fn publish(&self, batch: Batch, options: RString) -> FfiFuture<RVec<Outcome>>;

    /// `topics` is a JSON list of texts, `options` JSON by the subscribe schema.
    fn subscribe(&self, topics: RString, options: RString) -> FfiFuture<SubscriptionBox>;

    /// Sends the batch's one message; the answers arrive on the subscription, which ends when there can be no more.
    fn request(&self, batch: Batch, options: RString) -> FfiFuture<SubscriptionBox>;

    /// What is there, as JSON `{"columns": [..], "rows": [..]}`; `what` may be empty.
    fn list(&self, what: RString) -> FfiFuture<RString>;

    /// Waits for the next events; an empty list means that no more will come.
    fn events(&self) -> FfiFuture<RVec<Event>>;

    /// Flushes, says goodbye as the protocol does, and closes. An error says that the peer refused in the end what it had
    /// been sent.
    #[sabi(last_prefix_field)]
    fn close(&self) -> FfiFuture<()>;
}

/// A stream of messages. Dropping it ends the subscription.
#[sabi_trait]
pub trait SubscriptionApi: Send + Sync {
    /// Waits for at least one message and returns at most `max`. Asking again says that everything returned before has
    /// been dealt with: a protocol with acknowledgements acknowledges it then, and not earlier.
    fn next_batch(&self, max: u32) -> FfiFuture<Batch>;

    /// Says that everything returned so far has been dealt with, and ends the subscription in the protocol's way.
    #[sabi(last_prefix_field)]
    fn close(&self) -> FfiFuture<()>;
}

/// A running server.
#[sabi_trait]
pub trait ServerApi: Send + Sync {
    /// The URLs at which clients reach it, most useful first.
    fn addresses(&self) -> RVec<RString>;

    /// What clients send to it.
    fn messages(&self) -> FfiFuture<SubscriptionBox>;

    /// Sends to the server's clients.
    fn publish(&self, batch: Batch, options: RString) -> FfiFuture<RVec<Outcome>>;

    fn events(&self) -> FfiFuture<RVec<Event>>;

    /// Disconnects the clients and closes the listeners.
    #[sabi(last_prefix_field)]
    fn close(&self) -> FfiFuture<()>;
}
