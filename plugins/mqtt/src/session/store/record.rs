//! The journal's bytes: a header, then records of length (4 bytes), checksum (8), kind (1), packet identifier (2)
//! and, for a message sent, its encoded PUBLISH. The checksum is the start of SHA-256 over all that follows it.

use bytes::Bytes;
use ring::digest;

/// First bytes of every journal; the last digit is the format's version.
pub(super) const HEADER: &[u8] = b"tracemq mqtt session 1\n";

const PREFIX: usize = 12;
const MIN_BODY: usize = 3;

/// A step in the life of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A QoS 1 or 2 PUBLISH got this identifier and is about to be written.
    Sent {
        /// Packet identifier.
        pid: u16,
        /// The encoded PUBLISH.
        wire: Bytes,
    },
    /// PUBREC came for it.
    Released {
        /// Packet identifier.
        pid: u16,
    },
    /// Its exchange is over.
    Done {
        /// Packet identifier.
        pid: u16,
    },
    /// A QoS 2 message was delivered and dealt with.
    Received {
        /// Packet identifier.
        pid: u16,
    },
    /// PUBREL came for it.
    Forgotten {
        /// Packet identifier.
        pid: u16,
    },
}

/// Appends a change's record.
pub fn put(change: &Change, out: &mut Vec<u8>) {
    let (kind, pid, wire): (u8, u16, &[u8]) = match change {
        Change::Sent { pid, wire } => (1, *pid, wire),
        Change::Released { pid } => (2, *pid, &[]),
        Change::Done { pid } => (3, *pid, &[]),
        Change::Received { pid } => (4, *pid, &[]),
        Change::Forgotten { pid } => (5, *pid, &[]),
    };
    let start = out.len();
    out.extend_from_slice(&((MIN_BODY + wire.len()) as u32).to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    out.push(kind);
    out.extend_from_slice(&pid.to_be_bytes());
    out.extend_from_slice(wire);
    let sum = checksum(&out[start + PREFIX..]);
    out[start + 4..start + PREFIX].copy_from_slice(&sum);
}

fn checksum(body: &[u8]) -> [u8; 8] {
    let digest = digest::digest(&digest::SHA256, body);
    std::array::from_fn(|at| digest.as_ref()[at])
}

/// What a journal's bytes hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// All changes up to the first unreadable record.
    pub changes: Vec<Change>,
    /// How many bytes are good.
    pub good: usize,
    /// There is more behind an unreadable record, or the header is wrong: damaged, not torn.
    pub damaged: bool,
}

/// Reads a journal. Never fails: what cannot be read is reported in the result.
pub fn load(bytes: &Bytes) -> Loaded {
    let mut loaded = Loaded { changes: Vec::new(), good: 0, damaged: false };
    if !bytes.starts_with(HEADER) {
        // A header that was torn while the file was made holds nothing to lose.
        loaded.damaged = !HEADER.starts_with(bytes);
        return loaded;
    }
    loaded.good = HEADER.len();
    while let Some(prefix) = bytes.get(loaded.good..loaded.good + PREFIX) {
        let length = u32::from_be_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]) as usize;
        let start = loaded.good + PREFIX;
        let Some(end) = start.checked_add(length).filter(|end| *end <= bytes.len()) else { break };
        match read(bytes, start, end, &prefix[4..]) {
            Some(change) => loaded.changes.push(change),
            None => {
                loaded.damaged = end < bytes.len();
                break;
            }
        }
        loaded.good = end;
    }
    loaded
}

fn read(bytes: &Bytes, start: usize, end: usize, sum: &[u8]) -> Option<Change> {
    let body = &bytes[start..end];
    if body.len() < MIN_BODY || checksum(body) != sum {
        return None;
    }
    let pid = u16::from_be_bytes([body[1], body[2]]);
    let change = match body[0] {
        1 => return Some(Change::Sent { pid, wire: bytes.slice(start + MIN_BODY..end) }),
        2 => Change::Released { pid },
        3 => Change::Done { pid },
        4 => Change::Received { pid },
        5 => Change::Forgotten { pid },
        _ => return None,
    };
    (body.len() == MIN_BODY).then_some(change)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> (Vec<Change>, Vec<u8>) {
        let changes = vec![
            Change::Sent { pid: 7, wire: Bytes::from_static(b"\x32\x05\x00\x01a\x00\x00") },
            Change::Released { pid: 7 },
            Change::Received { pid: 9 },
            Change::Forgotten { pid: 9 },
            Change::Done { pid: 7 },
        ];
        let mut bytes = HEADER.to_vec();
        changes.iter().for_each(|change| put(change, &mut bytes));
        (changes, bytes)
    }

    #[test]
    fn a_journal_is_read_back() {
        let (changes, bytes) = journal();
        let loaded = load(&Bytes::from(bytes.clone()));
        assert_eq!(loaded, Loaded { changes, good: bytes.len(), damaged: false });
    }

    #[test]
    fn a_tail_torn_anywhere_loses_only_the_last_record() {
        let (changes, bytes) = journal();
        for end in 0..bytes.len() {
            let loaded = load(&Bytes::copy_from_slice(&bytes[..end]));
            assert!(!loaded.damaged, "{end}");
            assert!(changes.starts_with(&loaded.changes));
            assert!(loaded.good <= end);
        }
    }

    #[test]
    fn damage_in_the_middle_is_told_from_a_torn_tail() {
        let (changes, mut bytes) = journal();
        bytes[HEADER.len() + PREFIX + 4] ^= 1;
        let loaded = load(&Bytes::from(bytes.clone()));
        assert_eq!((loaded.changes.len(), loaded.damaged), (0, true));
        bytes[HEADER.len() + PREFIX + 4] ^= 1;
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let loaded = load(&Bytes::from(bytes));
        assert_eq!((loaded.changes.len(), loaded.damaged), (changes.len() - 1, false));
        assert!(load(&Bytes::from_static(b"something else")).damaged);
    }
}
