//! Pre-shared keys as options.

use std::collections::HashMap;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::prelude::{Error, Result};
use tracemq_plugin_api::{schemars, serde};

/// What every implementation must be able to take (RFC 4279 section 5.3).
const LONGEST_IDENTITY: usize = 128;
const LONGEST_KEY: usize = 64;

/// A pre-shared key.
pub(super) type Key = Vec<u8>;

/// A client's, to be flattened into the options of a connection.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PskOptions {
    /// DTLS or TLS with a pre-shared key: the identity to give
    #[schemars(title = "PSK identity", extend(
        "x-group" = "dtls", "x-order" = 410, "x-ask" = true, "x-title-fr" = "Identité PSK",
        "x-help-fr" = "DTLS ou TLS par clé partagée : l'identité à donner"
    ))]
    pub psk_identity: Option<String>,

    /// DTLS or TLS with a pre-shared key: the key, as text, or in hex after 0x
    #[schemars(title = "PSK key", extend(
        "x-secret" = true, "x-group" = "dtls", "x-order" = 411, "x-ask" = true, "x-title-fr" = "Clé PSK",
        "x-help-fr" = "DTLS ou TLS par clé partagée : la clé, en texte, ou en hexadécimal après 0x"
    ))]
    pub psk_key: Option<String>,
}

impl fmt::Debug for PskOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PskOptions")
            .field("psk_identity", &self.psk_identity)
            .field("psk_key", &self.psk_key.as_ref().map(|_| "***"))
            .finish()
    }
}

impl PskOptions {
    pub fn is_set(&self) -> bool {
        self.psk_identity.is_some() || self.psk_key.is_some()
    }

    /// Identity and key; `None` when certificates are to be used.
    ///
    /// # Errors
    /// One without the other, or one that can't be.
    pub(super) fn pair(&self) -> Result<Option<(String, Key)>> {
        match (&self.psk_identity, &self.psk_key) {
            (None, None) => Ok(None),
            (Some(_), None) => Err(Error::config("--psk-identity needs --psk-key")),
            (None, Some(_)) => Err(Error::config("--psk-key needs --psk-identity")),
            (Some(identity), Some(key)) => {
                check_identity("--psk-identity", identity)?;
                Ok(Some((identity.clone(), parse_key("--psk-key", key)?)))
            }
        }
    }

    /// # Errors
    /// As above.
    pub fn check(&self) -> Result<()> {
        self.pair().map(drop)
    }
}

/// A server's, to be flattened into the options of serve.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ServePskOptions {
    /// DTLS or TLS: pre-shared key of a client, IDENTITY=KEY; the key as text, or in hex after 0x
    #[schemars(title = "Pre-shared keys", extend(
        "x-secret" = true, "x-type" = "pair", "x-group" = "dtls", "x-order" = 410, "x-title-fr" = "Clés partagées",
        "x-help-fr" = "DTLS ou TLS : clé partagée d'un client, IDENTITÉ=CLÉ ; la clé en texte, ou en hexadécimal après 0x"
    ))]
    pub psk: Vec<String>,
}

impl fmt::Debug for ServePskOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServePskOptions").field("psk", &self.psk.len()).finish()
    }
}

impl ServePskOptions {
    pub fn is_set(&self) -> bool {
        !self.psk.is_empty()
    }

    /// The keys by their identities.
    ///
    /// # Errors
    /// One that is no pair, or can't be, or stands twice. None repeats the text, which holds the key.
    pub(super) fn keys(&self) -> Result<HashMap<Vec<u8>, Key>> {
        let mut keys = HashMap::new();
        for text in &self.psk {
            let (identity, key) =
                text.split_once('=').filter(|(identity, _)| !identity.is_empty()).ok_or_else(|| {
                    Error::config("--psk: write it as IDENTITY=KEY, with an identity before the first \"=\"")
                })?;
            check_identity("--psk", identity)?;
            if keys.insert(identity.as_bytes().to_vec(), parse_key("--psk", key)?).is_some() {
                return Err(Error::config(format!("--psk: the identity \"{identity}\" is given twice")));
            }
        }
        Ok(keys)
    }

    /// # Errors
    /// As above.
    pub fn check(&self) -> Result<()> {
        self.keys().map(drop)
    }
}

fn check_identity(option: &str, identity: &str) -> Result<()> {
    match identity {
        "" => Err(Error::config(format!("{option}: the identity is empty"))),
        text if text.len() > LONGEST_IDENTITY => {
            Err(Error::config(format!("{option}: an identity has at most {LONGEST_IDENTITY} bytes")))
        }
        text if text.contains('\0') => Err(Error::config(format!("{option}: an identity has no NUL in it"))),
        _ => Ok(()),
    }
}

/// A key that begins with 0x is in hex, all others are text.
fn parse_key(option: &str, text: &str) -> Result<Key> {
    let key = match text.strip_prefix("0x") {
        None => text.as_bytes().to_vec(),
        Some(digits) => {
            let even = digits.len().is_multiple_of(2) && digits.is_ascii();
            let bytes =
                (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok());
            even.then(|| bytes.collect::<Option<Key>>()).flatten().ok_or_else(|| {
                Error::config(format!(
                    "{option}: what follows 0x in the key is not hex, two digits for each byte"
                ))
            })?
        }
    };
    match key.len() {
        0 => Err(Error::config(format!("{option}: the key is empty"))),
        length if length > LONGEST_KEY => {
            Err(Error::config(format!("{option}: a key has at most {LONGEST_KEY} bytes")))
        }
        _ => Ok(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_text_or_hex() {
        for (text, key) in [("secret", &b"secret"[..]), ("0x00fF", &[0, 255]), ("a=b", b"a=b")] {
            assert_eq!(parse_key("--psk-key", text).unwrap(), key);
        }
        let keys = ServePskOptions { psk: vec!["ann=0x01".into(), "bob=x=y".into()] }.keys().unwrap();
        assert_eq!((&keys[&b"ann"[..]][..], &keys[&b"bob"[..]][..]), (&[1][..], &b"x=y"[..]));
    }

    #[test]
    fn what_can_not_be_names_its_option_and_no_secret() {
        for psk in ["hunter2", "=hunter2", "ann=0xhunter2", "ann=0xhunter", "ann=", "ann=0x"] {
            let options = ServePskOptions { psk: vec![psk.to_owned()] };
            let error = options.check().expect_err(psk).to_string();
            assert!(error.contains("--psk") && !error.contains("hunter"), "{error}");
            assert!(!format!("{options:?}").contains("hunter"));
        }
        let twice = ServePskOptions { psk: vec!["ann=1".into(), "ann=2".into()] };
        assert!(twice.check().unwrap_err().to_string().contains("twice"));
        for (identity, key, part) in [
            (Some("ann"), None, "--psk-key"),
            (None, Some("hunter2"), "--psk-identity"),
            (Some(""), Some("hunter2"), "empty"),
            (Some("ann"), Some("0xhunter2"), "0x"),
        ] {
            let options = PskOptions { psk_identity: identity.map(Into::into), psk_key: key.map(Into::into) };
            let error = options.check().expect_err(part).to_string();
            assert!(error.contains(part) && !error.contains("hunter"), "{error}");
            assert!(!format!("{options:?}").contains("hunter"));
        }
        let long = PskOptions { psk_identity: Some("x".repeat(129)), psk_key: Some("k".into()) };
        assert!(long.check().unwrap_err().to_string().contains("128"));
    }
}
