//! Topic names and topic filters (MQTT 5.0 section 4.7), as far as the broker itself must judge them:
//! the deny lists, and names that a client may not publish to.

use crate::wire::{Version, topic};

/// Most levels a topic may have. The library's topic tree recurses once per level, so that a name of
/// 65,535 slashes would exhaust the stack of the whole process; 128 is far beyond what is used in practice.
pub(super) const MAX_LEVELS: usize = 128;

/// Says why a client may not publish to `topic`, if so.
pub(super) fn topic_fault(name: &str) -> Option<String> {
    topic::check_topic(name).err().map(|error| error.to_string()).or_else(|| too_deep(name))
}

/// Says why `filter` is no topic filter, if so.
pub(super) fn filter_fault(filter: &str) -> Option<String> {
    topic::check_filter(filter, Version::V311)
        .err()
        .map(|error| error.to_string())
        .or_else(|| too_deep(filter))
}

fn too_deep(name: &str) -> Option<String> {
    let levels = name.split('/').count();
    (levels > MAX_LEVELS).then(|| format!("it has {levels} levels, this broker takes at most {MAX_LEVELS}"))
}

/// Whether everything that `inner` (a topic name or a filter) matches is also matched by `outer`.
pub(super) fn covers(outer: &str, inner: &str) -> bool {
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
