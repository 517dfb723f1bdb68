//! From the words of a command line to a [`Job`]: everything that can be refused is refused here, before anything is opened.

use super::args::{self, Action, Flags};
use super::guard;
use super::help::{self, Offer};
use super::job::{Global, Job};
use super::target::{self, Target};
use super::usage;
use crate::failure::Failure;
use crate::options::{Given, Schema, merge};
use crate::plugins::{Catalog, Entry, Plugin};
use crate::profiles::{Profile, Table};
use crate::redact;
use crate::session::{self, Call, Context};
use crate::{folders, logging};
use clap::{ArgMatches, Command};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ffi::OsString;
use tracemq_plugin_api::sdk::{Verb, Wanted};

/// A command line in which the plugin's flags are known.
pub struct Parsed<'a> {
    pub entry: &'a Entry,
    pub target: Target,
    pub action: Action,
    pub offer: Offer,
    /// Of the innermost subcommand.
    pub matches: ArgMatches,
}

/// Finds target and plugin, and parses the command line with the plugin's flags. `path` is the names of the subcommands,
/// `words` what follows them; `action` tells what is to be done from the positionals before the target, and from it.
pub fn parse<'a>(
    catalog: &'a mut Catalog,
    argv: &[OsString],
    path: &[&str],
    words: &[OsString],
    action: impl Fn(&[&str], &str) -> Action,
) -> Result<Parsed<'a>, Failure> {
    let root = args::root();
    let command = path.iter().try_fold(&root, |command, name| command.find_subcommand(name)).unwrap_or(&root);
    let at = command.get_positionals().position(|arg| arg.get_id() == "target").unwrap_or(0);
    let found = target::find(words, &Flags::of(command), at, action, catalog);
    let line = path.join(" ");
    let Some((text, action)) = found else {
        let names = command.get_positionals().take(at + 1).filter_map(|arg| arg.get_value_names()?.first());
        let names: Vec<&str> = names.map(|name| name.as_str()).collect();
        let hint = format!(
            "The options of TARGET's protocol are shown by `tracemq {line} {} --help`.",
            names.join(" ")
        );
        let root = change(root, path, |command| command.after_help(hint));
        // Without a target nothing but help can come of it.
        let outcome = usage::parse(root, argv, &line, None);
        return Err(outcome.err().unwrap_or_else(|| Failure::usage("TARGET is missing")));
    };
    let target = Target::read(&text, action, catalog)?;
    let warnings = catalog.warnings().to_vec();
    let entry = target.entry(catalog)?;
    let descriptor = entry.descriptor().ok_or_else(|| Failure::plugin("the plugin is not usable"))?;
    let offer = Offer::new(action, descriptor)
        .map_err(|why| Failure::plugin(format!("{}: {why}", entry.path().display())))?;
    let root = change(root, path, |command| help::add(command, &offer, &descriptor.name));
    let matches = usage::parse(root, argv, &line, Some(&descriptor.name))?;
    let matches = path
        .iter()
        .fold(&matches, |matches, name| matches.subcommand_matches(name).unwrap_or(matches))
        .clone();
    let taken = matches.get_one::<String>("target").map(String::as_str).unwrap_or_default();
    if taken != text {
        let failure = Failure::usage(format!("{taken:?} stands where TARGET is expected"));
        return Err(match taken {
            "true" | "false" => failure.hint(format!("a switch takes its value as in --flag={taken}")),
            _ => failure.hint("write what belongs to a flag as in --flag=VALUE"),
        });
    }
    logging::start(&global(&matches));
    for warning in &warnings {
        log::warn!("{warning}");
    }
    Ok(Parsed { entry, target, action, offer, matches })
}

/// Changes the subcommand at a path.
fn change(command: Command, path: &[&str], how: impl FnOnce(Command) -> Command) -> Command {
    match path {
        [] => how(command),
        [name, rest @ ..] => command.mut_subcommand(*name, |inner| change(inner, rest, how)),
    }
}

pub fn global(matches: &ArgMatches) -> Global {
    Global { verbose: matches.get_count("verbose"), quiet: matches.get_flag("quiet") }
}

/// Makes the job of a verb.
pub fn job(catalog: &mut Catalog, argv: &[OsString], name: &str, words: &[OsString]) -> Result<Job, Failure> {
    let action = |before: &[&str], _: &str| match (name, before) {
        ("pub", _) => Action::Publish,
        ("sub", _) => Action::Subscribe,
        ("request", _) => Action::Request,
        ("serve", _) => Action::Serve,
        ("bench", ["sub", ..]) => Action::BenchSubscribe,
        ("bench", ["echo", ..]) => Action::BenchEcho,
        ("bench", _) => Action::BenchPublish,
        _ => Action::List,
    };
    let parsed = parse(catalog, argv, &[name], words, action)?;
    let Parsed { entry, mut target, action, offer, matches } = parsed;
    let guarded = guard::begin(&target, action)?;
    let descriptor = entry.descriptor().ok_or_else(|| Failure::plugin("the plugin is not usable"))?;
    target.check(descriptor, action)?;
    let verb = verb_of(action);
    for needed in [verb].into_iter().chain((action == Action::BenchEcho).then_some(Verb::Subscribe)) {
        if !descriptor.verbs.contains(&needed) {
            let verbs: Vec<&str> = descriptor.verbs.iter().map(|verb| verb.name()).collect();
            let able = format!("{} knows no {}, it has {}", descriptor.name, needed.name(), verbs.join(", "));
            return Err(Failure::usage(format!("{name} {}: {able}", target.shown)));
        }
    }

    let mut warnings = Vec::new();
    if target.in_clear {
        warnings.push(IN_CLEAR.to_owned());
    }
    let (connection, options, subscribe) = values(&target, action, &offer, &matches, &mut warnings)?;
    guard::check(&target, &offer.connection, &connection)?;
    for warning in &warnings {
        log::warn!("{warning}");
    }
    let topics: Vec<String> = match matches.try_get_many::<String>("topic") {
        Ok(Some(topics)) => topics.cloned().collect(),
        _ => Vec::new(),
    };
    let wanted = match verb {
        Verb::Publish | Verb::Request => {
            target::publish_topic(descriptor, target.url.as_ref().map(|(url, _)| url.as_str()))
        }
        Verb::Subscribe => descriptor.topics.subscribe,
        Verb::Serve | Verb::List => Wanted::Optional,
    };
    if wanted == Wanted::Required && topics.is_empty() && !name.eq("bench") {
        return Err(Failure::usage(format!("{name} {}: TOPIC is missing", target.shown)).hint(format!(
            "{} needs one to {}",
            descriptor.name,
            verb.name()
        )));
    }
    let plugin = entry.load()?;
    let url = target.url.as_ref().map(|(url, _)| url.clone());
    let call = Call {
        verb,
        url: url.as_deref(),
        connection: (!action.serves()).then_some(&connection),
        options: &options,
        topics: if wanted == Wanted::Required || verb == Verb::Subscribe { &topics } else { &[] },
    };
    session::check(&plugin, &call)
        .map_err(|error| Failure::from_plugin(&error, name, &target.shown, false))?;
    if action == Action::BenchEcho {
        let call = Call { verb: Verb::Subscribe, options: &subscribe, ..call };
        session::check(&plugin, &call)
            .map_err(|error| Failure::from_plugin(&error, name, &target.shown, false))?;
    }
    let context = Context {
        url,
        target: redact::text(&target.shown).into_owned(),
        reconnect: !matches.get_flag("no-reconnect"),
        state_dir: state_dir(&descriptor.id),
        host: HOST.to_owned(),
        guarded,
        probing: false,
    };
    Ok(Job {
        global: global(&matches),
        plugin,
        target: redact::text(&target.shown).into_owned(),
        connection,
        options,
        subscribe,
        topics,
        context,
        matches,
    })
}

type Options = Map<String, Value>;

/// How the host calls itself.
const HOST: &str = concat!("tracemq/", env!("CARGO_PKG_VERSION"));

/// A connection that is made for its own sake: to find out whether it can be.
pub struct Contact {
    pub plugin: Plugin,
    /// As it may be shown.
    pub target: String,
    pub connection: Options,
    pub context: Context,
}

/// Makes ready to connect to a target, with what its profile, its URL and the environment say.
pub fn contact(catalog: &mut Catalog, text: &str) -> Result<Contact, Failure> {
    let action = Action::List;
    let mut target = Target::read(text, action, catalog)?;
    let guarded = guard::begin(&target, action)?;
    let entry = target.entry(catalog)?;
    let descriptor = entry.descriptor().ok_or_else(|| Failure::plugin("the plugin is not usable"))?;
    target.check(descriptor, action)?;
    let offer = Offer::new(action, descriptor)
        .map_err(|why| Failure::plugin(format!("{}: {why}", entry.path().display())))?;
    let mut warnings: Vec<String> = target.in_clear.then(|| IN_CLEAR.to_owned()).into_iter().collect();
    let empty = Table::new();
    let table = target.profile.as_ref().map_or(&empty, |profile| &profile.connection);
    let connection = merged(&target, &offer.connection, table, &BTreeMap::new(), &mut warnings)?;
    guard::check(&target, &offer.connection, &connection)?;
    for warning in &warnings {
        log::warn!("{warning}");
    }
    let context = Context {
        url: target.url.as_ref().map(|(url, _)| url.clone()),
        target: redact::text(&target.shown).into_owned(),
        reconnect: false,
        // What a real connection keeps between two commands is none of this one's business.
        state_dir: None,
        host: HOST.to_owned(),
        guarded,
        probing: true,
    };
    Ok(Contact { plugin: entry.load()?, target: target.shown, connection, context })
}

/// What the user is told of a password that was typed.
const IN_CLEAR: &str = "the password in TARGET stands in clear on the command line, where ps shows it to everybody; vault:NAME, \
     env:NAME or file:PATH in TARGET's place would not";

/// Connection options, those of the verb, and those of the subscription of `bench echo`.
fn values(
    target: &Target,
    action: Action,
    offer: &Offer,
    matches: &ArgMatches,
    warnings: &mut Vec<String>,
) -> Result<(Options, Options, Options), Failure> {
    let mut flags = help::given(matches, offer);
    if action == Action::Serve
        && target.profile.is_none()
        && offer.serve.get("bind").is_some()
        && let Some((_, address)) = &target.url
        && let Some(host) = address.hosts.first()
    {
        // tracemq serve SCHEME://ADDR:PORT
        flags.entry("bind".to_owned()).or_insert_with(|| vec![host.to_string()]);
    }
    let empty = Profile::default();
    let profile = target.profile.as_ref().unwrap_or(&empty);
    let mut of = |schema: &Schema, table: &Table| merged(target, schema, table, &flags, warnings);
    // A server has no connection, whatever else the profile is for.
    let connection = if action.serves() { Map::new() } else { of(&offer.connection, &profile.connection)? };
    let (options, subscribe) = match action {
        Action::Publish | Action::BenchPublish => (of(&offer.publish, &profile.publish)?, Map::new()),
        Action::BenchEcho => {
            (of(&offer.publish, &profile.publish)?, of(&offer.subscribe, &profile.subscribe)?)
        }
        Action::Request => (of(&offer.request, &profile.publish)?, Map::new()),
        Action::Subscribe | Action::BenchSubscribe => (of(&offer.subscribe, &profile.subscribe)?, Map::new()),
        Action::Serve | Action::ServeProfile => (of(&offer.serve, &profile.serve)?, Map::new()),
        Action::List | Action::Profile => (Map::new(), Map::new()),
    };
    Ok((connection, options, subscribe))
}

/// The values for one schema. `table` is the profile's.
fn merged(
    target: &Target,
    schema: &Schema,
    table: &Table,
    flags: &BTreeMap<String, Vec<String>>,
    warnings: &mut Vec<String>,
) -> Result<Options, Failure> {
    let flags = flags.iter().filter(|(name, _)| schema.get(name).is_some());
    let credentials = target.url.as_ref().map(|(_, address)| address.credentials.clone());
    let given = Given {
        flags: flags.map(|(name, texts)| (name.clone(), texts.clone())).collect(),
        credentials: credentials.unwrap_or_default(),
        profile: target.profile.as_ref().map(|profile| (profile.name.as_str(), table)),
    };
    merge(schema, &given, warnings).map_err(Failure::usage)
}

fn verb_of(action: Action) -> Verb {
    match action {
        Action::Publish | Action::BenchPublish | Action::BenchEcho | Action::Profile => Verb::Publish,
        Action::Subscribe | Action::BenchSubscribe => Verb::Subscribe,
        Action::Request => Verb::Request,
        Action::Serve | Action::ServeProfile => Verb::Serve,
        Action::List => Verb::List,
    }
}

/// The plugin's folder for what must outlive the process. Without one, nothing is kept.
fn state_dir(plugin: &str) -> Option<std::path::PathBuf> {
    let folder = folders::state()?.join(plugin);
    match folders::create(&folder) {
        Ok(()) => Some(folder),
        Err(error) => {
            log::info!("{}: {error}; nothing is kept from one command to the next", folder.display());
            None
        }
    }
}
