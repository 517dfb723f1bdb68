//! The model of a schema: what every option is called, what it takes, and how it is explained.
//!
//! Understood is what `schemars` makes of a flat struct: texts, numbers, booleans, choices, lists of these, name-value
//! pairs (an object of texts, or a list of texts `NAME=VALUE`, where names may repeat), each of them optional or not.

use serde_json::{Map, Value};

/// The options of a connection or of a verb.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    pub specs: Vec<Spec>,
    /// Options of earlier versions that are gone, with what to do instead.
    pub removed: Vec<(String, String)>,
}

/// One option.
#[derive(Clone, Debug)]
pub struct Spec {
    /// In snake_case, as it stands in files and goes to the plugin.
    pub name: String,
    pub kind: Kind,
    pub required: bool,
    /// What the plugin takes when nothing is said. Not sent: the plugin applies it.
    pub default: Option<Value>,
    pub secret: bool,
    pub file: Option<FileUse>,
    pub group: Option<String>,
    pub order: i64,
    pub title: String,
    pub help: String,
    /// Environment variables that may hold the value, the first that is set wins.
    pub env: Vec<String>,
    /// What earlier versions called it: files that were written then still hold these names.
    pub renamed_from: Vec<String>,
    /// Gives up what protects the connection: refused where a profile is guarded.
    pub insecure: bool,
    /// Asked for when a connection is put together by questions.
    pub ask: bool,
}

/// What an option takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Text,
    /// A text that is a URL: of a secret one, only user and password are secret.
    Url,
    Integer {
        min: i128,
        max: i128,
    },
    Number {
        min: Option<f64>,
        max: Option<f64>,
    },
    Boolean,
    Choice(Vec<Choice>),
    List(Box<Kind>),
    /// A text `NAME=VALUE`; in a list the same name may stand twice.
    Pair,
    /// Names with texts: a JSON object.
    Map,
    Duration,
    /// A number of bytes. `text`: the plugin reads the units itself.
    Size {
        min: i128,
        max: i128,
        text: bool,
    },
}

/// One of the values of a choice.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    pub value: Value,
    pub help: String,
}

/// What the plugin does with the file that an option names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileUse {
    Read,
    Write,
}

impl Schema {
    /// Reads a JSON Schema. The error names the property and what about it can't be an option.
    pub fn parse(schema: &Value) -> Result<Schema, String> {
        let object = match schema {
            Value::Null => return Ok(Schema::default()),
            Value::Object(object) => object,
            _ => return Err("the schema is not an object".into()),
        };
        let required: Vec<&str> = object
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut specs = Vec::new();
        match object.get("properties") {
            None => {}
            Some(Value::Object(properties)) => {
                for (name, property) in properties {
                    let spec = Spec::parse(name, property, required.contains(&name.as_str()))
                        .map_err(|why| format!("property {name}: {why}"))?;
                    specs.push(spec);
                }
            }
            Some(_) => return Err("its properties are not an object".into()),
        }
        specs.sort_by_key(|spec| spec.order);
        let schema = Schema { specs, removed: removed(object)? };
        schema.check_old_names()?;
        Ok(schema)
    }

    pub fn get(&self, name: &str) -> Option<&Spec> {
        self.specs.iter().find(|spec| spec.name == name)
    }

    /// The option that an earlier version called so.
    pub fn renamed(&self, old: &str) -> Option<&Spec> {
        self.specs.iter().find(|spec| spec.renamed_from.iter().any(|name| name == old))
    }

    /// What to do instead of an option that is gone.
    pub fn gone(&self, old: &str) -> Option<&str> {
        self.removed.iter().find(|(name, _)| name == old).map(|(_, hint)| hint.as_str())
    }

    /// A name of an earlier version must mean one thing, and nothing of today's.
    fn check_old_names(&self) -> Result<(), String> {
        let renamed =
            self.specs.iter().flat_map(|spec| spec.renamed_from.iter().map(|old| (&spec.name, old)));
        let mut seen: Vec<&str> = Vec::new();
        for (at, old) in renamed.chain(self.removed.iter().map(|(name, _)| (name, name))) {
            let keyword = if at == old { "x-removed" } else { "x-renamed-from" };
            check_name(old).map_err(|why| format!("property {at}: {keyword}: {old:?}: {why}"))?;
            if self.get(old).is_some() {
                return Err(format!("property {at}: {keyword}: {old} is the name of an option"));
            }
            if seen.contains(&old.as_str()) {
                return Err(format!("property {at}: {keyword}: {old} is told of twice"));
            }
            seen.push(old);
        }
        Ok(())
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(fits) {
        true => Ok(()),
        false => Err("a name is made of small letters, digits and _, a letter first".into()),
    }
}

/// `x-removed`: an object of the names that are gone, with a text each.
fn removed(schema: &Map<String, Value>) -> Result<Vec<(String, String)>, String> {
    let wrong = || "x-removed is not an object of names with texts".to_owned();
    let Some(removed) = schema.get("x-removed") else { return Ok(Vec::new()) };
    let removed = removed.as_object().ok_or_else(wrong)?;
    removed
        .iter()
        .map(|(name, hint)| Ok((name.clone(), hint.as_str().ok_or_else(wrong)?.to_owned())))
        .collect()
}

/// A keyword that holds a list of texts.
fn texts(property: &Map<String, Value>, key: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("{key} is not a list of texts");
    let Some(list) = property.get(key) else { return Ok(Vec::new()) };
    let list = list.as_array().ok_or_else(wrong)?;
    list.iter().map(|text| text.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
}

impl Spec {
    fn parse(name: &str, property: &Value, required: bool) -> Result<Spec, String> {
        check_name(name)?;
        let property = property.as_object().ok_or("not an object")?;
        let text = |key: &str| property.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let file = match property.get("x-file").and_then(Value::as_str) {
            None => None,
            Some("read") => Some(FileUse::Read),
            Some("write") => Some(FileUse::Write),
            Some(other) => return Err(format!("x-file is \"{other}\", not \"read\" or \"write\"")),
        };
        let env = property.get("x-env").and_then(Value::as_array).into_iter().flatten();
        Ok(Spec {
            name: name.to_owned(),
            kind: kind(property)?,
            required,
            default: property.get("default").filter(|value| !value.is_null()).cloned(),
            secret: property.get("x-secret").and_then(Value::as_bool).unwrap_or(false),
            file,
            group: Some(text("x-group")).filter(|group| !group.is_empty()),
            order: property.get("x-order").and_then(Value::as_i64).unwrap_or(0),
            title: text("title"),
            help: text("description"),
            env: env.filter_map(Value::as_str).map(str::to_owned).collect(),
            renamed_from: texts(property, "x-renamed-from")?,
            insecure: property.get("x-insecure").and_then(Value::as_bool).unwrap_or(false),
            ask: property.get("x-ask").and_then(Value::as_bool).unwrap_or(false),
        })
    }

    /// The name on the command line, without its hyphens.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Whether it takes URLs, of which only parts are secret.
    pub fn is_url(&self) -> bool {
        match &self.kind {
            Kind::List(item) => **item == Kind::Url,
            kind => *kind == Kind::Url,
        }
    }

    /// Whether a text of it may be `NAME=VALUE`.
    pub fn has_pairs(&self) -> bool {
        !self.is_url() && (self.repeats() || self.kind == Kind::Pair)
    }

    /// Whether several values are collected.
    pub fn repeats(&self) -> bool {
        matches!(self.kind, Kind::List(_) | Kind::Map)
    }
}

fn kind(property: &Map<String, Value>) -> Result<Kind, String> {
    // Option<T> of an enum: {"anyOf": [T, {"type": "null"}]}.
    for key in ["anyOf", "oneOf"] {
        if let Some(Value::Array(alternatives)) = property.get(key) {
            let real: Vec<&Map<String, Value>> =
                alternatives.iter().filter_map(Value::as_object).filter(|of| !is_null(of)).collect();
            if let [only] = real[..] {
                return kind(only);
            }
            return choices(&real).ok_or_else(|| "its alternatives are not plain values".into());
        }
    }
    if property.contains_key("enum") || property.contains_key("const") {
        return choices(&[property]).ok_or_else(|| "its choices are not plain values".into());
    }
    let special = property.get("x-type").and_then(Value::as_str).unwrap_or_default();
    let name = match property.get("type") {
        Some(Value::String(name)) => name.as_str(),
        Some(Value::Array(names)) => {
            let mut real = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            let first = real.next().ok_or("it has no type")?;
            // A duration or size may be a number as well as a text.
            if real.next().is_some() && special.is_empty() {
                return Err("it has more than one type".into());
            }
            first
        }
        _ => return Err("it has no type".into()),
    };
    match (name, special) {
        ("string" | "number" | "integer", "duration") => Ok(Kind::Duration),
        ("string" | "integer", "size") => {
            let (min, max) = range(property);
            Ok(Kind::Size { min: min.max(0), max, text: name == "string" })
        }
        ("string", "url") => Ok(Kind::Url),
        ("string", "pair") => Ok(Kind::Pair),
        ("string", _) => Ok(Kind::Text),
        ("boolean", _) => Ok(Kind::Boolean),
        ("integer", _) => {
            let (min, max) = range(property);
            Ok(Kind::Integer { min, max })
        }
        ("number", _) => {
            let limit = |key: &str| property.get(key).and_then(Value::as_f64);
            Ok(Kind::Number { min: limit("minimum"), max: limit("maximum") })
        }
        ("array", _) => match property.get("items") {
            Some(Value::Object(items)) => match kind(items)? {
                Kind::List(_) | Kind::Map => Err("a list of lists".into()),
                Kind::Text if special == "pair" => Ok(Kind::List(Box::new(Kind::Pair))),
                Kind::Text if special == "url" => Ok(Kind::List(Box::new(Kind::Url))),
                item => Ok(Kind::List(Box::new(item))),
            },
            _ => Err("a list of anything".into()),
        },
        ("object", _) => match property.get("additionalProperties") {
            Some(Value::Object(of)) if kind(of) == Ok(Kind::Text) => Ok(Kind::Map),
            _ => Err("options are flat: an object may only hold names with texts".into()),
        },
        (other, _) => Err(format!("its type is \"{other}\"")),
    }
}

fn is_null(schema: &Map<String, Value>) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

/// The values of enums and constants, in their order.
fn choices(alternatives: &[&Map<String, Value>]) -> Option<Kind> {
    let mut choices = Vec::new();
    for of in alternatives {
        let help = of.get("description").and_then(Value::as_str).unwrap_or_default();
        // The description of a lone enum is the option's own, not one choice's.
        let help = if alternatives.len() == 1 { "" } else { help };
        let values = match (of.get("const"), of.get("enum")) {
            (Some(value), _) => vec![value],
            (None, Some(Value::Array(values))) => values.iter().collect(),
            _ => return None,
        };
        for value in values {
            match value {
                Value::Null => {}
                Value::Array(_) | Value::Object(_) => return None,
                plain => choices.push(Choice { value: plain.clone(), help: help.to_owned() }),
            }
        }
    }
    (!choices.is_empty()).then_some(Kind::Choice(choices))
}

/// The range of an integer, by its limits or by the width of its type.
fn range(property: &Map<String, Value>) -> (i128, i128) {
    let (min, max) = match property.get("format").and_then(Value::as_str).unwrap_or_default() {
        "int8" => (i128::from(i8::MIN), i128::from(i8::MAX)),
        "int16" => (i128::from(i16::MIN), i128::from(i16::MAX)),
        "int32" => (i128::from(i32::MIN), i128::from(i32::MAX)),
        "uint8" => (0, i128::from(u8::MAX)),
        "uint16" => (0, i128::from(u16::MAX)),
        "uint32" => (0, i128::from(u32::MAX)),
        "uint64" | "uint" => (0, i128::from(u64::MAX)),
        "int64" | "int" => (i128::from(i64::MIN), i128::from(i64::MAX)),
        // What a JSON number can hold.
        _ => (i128::from(i64::MIN), i128::from(u64::MAX)),
    };
    let limit = |key: &str| match property.get(key)? {
        Value::Number(number) => number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from))
            .or_else(|| number.as_f64().map(|number| number as i128)),
        _ => None,
    };
    let (lowest, highest) = (limit("minimum"), limit("maximum"));
    (lowest.map_or(min, |limit| limit.max(min)), highest.map_or(max, |limit| limit.min(max)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kind_of(property: Value) -> Result<Kind, String> {
        let schema = Schema::parse(&json!({"type": "object", "properties": {"x": property}}))?;
        Ok(schema.specs[0].kind.clone())
    }

    #[test]
    fn numbers_get_the_range_of_their_type() {
        assert_eq!(
            kind_of(json!({"type": ["integer", "null"], "format": "uint16", "minimum": 1})),
            Ok(Kind::Integer { min: 1, max: 65535 })
        );
        assert_eq!(
            kind_of(json!({"type": "integer", "format": "uint8", "minimum": 0, "maximum": 2})),
            Ok(Kind::Integer { min: 0, max: 2 })
        );
    }

    #[test]
    fn choices_come_from_every_form_that_schemars_writes() {
        let names = |property| match kind_of(property) {
            Ok(Kind::Choice(of)) => {
                of.iter().map(|choice| choice.value.as_str().unwrap().to_owned()).collect()
            }
            other => vec![format!("{other:?}")],
        };
        assert_eq!(names(json!({"type": "string", "enum": ["3.1", "5.0"]})), ["3.1", "5.0"]);
        assert_eq!(names(json!({"type": ["string", "null"], "enum": ["3.1", "5.0", null]})), ["3.1", "5.0"]);
        let documented = json!({"oneOf": [
            {"type": "string", "enum": ["two"]},
            {"type": "string", "const": "one", "description": "the first"}]});
        assert_eq!(names(documented.clone()), ["two", "one"]);
        assert_eq!(
            names(json!({"anyOf": [documented, {"type": "null"}], "description": "d"})),
            ["two", "one"]
        );
    }

    #[test]
    fn lists_and_pairs() {
        assert_eq!(
            kind_of(json!({"type": ["array", "null"], "items": {"type": "string"}})),
            Ok(Kind::List(Box::new(Kind::Text)))
        );
        assert_eq!(
            kind_of(json!({"type": "object", "additionalProperties": {"type": "string"}})),
            Ok(Kind::Map)
        );
        assert_eq!(
            kind_of(json!({"type": "array", "items": {"type": "string"}, "x-type": "pair"})),
            Ok(Kind::List(Box::new(Kind::Pair)))
        );
    }

    #[test]
    fn what_cannot_be_a_flag_is_refused_by_name() {
        for (property, why) in [
            (json!({"type": "object", "properties": {}}), "flat"),
            (
                json!({"type": "array", "items": {"type": "array", "items": {"type": "string"}}}),
                "list of lists",
            ),
            (json!({"type": ["string", "integer"]}), "more than one type"),
            (json!({"type": "string", "x-file": "execute"}), "x-file"),
            (json!(true), "not an object"),
            (json!({}), "no type"),
        ] {
            let error = kind_of(property).unwrap_err();
            assert!(error.starts_with("property x: ") && error.contains(why), "{error}");
        }
        assert!(Schema::parse(&json!({"properties": {"client-id": {"type": "string"}}})).is_err());
    }

    #[test]
    fn names_of_earlier_versions_mean_one_thing() {
        let schema = |properties: Value, removed: Value| {
            Schema::parse(&json!({"properties": properties, "x-removed": removed}))
        };
        let text = |old: Value| json!({"type": "string", "x-renamed-from": old});
        let good = schema(json!({"new": text(json!(["old", "older"]))}), json!({"away": "use new"})).unwrap();
        assert_eq!(good.renamed("older").unwrap().name, "new");
        assert_eq!((good.gone("away"), good.gone("old")), (Some("use new"), None));
        for (properties, removed, why) in [
            (json!({"a": text(json!("old"))}), json!({}), "property a: x-renamed-from is not a list"),
            (json!({"a": text(json!(["No"]))}), json!({}), "property a: x-renamed-from: \"No\": a name is"),
            (json!({"a": text(json!(["b"])), "b": text(json!([]))}), json!({}), "b is the name of an option"),
            (json!({"a": text(json!(["x"])), "b": text(json!(["x"]))}), json!({}), "x is told of twice"),
            (json!({"a": text(json!(["x"]))}), json!({"x": "gone"}), "x is told of twice"),
            (json!({"a": text(json!([]))}), json!({"a": "gone"}), "a is the name of an option"),
            (json!({}), json!(["a"]), "x-removed is not an object"),
            (json!({}), json!({"a": 1}), "x-removed is not an object"),
        ] {
            let error = schema(properties, removed).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn options_are_sorted_by_their_order() {
        let schema = Schema::parse(&json!({"properties": {
            "late": {"type": "string", "x-order": 500}, "early": {"type": "string", "x-order": 1, "x-env": ["A", "B"]}}}))
        .unwrap();
        assert_eq!(schema.specs[0].name, "early");
        assert_eq!(schema.specs[0].env, ["A", "B"]);
    }
}
