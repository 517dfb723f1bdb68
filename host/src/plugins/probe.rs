//! Asking a library what it is, in a child process: one that crashes or hangs when it is opened must not take the host
//! along.
//!
//! The child is this same program, started with a hidden argument that is looked at before anything else. The library comes
//! as its standard input, so that what is opened is the very file that was found to be trusted.

use super::descriptor;
use super::entry::quoted;
use super::loader::{self, Fault};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use tracemq_plugin_api::sdk::{Descriptor, ErrorKind};

const ARGUMENT: &str = "__probe";

/// The longest answer: descriptors are some tens of KiB.
const LONGEST: u64 = 1024 * 1024;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Shortens the time limit in tests.
const TIMEOUT_VARIABLE: &str = "TRACEMQ_PROBE_TIMEOUT_MS";

const REPORT: &str = "report this to the plugin's author";

/// The child's one line.
#[derive(Serialize, Deserialize)]
enum Answer {
    Descriptor(String),
    Fault { text: String, passing: bool },
}

/// Asks a trusted library what it is. `path` is for messages.
pub fn probe(path: &Path, library: File) -> Result<Descriptor, Fault> {
    let limit = std::env::var(TIMEOUT_VARIABLE).ok().and_then(|text| text.parse().ok());
    let limit = limit.map_or(TIMEOUT, Duration::from_millis);
    let mut child =
        start(path, library).map_err(|error| Fault::passing(format!("can't be probed: {error}")))?;
    let answer = receive(&mut child, limit);
    // It has answered, ended or hangs: in each case it has nothing left to do.
    let _ = child.kill();
    let status = child.wait().map_err(|error| Fault::passing(format!("can't be probed: {error}")))?;
    let Some(answer) = answer else {
        let seconds = limit.as_secs_f64();
        return Err(Fault::of_file(format!(
            "hangs when it is opened: no answer within {seconds} s; `tracemq plugin info {}` tries again",
            quoted(path)
        )));
    };
    if answer.last() != Some(&b'\n') {
        let too_long = answer.len() as u64 > LONGEST;
        return Err(if too_long { Fault::of_file(TOO_LONG) } else { died(status) });
    }
    match serde_json::from_slice(&answer) {
        Ok(Answer::Descriptor(text)) => descriptor::parse(&text)
            .map_err(|rule| Fault::of_file(format!("has an invalid descriptor: {rule}; {REPORT}"))),
        Ok(Answer::Fault { text, passing }) => Err(Fault { text, passing }),
        Err(error) => Err(Fault::passing(format!("can't be probed: the answer makes no sense: {error}"))),
    }
}

const TOO_LONG: &str =
    "has an invalid descriptor: it is longer than 1 MiB; report this to the plugin's author";

fn start(path: &Path, library: File) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .arg(ARGUMENT)
        .arg(path)
        .stdin(library)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

/// The child's line, or as much as came before it ended or said too much; `None` when time ran out.
fn receive(child: &mut Child, limit: Duration) -> Option<Vec<u8>> {
    let output = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = Vec::new();
        let _ = BufReader::new(output.take(LONGEST + 1)).read_until(b'\n', &mut line);
        let _ = sender.send(line);
    });
    receiver.recv_timeout(limit).ok()
}

fn died(status: ExitStatus) -> Fault {
    match status.signal() {
        // The kernel, short of memory, or an administrator.
        Some(libc::SIGKILL) => Fault::passing("was killed when it was opened (SIGKILL); try again"),
        Some(signal) => {
            Fault::of_file(format!("crashes when it is opened ({}); {REPORT}", signal_name(signal)))
        }
        None => {
            let code = status.code().unwrap_or_default();
            Fault::of_file(format!("ends the program when it is opened (exit status {code}); {REPORT}"))
        }
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "SIGILL",
        libc::SIGFPE => "SIGFPE",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGSYS => "SIGSYS",
        libc::SIGTERM => "SIGTERM",
        libc::SIGPIPE => "SIGPIPE",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

/// When this process is a probe, does its work; called before anything else.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ARGUMENT {
        return None;
    }
    let path = PathBuf::from(arguments.next()?);
    Some(match answer_about(&path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

fn answer_about(path: &Path) -> std::io::Result<()> {
    guard_system();
    // What the library reads, or prints, must not mix with what is said here.
    let library = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut output = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let null = File::options().read(true).write(true).open("/dev/null")?;
    for stream in [libc::STDIN_FILENO, libc::STDOUT_FILENO] {
        // SAFETY: both descriptors are open; nothing else runs yet that could use the one replaced.
        if unsafe { libc::dup2(null.as_raw_fd(), stream) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    let answer = match describe(path, library) {
        Ok(text) => Answer::Descriptor(text),
        Err(Fault { text, passing }) => Answer::Fault { text, passing },
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    output.write_all(&line)?;
    // SAFETY: the process ends here, without the library's exit handlers and destructors.
    unsafe { libc::_exit(0) }
}

fn describe(path: &Path, library: File) -> Result<String, Fault> {
    let module = loader::open_file(library, path)?;
    (module.describe())().into_result().map(String::from).map_err(|error| {
        let message = error.message();
        Fault::of_file(if error.kind() == ErrorKind::PANIC {
            let message = message.strip_prefix("the plugin panicked: ").unwrap_or(message);
            let message = message.lines().next().unwrap_or_default();
            format!("panics when it is asked to describe itself: {message}; {REPORT}")
        } else {
            format!("can't describe itself: {message}; {REPORT}")
        })
    })
}

/// No core file of a plugin's crash, no probe that outlives who asked, and signals that end the process: Rust's own handler
/// for stack overflows would let a library survive a signal that it sends to itself.
fn guard_system() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the default action has no code that could run at a bad moment.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is valid for the call.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
    #[cfg(target_os = "linux")]
    // SAFETY: this option takes a signal number.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL)
    };
}
