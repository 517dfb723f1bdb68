//! No panic leaves the plugin: one that crosses an `extern "C"` function aborts the whole host.

use crate::abi::{Error, ErrorKind, FfiResult};
use abi_stable::std_types::{RErr, ROk};
use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::ops::Deref;
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
    panicked(&text)
}

/// The error of a panic with this text.
pub(super) fn panicked(text: &str) -> Error {
    Error::new(ErrorKind::PANIC, format!("the plugin panicked: {text}"))
        .hint("this is a fault of the plugin: please report it to its author")
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Remembers the text of this thread's panic, for what is dropped by it and has to tell why.
pub(super) fn remember_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("without a message");
    // The thread may be at its end, with nobody left to tell.
    let _ = LAST_PANIC.try_with(|last| text.clone_into(&mut last.borrow_mut()));
}

/// The text of the panic that this thread is unwinding from.
pub(super) fn last_panic() -> String {
    LAST_PANIC.try_with(|last| last.borrow().clone()).unwrap_or_default()
}

/// Something of the plugin's that the host may drop on any thread: its `Drop` finds the plugin's runtime, and if it panics
/// nothing more comes of it.
pub(super) struct Quiet<T>(ManuallyDrop<T>);

impl<T> Quiet<T> {
    pub(super) fn new(value: T) -> Quiet<T> {
        Quiet(ManuallyDrop::new(value))
    }
}

impl<T> Deref for Quiet<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Drop for Quiet<T> {
    fn drop(&mut self) {
        let _context = super::runtime::runtime().enter();
        // SAFETY: the value is not used again.
        let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { ManuallyDrop::drop(&mut self.0) }));
        if let Err(panic) = dropped {
            log::error!("{}", panic_error(panic));
        }
    }
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
