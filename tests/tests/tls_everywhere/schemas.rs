//! The options: the same fragment of schema in each plugin, and no plugin without a row in the table.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use tracemq_tests::{Tracemq, json};

use crate::peers::ROWS;

/// Id and schemas of every plugin of the installation.
pub fn plugins(tracemq: &Tracemq) -> Vec<(String, Value)> {
    let list = tracemq.cmd(["plugin", "list", "--json"]).finish().expect(0);
    let ids = list.lines().into_iter().map(|line| json(&line)["id"].as_str().expect("an id").to_owned());
    ids.map(|id| {
        let info = tracemq.cmd(["plugin", "info", &id, "--json"]).finish().expect(0);
        let schemas = json(&info.text())["schemas"].clone();
        (id, schemas)
    })
    .collect()
}

/// The properties of a schema that belong to TLS, proxies and the time-out.
fn shared(schema: &Value) -> Map<String, Value> {
    let ours = |name: &str| {
        name.starts_with("tls_") && name != "tls_first"
            || ["insecure_skip_verify", "proxy", "connect_timeout"].contains(&name)
    };
    let properties = schema["properties"].as_object().cloned().unwrap_or_default();
    properties.into_iter().filter(|(name, _)| ours(name)).collect()
}

#[test]
fn every_plugin_with_tls_stands_in_the_table() {
    let found: BTreeSet<String> = plugins(&Tracemq::new())
        .into_iter()
        .filter(|(_, schemas)| !shared(&schemas["connection"]).is_empty())
        .map(|(id, _)| id)
        .collect();
    let table: BTreeSet<String> = ROWS.iter().map(|row| row.plugin.to_owned()).collect();
    assert_eq!(found, table);
}

#[test]
fn the_options_are_the_same_with_every_plugin() {
    let plugins = plugins(&Tracemq::new());
    for (verb, least) in [("connection", 11), ("serve", 9)] {
        let with: Vec<_> = plugins
            .iter()
            .map(|(id, schemas)| (id, shared(&schemas[verb])))
            .filter(|(_, shared)| !shared.is_empty())
            .collect();
        let (first, options) = &with[0];
        assert!(options.len() >= least, "{first}: {:?}", options.keys());
        for (id, other) in &with {
            assert_eq!(other, options, "{verb} of {id} and of {first}");
        }
        for (name, property) in options {
            for key in ["title", "description", "x-title-fr", "x-help-fr"] {
                assert!(property[key].is_string(), "{name} has no {key}");
            }
        }
    }
}
