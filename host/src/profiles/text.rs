//! Changes of a profile's text that leave all else as it stands: comments, order, keys that this version does not know.
//!
//! A change is made where the parser says that the key or the value stands, and both texts are read and compared. Where it
//! can't be made in place (a table that is written in an unusual way), the whole is written anew: the comments are lost
//! then, and nothing else.

use std::ops::Range;
use toml::de::DeTable;
use toml::{Spanned, Table, Value};

/// Sets a text of the top level, or takes it out. The error is the parser's: the text is no TOML.
pub fn set(text: &str, key: &str, value: Option<&str>) -> Result<String, String> {
    let mut wanted = parse(text)?;
    match value {
        Some(value) => drop(wanted.insert(key.into(), Value::String(value.into()))),
        None => drop(wanted.remove(key)),
    }
    Ok(in_place(text, key, value).filter(|new| reads_as(new, &wanted)).unwrap_or_else(|| wanted.to_string()))
}

/// Gives a key of a table another name. Where the new name is taken, the key goes.
pub fn rename(text: &str, table: &str, from: &str, to: &str) -> Result<String, String> {
    let mut wanted = parse(text)?;
    let Some(Value::Table(entries)) = wanted.get_mut(table) else { return Ok(text.to_owned()) };
    let Some(value) = entries.remove(from) else { return Ok(text.to_owned()) };
    let taken = entries.contains_key(to);
    if !taken {
        entries.insert(to.into(), value);
    }
    let changed = entry(text, table, from).map(|(key, value)| match taken {
        true => without_lines(text, &key, &value),
        false => replaced(text, key, to),
    });
    Ok(changed.filter(|new| reads_as(new, &wanted)).unwrap_or_else(|| wanted.to_string()))
}

fn parse(text: &str) -> Result<Table, String> {
    text.parse().map_err(|error: toml::de::Error| error.message().to_owned())
}

fn reads_as(text: &str, wanted: &Table) -> bool {
    parse(text).is_ok_and(|table| table == *wanted)
}

fn in_place(text: &str, key: &str, value: Option<&str>) -> Option<String> {
    let parsed = DeTable::parse(text).ok()?;
    let known = find(parsed.get_ref(), key);
    let literal = |value: &str| Value::String(value.into()).to_string();
    match (known, value) {
        (Some((_, at)), Some(value)) => Some(replaced(text, at, &literal(value))),
        (Some((at, value)), None) => Some(without_lines(text, &at, &value)),
        (None, None) => Some(text.to_owned()),
        (None, Some(value)) => {
            // After the last key that stands before any table.
            let plain = parsed.get_ref().iter().filter(|(_, value)| !value.get_ref().is_table());
            let end = plain.map(|(_, value)| value.span().end).max();
            let at = end.map_or(0, |end| line_end(text, end));
            let gap = if at > 0 && !text[..at].ends_with('\n') { "\n" } else { "" };
            Some(replaced(text, at..at, &format!("{gap}{key} = {}\n", literal(value))))
        }
    }
}

/// Where an entry of a table stands: its key and its value.
fn entry(text: &str, table: &str, key: &str) -> Option<(Range<usize>, Range<usize>)> {
    let parsed = DeTable::parse(text).ok()?;
    let (_, entries) = parsed.get_ref().iter().find(|(name, _)| name.get_ref() == table)?;
    find(entries.get_ref().as_table()?, key)
}

fn find(table: &DeTable<'_>, key: &str) -> Option<(Range<usize>, Range<usize>)> {
    let (name, value) = table.iter().find(|(name, _)| name.get_ref() == key)?;
    Some((Spanned::span(name), value.span()))
}

fn replaced(text: &str, at: Range<usize>, new: &str) -> String {
    let mut changed = text.to_owned();
    changed.replace_range(at, new);
    changed
}

/// Without the lines from the key to the end of its value.
fn without_lines(text: &str, key: &Range<usize>, value: &Range<usize>) -> String {
    let start = text[..key.start].rfind('\n').map_or(0, |at| at + 1);
    replaced(text, start..line_end(text, value.end), "")
}

/// The beginning of the line after this place.
fn line_end(text: &str, from: usize) -> usize {
    text[from..].find('\n').map_or(text.len(), |at| from + at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# mine\nurl = \"x://h\" # there\n\n# why\n[connection] # c\nold = 1 # one\nlater = \"?\"\n";

    #[test]
    fn what_is_set_stands_before_the_tables_and_all_else_stays() {
        let set_once = set(TEXT, "group", Some("a\"b")).unwrap();
        let expected = TEXT.replace("# there\n", "# there\ngroup = 'a\"b'\n");
        assert_eq!(set_once, expected);
        assert_eq!(set(&set_once, "group", Some("c")).unwrap(), expected.replace("'a\"b'", "\"c\""));
        assert_eq!(set(&set_once, "group", None).unwrap(), TEXT);
        assert_eq!(set(TEXT, "group", None).unwrap(), TEXT);
        assert_eq!(
            set("[serve]\nbind = 1", "protocol", Some("x")).unwrap(),
            "protocol = \"x\"\n[serve]\nbind = 1"
        );
        assert_eq!(set("a = 1", "b", Some("x")).unwrap(), "a = 1\nb = \"x\"\n");
        assert!(set("a = ", "b", None).is_err());
    }

    #[test]
    fn a_key_gets_its_new_name_in_its_place() {
        assert_eq!(rename(TEXT, "connection", "old", "new").unwrap(), TEXT.replace("old", "new"));
        assert_eq!(rename(TEXT, "connection", "old", "later").unwrap(), TEXT.replace("old = 1 # one\n", ""));
        assert_eq!(rename(TEXT, "connection", "none", "new").unwrap(), TEXT);
        assert_eq!(rename(TEXT, "publish", "old", "new").unwrap(), TEXT);
    }

    #[test]
    fn however_a_table_is_written_nothing_of_it_is_lost() {
        for text in [
            "connection.old = 1\nconnection.b = 2\nurl = \"x\"\n",
            "connection = { old = 1, b = 2 }\nurl = \"x\"\n",
            "url = \"x\"\n[connection]\n\"old\" = 1\nb = \"\"\"\n2\n[x]\n\"\"\"\n",
            "url = 'x'\n[connection]\nold = [\n 1, # one\n 2,\n]\nb = 3\n",
        ] {
            let renamed = parse(&rename(text, "connection", "old", "new").unwrap()).unwrap();
            let (before, after) = (parse(text).unwrap(), &renamed["connection"]);
            assert_eq!(after["new"], before["connection"]["old"], "{text}");
            assert_eq!(after["b"], before["connection"]["b"], "{text}");
            let dropped = parse(&rename(text, "connection", "old", "b").unwrap()).unwrap();
            assert_eq!(dropped["connection"].as_table().unwrap().len(), 1, "{text}");
            assert_eq!(dropped["url"], before["url"], "{text}");
            let grouped = parse(&set(text, "group", Some("g")).unwrap()).unwrap();
            assert_eq!((&grouped["group"], &grouped["connection"]), (&"g".into(), &before["connection"]));
        }
    }
}
