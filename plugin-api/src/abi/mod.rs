//! The frozen binary interface, version 1.
//!
//! Nothing here is ever changed, removed, reordered or renamed. A new function goes to the end of [`Plugin`], a new method
//! goes to the end of its trait with a default body, and everything passed by value has an extension field from the
//! first day. This module is the only one that names `abi_stable`; the types it exports hide it behind plain methods.
//!
//! What may not be assumed of the other side: its allocator, its tokio, its `log`, its panic handler. So buffers carry
//! their own clone and drop functions, futures carry their own poll function, logs go through [`HostApi`], and every
//! function catches its own panics.

mod batch;
mod buffer;
mod check;
mod error;
mod event;
mod header;
mod host;
mod module;
mod outcome;

pub use batch::{Batch, Header, MAX_BATCH, MessageView, Meta, MetaKind, MetaValue, Record, Slice};
pub use buffer::Buffer;
pub use check::{Incompatible, linked, open};
pub use error::{Error, ErrorKind};
pub use event::{Event, EventKind};
pub use header::{HEADER_SYMBOL, ModuleSource, PluginHeader};
pub use host::{HostLog, host_box};
pub use module::{
    ConnectionApi, ConnectionApi_TO, ConnectionBox, FfiFuture, FfiResult, HostApi, HostApi_TO, HostBox,
    Plugin, PluginRef, ServerApi, ServerApi_TO, ServerBox, SubscriptionApi, SubscriptionApi_TO,
    SubscriptionBox,
};
pub use outcome::{Outcome, OutcomeStatus};

use abi_stable::StableAbi;
use abi_stable::std_types::RString;

/// The version of this interface: `major.minor.patch`. A plugin and a host with the same major number can meet.
///
/// - 1.1: [`Plugin::import`], which reads the files of other programs.
pub const API_VERSION: (u32, u32, u32) = (1, 1, 0);

/// A named value added to a by-value type after 1.0; unknown names are ignored.
#[repr(C)]
#[derive(StableAbi, Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    pub name: RString,
    pub value: RString,
}
