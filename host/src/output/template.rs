//! A minijinja template for each message.
//!
//! Variables: `time protocol target topic payload encoding headers meta reply`, and what minijinja itself offers, with the
//! filter `fromjson` beside it (`{{ (payload | fromjson).temperature }}`). `\n` and `\t` outside of `{{ }}` and `{% %}` mean
//! what they mean in a shell's `printf`. What can be known to be wrong is refused before anything is opened: the syntax, a
//! name that is no variable, a filter that does not exist.

use super::write_time;
use crate::failure::Failure;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value};
use tracemq_plugin_api::sdk::{BatchBuilder, MessageView, MetaValue};

const NAMES: [&str; 9] =
    ["time", "protocol", "target", "topic", "payload", "encoding", "headers", "meta", "reply"];

pub struct Template {
    environment: Environment<'static>,
    protocol: Value,
    target: Value,
}

const NAME: &str = "--format";

impl Template {
    pub fn new(source: &str, protocol: &str, target: &str) -> Result<Template, Failure> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        environment.set_syntax(syntax.expect("the usual delimiters are valid"));
        environment.add_filter("fromjson", from_json);
        let refused = |error: &Error| Failure::usage(format!("--format {source}: {}", reason(error)));
        environment.add_template_owned(NAME, unescape(source)).map_err(|error| {
            refused(&error).hint("the template language is that of Jinja: {{ topic }} {{ payload }}")
        })?;
        let template = Template { environment, protocol: protocol.into(), target: target.into() };
        template.check_names(source)?;

        // Whether a filter exists is only known by running it. What the sample itself causes is no fault of the template.
        let mut sample = BatchBuilder::new();
        sample.add("topic", "payload");
        let sample = sample.finish();
        let outcome = template.render(&sample.get(0).expect("a message was added"), &mut Vec::new());
        match outcome {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction
                ) =>
            {
                Err(refused(&error))
            }
            _ => Ok(template),
        }
    }

    fn check_names(&self, source: &str) -> Result<(), Failure> {
        let template = self.environment.get_template(NAME).expect("the template was added");
        let known = |name: &str| {
            NAMES.contains(&name) || self.environment.globals().any(|(global, _)| global == name)
        };
        let mut unknown: Vec<String> =
            template.undeclared_variables(false).into_iter().filter(|name| !known(name)).collect();
        unknown.sort();
        match unknown.first() {
            None => Ok(()),
            Some(name) => Err(Failure::usage(format!("--format {source}: there is no variable {name}"))
                .hint(format!("the variables are {}", NAMES.join(", ")))),
        }
    }

    pub fn append(&self, message: &MessageView<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let start = out.len();
        self.render(message, out).map_err(|error| {
            out.truncate(start);
            reason(&error)
        })
    }

    fn render(&self, message: &MessageView<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        let mut time = Vec::new();
        write_time(message.time(), &mut time);
        let (payload, encoding) = match std::str::from_utf8(message.payload()) {
            Ok(text) => (Value::from(text), "utf-8"),
            Err(_) => (Value::from(STANDARD.encode(message.payload())), "base64"),
        };
        let headers: Vec<Value> = message
            .headers()
            .map(|(name, value)| Value::from_iter([Value::from(lossy(name)), Value::from(lossy(value))]))
            .collect();
        let context = Value::from_pairs([
            ("time", Value::from(lossy(&time))),
            ("protocol", self.protocol.clone()),
            ("target", self.target.clone()),
            ("topic", Value::from(message.topic_text())),
            ("payload", payload),
            ("encoding", Value::from(encoding)),
            ("headers", Value::from_iter(headers)),
            ("meta", Value::from_pairs(message.meta().map(|(name, value)| (name, meta(value))))),
            ("reply", message.reply().map_or(Value::UNDEFINED, |reply| Value::from(lossy(reply)))),
        ]);
        let template = self.environment.get_template(NAME)?;
        template.render_captured_to(context, out).map(drop)
    }
}

fn lossy(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn meta(value: MetaValue<'_>) -> Value {
    match value {
        MetaValue::Bool(value) => value.into(),
        MetaValue::Int(value) => value.into(),
        MetaValue::Uint(value) => value.into(),
        MetaValue::Float(value) => value.into(),
        MetaValue::Text(value) => value.into(),
        MetaValue::Bytes(value) => match std::str::from_utf8(value) {
            Ok(text) => text.into(),
            Err(_) => STANDARD.encode(value).into(),
        },
        MetaValue::Json(value) => from_json(value).unwrap_or_else(|_| value.into()),
    }
}

fn from_json(text: &str) -> Result<Value, Error> {
    serde_json::from_str::<serde_json::Value>(text)
        .map(|value| Value::from(Serde(value)))
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("the text is not JSON: {error}")))
}

fn reason(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// `\n`, `\t`, `\r` and `\\`, except where the template language reads them itself.
fn unescape(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find(['\\', '{']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let close = match rest.as_bytes().get(1) {
            Some(b'{') if rest.starts_with('{') => Some("}}"),
            Some(b'%') if rest.starts_with('{') => Some("%}"),
            Some(b'#') if rest.starts_with('{') => Some("#}"),
            _ => None,
        };
        if let Some(close) = close {
            let end = rest.find(close).map_or(rest.len(), |end| end + close.len());
            out.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        let (replacement, length) = match rest.as_bytes() {
            [b'\\', b'n', ..] => ("\n", 2),
            [b'\\', b't', ..] => ("\t", 2),
            [b'\\', b'r', ..] => ("\r", 2),
            [b'\\', b'\\', ..] => ("\\", 2),
            _ => (&rest[..1], 1),
        };
        out.push_str(replacement);
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn shown(source: &str, payload: &[u8]) -> Result<String, String> {
        let mut batch = BatchBuilder::new();
        batch.set_time(0);
        batch.add("a/b", payload).header("unit", "C").reply("inbox").meta("qos", MetaValue::Uint(1));
        let batch = batch.finish();
        let template = Template::new(source, "demo", "local").map_err(|failure| failure.to_string())?;
        let mut out = Vec::new();
        template.append(&batch.get(0).unwrap(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn every_variable() {
        let source = "{{time}} {{protocol}} {{target}} {{topic}} {{payload}} {{encoding}} {{headers[0][1]}} {{meta.qos}} {{reply}}";
        assert_eq!(
            shown(source, b"21.5").unwrap(),
            "1970-01-01T00:00:00.000000Z demo local a/b 21.5 utf-8 C 1 inbox"
        );
        assert_eq!(shown("{{payload}} {{encoding}}", &[0xff]).unwrap(), "/w== base64");
    }

    #[test]
    fn escapes_outside_of_expressions_and_the_languages_own_inside() {
        assert_eq!(shown(r"{{topic}}\t{{payload}}\n", b"x").unwrap(), "a/b\tx\n");
        assert_eq!(shown(r#"{{ "a\\b" }}\\n"#, b"x").unwrap(), r"a\b\n");
        assert_eq!(shown(r"{{ payload }} { \q", b"x").unwrap(), r"x { \q");
    }

    #[test]
    fn json_payloads_can_be_looked_into() {
        let source = "{{ (payload | fromjson).t }}";
        assert_eq!(shown(source, br#"{"t": 21.5}"#).unwrap(), "21.5");
        assert!(shown(source, b"{").unwrap_err().contains("not JSON"));
    }

    #[test]
    fn nothing_is_html() {
        assert_eq!(shown("{{ payload }}", b"<a & \"b\">").unwrap(), "<a & \"b\">");
    }

    #[test]
    fn what_can_not_be_right_is_refused_before_connecting() {
        for (source, why) in [
            ("{{ topic", "syntax error"),
            ("{{ tpoic }}", "no variable tpoic"),
            ("{{ payload | frmjson }}", "unknown filter"),
            ("{{ f(1) }}", "no variable f"),
        ] {
            let failure = Template::new(source, "demo", "local").err().unwrap_or_else(|| panic!("{source}"));
            assert_eq!(failure.exit, Exit::Usage, "{source}");
            assert!(failure.to_string().contains(why), "{source}: {failure}");
        }
    }
}
