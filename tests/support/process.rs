//! Child processes that can't outlive their test, whose output is captured and whose every wait has a limit.

use crate::wait::{SHORT, until};
use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A command to be started.
#[derive(Debug)]
pub struct Cmd {
    pub(crate) command: Command,
    pub(crate) shown: String,
    stdin: Input,
    read_stdout: bool,
    limit: Duration,
}

#[derive(Debug)]
enum Input {
    Nothing,
    Text(Vec<u8>),
    Kept,
}

impl Cmd {
    pub fn new(program: impl AsRef<OsStr>) -> Cmd {
        let program = program.as_ref();
        let shown = Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned();
        Cmd { command: Command::new(program), shown, stdin: Input::Nothing, read_stdout: true, limit: SHORT }
    }

    /// A program of a peer, looked for where Debian puts it. Panics if it is not installed.
    pub fn peer(program: &str) -> Cmd {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        match folders.map(|folder| folder.join(program)).find(|file| file.is_file()) {
            Some(file) => Cmd::new(file),
            None => panic!("{program} is missing: scripts/test installs it"),
        }
    }

    pub fn arg(self, argument: impl AsRef<OsStr>) -> Cmd {
        self.args([argument])
    }

    pub fn args<I, A>(mut self, arguments: I) -> Cmd
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        for argument in arguments {
            self.shown.push(' ');
            self.shown.push_str(&argument.as_ref().to_string_lossy());
            self.command.arg(argument);
        }
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Cmd {
        self.command.env(name, value);
        self
    }

    pub fn env_remove(mut self, name: &str) -> Cmd {
        self.command.env_remove(name);
        self
    }

    pub fn cwd(mut self, folder: impl AsRef<Path>) -> Cmd {
        self.command.current_dir(folder);
        self
    }

    /// All of standard input. Without this and [`Cmd::keep_stdin`] it is empty.
    pub fn stdin(mut self, text: impl Into<Vec<u8>>) -> Cmd {
        self.stdin = Input::Text(text.into());
        self
    }

    /// Standard input stays open, for [`Run::write`].
    pub fn keep_stdin(mut self) -> Cmd {
        self.stdin = Input::Kept;
        self
    }

    /// Nobody reads standard output until [`Run::read_stdout`]: the pipe fills.
    pub fn leave_stdout(mut self) -> Cmd {
        self.read_stdout = false;
        self
    }

    /// The same command run by another program, which is given it with its arguments.
    pub fn wrapped_in(self, program: &str, arguments: &[&str]) -> Cmd {
        let mut outer = Cmd::peer(program).args(arguments);
        outer.command.arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => outer.command.env(name, value),
                None => outer.command.env_remove(name),
            };
        }
        if let Some(folder) = self.command.get_current_dir() {
            outer.command.current_dir(folder);
        }
        Cmd { command: outer.command, shown: format!("{} {}", outer.shown, self.shown), ..self }
    }

    /// How long [`Run::wait`] and [`Cmd::finish`] wait.
    pub fn limit(mut self, limit: Duration) -> Cmd {
        self.limit = limit;
        self
    }

    pub fn start(mut self) -> Run {
        let stdin = if matches!(self.stdin, Input::Nothing) { Stdio::null() } else { Stdio::piped() };
        self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            self.command.spawn().unwrap_or_else(|error| panic!("starting {}: {error}", self.shown));
        let mut pipe = child.stdin.take();
        let mut writer = None;
        if let Input::Text(text) = self.stdin {
            let mut pipe = pipe.take().expect("stdin is a pipe");
            // In a thread: the child may write before it has read all. It may also end early: not this one's business.
            writer = Some(std::thread::spawn(move || drop(pipe.write_all(&text))));
        }
        let stderr = Captured::of(child.stderr.take().expect("stderr is a pipe"));
        let unread = child.stdout.take().expect("stdout is a pipe");
        let (stdout, unread) =
            if self.read_stdout { (Captured::of(unread), None) } else { (Captured::default(), Some(unread)) };
        Run {
            child,
            stdin: pipe,
            writer,
            stdout,
            stderr,
            unread,
            shown: self.shown,
            limit: self.limit,
            status: None,
        }
    }

    /// Starts it and waits for its end.
    pub fn finish(self) -> Done {
        self.start().wait()
    }
}

/// What a pipe has brought so far, filled by a thread.
#[derive(Default)]
struct Captured {
    shared: Arc<(Mutex<Text>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    ended: bool,
}

impl Captured {
    fn of(mut pipe: impl Read + Send + 'static) -> Captured {
        let shared = Arc::new((Mutex::new(Text::default()), Condvar::new()));
        let filled = shared.clone();
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            loop {
                let count = pipe.read(&mut buffer).unwrap_or(0);
                let mut text = filled.0.lock().unwrap_or_else(PoisonError::into_inner);
                text.bytes.extend_from_slice(&buffer[..count]);
                text.ended = count == 0;
                filled.1.notify_all();
                if text.ended {
                    return;
                }
            }
        });
        Captured { shared, reader: Some(reader) }
    }

    fn lock(&self) -> MutexGuard<'_, Text> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().bytes).into_owned()
    }

    /// The first line, complete or not, of which `wanted` is true.
    fn wait_line(&self, limit: Duration, wanted: &dyn Fn(&str) -> bool) -> Option<String> {
        let end = Instant::now() + limit;
        let mut looked = 0;
        let mut text = self.lock();
        loop {
            while let Some(length) = text.bytes[looked..].iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&text.bytes[looked..looked + length]).into_owned();
                looked += length + 1;
                if wanted(&line) {
                    return Some(line);
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if text.ended || left.is_zero() {
                return None;
            }
            text = self.shared.1.wait_timeout(text, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A running process. Dropping it kills it.
pub struct Run {
    child: Child,
    stdin: Option<ChildStdin>,
    writer: Option<JoinHandle<()>>,
    stdout: Captured,
    stderr: Captured,
    unread: Option<std::process::ChildStdout>,
    shown: String,
    limit: Duration,
    status: Option<ExitStatus>,
}

impl Run {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Complete lines on standard output so far.
    pub fn stdout_lines(&self) -> usize {
        self.stdout.lock().bytes.iter().filter(|byte| **byte == b'\n').count()
    }

    /// Waits for a line on standard output that contains `part`, and returns it.
    pub fn wait_stdout(&self, part: &str) -> String {
        self.wait_stdout_by(SHORT, part, &|line| line.contains(part))
    }

    /// Likewise, for a line of any shape. `what` is for the message of the panic.
    pub fn wait_stdout_by(&self, limit: Duration, what: &str, wanted: &dyn Fn(&str) -> bool) -> String {
        self.stdout
            .wait_line(limit, wanted)
            .unwrap_or_else(|| panic!("{what:?} did not come on stdout\n{self:?}"))
    }

    /// Waits for a line on standard error that contains `part`, and returns it.
    pub fn wait_stderr(&self, part: &str) -> String {
        let found = self.stderr.wait_line(SHORT, &|line| line.contains(part));
        found.unwrap_or_else(|| panic!("{part:?} did not come on stderr\n{self:?}"))
    }

    /// Waits until standard output has so many lines.
    pub fn wait_stdout_lines(&self, count: usize, limit: Duration) {
        let there = until(limit, || (self.stdout_lines() >= count).then_some(()));
        assert!(there.is_some(), "{} of {count} lines came on stdout\n{self:?}", self.stdout_lines());
    }

    /// Writes to standard input, which [`Cmd::keep_stdin`] kept open.
    pub fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("keep_stdin() was not called");
        stdin
            .write_all(text.as_bytes())
            .and_then(|()| stdin.flush())
            .expect("the process reads its standard input");
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Begins to read the standard output that [`Cmd::leave_stdout`] left.
    pub fn read_stdout(&mut self) {
        self.stdout = Captured::of(self.unread.take().expect("leave_stdout() was not called"));
    }

    /// Bytes that stand in the pipe of the standard output that [`Cmd::leave_stdout`] left.
    pub fn unread_stdout(&self) -> usize {
        let unread = self.unread.as_ref().expect("leave_stdout() was not called");
        let mut count: libc::c_int = 0;
        // SAFETY: FIONREAD writes an int, for which there is room.
        let failed = unsafe { libc::ioctl(unread.as_raw_fd(), libc::FIONREAD, &raw mut count) } != 0;
        assert!(!failed, "FIONREAD: {}", std::io::Error::last_os_error());
        usize::try_from(count).expect("a count")
    }

    /// Closes the reading end of the standard output that [`Cmd::leave_stdout`] left.
    pub fn close_stdout(&mut self) {
        self.unread = None;
    }

    pub fn signal(&self, signal: i32) {
        assert!(self.status.is_none(), "it has ended already\n{self:?}");
        let pid = i32::try_from(self.child.id()).expect("a pid is positive");
        // SAFETY: the child has not been waited for, so the pid is still its own.
        let failed = unsafe { libc::kill(pid, signal) } != 0;
        assert!(!failed, "signal {signal} to {}: {}", self.shown, std::io::Error::last_os_error());
    }

    /// Whether it is still running.
    pub fn alive(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("waiting for a child");
        }
        self.status.is_none()
    }

    /// The memory it holds now, in KiB: the resident set.
    pub fn resident_kib(&self) -> u64 {
        resident_kib(self.pid())
    }

    /// Waits for its end. Panics, with all it said, if it takes longer than the command's limit.
    pub fn wait(mut self) -> Done {
        self.stdin = None;
        let limit = self.limit;
        let ended = until(limit, || (!self.alive()).then_some(()));
        assert!(ended.is_some(), "still running after {limit:?}\n{self:?}");
        let status = self.status.expect("it has ended");
        if let Some(mut unread) = self.unread.take() {
            let mut bytes = Vec::new();
            drop(unread.read_to_end(&mut bytes));
            self.stdout.lock().bytes = bytes;
        }
        for thread in
            [self.writer.take(), self.stdout.reader.take(), self.stderr.reader.take()].into_iter().flatten()
        {
            thread.join().expect("a thread of Run");
        }
        let stdout = std::mem::take(&mut self.stdout.lock().bytes);
        let stderr = self.stderr.text();
        Done { status, stdout, stderr, shown: std::mem::take(&mut self.shown) }
    }

    /// Ctrl-C, then waits for its end.
    pub fn interrupt(self) -> Done {
        self.signal(libc::SIGINT);
        self.wait()
    }
}

/// The memory that a running process holds now, in KiB: the resident set.
pub fn resident_kib(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line VmRSS");
    line.trim().trim_end_matches("kB").trim().parse().expect("VmRSS is a number")
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.alive() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, &self.shown, "running or ended", &self.stdout(), &self.stderr())
    }
}

/// A process that has ended.
pub struct Done {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
    shown: String,
}

impl Done {
    /// The exit code, or 128 and the signal, as a shell tells it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    /// The last line on standard error: why it failed.
    pub fn reason(&self) -> &str {
        self.stderr.lines().last().unwrap_or_default()
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Done {
        assert_eq!(self.code(), code, "exit code\n{self:?}");
        self
    }

    /// Asserts the exit code, and that the last line on standard error contains each of `parts`, whatever their case.
    #[track_caller]
    pub fn expect_failure(self, code: i32, parts: &[&str]) -> Done {
        let done = self.expect(code);
        let reason = done.reason().to_lowercase();
        for part in parts {
            assert!(reason.contains(&part.to_lowercase()), "the reason does not tell of {part:?}\n{done:?}");
        }
        done
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, &self.shown, &self.status.to_string(), &self.text(), &self.stderr)
    }
}

fn show(f: &mut fmt::Formatter<'_>, command: &str, state: &str, stdout: &str, stderr: &str) -> fmt::Result {
    writeln!(f, "$ {command}\n[{state}]\n--- stdout\n{}\n--- stderr\n{}", end_of(stdout), end_of(stderr))
}

/// The last 4,000 bytes or so.
fn end_of(text: &str) -> &str {
    let start = text.len().saturating_sub(4000);
    let start = (start..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    &text[start..]
}
