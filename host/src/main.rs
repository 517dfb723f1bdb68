//! `tracemq`: one small host that knows no protocol, and plugins that do.

mod cli;
mod failure;
mod folders;
mod plugins;
mod session;

fn main() -> std::process::ExitCode {
    cli::main()
}
