//! `tracemq profile edit`: in the user's own editor, checked before it counts.
//!
//! What is edited is a copy beside the profile. It takes the profile's place when it can be used and nobody else has changed
//! the profile meanwhile; else it stays where it is and its path is told: an edit is never lost.

use super::{check, named};
use crate::cli::ask;
use crate::failure::{Exit, Failure};
use crate::output::events;
use crate::plugins::Catalog;
use crate::profiles;
use clap::{ArgMatches, Command};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use tempfile::{NamedTempFile, TempPath};

pub fn command() -> Command {
    Command::new("edit")
        .about("Edit a profile in $VISUAL or $EDITOR")
        .long_about(
            "Edit a profile in the editor that VISUAL or EDITOR name (else vi). What was written is checked against the \
             plugin's options before it replaces the profile. A text that can't be used is kept in a file beside it, whose \
             path is told, and so is one whose profile was changed by somebody else meanwhile. Options that have another \
             name by now are shown under it.",
        )
        .arg(super::name())
}

pub fn run(matches: &ArgMatches, dirs: &[PathBuf]) -> Result<(), Failure> {
    let name = named(matches)?;
    let original = profiles::text_of(&name)?.ok_or_else(|| profiles::unknown(&name))?;
    let catalog = Catalog::open(dirs);
    let (shown, notes) = check::modern(&name, &original, &catalog);
    super::note(&notes);
    let copy = copy_for(&name, &shown)
        .map_err(|error| Failure::new(Exit::Failed, format!("profile {name} can't be edited: {error}")))?;
    loop {
        let failure = match edit_once(&name, &copy, &original, &catalog) {
            Ok(what) => {
                super::done(matches, &format!("profile {name}: {what}"));
                return Ok(());
            }
            Err(Refusal::Final(failure)) => return Err(keep(failure, copy, &shown)),
            Err(Refusal::Again(failure)) => failure,
        };
        if !ask::can_ask() {
            return Err(keep(failure, copy, &shown));
        }
        events::line(&format!("tracemq: {failure}"));
        if !matches!(ask::yes("Edit again?", true), Ok(true)) {
            return Err(keep(
                Failure::new(failure.exit, format!("profile {name} is as it was")),
                copy,
                &shown,
            ));
        }
    }
}

/// Why what was edited does not count.
enum Refusal {
    /// Editing it again may help.
    Again(Failure),
    Final(Failure),
}

/// Runs the editor, and puts the result into the profile's place. What was done, in words.
fn edit_once(name: &str, copy: &Path, original: &str, catalog: &Catalog) -> Result<&'static str, Refusal> {
    let failed = |text: String| Refusal::Final(Failure::new(Exit::Failed, text));
    let words = editor();
    let status = run_editor(&words, copy)
        .map_err(|error| failed(format!("the editor {} can't be started: {error}", words[0])))?;
    if !status.success() {
        return Err(failed(format!(
            "the editor {} ended with {status}: profile {name} is as it was",
            words[0]
        )));
    }
    let edited = match profiles::text_at(name, copy) {
        Ok(Some(text)) => text,
        Ok(None) => return Err(failed(format!("the editor took away {}", copy.display()))),
        Err(failure) => return Err(Refusal::Again(failure)),
    };
    if edited == original {
        return Ok("nothing was changed");
    }
    let checked = check::check(name, &edited, catalog).map_err(Refusal::Again)?;
    super::note(&checked.notes);
    let locked = profiles::lock().map_err(Refusal::Final)?;
    if locked.read(name).map_err(Refusal::Final)?.as_deref() != Some(original) {
        let text = format!(
            "profile {name} was changed or removed by somebody else meanwhile, and is as they left it"
        );
        return Err(failed(text));
    }
    locked.replace(name, &checked.text).map_err(Refusal::Final)?;
    Ok("saved")
}

/// A copy to be edited, which only its owner can read. Its name is no profile's, and has its ending, by which editors know
/// what it is.
fn copy_for(name: &str, text: &str) -> std::io::Result<TempPath> {
    let folder = profiles::folder().map_err(std::io::Error::other)?;
    let mut copy: NamedTempFile =
        tempfile::Builder::new().prefix(&format!(".{name}.")).suffix(".toml").tempfile_in(folder)?;
    copy.write_all(text.as_bytes())?;
    Ok(copy.into_temp_path())
}

/// The failure, with the path of the edit if there is anything in it.
fn keep(failure: Failure, copy: TempPath, shown: &str) -> Failure {
    let edited = std::fs::read(&copy).is_ok_and(|bytes| bytes != shown.as_bytes());
    if !edited {
        return failure;
    }
    let text = match copy.keep() {
        Ok(path) => format!("{failure}; what you wrote is kept in {}", path.display()),
        Err(error) => format!("{failure}; what you wrote can't be kept: {error}"),
    };
    Failure { exit: failure.exit, text, hint: None }
}

/// The user's editor, with its arguments.
fn editor() -> Vec<String> {
    let variable = |name| std::env::var(name).ok().map(|text| words(&text)).filter(|words| !words.is_empty());
    variable("VISUAL").or_else(|| variable("EDITOR")).unwrap_or_else(|| vec!["vi".to_owned()])
}

/// Words with spaces between them; quotes and the backslash keep them together, as in a shell.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let (mut quote, mut letters) = (None, text.chars());
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(letters.next()),
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (end, Some(begin)) if end == begin => quote = None,
            (space, None) if space.is_whitespace() => words.extend(word.take()),
            (other, _) => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

/// Runs the editor on a file. What the keyboard sends is its business meanwhile: Ctrl-C must not end us and leave it behind.
fn run_editor(words: &[String], file: &Path) -> std::io::Result<ExitStatus> {
    let _deaf = Deaf::new();
    std::process::Command::new(&words[0]).args(&words[1..]).arg(file).status()
}

/// SIGINT and SIGQUIT come to nothing. By a handler that does nothing, since a child would inherit that they are ignored.
struct Deaf([(libc::c_int, libc::sigaction); 2]);

extern "C" fn nothing(_signal: libc::c_int) {}

impl Deaf {
    fn new() -> Deaf {
        Deaf([libc::SIGINT, libc::SIGQUIT].map(|signal| {
            // SAFETY: zeroed sigactions are valid; the handler calls nothing.
            unsafe {
                let (mut action, mut before): (libc::sigaction, libc::sigaction) =
                    (std::mem::zeroed(), std::mem::zeroed());
                action.sa_sigaction = nothing as *const () as usize;
                action.sa_flags = libc::SA_RESTART;
                libc::sigaction(signal, &raw const action, &raw mut before);
                (signal, before)
            }
        }))
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        for (signal, before) in &self.0 {
            // SAFETY: what was there before is put back.
            unsafe { libc::sigaction(*signal, before, std::ptr::null_mut()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_editor_may_have_arguments_and_spaces_in_its_path() {
        for (text, expected) in [
            ("code --wait", &["code", "--wait"][..]),
            ("  vi  ", &["vi"]),
            ("\"/my editor/ed\" -c 'set ft=toml'", &["/my editor/ed", "-c", "set ft=toml"]),
            ("/my\\ editor/ed \"\"", &["/my editor/ed", ""]),
            ("a\"b c\"d", &["ab cd"]),
            (" ", &[]),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }
}
