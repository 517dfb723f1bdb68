//! The forms in which a secret may stand in a text, and how they are found.
//!
//! As it is; with any of its letters percent-encoded, once or twice, or escaped as JSON, Rust, Python and C do it, however
//! often; in base64 of both alphabets, alone or amid other bytes (a basic-auth header holds `user:secret`); as hexadecimal
//! digits; and as the list of numbers that Rust prints of bytes. The first kind is one matcher that walks text and secret
//! side by side, since each encoder leaves other letters alone; the others are texts that are made once.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::ops::Range;
use zeroize::Zeroizing;

/// Escapes within escapes double their backslashes: more than three rounds of it are not looked for.
const BACKSLASHES: usize = 8;

/// What to look for.
#[derive(PartialEq, Eq)]
pub struct Form {
    text: Zeroizing<String>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Letters, each in any of its spellings.
    Spelled,
    /// Base64 whose first and last letters depend on what stands beside the secret: the whole run of letters is masked.
    Base64,
    /// Digits in either case.
    Digits,
}

/// All forms of a secret.
pub fn all(secret: &str, out: &mut Vec<Form>) {
    let mut add = |text: String, kind| {
        let form = Form { text: Zeroizing::new(text), kind };
        if !out.contains(&form) {
            out.push(form);
        }
    };
    let bytes = secret.as_bytes();
    add(secret.to_owned(), Kind::Spelled);
    for before in 0..3 {
        for core in base64_cores(bytes, before) {
            add(core, Kind::Base64);
        }
    }
    add(bytes.iter().map(|byte| format!("{byte:02x}")).collect(), Kind::Digits);
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    add(numbers.join(", "), Kind::Digits);
    add(numbers.join(","), Kind::Digits);
}

/// The letters that the secret alone decides when `before` bytes (modulo 3) stand before it.
fn base64_cores(bytes: &[u8], before: usize) -> [String; 2] {
    let mut padded = Zeroizing::new(vec![0; before]);
    padded.extend_from_slice(bytes);
    let (first, last) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
    let cut = |text: String| Zeroizing::new(text)[first..last].to_owned();
    [cut(STANDARD_NO_PAD.encode(&padded[..])), cut(URL_SAFE_NO_PAD.encode(&padded[..]))]
}

impl Form {
    /// Adds the places of this form in a text.
    pub fn find(&self, text: &[u8], places: &mut Vec<Range<usize>>) {
        let mut at = 0;
        while at < text.len() {
            match self.end(text, at) {
                Some(end) => {
                    let place = if self.kind == Kind::Base64 { run(text, at..end) } else { at..end };
                    at = place.end.max(at + 1);
                    places.push(place);
                }
                None => at += 1,
            }
        }
    }

    /// The end of the form if it begins at `at`.
    fn end(&self, text: &[u8], at: usize) -> Option<usize> {
        let mut letters = self.text.chars();
        if self.kind == Kind::Digits {
            let end = at + self.text.len();
            let same = text.get(at..end)?.eq_ignore_ascii_case(self.text.as_bytes());
            // Part of a longer number, of which "12, 34" would be the middle of "112, 345".
            let alone = !self.text.contains(',')
                || !(at > 0 && text[at - 1].is_ascii_digit()
                    || text.get(end).is_some_and(u8::is_ascii_digit));
            return (same && alone).then_some(end);
        }
        let first = letters.next()?;
        let mut ends = Vec::new();
        spellings(text, at, first, &mut ends);
        let mut next = Vec::new();
        for letter in letters {
            if ends.is_empty() {
                return None;
            }
            ends.iter().for_each(|end| spellings(text, *end, letter, &mut next));
            next.sort_unstable();
            next.dedup();
            std::mem::swap(&mut ends, &mut next);
            next.clear();
        }
        ends.into_iter().max()
    }
}

/// The whole run of base64 letters around a place.
fn run(text: &[u8], place: Range<usize>) -> Range<usize> {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(byte);
    let before = text[..place.start].iter().rev().take_while(|byte| letter(byte)).count();
    let after = text[place.end..].iter().take_while(|byte| letter(byte)).count();
    place.start - before..place.end + after
}

/// Where a letter that begins at `at` may end.
fn spellings(text: &[u8], at: usize, letter: char, ends: &mut Vec<usize>) {
    let Some(rest) = text.get(at..) else { return };
    let mut buffer = [0; 4];
    let bytes = letter.encode_utf8(&mut buffer).as_bytes();
    if rest.starts_with(bytes) {
        ends.push(at + bytes.len());
    }
    match rest.first() {
        Some(b'%') => {
            ends.extend(coded(rest, b"%", bytes).map(|length| at + length));
            ends.extend(coded(rest, b"%25", bytes).map(|length| at + length));
        }
        Some(b'+') if letter == ' ' => ends.push(at + 1),
        Some(b'\\') => {
            let slashes = rest.iter().take(BACKSLASHES).take_while(|byte| **byte == b'\\').count();
            for count in 1..=slashes {
                if letter == '\\' {
                    ends.push(at + count);
                }
                ends.extend(escaped(&rest[count..], letter, bytes).map(|length| at + count + length));
                let mark = [&rest[..count], b"x"].concat();
                ends.extend(coded(rest, &mark, bytes).map(|length| at + length));
            }
        }
        _ => {}
    }
}

/// The length of a letter's bytes as two hexadecimal digits each behind a mark.
fn coded(text: &[u8], mark: &[u8], bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    for byte in bytes {
        let rest = text[at..].strip_prefix(mark)?;
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit())
            || u8::from_str_radix(digits, 16).ok()? != *byte
        {
            return None;
        }
        at += mark.len() + 2;
    }
    Some(at)
}

/// The length of what follows a backslash.
fn escaped(text: &[u8], letter: char, bytes: &[u8]) -> Option<usize> {
    let mark = *text.first()?;
    let simple = match letter {
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        '\0' => b'0',
        '\u{8}' => b'b',
        '\u{c}' => b'f',
        // `\"`, `\'`, `\/`, and what shells write.
        _ if letter.is_ascii() && !letter.is_ascii_alphanumeric() => bytes[0],
        _ => 0,
    };
    if simple != 0 && mark == simple {
        return Some(1);
    }
    match mark {
        b'x' => (hexadecimal(text.get(1..3)?)? == letter as u32).then_some(3),
        b'u' if text.get(1) == Some(&b'{') => {
            let end = text.iter().take(12).position(|byte| *byte == b'}')?;
            (hexadecimal(&text[2..end])? == letter as u32).then_some(end + 1)
        }
        b'u' => {
            let mut units = [0; 2];
            let mut at = 0;
            for (index, unit) in letter.encode_utf16(&mut units).iter().enumerate() {
                // The second half of a pair has its own backslashes.
                let mut rest = &text[at..];
                if index > 0 {
                    let slashes = rest.iter().take_while(|byte| **byte == b'\\').count();
                    (slashes > 0).then_some(())?;
                    rest = &rest[slashes..];
                    at += slashes;
                }
                let digits = rest.strip_prefix(b"u")?.get(..4)?;
                (hexadecimal(digits)? == u32::from(*unit)).then_some(())?;
                at += 5;
            }
            Some(at)
        }
        _ => None,
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(digits).ok()?;
    if text.is_empty() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(text, 16).ok()
}
