//! Enhanced authentication (5.0, section 4.12): SCRAM with SHA-1, SHA-256 or SHA-512 (RFC 5802, RFC 7677).
//!
//! A SCRAM server never sees the password and proves in turn that it knows it: a wrong proof ends the connection.
//! The iteration count comes from the server and costs us time, so it is bounded.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::SecureRandom;
use ring::{digest, hmac, pbkdf2};

/// Iteration counts that are taken. RFC 7677 asks for 4,096 at least; above the upper end a server could keep us busy.
pub const ITERATIONS: RangeInclusive<u32> = 4_096..=1_000_000;

/// A method of enhanced authentication, client side. One value serves for one exchange at a time.
pub trait AuthMethod: Send {
    /// The authentication method's name in CONNECT and AUTH.
    fn name(&self) -> &'static str;

    /// Starts an exchange, also a new one on an open connection; returns the first data.
    ///
    /// # Errors
    /// The system has no randomness.
    fn start(&mut self) -> Result<Vec<u8>, AuthError>;

    /// The server's data with "continue authentication": returns the answer.
    ///
    /// # Errors
    /// Data that the method does not expect, or a server that fails its part.
    fn step(&mut self, data: &[u8]) -> Result<Vec<u8>, AuthError>;

    /// The server's data with "success": CONNACK, or AUTH on an open connection.
    ///
    /// # Errors
    /// The server has not proved itself.
    fn finish(&mut self, data: &[u8]) -> Result<(), AuthError>;
}

/// Why an exchange failed. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthError(String);

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "enhanced authentication: {}", self.0)
    }
}

impl std::error::Error for AuthError {}

fn fail<T>(what: impl Into<String>) -> Result<T, AuthError> {
    Err(AuthError(what.into()))
}

/// The methods that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// SCRAM with SHA-1.
    ScramSha1,
    /// SCRAM with SHA-256.
    ScramSha256,
    /// SCRAM with SHA-512.
    ScramSha512,
}

impl Mechanism {
    /// The authentication method's name in CONNECT and AUTH.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    fn digest(self, data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::ScramSha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::ScramSha256 => &digest::SHA256,
            Self::ScramSha512 => &digest::SHA512,
        };
        digest::digest(algorithm, data).as_ref().to_vec()
    }

    fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::ScramSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::ScramSha256 => hmac::HMAC_SHA256,
            Self::ScramSha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), data).as_ref().to_vec()
    }

    fn salted(self, password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Vec<u8> {
        let (algorithm, len) = match self {
            Self::ScramSha1 => (pbkdf2::PBKDF2_HMAC_SHA1, digest::SHA1_OUTPUT_LEN),
            Self::ScramSha256 => (pbkdf2::PBKDF2_HMAC_SHA256, digest::SHA256_OUTPUT_LEN),
            Self::ScramSha512 => (pbkdf2::PBKDF2_HMAC_SHA512, digest::SHA512_OUTPUT_LEN),
        };
        let mut salted = vec![0; len];
        pbkdf2::derive(algorithm, iterations, salt, password, &mut salted);
        salted
    }
}

enum State {
    Idle,
    /// client-first was sent: client-first-bare, and the nonce in it.
    First {
        bare: String,
        nonce: String,
    },
    /// client-final was sent: the signature that the server has to show.
    Final {
        signature: Vec<u8>,
    },
    Done,
}

/// SCRAM without channel binding.
pub struct Scram {
    mechanism: Mechanism,
    username: String,
    password: String,
    state: State,
}

impl Scram {
    /// User name and password as typed; both must be free of control characters.
    ///
    /// # Errors
    /// A control character in either: SASLprep (RFC 4013) forbids it.
    pub fn new(mechanism: Mechanism, username: &str, password: &str) -> Result<Self, AuthError> {
        if username.contains(char::is_control) || password.contains(char::is_control) {
            return fail("user name and password must not contain control characters");
        }
        Ok(Self { mechanism, username: username.into(), password: password.into(), state: State::Idle })
    }

    fn start_with(&mut self, nonce: String) -> Vec<u8> {
        let name = self.username.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={name},r={nonce}");
        let first = format!("n,,{bare}");
        self.state = State::First { bare, nonce };
        first.into_bytes()
    }

    fn on_server_first(&mut self, bare: &str, nonce: &str, data: &[u8]) -> Result<Vec<u8>, AuthError> {
        let first = text(data)?;
        let mut fields = first.split(',');
        let (Some(server_nonce), Some(salt), Some(iterations)) = (
            fields.next().and_then(|field| field.strip_prefix("r=")),
            fields.next().and_then(|field| field.strip_prefix("s=")),
            fields.next().and_then(|field| field.strip_prefix("i=")),
        ) else {
            return fail("the server's first message has no nonce, salt and iteration count");
        };
        if !server_nonce.starts_with(nonce) || server_nonce.len() == nonce.len() {
            return fail("the server's nonce does not continue ours");
        }
        let Ok(salt) = BASE64.decode(salt) else { return fail("the server's salt is not base64") };
        let Some(iterations) =
            iterations.parse::<NonZeroU32>().ok().filter(|count| ITERATIONS.contains(&count.get()))
        else {
            return fail(format!(
                "the server asks for {} iterations; {} to {} are accepted",
                iterations.escape_debug().take(20).collect::<String>(),
                ITERATIONS.start(),
                ITERATIONS.end()
            ));
        };
        let hash = self.mechanism;
        let salted = hash.salted(self.password.as_bytes(), &salt, iterations);
        let client_key = hash.hmac(&salted, b"Client Key");
        // "biws" is base64 of "n,,": no channel binding.
        let without_proof = format!("c=biws,r={server_nonce}");
        let auth_message = format!("{bare},{first},{without_proof}");
        let client_signature = hash.hmac(&hash.digest(&client_key), auth_message.as_bytes());
        let proof: Vec<u8> =
            client_key.iter().zip(client_signature).map(|(key, signature)| key ^ signature).collect();
        let signature = hash.hmac(&hash.hmac(&salted, b"Server Key"), auth_message.as_bytes());
        self.state = State::Final { signature };
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)).into_bytes())
    }

    fn verify(&mut self, signature: &[u8], data: &[u8]) -> Result<(), AuthError> {
        let last = text(data)?;
        if let Some(error) = last.strip_prefix("e=") {
            let error: String = error.escape_debug().take(100).collect();
            return fail(format!("the server refused: {error}"));
        }
        let shown = last.split(',').next().and_then(|field| field.strip_prefix("v="));
        let shown = shown.and_then(|field| BASE64.decode(field).ok()).unwrap_or_default();
        // No secret depends on the time this takes: the server's proof is used once.
        if shown != signature {
            return fail("the server could not prove that it knows the password");
        }
        self.state = State::Done;
        Ok(())
    }
}

impl AuthMethod for Scram {
    fn name(&self) -> &'static str {
        self.mechanism.name()
    }

    fn start(&mut self) -> Result<Vec<u8>, AuthError> {
        let mut random = [0; 18];
        if ring::rand::SystemRandom::new().fill(&mut random).is_err() {
            return fail("the system gives no random numbers");
        }
        Ok(self.start_with(BASE64.encode(random)))
    }

    fn step(&mut self, data: &[u8]) -> Result<Vec<u8>, AuthError> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::First { bare, nonce } => self.on_server_first(&bare, &nonce, data),
            // Some servers show their proof in one more AUTH and expect an empty answer.
            State::Final { signature } => self.verify(&signature, data).map(|()| Vec::new()),
            State::Idle | State::Done => fail("the server continues an exchange that is over"),
        }
    }

    fn finish(&mut self, data: &[u8]) -> Result<(), AuthError> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Final { signature } => self.verify(&signature, data),
            State::Done => Ok(()),
            State::First { .. } | State::Idle => {
                fail("the server accepted us without proving that it knows the password")
            }
        }
    }
}

fn text(data: &[u8]) -> Result<&str, AuthError> {
    match std::str::from_utf8(data) {
        Ok(text) => Ok(text),
        Err(_) => fail("the server's message is not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(mechanism: Mechanism, username: &str, password: &str, nonce: &str) -> Scram {
        let mut scram = Scram::new(mechanism, username, password).unwrap();
        scram.start_with(nonce.into());
        scram
    }

    #[test]
    fn the_example_of_rfc_5802() {
        let mut scram = Scram::new(Mechanism::ScramSha1, "user", "pencil").unwrap();
        assert_eq!(
            scram.start_with("fyko+d2lbbFgONRv9qkxdawL".into()),
            b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL"
        );
        let answer =
            scram.step(b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096").unwrap();
        assert_eq!(
            answer,
            b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
        );
        assert_eq!(scram.finish(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ="), Ok(()));
    }

    #[test]
    fn the_example_of_rfc_7677() {
        let mut scram = started(Mechanism::ScramSha256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO");
        let answer = scram
            .step(b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
            .unwrap();
        assert!(answer.ends_with(b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="));
        // As a further AUTH, then success without data.
        assert_eq!(scram.step(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(Vec::new()));
        assert_eq!(scram.finish(b""), Ok(()));
    }

    #[test]
    fn sha_512_gives_64_bytes_and_another_start_another_nonce() {
        let mut scram = Scram::new(Mechanism::ScramSha512, "user", "pencil").unwrap();
        let first = scram.start().unwrap();
        assert_ne!(first, scram.start().unwrap());
        let State::First { nonce, .. } = &scram.state else { panic!() };
        let answer = scram.step(format!("r={nonce}x,s=QSXCR+Q6sek8bf92,i=4096").as_bytes()).unwrap();
        let proof = String::from_utf8(answer).unwrap().rsplit_once("p=").unwrap().1.to_owned();
        assert_eq!(BASE64.decode(proof).unwrap().len(), 64);
    }

    #[test]
    fn a_server_that_does_not_prove_itself_is_refused() {
        let server_first = b"r=abcdef,s=QSXCR+Q6sek8bf92,i=4096";
        for last in [&b"v=AAAA"[..], b"", b"v=", b"e=invalid-proof", &[0xFF]] {
            let mut scram = started(Mechanism::ScramSha1, "user", "pencil", "abc");
            scram.step(server_first).unwrap();
            assert!(scram.finish(last).is_err(), "{last:?}");
        }
        let mut early = started(Mechanism::ScramSha1, "user", "pencil", "abc");
        assert!(early.finish(b"").unwrap_err().to_string().contains("without proving"));
    }

    #[test]
    fn bad_first_messages_are_refused() {
        for (first, part) in [
            (&b"r=abcX,s=QSXCR+Q6sek8bf92,i=1000001"[..], "4096 to 1000000"),
            (b"r=abcX,s=QSXCR+Q6sek8bf92,i=1", "4096 to 1000000"),
            (b"r=abcX,s=QSXCR+Q6sek8bf92,i=-1", "4096 to 1000000"),
            (b"r=abc,s=QSXCR+Q6sek8bf92,i=4096", "does not continue"),
            (b"r=zbcX,s=QSXCR+Q6sek8bf92,i=4096", "does not continue"),
            (b"r=abcX,s=!,i=4096", "not base64"),
            (b"m=x,r=abcX,s=QSXCR+Q6sek8bf92,i=4096", "no nonce"),
            (b"", "no nonce"),
            (b"\xFF", "not UTF-8"),
        ] {
            let error =
                started(Mechanism::ScramSha1, "user", "pencil", "abc").step(first).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn names_are_escaped_and_control_characters_refused() {
        let mut scram = Scram::new(Mechanism::ScramSha1, "a=b,c", "x").unwrap();
        assert_eq!(scram.start_with("n".into()), b"n,,n=a=3Db=2Cc,r=n");
        assert!(Scram::new(Mechanism::ScramSha1, "a", "x\n").is_err());
    }
}
