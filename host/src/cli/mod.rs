//! The command line: one file per command. Only here is anything printed.

pub mod job;
mod lines;
mod outcomes;
mod payload;
mod pipeline;
mod publish;
mod run;
pub mod signals;
mod subscribe;

pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
