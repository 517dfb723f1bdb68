//! The vault: secrets by name, in one encrypted file, `vault.age` in the config folder.
//!
//! It is an age file, so that `age -d -i IDENTITY vault.age` opens it without us, and what comes out is TOML that can be
//! read ([`contents`]). It is opened by an identity, which is made at first use, or by a pass phrase ([`identity`]); which of
//! the two, the file itself tells. Everything that is changed is changed under a lock and written as a whole ([`store`]).
//!
//! For the rest of the host: [`get`], [`names`], [`set`] and [`remove`] for secrets by name; [`age`] with [`identities`] and
//! [`recipient`] for files that are encrypted to people.

pub mod age;
mod contents;
mod identity;
mod store;

pub use identity::pass_phrase;
pub use identity::recipient;

use crate::failure::{Exit, Failure};
use crate::options::nearest;
use crate::redact::Secret;
use age::{Identity, Recipient};
use contents::Contents;
use identity::File;
use std::cell::Cell;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use store::{Access, Vault};

/// Bytes of a name, all of them ASCII: a profile's and an option's together.
const LONGEST: usize = 128;

/// What was read last: a command with several references opens the vault once, and asks for its pass phrase once.
static READ: Mutex<Option<Contents>> = Mutex::new(None);

/// Letters, digits, `.`, `_` and `-`, at most 128, beginning with a letter, digit or `_`.
pub fn check_name(name: &str) -> Result<(), Failure> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let good =
        !name.is_empty() && name.len() <= LONGEST && !name.starts_with(['.', '-']) && name.chars().all(fits);
    good.then_some(()).ok_or_else(|| {
        let shown: String = name.chars().take(LONGEST).collect();
        Failure::usage(format!(
            "{shown:?} is no name for a secret: it takes letters, digits, _, . and - (not . or - first), at most {LONGEST}"
        ))
    })
}

fn no_place() -> Failure {
    Failure::new(Exit::Failed, "there is no place for the vault")
        .hint("set HOME, XDG_CONFIG_HOME or TRACEMQ_HOME")
}

fn with<T>(how: impl FnOnce(&Contents) -> T) -> Result<T, Failure> {
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    let contents = match read.take() {
        Some(contents) => contents,
        None => Vault::find()?.contents()?,
    };
    Ok(how(read.insert(contents)))
}

fn change<T>(how: impl FnOnce(&mut Contents) -> Result<T, Failure>) -> Result<T, Failure> {
    let outcome = Vault::find()?.change(how);
    *READ.lock().unwrap_or_else(PoisonError::into_inner) = None;
    outcome
}

/// A secret by its name. It may be a URL, and is not yet masked as a whole: see [`Secret::registered`].
///
/// # Errors
/// There is none of this name; the vault can't be opened.
pub fn get(name: &str) -> Result<Secret, Failure> {
    check_name(name)?;
    with(|contents| contents.secret(name).ok_or_else(|| unknown(name, contents)))?
}

/// The names of all secrets, sorted.
pub fn names() -> Result<Vec<String>, Failure> {
    with(|contents| contents.secrets.keys().cloned().collect())
}

/// Puts secrets in, all of them or none; one that is there under the same name is replaced. Makes the vault at first use.
pub fn set(secrets: &[(String, Secret)]) -> Result<(), Failure> {
    secrets.iter().try_for_each(|(name, _)| check_name(name))?;
    change(|contents| {
        for (name, secret) in secrets {
            contents.secrets.insert(name.clone(), secret.reveal().into());
        }
        Ok(())
    })
}

/// Takes a secret out.
pub fn remove(name: &str) -> Result<(), Failure> {
    check_name(name)?;
    // A vault is not made in order to find nothing in it.
    with(|contents| {
        contents.secrets.contains_key(name).then_some(()).ok_or_else(|| unknown(name, contents))
    })??;
    change(|contents| contents.secrets.remove(name).map(drop).ok_or_else(|| unknown(name, contents)))
}

fn unknown(name: &str, contents: &Contents) -> Failure {
    let failure = Failure::usage(format!("there is no secret {name:?} in the vault"));
    match nearest(name, contents.secrets.keys().map(String::as_str)) {
        Some(near) => failure.hint(format!("did you mean {near}?")),
        None => failure.hint(format!("`tracemq secret set {name}` puts it in")),
    }
}

/// Our identities, the first of which others encrypt to ([`recipient`]).
///
/// # Errors
/// There is no identity file yet, or it can't be used.
pub fn identities() -> Result<Vec<Identity>, Failure> {
    File::find()?.load()
}

/// The identities in a file of the user's.
pub fn identities_in(path: &Path) -> Result<Vec<Identity>, Failure> {
    File { path: path.to_owned(), foreign: true }.load()
}

/// How the vault is to be encrypted anew.
pub struct Rekey {
    pub to: NewKey,
    /// Recipients beside our own identity.
    pub add: Vec<Recipient>,
    pub remove: Vec<Recipient>,
}

pub enum NewKey {
    /// The same as now.
    Same,
    /// An identity: a new one, unless the identity file is the user's own or the vault had a pass phrase so far.
    Identity,
    PassPhrase(Secret),
}

/// Whether the vault is opened by a pass phrase; `None` when there is no vault.
pub fn has_pass_phrase() -> Result<Option<bool>, Failure> {
    Vault::find()?.has_pass_phrase()
}

/// Encrypts the vault anew. At no moment, whatever ends the process, can it not be opened: a new identity is written beside
/// the old one before the vault is encrypted to it, and the old one goes after that.
pub fn rekey(plan: Rekey) -> Result<(), Failure> {
    let file = File::find()?;
    let renewed = Cell::new(false);
    let how = |contents: &mut Contents, access: Access| {
        for recipient in &plan.remove {
            if !contents.recipients.contains(recipient) {
                return Err(Failure::usage(format!("{recipient} is no recipient of the vault")));
            }
        }
        contents.recipients.retain(|recipient| !plan.remove.contains(recipient));
        for recipient in plan.add {
            if !contents.recipients.contains(&recipient) {
                contents.recipients.push(recipient);
            }
        }
        let access = match (plan.to, access) {
            (NewKey::Same, access) => access,
            (NewKey::PassPhrase(phrase), _) => Access::PassPhrase(phrase),
            (NewKey::Identity, Access::PassPhrase(_)) => Access::Identities(file.load_or_make()?),
            (NewKey::Identity, Access::Identities(old)) => {
                let mut identities = old;
                if !file.foreign {
                    identities.insert(0, Identity::new());
                    file.write(&identities)?;
                    renewed.set(true);
                }
                Access::Identities(identities)
            }
        };
        if matches!(access, Access::PassPhrase(_)) && !contents.recipients.is_empty() {
            return Err(Failure::usage("a vault with a pass phrase can have no recipients beside it").hint(
                "age forbids it; take them out with --remove-recipient (`tracemq secret list --recipients` tells them)",
            ));
        }
        Ok(access)
    };
    let after = |access: &Access| match access {
        Access::Identities(identities) if renewed.get() => file.write(&identities[..1]),
        _ => Ok(()),
    };
    let outcome = Vault::find()?.rekey(how, after);
    *READ.lock().unwrap_or_else(PoisonError::into_inner) = None;
    outcome
}

/// Who can open the vault beside our own identity.
pub fn recipients() -> Result<Vec<Recipient>, Failure> {
    with(|contents| contents.recipients.clone())
}
