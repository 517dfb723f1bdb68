//! A plugin's own `log` facade and panic hook are not the host's: both are forwarded.

use crate::abi::HostBox;
use log::{Level, LevelFilter, Log, Metadata, Record};

struct Forward {
    host: HostBox,
    /// [`Protocol::QUIETED`](super::Protocol::QUIETED).
    quieted: &'static [&'static str],
}

/// tungstenite traces whole handshakes, with the credentials in their headers.
fn tells_secrets(metadata: &Metadata<'_>) -> bool {
    metadata.level() == Level::Trace && metadata.target().starts_with("tungstenite")
}

impl Forward {
    fn level(&self, metadata: &Metadata<'_>) -> Level {
        match self.quieted.iter().any(|target| metadata.target().starts_with(target)) {
            true => metadata.level().max(Level::Debug),
            false => metadata.level(),
        }
    }
}

impl Log for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.level(metadata) <= log::max_level() && !tells_secrets(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let text = record.args().to_string();
            self.host.log(self.level(record.metadata()) as u32, record.target().into(), text.as_str().into());
        }
    }

    fn flush(&self) {}
}

/// Sends this library's log lines to the host. Linked into the host, the plugin shares its logger and nothing is done.
pub(super) fn forward(host: HostBox, quieted: &'static [&'static str]) {
    let level = match host.log_level() {
        0 => LevelFilter::Off,
        1 => LevelFilter::Error,
        2 => LevelFilter::Warn,
        3 => LevelFilter::Info,
        4 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    if log::set_boxed_logger(Box::new(Forward { host, quieted })).is_ok() {
        log::set_max_level(level);
        // The text of a panic travels in the error; here goes the place, for the plugin's author.
        std::panic::set_hook(Box::new(|panic| {
            super::guard::remember_panic(panic);
            log::debug!(target: "panic", "{panic}");
        }));
    }
}
