//! The payload: chunks of 64 KiB, each sealed with its number and with whether it is the last.

use super::header::{FileKey, derive};
use super::{Error, LARGEST, random};
use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce, Tag};
use zeroize::Zeroizing;

const CHUNK: usize = 64 * 1024;
const TAG: usize = 16;
/// Of the salt that payload keys are derived with.
const NONCE: usize = 16;

fn cipher(key: &FileKey, nonce: &[u8]) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(Key::from_slice(&derive(key.bytes(), nonce, b"payload")[..]))
}

/// Eleven bytes of a number, and one that tells the last chunk.
fn nonce(number: usize, last: bool) -> Nonce {
    let mut nonce = Nonce::default();
    nonce[3..11].copy_from_slice(&(number as u64).to_be_bytes());
    nonce[11] = u8::from(last);
    nonce
}

pub fn encrypt(plain: &[u8], key: &FileKey, out: &mut Vec<u8>) {
    let salt = random::<NONCE>();
    let cipher = cipher(key, &salt[..]);
    out.extend_from_slice(&salt[..]);
    // An empty payload is one empty chunk.
    let count = plain.len().div_ceil(CHUNK).max(1);
    for number in 0..count {
        let chunk = &plain[number * CHUNK..plain.len().min((number + 1) * CHUNK)];
        let start = out.len();
        out.extend_from_slice(chunk);
        let tag = cipher
            .encrypt_in_place_detached(&nonce(number, number + 1 == count), b"", &mut out[start..])
            .expect("a chunk is not too long");
        out.extend_from_slice(&tag);
    }
}

/// Nothing is returned unless all of it is whole.
pub fn decrypt(payload: &[u8], key: &FileKey) -> Result<Zeroizing<Vec<u8>>, Error> {
    let damaged = Error::Damaged("its content");
    let (salt, sealed) = payload.split_at_checked(NONCE).ok_or(damaged.clone())?;
    let cipher = cipher(key, salt);
    let count = sealed.len().div_ceil(CHUNK + TAG);
    let length = sealed.len().checked_sub(count * TAG).filter(|_| count > 0).ok_or(damaged.clone())?;
    if length > LARGEST {
        return Err(Error::TooLarge);
    }
    let mut plain = Zeroizing::new(Vec::with_capacity(length));
    for (number, chunk) in sealed.chunks(CHUNK + TAG).enumerate() {
        let (chunk, tag) =
            chunk.len().checked_sub(TAG).and_then(|at| chunk.split_at_checked(at)).ok_or(damaged.clone())?;
        let start = plain.len();
        plain.extend_from_slice(chunk);
        let last = number + 1 == count;
        cipher
            .decrypt_in_place_detached(&nonce(number, last), b"", &mut plain[start..], Tag::from_slice(tag))
            .map_err(|_| damaged.clone())?;
        // Only a payload that is empty as a whole has an empty chunk.
        if chunk.is_empty() && number > 0 {
            return Err(damaged);
        }
    }
    Ok(plain)
}
