//! Where in a partition to begin: `--position`, and the filter that asks the service for it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use tracemq_plugin_api::prelude::{Error, Result};

/// A place in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    Earliest,
    Latest,
    /// Opaque: with geo-replication it is no number.
    Offset(String),
    Sequence(i64),
    /// Milliseconds since 1970-01-01 UTC.
    Time(i64),
}

impl Position {
    /// # Errors
    /// The text is none of the choices.
    pub fn parse(text: &str) -> Result<Position> {
        let wrong = |why: &str| {
            Error::config(format!("--position {text:?}: {why}"))
                .hint("it is one of earliest, latest, offset:X, sequence:N, time:2026-11-22T10:00:00Z")
        };
        match text {
            "earliest" => return Ok(Position::Earliest),
            "latest" => return Ok(Position::Latest),
            _ => {}
        }
        match text.split_once(':') {
            Some(("offset", offset)) => {
                // It stands in quotes in the filter.
                if offset.is_empty()
                    || offset.len() > 128
                    || offset.contains(|c: char| c.is_control() || c == '\'')
                {
                    return Err(wrong("an offset is a text of 1 to 128 characters without quotes"));
                }
                Ok(Position::Offset(offset.to_owned()))
            }
            Some(("sequence", number)) => match number.parse() {
                Ok(number) if number >= 0 => Ok(Position::Sequence(number)),
                _ => Err(wrong("a sequence number is a number from 0")),
            },
            Some(("time", time)) => match Timestamp::from_str(time) {
                Ok(time) => Ok(Position::Time(time.as_millisecond())),
                Err(_) => Err(wrong("a time is written as in RFC 3339, with its zone")),
            },
            _ => Err(wrong("there is no such choice")),
        }
    }
}

/// Where a link is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub position: Position,
    /// Begin with the event at the position itself.
    pub inclusive: bool,
}

impl Start {
    /// Behind this event.
    pub fn after(sequence: i64) -> Start {
        match sequence < 0 {
            // Nothing has ever been in the partition.
            true => Start { position: Position::Earliest, inclusive: false },
            false => Start { position: Position::Sequence(sequence), inclusive: false },
        }
    }
}

impl fmt::Display for Start {
    /// As the service's filter expression.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is = if self.inclusive { ">=" } else { ">" };
        match &self.position {
            Position::Earliest => f.write_str("amqp.annotation.x-opt-offset > '-1'"),
            Position::Latest => f.write_str("amqp.annotation.x-opt-offset > '@latest'"),
            Position::Offset(offset) => write!(f, "amqp.annotation.x-opt-offset {is} '{offset}'"),
            Position::Sequence(number) => write!(f, "amqp.annotation.x-opt-sequence-number {is} '{number}'"),
            Position::Time(time) => write!(f, "amqp.annotation.x-opt-enqueued-time {is} '{time}'"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str, inclusive: bool) -> String {
        let position = Position::parse(text).unwrap_or_else(|error| panic!("{error}"));
        Start { position, inclusive }.to_string()
    }

    #[test]
    fn every_choice() {
        assert_eq!(filter("earliest", true), "amqp.annotation.x-opt-offset > '-1'");
        assert_eq!(filter("latest", false), "amqp.annotation.x-opt-offset > '@latest'");
        assert_eq!(filter("offset:a:7", true), "amqp.annotation.x-opt-offset >= 'a:7'");
        assert_eq!(filter("sequence:42", false), "amqp.annotation.x-opt-sequence-number > '42'");
        assert_eq!(
            filter("time:1970-01-01T00:00:01.5+00:00", true),
            "amqp.annotation.x-opt-enqueued-time >= '1500'"
        );
        assert_eq!(Start::after(-1).position, Position::Earliest);
        assert_eq!(Start::after(0).position, Position::Sequence(0));
    }

    #[test]
    fn what_is_none() {
        for text in [
            "",
            "first",
            "offset:",
            "offset:1' OR '1",
            "sequence:-1",
            "sequence:x",
            "time:yesterday",
            "time:2026-01-01",
        ] {
            let error = Position::parse(text).expect_err(text).to_string();
            assert!(error.contains("--position") && error.contains("earliest"), "{error}");
        }
    }
}
