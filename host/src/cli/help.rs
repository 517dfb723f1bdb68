//! A plugin's options as arguments of a command: the same names, order and words as everywhere else.
//!
//! The values stay text for clap. They are read by [`crate::options`], so that a flag, a variable and a line of a profile
//! are refused in the same words.

use super::args::Action;
use crate::options::{FileUse, Kind, Schema, Spec, plain};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::collections::BTreeMap;
use tracemq_plugin_api::sdk::Descriptor;

/// Sets a plugin's arguments apart from the host's own.
const PREFIX: &str = "plugin:";

/// The schemas of the options that a command takes, each under the name that a profile gives it.
#[derive(Default)]
pub struct Offer {
    pub connection: Schema,
    pub publish: Schema,
    pub subscribe: Schema,
    pub request: Schema,
    pub serve: Schema,
}

impl Offer {
    /// Only the schemas that the command needs are read; the others stay empty.
    pub fn new(action: Action, descriptor: &Descriptor) -> Result<Offer, String> {
        let schemas = &descriptor.schemas;
        let read = |name: &str, schema: &serde_json::Value| match action.uses(name) {
            true => Schema::parse(schema).map_err(|why| format!("its {name} schema: {why}")),
            false => Ok(Schema::default()),
        };
        Ok(Offer {
            connection: read("connection", &schemas.connection)?,
            publish: read("publish", &schemas.publish)?,
            subscribe: read("subscribe", &schemas.subscribe)?,
            request: read("request", &schemas.request)?,
            serve: read("serve", &schemas.serve)?,
        })
    }

    /// All options, those of the verb first. Of options with the same name only the first is a flag.
    pub fn specs(&self) -> Vec<&Spec> {
        let schemas = [&self.publish, &self.request, &self.subscribe, &self.serve, &self.connection];
        let mut specs: Vec<&Spec> = Vec::new();
        for spec in schemas.into_iter().flat_map(|schema| &schema.specs) {
            if specs.iter().all(|known| known.name != spec.name) {
                specs.push(spec);
            }
        }
        specs
    }
}

/// Adds the options to a command. What would hide one of the host's own flags is left out: the loader refuses such a plugin.
pub fn add(command: Command, offer: &Offer, plugin: &str) -> Command {
    let taken: Vec<String> =
        command.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)).collect();
    let args =
        offer.specs().into_iter().filter(|spec| !taken.contains(&spec.flag())).map(|spec| arg(spec, plugin));
    command.args(args)
}

/// What was given for the plugin's options, by property name.
pub fn given(matches: &ArgMatches, offer: &Offer) -> BTreeMap<String, Vec<String>> {
    let mut given = BTreeMap::new();
    for spec in offer.specs() {
        if let Ok(Some(values)) = matches.try_get_many::<String>(&id(spec)) {
            given.insert(spec.name.clone(), values.cloned().collect());
        }
    }
    given
}

fn id(spec: &Spec) -> String {
    format!("{PREFIX}{}", spec.name)
}

fn arg(spec: &Spec, plugin: &str) -> Arg {
    let heading = spec.group.as_deref().map_or_else(|| format!("{plugin} options"), heading);
    let (short, long) = help(spec);
    let arg =
        Arg::new(id(spec)).long(spec.flag()).help(short).help_heading(heading).value_name(value_name(spec));
    let arg = match long {
        Some(long) => arg.long_help(long),
        None => arg,
    };
    match spec.kind {
        Kind::Boolean => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ if spec.repeats() => arg.action(ArgAction::Append).allow_negative_numbers(true),
        _ => arg.allow_negative_numbers(true),
    }
}

/// "tls" is TLS, "will" is Will.
fn heading(group: &str) -> String {
    let mut letters = group.chars();
    let title = match letters.next() {
        Some(_) if group.len() <= 3 => group.to_uppercase(),
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    };
    format!("{} options", title.replace(['_', '-'], " "))
}

/// The longest list of choices that stands in the place of a value.
const SHORT: usize = 32;

fn value_name(spec: &Spec) -> String {
    match &spec.kind {
        _ if spec.file.is_some() => "FILE".into(),
        Kind::Choice(_) => short_choices(spec).unwrap_or_else(|| kind_name(&spec.kind).into()),
        Kind::List(item) => kind_name(item).into(),
        kind => kind_name(kind).into(),
    }
}

/// `a|b|c`, if that is short.
fn short_choices(spec: &Spec) -> Option<String> {
    let Kind::Choice(choices) = &spec.kind else { return None };
    let line = choices.iter().map(|choice| plain(&choice.value)).collect::<Vec<_>>().join("|");
    (line.len() <= SHORT).then_some(line)
}

fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::List(_) => "TEXT",
        Kind::Url => "URL",
        Kind::Integer { .. } | Kind::Number { .. } => "NUMBER",
        Kind::Boolean => "true|false",
        Kind::Choice(_) => "CHOICE",
        Kind::Pair | Kind::Map => "NAME=VALUE",
        Kind::Duration => "DURATION",
        Kind::Size { .. } => "SIZE",
    }
}

/// The text of `-h`, and that of `--help` where it says more.
fn help(spec: &Spec) -> (String, Option<String>) {
    let mut text = if spec.help.is_empty() { spec.title.clone() } else { spec.help.replace('\n', " ") };
    let mut facts = Vec::new();
    let choices = match &spec.kind {
        Kind::Choice(choices) => choices.as_slice(),
        _ => &[],
    };
    match &spec.kind {
        Kind::Choice(_) if short_choices(spec).is_some() => {}
        Kind::Choice(_) => {
            facts.push(choices.iter().map(|choice| plain(&choice.value)).collect::<Vec<_>>().join(", "));
        }
        Kind::Integer { min, max } if max - min < i128::from(u32::MAX) => {
            facts.push(format!("{min} to {max}"))
        }
        Kind::Integer { .. } | Kind::Text | Kind::Url | Kind::Boolean | Kind::Pair | Kind::Map => {}
        Kind::Number { .. } | Kind::List(_) | Kind::Duration | Kind::Size { .. } => {}
    }
    if let Some(default) = spec.default.as_ref().map(plain).filter(|text| !text.is_empty() && text != "false")
        && !spec.secret
        && !spec.repeats()
    {
        facts.push(format!("default: {default}"));
    }
    if !spec.env.is_empty() {
        facts.push(format!("env: {}", spec.env.join(", ")));
    }
    if spec.secret {
        let pairs =
            matches!(&spec.kind, Kind::Map | Kind::Pair) || spec.kind == Kind::List(Box::new(Kind::Pair));
        let name = if pairs { "NAME=" } else { "" };
        facts.push(format!("{name}vault:NAME, {name}env:NAME or {name}file:PATH keeps it out of ps"));
    }
    if spec.repeats() {
        facts.push("repeatable".into());
    }
    if spec.file == Some(FileUse::Write) {
        facts.push("written".into());
    }
    if spec.required {
        facts.push("required".into());
    }
    for fact in facts {
        text.push_str(&format!(" [{fact}]"));
    }
    let explained = choices.iter().filter(|choice| !choice.help.is_empty());
    let explained: Vec<String> = explained
        .map(|choice| format!("- {}: {}", plain(&choice.value), choice.help.replace('\n', " ")))
        .collect();
    let long =
        (!explained.is_empty()).then(|| format!("{text}\n{}", explained.join("\n")).trim_start().to_owned());
    (text.trim_start().to_owned(), long)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(property: serde_json::Value) -> Spec {
        Schema::parse(&json!({"properties": {"some_option": property}})).unwrap().specs.remove(0)
    }

    #[test]
    fn help_tells_choices_default_and_where_a_secret_may_stand() {
        let qos = spec(
            json!({"type": "integer", "minimum": 0, "maximum": 2, "default": 1, "description": "Quality"}),
        );
        assert_eq!(help(&qos).0, "Quality [0 to 2] [default: 1]");
        let secret =
            spec(json!({"type": "string", "x-secret": true, "default": "hunter2", "title": "Password"}));
        assert_eq!(help(&secret).0, "Password [vault:NAME, env:NAME or file:PATH keeps it out of ps]");
        let pair = json!({"type": "array", "items": {"type": "string"}, "x-type": "pair", "x-secret": true});
        assert!(help(&spec(pair)).0.contains("NAME=env:NAME"));
        let choice = spec(json!({"oneOf": [{"const": "a", "description": "the first"}, {"const": "b"}]}));
        assert_eq!(
            (value_name(&choice), help(&choice)),
            ("a|b".into(), (String::new(), Some("- a: the first".into())))
        );
        let many = spec(json!({"enum": (0..20).map(|number| number.to_string()).collect::<Vec<_>>()}));
        assert_eq!(value_name(&many), "CHOICE");
        assert!(help(&many).0.starts_with("[0, 1, 2"), "{}", help(&many).0);
    }

    #[test]
    fn groups_become_headings() {
        assert_eq!(heading("tls"), "TLS options");
        assert_eq!(heading("last_will"), "Last will options");
    }
}
