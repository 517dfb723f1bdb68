//! `cmd:`: a program whose output is a secret.
//!
//! It is started without a shell, so that nothing in the line is expanded: words are separated by spaces, and quoted as in
//! a shell ('as it is', "with \" and \\", \ before a letter). Its standard input is empty and its standard error is the
//! user's. Of its output at most 1 MiB is read, for at most 30 s. What fails is told without anything that it printed, and
//! with the program's name alone: its arguments may be as private as what it prints.

use super::secret::{Unreadable, read};
use crate::redact::Secret;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Long enough to type a pass phrase into what the program asks with.
const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

/// Splits a line into words.
pub fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        Some('\'') => break,
                        Some(letter) => word.push(letter),
                        None => return Err("a ' that is opened is not closed".into()),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        Some('"') => break,
                        Some('\\') => match letters.next() {
                            Some(letter @ ('"' | '\\' | '$' | '`')) => word.push(letter),
                            Some(letter) => word.extend(['\\', letter]),
                            None => return Err("a \" that is opened is not closed".into()),
                        },
                        Some(letter) => word.push(letter),
                        None => return Err("a \" that is opened is not closed".into()),
                    }
                }
            }
            '\\' => match letters.next() {
                Some(letter) => word.get_or_insert_default().push(letter),
                None => return Err("nothing follows the last \\".into()),
            },
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    if words.first().is_none_or(String::is_empty) {
        return Err("a program is missing, as in cmd:pass show broker".into());
    }
    Ok(words)
}

/// Runs a program and takes what it prints for a secret. `words` is not empty.
pub fn output(words: &[String]) -> Result<Secret, String> {
    let name = &words[0];
    if words.iter().any(|word| word.contains('\0')) {
        return Err("there is a NUL in it".into());
    }
    let mut child =
        Command::new(name).args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(
            |error| match error.kind() {
                std::io::ErrorKind::NotFound => format!("there is no program {name}"),
                std::io::ErrorKind::PermissionDenied => format!("{name} may not be run: permission denied"),
                _ => format!("{name} can't be run: {error}"),
            },
        )?;
    let deadline = Instant::now() + LIMIT;
    let outcome = finish(&mut child, deadline);
    if outcome.is_err() {
        // It may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
    let (printed, status) = outcome.map_err(|why| format!("{name} {why}"))?;
    if !status.success() {
        return Err(match status.code() {
            Some(code) => format!("{name} ended with status {code}"),
            None => format!("{name} was ended by a signal"),
        });
    }
    match printed {
        Ok(secret) if secret.is_empty() => Err(format!("{name} printed nothing")),
        Ok(secret) => Ok(secret),
        Err(Unreadable::NotText) => Err(format!("what {name} printed is not UTF-8 text")),
        Err(Unreadable::TooLarge) => Err(format!("{name} printed more than 1 MiB: this is no secret")),
        Err(Unreadable::System(error)) => Err(format!("{name}: its output can't be read: {error}")),
    }
}

fn finish(child: &mut Child, deadline: Instant) -> Result<(Result<Secret, Unreadable>, ExitStatus), String> {
    let too_long = || format!("did not end within {} s", LIMIT.as_secs());
    let mut stdout = child.stdout.take().ok_or("has no output")?;
    let (sender, receiver) = mpsc::sync_channel(1);
    // A thread of its own, since a pipe has no time-out. It ends with the pipe, which a grandchild may hold open.
    std::thread::Builder::new()
        .name("tracemq-cmd".into())
        .spawn(move || sender.send(read(&mut stdout)))
        .map_err(|error| format!("can't be watched: {error}"))?;
    let left = deadline.saturating_duration_since(Instant::now());
    let printed = receiver.recv_timeout(left).map_err(|_| too_long())?;
    if matches!(printed, Err(Unreadable::TooLarge)) {
        return Err("printed more than 1 MiB: this is no secret".into());
    }
    loop {
        match child.try_wait().map_err(|error| format!("can't be waited for: {error}"))? {
            Some(status) => return Ok((printed, status)),
            None if Instant::now() >= deadline => return Err(too_long()),
            None => std::thread::sleep(POLL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_in_a_shell_and_nothing_is_expanded() {
        for (line, expected) in [
            ("pass show broker", &["pass", "show", "broker"][..]),
            ("  a\t b ", &["a", "b"]),
            ("a 'b c' \"d e\"", &["a", "b c", "d e"]),
            ("a b' 'c\" \"d", &["a", "b c d"]),
            (r#"a "x\"y\\z\q" '\n'"#, &["a", r#"x"y\z\q"#, r"\n"]),
            (r"a\ b c\\", &["a b", r"c\"]),
            ("a '' \"\"", &["a", "", ""]),
            (
                "echo $HOME ~ *.rs `id` $(id) ; | > x",
                &["echo", "$HOME", "~", "*.rs", "`id`", "$(id)", ";", "|", ">", "x"],
            ),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{line}");
        }
        for line in ["", "  ", "''", "a 'b", "a \"b", "a \"b\\", "a\\"] {
            assert!(words(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn output_is_bounded_and_failure_repeats_none_of_it() {
        let run = |line: &str| output(&words(line).unwrap());
        assert_eq!(run("false").unwrap_err(), "false ended with status 1");
        assert_eq!(run("true").unwrap_err(), "true printed nothing");
        assert_eq!(run("/nonexistent/x y").unwrap_err(), "there is no program /nonexistent/x");
        assert_eq!(run("printf '\\377'").unwrap_err(), "what printf printed is not UTF-8 text");
        let error = run("head -c 2000000 /dev/zero").unwrap_err();
        assert_eq!(error, "head printed more than 1 MiB: this is no secret");
        assert_eq!(&*run("printf 'a\\n\\n'").unwrap(), "a\n");
        // With standard input empty, what reads it comes to an end.
        assert_eq!(run("cat").unwrap_err(), "cat printed nothing");
    }
}
