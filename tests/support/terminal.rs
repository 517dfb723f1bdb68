//! A process on a terminal: a pseudo-terminal whose other end the test holds, types on and reads from.

use crate::process::Cmd;
use crate::wait::{SHORT, until};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// A process whose input, output and errors are one terminal. Dropping it kills it.
pub struct Terminal {
    child: Child,
    keys: File,
    screen: Arc<Mutex<Vec<u8>>>,
    shown: String,
    /// So much of the screen has been looked at.
    seen: usize,
}

impl Cmd {
    /// Starts it on a terminal of its own.
    pub fn on_terminal(mut self) -> Terminal {
        let (mut master, mut slave) = (0, 0);
        let null = std::ptr::null_mut();
        // SAFETY: two places for descriptors; the optional arguments are left out.
        let opened =
            unsafe { libc::openpty(&raw mut master, &raw mut slave, null, null.cast(), null.cast()) };
        assert_eq!(opened, 0, "a pseudo-terminal: {}", std::io::Error::last_os_error());
        // SAFETY: both descriptors were opened just now, for nobody else.
        let (master, slave) = unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        // SAFETY: as above. No other child must hold the terminal open.
        unsafe { libc::fcntl(master.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
        let end = || Stdio::from(slave.try_clone().expect("a descriptor can be copied"));
        self.command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: both calls may be made between fork and exec.
        unsafe {
            self.command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = self.command.spawn().unwrap_or_else(|error| panic!("starting {}: {error}", self.shown));
        drop((self.command, slave));
        let keys = File::from(master);
        let mut reader = keys.try_clone().expect("a descriptor can be copied");
        let screen = Arc::new(Mutex::new(Vec::new()));
        let filled = screen.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // It fails when the last who holds the other end is gone.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                filled.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
            }
        });
        Terminal { child, keys, screen, shown: self.shown, seen: 0 }
    }
}

impl Terminal {
    /// All that stood on the screen so far.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits until `part` stands on the screen, after what was waited for before.
    #[track_caller]
    pub fn wait_for(&mut self, part: &str) {
        let found = until(SHORT, || {
            let screen = self.screen();
            let rest = screen.get(self.seen..)?;
            rest.find(part).map(|at| self.seen + at + part.len())
        });
        match found {
            Some(end) => self.seen = end,
            None => panic!("{part:?} did not come on the terminal of {}\n{}", self.shown, self.screen()),
        }
    }

    /// Types a text as it is.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Waits for a question, and types the answer.
    #[track_caller]
    pub fn answer(&mut self, question: &str, answer: &str) {
        self.wait_for(question);
        self.press(&format!("{answer}\n"));
    }

    /// Waits for its end, and asserts the exit code, or 128 and the signal. Returns what stood on the screen.
    #[track_caller]
    pub fn expect(mut self, code: i32) -> String {
        let ended = until(SHORT, || self.child.try_wait().expect("waiting for a child"));
        let Some(status) = ended else { panic!("{} is still running\n{}", self.shown, self.screen()) };
        // The reader may be a moment behind.
        let mut length = usize::MAX;
        until(SHORT, || {
            let before = std::mem::replace(&mut length, self.screen().len());
            (before == length).then_some(())
        });
        let ended = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        assert_eq!(ended, Some(code), "exit code of {}\n{}", self.shown, self.screen());
        self.screen()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
