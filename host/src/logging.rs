//! Log records, the host's own and those of plugins, on stderr: a line each.
//!
//! `-v` counted decides which: warnings, then info, debug, trace; with `-q` only errors. Records may hold text from the
//! network, so that what would act on a terminal is escaped.

use crate::cli::job::Global;
use crate::output::escape;
use crate::redact;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::io::{IsTerminal, Write};

struct Stderr {
    colour: bool,
    level: LevelFilter,
}

/// Starts logging. To be called once, before any plugin is loaded.
pub fn start(global: &Global) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => LevelFilter::Error,
        (false, 0) => LevelFilter::Warn,
        (false, 1) => LevelFilter::Info,
        (false, 2) => LevelFilter::Debug,
        (false, _) => LevelFilter::Trace,
    };
    // https://no-color.org: present and not empty.
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let logger = Stderr { colour: !plain && std::io::stderr().is_terminal(), level };
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level);
    }
}

/// Has plugins tell all that they would at debug level, for who listens to them ([`crate::plugins::steps`]); what is shown
/// stays the same. To be called after [`start`], and before any plugin is loaded.
pub fn hear_debug() {
    log::set_max_level(log::max_level().max(LevelFilter::Debug));
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // With stderr gone there is nobody left to tell.
            let _ = std::io::stderr().write_all(line(record, self.colour).as_bytes());
        }
    }

    fn flush(&self) {}
}

fn line(record: &Record<'_>, colour: bool) -> String {
    let (name, code) = match record.level() {
        Level::Error => ("error", "31"),
        Level::Warn => ("warning", "33"),
        Level::Info => ("info", "32"),
        Level::Debug => ("debug", "36"),
        Level::Trace => ("trace", "90"),
    };
    let text = record.args().to_string();
    let text = redact::text(&text);
    let text = escape::line(&text);
    let name = if colour { format!("\x1b[{code}m{name}\x1b[0m") } else { name.to_owned() };
    match record.level() {
        // Where a line comes from matters to those who look for a fault.
        Level::Debug | Level::Trace => format!("{name}: {}: {text}\n", escape::line(record.target())),
        _ => format!("{name}: {text}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(level: Level, colour: bool, text: &str) -> String {
        line(&Record::builder().level(level).target("demo").args(format_args!("{text}")).build(), colour)
    }

    #[test]
    fn one_line_each_and_nothing_that_acts() {
        assert_eq!(shown(Level::Warn, false, "a\nb\x1b[2J"), "warning: a\\nb\\x1b[2J\n");
        assert_eq!(shown(Level::Debug, false, "x"), "debug: demo: x\n");
        assert_eq!(shown(Level::Error, true, "x"), "\x1b[31merror\x1b[0m: x\n");
    }
}
