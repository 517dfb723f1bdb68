//! Topic names and topic filters (5.0, section 4.7), checked before anything is sent.
//!
//! Every text names the value and says what is allowed: the user typed it.

use super::{Invalid, Version};

/// The longest string MQTT can carry, in bytes.
pub const MAX_STRING: usize = 65_535;

/// Checks a topic name to publish to.
///
/// # Errors
/// Empty, longer than 65,535 bytes, with NUL, or with a wildcard.
pub fn check_topic(topic: &str) -> Result<(), Invalid> {
    check_text("topic", topic)?;
    match topic.bytes().find(|byte| matches!(byte, b'+' | b'#')) {
        Some(wild) => Err(Invalid::new(format!(
            "invalid topic '{}': '{}' is a wildcard and stands in filters only; publish needs one exact topic",
            shown(topic),
            wild as char
        ))),
        None => Ok(()),
    }
}

/// Checks a topic filter to subscribe to, `$share/GROUP/FILTER` included where the version knows it (5.0).
///
/// # Errors
/// Empty, longer than 65,535 bytes, with NUL, or a wildcard that does not fill its level or stands in the
/// wrong place.
pub fn check_filter(filter: &str, version: Version) -> Result<(), Invalid> {
    check_text("topic filter", filter)?;
    let bad = |why: &str| Err(Invalid::new(format!("invalid topic filter '{}': {why}", shown(filter))));
    let levels = match filter.strip_prefix("$share/") {
        Some(shared) if version.is_v5() => match shared.split_once('/') {
            Some(("", _)) => return bad("the group name after '$share/' is empty"),
            Some((group, _)) if group.contains(['+', '#']) => {
                return bad("the group name after '$share/' must not contain '+' or '#'");
            }
            Some((_, rest)) if !rest.is_empty() => rest,
            _ => return bad("a shared subscription is written '$share/GROUP/FILTER'"),
        },
        _ => filter,
    };
    let mut levels = levels.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && level != "#" {
            return bad("'#' must be a whole level of its own, as in 'a/#'");
        }
        if level == "#" && levels.peek().is_some() {
            return bad("'#' may only be the last level, as in 'a/#'");
        }
        if level.contains('+') && level != "+" {
            return bad("'+' must be a whole level of its own, as in 'a/+/b'");
        }
    }
    Ok(())
}

/// Whether a message with this topic reaches this filter (5.0, section 4.7). `$share/GROUP/` does not count, and a
/// wildcard on the first level leaves out topics that start with `$`.
pub fn matches(filter: &str, topic: &str) -> bool {
    let filter = match filter.strip_prefix("$share/").and_then(|shared| shared.split_once('/')) {
        Some((_, filter)) => filter,
        None => filter,
    };
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            // Also the parent itself: 'a/#' takes 'a'.
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// True for a `$share/GROUP/FILTER` filter.
pub fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// True for a filter with `+` or `#`.
pub fn has_wildcard(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

/// Checks any text that is sent as an MQTT string and may be empty.
///
/// # Errors
/// Longer than 65,535 bytes, or with NUL.
pub fn check_string(what: &str, text: &str) -> Result<(), Invalid> {
    if text.len() > MAX_STRING {
        return Err(Invalid::new(format!(
            "invalid {what} '{}': it has {} bytes, MQTT allows at most {MAX_STRING}",
            shown(text),
            text.len()
        )));
    }
    if text.contains('\0') {
        return Err(Invalid::new(format!("invalid {what} '{}': it contains a NUL character", shown(text))));
    }
    Ok(())
}

/// Checks binary data that is sent with a two-byte length.
///
/// # Errors
/// Longer than 65,535 bytes.
pub fn check_binary(what: &str, data: &[u8]) -> Result<(), Invalid> {
    if data.len() > MAX_STRING {
        return Err(Invalid::new(format!(
            "invalid {what}: {} bytes, MQTT allows at most {MAX_STRING}",
            data.len()
        )));
    }
    Ok(())
}

fn check_text(what: &str, text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::new(format!(
            "invalid {what} '': it is empty; at least one character is needed"
        )));
    }
    check_string(what, text)
}

/// Control characters escaped, and cut after 60 characters, so that a message stays one readable line.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_topics_and_filters_pass() {
        for topic in ["a", "/", "a/b", "$SYS/x", " ", "ä/ö"] {
            assert_eq!(check_topic(topic), Ok(()));
        }
        for filter in ["#", "+", "a/#", "+/+/#", "/", "a//b", "$share/g/a/#", "$share/g/#"] {
            assert_eq!(check_filter(filter, Version::V5), Ok(()), "{filter}");
        }
        assert_eq!(check_filter("$share/g", Version::V311), Ok(()));
    }

    #[test]
    fn filters_match_as_the_specification_says() {
        for (filter, topic) in [
            ("#", "a"),
            ("#", "a/b"),
            ("a/#", "a"),
            ("a/#", "a/b/c"),
            ("+/+", "/a"),
            ("a/+/c", "a//c"),
            ("$SYS/#", "$SYS/x"),
            ("$share/g/a/+", "a/b"),
            ("/a", "/a"),
        ] {
            assert!(matches(filter, topic), "{filter} {topic}");
        }
        for (filter, topic) in [
            ("+", "a/b"),
            ("+", "/a"),
            ("a/+", "a"),
            ("a/b", "a"),
            ("a", "a/b"),
            ("#", "$SYS/x"),
            ("+/x", "$SYS/x"),
            ("$share/g/#", "$SYS/x"),
            ("a/b/#", "a"),
        ] {
            assert!(!matches(filter, topic), "{filter} {topic}");
        }
    }

    #[test]
    fn bad_filters_name_the_rule() {
        for (filter, part) in [
            ("a/#/b", "'#' may only be the last level"),
            ("a#", "'#' must be a whole level"),
            ("a/b+", "'+' must be a whole level"),
            ("", "empty"),
            ("a\0b", "NUL"),
            ("$share/g", "'$share/GROUP/FILTER'"),
            ("$share/g/", "'$share/GROUP/FILTER'"),
            ("$share//a", "group name after '$share/' is empty"),
            ("$share/a+/b", "must not contain"),
        ] {
            let error = check_filter(filter, Version::V5).unwrap_err().to_string();
            assert!(error.contains(part), "{filter}: {error}");
        }
    }

    #[test]
    fn bad_topics_name_the_rule_and_stay_one_line() {
        assert!(check_topic("a/#").unwrap_err().to_string().contains("'#' is a wildcard"));
        assert!(check_topic("").unwrap_err().to_string().contains("empty"));
        assert!(check_topic("a\0").unwrap_err().to_string().contains("'a\\0'"));
        let long = check_topic(&"x".repeat(65_536)).unwrap_err().to_string();
        assert!(long.contains("65536 bytes") && long.len() < 200, "{long}");
        assert_eq!(check_topic(&"x".repeat(65_535)), Ok(()));
    }
}
