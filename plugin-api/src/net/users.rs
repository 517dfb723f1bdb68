//! Who may come in to a server: names with their secrets.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use ring::hmac;
use ring::rand::SystemRandom;

use super::error::{NetError, NetErrorKind};

/// A user name and its secret, written `NAME=SECRET`.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The user name; contains no `=`.
    pub name: String,
    /// The password. Left out of Debug.
    pub secret: String,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

impl FromStr for User {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        match text.split_once('=') {
            Some((name, secret)) if !name.is_empty() => {
                Ok(Self { name: name.to_owned(), secret: secret.to_owned() })
            }
            // The text may be a bare secret, so it is not repeated.
            _ => Err(NetError::config("a user is written NAME=SECRET, with a name before the first \"=\"")),
        }
    }
}

/// The users as keyed digests: the secrets are not kept, and comparing takes the same time for any guess.
pub struct Users {
    key: hmac::Key,
    digests: HashMap<String, hmac::Tag>,
    nobody: hmac::Tag,
}

impl Users {
    /// Without any user everybody may come in.
    ///
    /// # Errors
    /// [`NetErrorKind::Config`] when a name is given twice.
    pub fn new(users: &[User]) -> Result<Self, NetError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| {
            NetError::new(NetErrorKind::Connect, "the system has no random numbers").permanent()
        })?;
        let mut digests = HashMap::new();
        for user in users {
            if digests.insert(user.name.clone(), hmac::sign(&key, user.secret.as_bytes())).is_some() {
                return Err(NetError::config(format!("the user \"{}\" is given twice", user.name)));
            }
        }
        let nobody = hmac::sign(&key, b"");
        Ok(Self { key, digests, nobody })
    }

    /// Whether everybody may come in.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Whether this name and password may come in.
    pub fn allow(&self, name: Option<&str>, password: Option<&[u8]>) -> bool {
        if self.digests.is_empty() {
            return true;
        }
        let known = name.and_then(|name| self.digests.get(name));
        // An unknown name is compared too, so that it takes as long as a known one.
        let digest = known.unwrap_or(&self.nobody);
        let same = hmac::verify(&self.key, password.unwrap_or_default(), digest.as_ref()).is_ok();
        same && known.is_some() && password.is_some()
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("count", &self.digests.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read() {
        let user: User = "ann=a=b".parse().expect("a user");
        assert_eq!((user.name.as_str(), user.secret.as_str()), ("ann", "a=b"));
        assert!(!format!("{user:?}").contains("a=b"), "the secret stays out of Debug");
        let error = "=hunter2".parse::<User>().expect_err("no name").to_string();
        assert!(!error.contains("hunter2"), "{error}");
        assert!("hunter2".parse::<User>().is_err());
    }

    #[test]
    fn a_name_needs_its_own_secret() {
        let users = ["ann=secret", "bob="].map(|text| text.parse::<User>().expect("a user"));
        let users = Users::new(&users).expect("distinct names");
        assert!(users.allow(Some("ann"), Some(b"secret")));
        assert!(users.allow(Some("bob"), Some(b"")));
        for (name, password) in [
            (Some("ann"), Some(&b"wrong"[..])),
            (Some("ann"), Some(b"")),
            (Some("ann"), None),
            (Some("bob"), None),
            (Some("carl"), Some(b"")),
            (None, Some(b"secret")),
            (None, None),
        ] {
            assert!(!users.allow(name, password), "{name:?} {password:?}");
        }
        let nobody = Users::new(&[]).expect("no names");
        assert!(nobody.allow(None, None) && nobody.allow(Some("x"), Some(b"y")));
        let twice = ["ann=1", "ann=2"].map(|text| text.parse::<User>().expect("a user"));
        assert!(Users::new(&twice).is_err());
    }
}
