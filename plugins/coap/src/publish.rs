//! The options of a publish and of a request, and the message that they make.
//!
//! What is published is put where it belongs: `pub` is PUT. What is asked for is got: `request` is GET, and POST when it has
//! a payload, for that is to be processed and answered. `--method` says otherwise.

use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::prelude::{Error, Result};
use tracemq_plugin_api::{schemars, serde};

use crate::message::{self, CoapOption, Method, Packet, parse_option};
use crate::target::Target;

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PublishOptions {
    /// Method of the request: pub is put, request is get, or post when it has a payload
    #[schemars(title = "Method", extend(
        "x-group" = "message", "x-order" = 110, "x-title-fr" = "Méthode",
        "x-help-fr" = "Méthode de la requête : pub fait put ; request fait get, ou post s'il a un contenu"
    ))]
    pub method: Option<Method>,

    /// Send a message that is not confirmed and not sent again (NON)
    #[schemars(title = "Non-confirmable", extend(
        "x-group" = "message", "x-order" = 111, "x-title-fr" = "Non confirmable",
        "x-help-fr" = "Envoyer un message qui n'est ni confirmé ni renvoyé (NON)"
    ))]
    pub non_confirmable: bool,

    /// What the payload is: text, json, cbor, link-format…, a media type or its number
    #[schemars(title = "Content format", extend(
        "x-group" = "message", "x-order" = 112, "x-title-fr" = "Format du contenu",
        "x-help-fr" = "Nature du contenu : text, json, cbor, link-format…, un type de média ou son numéro"
    ))]
    pub content_format: Option<String>,

    /// What the answer is to be, likewise
    #[schemars(title = "Accept", extend(
        "x-group" = "message", "x-order" = 113, "x-title-fr" = "Accepter",
        "x-help-fr" = "Nature souhaitée de la réponse, de même"
    ))]
    pub accept: Option<String>,

    /// Argument of the query, such as unit=celsius
    #[schemars(title = "Query", extend(
        "x-group" = "message", "x-order" = 114, "x-title-fr" = "Requête (query)",
        "x-help-fr" = "Argument de la requête, par exemple unit=celsius"
    ))]
    pub query: Vec<String>,

    /// Option by name or number, such as if-match=0x1f, if-none-match or 65000=text; the value is 0x and hexadecimal, or what the option holds: a number, a content format, text. -H does the same
    #[schemars(title = "Options", extend(
        "x-group" = "message", "x-order" = 115, "x-title-fr" = "Options",
        "x-help-fr" = "Option par nom ou numéro, par exemple if-match=0x1f, if-none-match ou 65000=texte ; la valeur est 0x suivi d'hexadécimal, ou ce que l'option contient : un nombre, un format de contenu, du texte. -H fait de même"
    ))]
    pub option: Vec<String>,
}

/// Options that say where a request goes or how it is cut up: other options and flags are for that.
const OWN: [CoapOption; 4] =
    [CoapOption::Block1, CoapOption::Block2, CoapOption::Observe, CoapOption::Oscore];

impl PublishOptions {
    /// # Errors
    /// A value that can't be.
    pub fn check(&self, target: &Target, topics: &[String]) -> Result<()> {
        let mut packet = Packet::new();
        self.fill(&mut packet)?;
        topics.iter().try_for_each(|topic| target.add_resource(&mut packet.clone(), topic))
    }

    /// Adds the options that do not depend on the topic.
    ///
    /// # Errors
    /// As [`PublishOptions::check`].
    pub fn fill(&self, packet: &mut Packet) -> Result<()> {
        for (flag, option, text) in [
            ("--content-format", CoapOption::ContentFormat, &self.content_format),
            ("--accept", CoapOption::Accept, &self.accept),
        ] {
            if let Some(text) = text {
                message::set_uint(packet, option, u32::from(format_number(flag, text)?));
            }
        }
        add_query(packet, &self.query)?;
        self.option.iter().try_for_each(|text| add_option(packet, "--option", text))
    }
}

/// # Errors
/// It is no content format.
pub(crate) fn format_number(flag: &str, text: &str) -> Result<u16> {
    message::content_format_number(text).ok_or_else(|| {
        Error::config(format!("{flag} {text:?}: there is no such content format"))
            .hint("write a media type like application/json, a short name like json, or the number")
    })
}

/// # Errors
/// An argument is longer than the option's 255 bytes.
pub(crate) fn add_query(packet: &mut Packet, query: &[String]) -> Result<()> {
    for argument in query {
        if argument.len() > 255 {
            return Err(Error::config("--query: an argument has at most 255 bytes"));
        }
        message::add(packet, CoapOption::UriQuery, argument.as_str());
    }
    Ok(())
}

/// Adds what `--option` or `-H` says.
///
/// # Errors
/// There is no such option, its value can't be, or it is one that this plugin sets by itself.
pub(crate) fn add_option(packet: &mut Packet, flag: &str, text: &str) -> Result<()> {
    let (option, value) =
        parse_option(text).map_err(|error| Error::config(format!("{flag} {text:?}: {error}")))?;
    // Uri-Host may be given: it replaces the URL's. The rest would be taken for what it is not.
    if OWN.contains(&option) {
        return Err(Error::config(format!("{flag} {text:?}: this option is set where it is needed"))
            .hint("--block-size is for blocks, sub for observing"));
    }
    let number = u16::from(option);
    match message::definition(number).is_some_and(|definition| !definition.repeatable) {
        true => message::replace(packet, option, value),
        false => message::add(packet, option, value),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(json: serde_json::Value) -> Result<Packet> {
        let options: PublishOptions = serde_json::from_value(json).expect("the types fit");
        let mut packet = Packet::new();
        options.fill(&mut packet).map(|()| packet)
    }

    #[test]
    fn options_by_name_and_number() {
        let packet = filled(serde_json::json!({
            "content_format": "json", "accept": "application/cbor", "query": ["a=1"],
            "option": ["if-match=0x1f2e", "ETag=abc", "14=60", "65000=text", "If-None-Match"]
        }))
        .unwrap();
        assert_eq!(message::content_format(&packet), Some(50));
        assert_eq!(message::first(&packet, CoapOption::Accept), Some(&[60][..]));
        assert_eq!(message::first(&packet, CoapOption::IfMatch), Some(&[0x1f, 0x2e][..]));
        assert_eq!(message::etag(&packet), Some(&b"abc"[..]));
        assert_eq!(message::uint(&packet, CoapOption::MaxAge), Some(60));
        assert_eq!(message::first(&packet, CoapOption::Unknown(65000)), Some(&b"text"[..]));
        assert_eq!(message::first(&packet, CoapOption::IfNoneMatch), Some(&[][..]));
    }

    #[test]
    fn what_can_not_be_is_refused() {
        for (json, part) in [
            (serde_json::json!({"content_format": "jsn"}), "--content-format"),
            (serde_json::json!({"accept": "70000"}), "--accept"),
            (serde_json::json!({"option": ["colour=red"]}), "colour"),
            (serde_json::json!({"option": ["if-match=0x1"]}), "0x"),
            (serde_json::json!({"option": ["max-age=soon"]}), "soon"),
            (serde_json::json!({"option": ["etag="]}), "0 bytes"),
            (serde_json::json!({"option": ["block2=0"]}), "block2"),
            (serde_json::json!({"query": ["x".repeat(256)]}), "--query"),
        ] {
            let error = filled(json).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
