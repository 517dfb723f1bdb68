//! Waiting for a condition, with a deadline. Tests never sleep for a guessed time.

use std::time::{Duration, Instant};

/// For what takes milliseconds on an idle machine.
pub const SHORT: Duration = Duration::from_secs(20);

/// For what moves tens of thousands of messages.
pub const LONG: Duration = Duration::from_secs(240);

/// How often a condition is looked at again.
const STEP: Duration = Duration::from_millis(5);

/// Asks until there is an answer, or the time has run out.
pub fn until<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(STEP);
    }
}
