//! Questions on the terminal whose answers may be seen ([`crate::terminal`] has those that may not). They stand on stderr, so
//! that stdout holds results alone; the answers come from stdin.
//!
//! Only commands whose work is a conversation ask, and only when both ends are a terminal: a script gets an error that says
//! what is missing.

use crate::failure::{Exit, Failure};
use crate::output::escape;
use std::io::{self, BufRead, IsTerminal, Read, Write};

/// Bytes of an answer: more than anybody types.
const LONGEST: u64 = 64 * 1024;

/// Whether there is somebody to ask.
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// A line; an empty answer stands for the default, if there is one.
pub fn line(question: &str, default: &str) -> Result<String, Failure> {
    let suffix = if default.is_empty() { String::new() } else { format!(" [{default}]") };
    prompt(&format!("{question}{suffix}: "))?;
    let mut answer = String::new();
    let read = io::stdin().lock().take(LONGEST).read_line(&mut answer).map_err(|error| broken(&error))?;
    if read == 0 {
        prompt("\n")?;
        return Err(ended());
    }
    let answer = answer.trim();
    Ok(if answer.is_empty() { default.to_owned() } else { answer.to_owned() })
}

/// Yes or no. What is neither is asked again.
pub fn yes(question: &str, default: bool) -> Result<bool, Failure> {
    loop {
        let answer = line(&format!("{question} [{}]", if default { "Y/n" } else { "y/N" }), "")?;
        match answer.to_ascii_lowercase().as_str() {
            "" => return Ok(default),
            "y" | "yes" => return Ok(true),
            "n" | "no" => return Ok(false),
            _ => {}
        }
    }
}

fn prompt(text: &str) -> Result<(), Failure> {
    let mut stderr = io::stderr();
    let text = match text.strip_suffix('\n') {
        Some(text) => format!("{}\n", escape::line(text)),
        None => escape::line(text).into_owned(),
    };
    stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()).map_err(|error| broken(&error))
}

fn broken(error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("ask on the terminal: {error}"))
}

fn ended() -> Failure {
    Failure::new(Exit::Failed, "the terminal was closed before all was answered; nothing was changed")
}
