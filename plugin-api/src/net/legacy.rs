//! OpenSSL's own way of encrypting a key in PEM, from before PKCS#8: headers as RFC 1421 has them (`Proc-Type: 4,ENCRYPTED`),
//! and a key that one round of MD5 makes of the pass phrase.
//!
//! Weak, and still what `openssl rsa -aes256` and `ssh-keygen -m PEM` write: who has such a file has it from somebody else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivateSec1KeyDer};

use super::der::{Values, tag};
use super::sealed::{Closed, cbc};

const DAMAGED: Closed = Closed::Unreadable("its encryption headers are damaged");
const CIPHER: Closed = Closed::Unreadable("it is encrypted with a cipher that is not supported");
/// Of the initialisation vector, so much is the salt.
const SALT: usize = 8;

#[derive(Clone, Copy)]
enum Kind {
    Rsa,
    Ec,
}

/// An encrypted key as it stands in its file.
pub(super) struct Legacy<'a> {
    kind: Kind,
    /// What follows `DEK-Info:`.
    cipher: &'a str,
    base64: &'a str,
}

/// The first key in a PEM file, if it is encrypted in this way.
pub(super) fn find(text: &str) -> Option<Legacy<'_>> {
    let (before, rest) = text.split_once("Proc-Type: 4,ENCRYPTED")?;
    let kind = match before.trim_end().lines().last()?.trim() {
        "-----BEGIN RSA PRIVATE KEY-----" => Kind::Rsa,
        "-----BEGIN EC PRIVATE KEY-----" => Kind::Ec,
        _ => return None,
    };
    // Without its end it is damaged, which an empty body is, too.
    let body = rest.split_once("-----END ").map_or("", |(body, _)| body);
    let (_, cipher) = body.split_once("DEK-Info:").unwrap_or((body, ""));
    let (cipher, base64) = cipher.split_once('\n').unwrap_or((cipher, ""));
    Some(Legacy { kind, cipher: cipher.trim(), base64 })
}

impl Legacy<'_> {
    pub(super) fn open(&self, password: &str) -> Result<PrivateKeyDer<'static>, Closed> {
        let (name, iv) = self.cipher.split_once(',').ok_or(DAMAGED)?;
        let iv = hex(iv.trim()).filter(|iv| iv.len() >= SALT).ok_or(DAMAGED)?;
        let base64: String = self.base64.split_whitespace().collect();
        let sealed = STANDARD.decode(base64).map_err(|_| DAMAGED)?;
        let key = |len| derive(password, &iv[..SALT], len);
        let der = match name {
            "AES-128-CBC" => cbc::<aes::Aes128Dec>(&key(16), &iv, &sealed),
            "AES-192-CBC" => cbc::<aes::Aes192Dec>(&key(24), &iv, &sealed),
            "AES-256-CBC" => cbc::<aes::Aes256Dec>(&key(32), &iv, &sealed),
            "DES-EDE3-CBC" => cbc::<des::TdesEde3>(&key(24), &iv, &sealed),
            "DES-CBC" => cbc::<des::Des>(&key(8), &iv, &sealed),
            _ => Err(CIPHER),
        }?;
        // One wrong pass phrase in 256 gives something that looks padded.
        let mut values = Values::new(&der);
        let version = values.within(tag::SEQUENCE).and_then(|mut key| key.number());
        match (version, self.kind) {
            (Some(0), Kind::Rsa) if values.is_empty() => Ok(PrivatePkcs1KeyDer::from(der).into()),
            (Some(1), Kind::Ec) if values.is_empty() => Ok(PrivateSec1KeyDer::from(der).into()),
            _ => Err(Closed::WrongPassword),
        }
    }
}

/// EVP_BytesToKey with MD5 and one round.
fn derive(password: &str, salt: &[u8], len: usize) -> Vec<u8> {
    let mut key = Vec::new();
    let mut last = Vec::new();
    while key.len() < len {
        let mut digest = Md5::new();
        digest.update(&last);
        digest.update(password.as_bytes());
        digest.update(salt);
        last = digest.finalize().to_vec();
        key.extend_from_slice(&last);
    }
    key.truncate(len);
    key
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = include_str!("../../tests/net/ec-old.pem");

    #[test]
    fn damage_is_noticed_or_does_no_harm() {
        assert!(find(FILE).unwrap().open("tomato").is_ok());
        assert_eq!(find(FILE).unwrap().open("potato").err(), Some(Closed::WrongPassword));
        assert!(find("-----BEGIN PRIVATE KEY-----\nabc").is_none());
        for at in 0..FILE.len() {
            if let Some(cut) = find(&FILE[..at]) {
                let whole = at >= FILE.find("-----END ").unwrap() + 9;
                assert_eq!(cut.open("tomato").is_ok(), whole, "cut at {at}");
            }
            let mut changed = FILE.as_bytes().to_vec();
            changed[at] ^= 1;
            // Only that it does not panic: what was opened is held against the certificate by whoever uses it.
            if let Some(changed) = find(&String::from_utf8_lossy(&changed)) {
                let _ = changed.open("tomato");
            }
        }
    }

    #[test]
    fn other_ciphers_are_told_apart() {
        let other = FILE.replace("AES-256-CBC", "CAMELLIA-256-CBC");
        assert_eq!(find(&other).unwrap().open("tomato").err(), Some(CIPHER));
        let short = FILE.replace("AES-256-CBC,", "AES-256-CBC,00 ");
        assert_eq!(find(&short).unwrap().open("tomato").err(), Some(DAMAGED));
    }
}
