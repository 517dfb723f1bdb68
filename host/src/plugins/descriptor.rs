//! Whether what a plugin says of itself can be used: its names become arguments and URLs, its schemas flags and forms.
//!
//! The error is the rule that was broken, in the words of whoever writes plugins.

use serde_json::{Map, Value};
use tracemq_plugin_api::sdk::{Descriptor, Verb};

/// Ids and schemes that would be taken for something else where a target stands: `env:NAME`, `file:PATH`.
const RESERVED: &[&str] = &["cmd", "env", "file", "help", "tracemq", "vault"];

/// The host's own flags, which stand beside a plugin's in every command.
pub const HOST_FLAGS: &[&str] = &[
    "all",
    "clients",
    "color",
    "count",
    "duration",
    "empty",
    "file",
    "format",
    "guard",
    "header",
    "help",
    "interval",
    "json",
    "lines",
    "messages",
    "no-newline",
    "no-reconnect",
    "no-topic",
    "plugin-dir",
    "quiet",
    "rate",
    "repeat",
    "replies",
    "size",
    "stdin",
    "timeout",
    "verbose",
    "version",
    "warmup",
    "yes",
];

/// The longest id or scheme, and option name.
const LONGEST_NAME: usize = 64;

/// Reads and checks a descriptor.
pub fn parse(text: &str) -> Result<Descriptor, String> {
    let descriptor: Descriptor = serde_json::from_str(text).map_err(|error| error.to_string())?;
    check(&descriptor)?;
    Ok(descriptor)
}

fn check(descriptor: &Descriptor) -> Result<(), String> {
    let id = &descriptor.id;
    if !is_name(id, "-") {
        return Err(format!(
            "the id {id:?} is not made of lower-case letters, digits and hyphens, starting with a letter"
        ));
    }
    if RESERVED.contains(&id.as_str()) {
        return Err(format!("the id {id:?} is reserved"));
    }
    for (what, text) in [("name", &descriptor.name), ("version", &descriptor.version)] {
        if text.trim().is_empty() {
            return Err(format!("the {what} is empty"));
        }
    }
    for (what, text) in
        [("name", &descriptor.name), ("version", &descriptor.version), ("about", &descriptor.about)]
    {
        if text.chars().any(char::is_control) {
            return Err(format!("the text of {what:?} is not one line of printable characters"));
        }
    }
    check_schemes(descriptor)?;
    if descriptor.verbs.is_empty() {
        return Err("it has no verbs".into());
    }
    let schemas = &descriptor.schemas;
    check_schema("connection", &schemas.connection)?;
    for (verb, schema) in [
        (Verb::Publish, &schemas.publish),
        (Verb::Subscribe, &schemas.subscribe),
        (Verb::Request, &schemas.request),
        (Verb::Serve, &schemas.serve),
    ] {
        check_schema(verb.name(), schema)?;
        // A server has no connection of its own; everything else is given together with one.
        if verb != Verb::Serve
            && let Some(twice) =
                names(schema).find(|name| names(&schemas.connection).any(|other| other == *name))
        {
            return Err(format!("the option {twice} is in the connection and in the {} schema", verb.name()));
        }
    }
    Ok(())
}

fn check_schemes(descriptor: &Descriptor) -> Result<(), String> {
    if descriptor.schemes.is_empty() {
        return Err("it has no URL scheme".into());
    }
    for (index, scheme) in descriptor.schemes.iter().enumerate() {
        let name = &scheme.name;
        if !is_name(name, "+-.") {
            return Err(format!(
                "the scheme {name:?} is not made of lower-case letters, digits, +, - and ., starting with a letter"
            ));
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(format!("the scheme {name:?} is reserved"));
        }
        if descriptor.schemes[..index].iter().any(|other| other.name == *name) {
            return Err(format!("the scheme {name:?} is there twice"));
        }
        if scheme.port == Some(0) {
            return Err(format!("the scheme {name:?} has port 0"));
        }
    }
    Ok(())
}

fn is_name(text: &str, more: &str) -> bool {
    text.len() <= LONGEST_NAME
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || more.contains(c))
}

fn names(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys).map(String::as_str)
}

fn check_schema(which: &str, schema: &Value) -> Result<(), String> {
    let flat = schema.get("type").and_then(Value::as_str) == Some("object")
        && !["$ref", "allOf", "anyOf", "oneOf"].iter().any(|key| schema.get(key).is_some())
        && schema.get("additionalProperties").is_none_or(Value::is_boolean);
    if !flat {
        return Err(format!("the {which} schema is not a flat object of options"));
    }
    let none = Map::new();
    let properties = match schema.get("properties") {
        None => &none,
        Some(properties) => properties
            .as_object()
            .ok_or_else(|| format!("the {which} schema's properties are not an object"))?,
    };
    for (name, property) in properties {
        if !is_name(name, "_") {
            return Err(format!(
                "the option {name:?} of the {which} schema is not made of lower-case letters, digits and _, \
                 starting with a letter"
            ));
        }
        let flag = name.replace('_', "-");
        if HOST_FLAGS.contains(&flag.as_str()) {
            return Err(format!("the option {name} of the {which} schema would hide tracemq's own --{flag}"));
        }
        if !is_supported(property) {
            return Err(format!(
                "the option {name} of the {which} schema is neither text, number, boolean, choice, list of these, \
                 nor name-value pairs"
            ));
        }
    }
    Ok(())
}

/// Whether a property is of a kind that a flag, a TOML key and a field of a form can all stand for.
fn is_supported(property: &Value) -> bool {
    let Some(property) = property.as_object() else { return false };
    if let Some(Value::Array(kinds)) = property.get("anyOf").or_else(|| property.get("oneOf")) {
        // An optional value, or a choice whose alternatives each have a text of their own.
        let mut kinds = kinds.iter().filter(|kind| !is_null(kind)).peekable();
        return kinds.peek().is_some() && {
            let kinds: Vec<_> = kinds.collect();
            match kinds.as_slice() {
                [one] => is_supported(one),
                many => many.iter().all(|kind| choices(kind)),
            }
        };
    }
    match type_of(property) {
        Some("string" | "integer" | "number") => !has_values(property) || are_choices(property),
        Some("boolean") => true,
        Some("array") => property.get("items").is_some_and(is_item),
        Some("object") => {
            let values = property.get("additionalProperties").and_then(Value::as_object);
            property.get("properties").is_none() && values.and_then(type_of) == Some("string")
        }
        _ => are_choices(property),
    }
}

fn is_item(items: &Value) -> bool {
    let kind = items.as_object().and_then(type_of);
    matches!(kind, Some("string" | "integer" | "number")) || choices(items)
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

/// The one type of a schema, beside null.
fn type_of(schema: &Map<String, Value>) -> Option<&str> {
    match schema.get("type")? {
        Value::String(name) => Some(name),
        Value::Array(names) => {
            let mut names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            names.next().filter(|_| names.next().is_none())
        }
        _ => None,
    }
}

fn has_values(schema: &Map<String, Value>) -> bool {
    schema.contains_key("enum") || schema.contains_key("const")
}

fn choices(schema: &Value) -> bool {
    schema.as_object().is_some_and(are_choices)
}

/// Whether the schema lists its values, texts or integers.
fn are_choices(schema: &Map<String, Value>) -> bool {
    let simple = |value: &Value| value.is_string() || value.is_i64() || value.is_u64();
    match (schema.get("const"), schema.get("enum").and_then(Value::as_array)) {
        (Some(value), _) => simple(value),
        (None, Some(values)) => {
            values.iter().any(simple) && values.iter().all(|value| simple(value) || value.is_null())
        }
        (None, None) => match schema.get("oneOf").and_then(Value::as_array) {
            Some(kinds) => !kinds.is_empty() && kinds.iter().all(choices),
            None => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use tracemq_plugin_api::schemars::{self, JsonSchema, generate::SchemaSettings};
    use tracemq_plugin_api::sdk::Span;

    fn good() -> Value {
        let none = json!({"type": "object"});
        json!({
            "id": "demo", "name": "Demo", "version": "1.0", "api": "1.0.0",
            "schemes": [{"name": "demo", "port": 1}, {"name": "demo+ws"}],
            "verbs": ["publish", "subscribe"],
            "schemas": {
                "connection": {"type": "object", "properties": {"user": {"type": "string"}}},
                "publish": none, "subscribe": none, "request": none, "serve": none,
            },
        })
    }

    fn refused(pointer: &str, value: Value) -> String {
        let mut text = good();
        *text.pointer_mut(pointer).unwrap() = value;
        parse(&text.to_string()).unwrap_err()
    }

    #[test]
    fn a_good_descriptor_passes_and_fields_of_later_versions_are_ignored() {
        let mut text = good();
        text["later"] = json!({"x": 1});
        assert_eq!(parse(&text.to_string()).unwrap().id, "demo");
    }

    #[test]
    fn each_rule_is_named() {
        assert!(parse("{").unwrap_err().starts_with("EOF"));
        for (pointer, value, want) in [
            ("/id", json!("De mo"), "the id \"De mo\" is not made of"),
            ("/id", json!(""), "the id \"\" is not made of"),
            ("/id", json!("env"), "the id \"env\" is reserved"),
            ("/name", json!(" "), "the name is empty"),
            ("/version", json!("1\n2"), "the text of \"version\" is not one line"),
            ("/schemes", json!([]), "it has no URL scheme"),
            ("/schemes/0/name", json!("a:b"), "the scheme \"a:b\" is not made of"),
            ("/schemes/0/name", json!("file"), "the scheme \"file\" is reserved"),
            ("/schemes/1/name", json!("demo"), "the scheme \"demo\" is there twice"),
            ("/schemes/0/port", json!(0), "the scheme \"demo\" has port 0"),
            ("/schemes/0/port", json!(65_536), "invalid value: integer `65536`, expected u16"),
            ("/verbs", json!([]), "it has no verbs"),
            ("/verbs", json!(["fly"]), "unknown variant `fly`, expected one of `publish`"),
            ("/schemas/serve", json!(null), "the serve schema is not a flat object"),
            (
                "/schemas/serve",
                json!({"type": "object", "oneOf": []}),
                "the serve schema is not a flat object",
            ),
            (
                "/schemas/publish",
                json!({"type": "object", "properties": {"user": {"type": "string"}}}),
                "the option user is in the connection and in the publish schema",
            ),
            (
                "/schemas/publish",
                json!({"type": "object", "properties": {"no_topic": {"type": "boolean"}}}),
                "the option no_topic of the publish schema would hide tracemq's own --no-topic",
            ),
            (
                "/schemas/publish",
                json!({"type": "object", "properties": {"aB": {"type": "boolean"}}}),
                "the option \"aB\" of the publish schema is not made of",
            ),
            (
                "/schemas/publish",
                json!({"type": "object", "properties": {"deep": {"type": "object", "properties": {}}}}),
                "the option deep of the publish schema is neither text",
            ),
        ] {
            let rule = refused(pointer, value);
            assert!(rule.starts_with(want), "{pointer}: {rule}");
            assert!(!rule.contains('\n'), "{rule}");
        }
    }

    #[test]
    fn an_option_of_a_server_may_bear_the_name_of_one_of_a_connection() {
        let mut text = good();
        text["schemas"]["serve"] = text["schemas"]["connection"].clone();
        assert!(parse(&text.to_string()).is_ok());
    }

    /// Every kind as schemars makes it from the types that authors use.
    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Every {
        text: String,
        path: Option<PathBuf>,
        number: Option<u16>,
        ratio: f64,
        flag: bool,
        span: Option<Span>,
        plain: Plain,
        maybe_plain: Option<Plain>,
        told: Told,
        maybe_told: Option<Told>,
        list: Vec<String>,
        maybe_list: Option<Vec<u32>>,
        choices: Vec<Told>,
        pairs: BTreeMap<String, String>,
        maybe_pairs: Option<BTreeMap<String, String>>,
        #[schemars(extend("enum" = [0, 1, 2]))]
        level: Option<u8>,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    enum Plain {
        One,
        Two,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    enum Told {
        /// The first.
        One,
        /// The second.
        Two,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Unsupported {
        nested: Box<Every>,
        anything: Value,
        tuples: Vec<(String, String)>,
        numbers: BTreeMap<String, u32>,
        variants: Variants,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    enum Variants {
        One(String),
        Two { x: u8 },
    }

    fn schema<T: JsonSchema>() -> Value {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        settings.into_generator().into_root_schema_for::<T>().to_value()
    }

    #[test]
    fn every_kind_that_schemars_makes_of_flat_types_is_supported() {
        let every = schema::<Every>();
        for (name, property) in every["properties"].as_object().unwrap() {
            assert!(is_supported(property), "{name}: {property}");
        }
        assert_eq!(check_schema("connection", &every), Ok(()));
    }

    #[test]
    fn what_is_not_flat_is_refused() {
        let unsupported = schema::<Unsupported>();
        for (name, property) in unsupported["properties"].as_object().unwrap() {
            assert!(!is_supported(property), "{name}: {property}");
        }
    }
}
