//! The age v1 format (C2SP age.md, age-encryption.org/v1): what `age` and `rage` write and read, for the vault and for
//! exports.
//!
//! Written here on the ciphers of RustCrypto and not taken from the `age` crate (0.11.5): that one brings a translation engine
//! (fluent, i18n-embed), a parser's runtime and futures, and adds 153 crates and 417 kB to a small program built as the host is, this one
//! 42 and 75 kB. With the vault, its command and the masking, the host grew from 3.25 to 3.46 MB, of 4.0 that it may have.
//! Only the two native kinds of recipients are here, X25519 and pass phrases (scrypt); stanzas of any other kind are passed
//! over, as the format asks. Everything is held in memory: a vault and an export are small, and what is not is refused
//! ([`LARGEST`]). The format's own test vectors are in `testdata`, and the reference tool is asked in `tests/tests/secrets.rs`.

mod armor;
mod header;
mod keys;
mod stream;

pub use armor::armored;
pub use keys::{Identity, Recipient};

use crate::redact::Secret;
use header::{FileKey, Header, Stanza};
use std::borrow::Cow;
use std::fmt;
use zeroize::Zeroizing;

/// The most that a file may hold, in bytes.
pub const LARGEST: usize = 32 * 1024 * 1024;

/// What is opened with.
pub enum Key<'a> {
    /// Any of these.
    Identities(&'a [Identity]),
    PassPhrase(&'a Secret),
}

/// Who may open what is encrypted.
pub enum Audience<'a> {
    /// Each of them, at least one.
    Recipients(&'a [Recipient]),
    PassPhrase(&'a Secret),
}

/// Why a file can't be opened. No text of the file is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// It does not begin as an age file does.
    NotAge,
    /// A later version of the format.
    Version(String),
    /// Damaged, or cut off.
    Damaged(&'static str),
    /// None of the identities, or not this pass phrase.
    NoMatch,
    /// It was encrypted with a pass phrase, and there are only identities; or the other way round.
    OtherKind,
    TooLarge,
    /// The pass phrase's work factor is higher than what is taken from others.
    TooMuchWork(u8),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotAge => f.write_str("it is no age file, or its first line is damaged"),
            Error::Version(version) => {
                write!(f, "it is of version {version:?} of the age format; known is v1")
            }
            Error::Damaged(where_) => write!(f, "it is damaged or cut off ({where_})"),
            Error::NoMatch => {
                f.write_str("it is not encrypted to this identity or pass phrase, or is damaged")
            }
            Error::OtherKind => f.write_str("it was encrypted for another kind of key"),
            Error::TooLarge => write!(f, "it is larger than {} MiB", LARGEST >> 20),
            Error::TooMuchWork(log_n) => {
                write!(
                    f,
                    "its pass phrase asks for a work factor of 2^{log_n}, more than 2^{}",
                    keys::MOST_WORK
                )
            }
        }
    }
}

impl std::error::Error for Error {}

/// Encrypts. The result is binary; [`armored`] makes text of it.
pub fn encrypt(plain: &[u8], audience: &Audience<'_>) -> Vec<u8> {
    let file_key = FileKey::new();
    let stanzas: Vec<Stanza> = match audience {
        Audience::Recipients(recipients) => {
            recipients.iter().map(|recipient| recipient.wrap(&file_key)).collect()
        }
        Audience::PassPhrase(phrase) => vec![keys::wrap_with_phrase(&file_key, phrase, keys::WORK)],
    };
    let mut out = header::write(&stanzas, &file_key);
    stream::encrypt(plain, &file_key, &mut out);
    out
}

/// Decrypts a file, binary or armored.
pub fn decrypt(file: &[u8], key: &Key<'_>) -> Result<Zeroizing<Vec<u8>>, Error> {
    if file.len() > LARGEST + LARGEST / 2 {
        return Err(Error::TooLarge);
    }
    let file = binary(file)?;
    let (header, payload) = header::parse(&file)?;
    let file_key = unwrap(&header, key)?;
    header.check(&file_key)?;
    stream::decrypt(payload, &file_key)
}

/// Whether a file is opened by a pass phrase.
///
/// # Errors
/// It is no age file.
pub fn wants_pass_phrase(file: &[u8]) -> Result<bool, Error> {
    Ok(header::parse(&binary(file)?)?.0.stanzas.iter().any(Stanza::is_scrypt))
}

/// The file in its binary form.
fn binary(file: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    match armor::is_armored(file) {
        true => armor::unarmored(file).map(Cow::Owned),
        false => Ok(Cow::Borrowed(file)),
    }
}

/// Whether a file looks like one of age's, armored or not, whole or not.
pub fn is_age(file: &[u8]) -> bool {
    file.starts_with(header::INTRO) || armor::is_armored(file)
}

fn unwrap(header: &Header<'_>, key: &Key<'_>) -> Result<FileKey, Error> {
    let scrypt = header.stanzas.iter().filter(|stanza| stanza.is_scrypt()).count();
    if scrypt > 0 && header.stanzas.len() > 1 {
        return Err(Error::Damaged("a pass phrase beside other recipients"));
    }
    match key {
        Key::PassPhrase(phrase) => match header.stanzas.as_slice() {
            [stanza] if scrypt == 1 => keys::unwrap_with_phrase(stanza, phrase),
            _ => Err(Error::OtherKind),
        },
        Key::Identities(_) if scrypt == 1 => Err(Error::OtherKind),
        Key::Identities(identities) => {
            for stanza in header.stanzas.iter().filter(|stanza| stanza.is_x25519()) {
                for identity in *identities {
                    if let Some(file_key) = identity.unwrap(stanza)? {
                        return Ok(file_key);
                    }
                }
            }
            Err(Error::NoMatch)
        }
    }
}

/// Bytes from the system's generator.
fn random<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    // Without it nothing can be done safely, and on the systems that this runs on it does not fail.
    getrandom::fill(&mut *bytes).expect("the system gives random bytes");
    bytes
}

#[cfg(test)]
mod tests;
