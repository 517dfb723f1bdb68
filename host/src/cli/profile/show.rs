//! `tracemq profile show`.

use super::check::{descriptor, know_token};
use super::shown_url;
use crate::cli::args::Action;
use crate::cli::help::Offer;
use crate::cli::url;
use crate::failure::Failure;
use crate::options::{Kind, MASK, Schema, Spec, is_reference};
use crate::output::events;
use crate::plugins::Catalog;
use crate::profiles::{self, Table};
use crate::redact::secret_name;
use clap::Command;
use serde_json::Value;
use std::path::PathBuf;

pub fn command() -> Command {
    Command::new("show")
        .about("Print a profile, secrets as references")
        .long_about(
            "Print a profile as its file has it, without comments. Secrets are shown as the references that they are; one \
             that stands there in clear is hidden, and so is every text when the profile's plugin isn't there to tell which \
             are secret.",
        )
        .arg(super::name())
}

pub fn run(name: &str, dirs: &[PathBuf]) -> Result<(), Failure> {
    let mut profile = profiles::find(name)?.ok_or_else(|| profiles::unknown(name))?;
    let catalog = Catalog::open(dirs);
    know_token(&catalog, &profile);
    let descriptor = descriptor(&catalog, &profile);
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
        let spec = schema.map(|schema| schema.get(name).or_else(|| schema.renamed(name)));
        let harmless = match spec {
            // Not an option of the plugin: a slip, perhaps in a secret's name.
            None | Some(None) => false,
            Some(Some(spec)) => !spec.secret,
        };
        if !harmless {
            let url = spec.flatten().is_some_and(|spec| spec.kind == Kind::Url);
            hide_value(value, url);
        } else if spec.flatten().is_some_and(Spec::has_pairs) {
            hide_pairs(value);
        }
    }
}

/// Hides what its name tells to be secret, whatever the schema says: `Authorization=Bearer …` of a header.
fn hide_pairs(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(hide_pairs),
        Value::String(text) => {
            if let Some((name, _)) = text.split_once('=').filter(|(name, _)| secret_name(name)) {
                *text = format!("{name}={MASK}");
            }
        }
        Value::Object(pairs) => {
            let telling = pairs.iter_mut().filter(|(name, _)| secret_name(name));
            telling.for_each(|(_, value)| *value = MASK.into());
        }
        _ => {}
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
