//! The command line: one file per command. Only here is anything printed.

pub mod job;

pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
