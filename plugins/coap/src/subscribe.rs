//! The options of a subscription, which is an observation (RFC 7641).

use schemars::JsonSchema;
use serde::Deserialize;
use tracemq_plugin_api::prelude::{Error, Result};
use tracemq_plugin_api::{schemars, serde};

use crate::message::{self, CoapOption, Method, Packet};
use crate::publish::{add_option, add_query, format_number};
use crate::target::Target;

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SubscribeOptions {
    /// Register with a message that is not confirmed and not sent again (NON)
    #[schemars(title = "Non-confirmable", extend(
        "x-group" = "subscription", "x-order" = 120, "x-title-fr" = "Non confirmable",
        "x-help-fr" = "S'inscrire par un message qui n'est ni confirmé ni renvoyé (NON)"
    ))]
    pub non_confirmable: bool,

    /// What the notifications are to be: text, json, cbor…, a media type or its number
    #[schemars(title = "Accept", extend(
        "x-group" = "subscription", "x-order" = 121, "x-title-fr" = "Accepter",
        "x-help-fr" = "Nature souhaitée des notifications : text, json, cbor…, un type de média ou son numéro"
    ))]
    pub accept: Option<String>,

    /// Argument of the query, such as unit=celsius
    #[schemars(title = "Query", extend(
        "x-group" = "subscription", "x-order" = 122, "x-title-fr" = "Requête (query)",
        "x-help-fr" = "Argument de la requête, par exemple unit=celsius"
    ))]
    pub query: Vec<String>,

    /// Option of the registration by name or number, such as etag=0x1f or 65000=text; the value is 0x and hexadecimal, or what the option holds: a number, a content format, text
    #[schemars(title = "Options", extend(
        "x-group" = "subscription", "x-order" = 123, "x-title-fr" = "Options",
        "x-help-fr" = "Option de l'inscription par nom ou numéro, par exemple etag=0x1f ou 65000=texte ; la valeur est 0x suivi d'hexadécimal, ou ce que l'option contient : un nombre, un format de contenu, du texte"
    ))]
    pub option: Vec<String>,
}

impl SubscribeOptions {
    /// The registrations: a GET with Observe for each topic, and for the URL's own path when there is none.
    ///
    /// # Errors
    /// A value that can't be, or a topic that is no path.
    pub fn requests(&self, target: &Target, topics: &[String]) -> Result<Vec<Packet>> {
        let own = [String::new()];
        let topics = if topics.is_empty() { &own } else { topics };
        topics.iter().map(|topic| self.request(target, topic)).collect()
    }

    fn request(&self, target: &Target, topic: &str) -> Result<Packet> {
        let mut packet = Packet::new();
        packet.header.code = Method::Get.class();
        target.add_resource(&mut packet, topic)?;
        message::set_uint(&mut packet, CoapOption::Observe, 0);
        if let Some(text) = &self.accept {
            message::set_uint(&mut packet, CoapOption::Accept, u32::from(format_number("--accept", text)?));
        }
        add_query(&mut packet, &self.query)?;
        self.option.iter().try_for_each(|text| add_option(&mut packet, "--option", text))?;
        Ok(packet)
    }

    /// # Errors
    /// As [`SubscribeOptions::requests`], or a target that can't be observed.
    pub fn check(&self, target: &Target, topics: &[String]) -> Result<()> {
        if target.is_group() {
            return Err(Error::config("a group can't be observed, only one server's resources")
                .hint("request with --replies asks all of the group once"));
        }
        self.requests(target, topics).map(drop)
    }
}
