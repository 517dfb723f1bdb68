//! Where a reader begins: the selector in the filter of its source.
//!
//! `amqp.annotation.NAME > 'VALUE'` or `>=`, with spaces or without; NAME is `x-opt-offset` (also `-1` for the earliest event
//! and `@latest`), `x-opt-sequence-number` or `x-opt-enqueued-time` (milliseconds).

use crate::wire::Value;

/// The name of the filter and its symbolic descriptor.
const SELECTOR: &str = "apache.org:selector-filter:string";
/// Its numeric descriptor.
const SELECTOR_CODE: u64 = 0x0000_468C_0000_0004;
/// A selector is shown in an error no further than this.
const SHOWN: usize = 100;

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    Earliest,
    Latest,
    Offset {
        offset: u64,
        inclusive: bool,
    },
    Sequence {
        number: u64,
        inclusive: bool,
    },
    /// Milliseconds since 1970-01-01 UTC.
    Time {
        time: i64,
        inclusive: bool,
    },
}

impl Position {
    /// What a source's filters ask for. Without any, events that come from now on.
    ///
    /// # Errors
    /// The selector can't be understood: a text for whoever wrote it.
    pub(super) fn of(filter: Value<'_>) -> Result<Position, String> {
        let Some(items) = filter.map() else { return Ok(Position::Latest) };
        let mut found = None;
        for pair in items.pairs() {
            let (name, value) = pair.map_err(|error| format!("the filter can't be read: {error}"))?;
            let ours = name.text() == Some(SELECTOR)
                || value.descriptor() == Some(SELECTOR_CODE)
                || value.descriptor_symbol() == Some(SELECTOR);
            if ours {
                found = Some(value.text().ok_or("the selector is no text")?);
            }
        }
        found.map_or(Ok(Position::Latest), Position::parse)
    }

    fn parse(text: &str) -> Result<Position, String> {
        Position::selector(text).ok_or_else(|| {
            let shown: String = text.chars().take(SHOWN).collect();
            format!(
                "the selector \"{shown}\" can't be understood: it is amqp.annotation.x-opt-offset, x-opt-sequence-number or \
                 x-opt-enqueued-time, then > or >=, then a value in single quotes"
            )
        })
    }

    fn selector(text: &str) -> Option<Position> {
        let (name, rest) = text.trim().strip_prefix("amqp.annotation.")?.split_once('>')?;
        let (inclusive, rest) = match rest.strip_prefix('=') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let rest = rest.trim();
        let value = rest.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap_or(rest).trim();
        Some(match (name.trim(), value) {
            ("x-opt-offset", "-1") => Position::Earliest,
            ("x-opt-offset", "@latest") => Position::Latest,
            ("x-opt-offset", value) => Position::Offset { offset: value.parse().ok()?, inclusive },
            // Before the first.
            ("x-opt-sequence-number", "-1") => Position::Earliest,
            ("x-opt-sequence-number", value) => Position::Sequence { number: value.parse().ok()?, inclusive },
            ("x-opt-enqueued-time", value) => Position::Time { time: value.parse().ok()?, inclusive },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Reader, Writer};
    use proptest::prelude::*;

    #[test]
    fn what_the_sdks_write() {
        for (text, position) in [
            ("amqp.annotation.x-opt-offset > '-1'", Position::Earliest),
            ("amqp.annotation.x-opt-offset >= '-1'", Position::Earliest),
            ("amqp.annotation.x-opt-offset > '@latest'", Position::Latest),
            ("amqp.annotation.x-opt-offset >'5'", Position::Offset { offset: 5, inclusive: false }),
            ("amqp.annotation.x-opt-offset >= '5'", Position::Offset { offset: 5, inclusive: true }),
            (
                "amqp.annotation.x-opt-sequence-number > '42'",
                Position::Sequence { number: 42, inclusive: false },
            ),
            (
                "amqp.annotation.x-opt-sequence-number >='0'",
                Position::Sequence { number: 0, inclusive: true },
            ),
            (
                "amqp.annotation.x-opt-enqueued-time > '1700000000000'",
                Position::Time { time: 1_700_000_000_000, inclusive: false },
            ),
        ] {
            assert_eq!(Position::parse(text), Ok(position), "{text}");
        }
        for text in ["", "1 = 1", "amqp.annotation.x-opt-offset < '5'", "amqp.annotation.x-opt-offset > 'x'"]
        {
            assert!(Position::parse(text).is_err_and(|error| error.contains(text)), "{text}");
        }
    }

    #[test]
    fn filters_with_either_descriptor_and_without_any() {
        let mut symbolic = Vec::new();
        Writer::new(&mut symbolic).map(|w| {
            w.symbol("apache.org:selector-filter:string");
            // A value described by a symbol.
            w.raw(b"\0\xa3\x21apache.org:selector-filter:string\xa1\x23amqp.annotation.x-opt-offset > '-1'");
        });
        let mut numeric = Vec::new();
        Writer::new(&mut numeric).map(|w| {
            w.symbol("anything");
            w.raw(b"\0\x80\0\0\x46\x8c\0\0\0\x04\xa1\x23amqp.annotation.x-opt-offset > '-1'");
        });
        for bytes in [symbolic, numeric] {
            let filter = Reader::new(&bytes).value().expect("a map");
            assert_eq!(Position::of(filter), Ok(Position::Earliest));
        }
        assert_eq!(Position::of(Value::NULL), Ok(Position::Latest));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(amqp.annotation.x-opt-(offset|enqueued-time) ?>)?\\PC*") {
            let _ = Position::parse(&text);
        }
    }
}
