//! Values of options: read from text as it stands on a command line, or checked as they stand in a profile.
//!
//! Errors are the part after the option's name: "7 is not allowed (0, 1 or 2)". The value of a secret is never in them.

use super::schema::{Kind, Spec};
use serde_json::{Map, Number, Value};
use tracemq_plugin_api::sdk::Span;

/// What is shown of a refused value.
const SHOWN: usize = 60;

/// Units of sizes in bytes, as people write them: decimal ones, and binary ones with an `i`.
const SIZES: [(&str, i128); 10] = [
    ("", 1),
    ("b", 1),
    ("k", 1000),
    ("kb", 1000),
    ("kib", 1 << 10),
    ("m", 1_000_000),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("g", 1_000_000_000),
    ("gib", 1 << 30),
];

impl Spec {
    /// Reads what was given, each text being one occurrence of the flag. A flag without a value is "true".
    pub fn read(&self, texts: &[String]) -> Result<Value, String> {
        match &self.kind {
            Kind::List(item) => {
                texts.iter().map(|text| self.one(item, text)).collect::<Result<Vec<_>, _>>().map(Value::Array)
            }
            Kind::Map => {
                let mut map = Map::new();
                for text in texts {
                    let (name, value) = self.pair(text)?;
                    if map.insert(name.clone(), value.into()).is_some() {
                        return Err(format!("{} is given twice", shown(&name)));
                    }
                }
                Ok(Value::Object(map))
            }
            kind => match texts {
                [text] => self.one(kind, text),
                _ => Err("may be given once only".into()),
            },
        }
    }

    /// Checks a value out of a profile, and gives it the form that the plugin expects.
    pub fn check(&self, value: &Value) -> Result<Value, String> {
        match (&self.kind, value) {
            (Kind::List(item), Value::Object(map)) if **item == Kind::Pair => texts_of(map)
                .map(|pairs| pairs.map(|(name, text)| Value::String(format!("{name}={text}"))).collect()),
            (Kind::List(item), Value::Array(values)) => values
                .iter()
                .map(|value| self.check_one(item, value))
                .collect::<Result<Vec<_>, _>>()
                .map(Value::Array),
            (Kind::List(item), one) => Ok(Value::Array(vec![self.check_one(item, one)?])),
            (Kind::Map, Value::Object(map)) => texts_of(map)
                .map(|pairs| Value::Object(pairs.map(|(name, text)| (name.into(), text.into())).collect())),
            (kind, value) => self.check_one(kind, value),
        }
    }

    /// What may be given, for errors and help: "0, 1 or 2".
    pub fn allowed(&self) -> String {
        allowed(&self.kind)
    }

    fn one(&self, kind: &Kind, text: &str) -> Result<Value, String> {
        let refused = || self.refused(kind, text);
        match kind {
            Kind::Text | Kind::Url => Ok(Value::String(text.to_owned())),
            Kind::Integer { min, max } => {
                let number: i128 = text.trim().parse().map_err(|_| refused())?;
                if number < *min || number > *max {
                    return Err(refused());
                }
                integer(number).ok_or_else(refused)
            }
            Kind::Number { min, max } => {
                let number: f64 = text.trim().parse().map_err(|_| refused())?;
                if min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max) {
                    return Err(refused());
                }
                Number::from_f64(number).map(Value::Number).ok_or_else(refused)
            }
            Kind::Boolean => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Ok(true.into()),
                "false" | "no" | "off" | "0" => Ok(false.into()),
                _ => Err(refused()),
            },
            Kind::Choice(choices) => {
                let found = choices.iter().find(|choice| plain(&choice.value) == text);
                found.map(|choice| choice.value.clone()).ok_or_else(refused)
            }
            Kind::Duration => match text.parse::<Span>() {
                Ok(_) => Ok(Value::String(text.trim().to_owned())),
                Err(_) if self.secret => Err(refused()),
                Err(error) => Err(format!("{} is not allowed ({error})", shown(text))),
            },
            Kind::Size { min, max, text: as_text } => {
                let size = size(text).filter(|size| size >= min && size <= max).ok_or_else(refused)?;
                if *as_text {
                    Ok(Value::String(text.trim().to_owned()))
                } else {
                    integer(size).ok_or_else(refused)
                }
            }
            Kind::Pair => self.pair(text).map(|_| Value::String(text.to_owned())),
            Kind::List(_) | Kind::Map => Err(refused()),
        }
    }

    fn check_one(&self, kind: &Kind, value: &Value) -> Result<Value, String> {
        match (kind, value) {
            (Kind::Text | Kind::Url, Value::String(_)) => Ok(value.clone()),
            (Kind::Boolean, Value::Bool(_)) => Ok(value.clone()),
            // 5.0 in a file is meant where the choice is "5.0".
            (Kind::Choice(_), Value::String(_) | Value::Number(_)) => self.one(kind, &plain(value)),
            (Kind::Integer { .. } | Kind::Number { .. } | Kind::Size { .. }, Value::Number(number)) => {
                self.one(kind, &number.to_string())
            }
            (Kind::Duration, Value::Number(number)) => {
                self.one(kind, &number.to_string()).map(|_| Value::Number(number.clone()))
            }
            (
                Kind::Duration | Kind::Size { .. } | Kind::Integer { .. } | Kind::Number { .. } | Kind::Pair,
                Value::String(text),
            ) => self.one(kind, text),
            (Kind::Text | Kind::Url, Value::Number(_) | Value::Bool(_)) => {
                Err("must be a text in quotes".into())
            }
            (kind, other) => Err(self.refused(kind, &plain(other))),
        }
    }

    fn pair(&self, text: &str) -> Result<(String, String), String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(self.refused(&self.kind, text)),
        }
    }

    fn refused(&self, kind: &Kind, text: &str) -> String {
        let text = if self.secret { "the value".into() } else { shown(text) };
        format!("{text} is not allowed ({})", allowed(kind))
    }
}

fn allowed(kind: &Kind) -> String {
    match kind {
        Kind::Text => "a text".into(),
        Kind::Url => "a URL".into(),
        Kind::Integer { min, max } if max - min < 6 => {
            let numbers: Vec<String> = (*min..=*max).map(|number| number.to_string()).collect();
            one_of(&numbers)
        }
        Kind::Integer { min, max } => match (*min, *max) {
            (min, max) if max >= i128::from(i64::MAX) && min <= i128::from(i64::MIN) => {
                "a whole number".into()
            }
            (min, max) if max >= i128::from(i64::MAX) => format!("a whole number from {min} on"),
            (min, max) => format!("a whole number from {min} to {max}"),
        },
        Kind::Number { min: Some(min), max: Some(max) } => format!("a number from {min} to {max}"),
        Kind::Number { min: Some(min), max: None } => format!("a number from {min} on"),
        Kind::Number { min: None, max: Some(max) } => format!("a number up to {max}"),
        Kind::Number { min: None, max: None } => "a number".into(),
        Kind::Boolean => "true or false".into(),
        Kind::Choice(choices) => {
            let names: Vec<String> = choices.iter().map(|choice| plain(&choice.value)).collect();
            one_of(&names)
        }
        Kind::List(item) => format!("a list, each {}", allowed(item)),
        Kind::Pair | Kind::Map => "NAME=VALUE".into(),
        Kind::Duration => "a duration such as 500ms, 5s, 2m, 1h30m, or a number of seconds".into(),
        Kind::Size { min, max, .. } if *max < i128::from(u32::MAX) => {
            format!("a size from {min} to {max} bytes, such as 4096, 64k or 1MiB")
        }
        Kind::Size { .. } => "a size in bytes such as 4096, 64k or 1MiB".into(),
    }
}

/// "a, b or c"
fn one_of(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// A value as it is typed on the command line.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// A user's text in an error: on one line, and not longer than it is useful.
fn shown(text: &str) -> String {
    if text.is_empty() {
        return "an empty value".into();
    }
    let line: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().count() > SHOWN { format!("{line}…") } else { line }
}

fn integer(number: i128) -> Option<Value> {
    i64::try_from(number).map(Value::from).or_else(|_| u64::try_from(number).map(Value::from)).ok()
}

fn size(text: &str) -> Option<i128> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim().to_ascii_lowercase();
    let (_, factor) = SIZES.iter().find(|(name, _)| *name == unit)?;
    number.parse::<i128>().ok()?.checked_mul(*factor)
}

/// The entries of a table of texts.
fn texts_of(map: &Map<String, Value>) -> Result<impl Iterator<Item = (&str, &str)>, String> {
    match map.iter().find(|(_, value)| !value.is_string()) {
        Some((name, _)) => Err(format!("the value of {name} must be a text in quotes")),
        None => Ok(map.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Schema;
    use super::*;
    use serde_json::json;

    fn spec(property: Value) -> Spec {
        Schema::parse(&json!({"properties": {"x": property}})).unwrap().specs.remove(0)
    }

    fn read(property: Value, texts: &[&str]) -> Result<Value, String> {
        spec(property).read(&texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn small_ranges_are_told_number_by_number() {
        let qos = json!({"type": "integer", "format": "uint8", "minimum": 0, "maximum": 2});
        assert_eq!(read(qos.clone(), &["1"]), Ok(json!(1)));
        assert_eq!(read(qos.clone(), &["7"]), Err("7 is not allowed (0, 1 or 2)".into()));
        assert_eq!(read(qos.clone(), &["-1"]), Err("-1 is not allowed (0, 1 or 2)".into()));
        assert_eq!(read(qos.clone(), &[""]), Err("an empty value is not allowed (0, 1 or 2)".into()));
        assert_eq!(read(qos, &["0", "1"]), Err("may be given once only".into()));
    }

    #[test]
    fn numbers_keep_to_their_range() {
        let port = json!({"type": "integer", "format": "uint16", "minimum": 0});
        assert_eq!(
            read(port.clone(), &["65536"]),
            Err("65536 is not allowed (a whole number from 0 to 65535)".into())
        );
        assert!(read(port, &["99999999999999999999999999999999999999999"]).is_err());
        let big = json!({"type": "integer", "format": "uint64", "minimum": 0});
        assert_eq!(read(big, &["18446744073709551615"]), Ok(json!(u64::MAX)));
        for text in ["nan", "inf", "x"] {
            assert!(read(json!({"type": "number"}), &[text]).is_err(), "{text}");
        }
    }

    #[test]
    fn booleans_choices_durations_and_sizes() {
        assert_eq!(read(json!({"type": "boolean"}), &["false"]), Ok(json!(false)));
        assert_eq!(
            read(json!({"type": "boolean"}), &["maybe"]),
            Err("maybe is not allowed (true or false)".into())
        );
        let version = json!({"type": "string", "enum": ["3.1", "3.1.1", "5.0"]});
        assert_eq!(read(version.clone(), &["5.0"]), Ok(json!("5.0")));
        assert_eq!(read(version.clone(), &["4"]), Err("4 is not allowed (3.1, 3.1.1 or 5.0)".into()));
        assert_eq!(spec(version).check(&json!(5.0)), Ok(json!("5.0")));
        let span = json!({"type": "string", "x-type": "duration"});
        assert_eq!(read(span.clone(), &["1h30m"]), Ok(json!("1h30m")));
        assert!(
            read(span.clone(), &["soon"]).unwrap_err().starts_with("soon is not allowed (not a duration")
        );
        assert_eq!(spec(span).check(&json!(30)), Ok(json!(30)));
        let size = json!({"type": "integer", "format": "uint32", "minimum": 0, "x-type": "size"});
        assert_eq!(read(size.clone(), &["64k"]), Ok(json!(64_000)));
        assert_eq!(read(size.clone(), &["1MiB"]), Ok(json!(1_048_576)));
        assert!(read(size.clone(), &["5g"]).is_err() && read(size, &["k"]).is_err());
    }

    #[test]
    fn lists_and_pairs_repeat() {
        assert_eq!(
            read(json!({"type": "array", "items": {"type": "string"}}), &["a", "b"]),
            Ok(json!(["a", "b"]))
        );
        let map = json!({"type": "object", "additionalProperties": {"type": "string"}});
        assert_eq!(read(map.clone(), &["a=1", "b=x=y"]), Ok(json!({"a": "1", "b": "x=y"})));
        assert_eq!(read(map.clone(), &["a=1", "a=2"]), Err("a is given twice".into()));
        assert_eq!(read(map, &["a"]), Err("a is not allowed (NAME=VALUE)".into()));
        let pairs = json!({"type": "array", "items": {"type": "string"}, "x-type": "pair"});
        assert_eq!(read(pairs.clone(), &["a=1", "a=2"]), Ok(json!(["a=1", "a=2"])));
        assert!(read(pairs.clone(), &["a"]).is_err());
        assert_eq!(spec(pairs.clone()).check(&json!({"a": "1"})), Ok(json!(["a=1"])));
        assert_eq!(spec(pairs).check(&json!(["a=1", "a=2"])), Ok(json!(["a=1", "a=2"])));
    }

    #[test]
    fn a_secret_is_in_no_error() {
        let secret = json!({"type": "array", "items": {"type": "integer"}, "x-secret": true});
        assert!(!read(secret, &["hunter2"]).unwrap_err().contains("hunter2"));
        let map = json!({"type": "object", "additionalProperties": {"type": "string"}, "x-secret": true});
        assert!(!read(map, &["hunter2"]).unwrap_err().contains("hunter2"));
    }

    #[test]
    fn hostile_text_stays_on_one_line() {
        let error = read(json!({"type": "boolean"}), &["a\n\u{1b}[31m"]).unwrap_err();
        assert!(!error.contains('\n') && !error.contains('\u{1b}'), "{error}");
        assert!(read(json!({"type": "boolean"}), &[&"x".repeat(1000)]).unwrap_err().len() < 120);
    }
}
