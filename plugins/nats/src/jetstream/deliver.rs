//! Where in a stream to begin: `--deliver`.

use std::time::{SystemTime, UNIX_EPOCH};

use async_nats::jetstream::consumer::DeliverPolicy;
use tracemq_plugin_api::prelude::{Error, Result, Span};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deliver {
    All,
    New,
    Last,
    LastPerSubject,
    Sequence(u64),
    Since(Span),
}

impl Deliver {
    /// # Errors
    /// The text is none of the choices.
    pub(crate) fn parse(text: &str) -> Result<Deliver> {
        let wrong = |why: &str| {
            Error::config(format!("--deliver {text:?}: {why}"))
                .hint("it is one of all, new, last, last-per-subject, sequence:N, since:10m")
        };
        match text {
            "all" => Ok(Deliver::All),
            "new" => Ok(Deliver::New),
            "last" => Ok(Deliver::Last),
            "last-per-subject" => Ok(Deliver::LastPerSubject),
            _ => match text.split_once(':') {
                Some(("sequence", number)) => match number.parse() {
                    Ok(number) if number > 0 => Ok(Deliver::Sequence(number)),
                    _ => Err(wrong("a sequence is a number from 1")),
                },
                Some(("since", span)) => {
                    let span: Span = span.parse().map_err(|error| wrong(&format!("{error}")))?;
                    Ok(Deliver::Since(span))
                }
                _ => Err(wrong("there is no such choice")),
            },
        }
    }

    /// For a consumer that is made now.
    ///
    /// # Errors
    /// The time lies before all that can be told.
    pub(super) fn policy(self) -> Result<DeliverPolicy> {
        Ok(match self {
            Deliver::All => DeliverPolicy::All,
            Deliver::New => DeliverPolicy::New,
            Deliver::Last => DeliverPolicy::Last,
            Deliver::LastPerSubject => DeliverPolicy::LastPerSubject,
            Deliver::Sequence(start_sequence) => DeliverPolicy::ByStartSequence { start_sequence },
            Deliver::Since(span) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let nanos = now.as_nanos().saturating_sub(span.duration().as_nanos());
                let start_time = i128::try_from(nanos)
                    .ok()
                    .and_then(|nanos| async_nats::datetime::from_nanos(nanos).ok())
                    .ok_or_else(|| Error::config(format!("--deliver since:{span}: there is no such time")))?;
                DeliverPolicy::ByStartTime { start_time }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_and_what_is_none() {
        for (text, deliver) in [
            ("all", Deliver::All),
            ("new", Deliver::New),
            ("last", Deliver::Last),
            ("last-per-subject", Deliver::LastPerSubject),
            ("sequence:7", Deliver::Sequence(7)),
            ("since:10m", Deliver::Since(Span::from_secs(600))),
        ] {
            assert_eq!(Deliver::parse(text).unwrap(), deliver);
            deliver.policy().unwrap();
        }
        for text in
            ["", "first", "sequence:0", "sequence:x", "sequence:-1", "since:", "since:soon", "sequence"]
        {
            let error = Deliver::parse(text).unwrap_err().to_string();
            assert!(error.contains("--deliver") && error.contains("last-per-subject"), "{error}");
        }
    }
}
