//! `tracemq profile add`: from flags and a URL, and from questions where these are missing and there is somebody to ask.

use super::{called_like_a_protocol, named, questions, shown_url};
use crate::cli::args::{Action, Flags};
use crate::cli::help::{self, Offer};
use crate::cli::target::{self, Target};
use crate::cli::{ask, prepare, url};
use crate::failure::Failure;
use crate::options::{FileUse, Reference, Schema, Spec, is_reference};
use crate::plugins::{Catalog, Entry};
use crate::profiles::{self, Guard, Profile, Table};
use crate::share::{self, Login};
use crate::vault;
use clap::{Arg, Command};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use tracemq_plugin_api::sdk::Descriptor;

pub fn command() -> Command {
    Command::new("add")
        .about("Save a connection under a name")
        .long_about(
            "Save a connection under a name, with options of the connection, of pub and of sub; or, with a protocol's name \
             in the place of the URL, options of serve. Secrets are saved as references: env:NAME, file:PATH or vault:NAME. \
             On a terminal, NAME and URL may be left out: they are asked for then, and so are the options that most people \
             need.",
        )
        .arg(super::name())
        .arg(
            Arg::new("target")
                .value_name("URL")
                .required(true)
                .help("A URL, a reference to one, such as vault:NAME, or a protocol to serve"),
        )
        .arg(super::flag("force", "Replace a profile of this name"))
        .arg(
            Arg::new("guard")
                .long("guard")
                .value_name("GUARD")
                .value_parser(super::guards(false))
                .help("read-only: refuse to publish and request with it, and to do without checking the server"),
        )
        // Not `group` and `color`, as `set` calls them: these are names that plugins use for options of theirs.
        .arg(
            Arg::new("profile-group")
                .long("profile-group")
                .value_name("GROUP")
                .help("List the profile under this name"),
        )
        .arg(
            Arg::new("profile-color")
                .long("profile-color")
                .value_name("COLOR")
                .value_parser(super::colors(false))
                .hide_possible_values(true)
                .help("Show its name in this colour of the terminal: red, green, bright-blue …"),
        )
}

fn action(_: &[&str], target: &str) -> Action {
    match url::scheme_of(target).is_some() || is_reference(target) {
        true => Action::Profile,
        false => Action::ServeProfile,
    }
}

/// The command line with what was asked for, where NAME or URL is missing and there is somebody to ask. `words` is its end.
fn completed(
    argv: &[OsString],
    words: &[OsString],
    catalog: &Catalog,
) -> Result<Option<Vec<OsString>>, Failure> {
    let command = command();
    let flags = Flags::of(&command);
    let wants_help =
        words.iter().take_while(|word| *word != "--").any(|word| word == "--help" || word == "-h");
    if wants_help || target::find(words, &flags, 1, action, catalog).is_some() || !ask::can_ask() {
        return Ok(None);
    }
    let before = argv.len() - words.len();
    let mut argv = argv.to_vec();
    let named = target::find(words, &flags, 0, action, catalog).map(|(name, _)| name);
    let mut place = before;
    match named {
        Some(name) => place += 1 + words.iter().position(|word| *word == *name).unwrap_or(0),
        None => {
            let replace = words.iter().any(|word| word == "--force");
            argv.insert(place, questions::name(catalog, replace)?.into());
            place += 1;
        }
    }
    argv.insert(place, questions::url(catalog)?.into());
    Ok(Some(argv))
}

pub fn run(argv: &[OsString], words: &[OsString], dirs: &[PathBuf]) -> Result<(), Failure> {
    let mut catalog = Catalog::open(dirs);
    let completed = completed(argv, words, &catalog)?;
    let asks = completed.is_some();
    let before = argv.len() - words.len();
    let argv = completed.as_deref().unwrap_or(argv);
    let descriptors = catalog.entries().iter().filter_map(Entry::descriptor);
    let protocols: Vec<String> = descriptors.map(|descriptor| descriptor.id.clone()).collect();
    let mut parsed = prepare::parse(&mut catalog, argv, &["profile", "add"], &argv[before..], action)?;
    let descriptor = parsed.entry.descriptor().ok_or_else(|| Failure::plugin("the plugin is not usable"))?;
    let checked = parsed.target.check(descriptor, parsed.action);
    let (matches, target) = (&parsed.matches, &parsed.target);
    let name = named(matches)?;
    let text = matches.get_one::<String>("target").cloned().unwrap_or_default();
    if target.profile.is_some() {
        return Err(Failure::usage(format!("{text} is a profile; a URL or a protocol's name is needed")));
    }
    if name == descriptor.id || protocols.contains(&name) {
        return Err(called_like_a_protocol(&name));
    }
    checked?;
    if target.in_clear {
        return Err(url_in_clear(&name, target, descriptor, &text)?);
    }
    let force = matches.get_flag("force");
    if !force && profiles::text_of(&name)?.is_some() {
        return Err(profiles::already(&name));
    }
    let group = super::group_in(matches, "profile-group")?.filter(|group| !group.is_empty());
    let color = matches.get_one::<String>("profile-color").and_then(|name| name.parse().ok());
    let Offer { connection, publish, subscribe, serve, .. } = &parsed.offer;
    let mut flags = help::given(matches, &parsed.offer);
    let mut kept = Vec::new();
    if ask::can_ask() {
        kept.extend(questions::options(&name, connection, &mut flags, asks)?);
        kept.extend(questions::options(&name, serve, &mut flags, false)?);
    }
    let table = |schema| table(&name, &text, schema, &flags);
    let profile = Profile {
        name: name.clone(),
        protocol: Some(descriptor.id.clone()),
        url: target.url.is_some().then_some(text.clone()),
        guard: matches.get_one::<String>("guard").map(|_| Guard::ReadOnly),
        group,
        color,
        connection: table(connection)?,
        publish: table(publish)?,
        subscribe: table(subscribe)?,
        serve: table(serve)?,
    };
    if !kept.is_empty() {
        vault::set(&kept)?;
    }
    profile.write(force)?;
    super::done(matches, &format!("profile {name} saved"));
    Ok(())
}

/// A secret stands in the URL: with which command it would not.
fn url_in_clear(
    name: &str,
    target: &Target,
    descriptor: &Descriptor,
    text: &str,
) -> Result<Failure, Failure> {
    let (secret, then) = match share::take_apart(text, descriptor, &share::Schemas::of(descriptor)?) {
        (Some(url), Some(Login::Option { property, username, .. })) => {
            let user = username.map_or_else(String::new, |user| format!(" --username {user}"));
            let secret = format!("{name}-{property}");
            let then = format!("tracemq profile add {name} {url}{user} --{property} vault:{secret}");
            (secret, then)
        }
        _ => (format!("{name}-url"), format!("tracemq profile add {name} vault:{name}-url")),
    };
    let failure = Failure::usage(format!("{}: a profile holds no secret in clear", target.shown));
    Ok(in_vault(failure, &secret, &then))
}

/// With the commands that keep a secret in the vault, and refer to it there.
fn in_vault(failure: Failure, secret: &str, then: &str) -> Failure {
    failure.hint(format!(
        "`tracemq secret set {secret}` keeps it in the vault; then write `{then}` (env:NAME and file:PATH do as well)"
    ))
}

/// What was given for the options of a schema, as the profile holds it. `url` is for the hint.
fn table(
    name: &str,
    url: &str,
    schema: &Schema,
    flags: &BTreeMap<String, Vec<String>>,
) -> Result<Table, Failure> {
    let mut table = Table::new();
    for spec in &schema.specs {
        let Some(texts) = flags.get(&spec.name) else { continue };
        let value = saved(spec, texts).map_err(|why| {
            let failure = Failure::usage(format!("--{}: {why}", spec.flag()));
            if !texts.iter().any(|text| spec.is_literal_secret(text)) {
                return failure;
            }
            let (secret, flag, url) = (spec.vault_name(name), spec.flag(), shown_url(url));
            in_vault(failure, &secret, &format!("tracemq profile add {name} {url} --{flag} vault:{secret}"))
        })?;
        table.insert(spec.name.clone(), value);
    }
    Ok(table)
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
