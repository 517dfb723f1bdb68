//! Runs a command and tells what it took: `measured PROGRAM [ARGUMENT]…` writes `WALL CPU PEAK` to standard error: seconds,
//! seconds of user and system time, KiB of resident memory.
//!
//! A small program of its own, because a process inherits the peak memory of the one it was forked from. The command's own
//! output to standard error is thrown away; its status is passed on.

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().ok_or("usage: measured PROGRAM [ARGUMENT]…")?;
    let began = Instant::now();
    let status = Command::new(program).args(arguments).stderr(Stdio::null()).status()?;
    let wall = began.elapsed().as_secs_f64();
    // SAFETY: a zeroed `rusage` is valid, and is filled in.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: as above. The one child is the only one that was waited for.
    if unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) } != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let cpu = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    writeln!(std::io::stderr(), "{wall} {cpu} {}", usage.ru_maxrss)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
