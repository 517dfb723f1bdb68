//! Who may connect.

use std::collections::HashMap;

use ring::hmac;
use ring::rand::SystemRandom;

use super::error::BrokerError;
use super::options::User;

/// The users as keyed digests: the secrets are not kept, and comparing takes the same time for any guess.
pub(super) struct Users {
    key: hmac::Key,
    digests: HashMap<String, hmac::Tag>,
    nobody: hmac::Tag,
}

impl Users {
    pub(super) fn new(users: &[User]) -> Result<Self, BrokerError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| std::io::Error::other("the system has no random numbers"))?;
        let mut digests = HashMap::new();
        for user in users {
            if digests.insert(user.name.clone(), hmac::sign(&key, user.secret.as_bytes())).is_some() {
                return Err(BrokerError::Option {
                    option: "user",
                    reason: format!("the name \"{}\" is given twice", user.name),
                });
            }
        }
        let nobody = hmac::sign(&key, b"");
        Ok(Self { key, digests, nobody })
    }

    /// Whether this name and password may come in. Without any user everybody may.
    pub(super) fn allow(&self, name: Option<&str>, password: Option<&[u8]>) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_needs_its_own_secret() {
        let users = ["ann=secret", "bob="].map(|text| text.parse().expect("a user"));
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
        let twice = ["ann=1", "ann=2"].map(|text| text.parse().expect("a user"));
        assert!(Users::new(&twice).is_err());
    }
}
