//! Signals that ask a command to end: SIGINT, SIGTERM, SIGHUP.
//!
//! The first one asks, the second one ends the process at once, and a command that has not ended in time is ended. A thread
//! of its own watches them, because the command's own thread may be in a write that nobody reads: that thread is nudged out
//! of its system call by a SIGURG, which nothing else uses and which does nothing, again and again until it has noticed.

use crate::output::events;
use std::io;
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long a command may take to end after it was asked; a little longer than [`super::run::CLOSE_LIMIT`].
const LIMIT: Duration = Duration::from_secs(3);
const NUDGE: Duration = Duration::from_millis(50);

static FIRST: AtomicI32 = AtomicI32::new(0);
static NOTICED: AtomicBool = AtomicBool::new(false);
static NOTIFY: Notify = Notify::const_new();
/// The end of the pipe that the handler writes to.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// Whether a signal has asked the command to end.
pub fn pending() -> bool {
    FIRST.load(Ordering::Acquire) != 0
}

/// Waits for a signal.
pub async fn interrupted() {
    let notified = NOTIFY.notified();
    tokio::pin!(notified);
    notified.as_mut().enable();
    if !pending() {
        notified.await;
    }
    NOTICED.store(true, Ordering::Release);
}

/// Starts to watch, from the thread that runs the command. `status` is the exit status of a process that has to be ended.
///
/// # Errors
/// When the system gives no pipe, handler or thread.
pub fn watch(status: i32) -> io::Result<()> {
    static STARTED: OnceLock<()> = OnceLock::new();
    if STARTED.set(()).is_err() {
        return Ok(());
    }
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    if unsafe { libc::pipe(ends.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let [read, write] = ends;
    for end in ends {
        // SAFETY: descriptors of our own. Children must not inherit them.
        unsafe { libc::fcntl(end, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    // SAFETY: as above. A handler must not wait.
    unsafe { libc::fcntl(write, libc::F_SETFL, libc::O_NONBLOCK) };
    PIPE.store(write, Ordering::Release);
    // SAFETY: always succeeds.
    let command = unsafe { libc::pthread_self() };
    std::thread::Builder::new()
        .name("tracemq-signals".into())
        .stack_size(128 * 1024)
        .spawn(move || watcher(read, command, status))?;

    handle(libc::SIGURG, nudged, 0)?;
    handle(libc::SIGINT, asked, libc::SA_RESTART)?;
    handle(libc::SIGTERM, asked, libc::SA_RESTART)?;
    if !ignored(libc::SIGHUP) {
        handle(libc::SIGHUP, asked, libc::SA_RESTART)?;
    }
    Ok(())
}

extern "C" fn asked(_signal: libc::c_int) {
    // SAFETY: a handler may call `write`. It can only fail on a full pipe, which then holds more than the two that count.
    unsafe { libc::write(PIPE.load(Ordering::Acquire), [0_u8].as_ptr().cast(), 1) };
}

extern "C" fn nudged(_signal: libc::c_int) {}

fn handle(signal: i32, handler: extern "C" fn(libc::c_int), flags: i32) -> io::Result<()> {
    // SAFETY: a zeroed `sigaction` is valid: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = flags;
    // SAFETY: the handlers call only what handlers may call.
    match unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the one who started us wants the signal ignored, as `nohup` does.
fn ignored(signal: i32) -> bool {
    // SAFETY: as above; this only asks.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

fn watcher(pipe: RawFd, command: libc::pthread_t, status: i32) {
    while !arrived(pipe, None) {}
    FIRST.store(1, Ordering::Release);
    NOTIFY.notify_waiters();
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        if arrived(pipe, Some(NUDGE)) {
            exit(status);
        }
        if !NOTICED.load(Ordering::Acquire) {
            // SAFETY: the command's thread is the main one and lives as long as the process.
            unsafe { libc::pthread_kill(command, libc::SIGURG) };
        }
    }
    events::line(&format!("not ended within {} s after being asked to: gave up", LIMIT.as_secs()));
    exit(status);
}

/// Ends the process without running anything more: destructors of libraries might wait for what hangs.
fn exit(status: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(status) }
}

/// Waits for a signal, at most so long.
fn arrived(pipe: RawFd, limit: Option<Duration>) -> bool {
    let mut descriptor = libc::pollfd { fd: pipe, events: libc::POLLIN, revents: 0 };
    let limit = limit.map_or(-1, |limit| limit.as_millis() as i32);
    // SAFETY: one descriptor, on the stack.
    if unsafe { libc::poll(&mut descriptor, 1, limit) } <= 0 {
        return false;
    }
    let mut byte = [0_u8];
    // SAFETY: room for one byte.
    unsafe { libc::read(pipe, byte.as_mut_ptr().cast(), 1) == 1 }
}
