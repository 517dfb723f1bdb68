//! Text from the network, made harmless for a terminal.
//!
//! A payload or a topic may hold sequences that move the cursor, rename the window or paint over a line. Control characters
//! are shown as `\x1b`; line feeds and tabs only move on, and may stay where a payload is shown.

use std::fmt::Write;

/// Whether a character would act on a terminal instead of being shown.
fn acts(character: char) -> bool {
    // C0, DEL and C1, and the marks that reverse the direction of what follows.
    character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn push_escaped(character: char, out: &mut String) {
    match character {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        // Writing to a `String` can't fail.
        c if (c as u32) < 0x100 => drop(write!(out, "\\x{:02x}", c as u32)),
        c => drop(write!(out, "\\u{{{:x}}}", c as u32)),
    }
}

/// The text on one line.
pub fn line(text: &str) -> std::borrow::Cow<'_, str> {
    if !text.contains(acts) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if acts(character) { push_escaped(character, &mut out) } else { out.push(character) }
    }
    out.into()
}

/// The text with its line feeds and tabs, but nothing else that acts.
pub fn block_into(text: &str, out: &mut Vec<u8>) {
    let stays = |character: char| matches!(character, '\n' | '\t') || !acts(character);
    let mut escaped = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|character| !stays(character)) {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let character = rest[at..].chars().next().expect("a character was found there");
        escaped.clear();
        push_escaped(character, &mut escaped);
        out.extend_from_slice(escaped.as_bytes());
        rest = &rest[at + character.len_utf8()..];
    }
    out.extend_from_slice(rest.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_shown_instead() {
        assert_eq!(line("plain é ✓"), "plain é ✓");
        assert_eq!(line("a\nb\r\tc"), "a\\nb\\r\\tc");
        assert_eq!(line("\x1b]0;title\x07 \u{9b}2J \x7f"), "\\x1b]0;title\\x07 \\x9b2J \\x7f");
        assert_eq!(line("\u{202e}gpj.exe"), "\\u{202e}gpj.exe");
    }

    #[test]
    fn a_block_keeps_its_lines() {
        let mut out = Vec::new();
        block_into("{\n\t\"a\": 1\r\n}\x1b[2J", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "{\n\t\"a\": 1\\r\n}\\x1b[2J");
    }
}
