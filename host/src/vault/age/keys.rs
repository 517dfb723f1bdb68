//! Identities, recipients and pass phrases: how each wraps the key of a file.

use super::header::{FileKey, Stanza, decoded, derive, encoded};
use super::{Error, random};
use crate::redact::Secret;
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use chacha20poly1305::aead::Aead;
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce};
use curve25519_dalek::MontgomeryPoint;
use curve25519_dalek::constants::X25519_BASEPOINT;
use std::fmt;
use zeroize::Zeroizing;

const SECRET_PREFIX: &str = "age-secret-key-";
const PUBLIC_PREFIX: &str = "age";
const X25519_INFO: &[u8] = b"age-encryption.org/v1/X25519";
const SCRYPT_LABEL: &[u8] = b"age-encryption.org/v1/scrypt";

/// The work factor of a pass phrase, as a power of two: that of the reference tool, a second and 256 MiB.
pub const WORK: u8 = 18;
/// The most that is taken from others: 1 GiB.
pub const MOST_WORK: u8 = 20;

/// A wrapped file key: 16 bytes and the cipher's tag. A longer one might be made to open with two keys.
const WRAPPED: usize = 32;

/// The secret half, `AGE-SECRET-KEY-1…`.
#[derive(Clone)]
pub struct Identity(Zeroizing<[u8; 32]>);

/// The public half, `age1…`: for it anyone can encrypt.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient([u8; 32]);

impl Identity {
    pub fn new() -> Identity {
        Identity(random())
    }

    /// Reads `AGE-SECRET-KEY-1…`. The error holds nothing of it.
    pub fn parse(text: &str) -> Result<Identity, &'static str> {
        let bytes = unbech32(text, SECRET_PREFIX)?;
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(&bytes[..]);
        Ok(Identity(key))
    }

    /// As a line of an identity file.
    pub fn text(&self) -> Secret {
        let hrp = Hrp::parse_unchecked(SECRET_PREFIX);
        Secret::new(bech32::encode_upper::<Bech32>(hrp, &self.0[..]).expect("32 bytes are not too long"))
    }

    pub fn recipient(&self) -> Recipient {
        Recipient(X25519_BASEPOINT.mul_clamped(*self.0).to_bytes())
    }

    /// `None`: the stanza is for someone else.
    pub(super) fn unwrap(&self, stanza: &Stanza) -> Result<Option<FileKey>, Error> {
        let wrong = Error::Damaged("an X25519 recipient");
        let [_, share] = stanza.arguments.as_slice() else { return Err(wrong) };
        let share: [u8; 32] =
            decoded(share.as_bytes()).and_then(|share| share.try_into().ok()).ok_or(wrong.clone())?;
        if stanza.body.len() != WRAPPED {
            return Err(wrong);
        }
        let shared = Zeroizing::new(MontgomeryPoint(share).mul_clamped(*self.0).to_bytes());
        if shared.iter().all(|byte| *byte == 0) {
            return Err(wrong);
        }
        let salt = [&share[..], &self.recipient().0].concat();
        Ok(opened(&derive(&shared[..], &salt, X25519_INFO), &stanza.body))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.recipient())
    }
}

impl Recipient {
    /// Reads `age1…`.
    pub fn parse(text: &str) -> Result<Recipient, &'static str> {
        let bytes = unbech32(text, PUBLIC_PREFIX)?;
        let mut point = [0; 32];
        point.copy_from_slice(&bytes[..]);
        Ok(Recipient(point))
    }

    pub(super) fn wrap(&self, key: &FileKey) -> Stanza {
        let ephemeral: Zeroizing<[u8; 32]> = random();
        let share = X25519_BASEPOINT.mul_clamped(*ephemeral).to_bytes();
        let shared = Zeroizing::new(MontgomeryPoint(self.0).mul_clamped(*ephemeral).to_bytes());
        let salt = [share, self.0].concat();
        let body = sealed(&derive(&shared[..], &salt, X25519_INFO), key);
        Stanza { arguments: vec!["X25519".into(), encoded(&share)], body }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hrp = Hrp::parse_unchecked(PUBLIC_PREFIX);
        f.write_str(&bech32::encode_lower::<Bech32>(hrp, &self.0).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// 32 bytes behind a prefix.
fn unbech32(text: &str, prefix: &str) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let checked = CheckedHrpstring::new::<Bech32>(text)
        .map_err(|_| "it is not whole: its letters do not add up to its checksum")?;
    if checked.hrp() != Hrp::parse_unchecked(prefix) {
        return Err("it is of a kind that is not known here: known are age1… and AGE-SECRET-KEY-1…");
    }
    let bytes: Zeroizing<Vec<u8>> = Zeroizing::new(checked.byte_iter().collect());
    if bytes.len() == 32 { Ok(bytes) } else { Err("it has not the length of a key") }
}

pub(super) fn wrap_with_phrase(key: &FileKey, phrase: &Secret, work: u8) -> Stanza {
    let salt: Zeroizing<[u8; 16]> = random();
    let body = sealed(&stretched(phrase, &salt[..], work), key);
    Stanza { arguments: vec!["scrypt".into(), encoded(&salt[..]), work.to_string()], body }
}

pub(super) fn unwrap_with_phrase(stanza: &Stanza, phrase: &Secret) -> Result<FileKey, Error> {
    let wrong = Error::Damaged("the pass phrase's recipient");
    let [_, salt, work] = stanza.arguments.as_slice() else { return Err(wrong) };
    let salt = decoded(salt.as_bytes()).filter(|salt| salt.len() == 16).ok_or(wrong.clone())?;
    let digits = !work.starts_with('0') && work.bytes().all(|byte| byte.is_ascii_digit());
    let work: u8 = work.parse().ok().filter(|_| digits).ok_or(wrong.clone())?;
    if stanza.body.len() != WRAPPED {
        return Err(wrong);
    }
    if work > MOST_WORK {
        return Err(Error::TooMuchWork(work));
    }
    opened(&stretched(phrase, &salt, work), &stanza.body).ok_or(Error::NoMatch)
}

/// scrypt with N = 2^work, r = 8, p = 1. `work` is at most [`MOST_WORK`].
fn stretched(phrase: &Secret, salt: &[u8], work: u8) -> Zeroizing<[u8; 32]> {
    let salt = [SCRYPT_LABEL, salt].concat();
    let parameters =
        scrypt_0_11::Params::new(work, 8, 1, 32).expect("these are good for every work factor used");
    let mut key = Zeroizing::new([0; 32]);
    scrypt_0_11::scrypt(phrase.as_bytes(), &salt, &parameters, &mut key[..]).expect("32 bytes can be made");
    key
}

/// The key is of this one use, so that the nonce may be fixed.
fn sealed(key: &[u8; 32], plain: &FileKey) -> Vec<u8> {
    ChaCha20Poly1305::new(Key::from_slice(key))
        .encrypt(&Nonce::default(), plain.bytes())
        .expect("16 bytes are not too many")
}

fn opened(key: &[u8; 32], body: &[u8]) -> Option<FileKey> {
    let plain = ChaCha20Poly1305::new(Key::from_slice(key)).decrypt(&Nonce::default(), body).ok()?;
    FileKey::of(&Zeroizing::new(plain))
}
