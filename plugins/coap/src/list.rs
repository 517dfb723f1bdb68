//! `tracemq list`: what a server says it has (RFC 6690).

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tracemq_plugin_api::prelude::*;

use crate::client::Client;
use crate::links::{self, Link};
use crate::message::{self, CoapOption, Method, Packet};
use crate::target::Target;

const WELL_KNOWN: &str = "/.well-known/core";
const LINK_FORMAT: u32 = 40;
/// The attributes that are registered, in the order in which they are shown. Others come behind them.
const KNOWN: [&str; 7] = ["title", "rt", "if", "ct", "sz", "obs", "rel"];

/// What `list` takes for WHAT: `resources`, or an argument of the query that the server is to filter by (RFC 6690 section 4.1).
///
/// # Errors
/// It is neither.
pub(crate) fn query(what: Option<&str>) -> Result<Option<&str>> {
    match what {
        None | Some("" | "resources") => Ok(None),
        Some(filter) if filter.contains('=') => Ok(Some(filter)),
        Some(other) => Err(Error::config(format!("WHAT {other:?}: there is no such list"))
            .hint("it is resources, or what they are to be filtered by, as in rt=temperature")),
    }
}

pub(crate) async fn resources(client: &Client, target: &Target, filter: Option<&str>) -> Result<Value> {
    let mut packet = Packet::new();
    packet.header.code = Method::Get.class();
    let doing = |error: Error| error.while_doing(format!("get {WELL_KNOWN}"));
    if let Some(host) = target.uri_host() {
        message::replace(&mut packet, CoapOption::UriHost, host);
    }
    message::add_uri(&mut packet, WELL_KNOWN).map_err(|error| Error::config(error.to_string()))?;
    message::set_uint(&mut packet, CoapOption::Accept, LINK_FORMAT);
    if let Some(filter) = filter {
        message::add(&mut packet, CoapOption::UriQuery, filter);
    }
    let response = client.fetch(packet).await.map_err(doing)?;
    let text = std::str::from_utf8(&response.payload)
        .map_err(|_| doing(Error::new(ErrorKind::PROTOCOL, "the server's list of resources is not UTF-8")))?;
    let links = links::parse(text).map_err(|error| {
        doing(Error::new(ErrorKind::PROTOCOL, format!("the server's list of resources: {error}")))
    })?;
    Ok(table(&links))
}

/// A row for each link, a column for each attribute that any of them has.
fn table(links: &[Link]) -> Value {
    let named: BTreeSet<&str> =
        links.iter().flat_map(|link| link.attributes.iter().map(|(name, _)| name.as_str())).collect();
    let others = named.iter().copied().filter(|name| !KNOWN.contains(name));
    let attributes: Vec<&str> = KNOWN.into_iter().filter(|name| named.contains(name)).chain(others).collect();
    let rows: Vec<Value> = links
        .iter()
        .map(|link| {
            let cells = attributes.iter().map(|name| cell(link, name));
            std::iter::once(Value::from(link.target.as_str())).chain(cells).collect()
        })
        .collect();
    let columns: Vec<&str> = std::iter::once("path").chain(attributes).collect();
    json!({ "columns": columns, "rows": rows })
}

fn cell(link: &Link, name: &str) -> Value {
    match link.attribute(name) {
        None => Value::Null,
        Some("") => Value::Bool(true),
        Some(value) if name == "sz" => value.parse::<u64>().map_or_else(|_| value.into(), Value::from),
        Some(value) if name == "ct" => formats(value).into(),
        Some(value) => value.into(),
    }
}

/// Content formats by name: there may be several, with spaces between them (RFC 7252 section 7.2.1).
fn formats(value: &str) -> String {
    let named = |number: &str| {
        let name = number.parse().ok().and_then(message::content_format_name);
        name.unwrap_or(number).to_owned()
    };
    value.split_whitespace().map(named).collect::<Vec<_>>().join(" ")
}
