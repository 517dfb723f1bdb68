//! The link format of `/.well-known/core` (RFC 6690): read, written and filtered.
//!
//! coap-lite's parser hands out what it does not understand as if it were an attribute and never says where it stopped; a
//! tool that shows what a device announces must rather say that a device announces nonsense. So this one is strict about
//! what separates links, and lenient about what stands in them: attributes without quotes that need some, as many devices
//! send them, are read as they are meant.

use std::fmt;

/// One link: where it leads, and what is said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The URI reference between the angle brackets, as written.
    pub target: String,
    /// Names and values in order. A name may stand there more than once; one without `=` has no value.
    pub attributes: Vec<(String, Option<String>)>,
}

impl Link {
    /// A link without attributes.
    pub fn new(target: impl Into<String>) -> Link {
        Link { target: target.into(), attributes: Vec::new() }
    }

    /// With an attribute that has a value.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Link {
        self.attributes.push((name.to_owned(), Some(value.into())));
        self
    }

    /// With an attribute that has none, such as `obs`.
    #[must_use]
    pub fn with_flag(mut self, name: &str) -> Link {
        self.attributes.push((name.to_owned(), None));
        self
    }

    /// The value of the first attribute of that name. `Some("")` for one without a value.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(known, _)| known == name)?;
        Some(found.1.as_deref().unwrap_or_default())
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.target)?;
        for (name, value) in &self.attributes {
            match value {
                None => write!(f, ";{name}")?,
                // RFC 6690 writes cardinals bare (`sz`, `ct`); all else may be quoted.
                Some(value) if is_cardinal(value) && name != "title" => write!(f, ";{name}={value}")?,
                Some(value) => {
                    write!(f, ";{name}=\"")?;
                    for letter in value.chars() {
                        if matches!(letter, '"' | '\\') {
                            f.write_str("\\")?;
                        }
                        write!(f, "{letter}")?;
                    }
                    f.write_str("\"")?;
                }
            }
        }
        Ok(())
    }
}

fn is_cardinal(text: &str) -> bool {
    text == "0"
        || (!text.starts_with('0') && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The links as one text, separated by commas.
pub fn write<'a>(links: impl IntoIterator<Item = &'a Link>) -> String {
    let mut text = String::new();
    for link in links {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&link.to_string());
    }
    text
}

/// Why a text is not in link format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkError {
    /// In bytes, from 0.
    pub offset: usize,
    pub expected: &'static str,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no link format: at byte {}, {} was expected", self.offset, self.expected)
    }
}

impl std::error::Error for LinkError {}

/// Reads a text in link format. An empty one holds no links.
///
/// # Errors
/// What was expected, and where.
pub fn parse(text: &str) -> Result<Vec<Link>, LinkError> {
    let mut parser = Parser { text, at: 0 };
    let mut links = Vec::new();
    parser.skip_space();
    while !parser.at_end() {
        links.push(parser.link()?);
        parser.skip_space();
        if parser.at_end() {
            break;
        }
        parser.expect(',', "a comma or the end")?;
        parser.skip_space();
    }
    Ok(links)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn at_end(&self) -> bool {
        self.rest().is_empty()
    }

    fn error(&self, expected: &'static str) -> LinkError {
        LinkError { offset: self.at, expected }
    }

    /// RFC 6690 allows none between its parts; devices that write for people put some there.
    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn expect(&mut self, letter: char, expected: &'static str) -> Result<(), LinkError> {
        if !self.rest().starts_with(letter) {
            return Err(self.error(expected));
        }
        self.at += letter.len_utf8();
        Ok(())
    }

    fn until(&mut self, end: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let found = &rest[..rest.find(end).unwrap_or(rest.len())];
        self.at += found.len();
        found
    }

    fn link(&mut self) -> Result<Link, LinkError> {
        self.expect('<', "\"<\"")?;
        let mut link = Link::new(self.until(|letter| letter == '>'));
        self.expect('>', "\">\"")?;
        loop {
            self.skip_space();
            if !self.rest().starts_with(';') {
                return Ok(link);
            }
            self.at += 1;
            self.skip_space();
            let name = self.until(|letter| matches!(letter, '=' | ';' | ',') || letter.is_whitespace());
            if name.is_empty() {
                return Err(self.error("an attribute's name"));
            }
            self.skip_space();
            let value = if self.rest().starts_with('=') {
                self.at += 1;
                self.skip_space();
                Some(self.value()?)
            } else {
                None
            };
            link.attributes.push((name.to_owned(), value));
        }
    }

    fn value(&mut self) -> Result<String, LinkError> {
        if !self.rest().starts_with('"') {
            return Ok(self.until(|letter| matches!(letter, ';' | ',')).trim_end().to_owned());
        }
        self.at += 1;
        let mut value = String::new();
        let mut letters = self.rest().char_indices();
        while let Some((_, letter)) = letters.next() {
            match letter {
                '"' => {
                    self.at = self.text.len() - letters.as_str().len();
                    return Ok(value);
                }
                '\\' => match letters.next() {
                    Some((_, escaped)) => value.push(escaped),
                    None => break,
                },
                letter => value.push(letter),
            }
        }
        self.at = self.text.len();
        Err(self.error("a closing quote"))
    }
}

/// What a query of `/.well-known/core` asks for (RFC 6690 section 4.1): `rt=light`, `href=/sensors*`, `if=*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    name: String,
    /// `None`: having the attribute is enough.
    pattern: Option<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Whole(String),
    Start(String),
}

impl Filter {
    /// Reads one Uri-Query option, percent-decoded as it is there.
    pub fn parse(query: &str) -> Filter {
        let (name, pattern) = match query.split_once('=') {
            None => (query, None),
            Some((name, value)) => {
                let pattern = match value.strip_suffix('*') {
                    Some(start) => Pattern::Start(start.to_owned()),
                    None => Pattern::Whole(value.to_owned()),
                };
                (name, Some(pattern))
            }
        };
        Filter { name: name.to_owned(), pattern }
    }

    /// Whether a link is asked for. Attributes that hold several values (`rt`, `if`, `rel`, `rev`, `ct`) match by any of them.
    pub fn matches(&self, link: &Link) -> bool {
        if self.name == "href" {
            return self.fits(&link.target);
        }
        link.attributes.iter().filter(|(name, _)| *name == self.name).any(|(name, value)| {
            let value = value.as_deref().unwrap_or_default();
            let several = matches!(name.as_str(), "rt" | "if" | "rel" | "rev" | "ct");
            if several { value.split(' ').any(|one| self.fits(one)) } else { self.fits(value) }
        })
    }

    fn fits(&self, value: &str) -> bool {
        match &self.pattern {
            None => true,
            Some(Pattern::Whole(wanted)) => value == wanted,
            Some(Pattern::Start(start)) => value.starts_with(start.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of RFC 6690, section 5.
    const EXAMPLE: &str = "</sensors>;ct=40;title=\"Sensor Index\",</sensors/temp>;rt=\"temperature-c\";if=\"sensor\",\
        </sensors/light>;rt=\"light-lux core.s\";if=\"sensor\";sz=12,<http://www.example.com/sensors/t123>\
        ;anchor=\"/sensors/temp\";rel=\"describedby\",</t>;anchor=\"/sensors/temp\";rel=\"alternate\";obs";

    #[test]
    fn the_example_of_the_rfc_is_read_and_written_unchanged() {
        let links = parse(EXAMPLE).unwrap();
        assert_eq!(links.len(), 5);
        assert_eq!(links[0].attribute("title"), Some("Sensor Index"));
        assert_eq!(links[4].attribute("obs"), Some(""));
        assert_eq!(links[4].attribute("ct"), None);
        assert_eq!(write(&links), EXAMPLE);
    }

    #[test]
    fn filters_of_the_rfc() {
        let links = parse(EXAMPLE).unwrap();
        let found = |query: &str| {
            let filter = Filter::parse(query);
            links
                .iter()
                .filter(|link| filter.matches(link))
                .map(|link| link.target.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(found("rt=light-lux"), ["/sensors/light"]);
        assert_eq!(found("rt=core.s"), ["/sensors/light"]);
        assert_eq!(found("rt=light*"), ["/sensors/light"]);
        assert_eq!(found("rt=*"), ["/sensors/temp", "/sensors/light"]);
        assert_eq!(found("href=/sensors*"), ["/sensors", "/sensors/temp", "/sensors/light"]);
        assert_eq!(found("title=Sensor Index"), ["/sensors"]);
        assert_eq!(found("title=Sensor"), [""; 0]);
        assert_eq!(found("obs"), ["/t"]);
        assert_eq!(found("nothing=here"), [""; 0]);
        assert_eq!(found("href=/t"), ["/t"]);
    }

    #[test]
    fn what_devices_send_beside_the_grammar() {
        let links =
            parse(" </a> ; rt = light ;\n ct=0 40;obs , </b>;title=\"say \\\"hi\\\", \\\\ there\"").unwrap();
        assert_eq!(links[0].attribute("rt"), Some("light"));
        assert_eq!(links[0].attribute("ct"), Some("0 40"));
        assert_eq!(links[1].attribute("title"), Some("say \"hi\", \\ there"));
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("</é>;title=\"ü\"").unwrap()[0].attribute("title"), Some("ü"));
    }

    #[test]
    fn nonsense_is_told_with_its_place() {
        for (text, offset) in [
            ("a", 0),
            ("</a", 3),
            ("</a> x", 5),
            ("</a>;", 5),
            ("</a>;=1", 5),
            ("</a>;t=\"x", 9),
            ("</a>,,", 5),
        ] {
            assert_eq!(parse(text).unwrap_err().offset, offset, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(links in proptest::collection::vec(
            ("[a-z/0-9%.-]{0,8}", proptest::collection::vec(("[a-z]{1,4}", proptest::option::of(".{0,8}")), 0..4)), 0..4
        )) {
            let links: Vec<Link> =
                links.into_iter().map(|(target, attributes)| Link { target, attributes }).collect();
            prop_assert_eq!(parse(&write(&links)).unwrap(), links);
        }

        #[test]
        fn nothing_panics(text in ".{0,40}", query in ".{0,10}") {
            let filter = Filter::parse(&query);
            for link in parse(&text).unwrap_or_default() {
                let _ = filter.matches(&link);
            }
        }
    }
}
