//! `tracemq`: one small host that knows no protocol, and plugins that do.

// Nothing of a program is visible outside of it: `pub` says what a module offers to the others.
#![allow(unreachable_pub)]

mod cli;
mod failure;
mod folders;
mod logging;
mod options;
mod output;
mod plugins;
mod profiles;
mod redact;
mod session;
mod share;
mod terminal;
mod vault;

fn main() -> std::process::ExitCode {
    redact::guard_panics();
    plugins::run_if_asked().unwrap_or_else(cli::main)
}
