//! References to secrets, which may stand wherever a secret or a target's URL may: `env:NAME`, `file:PATH`, `vault:NAME`,
//! `cmd:PROGRAM ARGUMENTS`, `keyring:NAME`.
//!
//! A reference is what profiles hold and what keeps a secret out of the process list. It is resolved as late as possible,
//! and what it resolves to appears in no error. The system's keyring is asked through the tool that comes with it: its own
//! protocol is D-Bus on Linux, whose crates weigh more than everything else in the host.

use super::program;
use crate::redact::{self, Secret};
use crate::vault;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroize;

/// Larger than any key or token, small enough to hold: the most bytes of a secret.
pub const LARGEST: usize = 1024 * 1024;

/// The kinds of references, for help and errors.
pub const KINDS: &str = "vault:NAME, env:NAME, file:PATH, cmd:PROGRAM or keyring:NAME";

/// Where a secret is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    Env(String),
    File(PathBuf),
    /// A name in the vault.
    Vault(String),
    /// A command line; what the program prints is the secret.
    Cmd(String),
    /// An account in the system's keyring, of the service `tracemq`.
    Keyring(String),
}

/// Whether a text is a reference, whether it can be resolved or not.
pub fn is_reference(text: &str) -> bool {
    Reference::parse(text).is_some()
}

impl Reference {
    /// `None`: the text is meant literally.
    pub fn parse(text: &str) -> Option<Reference> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "env" => Some(Reference::Env(rest.to_owned())),
            "file" if rest.starts_with("//") => {
                Some(Reference::File(Path::new("/").join(rest.trim_start_matches('/'))))
            }
            "file" => Some(Reference::File(rest.into())),
            "vault" => Some(Reference::Vault(rest.to_owned())),
            "cmd" => Some(Reference::Cmd(rest.to_owned())),
            "keyring" => Some(Reference::Keyring(rest.to_owned())),
            _ => None,
        }
    }

    /// The secret, which from then on is masked in all output. The error says what is wrong with the reference and holds
    /// nothing of the secret.
    pub fn resolve(&self) -> Result<Secret, String> {
        self.look_up().map(Secret::registered)
    }

    /// As [`Reference::resolve`], for a URL: of it only the parts are masked that are secret.
    pub fn resolve_url(&self) -> Result<Secret, String> {
        let url = self.look_up()?;
        match url.contains("://") {
            true => {
                redact::register_url(&url);
                Ok(url)
            }
            false => Ok(url.registered()),
        }
    }

    fn look_up(&self) -> Result<Secret, String> {
        match self {
            Reference::Env(name) => resolve_env(name),
            Reference::File(path) => {
                resolve_file(path).map_err(|why| format!("file:{}: {why}", path.display()))
            }
            Reference::Vault(name) => vault::get(name).map_err(|failure| format!("vault:{name}: {failure}")),
            Reference::Cmd(line) => self.once(|| {
                let words = program::words(line).map_err(|why| format!("cmd: {why}"))?;
                program::output(&words).map_err(|why| format!("cmd: {why}"))
            }),
            Reference::Keyring(name) => self.once(|| resolve_keyring(name)),
        }
    }

    /// A program is run once for a command, however often its reference stands in it or is looked at.
    fn once(&self, run: impl FnOnce() -> Outcome) -> Outcome {
        let mut ran = RAN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, outcome)) = ran.iter().find(|(reference, _)| reference == self) {
            return outcome.clone();
        }
        let outcome = run();
        ran.push((self.clone(), outcome.clone()));
        outcome
    }
}

type Outcome = Result<Secret, String>;

/// What programs said so far.
static RAN: Mutex<Vec<(Reference, Outcome)>> = Mutex::new(Vec::new());

fn resolve_env(name: &str) -> Result<Secret, String> {
    if name.is_empty() || name.contains('=') {
        return Err("env: needs the name of an environment variable, as in env:MY_SECRET".into());
    }
    match std::env::var(name) {
        Ok(text) => Ok(Secret::unregistered(text)),
        Err(std::env::VarError::NotPresent) => {
            Err(format!("env:{name}: the environment variable {name} is not set"))
        }
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("env:{name}: its value is not UTF-8 text")),
    }
}

fn resolve_file(path: &Path) -> Result<Secret, String> {
    if path.as_os_str().is_empty() {
        return Err("the path of a file is missing".into());
    }
    let mut file = std::fs::File::open(path).map_err(|error| file_error(&error))?;
    read(&mut file).map_err(|error| match error {
        Unreadable::System(error) => file_error(&error),
        Unreadable::TooLarge => "larger than 1 MiB: this is no secret's file".into(),
        Unreadable::NotText => "not UTF-8 text".into(),
    })
}

/// Why a secret can't be read.
pub enum Unreadable {
    System(std::io::Error),
    TooLarge,
    NotText,
}

/// Reads a secret to the end. The last line's end is not part of it.
pub fn read(source: &mut impl Read) -> Result<Secret, Unreadable> {
    // One allocation, so that no copy is left behind unwiped.
    let mut bytes = Vec::with_capacity(16 * 1024);
    let outcome = source.take(LARGEST as u64 + 1).read_to_end(&mut bytes);
    if let Err(error) = outcome {
        bytes.zeroize();
        return Err(Unreadable::System(error));
    }
    if bytes.len() > LARGEST {
        bytes.zeroize();
        return Err(Unreadable::TooLarge);
    }
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    Secret::from_bytes(bytes).ok_or(Unreadable::NotText)
}

fn resolve_keyring(name: &str) -> Result<Secret, String> {
    if name.is_empty() {
        return Err("keyring: needs the name of an account, as in keyring:broker".into());
    }
    let (words, stored_by): (&[&str], _) = match cfg!(target_os = "macos") {
        true => (
            &["security", "find-generic-password", "-w", "-s", "tracemq", "-a", name],
            format!("security add-generic-password -s tracemq -a {name} -w"),
        ),
        false => (
            &["secret-tool", "lookup", "service", "tracemq", "account", name],
            format!("secret-tool store --label tracemq service tracemq account {name}"),
        ),
    };
    let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    program::output(&words).map_err(|why| {
        let package = if cfg!(target_os = "linux") { " (package libsecret-tools)" } else { "" };
        format!(
            "keyring:{name}: {why}; the keyring is read by {}{package}, and `{stored_by}` puts it in",
            words[0]
        )
    })
}

/// What the system says of a file, without the error number.
pub(super) fn file_error(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        std::io::ErrorKind::IsADirectory => "it is a folder, not a file".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn tells_references_from_literals() {
        assert_eq!(Reference::parse("env:A"), Some(Reference::Env("A".into())));
        assert_eq!(Reference::parse("file:/a/b"), Some(Reference::File("/a/b".into())));
        assert_eq!(Reference::parse("file:///a/b"), Some(Reference::File("/a/b".into())));
        assert_eq!(Reference::parse("vault:x"), Some(Reference::Vault("x".into())));
        assert_eq!(Reference::parse("cmd:pass show x"), Some(Reference::Cmd("pass show x".into())));
        assert_eq!(Reference::parse("keyring:x"), Some(Reference::Keyring("x".into())));
        assert!(!is_reference("hunter2") && !is_reference("a:b") && !is_reference("demo://h"));
    }

    #[test]
    fn a_files_last_line_end_is_not_part_of_the_secret() {
        for (content, secret) in
            [("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), ("a\n\n", "a\n"), ("", "")]
        {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(content.as_bytes()).unwrap();
            assert_eq!(&*Reference::File(file.path().into()).resolve().unwrap(), secret);
        }
    }

    #[test]
    fn what_a_program_prints_is_a_secret() {
        let resolve = |text: &str| Reference::parse(text).unwrap().resolve();
        assert_eq!(&*resolve("cmd:printf '%s\\n' \"a b\"").unwrap(), "a b");
        let error = resolve("cmd:sh -c 'echo hunter2; exit 3'").unwrap_err();
        assert_eq!(error, "cmd: sh ended with status 3");
    }

    #[test]
    fn what_cannot_be_resolved_says_why() {
        let error = |text: &str| Reference::parse(text).unwrap().resolve().unwrap_err();
        assert_eq!(
            error("env:TRACEMQ_TEST_NOT_SET"),
            "env:TRACEMQ_TEST_NOT_SET: the environment variable TRACEMQ_TEST_NOT_SET is not set"
        );
        assert_eq!(error("file:/nonexistent/x"), "file:/nonexistent/x: no such file");
        assert!(error("file:/").contains("folder"), "{}", error("file:/"));
        assert!(error("env:").contains("name of an environment variable"));
        assert!(error("cmd:").contains("a program is missing"));
        assert!(error("keyring:").contains("name of an account"));
        assert!(error("vault:../x").contains("is no name for a secret"), "{}", error("vault:../x"));
    }
}
