//! Answers made from a file: a template that sees the message, or bytes as they are.

use std::path::Path;

use bytes::Bytes;
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use serde_json::Value as Json;
use tracemq_plugin_api::prelude::{Error, Result};
use tracemq_plugin_api::serde_json;

use crate::link::Kind;

/// What answers a message.
pub(super) enum Reply {
    /// Compiled from text.
    Template(Box<Environment<'static>>),
    /// A file that is not text goes out as it is.
    Bytes(Bytes),
}

/// What a template may want to know, besides the message.
pub(super) struct About<'a> {
    pub(super) client: &'a str,
    /// Counts the client's messages, from 1.
    pub(super) number: u64,
    pub(super) path: &'a str,
    pub(super) subprotocol: Option<&'a str>,
}

impl Reply {
    /// # Errors
    /// The file can't be read, or its template is wrong.
    pub(super) fn read(path: &Path) -> Result<Reply> {
        let wrong = |why: String| Error::config(format!("--reply-file {}: {why}", path.display()));
        let content = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let Ok(text) = String::from_utf8(content.clone()) else { return Ok(Reply::Bytes(content.into())) };
        let mut environment = Environment::new();
        environment.add_template_owned("reply", text).map_err(|error| wrong(describe(&error)))?;
        Ok(Reply::Template(Box::new(environment)))
    }

    /// The answer to a message; `None` when it is empty, which is none.
    ///
    /// # Errors
    /// The template failed on this message.
    pub(super) fn to(
        &self,
        kind: Kind,
        payload: &[u8],
        about: &About<'_>,
    ) -> std::result::Result<Option<(Kind, Bytes)>, String> {
        let environment = match self {
            Reply::Bytes(bytes) => return Ok(Some((Kind::Binary, bytes.clone()))),
            Reply::Template(environment) => environment,
        };
        let json = serde_json::from_slice::<Json>(payload);
        let json = json.map_or(Value::UNDEFINED, |json| Value::from(Serde(json)));
        let context = context! {
            payload => String::from_utf8_lossy(payload),
            json => json,
            type => kind.name(),
            client => about.client,
            number => about.number,
            path => about.path,
            subprotocol => about.subprotocol,
        };
        let rendered = environment
            .get_template("reply")
            .and_then(|template| template.render(context))
            .map_err(|error| describe(&error))?;
        Ok((!rendered.is_empty()).then(|| (kind, Bytes::from(rendered))))
    }
}

/// The error with its line, and without the payload, which may be long.
fn describe(error: &minijinja::Error) -> String {
    match error.line() {
        Some(line) => format!("line {line}: {error}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About<'static> {
        About { client: "1", number: 3, path: "/x", subprotocol: None }
    }

    fn reply(file: &[u8], payload: &[u8]) -> std::result::Result<Option<(Kind, Bytes)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reply");
        std::fs::write(&path, file).unwrap();
        Reply::read(&path).map_err(|error| error.to_string())?.to(Kind::Text, payload, &about())
    }

    #[test]
    fn templates_see_the_message() {
        let text = |file: &str, payload: &str| reply(file.as_bytes(), payload.as_bytes()).unwrap().unwrap().1;
        assert_eq!(text("{\"id\": {{ json.id }}}\n", "{\"id\": 7}"), "{\"id\": 7}");
        assert_eq!(text("{{ client }}/{{ number }}{{ path }} {{ payload|upper }}", "hé"), "1/3/x HÉ");
        assert_eq!(text("always the same", "x"), "always the same");
    }

    #[test]
    fn no_answer_a_fixed_one_and_wrong_ones() {
        assert_eq!(reply(b"{% if payload == 'ask' %}yes{% endif %}", b"other"), Ok(None));
        assert_eq!(
            reply(b"\x00\xff", b"x").unwrap().unwrap(),
            (Kind::Binary, Bytes::from_static(b"\x00\xff"))
        );
        assert!(reply(b"\n\n{{ oops", b"x").unwrap_err().contains("line 3"));
        assert!(reply(b"{{ json.a.b }}", b"not json").is_err());
    }
}
