//! Where data goes: file descriptor 1, without the line buffering of the standard library.
//!
//! A reader that has stopped stops us too: that is the back-pressure, and it must not outlast a signal. So an interrupted
//! write asks whether the command is to end before it goes on.

use crate::cli::signals;
use std::io;
use std::os::fd::RawFd;

/// Why data could not be written.
#[derive(Debug)]
pub enum WriteError {
    /// The reader is gone; this ends the command quietly.
    Closed,
    /// A signal asks the command to end. A part of the data may have been written.
    Interrupted,
    Failed(io::Error),
}

/// Standard output.
pub struct Sink {
    descriptor: RawFd,
}

impl Sink {
    pub fn stdout() -> Sink {
        Sink { descriptor: libc::STDOUT_FILENO }
    }

    pub fn write_all(&mut self, mut data: &[u8]) -> Result<(), WriteError> {
        while !data.is_empty() {
            // SAFETY: the pointer and the length are those of a slice.
            let written = unsafe { libc::write(self.descriptor, data.as_ptr().cast(), data.len()) };
            if written >= 0 {
                data = &data[written as usize..];
                continue;
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted if signals::pending() => return Err(WriteError::Interrupted),
                io::ErrorKind::Interrupted => {}
                // Some other owner of the pipe or terminal has made it non-blocking.
                io::ErrorKind::WouldBlock => self.wait()?,
                io::ErrorKind::BrokenPipe => return Err(WriteError::Closed),
                _ => return Err(WriteError::Failed(error)),
            }
        }
        Ok(())
    }

    fn wait(&self) -> Result<(), WriteError> {
        let mut descriptor = libc::pollfd { fd: self.descriptor, events: libc::POLLOUT, revents: 0 };
        // SAFETY: one descriptor, on the stack. An interrupted wait is as good as one that has ended.
        unsafe { libc::poll(&mut descriptor, 1, -1) };
        if signals::pending() { Err(WriteError::Interrupted) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsRawFd;

    #[test]
    fn everything_arrives_through_a_pipe_that_is_smaller() {
        let (mut reader, writer) = io::pipe().unwrap();
        let data: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
        let expected = data.clone();
        let thread = std::thread::spawn(move || {
            let mut received = Vec::new();
            reader.read_to_end(&mut received).unwrap();
            received
        });
        Sink { descriptor: writer.as_raw_fd() }.write_all(&data).unwrap();
        drop(writer);
        assert!(thread.join().unwrap() == expected);
    }

    #[test]
    fn a_reader_that_is_gone_is_told_apart_from_a_failure() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut sink = Sink { descriptor: writer.as_raw_fd() };
        assert!(matches!(sink.write_all(b"x"), Err(WriteError::Closed)));
        assert!(matches!(Sink { descriptor: -1 }.write_all(b"x"), Err(WriteError::Failed(_))));
    }
}
