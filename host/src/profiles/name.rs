//! What a profile may be called: a name that is a file's name everywhere and is taken for nothing else on a command line.

use crate::failure::Failure;
use std::path::PathBuf;

/// Bytes, all of them ASCII.
const LONGEST: usize = 64;

/// Letters, digits, `.`, `_` and `-`, at most 64, beginning with a letter, digit or `_`.
pub fn check_name(name: &str) -> Result<(), Failure> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let good =
        !name.is_empty() && name.len() <= LONGEST && !name.starts_with(['.', '-']) && name.chars().all(fits);
    good.then_some(()).ok_or_else(|| {
        Failure::usage(format!(
            "{name:?} is no name for a profile: it takes letters, digits, _, . and - (not . or - first), at most {LONGEST}"
        ))
    })
}

/// The file of a profile.
pub fn path_for(name: &str) -> Result<PathBuf, Failure> {
    check_name(name)?;
    Ok(super::folder()?.join(format!("{name}.toml")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        for name in ["local", "prod-2.eu", "_x", "9", &"a".repeat(64)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "../x", "a/b", "-v", ".hidden", "a b", "é", "a:b", &"a".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
