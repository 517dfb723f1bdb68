//! References to secrets: `env:NAME` and `file:PATH`, which may stand wherever a secret or a target's URL may.
//!
//! A reference is what profiles hold and what keeps a secret out of the process list. It is resolved as late as possible,
//! and what it resolves to appears in no error.

use std::io::Read;
use std::path::{Path, PathBuf};

/// What stands in the place of a secret wherever something is shown.
pub const MASK: &str = "***";

/// Larger than any key or token, small enough to hold.
const LARGEST: u64 = 1024 * 1024;

/// Where a secret is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    Env(String),
    File(PathBuf),
    /// Kinds that are known, but not in this version: the text as it was written.
    Later(String),
}

/// Whether a text is a reference, of a kind that can be resolved or not.
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
            "vault" | "cmd" => Some(Reference::Later(text.to_owned())),
            _ => None,
        }
    }

    /// The secret. The error says what is wrong with the reference and holds nothing of the secret.
    pub fn resolve(&self) -> Result<String, String> {
        match self {
            Reference::Env(name) => resolve_env(name),
            Reference::File(path) => {
                resolve_file(path).map_err(|why| format!("file:{}: {why}", path.display()))
            }
            Reference::Later(text) => {
                let kind = text.split(':').next().unwrap_or_default();
                Err(format!(
                    "{kind}: references are not available in this version; use env:NAME or file:PATH"
                ))
            }
        }
    }
}

fn resolve_env(name: &str) -> Result<String, String> {
    if name.is_empty() || name.contains('=') {
        return Err("env: needs the name of an environment variable, as in env:MY_SECRET".into());
    }
    match std::env::var(name) {
        Ok(text) => Ok(text),
        Err(std::env::VarError::NotPresent) => {
            Err(format!("env:{name}: the environment variable {name} is not set"))
        }
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("env:{name}: its value is not UTF-8 text")),
    }
}

fn resolve_file(path: &Path) -> Result<String, String> {
    if path.as_os_str().is_empty() {
        return Err("the path of a file is missing".into());
    }
    let mut file = std::fs::File::open(path).map_err(|error| file_error(&error))?;
    let mut bytes = Vec::new();
    (&mut file).take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| file_error(&error))?;
    if bytes.len() as u64 > LARGEST {
        return Err("larger than 1 MiB: this is no secret's file".into());
    }
    let mut text = String::from_utf8(bytes).map_err(|_| "not UTF-8 text")?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
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
        assert!(is_reference("vault:x") && is_reference("cmd:pass show x"));
        assert!(!is_reference("hunter2") && !is_reference("a:b") && !is_reference("demo://h"));
    }

    #[test]
    fn a_files_last_line_end_is_not_part_of_the_secret() {
        for (content, secret) in
            [("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), ("a\n\n", "a\n"), ("", "")]
        {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(content.as_bytes()).unwrap();
            assert_eq!(Reference::File(file.path().into()).resolve().unwrap(), secret);
        }
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
        assert!(error("vault:prod").contains("not available in this version"));
        assert!(error("cmd:pass x").starts_with("cmd: references"));
    }
}
