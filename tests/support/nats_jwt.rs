//! An operator, an account and users of NATS, with JWTs signed as `nsc` would.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// One operator with one account.
#[derive(Debug)]
pub struct NatsOperator {
    account: KeyPair,
    /// Lines for nats-server's configuration.
    pub setting: String,
}

impl NatsOperator {
    #[allow(clippy::new_without_default, reason = "it makes keys")]
    pub fn new() -> NatsOperator {
        let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
        let own = jwt(&operator, &operator.public_key(), None, json!({ "type": "operator", "version": 2 }));
        let limits = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
            "conn": -1, "leaf": -1 });
        let claims = json!({ "type": "account", "version": 2, "limits": limits });
        let of_account = jwt(&operator, &account.public_key(), None, claims);
        let setting = format!(
            "operator: {own}\nresolver: MEMORY\nresolver_preload: {{ {}: {of_account} }}",
            account.public_key()
        );
        NatsOperator { account, setting }
    }

    /// A `.creds` file's content. `valid` is in seconds from now, and may be negative.
    pub fn creds(&self, valid: i64) -> String {
        let user = KeyPair::new_user();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64;
        let claims = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
        let jwt = jwt(&self.account, &user.public_key(), Some(now + valid), claims);
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            user.seed().expect("a key pair with its seed")
        )
    }
}

/// A user's NKey: its seed and its public key.
pub fn nkey() -> (String, String) {
    let pair = KeyPair::new_user();
    (pair.seed().expect("a key pair with its seed"), pair.public_key())
}

fn jwt(issuer: &KeyPair, subject: &str, expires: Option<i64>, nats: Value) -> String {
    let mut claims = json!({ "jti": "1", "iat": 1_600_000_000, "iss": issuer.public_key(), "name": "test",
        "sub": subject, "nats": nats });
    if let Some(expires) = expires {
        claims["exp"] = expires.into();
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({ "typ": "JWT", "alg": "ed25519-nkey" })), part(&claims));
    let signature = issuer.sign(signed.as_bytes()).expect("a key pair with its seed");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
