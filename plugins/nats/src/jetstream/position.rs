//! What the reply subject of a delivered message says of it.
//!
//! `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<timestamp>.<pending>`, and since 2.10 possibly with
//! `<domain>.<account>` after `ACK` and a token at the end (ADR-15 of NATS).

/// Where a message stands in its stream and its consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position<'a> {
    pub(super) stream: &'a str,
    pub(super) consumer: &'a str,
    /// How often it was delivered, this time included.
    pub(super) delivered: u64,
    pub(super) sequence: u64,
    pub(super) consumer_sequence: u64,
    /// Nanoseconds since 1970-01-01 UTC at which it was stored.
    pub(super) time: i64,
    /// Messages that the consumer has not delivered yet.
    pub(super) pending: u64,
}

impl<'a> Position<'a> {
    pub(super) fn read(reply: &'a [u8]) -> Option<Position<'a>> {
        let rest = std::str::from_utf8(reply).ok()?.strip_prefix("$JS.ACK.")?;
        let mut tokens = [""; 10];
        let mut count = 0;
        for token in rest.split('.') {
            // What a later version adds stands at the end.
            if count < tokens.len() {
                tokens[count] = token;
                count += 1;
            }
        }
        let tokens = match count {
            7 => &tokens[..7],
            9.. => &tokens[2..9],
            _ => return None,
        };
        Some(Position {
            stream: tokens[0],
            consumer: tokens[1],
            delivered: tokens[2].parse().ok()?,
            sequence: tokens[3].parse().ok()?,
            consumer_sequence: tokens[4].parse().ok()?,
            time: tokens[5].parse().ok()?,
            pending: tokens[6].parse().ok()?,
        })
    }
}

/// RFC 3339 in UTC, to the nanosecond.
pub(super) fn timestamp(nanos: i64) -> String {
    const DAY: i64 = 86_400;
    let (seconds, nanos) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    // Years from March, in eras of 400 years: the leap day is then the last of a year.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_others_are_not() {
        let expected = Position {
            stream: "S",
            consumer: "c",
            delivered: 2,
            sequence: 30,
            consumer_sequence: 4,
            time: 1_700_000_000_000_000_001,
            pending: 6,
        };
        for reply in [
            "$JS.ACK.S.c.2.30.4.1700000000000000001.6",
            "$JS.ACK._.hash.S.c.2.30.4.1700000000000000001.6",
            "$JS.ACK.hub.hash.S.c.2.30.4.1700000000000000001.6.token.more",
        ] {
            assert_eq!(Position::read(reply.as_bytes()), Some(expected), "{reply}");
        }
        for reply in [
            "",
            "$JS.ACK.S.c.2.30.4.17",
            "$JS.ACK.S.c.2.30.4.17.6.x",
            "$JS.ACK.S.c.x.30.4.17.6",
            "_INBOX.a.1",
        ] {
            assert_eq!(Position::read(reply.as_bytes()), None, "{reply}");
        }
    }

    #[test]
    fn timestamps() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (951_827_696_000_000_001, "2000-02-29T12:34:56.000000001Z"),
            (1_709_251_199_999_000_000, "2024-02-29T23:59:59.999000000Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(timestamp(nanos), text);
        }
    }
}
