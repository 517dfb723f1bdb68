//! Shared access signatures: `SharedAccessSignature sr=RESOURCE&sig=SIGNATURE&se=EXPIRY&skn=KEYNAME`.
//!
//! The signature is HMAC-SHA256 over the encoded resource, a line feed and the expiry. The key is used as the text that it
//! is, and is not base64-decoded, though it looks so. To verify, the resource is signed as it came: clients encode it in
//! different ways.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use ring::hmac;

const PREFIX: &str = "SharedAccessSignature ";
/// What a query may hold as it is (RFC 3986 section 2.3).
const ENCODED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Signs a token that lets its bearer use `resource`, and all beneath it, until `expiry`, in seconds since 1970-01-01 UTC.
pub fn sign(key_name: &str, key: &str, resource: &str, expiry: u64) -> String {
    let resource = utf8_percent_encode(resource, &ENCODED).to_string();
    let signature = hmac::sign(&hmac_key(key), signed(&resource, expiry).as_bytes());
    let signature = STANDARD.encode(signature);
    let signature = utf8_percent_encode(&signature, &ENCODED);
    let key_name = utf8_percent_encode(key_name, &ENCODED);
    format!("{PREFIX}sr={resource}&sig={signature}&se={expiry}&skn={key_name}")
}

/// A token that was read, and not verified yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// As it was signed: encoded.
    resource: String,
    signature: Vec<u8>,
    /// Seconds since 1970-01-01 UTC.
    pub expiry: u64,
    pub key_name: String,
}

impl fmt::Debug for Token {
    /// Without the signature: whoever has it, has the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("resource", &self.resource)
            .field("expiry", &self.expiry)
            .field("key_name", &self.key_name)
            .finish_non_exhaustive()
    }
}

/// Why a text is no token. Holds nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    Prefix,
    Missing(&'static str),
    Twice(&'static str),
    Invalid(&'static str),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Prefix => write!(f, "the token does not begin with \"{PREFIX}\""),
            Malformed::Missing(part) => write!(f, "the token has no {part}"),
            Malformed::Twice(part) => write!(f, "the token has {part} twice"),
            Malformed::Invalid(part) => write!(f, "the token's {part} can't be read"),
        }
    }
}

impl std::error::Error for Malformed {}

impl Token {
    /// # Errors
    /// A part is missing, there twice or can't be read.
    pub fn parse(text: &str) -> Result<Token, Malformed> {
        const NAMES: [&str; 4] = ["sr", "sig", "se", "skn"];
        let mut found: [Option<&str>; NAMES.len()] = [None; NAMES.len()];
        for part in text.trim().strip_prefix(PREFIX).ok_or(Malformed::Prefix)?.split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let Some(at) = NAMES.iter().position(|known| *known == name) else { continue };
            if found[at].replace(value).is_some() {
                return Err(Malformed::Twice(NAMES[at]));
            }
        }
        let part = |at: usize| found[at].filter(|text| !text.is_empty()).ok_or(Malformed::Missing(NAMES[at]));
        let decoded = |at: usize| {
            let text = percent_decode_str(part(at)?).decode_utf8();
            text.map_err(|_| Malformed::Invalid(NAMES[at]))
        };
        let signature = STANDARD.decode(decoded(1)?.as_bytes()).map_err(|_| Malformed::Invalid("sig"))?;
        let expiry = part(2)?.parse().map_err(|_| Malformed::Invalid("se"))?;
        let key_name = decoded(3)?.into_owned();
        decoded(0)?;
        Ok(Token { resource: part(0)?.to_owned(), signature, expiry, key_name })
    }

    /// Whether this key has signed it. Takes the same time for any signature.
    pub fn is_signed_by(&self, key: &str) -> bool {
        let signed = signed(&self.resource, self.expiry);
        hmac::verify(&hmac_key(key), signed.as_bytes(), &self.signature).is_ok()
    }

    pub fn is_expired(&self, now: u64) -> bool {
        self.expiry <= now
    }

    /// What it is for: a URL like `sb://HOST/HUB`.
    pub fn resource(&self) -> String {
        percent_decode_str(&self.resource).decode_utf8_lossy().into_owned()
    }

    /// Whether it is good for an address: the resource's path is the address's, or stands before it. Only whole segments
    /// count, so that a token for `hub` is none for `hub2`. Case does not matter, nor does the host: one server has many names.
    pub fn covers(&self, address: &str) -> bool {
        let resource = self.resource();
        let mut wanted = segments(&resource);
        let mut given = segments(address);
        wanted.all(|segment| given.next().is_some_and(|given| given.eq_ignore_ascii_case(segment)))
    }
}

/// The segments of a URL's path, or of a bare path.
fn segments(text: &str) -> impl Iterator<Item = &str> {
    let path = match text.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => text,
    };
    path.split('/').filter(|segment| !segment.is_empty())
}

fn signed(resource: &str, expiry: u64) -> String {
    format!("{resource}\n{expiry}")
}

fn hmac_key(key: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_as_the_python_sdk_signs_it() {
        // azure.eventhub._utils / uamqp: quote_plus(uri), HMAC-SHA256, base64, quote_plus.
        let token = sign("Root", "c2VjcmV0", "sb://127.0.0.1:5673/hub1", 1_700_000_000);
        assert_eq!(
            token,
            "SharedAccessSignature sr=sb%3A%2F%2F127.0.0.1%3A5673%2Fhub1&sig=nt4XFNu5vEmJLVt1L6ksNdo%2FLnWcCKrAF5qTAGWUZWk%3D&se=1700000000&skn=Root"
        );
    }

    #[test]
    fn the_right_key_and_the_wrong_one() {
        let token = Token::parse(&sign("Root", "key", "sb://h/hub", 100)).expect("a token");
        assert_eq!((token.key_name.as_str(), token.resource().as_str()), ("Root", "sb://h/hub"));
        assert!(token.is_signed_by("key") && !token.is_signed_by("Key") && !token.is_signed_by(""));
        assert!(!token.is_expired(99) && token.is_expired(100));
        // Another encoding of the same resource has another signature, and is good as it came.
        let lower = "sb%3a%2f%2fh%2fhub";
        let signature = STANDARD.encode(hmac::sign(&hmac_key("key"), format!("{lower}\n100").as_bytes()));
        let signature = utf8_percent_encode(&signature, &ENCODED);
        let token = Token::parse(&format!("{PREFIX}skn=Root&se=100&sig={signature}&sr={lower}"));
        assert!(token.expect("a token").is_signed_by("key"));
    }

    #[test]
    fn it_covers_what_is_beneath() {
        let covers = |resource: &str, address: &str| {
            Token::parse(&sign("n", "k", resource, 1)).expect("a token").covers(address)
        };
        assert!(covers("sb://h/hub", "hub"));
        assert!(covers("sb://h:5672/Hub/", "hub/ConsumerGroups/$Default/Partitions/0"));
        assert!(covers("sb://h", "hub/Partitions/1"));
        assert!(covers("hub", "amqps://h/hub"));
        assert!(!covers("sb://h/hub", "hub2"));
        assert!(!covers("sb://h/hub/Partitions/0", "hub"));
        assert!(!covers("sb://h/hub/ConsumerGroups/a", "hub/ConsumerGroups/b/Partitions/0"));
    }

    #[test]
    fn what_is_no_token() {
        let good = sign("n", "k", "r", 1);
        for (text, why) in [
            ("Bearer x".to_owned(), Malformed::Prefix),
            (good.replace("&se=1", ""), Malformed::Missing("se")),
            (good.replace("se=1", "se=-1"), Malformed::Invalid("se")),
            (good.replace("se=1", "se=99999999999999999999999"), Malformed::Invalid("se")),
            (format!("{good}&se=2"), Malformed::Twice("se")),
            (good.replace("sig=", "sig=%FF"), Malformed::Invalid("sig")),
            (good.replace("sr=r", "sr="), Malformed::Missing("sr")),
        ] {
            assert_eq!(Token::parse(&text), Err(why), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(SharedAccessSignature )?\\PC*") {
            let _ = Token::parse(&text).map(|token| (token.is_signed_by("k"), token.covers(&text)));
        }

        #[test]
        fn what_is_signed_is_verified_and_never_shown(
            name in "\\PC{1,20}", key in "\\PC{1,50}", resource in "\\PC{1,50}", expiry in any::<u64>(),
        ) {
            let text = sign(&name, &key, &resource, expiry);
            let token = Token::parse(&text).expect("a token");
            prop_assert!(token.is_signed_by(&key));
            prop_assert_eq!((token.resource(), &token.key_name, token.expiry), (resource, &name, expiry));
            let signature = text.split("sig=").nth(1).and_then(|rest| rest.split('&').next()).unwrap_or("&");
            let shown = format!("{:?}", token);
            prop_assert!(!shown.contains(signature) && !shown.contains("signature"));
        }
    }
}
