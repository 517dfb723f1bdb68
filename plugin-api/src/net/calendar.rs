//! Dates in UTC, in the little that certificates need: the calendar's rules and nothing of time zones.

use rustls::pki_types::UnixTime;

const DAY: u64 = 86_400;
/// From 1 March of the year 0, where the eras of 400 years begin, to 1970-01-01.
const TO_1970: u64 = 719_468;

/// `2024-05-01 12:00 UTC`.
pub(super) fn date(time: UnixTime) -> String {
    let seconds = time.as_secs();
    let (days, minutes) = (seconds / DAY, seconds % DAY / 60);
    let shifted = days + TO_1970;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

/// Seconds since 1970 of a UTCTime (`YYMMDDHHMMSSZ`, for the years 1950 to 2049) or a GeneralizedTime (`YYYYMMDDHHMMSSZ`),
/// as RFC 5280 section 4.1.2.5 has them. Before 1970 it is 0.
pub(super) fn seconds(text: &[u8]) -> Option<u64> {
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let pair = |at: usize| u64::from(digits[at] - b'0') * 10 + u64::from(digits[at + 1] - b'0');
    let (year, at) = match digits.len() {
        12 if pair(0) < 50 => (2000 + pair(0), 2),
        12 => (1900 + pair(0), 2),
        14 => (pair(0) * 100 + pair(2), 4),
        _ => return None,
    };
    let (month, day) = (pair(at), pair(at + 2));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // The inverse of the above; the year of a January belongs to the March before it.
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).saturating_sub(TO_1970);
    Some(days * DAY + pair(at + 4) * 3600 + pair(at + 6) * 60 + pair(at + 8))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar_both_ways() {
        for (secs, shown, encoded) in [
            (0, "1970-01-01 00:00 UTC", "700101000000Z"),
            (951_782_399, "2000-02-28 23:59 UTC", "000228235959Z"),
            (951_782_400, "2000-02-29 00:00 UTC", "20000229000000Z"),
            (951_868_800, "2000-03-01 00:00 UTC", "20000301000000Z"),
            (1_704_067_199, "2023-12-31 23:59 UTC", "231231235959Z"),
            (4_107_542_400, "2100-03-01 00:00 UTC", "21000301000000Z"),
        ] {
            assert_eq!(date(UnixTime::since_unix_epoch(Duration::from_secs(secs))), shown);
            assert_eq!(seconds(encoded.as_bytes()), Some(secs), "{encoded}");
        }
        assert_eq!(seconds(b"500101000000Z"), Some(0), "1950");
        assert!(seconds(b"99991231235959Z").is_some());
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "Z",
            "700101000000",
            "7001010000Z",
            "70010100000aZ",
            "701301000000Z",
            "700100000000Z",
            "00000101000000Z",
        ] {
            assert_eq!(seconds(text.as_bytes()), None, "{text}");
        }
    }
}
