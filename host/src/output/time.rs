//! RFC 3339 from nanoseconds since 1970, in UTC with microseconds.
//!
//! Written by hand because it is on the path of every message: digits straight into the buffer, no calendar object.

/// Appends `2026-11-21T10:00:00.123456Z`. Every `i64` of nanoseconds has a year of four digits (1677 to 2262).
pub fn write_time(nanos: i64, out: &mut Vec<u8>) {
    let micros = nanos.div_euclid(1000);
    let seconds = micros.div_euclid(1_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400) as u32);
    let (year, month, day) = civil(days);

    let mut text = *b"0000-00-00T00:00:00.000000Z";
    put(&mut text[0..4], year);
    put(&mut text[5..7], month);
    put(&mut text[8..10], day);
    put(&mut text[11..13], second / 3600);
    put(&mut text[14..16], second / 60 % 60);
    put(&mut text[17..19], second % 60);
    put(&mut text[20..26], micros.rem_euclid(1_000_000) as u32);
    out.extend_from_slice(&text);
}

fn put(digits: &mut [u8], mut number: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Year, month and day of a number of days since 1970-01-01. The year is counted from 1 March, so that the leap day is its
/// last, in eras of 400 years.
fn civil(days: i64) -> (u32, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as u32, month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::write_time;

    fn text(nanos: i64) -> String {
        let mut out = Vec::new();
        write_time(nanos, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_moments() {
        for (nanos, want) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1_582_934_400_000_000_000, "2020-02-29T00:00:00.000000Z"),
            (1_795_255_200_123_456_789, "2026-11-21T10:00:00.123456Z"),
            (4_107_542_399_999_999_999, "2100-02-28T23:59:59.999999Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775Z"),
        ] {
            assert_eq!(text(nanos), want, "{nanos}");
        }
    }

    /// Against a calendar that was written by others.
    #[test]
    fn agrees_with_jiff_over_the_whole_range() {
        let step = (i64::MAX / 5000) | 1;
        for number in -4999..5000_i64 {
            let nanos = number * step;
            let theirs = jiff::Timestamp::from_nanosecond(i128::from(nanos.div_euclid(1000)) * 1000).unwrap();
            assert_eq!(text(nanos), format!("{theirs:.6}"), "{nanos}");
        }
    }
}
