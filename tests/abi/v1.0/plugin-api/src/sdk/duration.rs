//! A length of time as a person writes it in an option.
//!
//! Options hold a [`Span`], not a [`std::time::Duration`], because serde's form of the latter (`{secs, nanos}`) can be
//! neither a flag nor a field of a form. The text form is the canonical one; bare numbers are seconds, since that is what
//! every tool of the field takes for its `--timeout`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// The longest span accepted: 1000 years of 365 days. Far enough for "never", and small enough that adding one to the clock
/// can't overflow.
const LONGEST: Duration = Duration::from_secs(1000 * 365 * 86_400);

/// Unit names and their nanoseconds, longest first: [`fmt::Display`] takes the first that divides the span.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// A length of time, written `500ms`, `5s`, `1.5s`, `2m`, `1h30m`, `7d`, or as a bare number of seconds.
///
/// Zero is valid; what it means is the option's business. In a schema it is a string with `"x-type": "duration"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(Duration);

impl Span {
    /// A span of whole seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// A span of whole milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// The span for use with timers.
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// Whether the span is zero.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    fn from_secs_f64(secs: f64) -> Result<Self, SpanError> {
        Duration::try_from_secs_f64(secs).ok().filter(|d| *d <= LONGEST).map(Self).ok_or(SpanError::Range)
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

/// Why a text is not a [`Span`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanError {
    /// Not numbers followed by units.
    Syntax,
    /// A unit other than `ns us ms s m h d`.
    Unit,
    /// Negative, or over 1000 years.
    Range,
}

impl fmt::Display for SpanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "not a duration: write it like 500ms, 5s, 2m, 1h30m, or as a number of seconds",
            Self::Unit => "unknown unit of time: use ms, s, m, h or d",
            Self::Range => "a duration must be from 0 to 1000 years",
        })
    }
}

impl std::error::Error for SpanError {}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let mut rest = text.trim();
        if rest.starts_with('-') {
            return Err(SpanError::Range);
        }
        if rest.is_empty() {
            return Err(SpanError::Syntax);
        }
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, tail) = rest.split_at(digits);
            let number: f64 = number.parse().map_err(|_| SpanError::Syntax)?;
            let tail = tail.trim_start();
            let letters = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let nanos = match unit {
                // A number without a unit is seconds only when it is all there is: "1h30" is a slip.
                "" if tail.is_empty() && total.is_zero() => 1_000_000_000,
                "" => return Err(SpanError::Syntax),
                "µs" => 1_000,
                "min" => 60_000_000_000,
                _ => UNITS.iter().find(|(name, _)| *name == unit).ok_or(SpanError::Unit)?.1,
            };
            let part = Self::from_secs_f64(number * nanos as f64 / 1e9)?;
            total = total.checked_add(part.0).filter(|d| *d <= LONGEST).ok_or(SpanError::Range)?;
            rest = tail.trim_start();
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Span {
    /// The shortest exact form with one unit: `90s`, `2m`, `1500ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        let (unit, size) = UNITS.iter().find(|(_, size)| nanos.is_multiple_of(*size)).unwrap_or(&UNITS[6]);
        write!(f, "{}{unit}", nanos / size)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;

        impl Visitor<'_> for SpanVisitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration like \"5s\" or a number of seconds")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, secs: u64) -> Result<Span, E> {
                Span::from_secs_f64(secs as f64).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, secs: i64) -> Result<Span, E> {
                Span::from_secs_f64(secs as f64).map_err(E::custom)
            }
            fn visit_f64<E: de::Error>(self, secs: f64) -> Result<Span, E> {
                Span::from_secs_f64(secs).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(SpanVisitor)
    }
}

impl JsonSchema for Span {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-type": "duration" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> Result<u128, SpanError> {
        text.parse::<Span>().map(|s| s.duration().as_millis())
    }

    #[test]
    fn reads_units_sums_and_bare_seconds() {
        for (text, want) in [
            ("500ms", 500),
            ("5s", 5000),
            ("5", 5000),
            ("0.25", 250),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("2min", 120_000),
            ("1h30m", 5_400_000),
            (" 1h 30m ", 5_400_000),
            ("7d", 604_800_000),
            ("0", 0),
        ] {
            assert_eq!(millis(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_duration() {
        for text in ["", " ", "s", "1h30", "5 5", "1..5s", "NaN", "inf", "1e9"] {
            assert!(matches!(millis(text), Err(SpanError::Syntax | SpanError::Unit)), "{text}");
        }
        assert_eq!(millis("5y"), Err(SpanError::Unit));
        assert_eq!(millis("-1s"), Err(SpanError::Range));
        assert_eq!(millis("1001000d"), Err(SpanError::Range));
        assert_eq!(millis(&"9".repeat(400)), Err(SpanError::Range));
    }

    #[test]
    fn text_form_reads_back_as_the_same_span() {
        for text in ["0s", "1ns", "1500ms", "90s", "2m", "25h", "3d"] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string(), text);
            assert_eq!(serde_json::from_str::<Span>(&serde_json::to_string(&span).unwrap()).unwrap(), span);
        }
        assert_eq!("1h30m".parse::<Span>().unwrap().to_string(), "90m");
    }

    #[test]
    fn json_numbers_are_seconds() {
        assert_eq!(serde_json::from_str::<Span>("5").unwrap(), Span::from_secs(5));
        assert_eq!(serde_json::from_str::<Span>("0.5").unwrap(), Span::from_millis(500));
        assert!(serde_json::from_str::<Span>("-5").is_err());
        assert!(serde_json::from_str::<Span>("18446744073709551615").is_err());
    }
}
