//! What a pass phrase opens: PBES2 (RFC 8018, with PBKDF2 or scrypt) and the PKCS#12 schemes (RFC 7292, appendices B, C).
//!
//! Key derivation and digests are `ring`'s, which rustls brings along anyway; the block ciphers, which `ring` does not
//! give away, are RustCrypto's. `pkcs5`, `pkcs8` and `p12-keystore` would do it all, and three X.509 parsers and two
//! generations of hashes with it: half a megabyte in every plugin, for a file that is read once.

use std::num::NonZeroU32;

use aes::cipher::{Block, BlockCipherDecrypt, KeyInit};
use ring::{digest, pbkdf2};

use super::der::{Algorithm, Values, tag};

/// Rounds of key derivation, at most: a few seconds. OpenSSL writes 2,048; the most careful writers, about a million.
const MOST_ROUNDS: u32 = 10_000_000;
/// Memory for scrypt, at most, in bytes. OpenSSL writes keys that want 16 MiB.
const MOST_MEMORY: u64 = 1 << 30;
/// Blocks of scrypt, at most.
const MOST_PARALLEL: u32 = 16;

mod oid {
    pub const PBES2: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x01\x05\x0D";
    pub const PBKDF2: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x01\x05\x0C";
    pub const SCRYPT: &[u8] = b"\x2B\x06\x01\x04\x01\xDA\x47\x04\x0B";
    pub const HMAC_SHA1: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x02\x07";
    pub const HMAC_SHA256: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x02\x09";
    pub const HMAC_SHA384: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x02\x0A";
    pub const HMAC_SHA512: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x02\x0B";
    pub const AES128_CBC: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x01\x02";
    pub const AES192_CBC: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x01\x16";
    pub const AES256_CBC: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x01\x2A";
    pub const DES3_CBC: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x03\x07";
    pub const SHA1_3DES: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x01\x0C\x01\x03";
    pub const SHA1_RC2_128: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x01\x0C\x01\x05";
    pub const SHA1_RC2_40: &[u8] = b"\x2A\x86\x48\x86\xF7\x0D\x01\x0C\x01\x06";
}

/// Why something stays closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// The pass phrase is another, or the bytes were changed.
    WrongPassword,
    /// It is not what it should be, or asks for what is not supported: which.
    Unreadable(&'static str),
}

const DAMAGED: Closed = Closed::Unreadable("its encryption parameters are damaged");
const CIPHER: Closed = Closed::Unreadable("it is encrypted with a cipher that is not supported");
const DERIVATION: Closed = Closed::Unreadable("its key derivation is not supported");
const TOO_COSTLY: Closed = Closed::Unreadable("its key derivation asks for too much time or memory");

/// Opens an EncryptedPrivateKeyInfo (RFC 5958, section 3): gives the PrivateKeyInfo in it.
pub(super) fn open_key(der: &[u8], password: &str) -> Result<Vec<u8>, Closed> {
    let mut sealed = Values::new(der).within(tag::SEQUENCE).ok_or(DAMAGED)?;
    let algorithm = sealed.algorithm().ok_or(DAMAGED)?;
    open(algorithm, sealed.content(tag::OCTET_STRING).ok_or(DAMAGED)?, password)
}

/// Opens what an algorithm with its parameters closed. What was in it is always a SEQUENCE.
pub(super) fn open(algorithm: Algorithm<'_>, sealed: &[u8], password: &str) -> Result<Vec<u8>, Closed> {
    let parameters = { algorithm.parameters }.within(tag::SEQUENCE).ok_or(DAMAGED);
    let open = match algorithm.id {
        oid::PBES2 => pbes2(parameters?, sealed, password)?,
        oid::SHA1_3DES => pkcs12_pbe::<des::TdesEde3>(24, parameters?, sealed, password)?,
        oid::SHA1_RC2_128 => pkcs12_pbe::<rc2::Rc2>(16, parameters?, sealed, password)?,
        oid::SHA1_RC2_40 => pkcs12_pbe::<rc2::Rc2>(5, parameters?, sealed, password)?,
        _ => return Err(CIPHER),
    };
    // One wrong key in 256 gives something that looks padded.
    let mut values = Values::new(&open);
    match (values.content(tag::SEQUENCE), values.is_empty()) {
        (Some(_), true) => Ok(open),
        _ => Err(Closed::WrongPassword),
    }
}

fn pbes2(mut parameters: Values<'_>, sealed: &[u8], password: &str) -> Result<Vec<u8>, Closed> {
    let derivation = parameters.algorithm().ok_or(DAMAGED)?;
    let mut cipher = parameters.algorithm().ok_or(DAMAGED)?;
    let iv = cipher.parameters.content(tag::OCTET_STRING).ok_or(CIPHER)?;
    let key = |len| derive(derivation, password.as_bytes(), len);
    match cipher.id {
        oid::AES128_CBC => cbc::<aes::Aes128Dec>(&key(16)?, iv, sealed),
        oid::AES192_CBC => cbc::<aes::Aes192Dec>(&key(24)?, iv, sealed),
        oid::AES256_CBC => cbc::<aes::Aes256Dec>(&key(32)?, iv, sealed),
        oid::DES3_CBC => cbc::<des::TdesEde3>(&key(24)?, iv, sealed),
        _ => Err(CIPHER),
    }
}

/// The key of `len` bytes that PBKDF2 (RFC 8018, section 5.2) or scrypt (RFC 7914) makes of the pass phrase.
fn derive(mut derivation: Algorithm<'_>, password: &[u8], len: usize) -> Result<Vec<u8>, Closed> {
    let mut parameters = derivation.parameters.within(tag::SEQUENCE).ok_or(DAMAGED)?;
    let salt = parameters.content(tag::OCTET_STRING).ok_or(DERIVATION)?;
    let mut key = vec![0; len];
    // The length may be written down; it has to be the cipher's.
    let key_length = |parameters: &mut Values<'_>| match parameters.next_is(tag::INTEGER) {
        true => parameters.number().filter(|n| *n as usize == len).map(|_| ()).ok_or(DAMAGED),
        false => Ok(()),
    };
    match derivation.id {
        oid::PBKDF2 => {
            let rounds = parameters.number().and_then(NonZeroU32::new).ok_or(DAMAGED)?;
            if rounds.get() > MOST_ROUNDS {
                return Err(TOO_COSTLY);
            }
            key_length(&mut parameters)?;
            let algorithm = match parameters.algorithm().map(|hmac| hmac.id) {
                None if !parameters.is_empty() => return Err(DAMAGED),
                None | Some(oid::HMAC_SHA1) => pbkdf2::PBKDF2_HMAC_SHA1,
                Some(oid::HMAC_SHA256) => pbkdf2::PBKDF2_HMAC_SHA256,
                Some(oid::HMAC_SHA384) => pbkdf2::PBKDF2_HMAC_SHA384,
                Some(oid::HMAC_SHA512) => pbkdf2::PBKDF2_HMAC_SHA512,
                Some(_) => return Err(DERIVATION),
            };
            pbkdf2::derive(algorithm, rounds, salt, password, &mut key);
        }
        oid::SCRYPT => {
            let mut number = || parameters.number().ok_or(DAMAGED);
            let (n, r, p) = (number()?, number()?, number()?);
            key_length(&mut parameters)?;
            if u64::from(n) * u64::from(r) > MOST_MEMORY / 128 || p > MOST_PARALLEL {
                return Err(TOO_COSTLY);
            }
            if !n.is_power_of_two() {
                return Err(DAMAGED);
            }
            let params = scrypt::Params::new(n.trailing_zeros() as u8, r, p).map_err(|_| DAMAGED)?;
            scrypt::scrypt(password, salt, &params, &mut key).map_err(|_| DAMAGED)?;
        }
        _ => return Err(DERIVATION),
    }
    Ok(key)
}

/// A scheme of RFC 7292, appendix C: key and initialisation vector both come of the pass phrase, by way of SHA-1.
fn pkcs12_pbe<C: BlockCipherDecrypt + KeyInit>(
    key_len: usize,
    mut parameters: Values<'_>,
    sealed: &[u8],
    password: &str,
) -> Result<Vec<u8>, Closed> {
    let salt = parameters.content(tag::OCTET_STRING).ok_or(DAMAGED)?;
    let rounds = parameters.number().ok_or(DAMAGED)?;
    let sha1 = &digest::SHA1_FOR_LEGACY_USE_ONLY;
    let key = pkcs12_derive(sha1, Purpose::Key, password, salt, rounds, key_len)?;
    let iv = pkcs12_derive(sha1, Purpose::Iv, password, salt, rounds, 8)?;
    cbc::<C>(&key, &iv, sealed)
}

/// What a derived key is for: the ID of RFC 7292, appendix B.3.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Key = 1,
    Iv = 2,
    Mac = 3,
}

/// The key derivation of RFC 7292, appendix B.2; the letters are its own.
pub(super) fn pkcs12_derive(
    algorithm: &'static digest::Algorithm,
    purpose: Purpose,
    password: &str,
    salt: &[u8],
    rounds: u32,
    len: usize,
) -> Result<Vec<u8>, Closed> {
    match rounds {
        0 => return Err(DAMAGED),
        rounds if rounds > MOST_ROUNDS => return Err(TOO_COSTLY),
        _ => {}
    }
    let v = algorithm.block_len();
    // UTF-16 with the end marked (B.1), then salt and pass phrase, each repeated to a multiple of v bytes.
    let p: Vec<u8> = password.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect();
    let fill =
        |text: &[u8]| -> Vec<u8> { text.iter().copied().cycle().take(text.len().div_ceil(v) * v).collect() };
    let d = vec![purpose as u8; v];
    let mut i = [fill(salt), fill(&p)].concat();
    let mut key = Vec::new();
    while key.len() < len {
        let mut a = digest::Context::new(algorithm);
        a.update(&d);
        a.update(&i);
        let mut a = a.finish();
        for _ in 1..rounds {
            a = digest::digest(algorithm, a.as_ref());
        }
        key.extend_from_slice(a.as_ref());
        // Each block of I, a number with its most significant byte first, grows by B + 1.
        let b: Vec<u8> = a.as_ref().iter().copied().cycle().take(v).collect();
        for block in i.chunks_exact_mut(v) {
            let mut carry = 1;
            for (digit, b) in block.iter_mut().zip(&b).rev() {
                carry += u16::from(*digit) + u16::from(*b);
                *digit = carry as u8;
                carry >>= 8;
            }
        }
    }
    key.truncate(len);
    Ok(key)
}

/// CBC with the padding of PKCS#7. Block by block: the ciphers' ways of doing many at once are large, and a key is small.
pub(super) fn cbc<C: BlockCipherDecrypt + KeyInit>(
    key: &[u8],
    iv: &[u8],
    sealed: &[u8],
) -> Result<Vec<u8>, Closed> {
    let cipher = C::new_from_slice(key).map_err(|_| DAMAGED)?;
    let mut block = Block::<C>::default();
    let size = block.len();
    if iv.len() != size || sealed.is_empty() || !sealed.len().is_multiple_of(size) {
        return Err(DAMAGED);
    }
    let mut open = Vec::with_capacity(sealed.len());
    let mut before = iv;
    for this in sealed.chunks_exact(size) {
        block.copy_from_slice(this);
        cipher.decrypt_block(&mut block);
        open.extend(block.iter().zip(before).map(|(a, b)| a ^ b));
        before = this;
    }
    let pad = open.last().map_or(0, |n| usize::from(*n));
    let end =
        open.len().checked_sub(pad).filter(|_| (1..=size).contains(&pad)).ok_or(Closed::WrongPassword)?;
    if open[end..].iter().any(|n| usize::from(*n) != pad) {
        return Err(Closed::WrongPassword);
    }
    open.truncate(end);
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors that all implementations share; RFC 7292 has none.
    #[test]
    fn pkcs12_keys_are_derived_as_elsewhere() {
        let sha1 = &digest::SHA1_FOR_LEGACY_USE_ONLY;
        let salt = b"\x0A\x58\xCF\x64\x53\x0D\x82\x3F";
        let derived = |purpose, len| pkcs12_derive(sha1, purpose, "smeg", salt, 1, len).unwrap();
        assert_eq!(
            derived(Purpose::Key, 24),
            b"\x8A\xAA\xE6\x29\x7B\x6C\xB0\x46\x42\xAB\x5B\x07\x78\x51\x28\x4E\xB7\x12\x8F\x1A\x2A\x7F\xBC\xA3"
        );
        assert_eq!(derived(Purpose::Iv, 8), b"\x79\x99\x3D\xFE\x04\x8D\x3B\x76");
    }

    #[test]
    fn costly_derivations_are_refused() {
        let sha1 = &digest::SHA1_FOR_LEGACY_USE_ONLY;
        let derived = |rounds| pkcs12_derive(sha1, Purpose::Key, "", b"salt", rounds, 24);
        assert_eq!(derived(MOST_ROUNDS + 1), Err(TOO_COSTLY));
        assert_eq!(derived(0), Err(DAMAGED));
        let derived = |id, parameters: &[u8]| {
            let parameters = [&[0x30, parameters.len() as u8], parameters].concat();
            derive(Algorithm { id, parameters: Values::new(&parameters) }, b"", 32).unwrap_err()
        };
        assert_eq!(derived(oid::PBKDF2, b"\x04\x01s\x02\x04\x7F\xFF\xFF\xFF"), TOO_COSTLY);
        assert_eq!(derived(oid::PBKDF2, b"\x04\x01s\x02\x01\x00"), DAMAGED);
        // N, r, p: 2^24 * 8 * 128 bytes are 16 GiB; then too many blocks, no power of two, no memory at all.
        assert_eq!(derived(oid::SCRYPT, b"\x04\x01s\x02\x04\x01\0\0\0\x02\x01\x08\x02\x01\x01"), TOO_COSTLY);
        assert_eq!(derived(oid::SCRYPT, b"\x04\x01s\x02\x01\x10\x02\x01\x08\x02\x01\x11"), TOO_COSTLY);
        assert_eq!(derived(oid::SCRYPT, b"\x04\x01s\x02\x01\x11\x02\x01\x08\x02\x01\x01"), DAMAGED);
        assert_eq!(derived(oid::SCRYPT, b"\x04\x01s\x02\x01\x10\x02\x01\x00\x02\x01\x01"), DAMAGED);
        assert_eq!(derived(oid::SCRYPT, b"\x04\x01s\x02\x01\x00\x02\x01\x08\x02\x01\x01"), DAMAGED);
    }
}
