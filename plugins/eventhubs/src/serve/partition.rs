//! A partition: its log, what of it is kept, and who reads it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::log::{Block, Event, Folder, Log, Mark, Memory, Piece, Place, Record, encode};
use super::mailbox::{LinkKey, Mailbox, Note};
use super::position::Position;
use super::retention::{Oldest, Retention, now_ms};

/// Readers of a partition in one consumer group without an owner level, as in Azure.
const MOST_READERS: usize = 5;

/// A partition of a hub.
pub(super) struct Partition {
    pub(super) hub: Arc<str>,
    /// Its number as text.
    pub(super) id: String,
    retention: Retention,
    state: Mutex<State>,
    readers: AtomicU64,
}

struct State {
    log: Log,
    /// Of the event to come.
    next: u64,
    end: u64,
    /// Of the newest event that ever was.
    last: Option<Mark>,
    oldest: Oldest,
    waiting: HashMap<u64, (Arc<Mailbox>, LinkKey)>,
    readers: Vec<Registered>,
}

struct Registered {
    number: u64,
    group: Arc<str>,
    level: Option<i64>,
    mailbox: Arc<Mailbox>,
    key: LinkKey,
}

/// What management tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Info {
    /// Of the oldest event that is kept.
    pub(super) begin: u64,
    /// The newest event that ever was.
    pub(super) last: Option<Mark>,
    pub(super) empty: bool,
}

/// What was appended.
#[derive(Debug)]
pub(super) struct Appended {
    /// Sequence number of the first.
    pub(super) first: u64,
    pub(super) count: u64,
    /// The records.
    pub(super) bytes: Bytes,
}

/// Who wants to read.
pub(super) struct Reader {
    pub(super) group: Arc<str>,
    /// The owner level.
    pub(super) level: Option<i64>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) key: LinkKey,
}

/// A reader's place among the readers; given up when it is dropped.
pub(super) struct Seat {
    partition: Arc<Partition>,
    number: u64,
    mailbox: Arc<Mailbox>,
    key: LinkKey,
}

/// Why somebody can't read: condition and text.
pub(super) type Refusal = (&'static str, String);

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition").field("hub", &self.hub).field("id", &self.id).finish_non_exhaustive()
    }
}

impl Partition {
    /// A partition that ends with the process.
    pub(super) fn in_memory(hub: Arc<str>, id: String, retention: Retention) -> Partition {
        Partition::new(hub, id, retention, Log::Memory(Memory::default()), None, (0, 0))
    }

    /// A partition that is kept in a folder. Says how many bytes were cut off it, because they were never accepted.
    ///
    /// # Errors
    /// The folder can't be used, or is damaged.
    pub(super) fn in_folder(
        hub: Arc<str>,
        id: String,
        retention: Retention,
        folder: &std::path::Path,
    ) -> io::Result<(Partition, u64)> {
        let found = Folder::open(folder)?;
        let cut = found.cut;
        let partition = Partition::new(hub, id, retention, Log::Folder(found.log), found.events, found.next);
        partition.expire();
        Ok((partition, cut))
    }

    fn new(
        hub: Arc<str>,
        id: String,
        retention: Retention,
        log: Log,
        events: Option<(Mark, Mark)>,
        (next, end): (u64, u64),
    ) -> Partition {
        let first = events.map_or(Mark { sequence: next, offset: end, time: i64::MAX }, |(first, _)| first);
        let state = State {
            log,
            next,
            end,
            last: events.map(|(_, last)| last),
            oldest: Oldest::new(first, Bytes::new()),
            waiting: HashMap::new(),
            readers: Vec::new(),
        };
        Partition { hub, id, retention, state: Mutex::new(state), readers: AtomicU64::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends events, which are there for readers and, in a folder, outlive the process when this returns. There must be
    /// one at least.
    ///
    /// # Errors
    /// The log can't be written. Then none of them is there.
    pub(super) fn append(&self, events: &[Event<'_>]) -> io::Result<Appended> {
        let mut state = self.lock();
        let time = now_ms().max(state.last.map_or(i64::MIN, |last| last.time));
        let mark = Mark { sequence: state.next, offset: state.end, time };
        let block: Block = encode(events, mark, state.log.is_file());
        state.log.append(&block)?;
        if state.oldest.mark.sequence == state.next {
            state.oldest = Oldest::new(mark, block.bytes.clone());
        }
        state.next += block.count;
        state.end += block.bytes.len() as u64;
        state.last = Some(block.last);
        state.trim(&self.retention);
        for (mailbox, key) in std::mem::take(&mut state.waiting).into_values() {
            mailbox.put(Note::Events(key));
        }
        Ok(Appended { first: mark.sequence, count: block.count, bytes: block.bytes })
    }

    /// Forgets what is too old by now.
    pub(super) fn expire(&self) {
        self.lock().trim(&self.retention);
    }

    /// The file that the disk has to be told of, if events were written to it.
    pub(super) fn unsynced(&self) -> Option<Arc<std::fs::File>> {
        self.lock().log.unsynced()
    }

    pub(super) fn info(&self) -> Info {
        let state = self.lock();
        let begin = state.oldest.mark.sequence;
        Info { begin, last: state.last, empty: begin == state.next }
    }

    /// Records from this event on, or from the oldest when that is gone: the first of them may stand before it. `None` when
    /// all events stand before it.
    ///
    /// # Errors
    /// The log can't be read.
    pub(super) fn read(&self, sequence: u64) -> io::Result<Option<Bytes>> {
        let piece = {
            let state = self.lock();
            let wanted = sequence.max(state.oldest.mark.sequence);
            if wanted >= state.next {
                return Ok(None);
            }
            state.log.piece(wanted)
        };
        piece.map(Piece::read).transpose()
    }

    /// The sequence number that a reader begins with.
    ///
    /// # Errors
    /// There was never such a place: condition and text.
    pub(super) fn find(&self, position: Position) -> Result<u64, Refusal> {
        let (next, end, oldest) = {
            let state = self.lock();
            (state.next, state.end, state.oldest.mark)
        };
        let beyond = |what: &str, value: u64, newest: Option<u64>| {
            let newest = newest.map_or_else(|| "-1".to_owned(), |newest| newest.to_string());
            let text = format!(
                "The supplied {what} '{value}' is invalid. The last {what} in the system is '{newest}'."
            );
            Err(("com.microsoft:argument-error", text))
        };
        let place = match position {
            Position::Earliest => return Ok(oldest.sequence),
            Position::Latest => return Ok(next),
            Position::Sequence { number, inclusive } => {
                let wanted = if inclusive { number } else { number.saturating_add(1) };
                if wanted > next {
                    return beyond("sequence number", number, next.checked_sub(1));
                }
                return Ok(wanted.max(oldest.sequence));
            }
            Position::Offset { offset, inclusive } => {
                if offset > end || offset == end && !inclusive {
                    return beyond("offset", offset, self.info().last.map(|last| last.offset));
                }
                Place::Offset(if inclusive { offset } else { offset + 1 })
            }
            Position::Time { time, inclusive } => {
                Place::Time(if inclusive { time } else { time.saturating_add(1) })
            }
        };
        let found = self.search(place).map_err(|error| ("amqp:internal-error", error.to_string()))?;
        Ok(found.map_or(next, |mark| mark.sequence.max(oldest.sequence)))
    }

    fn search(&self, place: Place) -> io::Result<Option<Mark>> {
        let around = self.lock().log.around(place);
        if let Some(piece) = around.piece {
            let bytes = piece.read()?;
            let mut rest = &bytes[..];
            while let Some(record) = Record::read(rest) {
                if place.reached(&record.mark) {
                    return Ok(Some(record.mark));
                }
                rest = &rest[record.length..];
            }
        }
        Ok(around.next)
    }

    /// Lets somebody read. Whoever has a lower or the same owner level, or none when this one has one, is told that its link
    /// was stolen.
    ///
    /// # Errors
    /// Somebody with a higher owner level reads, or as many as may.
    pub(super) fn seat(self: &Arc<Partition>, reader: Reader) -> Result<Seat, Refusal> {
        let Reader { group, level, mailbox, key } = reader;
        let mut state = self.lock();
        let others: Vec<_> = state.readers.iter().filter(|other| other.group == group).collect();
        let highest = others.iter().filter_map(|other| other.level).max();
        let stolen = "amqp:link:stolen";
        match (level, highest) {
            (Some(level), Some(highest)) if level < highest => {
                let text = format!(
                    "Receiver with a higher epoch '{highest}' already exists. Receiver with epoch {level} cannot be created. \
                     Make sure you are creating receiver with increasing epoch value to ensure connectivity, or ensure all \
                     old epoch receivers are closed or disconnected."
                );
                return Err((stolen, text));
            }
            (None, Some(highest)) => {
                let text = format!(
                    "Receiver with epoch '{highest}' already exists. A non-epoch receiver is not allowed to be created while \
                     it is connected."
                );
                return Err((stolen, text));
            }
            (None, None) if others.len() >= MOST_READERS => {
                let text = format!(
                    "Exceeded the maximum number of allowed receivers per partition in a consumer group which is {MOST_READERS}."
                );
                return Err(("amqp:resource-limit-exceeded", text));
            }
            _ => {}
        }
        if let Some(level) = level {
            state.readers.retain(|other| {
                let stays = other.group != group;
                if !stays {
                    let old = other.level.map_or_else(|| "none".to_owned(), |level| level.to_string());
                    let text = format!(
                        "New receiver with higher epoch of '{level}' is created hence current receiver with epoch '{old}' is \
                         getting disconnected. If you are recreating the receiver, make sure a higher epoch is used."
                    );
                    other.mailbox.put(Note::Stolen(other.key, text));
                }
                stays
            });
        }
        let number = self.readers.fetch_add(1, Ordering::Relaxed);
        let registered = Registered { number, group, level, mailbox: Arc::clone(&mailbox), key };
        state.readers.push(registered);
        Ok(Seat { partition: Arc::clone(self), number, mailbox, key })
    }
}

impl State {
    /// The place of the event to come.
    fn to_come(&self) -> Mark {
        Mark { sequence: self.next, offset: self.end, time: i64::MAX }
    }

    fn trim(&mut self, retention: &Retention) {
        let next = self.to_come();
        self.oldest.trim(retention, &mut self.log, next);
    }
}

impl Seat {
    /// Asks to be told when there is an event with this sequence number. `false` when it is there.
    pub(super) fn wait(&self, sequence: u64) -> bool {
        let mut state = self.partition.lock();
        let wait = sequence >= state.next;
        if wait {
            state.waiting.insert(self.number, (Arc::clone(&self.mailbox), self.key));
        }
        wait
    }

    pub(super) fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.partition.lock();
        state.waiting.remove(&self.number);
        state.readers.retain(|reader| reader.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::{Message, Writer, code};

    fn append(partition: &Partition, texts: &[&str]) -> Appended {
        let messages: Vec<_> = texts
            .iter()
            .map(|text| {
                let mut out = Vec::new();
                Writer::new(&mut out).describe(code::DATA).binary(text.as_bytes());
                out
            })
            .collect();
        let events: Vec<_> = messages
            .iter()
            .map(|bytes| Event::new(Message::read(bytes).expect("a message"), None).expect("an event"))
            .collect();
        partition.append(&events).expect("it can be written")
    }

    fn memory(retention: Retention) -> Arc<Partition> {
        Arc::new(Partition::in_memory("hub".into(), "0".into(), retention))
    }

    fn kept(partition: &Partition) -> Vec<u64> {
        let mut found = Vec::new();
        let mut next = 0;
        while let Some(bytes) = partition.read(next).expect("it can be read") {
            let begin = partition.info().begin;
            let mut rest = &bytes[..];
            while let Some(record) = Record::read(rest) {
                if record.mark.sequence >= next.max(begin) {
                    found.push(record.mark.sequence);
                    next = record.mark.sequence + 1;
                }
                rest = &rest[record.length..];
            }
        }
        found
    }

    #[test]
    fn numbers_have_no_gaps_and_places_are_found() {
        let partition = memory(Retention::default());
        assert!(partition.info().empty && partition.info().last.is_none());
        assert_eq!(append(&partition, &["a", "b"]).first, 0);
        assert_eq!(append(&partition, &["c"]).first, 2);
        assert_eq!(kept(&partition), [0, 1, 2]);
        let last = partition.info().last.expect("the last");
        let find = |position| partition.find(position).expect("a place");
        assert_eq!((find(Position::Earliest), find(Position::Latest)), (0, 3));
        let offset = |offset, inclusive| Position::Offset { offset, inclusive };
        assert_eq!((find(offset(0, true)), find(offset(0, false))), (0, 1));
        assert_eq!((find(offset(last.offset, true)), find(offset(last.offset, false))), (2, 3));
        let number = |number, inclusive| Position::Sequence { number, inclusive };
        assert_eq!((find(number(1, true)), find(number(1, false)), find(number(3, true))), (1, 2, 3));
        assert!(partition.find(number(3, false)).is_err() && partition.find(offset(9999, true)).is_err());
        let time = |time, inclusive| Position::Time { time, inclusive };
        assert_eq!(
            (find(time(0, true)), find(time(last.time, false)), find(time(i64::MAX, false))),
            (0, 3, 3)
        );
    }

    #[test]
    fn retention_is_exact_in_memory_and_in_a_folder() {
        let dir = tempfile::tempdir().expect("a folder");
        let by_count = Retention { events: Some(3), ..Retention::default() };
        let (folder, _) =
            Partition::in_folder("hub".into(), "0".into(), by_count, dir.path()).expect("a log");
        for partition in [memory(by_count), Arc::new(folder)] {
            append(&partition, &["a", "b"]);
            assert_eq!(kept(&partition), [0, 1]);
            append(&partition, &["c", "d", "e", "f"]);
            assert_eq!(kept(&partition), [3, 4, 5]);
            append(&partition, &["g"]);
            assert_eq!((kept(&partition), partition.info().begin), (vec![4, 5, 6], 4));
        }
        let (again, cut) =
            Partition::in_folder("hub".into(), "0".into(), by_count, dir.path()).expect("a log");
        assert_eq!((kept(&again), cut), (vec![4, 5, 6], 0));
        let by_bytes = memory(Retention { bytes: Some(400), ..Retention::default() });
        append(&by_bytes, &["a"; 10]);
        assert!((1..4).contains(&kept(&by_bytes).len()));
        append(&by_bytes, &["x".repeat(1000).as_str()]);
        assert_eq!(kept(&by_bytes), [10], "the newest stays, whatever its size");
        let by_age = memory(Retention { age: Some(Duration::from_millis(1)), ..Retention::default() });
        append(&by_age, &["a", "b"]);
        std::thread::sleep(Duration::from_millis(5));
        by_age.expire();
        assert!(kept(&by_age).is_empty() && by_age.info().empty);
        assert_eq!(by_age.info().last.map(|last| last.sequence), Some(1));
        assert_eq!(append(&by_age, &["c"]).first, 2);
    }

    #[test]
    fn owner_levels() {
        let partition = memory(Retention::default());
        let mailbox = Arc::new(Mailbox::default());
        let seat = |group: &str, level, serial| {
            let key = LinkKey { channel: 0, handle: 0, serial };
            partition.seat(Reader { group: group.into(), level, mailbox: Arc::clone(&mailbox), key })
        };
        let plain = seat("g", None, 1).expect("a seat");
        let owner = seat("g", Some(1), 2).expect("a seat");
        assert!(matches!(&mailbox.take()[..], [Note::Stolen(key, _)] if key.serial == 1));
        assert!(seat("g", None, 3).is_err() && seat("g", Some(0), 3).is_err());
        let other = seat("other", None, 4).expect("another group");
        drop(plain);
        let again = seat("g", Some(1), 5).expect("the same level takes over");
        assert!(matches!(&mailbox.take()[..], [Note::Stolen(key, _)] if key.serial == 2));
        // One that was stolen takes nothing with it.
        drop(owner);
        assert!(seat("g", None, 6).is_err());
        drop(again);
        let several: Vec<_> = (0..MOST_READERS as u64).map(|serial| seat("g", None, 10 + serial)).collect();
        assert!(several.iter().all(Result::is_ok) && seat("g", None, 20).is_err());
        drop(other);
    }

    #[test]
    fn whoever_waits_is_told_once() {
        let partition = memory(Retention::default());
        let mailbox = Arc::new(Mailbox::default());
        let key = LinkKey { channel: 1, handle: 2, serial: 3 };
        let reader = Reader { group: "g".into(), level: None, mailbox: Arc::clone(&mailbox), key };
        let seat = partition.seat(reader).expect("a seat");
        assert!(seat.wait(0) && seat.wait(0));
        append(&partition, &["a"]);
        append(&partition, &["b"]);
        assert!(matches!(&mailbox.take()[..], [Note::Events(found)] if *found == key));
        assert!(!seat.wait(1));
    }
}
