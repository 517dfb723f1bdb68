//! Topic names and topic filters (MQTT 5.0 section 4.7), as far as the broker itself must judge them:
//! the deny lists, and names that a client may not publish to.

/// Most levels a topic may have. The library's topic tree recurses once per level, so that a name of
/// 65,535 slashes would exhaust the stack of the whole process; 128 is far beyond what is used in practice.
pub const MAX_LEVELS: usize = 128;

/// Longest topic in bytes: the length field on the wire has two bytes.
pub const MAX_TOPIC_BYTES: usize = 65_535;

/// Says why `topic` cannot be published to, if so.
pub fn topic_fault(topic: &str) -> Option<&'static str> {
    if topic.is_empty() {
        Some("a topic name has at least one character")
    } else if topic.len() > MAX_TOPIC_BYTES {
        Some("a topic name has at most 65535 bytes")
    } else if topic.contains(['+', '#']) {
        Some("a topic name contains no wildcards (+, #)")
    } else if topic.contains('\0') {
        Some("a topic name contains no NUL character")
    } else if too_deep(topic) {
        Some("this broker takes at most 128 topic levels")
    } else {
        None
    }
}

/// Says why `filter` cannot be subscribed to, if so.
pub fn filter_fault(filter: &str) -> Option<&'static str> {
    if filter.is_empty() {
        return Some("a topic filter has at least one character");
    }
    if filter.len() > MAX_TOPIC_BYTES {
        return Some("a topic filter has at most 65535 bytes");
    }
    if too_deep(filter) {
        return Some("this broker takes at most 128 topic levels");
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Some("# stands alone and is the last level");
        }
        if level.contains('+') && level != "+" {
            return Some("+ stands alone in its level");
        }
    }
    None
}

fn too_deep(topic: &str) -> bool {
    topic.bytes().filter(|byte| *byte == b'/').count() >= MAX_LEVELS
}

/// Whether everything that `inner` (a topic name or a filter) matches is also matched by `outer`.
pub fn covers(outer: &str, inner: &str) -> bool {
    let mut outer_levels = outer.split('/');
    let mut inner_levels = inner.split('/');
    let mut first = true;
    loop {
        let outer_level = outer_levels.next();
        let inner_level = inner_levels.next();
        // Section 4.7.2: a leading wildcard does not match names that begin with `$`.
        let reserved = first && inner_level.is_some_and(|level| level.starts_with('$'));
        match (outer_level, inner_level) {
            (None, None) => return true,
            (Some("#"), _) => return !reserved,
            (Some("+"), Some(level)) if level != "#" && !reserved => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_follows_the_wildcard_rules() {
        for (outer, inner) in [
            ("a/b", "a/b"),
            ("a/+", "a/b"),
            ("a/+", "a/+"),
            ("a/#", "a"),
            ("a/#", "a/b/c"),
            ("a/#", "a/+/c"),
            ("#", "a/#"),
            ("#", "#"),
            ("+/x", "a/x"),
            ("$SYS/#", "$SYS/a"),
            ("/+", "/"),
        ] {
            assert!(covers(outer, inner), "{outer} must cover {inner}");
        }
        for (outer, inner) in [
            ("a/b", "a"),
            ("a", "a/b"),
            ("a/+", "a"),
            ("a/+", "a/#"),
            ("a/+", "a/b/c"),
            ("a/b", "a/+"),
            ("a/#", "#"),
            ("#", "$SYS/a"),
            ("+/a", "$SYS/a"),
            ("+", "/a"),
        ] {
            assert!(!covers(outer, inner), "{outer} must not cover {inner}");
        }
    }

    #[test]
    fn faults_of_names_and_filters() {
        for good in ["a", "/", "a//b", "$SYS/x", "ü"] {
            assert_eq!(topic_fault(good), None, "{good}");
            assert_eq!(filter_fault(good), None, "{good}");
        }
        for filter in ["#", "+", "+/+", "a/#", "/#"] {
            assert_eq!(filter_fault(filter), None, "{filter}");
            assert!(topic_fault(filter).is_some(), "{filter}");
        }
        for bad in ["", "a#", "#/a", "a+", "a/+b"] {
            assert!(filter_fault(bad).is_some(), "{bad}");
        }
        assert_eq!(topic_fault(&"/".repeat(MAX_LEVELS - 1)), None);
        assert!(topic_fault(&"/".repeat(MAX_LEVELS)).is_some());
        assert!(filter_fault(&"/".repeat(60_000)).is_some());
    }
}
