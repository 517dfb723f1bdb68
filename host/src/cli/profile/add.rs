//! `tracemq profile add`: from flags and a URL.

use super::{named, shown_url};
use crate::cli::args::Action;
use crate::cli::{help, prepare, url};
use crate::failure::Failure;
use crate::options::{FileUse, Reference, Schema, Spec, is_reference};
use crate::output::events;
use crate::plugins::Catalog;
use crate::profiles::{self, Guard, Profile, Table};
use clap::{Arg, Command};
use serde_json::Value;
use std::ffi::OsString;
use std::path::PathBuf;

pub fn command() -> Command {
    Command::new("add")
        .about("Save a connection under a name")
        .long_about(
            "Save a connection under a name, with options of the connection, of pub and of sub; or, with a \
             protocol's name in the place of the URL, options of serve. Secrets are saved as references: \
             env:NAME or file:PATH.",
        )
        .arg(super::name())
        .arg(
            Arg::new("target")
                .value_name("URL")
                .required(true)
                .help("A URL, env:NAME or file:PATH that hold one, or a protocol to serve"),
        )
        .arg(super::flag("force", "Replace a profile of this name"))
        .arg(
            Arg::new("guard")
                .long("guard")
                .value_name("GUARD")
                .value_parser([Guard::ReadOnly.name()])
                .help("read-only: refuse to publish and request with this profile"),
        )
}

pub fn run(argv: &[OsString], words: &[OsString], dirs: &[PathBuf]) -> Result<(), Failure> {
    let mut catalog = Catalog::open(dirs);
    let action = |_: &[&str], target: &str| match url::scheme_of(target).is_some() || is_reference(target) {
        true => Action::Profile,
        false => Action::ServeProfile,
    };
    let parsed = prepare::parse(&mut catalog, argv, &["profile", "add"], words, action)?;
    let (matches, target) = (&parsed.matches, &parsed.target);
    let name = named(matches)?;
    let text = matches.get_one::<String>("target").cloned().unwrap_or_default();
    let descriptor = parsed.entry.descriptor().ok_or_else(|| Failure::plugin("the plugin is not usable"))?;
    if target.profile.is_some() {
        return Err(Failure::usage(format!("{text} is a profile; a URL or a protocol's name is needed")));
    }
    if name == descriptor.id {
        return Err(Failure::usage(format!("{name} is the name of a protocol: call the profile otherwise")));
    }
    target.check(descriptor, parsed.action)?;
    let flags = help::given(matches, &parsed.offer);
    if target.in_clear {
        let with =
            match parsed.offer.connection.get("password").is_some() && !url::is_connection_string(&text) {
                true => {
                    format!("tracemq profile add {name} {} --password env:NAME", url::without_password(&text))
                }
                false => format!("tracemq profile add {name} env:NAME"),
            };
        return Err(Failure::usage(format!("{}: a profile holds no secret in clear", target.shown)).hint(
            format!("put it into an environment variable or a file and write `{with}` (or file:PATH)"),
        ));
    }
    let table = |schema: &Schema| {
        let mut table = Table::new();
        for spec in &schema.specs {
            if let Some(texts) = flags.get(&spec.name) {
                let value = saved(spec, texts).map_err(|why| {
                    let failure = Failure::usage(format!("--{}: {why}", spec.flag()));
                    match texts.iter().any(|text| spec.is_literal_secret(text)) {
                        true => failure.hint(format!(
                            "put it into an environment variable or a file and write `tracemq profile add {name} {} --{} \
                             env:NAME` (or file:PATH)",
                            shown_url(&text),
                            spec.flag()
                        )),
                        false => failure,
                    }
                })?;
                table.insert(spec.name.clone(), value);
            }
        }
        Ok::<Table, Failure>(table)
    };
    let profile = Profile {
        name: name.clone(),
        protocol: Some(descriptor.id.clone()),
        url: target.url.is_some().then_some(text.clone()),
        guard: matches.get_one::<String>("guard").map(|_| Guard::ReadOnly),
        connection: table(&parsed.offer.connection)?,
        publish: table(&parsed.offer.publish)?,
        subscribe: table(&parsed.offer.subscribe)?,
        serve: table(&parsed.offer.serve)?,
    };
    profile.write(&profiles::path_for(&name)?, matches.get_flag("force"))?;
    if !prepare::global(matches).quiet {
        events::line(&format!("profile {name} saved"));
    }
    Ok(())
}

/// A flag as it is written into a profile: checked, a secret as its reference, a file by its whole path.
fn saved(spec: &Spec, texts: &[String]) -> Result<Value, String> {
    if texts.iter().any(|text| spec.is_literal_secret(text)) {
        return Err("a profile holds no secret in clear".into());
    }
    let absolute = |text: &str| match std::path::absolute(text) {
        Ok(path) => path.to_string_lossy().into_owned(),
        Err(_) => text.to_owned(),
    };
    if spec.secret && !spec.repeats() {
        let [text] = texts else { return Err("may be given once only".into()) };
        return Ok(Value::String(match Reference::parse(text) {
            Some(Reference::File(path)) => format!("file:{}", absolute(&path.to_string_lossy())),
            _ => text.clone(),
        }));
    }
    let value = spec.read(texts)?;
    match (value, spec.file) {
        (Value::String(path), Some(FileUse::Read | FileUse::Write)) => {
            spec.check_file(&path)?;
            Ok(Value::String(absolute(&path)))
        }
        (value, _) => Ok(value),
    }
}
