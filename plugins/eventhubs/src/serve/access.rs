//! Who may do what: tokens that clients put, verified, and what they are good for until they expire.

use std::time::{SystemTime, UNIX_EPOCH};

use tracemq_plugin_api::net::{User, Users};

use crate::sas::Token;

/// Tokens of a connection. The JavaScript SDK puts one for each link.
const MOST_TOKENS: usize = 1024;

/// Seconds since 1970-01-01 UTC.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The server's keys.
pub(super) struct Keys {
    keys: Vec<User>,
    /// For whoever logs in with name and key themselves.
    pub(super) users: Users,
}

impl Keys {
    pub(super) fn new(keys: Vec<User>, users: Users) -> Keys {
        Keys { keys, users }
    }

    /// # Errors
    /// Why the token is refused. The text holds nothing of it.
    pub(super) fn verify(&self, text: &str) -> Result<Token, String> {
        let token = Token::parse(text).map_err(|error| format!("InvalidSignature: {error}."))?;
        let key = self.keys.iter().find(|key| key.name == token.key_name);
        let signed = key.is_some_and(|key| token.is_signed_by(&key.secret));
        if !signed {
            return Err("InvalidSignature: The token has an invalid signature.".to_owned());
        }
        if token.is_expired(now()) {
            return Err("ExpiredToken: The token is expired.".to_owned());
        }
        Ok(token)
    }
}

/// What a connection may do.
#[derive(Debug, Default)]
pub(super) struct Access {
    /// It has logged in with a key itself.
    all: bool,
    tokens: Vec<Token>,
}

impl Access {
    pub(super) fn everything() -> Access {
        Access { all: true, tokens: Vec::new() }
    }

    /// Takes in a token that was verified. It replaces what was put for the same resource.
    ///
    /// # Errors
    /// There are as many as may be.
    pub(super) fn put(&mut self, token: Token) -> Result<(), String> {
        let (now, resource) = (now(), token.resource());
        self.tokens.retain(|known| !known.is_expired(now) && known.resource() != resource);
        if self.tokens.len() >= MOST_TOKENS {
            return Err(format!("There are {MOST_TOKENS} tokens on the connection already."));
        }
        self.tokens.push(token);
        Ok(())
    }

    /// Until when an address may be used, in seconds since 1970-01-01 UTC. `None`: it may not.
    pub(super) fn until(&self, address: &str) -> Option<u64> {
        if self.all {
            return Some(u64::MAX);
        }
        let now = now();
        let good = self.tokens.iter().filter(|token| !token.is_expired(now) && token.covers(address));
        good.map(|token| token.expiry).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sas::sign;

    fn keys() -> Keys {
        let keys = vec![User { name: "app".to_owned(), secret: "key".to_owned() }];
        let users = Users::new(&keys).expect("distinct");
        Keys::new(keys, users)
    }

    #[test]
    fn only_what_a_key_signed_and_has_not_expired() {
        let keys = keys();
        assert!(keys.verify(&sign("app", "key", "sb://h/hub", now() + 60)).is_ok());
        for (text, why) in [
            (sign("app", "wrong", "sb://h/hub", now() + 60), "invalid signature"),
            (sign("other", "key", "sb://h/hub", now() + 60), "invalid signature"),
            (sign("app", "key", "sb://h/hub", now() - 1), "expired"),
            ("hunter2".to_owned(), "InvalidSignature"),
        ] {
            let error = keys.verify(&text).expect_err(why);
            assert!(error.contains(why) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn access_is_to_what_a_token_covers_until_it_expires() {
        let keys = keys();
        let token =
            |resource: &str, left| keys.verify(&sign("app", "key", resource, now() + left)).expect("good");
        let mut access = Access::default();
        assert_eq!(access.until("hub"), None);
        access.put(token("sb://h/hub", 60)).expect("room");
        let first = access.until("hub/Partitions/0").expect("covered");
        assert_eq!(access.until("other"), None);
        access.put(token("sb://h/hub", 600)).expect("room");
        assert!(access.until("hub").is_some_and(|until| until > first));
        assert_eq!(access.tokens.len(), 1);
        assert_eq!(Access::everything().until("other"), Some(u64::MAX));
        for number in 1..MOST_TOKENS {
            access.put(token(&format!("sb://h/{number}"), 60)).expect("room");
        }
        assert!(access.put(token("sb://h/more", 60)).is_err());
    }
}
