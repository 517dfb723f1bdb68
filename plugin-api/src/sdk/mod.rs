//! What a plugin is written against: safe, async, typed.
//!
//! The sdk owns what every plugin would otherwise do for itself, and get wrong: a tokio runtime of the plugin's own
//! (a future that needs a reactor must never be polled by the host's), a guard round every function that turns a panic
//! into an error, logs that reach the host, schemas made from the option structs, and bounded queues.

mod adapter;
mod batch;
mod descriptor;
mod duration;
mod events;
mod export;
mod feed;
mod guard;
mod import;
mod logging;
mod outcomes;
mod protocol;
mod queue;
mod runtime;
mod steps;
mod turns;

pub use crate::abi::{
    Batch, Buffer, Error, ErrorKind, Event, EventKind, MAX_BATCH, MessageView, MetaValue, Outcome,
    OutcomeStatus,
};
#[doc(hidden)]
pub use adapter::Adapter;
pub use batch::{BatchBuilder, BufferId, MetaRange, Part, RecordMut};
pub use descriptor::{About, Descriptor, Schemas, Scheme, Topics, Verb, Wanted};
pub use duration::Span;
pub use events::Events;
pub use feed::{Fed, Feed};
pub use import::{Fields, Import, ImportFile, ImportFormat, ImportedFile, ImportedProfile};
pub use outcomes::Outcomes;
pub use protocol::{Call, Connection, Context, NoOptions, NoServer, Options, Protocol, Server};
pub use queue::{BatchSender, Permit, Subscription, queue};
pub use runtime::spawn;
pub use steps::{STEP_TARGET, Step, StepRecord, StepState};

/// The result of everything that a plugin does for the host.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Nanoseconds since 1970-01-01 UTC, as messages and events carry it.
pub fn now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
