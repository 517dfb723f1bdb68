//! The plugin's own tokio runtime.
//!
//! Each library has its own copy of tokio: a future that needs a reactor must run here, never on the host's threads. So
//! every call that does I/O is spawned, and the host awaits only its end. Dropping the host's future aborts the task.

use super::guard::{Guarded, panic_error};
use crate::abi::{Error, ErrorKind, FfiFuture};
use abi_stable::std_types::{RErr, ROk};
use async_ffi::FutureExt;
use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// As many as the protocol wants that wants the most: of plugins that are linked into one program, several share a runtime.
static WORKERS: AtomicUsize = AtomicUsize::new(1);

/// Asks for so many threads. It is too late when the runtime is there.
pub(super) fn want_workers(count: usize) {
    WORKERS.fetch_max(count, Ordering::Relaxed);
}

pub(super) fn runtime() -> &'static Runtime {
    RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(WORKERS.load(Ordering::Relaxed))
            .thread_name("tracemq-plugin")
            .enable_all()
            .build()
            .expect("the system can start a thread")
    })
}

/// Starts a task on the plugin's runtime, from any thread.
pub fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    runtime().spawn(task)
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A call that runs on the plugin's runtime and is awaited by the host.
pub(super) fn call<T, F>(task: F) -> FfiFuture<T>
where
    T: Send + 'static,
    F: Future<Output = super::Result<T>> + Send + 'static,
{
    let mut task = AbortOnDrop(spawn(task));
    async move {
        match (&mut task.0).await {
            Ok(Ok(value)) => ROk(value),
            Ok(Err(error)) => RErr(error),
            Err(failed) if failed.is_panic() => RErr(panic_error(failed.into_panic())),
            Err(_) => RErr(Error::new(ErrorKind::CLOSED, "the plugin is shutting down")),
        }
    }
    .into_ffi()
}

/// A call that needs no reactor, only `tokio::sync`: it may be polled on any thread, and costs no hop.
pub(super) fn direct<T, F>(task: F) -> FfiFuture<T>
where
    T: Send + 'static,
    F: Future<Output = super::Result<T>> + Send + 'static,
{
    Guarded(Box::pin(task)).into_ffi()
}
