//! What is in the vault: a small TOML document that can be read and edited after `age -d`.
//!
//! ```toml
//! version = 1
//! recipients = ["age1…"]   # beside our own identity; missing when there are none
//!
//! [secrets]
//! broker-password = "…"
//! ```
//!
//! A document of a later version is not understood in part: rewriting it would lose what is new in it.

use super::age::Recipient;
use crate::redact::Secret;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

const VERSION: i64 = 1;

/// A vault's document. The secrets in it are not yet known to [`crate::redact`]: only the one that is asked for is shown or
/// handed on.
#[derive(Default)]
pub struct Contents {
    pub secrets: BTreeMap<String, Zeroizing<String>>,
    /// Who may open the vault beside its own identity.
    pub recipients: Vec<Recipient>,
}

/// Why a document is not taken. It holds nothing of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrong {
    Version(i64),
    Content(&'static str),
}

impl Contents {
    pub fn parse(plain: &[u8]) -> Result<Contents, Wrong> {
        let text = std::str::from_utf8(plain).map_err(|_| Wrong::Content("it is not UTF-8 text"))?;
        let mut table: toml::Table = text.parse().map_err(|_| Wrong::Content("it is not TOML"))?;
        match table.remove("version") {
            Some(toml::Value::Integer(VERSION)) => {}
            Some(toml::Value::Integer(version)) => return Err(Wrong::Version(version)),
            _ => return Err(Wrong::Content("it has no version")),
        }
        let mut contents = Contents::default();
        for (key, value) in table {
            match (key.as_str(), value) {
                ("secrets", toml::Value::Table(secrets)) => {
                    for (name, value) in secrets {
                        let toml::Value::String(text) = value else {
                            return Err(Wrong::Content("a secret is not a text"));
                        };
                        contents.secrets.insert(name, Zeroizing::new(text));
                    }
                }
                ("recipients", toml::Value::Array(recipients)) => {
                    let parsed = recipients.iter().map(|text| Recipient::parse(text.as_str()?).ok());
                    contents.recipients =
                        parsed.collect::<Option<_>>().ok_or(Wrong::Content("a recipient is none"))?;
                }
                _ => return Err(Wrong::Content("there is something in it that is not known")),
            }
        }
        Ok(contents)
    }

    pub fn to_toml(&self) -> Zeroizing<String> {
        let secrets: usize =
            self.secrets.iter().map(|(name, secret)| 6 * (name.len() + secret.len()) + 8).sum();
        // Room for all of it, so that no copy is left behind when it grows.
        let mut out = Zeroizing::new(String::with_capacity(secrets + 80 * self.recipients.len() + 256));
        out.push_str("# The secrets of TraceMQ; `tracemq secret` reads and writes them.\n");
        out.push_str(&format!("version = {VERSION}\n"));
        if !self.recipients.is_empty() {
            let recipients: Vec<String> =
                self.recipients.iter().map(|recipient| format!("\"{recipient}\"")).collect();
            out.push_str(&format!("recipients = [{}]\n", recipients.join(", ")));
        }
        out.push_str("\n[secrets]\n");
        for (name, secret) in &self.secrets {
            let bare =
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
            if bare {
                out.push_str(name)
            } else {
                quote(name, &mut out)
            }
            out.push_str(" = ");
            quote(secret, &mut out);
            out.push('\n');
        }
        out
    }

    pub fn secret(&self, name: &str) -> Option<Secret> {
        self.secrets.get(name).map(|text| Secret::unregistered(text.to_string()))
    }
}

/// A basic string of TOML.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            letter if letter.is_control() => out.push_str(&format!("\\u{:04X}", letter as u32)),
            letter => out.push(letter),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(pairs: &[(&str, &str)]) -> Contents {
        let secrets =
            pairs.iter().map(|(name, text)| ((*name).to_owned(), Zeroizing::new((*text).to_owned())));
        Contents { secrets: secrets.collect(), recipients: Vec::new() }
    }

    #[test]
    fn it_is_small_readable_toml() {
        let text = of(&[("b.c", "x\"y"), ("a", "one\ntwo")]).to_toml();
        let text: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(text, ["version = 1", "", "[secrets]", "a = \"one\\ntwo\"", "\"b.c\" = \"x\\\"y\""]);
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        assert_eq!(Contents::parse(b"version = 2\nnew = 1").err(), Some(Wrong::Version(2)));
        for text in [
            "",
            "secrets = 5\nversion = 1",
            "version = 1\n[secrets]\na = 1",
            "version = 1\nrecipients = [\"x\"]",
        ] {
            assert!(matches!(Contents::parse(text.as_bytes()), Err(Wrong::Content(_))), "{text}");
        }
        assert!(Contents::parse(b"version = 1\nmore = 1").is_err());
        assert!(Contents::parse(b"version = 1").is_ok(), "a vault may be empty");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_read_back_as_it_was_written(name in "\\PC*", text in any::<String>()) {
            let written = of(&[(&name, &text)]).to_toml();
            let read = Contents::parse(written.as_bytes()).unwrap();
            prop_assert_eq!(read.secrets.get(&name).map(|text| text.as_str()), Some(text.as_str()));
        }
    }
}
