//! Subjects: tokens with dots between them, and the wildcards `*` (one token) and `>` (all that follow, at least one).
//!
//! The rules are those of nats-server: no empty token, no white space; `*` and `>` are wildcards only as whole tokens, so
//! `a*` is an ordinary name.

use std::fmt;

/// The longest subject taken from a user. A server takes no control line above 4096 bytes unless told to.
pub const LONGEST: usize = 3800;
/// The longest that a subject may be together with what stands beside it in a line: prefix, reply subject or queue group.
pub const LONGEST_TOGETHER: usize = 4000;

/// Why a text is no subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    Empty,
    EmptyToken,
    /// White space or a control character.
    Forbidden(char),
    /// `*` or `>` where one subject is meant.
    Wildcard(char),
    /// Something follows `>`.
    AfterTail,
    TooLong,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Invalid::Empty => f.write_str("the subject is empty"),
            Invalid::EmptyToken => {
                f.write_str("the subject has an empty token (a dot at its start or end, or two in a row)")
            }
            Invalid::Forbidden(' ') => f.write_str("the subject has a space in it"),
            Invalid::Forbidden(c) => write!(f, "the subject has {c:?} in it"),
            Invalid::Wildcard(c) => write!(f, "the wildcard {c} is only for subscriptions"),
            Invalid::AfterTail => f.write_str("> is only allowed as the last token"),
            Invalid::TooLong => write!(f, "the subject is longer than {LONGEST} bytes"),
        }
    }
}

impl std::error::Error for Invalid {}

/// Whether a message can be published to it.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_subject(text: &str) -> Result<(), Invalid> {
    check_pattern(text)?;
    match text.split('.').find(|token| matches!(*token, "*" | ">")) {
        Some(token) => Err(Invalid::Wildcard(if token == "*" { '*' } else { '>' })),
        None => Ok(()),
    }
}

/// Whether it can be subscribed to: wildcards are fine.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_pattern(text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::Empty);
    }
    if text.len() > LONGEST {
        return Err(Invalid::TooLong);
    }
    if let Some(c) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
        return Err(Invalid::Forbidden(c));
    }
    let mut tail = false;
    for token in text.split('.') {
        if token.is_empty() {
            return Err(Invalid::EmptyToken);
        }
        if tail {
            return Err(Invalid::AfterTail);
        }
        tail = token == ">";
    }
    Ok(())
}

/// [`check_subject`] and [`check_pattern`] for bytes from the network: without the rule on length, and any bytes but white
/// space and control characters of ASCII may stand in a token.
pub fn is_valid(bytes: &[u8], wildcards: bool) -> bool {
    let mut tail = false;
    !bytes.is_empty()
        && bytes.split(|byte| *byte == b'.').all(|token| {
            let good = !token.is_empty()
                && !tail
                && !token.iter().any(|byte| *byte <= b' ' || *byte == 0x7F)
                && (wildcards || !matches!(token, b"*" | b">"));
            tail = token == b">";
            good
        })
}

/// Whether a message on `subject` reaches a subscription to `pattern`. Both are valid.
pub fn matches(pattern: &[u8], subject: &[u8]) -> bool {
    let mut tokens = subject.split(|byte| *byte == b'.');
    for wanted in pattern.split(|byte| *byte == b'.') {
        match (wanted, tokens.next()) {
            (b">", Some(_)) => return true,
            (_, None) => return false,
            (b"*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_a_subject() {
        for good in ["a", "a.b.c", "a*", "é.ü", "$JS.API.INFO", "_INBOX.x", "a.>b"] {
            assert_eq!(check_subject(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", Invalid::Empty),
            ("a..b", Invalid::EmptyToken),
            (".a", Invalid::EmptyToken),
            ("a.", Invalid::EmptyToken),
            ("a b", Invalid::Forbidden(' ')),
            ("a\tb", Invalid::Forbidden('\t')),
            ("a\r\nPUB", Invalid::Forbidden('\r')),
            ("a\0", Invalid::Forbidden('\0')),
            ("a.*", Invalid::Wildcard('*')),
            (">", Invalid::Wildcard('>')),
        ] {
            assert_eq!(check_subject(bad), Err(why), "{bad:?}");
            assert!(!is_valid(bad.as_bytes(), false), "{bad:?}");
        }
        for good in ["*", ">", "a.*.b", "a.>", "*.>"] {
            assert_eq!(check_pattern(good), Ok(()), "{good}");
        }
        assert_eq!(check_pattern("a.>.b"), Err(Invalid::AfterTail));
        assert_eq!(check_pattern(&"x".repeat(LONGEST + 1)), Err(Invalid::TooLong));
    }

    #[test]
    fn wildcards() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a", "a.b", false),
            ("a.b", "a", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("*.b", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("a*", "ab", false),
            ("a*", "a*", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), subject.as_bytes()), expected, "{pattern} {subject}");
        }
    }

    /// The rule as one would state it, token by token.
    fn by_definition(pattern: &[&str], subject: &[&str]) -> bool {
        match (pattern, subject) {
            ([], []) => true,
            ([">"], [_, ..]) => true,
            ([first, pattern @ ..], [token, subject @ ..]) => {
                (*first == "*" || first == token) && by_definition(pattern, subject)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_definition(
            pattern in proptest::collection::vec(prop_oneof!["[ab]", Just("*".to_owned())], 1..5),
            tail in any::<bool>(),
            subject in proptest::collection::vec("[ab]", 1..6),
        ) {
            let mut pattern = pattern;
            if tail {
                pattern.push(">".into());
            }
            let tokens = |list: &[String]| list.iter().map(String::as_str).collect::<Vec<_>>().join(".");
            let refs = |list: &'_ [String]| list.to_vec();
            let (p, s) = (refs(&pattern), refs(&subject));
            let p: Vec<&str> = p.iter().map(String::as_str).collect();
            let s: Vec<&str> = s.iter().map(String::as_str).collect();
            prop_assert_eq!(
                matches(tokens(&pattern).as_bytes(), tokens(&subject).as_bytes()),
                by_definition(&p, &s)
            );
        }

        #[test]
        fn both_checks_agree(text in "[ab.*> \\x00-\\x20]{0,8}") {
            prop_assert_eq!(check_subject(&text).is_ok(), is_valid(text.as_bytes(), false));
            prop_assert_eq!(check_pattern(&text).is_ok(), is_valid(text.as_bytes(), true));
        }
    }
}
