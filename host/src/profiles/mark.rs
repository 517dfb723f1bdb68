//! How a profile is told from others at a glance: a group it is listed under, and a colour.
//!
//! Colours are those that every terminal has, by the names that terminals have for them.

use std::str::FromStr;

/// Characters of a group's name.
const LONGEST_GROUP: usize = 64;

/// One of the sixteen colours of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Color(usize);

/// In the order of their codes, 30 to 37 and 90 to 97 (ECMA-48, section 8.3.117, and what terminals added).
const COLORS: [&str; 16] = [
    "black",
    "red",
    "green",
    "yellow",
    "blue",
    "magenta",
    "cyan",
    "white",
    "bright-black",
    "bright-red",
    "bright-green",
    "bright-yellow",
    "bright-blue",
    "bright-magenta",
    "bright-cyan",
    "bright-white",
];

impl Color {
    /// All names, in the order of the terminal.
    pub fn names() -> &'static [&'static str] {
        &COLORS
    }

    pub fn name(self) -> &'static str {
        COLORS[self.0]
    }

    /// A text in this colour, for a terminal.
    pub fn paint(self, text: &str) -> String {
        let code = if self.0 < 8 { 30 + self.0 } else { 90 + self.0 - 8 };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

impl FromStr for Color {
    type Err = String;

    fn from_str(text: &str) -> Result<Color, String> {
        match COLORS.iter().position(|name| *name == text) {
            Some(place) => Ok(Color(place)),
            None => {
                Err(format!("color {text:?} is no colour of a terminal: there are {}", COLORS.join(", ")))
            }
        }
    }
}

/// A line of 1 to 64 characters.
pub fn check_group(text: &str) -> Result<(), String> {
    let good =
        !text.trim().is_empty() && text.chars().count() <= LONGEST_GROUP && !text.contains(char::is_control);
    good.then_some(()).ok_or_else(|| format!("a group is a line of 1 to {LONGEST_GROUP} characters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_those_of_a_terminal() {
        let paint = |name: &str| name.parse::<Color>().unwrap().paint("x");
        assert_eq!(paint("red"), "\x1b[31mx\x1b[0m");
        assert_eq!(paint("bright-white"), "\x1b[97mx\x1b[0m");
        assert!("purple".parse::<Color>().unwrap_err().contains("magenta"));
        for name in Color::names() {
            assert_eq!(name.parse::<Color>().unwrap().name(), *name);
        }
    }

    #[test]
    fn a_group_is_one_line() {
        assert!(check_group("plant 2, hall é").is_ok());
        for text in ["", " ", "a\nb", "\u{1b}[2J", &"x".repeat(65)] {
            assert!(check_group(text).is_err(), "{text:?}");
        }
    }
}
