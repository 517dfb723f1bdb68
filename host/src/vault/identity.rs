//! What opens the vault: an identity in a file, or a pass phrase.
//!
//! The identity file is that of `age-keygen`: lines `AGE-SECRET-KEY-1…`, and comments. It lies in the data folder, the vault
//! in the config folder: people keep their configuration in a repository, and there it must not be. Of several identities in
//! it any may open; the first is the one that is encrypted to.

use super::age::{Identity, Recipient};
use crate::failure::{Exit, Failure};
use crate::folders;
use crate::options::Reference;
use crate::redact::Secret;
use crate::terminal;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Names an identity file of the user's own.
pub const IDENTITY_VARIABLE: &str = "TRACEMQ_VAULT_IDENTITY";
/// Holds a reference to the pass phrase.
pub const PASS_PHRASE_VARIABLE: &str = "TRACEMQ_VAULT_PASSPHRASE";

const NAME: &str = "identity.txt";
/// A wrong file is not read into memory.
const LARGEST: u64 = 256 * 1024;

/// The identity file.
pub struct File {
    pub path: PathBuf,
    /// It is the user's, not ours: it is neither made nor changed.
    pub foreign: bool,
}

impl File {
    pub fn find() -> Result<File, Failure> {
        if let Some(path) = std::env::var_os(IDENTITY_VARIABLE).filter(|path| !path.is_empty()) {
            return Ok(File { path: path.into(), foreign: true });
        }
        let folder = folders::data().ok_or_else(super::no_place)?;
        Ok(File { path: folder.join(NAME), foreign: false })
    }

    /// The identities in the file; `None` when it is not there.
    pub fn read(&self) -> Result<Option<Vec<Identity>>, Failure> {
        let failed = |why: String| {
            Failure::new(Exit::Failed, format!("the identity file {}: {why}", self.path.display()))
        };
        let facts = match self.path.metadata() {
            Ok(facts) => facts,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
        };
        // A pipe, as in <(…), has no mode that says anything.
        let mode = facts.permissions().mode() & 0o777;
        if facts.is_file() && mode & 0o077 != 0 {
            return Err(failed(format!("others can read or change it (mode {mode:03o})"))
                .hint(format!("if it was only yours so far: chmod 600 {}", self.path.display())));
        }
        if facts.is_dir() || facts.len() > LARGEST {
            return Err(failed("no file of an identity's size".into()));
        }
        let text = std::fs::read(&self.path).map_err(|error| failed(error.to_string()))?;
        parse(&Zeroizing::new(text)).map(Some).map_err(failed)
    }

    /// As [`File::read`], when there must be one.
    pub fn load(&self) -> Result<Vec<Identity>, Failure> {
        self.read()?.ok_or_else(|| {
            let failure =
                Failure::new(Exit::Failed, format!("there is no identity file {}", self.path.display()));
            match self.foreign {
                true => failure.hint("`age-keygen -o FILE` makes one"),
                false => failure.hint(format!(
                    "put it back there, or set {IDENTITY_VARIABLE} to where it is; without it nothing opens what was \
                     encrypted to it"
                )),
            }
        })
    }

    /// The identities; makes one if there is none and the file is ours.
    pub fn load_or_make(&self) -> Result<Vec<Identity>, Failure> {
        if self.foreign {
            return self.load();
        }
        if let Some(identities) = self.read()? {
            return Ok(identities);
        }
        let made = vec![Identity::new()];
        match folders::create_file(&self.path, text(&made).as_bytes()) {
            Ok(()) => Ok(made),
            // Another process was quicker.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.load(),
            Err(error) => Err(unwritable(&self.path, &error)),
        }
    }

    /// Replaces the file as a whole.
    pub fn write(&self, identities: &[Identity]) -> Result<(), Failure> {
        // A link stays one.
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        folders::write(&path, text(identities).as_bytes()).map_err(|error| unwritable(&path, &error))
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("the identity file {} can't be written: {error}", path.display()))
}

/// An identity file's text.
fn text(identities: &[Identity]) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(128 + 256 * identities.len()));
    out.push_str("# Opens the vault of TraceMQ. Whoever has it can read every secret there.\n");
    for identity in identities {
        out.push_str(&format!("# public key: {}\n", identity.recipient()));
        out.push_str(&identity.text());
        out.push('\n');
    }
    out
}

fn parse(bytes: &[u8]) -> Result<Vec<Identity>, String> {
    if super::age::is_age(bytes) {
        return Err("it is itself encrypted, which is not supported: decrypt it with age first".into());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8 text")?;
    let mut identities = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            let identity = Identity::parse(line).map_err(|why| format!("line {}: {why}", number + 1))?;
            identities.push(identity);
        }
    }
    if identities.is_empty() { Err("there is no identity in it".into()) } else { Ok(identities) }
}

/// Our own public half, for which others can encrypt; makes an identity if there is none.
pub fn recipient() -> Result<Recipient, Failure> {
    let identities = File::find()?.load_or_make()?;
    identities.first().map(Identity::recipient).ok_or_else(super::no_place)
}

/// The pass phrase of the environment, if it names one.
pub fn pass_phrase_of_environment() -> Result<Option<Secret>, Failure> {
    let text = match std::env::var(PASS_PHRASE_VARIABLE) {
        Ok(text) if text.is_empty() => return Ok(None),
        Ok(text) => text,
        Err(std::env::VarError::NotPresent) => return Ok(None),
        Err(_) => return Err(Failure::usage(format!("{PASS_PHRASE_VARIABLE} is not UTF-8 text"))),
    };
    let phrase = match Reference::parse(&text) {
        Some(Reference::Vault(_)) => {
            return Err(Failure::usage(format!(
                "{PASS_PHRASE_VARIABLE}: the vault can't hold its own pass phrase"
            )));
        }
        Some(reference) => {
            reference.resolve().map_err(|why| Failure::usage(format!("{PASS_PHRASE_VARIABLE}: {why}")))?
        }
        None => {
            drop(Secret::new(text));
            return Err(Failure::usage(format!("{PASS_PHRASE_VARIABLE} holds no reference")).hint(
                "it takes file:PATH, cmd:PROGRAM, keyring:NAME or env:NAME, not the pass phrase itself",
            ));
        }
    };
    if phrase.is_empty() {
        return Err(Failure::usage(format!("{PASS_PHRASE_VARIABLE} refers to an empty pass phrase")));
    }
    Ok(Some(phrase))
}

/// The pass phrase of something that was encrypted with one: of the environment, else asked for.
pub fn pass_phrase(of: &str) -> Result<Secret, Failure> {
    if let Some(phrase) = pass_phrase_of_environment()? {
        return Ok(phrase);
    }
    terminal::hidden(&format!("Pass phrase of {of}: ")).map_err(|failure| {
        if failure.exit == Exit::Interrupted {
            return failure;
        }
        Failure::new(
            Exit::Failed,
            format!("{of} is opened by a pass phrase, and there is no terminal to ask on"),
        )
        .hint(format!("set {PASS_PHRASE_VARIABLE} to a reference, such as file:PATH or cmd:PROGRAM"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_file_is_that_of_age_keygen() {
        let identities = [Identity::new(), Identity::new()];
        let text = text(&identities);
        assert_eq!(text.matches("# public key: age1").count(), 2);
        let read = parse(text.as_bytes()).unwrap();
        let publics = |of: &[Identity]| of.iter().map(Identity::recipient).collect::<Vec<_>>();
        assert_eq!(publics(&read), publics(&identities));
    }

    #[test]
    fn what_is_wrong_is_named_without_repeating_it() {
        let whole = Identity::new().text();
        let cut = &whole[..whole.len() - 1];
        for (text, part) in [
            ("", "no identity"),
            ("# only a comment\n", "no identity"),
            (&format!("\n{cut}\n"), "line 2: it is not whole"),
            ("AGE-PLUGIN-YUBIKEY-1QQQ", "line 1"),
            ("age-encryption.org/v1\n", "itself encrypted"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(part) && !error.contains("KEY-1"), "{error}");
        }
    }
}
