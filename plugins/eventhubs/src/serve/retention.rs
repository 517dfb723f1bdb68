//! What of a partition is kept: so many events, so many bytes, for so long.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::log::{Log, Mark, Piece, Record};

/// Milliseconds since 1970-01-01 UTC.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What of a partition is kept. Older events are forgotten as soon as there are more; the newest is kept whatever its size.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retention {
    pub(super) events: Option<u64>,
    pub(super) bytes: Option<u64>,
    pub(super) age: Option<Duration>,
}

/// The oldest event that is kept; when there is none, that to come.
#[derive(Debug)]
pub(super) struct Oldest {
    pub(super) mark: Mark,
    /// What follows in the log, from a little before the oldest event on; nothing when it has to be read.
    rest: Bytes,
}

impl Oldest {
    pub(super) fn new(mark: Mark, rest: Bytes) -> Oldest {
        Oldest { mark, rest }
    }

    /// Passes over what is not to be kept. `next` is the place of the event to come.
    pub(super) fn trim(&mut self, retention: &Retention, log: &mut Log, next: Mark) {
        let before = self.mark.sequence;
        let age = retention.age.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        let aged = age.map(|age| now_ms().saturating_sub(age));
        loop {
            let left = next.sequence - self.mark.sequence;
            let many = retention.events.is_some_and(|most| left > most.max(1));
            let large = left > 1 && retention.bytes.is_some_and(|most| next.offset - self.mark.offset > most);
            let old = left > 0 && aged.is_some_and(|aged| self.mark.time < aged);
            if !(many || large || old) {
                break;
            }
            if let Err(error) = self.pass(log, next) {
                log::warn!("cannot read the log to forget what is old: {error}");
                break;
            }
        }
        if self.mark.sequence != before {
            log.forget(self.mark.sequence);
        }
    }

    /// Passes over the oldest event.
    fn pass(&mut self, log: &Log, next: Mark) -> io::Result<()> {
        let wanted = self.mark.sequence + 1;
        if wanted >= next.sequence {
            *self = Oldest { mark: next, rest: Bytes::new() };
            return Ok(());
        }
        if !self.seek(wanted) {
            let missing = || io::Error::new(io::ErrorKind::NotFound, format!("event {wanted} is not there"));
            self.rest = log.piece(wanted).map(Piece::read).transpose()?.ok_or_else(missing)?;
            if !self.seek(wanted) {
                return Err(missing());
            }
        }
        Ok(())
    }

    /// Goes on to this event, if it stands in what was read.
    fn seek(&mut self, wanted: u64) -> bool {
        let mut at = 0;
        while let Some(record) = Record::read(&self.rest[at..]) {
            if record.mark.sequence >= wanted {
                self.mark = record.mark;
                self.rest = self.rest.slice(at..);
                return true;
            }
            at += record.length;
        }
        false
    }
}
