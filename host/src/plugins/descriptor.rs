//! Whether what a plugin says of itself can be used: its names become arguments and URLs, its schemas flags and forms.
//!
//! The error is the rule that was broken, in the words of whoever writes plugins.

use crate::options::Schema;
use serde_json::Value;
use tracemq_plugin_api::sdk::{Descriptor, Verb};

/// Ids and schemes that would be taken for something else where a target stands: `env:NAME`, `file:PATH`.
const RESERVED: &[&str] = &["cmd", "env", "file", "help", "tracemq", "vault"];

/// What `profile import --from` takes without any plugin.
const OWN_FORMATS: &[&str] = &["tracemq", "url"];

/// The host's own flags, which stand beside a plugin's. Those of `bench` alone are not among them: in `bench` they hide a
/// plugin's option of the same name, everywhere else it works.
pub const HOST_FLAGS: &[&str] = &[
    "count",
    "empty",
    "file",
    "format",
    "guard",
    "header",
    "help",
    "interval",
    "json",
    "lines",
    "no-newline",
    "no-reconnect",
    "no-topic",
    "plugin-dir",
    "quiet",
    "repeat",
    "replies",
    "stdin",
    "verbose",
    "version",
    "wait",
];

/// The longest id or scheme.
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
    check_imports(descriptor)?;
    if descriptor.verbs.is_empty() {
        return Err("it has no verbs".into());
    }
    let schemas = &descriptor.schemas;
    let connection = check_schema("connection", &schemas.connection)?;
    for (verb, schema) in [
        (Verb::Publish, &schemas.publish),
        (Verb::Subscribe, &schemas.subscribe),
        (Verb::Request, &schemas.request),
        (Verb::Serve, &schemas.serve),
    ] {
        let schema = check_schema(verb.name(), schema)?;
        let twice = schema.specs.iter().find(|option| connection.get(&option.name).is_some());
        // A server has no connection of its own; everything else is given together with one.
        if let Some(twice) = twice.filter(|_| verb != Verb::Serve) {
            let name = &twice.name;
            return Err(format!("in the {} schema, property {name}: the connection has it too", verb.name()));
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

fn check_imports(descriptor: &Descriptor) -> Result<(), String> {
    for (index, format) in descriptor.imports.iter().enumerate() {
        let id = &format.id;
        if !is_name(id, "-") {
            return Err(format!(
                "the import format {id:?} is not made of lower-case letters, digits and hyphens, starting with a letter"
            ));
        }
        if OWN_FORMATS.contains(&id.as_str()) {
            return Err(format!("the import format {id:?} is reserved"));
        }
        if descriptor.imports[..index].iter().any(|other| other.id == *id) {
            return Err(format!("the import format {id:?} is there twice"));
        }
        let texts = [&format.title, &format.title_fr].into_iter().chain(&format.files);
        if format.title.trim().is_empty() || texts.into_iter().any(|text| text.chars().any(char::is_control))
        {
            return Err(format!("the import format {id:?} has no title of one line"));
        }
    }
    Ok(())
}

fn is_name(text: &str, more: &str) -> bool {
    text.len() <= LONGEST_NAME
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || more.contains(c))
}

fn check_schema(which: &str, schema: &Value) -> Result<Schema, String> {
    let flat = schema.get("type").and_then(Value::as_str) == Some("object")
        && !["$ref", "allOf", "anyOf", "oneOf"].iter().any(|key| schema.get(key).is_some())
        && schema.get("additionalProperties").is_none_or(Value::is_boolean);
    if !flat {
        return Err(format!("the {which} schema is not a flat object of options"));
    }
    let schema = Schema::parse(schema).map_err(|why| format!("in the {which} schema, {why}"))?;
    match schema.specs.iter().find(|option| HOST_FLAGS.contains(&option.flag().as_str())) {
        Some(option) => Err(format!(
            "in the {which} schema, property {}: it would hide tracemq's own --{}",
            option.name,
            option.flag()
        )),
        None => Ok(schema),
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
            "verbs": ["publish", "subscribe"], "imports": [],
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
            ("/imports", json!([{"id": "X", "title": "X"}]), "the import format \"X\" is not made of"),
            ("/imports", json!([{"id": "url", "title": "X"}]), "the import format \"url\" is reserved"),
            ("/imports", json!([{"id": "x", "title": " "}]), "the import format \"x\" has no title"),
            (
                "/imports",
                json!([{"id": "x", "title": "X", "files": ["a\nb"]}]),
                "the import format \"x\" has no title",
            ),
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
                "in the publish schema, property user: the connection has it too",
            ),
            (
                "/schemas/publish",
                json!({"type": "object", "properties": {"no_topic": {"type": "boolean"}}}),
                "in the publish schema, property no_topic: it would hide tracemq's own --no-topic",
            ),
            (
                "/schemas/publish",
                json!({"type": "object", "properties": {"aB": {"type": "boolean"}}}),
                "in the publish schema, property aB: a name is made of",
            ),
            (
                "/schemas/publish",
                json!({"type": "object", "properties": {"deep": {"type": "object", "properties": {}}}}),
                "in the publish schema, property deep: options are flat",
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
        let every = check_schema("connection", &schema::<Every>()).unwrap();
        assert_eq!(every.specs.len(), 16);
    }

    #[test]
    fn what_is_not_flat_is_refused() {
        let unsupported = schema::<Unsupported>();
        for (name, property) in unsupported["properties"].as_object().unwrap() {
            let one = json!({"type": "object", "properties": {name: property}});
            let rule = check_schema("serve", &one).unwrap_err();
            assert!(rule.starts_with(&format!("in the serve schema, property {name}: ")), "{rule}");
        }
    }
}
