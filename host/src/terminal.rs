//! Questions on the terminal whose answers are not shown.
//!
//! The terminal is `/dev/tty`, so that stdin may be a pipe. It is read letter by letter with nothing echoed, and put back as
//! it was in any case: Ctrl-C is read as a letter too, since a signal would leave the terminal mute.

use crate::failure::{Exit, Failure};
use crate::redact::Secret;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use zeroize::{Zeroize, Zeroizing};

/// A line that is longer was not typed.
const LONGEST: usize = 16 * 1024;

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CTRL_U: u8 = 21;
const CTRL_W: u8 = 23;
const ESCAPE: u8 = 27;
const DELETE: u8 = 127;

/// Asks for a text that is not shown while it is typed.
///
/// # Errors
/// There is no terminal; Ctrl-C, as [`Exit::Interrupted`].
pub fn hidden(prompt: &str) -> Result<Secret, Failure> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::Interrupted => Failure::new(Exit::Interrupted, ""),
        _ => Failure::new(Exit::Failed, format!("there is no terminal to ask on: {error}")),
    };
    let mut tty = File::options().read(true).write(true).open("/dev/tty").map_err(failed)?;
    let mute = Mute::new(&tty).map_err(failed)?;
    tty.write_all(prompt.as_bytes()).map_err(failed)?;
    let line = read_line(&mut tty);
    drop(mute);
    // The line feed that was typed has not been echoed.
    tty.write_all(b"\n").map_err(failed)?;
    Secret::from_bytes(line.map_err(failed)?)
        .map(Secret::registered)
        .ok_or_else(|| Failure::usage("what was typed is not UTF-8 text"))
}

/// As [`hidden`], asked for twice: a slip would not be noticed otherwise.
pub fn hidden_twice(prompt: &str) -> Result<Secret, Failure> {
    let first = hidden(&format!("{prompt}: "))?;
    if first.is_empty() {
        return Err(Failure::usage("nothing was typed"));
    }
    if hidden(&format!("{prompt} again: "))? != first {
        return Err(Failure::usage("the two are not the same; nothing was changed"));
    }
    Ok(first)
}

fn read_line(source: &mut impl Read) -> io::Result<Vec<u8>> {
    // Room for all of it, so that no copy is left behind when it grows.
    let mut line = Zeroizing::new(Vec::with_capacity(LONGEST));
    let mut byte = [0];
    loop {
        match source.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        match byte[0] {
            b'\n' | b'\r' => break,
            CTRL_C => return Err(io::ErrorKind::Interrupted.into()),
            CTRL_D if line.is_empty() => break,
            CTRL_U | CTRL_W => line.clear(),
            BACKSPACE | DELETE => {
                // A letter may be several bytes.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            CTRL_D | ESCAPE | 0 => {}
            _ if line.len() == LONGEST => return Err(io::Error::other("the line is too long")),
            letter => line.push(letter),
        }
        byte.zeroize();
    }
    Ok(std::mem::take(&mut *line))
}

/// A terminal that echoes nothing and gives each letter at once, until this is dropped.
struct Mute {
    terminal: RawFd,
    before: libc::termios,
}

impl Mute {
    fn new(tty: &File) -> io::Result<Mute> {
        let terminal = tty.as_raw_fd();
        // SAFETY: a zeroed `termios` is valid, and is filled by the call.
        let mut before: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: an open descriptor, and room for the answer.
        if unsafe { libc::tcgetattr(terminal, &mut before) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut mute = before;
        mute.c_lflag &= !(libc::ECHO | libc::ECHONL | libc::ICANON | libc::ISIG);
        mute.c_cc[libc::VMIN] = 1;
        mute.c_cc[libc::VTIME] = 0;
        // SAFETY: as above. What was typed before the question is thrown away.
        if unsafe { libc::tcsetattr(terminal, libc::TCSAFLUSH, &mute) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Mute { terminal, before })
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        // SAFETY: the file outlives this in the one function that makes it.
        unsafe { libc::tcsetattr(self.terminal, libc::TCSANOW, &self.before) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_a_terminal_would() {
        let read = |text: &str| read_line(&mut text.as_bytes()).map(|line| String::from_utf8(line).unwrap());
        assert_eq!(read("s3cret\nmore").unwrap(), "s3cret");
        assert_eq!(read("s3creté\x7ft\x08t\r").unwrap(), "s3crett");
        assert_eq!(read("wrong\x15right\n").unwrap(), "right");
        assert_eq!(read("\x7f\x04").unwrap(), "");
        assert_eq!(read("abc\x03").unwrap_err().kind(), io::ErrorKind::Interrupted);
        assert!(read(&"x".repeat(LONGEST + 1)).is_err());
    }
}
