//! No panic leaves the plugin: one that crosses an `extern "C"` function aborts the whole host.

use crate::abi::{Error, ErrorKind, FfiResult};
use abi_stable::std_types::{RErr, ROk};
use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Runs a function; a panic becomes an error with its text.
pub(super) fn guard<T>(run: impl FnOnce() -> super::Result<T>) -> FfiResult<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => ROk(value),
        Ok(Err(error)) => RErr(error),
        Err(panic) => RErr(panic_error(panic)),
    }
}

pub(super) fn panic_error(panic: Box<dyn Any + Send>) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned());
    // A panic's payload may itself panic when it is dropped.
    std::mem::forget(panic);
    Error::new(ErrorKind::PANIC, format!("the plugin panicked: {text}"))
        .hint("this is a fault of the plugin: please report it to its author")
}

/// A future whose polls are guarded.
pub(super) struct Guarded<F>(pub(super) Pin<Box<F>>);

impl<T, F: Future<Output = super::Result<T>>> Future for Guarded<F> {
    type Output = FfiResult<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<FfiResult<T>> {
        let inner = self.0.as_mut();
        match catch_unwind(AssertUnwindSafe(|| inner.poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(value))) => Poll::Ready(ROk(value)),
            Ok(Poll::Ready(Err(error))) => Poll::Ready(RErr(error)),
            Err(panic) => Poll::Ready(RErr(panic_error(panic))),
        }
    }
}
