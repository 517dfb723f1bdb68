//! Who we are: a token, a user and password, the seed of an NKey, or a `.creds` file with a JWT and a seed.
//!
//! The files are read for each connection, since those who issue JWTs replace the file before the old one expires.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::{KeyPair, KeyPairType};
use serde::Deserialize;
use tracemq_plugin_api::prelude::{Error, Result, Span};
use tracemq_plugin_api::serde;

use crate::wire::Connect;

/// No `Debug`: it holds secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Auth {
    #[default]
    Nobody,
    Token(String),
    User {
        name: String,
        password: String,
    },
    /// The file with the seed.
    NKey(PathBuf),
    /// The `.creds` file.
    Creds(PathBuf),
}

impl Auth {
    /// Reads the files, if there are any, and fills in CONNECT. `nonce` is what INFO brought.
    ///
    /// # Errors
    /// Kind config: a file can't be read or holds something else.
    pub fn fill(&self, connect: &mut Connect, nonce: Option<&str>) -> Result<()> {
        let nonce = nonce.unwrap_or_default().as_bytes();
        match self {
            Auth::Nobody => {}
            Auth::Token(token) => connect.auth_token = Some(token.clone()),
            Auth::User { name, password } => {
                connect.user = Some(name.clone());
                connect.pass = Some(password.clone());
            }
            Auth::NKey(path) => {
                let pair = user_key("--nkey-file", path, read("--nkey-file", path)?.trim())?;
                connect.nkey = Some(pair.public_key());
                connect.sig = Some(sign(&pair, nonce)?);
            }
            Auth::Creds(path) => {
                let creds = Creds::read(path)?;
                connect.sig = Some(sign(&creds.pair, nonce)?);
                connect.jwt = Some(creds.jwt);
            }
        }
        Ok(())
    }

    /// Reads the files, if there are any, only to see whether they are good.
    ///
    /// # Errors
    /// As [`Auth::fill`].
    pub fn check(&self) -> Result<()> {
        self.fill(&mut Connect::default(), None)
    }

    /// What the user should look at when the server has refused.
    pub fn hint(&self) -> String {
        match self {
            Auth::Nobody => {
                "the server wants a login: --username and --password, --token, --nkey-file or --creds-file"
                    .into()
            }
            Auth::Token(_) => "check --token".into(),
            Auth::User { .. } => "check --username and --password".into(),
            Auth::NKey(path) => {
                format!("check whether the server knows the public key of --nkey-file {}", path.display())
            }
            Auth::Creds(path) => match Creds::read(path).ok().and_then(|creds| creds.expired()) {
                Some(since) => format!(
                    "the JWT in --creds-file {} expired {since} ago: ask for a new one",
                    path.display()
                ),
                None => format!(
                    "check whether the server knows the account and user of --creds-file {}",
                    path.display()
                ),
            },
        }
    }
}

/// What a `.creds` file holds. No `Debug`.
struct Creds {
    jwt: String,
    pair: KeyPair,
    claims: Claims,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Claims {
    sub: String,
    /// Seconds since 1970; 0 for a JWT that does not expire.
    exp: u64,
}

impl Creds {
    fn read(path: &Path) -> Result<Creds> {
        let text = read("--creds-file", path)?;
        let wrong = |what: &str| {
            Error::config(format!("--creds-file {}: {what}", path.display())).hint(
                "it should hold a block NATS USER JWT and a block USER NKEY SEED, as `nsc generate creds` writes",
            )
        };
        let jwt = block(&text, "NATS USER JWT").ok_or_else(|| wrong("it has no user JWT"))?;
        let seed = block(&text, "USER NKEY SEED").ok_or_else(|| wrong("it has no NKey seed"))?;
        let claims = jwt
            .split('.')
            .nth(1)
            .and_then(|part| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok())
            .and_then(|json| tracemq_plugin_api::serde_json::from_slice::<Claims>(&json).ok())
            .ok_or_else(|| wrong("its JWT can't be read"))?;
        let pair = user_key("--creds-file", path, seed)?;
        if !claims.sub.is_empty() && claims.sub != pair.public_key() {
            return Err(wrong("its seed does not belong to its JWT"));
        }
        Ok(Creds { jwt: jwt.to_owned(), pair, claims })
    }

    /// Since when it is no longer valid.
    fn expired(&self) -> Option<Span> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        (self.claims.exp != 0 && self.claims.exp <= now).then(|| rounded(now - self.claims.exp))
    }
}

/// For people: days, hours and minutes without their remainder.
fn rounded(seconds: u64) -> Span {
    let unit = [86_400, 3600, 60].into_iter().find(|unit| seconds >= *unit).unwrap_or(1);
    Span::from_secs(seconds / unit * unit)
}

/// The text between `-----BEGIN name-----` and the next line of dashes.
fn block<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, after) = text.split_once(&format!("BEGIN {name}"))?;
    let body = after.trim_start_matches('-');
    let (body, _) = body.split_once("---")?;
    Some(body.trim()).filter(|body| !body.is_empty() && !body.contains(char::is_whitespace))
}

fn read(option: &str, path: &Path) -> Result<String> {
    /// Such files have a few hundred bytes, with comments a few thousand.
    const LARGEST: u64 = 1 << 20;
    let wrong = |why: String| Error::config(format!("{option} {}: {why}", path.display()));
    let facts = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if facts.len() > LARGEST {
        return Err(wrong("too large to be such a file".into()));
    }
    std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))
}

fn user_key(option: &str, path: &Path, seed: &str) -> Result<KeyPair> {
    let wrong = |what: &str| Error::config(format!("{option} {}: {what}", path.display()));
    // A file of `nk -gen user -pubout` has the public key in a second line.
    let seed = seed.lines().map(str::trim).find(|line| line.starts_with('S')).unwrap_or(seed);
    let pair = KeyPair::from_seed(seed)
        .map_err(|_| wrong("it holds no NKey seed").hint("a user's seed is a line that begins with SU"))?;
    match pair.key_pair_type() {
        KeyPairType::User => Ok(pair),
        other => Err(wrong(&format!("its seed is not a user's but of the kind {other:?}"))
            .hint("a user's seed begins with SU")),
    }
}

fn sign(pair: &KeyPair, nonce: &[u8]) -> Result<String> {
    let signature = pair.sign(nonce).map_err(|_| Error::config("the NKey seed can't sign"))?;
    Ok(URL_SAFE_NO_PAD.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> tempfile::TempPath {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file.into_temp_path()
    }

    fn error(auth: Auth) -> String {
        auth.check().unwrap_err().to_string()
    }

    fn jwt(subject: &str, exp: u64) -> String {
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"{subject}","exp":{exp}}}"#));
        format!("e30.{claims}.sig")
    }

    fn creds(jwt: &str, seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n*** IMPORTANT ***\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }

    #[test]
    fn a_seed_signs_the_nonce() {
        let pair = KeyPair::new_user();
        let path = file(&format!("{}\n{}\n", pair.seed().unwrap(), pair.public_key()));
        let mut connect = Connect::default();
        Auth::NKey(path.to_path_buf()).fill(&mut connect, Some("nonce")).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(connect.sig.unwrap()).unwrap();
        pair.verify(b"nonce", &signature).unwrap();
        assert_eq!(connect.nkey, Some(pair.public_key()));
    }

    #[test]
    fn creds_are_taken_apart() {
        let pair = KeyPair::new_user();
        let token = jwt(&pair.public_key(), 1);
        let path = file(&creds(&token, &pair.seed().unwrap()));
        let auth = Auth::Creds(path.to_path_buf());
        let mut connect = Connect::default();
        auth.fill(&mut connect, Some("nonce")).unwrap();
        assert_eq!(connect.jwt, Some(token));
        assert!(connect.sig.is_some() && connect.nkey.is_none());
        assert!(auth.hint().contains("expired"), "{}", auth.hint());
        assert_eq!(rounded(7201).to_string(), "2h");
    }

    #[test]
    fn bad_files_are_told_apart_and_no_secret_is_repeated() {
        let (user, other) = (KeyPair::new_user(), KeyPair::new_user());
        let seed = user.seed().unwrap();
        let account = KeyPair::new_account();
        for (content, part) in [
            (String::new(), "no user JWT"),
            (creds("", &seed), "no user JWT"),
            (creds(&jwt(&user.public_key(), 0), ""), "no NKey seed"),
            (creds("rubbish", &seed), "JWT can't be read"),
            (creds(&jwt(&user.public_key(), 0), "SUrubbish"), "no NKey seed"),
            (creds(&jwt(&other.public_key(), 0), &seed), "does not belong"),
            (creds(&jwt("", 0), &account.seed().unwrap()), "not a user's"),
        ] {
            let path = file(&content);
            let text = error(Auth::Creds(path.to_path_buf()));
            assert!(text.contains(part) && text.contains("--creds-file"), "{text}");
            assert!(!text.contains(&seed), "{text}");
        }
        assert!(error(Auth::NKey("/nowhere/x".into())).contains("/nowhere/x"));
        assert!(error(Auth::NKey(file("x").to_path_buf())).contains("--nkey-file"));
    }
}
