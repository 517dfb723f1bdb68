//! `tracemq profile show`.

use super::shown_url;
use crate::cli::args::Action;
use crate::cli::help::Offer;
use crate::cli::url;
use crate::failure::Failure;
use crate::options::{Kind, MASK, Reference, Schema, is_reference};
use crate::output::events;
use crate::plugins::{Catalog, Entry};
use crate::profiles::{self, Table};
use clap::Command;
use serde_json::Value;
use std::path::PathBuf;

pub fn command() -> Command {
    Command::new("show").about("Print a profile, secrets as references").arg(super::name())
}

pub fn run(name: &str, dirs: &[PathBuf]) -> Result<(), Failure> {
    let mut profile = profiles::find(name)?.ok_or_else(|| profiles::unknown(name))?;
    let catalog = Catalog::open(dirs);
    let scheme = profile.url.as_deref().and_then(|text| {
        let text = Reference::parse(text)
            .map_or_else(|| Ok(text.to_owned()), |reference| reference.resolve_url().map(|url| url.reveal()))
            .ok()?;
        url::scheme_of(&text)
    });
    let entry = match &profile.protocol {
        Some(id) => catalog.by_id(id),
        None => scheme.and_then(|scheme| catalog.by_scheme(&scheme)),
    };
    let descriptor = entry.and_then(Entry::descriptor);
    let offers = descriptor.map(|descriptor| {
        [Action::Profile, Action::ServeProfile]
            .map(|action| Offer::new(action, descriptor).unwrap_or_default())
    });
    if offers.is_none() {
        events::line(
            "the profile's plugin is not there to tell what is secret, so that all texts are hidden",
        );
    }
    let [of_connection, of_serve] = offers.as_ref().map_or([None, None], |[one, two]| [Some(one), Some(two)]);
    hide(&mut profile.connection, of_connection.map(|offer| &offer.connection));
    hide(&mut profile.publish, of_connection.map(|offer| &offer.publish));
    hide(&mut profile.subscribe, of_connection.map(|offer| &offer.subscribe));
    hide(&mut profile.serve, of_serve.map(|offer| &offer.serve));
    profile.url = profile.url.as_deref().map(shown_url);
    crate::cli::print(profile.to_toml())
}

/// Puts the mask over secrets that stand in clear; over every text when the schema isn't known.
fn hide(table: &mut Table, schema: Option<&Schema>) {
    for (name, value) in table.iter_mut() {
        let harmless = match schema.map(|schema| schema.get(name)) {
            // Not an option of the plugin: a slip, perhaps in a secret's name.
            None | Some(None) => false,
            Some(Some(spec)) => !spec.secret,
        };
        if !harmless {
            let url = schema.and_then(|schema| schema.get(name)).is_some_and(|spec| spec.kind == Kind::Url);
            hide_value(value, url);
        }
    }
}

fn hide_value(value: &mut Value, url: bool) {
    match value {
        Value::String(text) if is_reference(text) => {}
        Value::String(text) if url => *text = url::masked(text),
        Value::String(text) => {
            *text = match text.split_once('=') {
                Some((_, value)) if is_reference(value) => return,
                _ => MASK.to_owned(),
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide_value(item, url)),
        Value::Object(map) => map.values_mut().for_each(|item| hide_value(item, url)),
        Value::Number(_) => *value = MASK.into(),
        Value::Bool(_) | Value::Null => {}
    }
}
