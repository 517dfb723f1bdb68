//! The text form: strict PEM (RFC 7468, figure 3) with one label.

use super::Error;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";
const WIDTH: usize = 64;

/// A binary file as text.
pub fn armored(file: &[u8]) -> String {
    let body = STANDARD.encode(file);
    let mut out = String::with_capacity(body.len() + body.len() / WIDTH + 80);
    out.push_str(BEGIN);
    out.push('\n');
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(WIDTH));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str(END);
    out.push('\n');
    out
}

/// Whether this is meant as the text form.
pub fn is_armored(file: &[u8]) -> bool {
    file.trim_ascii_start().starts_with(b"-----BEGIN AGE")
}

/// The binary file. Only white space may stand before and after, and there is one text for given bytes.
pub fn unarmored(file: &[u8]) -> Result<Vec<u8>, Error> {
    const WRONG: Error = Error::Damaged("its text form");
    let text = std::str::from_utf8(file).map_err(|_| WRONG)?.trim_ascii();
    let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    if lines.next() != Some(BEGIN) {
        return Err(WRONG);
    }
    let mut body = String::with_capacity(text.len());
    let mut full = true;
    for line in lines.by_ref() {
        if line == END {
            if lines.next().is_some() {
                return Err(WRONG);
            }
            return STANDARD.decode(body).map_err(|_| WRONG);
        }
        if !full || line.is_empty() || line.len() > WIDTH {
            return Err(WRONG);
        }
        full = line.len() == WIDTH;
        body.push_str(line);
    }
    Err(WRONG)
}
