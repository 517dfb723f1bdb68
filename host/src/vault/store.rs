//! The vault's file: found, opened, changed under a lock, replaced as a whole.
//!
//! A reader needs no lock, since a file is only ever replaced. Changes hold one on a file of its own beside the vault, as
//! the vault itself is another file after each of them. A vault that is a link is followed: the link stays, and lock and
//! replacement are where it leads.

use super::age::{self, Audience, Identity, Key};
use super::contents::{Contents, Wrong};
use super::identity::{self, File};
use crate::failure::{Exit, Failure};
use crate::folders;
use crate::redact::Secret;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

const NAME: &str = "vault.age";
/// How long another process's change is waited for. One with a pass phrase takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a vault was opened with, and will be closed with again.
pub enum Access {
    /// The first is encrypted to.
    Identities(Vec<Identity>),
    PassPhrase(Secret),
}

/// Where the vault is.
pub struct Vault {
    path: PathBuf,
}

impl Vault {
    pub fn find() -> Result<Vault, Failure> {
        let path = folders::config().ok_or_else(super::no_place)?.join(NAME);
        match path.canonicalize() {
            Ok(path) => Ok(Vault { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if path.is_symlink() {
                    let text = format!("the vault {} is a link to a file that is not there", path.display());
                    return Err(Failure::new(Exit::Failed, text));
                }
                Ok(Vault { path })
            }
            Err(error) => Err(Vault { path }.failed(&error.to_string())),
        }
    }

    fn failed(&self, why: &str) -> Failure {
        Failure::new(Exit::Failed, format!("the vault {}: {why}", self.path.display()))
    }

    fn read(&self) -> Result<Option<Vec<u8>>, Failure> {
        let facts = match self.path.metadata() {
            Ok(facts) => facts,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(&error.to_string())),
        };
        if !facts.is_file() || facts.len() > 2 * age::LARGEST as u64 {
            return Err(self.failed("not a file of a vault's size"));
        }
        std::fs::read(&self.path).map(Some).map_err(|error| self.failed(&error.to_string()))
    }

    fn kind(&self, file: &[u8]) -> Result<bool, Failure> {
        age::wants_pass_phrase(file).map_err(|error| self.unopened(&error))
    }

    /// The pass phrase, if the vault there is now is opened by one. Asked for before the lock is taken: nobody should wait
    /// for somebody's typing.
    fn phrase(&self) -> Result<Option<Secret>, Failure> {
        if self.has_pass_phrase()? == Some(true) { self.ask().map(Some) } else { Ok(None) }
    }

    fn ask(&self) -> Result<Secret, Failure> {
        identity::pass_phrase(&format!("the vault {}", self.path.display()))
    }

    /// Opens the vault; `None` when there is none.
    fn open(&self, phrase: Option<Secret>) -> Result<Option<(Contents, Access)>, Failure> {
        let Some(file) = self.read()? else { return Ok(None) };
        let access = match self.kind(&file)? {
            true => Access::PassPhrase(phrase.map_or_else(|| self.ask(), Ok)?),
            false => Access::Identities(File::find()?.load()?),
        };
        let key = match &access {
            Access::Identities(identities) => Key::Identities(identities),
            Access::PassPhrase(phrase) => Key::PassPhrase(phrase),
        };
        let plain = age::decrypt(&file, &key).map_err(|error| self.unopened(&error))?;
        let contents = Contents::parse(&plain).map_err(|wrong| match wrong {
            Wrong::Version(version) => self
                .failed(&format!("it is of version {version}, which this tracemq does not know"))
                .hint("use a later one; nothing was changed"),
            Wrong::Content(why) => self.failed(&format!("its content is no vault's: {why}")),
        })?;
        Ok(Some((contents, access)))
    }

    fn unopened(&self, error: &age::Error) -> Failure {
        let failure = self.failed(&format!("it can't be opened: {error}"));
        match error {
            age::Error::NoMatch => failure.hint(format!(
                "{} and {} say with what it is opened (`tracemq secret --help`)",
                identity::IDENTITY_VARIABLE,
                identity::PASS_PHRASE_VARIABLE
            )),
            age::Error::Version(_) => failure.hint("use a later tracemq; nothing was changed"),
            _ => failure.hint("if you have a copy of the file, put it back"),
        }
    }

    /// What is in the vault; nothing when there is none.
    pub fn contents(&self) -> Result<Contents, Failure> {
        let outcome = match self.open(None) {
            // A rekey may have come between the reading of vault and identity: then the next attempt goes well.
            Err(failure) if !self.has_pass_phrase()?.unwrap_or(true) => match self.lock() {
                Ok(_lock) => self.open(None),
                Err(_) => Err(failure),
            },
            outcome => outcome,
        };
        Ok(outcome?.map(|(contents, _)| contents).unwrap_or_default())
    }

    /// Whether the vault is opened by a pass phrase; `None` when there is none.
    pub fn has_pass_phrase(&self) -> Result<Option<bool>, Failure> {
        self.read()?.map(|file| self.kind(&file)).transpose()
    }

    fn lock(&self) -> Result<folders::Lock, Failure> {
        folders::lock(&self.path.with_file_name(".vault.lock"), PATIENCE).map_err(|error| {
            match error.kind() {
                io::ErrorKind::TimedOut => self.failed("another process has been changing it for a minute"),
                _ => self.unwritable(&error),
            }
        })
    }

    fn unwritable(&self, error: &io::Error) -> Failure {
        Failure::new(
            Exit::Failed,
            format!("the vault {} can't be written, and stays as it was: {error}", self.path.display()),
        )
    }

    /// Changes the vault, of which there need be none yet. When `how` fails, nothing is changed.
    pub fn change<T>(&self, how: impl FnOnce(&mut Contents) -> Result<T, Failure>) -> Result<T, Failure> {
        let phrase = self.phrase()?;
        let _lock = self.lock()?;
        let (mut contents, access) = match self.open(phrase)? {
            Some(opened) => opened,
            None => (Contents::default(), Access::of_a_new_vault()?),
        };
        let outcome = how(&mut contents)?;
        self.write(&contents, &access)?;
        Ok(outcome)
    }

    /// Encrypts the vault anew, for what `how` returns: it gets the contents and what the vault was opened with. Then `after`
    /// runs, still under the lock.
    pub fn rekey(
        &self,
        how: impl FnOnce(&mut Contents, Access) -> Result<Access, Failure>,
        after: impl FnOnce(&Access) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let phrase = self.phrase()?;
        let _lock = self.lock()?;
        let (mut contents, access) = self
            .open(phrase)?
            .ok_or_else(|| self.failed("there is none yet").hint("`tracemq secret set NAME` makes it"))?;
        let access = how(&mut contents, access)?;
        self.write(&contents, &access)?;
        after(&access)
    }

    fn write(&self, contents: &Contents, access: &Access) -> Result<(), Failure> {
        let plain = contents.to_toml();
        if plain.len() > age::LARGEST {
            return Err(self.failed(&format!("it would hold more than {} MiB", age::LARGEST >> 20)));
        }
        let file = match access {
            Access::PassPhrase(phrase) => age::encrypt(plain.as_bytes(), &Audience::PassPhrase(phrase)),
            Access::Identities(identities) => {
                let own = identities.first().map(Identity::recipient);
                let mut recipients: Vec<age::Recipient> = own.into_iter().collect();
                for recipient in &contents.recipients {
                    if !recipients.contains(recipient) {
                        recipients.push(recipient.clone());
                    }
                }
                age::encrypt(plain.as_bytes(), &Audience::Recipients(&recipients))
            }
        };
        folders::write(&self.path, &file).map_err(|error| self.unwritable(&error))
    }
}

impl Access {
    /// A pass phrase if the environment names one, else our identity, which is made if need be.
    fn of_a_new_vault() -> Result<Access, Failure> {
        Ok(match identity::pass_phrase_of_environment()? {
            Some(phrase) => Access::PassPhrase(phrase),
            None => Access::Identities(File::find()?.load_or_make()?),
        })
    }
}
